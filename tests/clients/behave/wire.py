"""Kafka's wire protocol, just enough of it to ask what no client library asks. Standard library only.

A message is described in one line: `Name:type@from-to`, arrays as `Name[...]@from-to`, of a bare type as `Name[i32]`.
"""

import re
import socket
import struct

# key: (first flexible version, request, response)
APIS = {
    0: (9, "Txn:ns Acks:i16 Timeout:i32 Topics[Name:s@-12 Id:uuid@13- Parts[Index:i32 Records:nb]]",
        "Topics[Name:s@-12 Id:uuid@13- Parts[Index:i32 Error:i16 Base:i64 AppendTime:i64 LogStart:i64@5- "
        "RecordErrors[Batch:i32 Message:ns]@8- Message:ns@8-]] Throttle:i32"),
    1: (12, "Replica:i32@-14 MaxWait:i32 MinBytes:i32 MaxBytes:i32 Isolation:i8 Session:i32@7- Epoch:i32@7- "
        "Topics[Name:s@-12 Id:uuid@13- Parts[Index:i32 LeaderEpoch:i32@9- Offset:i64 LastEpoch:i32@12- LogStart:i64@5- "
        "MaxBytes:i32]] Forgotten[Name:s@-12 Id:uuid@13- Parts[i32]]@7- Rack:s@11-",
        "Throttle:i32 Error:i16@7- Session:i32@7- Topics[Name:s@-12 Id:uuid@13- Parts[Index:i32 Error:i16 HighWatermark:i64 "
        "Stable:i64 LogStart:i64@5- Aborted[Producer:i64 First:i64] Preferred:i32@11- Records:nb]]"),
    2: (6, "Replica:i32 Isolation:i8@2- Topics[Name:s Parts[Index:i32 LeaderEpoch:i32@4- Timestamp:i64]] Timeout:i32@10-",
        "Throttle:i32@2- Topics[Name:s Parts[Index:i32 Error:i16 Timestamp:i64 Offset:i64 LeaderEpoch:i32@4-]]"),
    3: (9, "Topics[Id:uuid@10- Name:s@-9 Name:ns@10-] Auto:bool@4- ClusterOps:bool@8-10 TopicOps:bool@8-",
        "Throttle:i32@3- Brokers[Id:i32 Host:s Port:i32 Rack:ns@1-] Cluster:ns@2- Controller:i32@1- Topics[Error:i16 "
        "Name:s@-11 Name:ns@12- Id:uuid@10- Internal:bool@1- Parts[Error:i16 Index:i32 Leader:i32 LeaderEpoch:i32@7- "
        "Replicas[i32] Isr[i32] Offline[i32]@5-] Ops:i32@8-] ClusterOps:i32@8-10 Error:i16@13-"),
    10: (3, "Key:s Type:i8@1-", "Throttle:i32@1- Error:i16 Message:ns@1- Node:i32 Host:s Port:i32"),
    18: (3, "Software:s@3- Version:s@3-", "Error:i16 Keys[Key:i16 Min:i16 Max:i16] Throttle:i32@1-"),
    19: (5, "Topics[Name:s Count:i32 Factor:i16 Assigned[Index:i32 Brokers[i32]] Configs[Name:s Value:ns]] Timeout:i32 Check:bool",
         "Throttle:i32 Topics[Name:s Id:uuid@7- Error:i16 Message:ns Count:i32@5- Factor:i16@5- Configs[Name:s Value:ns "
         "ReadOnly:bool Source:i8 Sensitive:bool]@5-]"),
    20: (4, "Names[s]@-5 Topics[Name:ns Id:uuid]@6- Timeout:i32",
         "Throttle:i32 Topics[Name:s@-5 Name:ns@6- Id:uuid@6- Error:i16 Message:ns@5-]"),
    21: (2, "Topics[Name:s Parts[Index:i32 Offset:i64]] Timeout:i32",
         "Throttle:i32 Topics[Name:s Parts[Index:i32 LowWatermark:i64 Error:i16]]"),
    22: (2, "Txn:ns Timeout:i32 Producer:i64@3- Epoch:i16@3-", "Throttle:i32 Error:i16 Producer:i64 Epoch:i16"),
    23: (4, "Replica:i32@3- Topics[Name:s Parts[Index:i32 Current:i32 Epoch:i32]]",
         "Throttle:i32 Topics[Name:s Parts[Error:i16 Index:i32 Epoch:i32 End:i64]]"),
    24: (3, "Txn:s Producer:i64 Epoch:i16 Topics[Name:s Parts[i32]]", "Throttle:i32 Topics[Name:s Parts[Index:i32 Error:i16]]"),
    26: (3, "Txn:s Producer:i64 Epoch:i16 Commit:bool", "Throttle:i32 Error:i16"),
    32: (4, "Resources[Type:i8 Name:s Keys[s]] Synonyms:bool Docs:bool@3-",
         "Throttle:i32 Results[Error:i16 Message:ns Type:i8 Name:s Configs[Name:s Value:ns ReadOnly:bool Source:i8 Sensitive:bool "
         "Synonyms[Name:s Value:ns Source:i8] ConfigType:i8@3- Docs:ns@3-]]"),
    35: (2, "Topics[Name:s Parts[i32]]",
         "Throttle:i32 Error:i16@3- Results[Error:i16 Dir:s Topics[Name:s Parts[Index:i32 Size:i64 Lag:i64 Future:bool]] "
         "Total:i64@4- Usable:i64@4- Cordoned:bool@5-]"),
    37: (2, "Topics[Name:s Count:i32 Assigned[Brokers[i32]]] Timeout:i32 Check:bool",
         "Throttle:i32 Results[Name:s Error:i16 Message:ns]"),
    44: (1, "Resources[Type:i8 Name:s Configs[Name:s Op:i8 Value:ns]] Check:bool",
         "Throttle:i32 Responses[Error:i16 Message:ns Type:i8 Name:s]"),
    60: (0, "Ops:bool Endpoint:i8@1- Fenced:bool@2-",
         "Throttle:i32 Error:i16 Message:ns Endpoint:i8@1- Cluster:s Controller:i32 Brokers[Id:i32 Host:s Port:i32 Rack:ns "
         "Fenced:bool@2-] Ops:i32"),
}
INTEGERS = {"i8": ">b", "i16": ">h", "i32": ">i", "i64": ">q", "bool": ">?"}
NO_ID = bytes(16)


def parse(text):
    """[(name, type or list of fields, from, to)]; a list of one bare type is a string with a star."""
    fields, _ = parse_fields(re.findall(r"[A-Za-z]+:[a-z0-9]+|[A-Za-z]+\[|\]|@[0-9]*-[0-9]*|[a-z0-9]+", text), 0)
    return fields


def parse_fields(tokens, at):
    fields = []
    while at < len(tokens) and tokens[at] != "]":
        token = tokens[at]
        if token.endswith("["):
            name = token[:-1]
            if tokens[at + 1] in INTEGERS or tokens[at + 1] == "s":
                kind, at = tokens[at + 1] + "*", at + 2
            else:
                kind, at = parse_fields(tokens, at + 1)
        else:
            name, kind = token.split(":")
        at += 1
        low, high = 0, 99
        if at < len(tokens) and tokens[at].startswith("@"):
            low, high = (int(x) if x else d for x, d in zip(tokens[at][1:].split("-"), (0, 99)))
            at += 1
        fields.append((name, kind, low, high))
    return fields, at


class Writer:
    def __init__(self, version, flexible):
        self.out, self.version, self.flexible = bytearray(), version, flexible

    def length(self, n):  # None: null
        n = -1 if n is None else n
        if self.flexible:
            self.out += uvarint(n + 1)
        else:
            self.out += struct.pack(">i", n)

    def write(self, kind, value):
        if isinstance(kind, list):
            self.length(None if value is None else len(value))
            for item in value or ():
                self.fields(kind, item)
        elif kind in INTEGERS:
            self.out += struct.pack(INTEGERS[kind], value)
        elif kind == "uuid":
            self.out += value
        elif kind in ("s", "ns"):
            data = None if value is None else value.encode()
            if self.flexible:
                self.length(None if data is None else len(data))
            else:
                self.out += struct.pack(">h", -1 if data is None else len(data))
            self.out += data or b""
        elif kind == "nb":
            self.length(None if value is None else len(value))
            self.out += value or b""
        else:  # an array of a bare type
            self.length(None if value is None else len(value))
            for item in value or ():
                self.write(kind[:-1], item)

    def fields(self, fields, values):
        values = iter(values)
        for _, kind, low, high in fields:
            if low <= self.version <= high:
                self.write(kind, next(values))
        if self.flexible:
            self.out += b"\0"


class Reader:
    def __init__(self, data, version, flexible):
        self.data, self.at, self.version, self.flexible = data, 0, version, flexible

    def take(self, n):
        if n < 0 or self.at + n > len(self.data):
            raise ValueError(f"answer ends at {len(self.data)}, {n} bytes wanted at {self.at}")
        self.at += n
        return self.data[self.at - n : self.at]

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def length(self, short=False):
        if self.flexible:
            return self.uvarint() - 1
        return struct.unpack(">h", self.take(2))[0] if short else struct.unpack(">i", self.take(4))[0]

    def read(self, kind):
        if isinstance(kind, list):
            n = self.length()
            return None if n < 0 else [self.fields(kind) for _ in range(n)]
        if kind in INTEGERS:
            return struct.unpack(INTEGERS[kind], self.take(struct.calcsize(INTEGERS[kind])))[0]
        if kind == "uuid":
            return self.take(16)
        if kind in ("s", "ns"):
            n = self.length(short=True)
            return None if n < 0 else self.take(n).decode()
        n = self.length()
        if n < 0:
            return None
        if kind == "nb":
            return self.take(n)
        return [self.read(kind[:-1]) for _ in range(n)]

    def fields(self, fields):
        values = {name: self.read(kind) for name, kind, low, high in fields if low <= self.version <= high}
        if self.flexible:
            for _ in range(self.uvarint()):
                self.uvarint()
                self.take(self.uvarint())
        return values


def uvarint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def varint(n):
    return uvarint((n << 1) ^ (n >> 63) if n >= 0 else ((-n) << 1) - 1)


class Closed(Exception):
    """The broker closed the connection."""


class Connection:
    def __init__(self, address, timeout=20):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None

    def exactly(self, n):
        data = b""
        while len(data) < n:
            try:
                more = self.socket.recv(n - len(data))
            except ConnectionResetError:
                raise Closed from None
            if not more:
                raise Closed
            data += more
        return data

    def frame(self):
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def request(self, key, version, *values):
        """Sends one request; does not wait."""
        flexible_from, request, _ = APIS[key]
        flexible = version >= flexible_from
        writer = Writer(version, flexible)
        writer.fields(parse(request), values)
        self.correlation += 1
        self.send(framed(header(key, version, self.correlation, flexible) + bytes(writer.out)))
        return self.correlation

    def answer(self, key, version):
        """The next answer on the connection, decoded: (correlation, fields)."""
        flexible_from, _, response = APIS[key]
        reader = Reader(self.frame(), version, version >= flexible_from)
        correlation = reader.read("i32")
        if version >= flexible_from and key != 18 and reader.uvarint() != 0:
            raise ValueError("tags in a response header")
        fields = reader.fields(parse(response))
        if reader.at != len(reader.data):
            raise ValueError(f"{len(reader.data) - reader.at} bytes behind the answer of {key} version {version}")
        return correlation, fields

    def ask(self, key, version, *values):
        sent = self.request(key, version, *values)
        correlation, fields = self.answer(key, version)
        if correlation != sent:
            raise ValueError(f"answer to {correlation}, expected {sent}")
        return fields


def header(key, version, correlation, flexible):
    return struct.pack(">hhih", key, version, correlation, 6) + b"behave" + (b"\0" if flexible else b"")


def framed(data):
    return struct.pack(">i", len(data)) + data


def make_crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


CRC_TABLE = make_crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def record(delta, value, time_delta=0, key=None, headers=()):
    body = b"\0" + varint(time_delta) + varint(delta)
    body += varint(-1) if key is None else varint(len(key)) + key
    body += varint(-1) if value is None else varint(len(value)) + value
    body += varint(len(headers))
    for name, data in headers:
        body += varint(len(name)) + name + varint(len(data)) + data
    return varint(len(body)) + body


def batch(values, time=1_700_000_000_000, attributes=0, producer=-1, epoch=-1, sequence=-1, base=0, count=None, magic=2,
          damage=False, last_delta=None, records=None):
    """A record batch of magic 2; the named arguments make it wrong in one way each."""
    if records is None:
        records = b"".join(record(i, v, i) for i, v in enumerate(values))
    last = len(values) - 1 if last_delta is None else last_delta
    tail = struct.pack(">hiqqqhii", attributes, last, time, time + max(last, 0), producer, epoch, sequence,
                       len(values) if count is None else count) + records
    crc = crc32c(tail) ^ (1 if damage else 0)
    return struct.pack(">qiibI", base, len(tail) + 9, -1, magic, crc) + tail

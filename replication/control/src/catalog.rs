//! The image as a checksummed file, `highwater.catalog`.
//!
//! All integers are big-endian. A crash cannot tear any field: the file is written whole under another name,
//! synced, and renamed; a file that does not match its checksum was damaged later.
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 8 | magic, `HWCATLOG` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | flags: 1 the metadata are borrowed from Apache Kafka, else 0 |
//! | 12 | 8 | length of the body |
//! | 20 | 4 | CRC-32 (IEEE) of bytes 0 to 19 and the body |
//! | 24 | | the body |
//!
//! The body: cluster id; version `u64`; next producer id `i64`; brokers; dynamic broker settings; topics; if they are
//! borrowed, where Kafka's metadata log ended, `u64`. A list
//! is a `u32` count and its items, a text a `u32` length and UTF-8, settings a list of two texts each.
//! A broker: id `i32`, epoch `i64`, state `u8` (0 fenced, 1 active, 2 shutting down), port `u16`, host, rack
//! (`u8` 0 or 1, then the text), list of directory ids. Settings of brokers: id `i32` (-1 all), settings.
//! A topic: name, id, settings, partitions. A partition: list of replicas (`i32`, directory id each), list of
//! the ISR, list of the ELR, last known leader `i32`, leader `i32`, leader epoch `i32`, partition epoch `i32`,
//! recovery `u8` (0 recovered, 1 recovering).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use highwater_base::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, ProducerId, Uuid};

use crate::{Broker, BrokerState, Configs, Image, LeaderRecovery, PartitionState, Topic};

/// The file's name, in each data directory.
pub const CATALOG_FILE: &str = "highwater.catalog";

const MAGIC: &[u8; 8] = b"HWCATLOG";
const VERSION: u16 = 1;
/// The flag of borrowed metadata.
const BORROWED: u16 = 1;

const VERSION_AT: usize = MAGIC.len();
const FLAGS_AT: usize = VERSION_AT + 2;
const LENGTH_AT: usize = FLAGS_AT + 2;
const CRC_AT: usize = LENGTH_AT + 8;
const BODY_AT: usize = CRC_AT + 4;

/// A file that is no catalog, or a damaged one.
///
/// ```
/// use highwater_control::{CatalogError, decode_catalog};
/// assert!(matches!(decode_catalog(b"HWCA"), Err(CatalogError::Short { .. })));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CatalogError {
    /// It ends too early (or goes on too long).
    Short {
        /// Its length.
        found: u64,
        /// The length it should have.
        expected: u64,
    },
    /// It does not begin with the magic.
    NotACatalog,
    /// Its version is not one that this program reads.
    Version {
        /// The version.
        found: u16,
    },
    /// Its checksum does not match: it was damaged after it was written.
    Checksum {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// The checksum matches, but a field makes no sense: it was written by something else.
    Malformed {
        /// Where.
        at: u64,
        /// What was expected there.
        expected: &'static str,
    },
    /// Every field makes sense, but not together.
    Impossible {
        /// The rule that is broken.
        broken: String,
    },
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CATALOG_FILE}: ")?;
        match self {
            CatalogError::Short { found, expected } => write!(f, "expected {expected} bytes, found {found}"),
            CatalogError::NotACatalog => f.write_str("expected a Highwater catalog, found another file"),
            CatalogError::Version { found } => {
                write!(f, "expected version {VERSION}, found {found}; it was written by a later Highwater")
            }
            CatalogError::Checksum { expected, found } => {
                write!(f, "expected checksum {expected:08x}, found {found:08x}; restore the file from a copy")
            }
            CatalogError::Malformed { at, expected } => write!(f, "expected {expected} at byte {at}"),
            CatalogError::Impossible { broken } => f.write_str(broken),
        }
    }
}

impl std::error::Error for CatalogError {}

/// The image as the bytes of a catalog.
///
/// ```
/// use highwater_control::{Image, decode_catalog, encode_catalog};
/// let image = Image::new("c");
/// assert_eq!(decode_catalog(&encode_catalog(&image)).unwrap(), image);
/// ```
pub fn encode_catalog(image: &Image) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(4096));
    out.0.extend_from_slice(MAGIC);
    out.0.extend_from_slice(&VERSION.to_be_bytes());
    out.0.resize(BODY_AT, 0);
    out.text(&image.cluster_id);
    out.u64(image.version);
    out.i64(image.next_producer_id.get());
    out.count(image.brokers.len());
    for broker in image.brokers.values() {
        out.broker(broker);
    }
    out.count(image.broker_configs.len());
    for (id, configs) in image.broker_configs.iter() {
        out.i32(id.get());
        out.configs(configs);
    }
    out.count(image.topics.len());
    for topic in image.topics.values() {
        out.topic(topic);
    }
    if let Some(end) = image.borrowed {
        out.u64(end);
        out.0[FLAGS_AT..LENGTH_AT].copy_from_slice(&BORROWED.to_be_bytes());
    }
    let mut bytes = out.0;
    let length = (bytes.len() - BODY_AT) as u64;
    bytes[LENGTH_AT..CRC_AT].copy_from_slice(&length.to_be_bytes());
    let crc = checksum(&bytes);
    bytes[CRC_AT..BODY_AT].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The image that a catalog's bytes hold. Allocates no more than a small multiple of `bytes`.
///
/// ```
/// use highwater_control::{CatalogError, Image, decode_catalog, encode_catalog};
/// let mut bytes = encode_catalog(&Image::new("c"));
/// *bytes.last_mut().unwrap() ^= 1;
/// assert!(matches!(decode_catalog(&bytes), Err(CatalogError::Checksum { .. })));
/// ```
pub fn decode_catalog(bytes: &[u8]) -> Result<Image, CatalogError> {
    let short = |expected: u64| CatalogError::Short { found: bytes.len() as u64, expected };
    if bytes.len() < BODY_AT {
        return Err(short(BODY_AT as u64));
    }
    if bytes[..VERSION_AT] != MAGIC[..] {
        return Err(CatalogError::NotACatalog);
    }
    let version = u16::from_be_bytes(array(&bytes[VERSION_AT..]));
    if version != VERSION {
        return Err(CatalogError::Version { found: version });
    }
    let length = u64::from_be_bytes(array(&bytes[LENGTH_AT..]));
    if length != (bytes.len() - BODY_AT) as u64 {
        return Err(short(length.saturating_add(BODY_AT as u64)));
    }
    let expected = u32::from_be_bytes(array(&bytes[CRC_AT..]));
    let found = checksum(bytes);
    if expected != found {
        return Err(CatalogError::Checksum { expected, found });
    }
    let mut from = Reader { bytes, at: BODY_AT };
    let mut image = Image::new(from.text()?);
    image.version = from.u64()?;
    image.next_producer_id = ProducerId::new(from.i64()?);
    let mut brokers = BTreeMap::new();
    for _ in 0..from.u32()? {
        let broker = from.broker()?;
        brokers.insert(broker.id, broker);
    }
    let mut broker_configs = BTreeMap::new();
    for _ in 0..from.u32()? {
        broker_configs.insert(BrokerId::new(from.i32()?), from.configs()?);
    }
    let (mut topics, mut names) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..from.u32()? {
        let topic = from.topic()?;
        names.insert(topic.id, Arc::clone(&topic.name));
        topics.insert(Arc::clone(&topic.name), Arc::new(topic));
    }
    let flags = u16::from_be_bytes(array(&bytes[FLAGS_AT..]));
    image.borrowed = match flags {
        0 => None,
        BORROWED => Some(from.u64()?),
        _ => return Err(CatalogError::Malformed { at: FLAGS_AT as u64, expected: "flags 0 or 1" }),
    };
    if from.at != bytes.len() {
        return Err(from.malformed("the end"));
    }
    image.brokers = Arc::new(brokers);
    image.broker_configs = Arc::new(broker_configs);
    image.topics = Arc::new(topics);
    image.names = Arc::new(names);
    image.check().map_err(|broken| CatalogError::Impossible { broken })?;
    Ok(image)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..CRC_AT]);
    crc.update(&bytes[BODY_AT..]);
    crc.finalize()
}

/// The first `N` bytes, which are there.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("a slice of N bytes")
}

struct Writer(Vec<u8>);

impl Writer {
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn count(&mut self, value: usize) {
        let value = u32::try_from(value).expect("fewer than 2^32 of anything");
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn id(&mut self, id: Uuid) {
        self.0.extend_from_slice(&id.bytes());
    }

    fn ids(&mut self, ids: &[BrokerId]) {
        self.count(ids.len());
        for id in ids {
            self.i32(id.get());
        }
    }

    fn configs(&mut self, configs: &Configs) {
        self.count(configs.len());
        for (name, value) in configs {
            self.text(name);
            self.text(value);
        }
    }

    fn broker(&mut self, broker: &Broker) {
        self.i32(broker.id.get());
        self.i64(broker.epoch.get());
        self.0.push(match broker.state {
            BrokerState::Fenced => 0,
            BrokerState::Active => 1,
            BrokerState::ShuttingDown => 2,
        });
        self.0.extend_from_slice(&broker.port.to_be_bytes());
        self.text(&broker.host);
        self.0.push(u8::from(broker.rack.is_some()));
        if let Some(rack) = &broker.rack {
            self.text(rack);
        }
        self.count(broker.directories.len());
        for directory in &broker.directories {
            self.id(*directory);
        }
    }

    fn topic(&mut self, topic: &Topic) {
        self.text(&topic.name);
        self.id(topic.id);
        self.configs(&topic.configs);
        self.count(topic.partitions.len());
        for partition in &topic.partitions {
            self.count(partition.replicas.len());
            for (replica, directory) in partition.replicas.iter().zip(&partition.directories) {
                self.i32(replica.get());
                self.id(*directory);
            }
            self.ids(&partition.isr);
            self.ids(&partition.elr);
            self.i32(partition.last_known_leader.get());
            self.i32(partition.leader.get());
            self.i32(partition.leader_epoch.get());
            self.i32(partition.partition_epoch.get());
            self.0.push(match partition.recovery {
                LeaderRecovery::Recovered => 0,
                LeaderRecovery::Recovering => 1,
            });
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, expected: &'static str) -> CatalogError {
        CatalogError::Malformed { at: self.at as u64, expected }
    }

    fn take(&mut self, len: usize, expected: &'static str) -> Result<&'a [u8], CatalogError> {
        if len > self.bytes.len() - self.at {
            return Err(self.malformed(expected));
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, CatalogError> {
        Ok(self.take(1, "a byte")?[0])
    }

    fn u16(&mut self) -> Result<u16, CatalogError> {
        Ok(u16::from_be_bytes(array(self.take(2, "two bytes")?)))
    }

    fn u32(&mut self) -> Result<u32, CatalogError> {
        Ok(u32::from_be_bytes(array(self.take(4, "four bytes")?)))
    }

    fn i32(&mut self) -> Result<i32, CatalogError> {
        Ok(i32::from_be_bytes(array(self.take(4, "four bytes")?)))
    }

    fn u64(&mut self) -> Result<u64, CatalogError> {
        Ok(u64::from_be_bytes(array(self.take(8, "eight bytes")?)))
    }

    fn i64(&mut self) -> Result<i64, CatalogError> {
        Ok(i64::from_be_bytes(array(self.take(8, "eight bytes")?)))
    }

    fn id(&mut self) -> Result<Uuid, CatalogError> {
        Ok(Uuid::from_bytes(array(self.take(16, "an id of 16 bytes")?)))
    }

    fn text(&mut self) -> Result<&'a str, CatalogError> {
        let len = self.u32()? as usize;
        let start = self.at;
        let bytes = self.take(len, "a text as long as it claims")?;
        std::str::from_utf8(bytes)
            .map_err(|_| CatalogError::Malformed { at: start as u64, expected: "UTF-8" })
    }

    fn ids(&mut self) -> Result<Vec<BrokerId>, CatalogError> {
        let mut ids = Vec::new();
        for _ in 0..self.u32()? {
            ids.push(BrokerId::new(self.i32()?));
        }
        Ok(ids)
    }

    fn configs(&mut self) -> Result<Configs, CatalogError> {
        let mut configs = Configs::new();
        for _ in 0..self.u32()? {
            let name = self.text()?.to_owned();
            configs.insert(name, self.text()?.to_owned());
        }
        Ok(configs)
    }

    fn broker(&mut self) -> Result<Broker, CatalogError> {
        let id = BrokerId::new(self.i32()?);
        let epoch = BrokerEpoch::new(self.i64()?);
        let state = match self.u8()? {
            0 => BrokerState::Fenced,
            1 => BrokerState::Active,
            2 => BrokerState::ShuttingDown,
            _ => return Err(self.malformed("a broker's state, 0 to 2, just before")),
        };
        let port = self.u16()?;
        let host = self.text()?.to_owned();
        let rack = match self.u8()? {
            0 => None,
            1 => Some(self.text()?.to_owned()),
            _ => return Err(self.malformed("0 or 1 just before")),
        };
        let mut directories = Vec::new();
        for _ in 0..self.u32()? {
            directories.push(self.id()?);
        }
        Ok(Broker { id, epoch, host, port, rack, directories, state })
    }

    fn topic(&mut self) -> Result<Topic, CatalogError> {
        let name = self.text()?.into();
        let id = self.id()?;
        let configs = self.configs()?;
        let mut partitions = Vec::new();
        for _ in 0..self.u32()? {
            partitions.push(self.partition()?);
        }
        Ok(Topic { name, id, partitions, configs })
    }

    fn partition(&mut self) -> Result<PartitionState, CatalogError> {
        let (mut replicas, mut directories) = (Vec::new(), Vec::new());
        for _ in 0..self.u32()? {
            replicas.push(BrokerId::new(self.i32()?));
            directories.push(self.id()?);
        }
        Ok(PartitionState {
            replicas,
            directories,
            isr: self.ids()?,
            elr: self.ids()?,
            last_known_leader: BrokerId::new(self.i32()?),
            leader: BrokerId::new(self.i32()?),
            leader_epoch: LeaderEpoch::new(self.i32()?),
            partition_epoch: PartitionEpoch::new(self.i32()?),
            recovery: match self.u8()? {
                0 => LeaderRecovery::Recovered,
                1 => LeaderRecovery::Recovering,
                _ => return Err(self.malformed("0 or 1 just before")),
            },
        })
    }
}

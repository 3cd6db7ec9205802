//! The sockets of one [`SimIo`](crate::SimIo): handles, and operations that wait.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use highwater_base::Mono;
use highwater_io::{Buffer, Completion, ConnId, ErrorKind, IoError, ListenerId, Op, Outcome, Slice, Token};

use crate::errno::Errno;
use crate::net::{EndId, Heard, SimNet};

/// All sockets of one `SimIo`.
pub(crate) struct Sockets {
    net: SimNet,
    host: IpAddr,
    listeners: BTreeMap<ListenerId, u64>,
    conns: BTreeMap<ConnId, Conn>,
    next: u32,
    accepts: Vec<(Token, ListenerId)>,
    connects: Vec<(Mono, Token, Result<EndId, Errno>)>,
    /// Decided, to be given at this time.
    decided: Vec<(Mono, Completion)>,
}

struct Conn {
    end: EndId,
    receives: VecDeque<(Token, Buffer)>,
    sends: VecDeque<Sending>,
}

struct Sending {
    token: Token,
    not_before: Mono,
    data: VecDeque<Slice>,
}

impl Sockets {
    pub(crate) fn new(net: SimNet, host: IpAddr) -> Sockets {
        Sockets {
            net,
            host,
            listeners: BTreeMap::new(),
            conns: BTreeMap::new(),
            next: 0,
            accepts: Vec::new(),
            connects: Vec::new(),
            decided: Vec::new(),
        }
    }

    pub(crate) fn net(&self) -> &SimNet {
        &self.net
    }

    /// Whether this operation is on sockets.
    pub(crate) fn takes(op: &Op) -> bool {
        matches!(
            op,
            Op::Listen { .. }
                | Op::CloseListener { .. }
                | Op::Accept { .. }
                | Op::Connect { .. }
                | Op::Receive { .. }
                | Op::Send { .. }
                | Op::Disconnect { .. }
        )
    }

    fn now(&self) -> Mono {
        self.net.inner().clock.now().mono
    }

    fn decide(&mut self, at: Mono, token: Token, result: Result<Outcome, IoError>) {
        self.decided.push((at, Completion { token, result }));
    }

    fn handle(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    pub(crate) fn submit(&mut self, op: Op, token: Token, delay: Duration) {
        let soon = self.now().plus(delay);
        match op {
            Op::Listen { address, shared } => {
                let made = self.net.inner().listen(address, shared);
                let result = match made {
                    Ok((id, address)) => {
                        let listener = ListenerId(self.handle());
                        self.listeners.insert(listener, id);
                        Ok(Outcome::Listening { listener, address })
                    }
                    Err(errno) => Err(IoError::from_errno(errno, "listen", address.to_string())),
                };
                self.decide(soon, token, result);
            }
            Op::CloseListener { listener } => {
                let result = match self.listeners.remove(&listener) {
                    Some(id) => {
                        self.net.inner().close_listener(id);
                        Ok(Outcome::Done)
                    }
                    None => Err(cancelled("close listener")),
                };
                let (gone, kept) =
                    std::mem::take(&mut self.accepts).into_iter().partition(|(_, l)| *l == listener);
                self.accepts = kept;
                let gone: Vec<(Token, ListenerId)> = gone;
                for (token, _) in gone {
                    self.decide(soon, token, Err(cancelled("accept")));
                }
                self.decide(soon, token, result);
            }
            Op::Accept { listener } if self.listeners.contains_key(&listener) => {
                self.accepts.push((token, listener));
            }
            Op::Accept { .. } => self.decide(soon, token, Err(cancelled("accept"))),
            Op::Connect { address } => {
                let (at, result) = self.net.inner().connect(self.host, address);
                self.connects.push((at, token, result));
            }
            Op::Receive { conn, buffer } => match self.conns.get_mut(&conn) {
                Some(open) => open.receives.push_back((token, buffer)),
                None => self.decide(soon, token, Err(cancelled("receive"))),
            },
            Op::Send { conn, data } => match self.conns.get_mut(&conn) {
                Some(open) => {
                    open.sends.push_back(Sending { token, not_before: soon, data: data.into() });
                }
                None => self.decide(soon, token, Err(cancelled("send"))),
            },
            Op::Disconnect { conn } => match self.conns.remove(&conn) {
                Some(open) => {
                    self.net.inner().close(open.end);
                    for (token, _) in open.receives {
                        self.decide(soon, token, Err(cancelled("receive")));
                    }
                    for sending in open.sends {
                        self.decide(soon, sending.token, Err(cancelled("send")));
                    }
                    self.decide(soon, token, Ok(Outcome::Done));
                }
                None => self.decide(soon, token, Err(cancelled("disconnect"))),
            },
            other => unreachable!("no operation on sockets: {other:?}"),
        }
    }

    pub(crate) fn reap(&mut self, out: &mut Vec<Completion>) {
        let now = self.now();
        take_due(&mut self.decided, now, |(at, _)| *at, |(_, completion)| out.push(completion));
        let mut connected = Vec::new();
        take_due(&mut self.connects, now, |(at, ..)| *at, |done| connected.push(done));
        for (_, token, result) in connected {
            let result = match result {
                Ok(end) => Ok(Outcome::Connected { conn: self.open(end) }),
                Err(errno) => Err(IoError::from_errno(errno, "connect", "a simulated address")),
            };
            out.push(Completion { token, result });
        }
        let mut waiting = Vec::new();
        for (token, listener) in std::mem::take(&mut self.accepts) {
            let accepted = self.net.inner().accept(self.listeners[&listener]);
            match accepted {
                Some((end, peer)) => {
                    let conn = self.open(end);
                    out.push(Completion { token, result: Ok(Outcome::Accepted { conn, peer }) });
                }
                None => waiting.push((token, listener)),
            }
        }
        self.accepts = waiting;
        for conn in self.conns.values_mut() {
            conn.send(&self.net, now, out);
            conn.receive(&self.net, out);
        }
    }

    fn open(&mut self, end: EndId) -> ConnId {
        let conn = ConnId(self.handle());
        self.conns.insert(conn, Conn { end, receives: VecDeque::new(), sends: VecDeque::new() });
        conn
    }

    pub(crate) fn in_flight(&self) -> usize {
        let conns: usize = self.conns.values().map(|conn| conn.receives.len() + conn.sends.len()).sum();
        self.accepts.len() + self.connects.len() + self.decided.len() + conns
    }

    /// When something here can complete, as far as is known.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        let net = self.net.inner();
        let decided = self.decided.iter().map(|(at, _)| *at);
        let connects = self.connects.iter().map(|(at, ..)| *at);
        let accepts =
            self.accepts.iter().filter_map(|(_, listener)| net.accept_due(self.listeners[listener]));
        let receives = self.conns.values().filter(|conn| !conn.receives.is_empty());
        let receives = receives.filter_map(|conn| net.receive_due(conn.end));
        let sends = self.conns.values().filter_map(|conn| {
            let sending = conn.sends.front()?;
            Some(net.send_due(conn.end)?.max(sending.not_before))
        });
        decided.chain(connects).chain(accepts).chain(receives).chain(sends).min()
    }
}

impl Conn {
    fn send(&mut self, net: &SimNet, now: Mono, out: &mut Vec<Completion>) {
        while let Some(sending) = self.sends.front_mut()
            && sending.not_before <= now
        {
            let mut failed = None;
            while let Some(slice) = sending.data.front_mut() {
                match net.inner().send(self.end, slice) {
                    Err(errno) => {
                        failed = Some(IoError::from_errno(errno, "send", "a connection"));
                        break;
                    }
                    Ok(sent) if sent == slice.len() => drop(sending.data.pop_front()),
                    Ok(0) => return,
                    Ok(sent) => *slice = slice.range(sent..slice.len()),
                }
            }
            let token = sending.token;
            self.sends.pop_front();
            out.push(Completion { token, result: failed.map_or(Ok(Outcome::Done), Err) });
        }
    }

    fn receive(&mut self, net: &SimNet, out: &mut Vec<Completion>) {
        while let Some((token, buffer)) = self.receives.front_mut() {
            let token = *token;
            let heard = net.inner().receive(self.end, buffer.spare_mut());
            let len = match heard {
                Ok(Heard::Nothing) => return,
                Ok(Heard::Bytes(len)) => len,
                Ok(Heard::End) => 0,
                Err(errno) => {
                    self.receives.pop_front();
                    let error = IoError::from_errno(errno, "receive", "a connection");
                    out.push(Completion { token, result: Err(error) });
                    continue;
                }
            };
            let Some((_, mut buffer)) = self.receives.pop_front() else { return };
            buffer.set_len(buffer.len() + len);
            out.push(Completion { token, result: Ok(Outcome::Received { buffer, len }) });
        }
    }
}

fn cancelled(what: &'static str) -> IoError {
    IoError::of(ErrorKind::Cancelled, what, "a closed socket")
}

fn take_due<T>(list: &mut Vec<T>, now: Mono, at: impl Fn(&T) -> Mono, mut give: impl FnMut(T)) {
    list.sort_by_key(&at);
    let split = list.partition_point(|item| at(item) <= now);
    list.drain(..split).for_each(&mut give);
}

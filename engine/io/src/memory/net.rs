//! Sockets of one [`MemoryIo`](super::MemoryIo): whoever connects finds the listeners of the same instance.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::op::{Completion, ConnId, ListenerId, Outcome, Token};
use crate::{Buffer, ErrorKind, IoError, Slice};

/// Ports given for port 0 start here.
const FIRST_FREE_PORT: u16 = 40_000;

#[derive(Default)]
pub(super) struct Net {
    listeners: BTreeMap<u32, Listener>,
    conns: BTreeMap<u32, Conn>,
    next: u32,
    next_port: u16,
}

struct Listener {
    address: SocketAddr,
    shared: bool,
    /// Connected and not accepted yet.
    backlog: VecDeque<(ConnId, SocketAddr)>,
    accepts: VecDeque<Token>,
}

struct Conn {
    /// `None` once the other side has disconnected.
    peer: Option<u32>,
    inbox: VecDeque<Slice>,
    receives: VecDeque<(Token, Buffer)>,
}

type Done = VecDeque<Completion>;

fn done(to: &mut Done, token: Token, result: Result<Outcome, IoError>) {
    to.push_back(Completion { token, result });
}

fn cancelled(what: &'static str, subject: impl std::fmt::Debug) -> IoError {
    IoError::of(ErrorKind::Cancelled, what, format!("{subject:?}"))
}

impl Net {
    fn next_id(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    pub(super) fn listen(&mut self, mut address: SocketAddr, shared: bool) -> Result<Outcome, IoError> {
        if address.port() == 0 {
            address.set_port(FIRST_FREE_PORT + self.next_port);
            self.next_port += 1;
        }
        if self.listeners.values().any(|other| other.address == address && !(shared && other.shared)) {
            return Err(IoError::from_errno(libc::EADDRINUSE, "listen", address.to_string()));
        }
        let id = self.next_id();
        let listener = Listener { address, shared, backlog: VecDeque::new(), accepts: VecDeque::new() };
        self.listeners.insert(id, listener);
        Ok(Outcome::Listening { listener: ListenerId(id), address })
    }

    pub(super) fn close_listener(&mut self, id: ListenerId, to: &mut Done) -> Result<Outcome, IoError> {
        let listener = self.listeners.remove(&id.0).ok_or_else(|| cancelled("close listener", id))?;
        for token in listener.accepts {
            done(to, token, Err(cancelled("accept", listener.address)));
        }
        for (conn, _) in listener.backlog {
            self.hang_up(conn.0, to);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn accept(&mut self, id: ListenerId, token: Token, to: &mut Done) {
        let Some(listener) = self.listeners.get_mut(&id.0) else {
            return done(to, token, Err(cancelled("accept", id)));
        };
        match listener.backlog.pop_front() {
            Some((conn, peer)) => done(to, token, Ok(Outcome::Accepted { conn, peer })),
            None => listener.accepts.push_back(token),
        }
    }

    pub(super) fn connect(&mut self, address: SocketAddr, to: &mut Done) -> Result<Outcome, IoError> {
        let (near, far) = (self.next_id(), self.next_id());
        // Like the kernel, which spreads connections over the listeners that share an address: here, to
        // whoever has waited for one, else to the one with the shortest queue.
        let found = self
            .listeners
            .values_mut()
            .filter(|listener| {
                listener.address == address
                    || (listener.address.port() == address.port() && listener.address.ip().is_unspecified())
            })
            .min_by_key(|listener| (listener.accepts.is_empty(), listener.backlog.len()))
            .ok_or_else(|| IoError::from_errno(libc::ECONNREFUSED, "connect", address.to_string()))?;
        let peer = SocketAddr::new(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            FIRST_FREE_PORT.wrapping_add(near as u16) | 0x8000,
        );
        match found.accepts.pop_front() {
            Some(token) => done(to, token, Ok(Outcome::Accepted { conn: ConnId(far), peer })),
            None => found.backlog.push_back((ConnId(far), peer)),
        }
        for (one, other) in [(near, far), (far, near)] {
            let conn = Conn { peer: Some(other), inbox: VecDeque::new(), receives: VecDeque::new() };
            self.conns.insert(one, conn);
        }
        Ok(Outcome::Connected { conn: ConnId(near) })
    }

    pub(super) fn send(&mut self, id: ConnId, data: Vec<Slice>, to: &mut Done) -> Result<Outcome, IoError> {
        let conn = self.conns.get(&id.0).ok_or_else(|| cancelled("send", id))?;
        let gone = || IoError::from_errno(libc::EPIPE, "send", format!("{id:?}"));
        let peer = conn.peer.ok_or_else(gone)?;
        let far = self.conns.get_mut(&peer).ok_or_else(gone)?;
        far.inbox.extend(data.into_iter().filter(|slice| !slice.is_empty()));
        far.deliver(to);
        Ok(Outcome::Done)
    }

    pub(super) fn receive(&mut self, id: ConnId, buffer: Buffer, token: Token, to: &mut Done) {
        let Some(conn) = self.conns.get_mut(&id.0) else {
            return done(to, token, Err(cancelled("receive", id)));
        };
        conn.receives.push_back((token, buffer));
        conn.deliver(to);
    }

    pub(super) fn disconnect(&mut self, id: ConnId, to: &mut Done) -> Result<Outcome, IoError> {
        if !self.conns.contains_key(&id.0) {
            return Err(cancelled("disconnect", id));
        }
        self.hang_up(id.0, to);
        Ok(Outcome::Done)
    }

    fn hang_up(&mut self, id: u32, to: &mut Done) {
        let Some(conn) = self.conns.remove(&id) else { return };
        for (token, _) in conn.receives {
            done(to, token, Err(cancelled("receive", ConnId(id))));
        }
        if let Some(far) = conn.peer.and_then(|peer| self.conns.get_mut(&peer)) {
            far.peer = None;
            far.deliver(to);
        }
    }
}

impl Conn {
    /// Serves receives, in order, from what has come in; with nothing there, only the end is told.
    fn deliver(&mut self, to: &mut Done) {
        while let Some((token, mut buffer)) = self.receives.pop_front() {
            let mut len = 0;
            while let Some(first) = self.inbox.pop_front() {
                let n = buffer.extend(&first);
                len += n;
                if n < first.len() {
                    self.inbox.push_front(first.range(n..first.len()));
                    break;
                }
            }
            if len == 0 && self.peer.is_some() {
                self.receives.push_front((token, buffer));
                return;
            }
            done(to, token, Ok(Outcome::Received { buffer, len }));
        }
    }
}

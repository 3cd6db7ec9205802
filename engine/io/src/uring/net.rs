//! Sockets on the ring: one operation in flight for each direction of a connection, the others queue.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::cqueue;

use super::entry::{InRing, SendHeader};
use super::ring::{Ring, adopt};
use crate::op::{Completion, ConnId, ListenerId, Op, Outcome, Token};
use crate::slots::Slots;
use crate::sys::{self, RawAddress};
use crate::{Buffer, ErrorKind, IoError, Outgoing};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

type Done = VecDeque<Completion>;

#[derive(Debug, Default)]
pub(super) struct Net {
    listeners: Slots<Listener>,
    conns: Slots<Conn>,
}

#[derive(Debug)]
struct Listener {
    socket: OwnedFd,
    address: SocketAddr,
    /// Keys of the accepts in the ring.
    accepts: Vec<u64>,
    closing: Option<Token>,
}

#[derive(Debug)]
struct Conn {
    socket: OwnedFd,
    peer: SocketAddr,
    /// Key of the send in the ring.
    sending: Option<u64>,
    sends: Outgoing,
    /// Kept for the next send, while none is in the ring.
    header: Option<Box<SendHeader>>,
    /// Key of the receive in the ring.
    receiving: Option<u64>,
    receives: VecDeque<(Token, Buffer)>,
    /// The last receive left nothing behind in the socket: the next has to wait.
    drained: bool,
    closing: Option<Token>,
}

fn done(to: &mut Done, token: Token, result: Result<Outcome, IoError>) {
    to.push_back(Completion { token, result });
}

fn cancelled(what: &'static str, subject: impl ToString) -> IoError {
    IoError::of(ErrorKind::Cancelled, what, subject.to_string())
}

/// Whether an operation should simply be tried again.
fn again(result: i32) -> bool {
    result == -libc::EINTR || result == -libc::EAGAIN
}

impl Net {
    pub(super) fn submit(&mut self, op: Op, token: Token, ring: &mut Ring, to: &mut Done) {
        match op {
            Op::Listen { address, shared } => done(to, token, self.listen(address, shared)),
            Op::CloseListener { listener } => self.close_listener(listener, token, ring, to),
            Op::Accept { listener } => match self.listeners.get_mut(listener.0) {
                Some(open) if open.closing.is_none() => {
                    let fd = open.socket.as_raw_fd();
                    let address = Box::new(RawAddress::room());
                    open.accepts.push(ring.start(InRing::Accept {
                        token,
                        listener: listener.0,
                        fd,
                        address,
                    }));
                }
                _ => done(to, token, Err(cancelled("accept", format!("{listener:?}")))),
            },
            Op::Connect { address } => match sys::tcp_socket(&address) {
                Ok(socket) => {
                    let address = Box::new(RawAddress::from(address));
                    ring.start(InRing::Connect { token, socket, address });
                }
                Err(error) => {
                    done(to, token, Err(IoError::from_std(&error, "connect", address.to_string())));
                }
            },
            Op::Receive { conn, buffer } => {
                assert!(buffer.len() < buffer.capacity(), "receive: the buffer has no room");
                match self.conns.get_mut(conn.0) {
                    Some(open) if open.closing.is_none() => {
                        open.receives.push_back((token, buffer));
                        open.receive_next(conn.0, ring);
                    }
                    _ => done(to, token, Err(cancelled("receive", format!("{conn:?}")))),
                }
            }
            Op::Send { conn, data } => match self.conns.get_mut(conn.0) {
                Some(open) if open.closing.is_none() => {
                    open.sends.push(token, data);
                    open.send_next(conn.0, ring, to);
                }
                _ => done(to, token, Err(cancelled("send", format!("{conn:?}")))),
            },
            Op::Disconnect { conn } => self.disconnect(conn, token, ring, to),
            other => unreachable!("not an operation on a socket: {other:?}"),
        }
    }

    fn listen(&mut self, address: SocketAddr, shared: bool) -> Result<Outcome, IoError> {
        let listening = sys::listen(address, shared, BACKLOG).and_then(|socket| {
            let listener = std::net::TcpListener::from(socket);
            let address = listener.local_addr()?;
            Ok((OwnedFd::from(listener), address))
        });
        let (socket, address) =
            listening.map_err(|error| IoError::from_std(&error, "listen", address.to_string()))?;
        let listener = Listener { socket, address, accepts: Vec::new(), closing: None };
        Ok(Outcome::Listening { listener: ListenerId(self.listeners.insert(listener)), address })
    }

    fn close_listener(&mut self, id: ListenerId, token: Token, ring: &mut Ring, to: &mut Done) {
        match self.listeners.get_mut(id.0) {
            Some(open) if open.closing.is_none() => {
                open.closing = Some(token);
                for key in &open.accepts {
                    ring.cancel(*key);
                }
                self.finish_listener(id.0, to);
            }
            _ => done(to, token, Err(cancelled("close listener", format!("{id:?}")))),
        }
    }

    /// Closes a listener that is to be closed, once nothing of it is in the ring.
    fn finish_listener(&mut self, id: u32, to: &mut Done) {
        if let Some(Listener { closing: Some(token), accepts, .. }) = self.listeners.get_mut(id)
            && accepts.is_empty()
        {
            let token = *token;
            self.listeners.remove(id);
            done(to, token, Ok(Outcome::Done));
        }
    }

    /// An accept of listener `id` is done.
    pub(super) fn accepted(
        &mut self,
        (token, id, key): (Token, u32, u64),
        address: Box<RawAddress>,
        result: i32,
        ring: &mut Ring,
        to: &mut Done,
    ) {
        let open = self.listeners.get_mut(id).expect("a listener stays until its accepts are done");
        open.accepts.retain(|other| *other != key);
        let subject = open.address;
        if result >= 0 {
            let socket = adopt(result);
            let conn = without_delay(&socket).map(|()| {
                // A peer that is gone already has no address; any will do.
                let peer = address.get().unwrap_or(subject);
                let conn = ConnId(self.conns.insert(Conn::new(socket, peer)));
                Outcome::Accepted { conn, peer }
            });
            done(to, token, conn.map_err(|error| IoError::from_std(&error, "accept", subject.to_string())));
        } else if open.closing.is_some() {
            done(to, token, Err(cancelled("accept", subject)));
        } else if again(result) || sys::accept_goes_on(-result) {
            let fd = open.socket.as_raw_fd();
            open.accepts.push(ring.start(InRing::Accept { token, listener: id, fd, address }));
        } else {
            done(to, token, Err(IoError::from_errno(-result, "accept", subject.to_string())));
        }
        self.finish_listener(id, to);
    }

    /// A connect is done.
    pub(super) fn connected(
        &mut self,
        token: Token,
        socket: OwnedFd,
        address: Box<RawAddress>,
        result: i32,
        ring: &mut Ring,
        to: &mut Done,
    ) {
        if again(result) {
            ring.start(InRing::Connect { token, socket, address });
            return;
        }
        let peer = address.get().expect("made of an address");
        let connected = match result {
            0 => {
                without_delay(&socket).map_err(|error| IoError::from_std(&error, "connect", peer.to_string()))
            }
            failed => Err(IoError::from_errno(-failed, "connect", peer.to_string())),
        };
        let conn = connected
            .map(|()| Outcome::Connected { conn: ConnId(self.conns.insert(Conn::new(socket, peer))) });
        done(to, token, conn);
    }

    /// A receive of connection `id` is done.
    pub(super) fn received(
        &mut self,
        (token, id): (Token, u32),
        mut buffer: Buffer,
        (result, flags): (i32, u32),
        ring: &mut Ring,
        to: &mut Done,
    ) {
        let open = self.conns.get_mut(id).expect("a connection stays until its operations are done");
        open.receiving = None;
        if result >= 0 {
            let len = result as usize;
            buffer.set_len(buffer.len() + len);
            open.drained = len > 0 && !cqueue::sock_nonempty(flags);
            done(to, token, Ok(Outcome::Received { buffer, len }));
        } else if open.closing.is_some() {
            done(to, token, Err(cancelled("receive", open.peer)));
        } else if again(result) {
            open.drained = true;
            open.receives.push_front((token, buffer));
        } else {
            done(to, token, Err(IoError::from_errno(-result, "receive", open.peer.to_string())));
        }
        open.receive_next(id, ring);
        self.finish_conn(id, to);
    }

    /// A batch of sends of connection `id` is done, or a part of it.
    pub(super) fn sent(
        &mut self,
        id: u32,
        (mut batch, header): (Outgoing, Box<SendHeader>),
        result: i32,
        ring: &mut Ring,
        to: &mut Done,
    ) {
        let open = self.conns.get_mut(id).expect("a connection stays until its operations are done");
        open.sending = None;
        open.header = Some(header);
        batch.advance(usize::try_from(result).unwrap_or(0));
        while let Some(token) = batch.pop_sent() {
            done(to, token, Ok(Outcome::Done));
        }
        if result < 0
            && !again(result)
            && open.closing.is_none()
            && let Some(token) = batch.pop()
        {
            done(to, token, Err(IoError::from_errno(-result, "send", open.peer.to_string())));
        }
        open.sends.put_back(batch);
        open.send_next(id, ring, to);
        self.finish_conn(id, to);
    }

    fn disconnect(&mut self, id: ConnId, token: Token, ring: &mut Ring, to: &mut Done) {
        match self.conns.get_mut(id.0) {
            Some(open) if open.closing.is_none() => {
                open.closing = Some(token);
                for key in open.sending.into_iter().chain(open.receiving) {
                    ring.cancel(key);
                }
                self.finish_conn(id.0, to);
            }
            _ => done(to, token, Err(cancelled("disconnect", format!("{id:?}")))),
        }
    }

    /// Closes a connection that is to be closed, once nothing of it is in the ring; what is queued behind
    /// completes only now, to keep the order.
    fn finish_conn(&mut self, id: u32, to: &mut Done) {
        let Some(open) = self.conns.get_mut(id) else { return };
        if open.closing.is_none() || open.sending.is_some() || open.receiving.is_some() {
            return;
        }
        let Some(Conn { peer, mut sends, receives, closing: Some(token), .. }) = self.conns.remove(id) else {
            return;
        };
        for (token, _) in receives {
            done(to, token, Err(cancelled("receive", peer)));
        }
        while let Some(token) = sends.pop() {
            done(to, token, Err(cancelled("send", peer)));
        }
        done(to, token, Ok(Outcome::Done));
    }
}

impl Conn {
    fn new(socket: OwnedFd, peer: SocketAddr) -> Conn {
        Conn {
            socket,
            peer,
            sending: None,
            sends: Outgoing::default(),
            header: None,
            receiving: None,
            receives: VecDeque::new(),
            drained: false,
            closing: None,
        }
    }

    fn receive_next(&mut self, id: u32, ring: &mut Ring) {
        if self.receiving.is_none()
            && self.closing.is_none()
            && let Some((token, buffer)) = self.receives.pop_front()
        {
            let fd = self.socket.as_raw_fd();
            let poll_first = self.drained && ring.poll_first;
            self.receiving = Some(ring.start(InRing::Receive { token, conn: id, fd, buffer, poll_first }));
        }
    }

    fn send_next(&mut self, id: u32, ring: &mut Ring, to: &mut Done) {
        if self.sending.is_some() || self.closing.is_some() {
            return;
        }
        while let Some(token) = self.sends.pop_sent() {
            done(to, token, Ok(Outcome::Done));
        }
        if !self.sends.is_empty() {
            let fd = self.socket.as_raw_fd();
            let batch = self.sends.batch();
            let header = self.header.take().unwrap_or_default();
            self.sending = Some(ring.start(InRing::Send { conn: id, fd, batch, header }));
        }
    }
}

/// Small answers are not to wait for the acknowledgement of earlier ones.
fn without_delay(socket: &OwnedFd) -> std::io::Result<()> {
    sys::switch_on(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY)
}

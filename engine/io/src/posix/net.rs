//! Sockets that do not block: tried at once, then again whenever `poll` calls them ready.

use std::collections::VecDeque;
use std::io::{self, ErrorKind::WouldBlock, IoSlice, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use crate::op::{Completion, ConnId, ListenerId, Op, Outcome, Token};
use crate::slots::Slots;
use crate::{Buffer, ErrorKind, IoError, Outgoing, sys};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

type Done = VecDeque<Completion>;

#[derive(Debug, Default)]
pub(super) struct Net {
    listeners: Slots<Listener>,
    conns: Slots<Conn>,
    /// Accepts, connects, receives and sends that are not done.
    waiting: usize,
    /// Whom each polled descriptor belongs to, in the order given to `poll`.
    polled: Vec<Polled>,
}

#[derive(Clone, Copy, Debug)]
enum Polled {
    Listener(u32),
    Conn(u32),
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    accepts: VecDeque<Token>,
}

#[derive(Debug)]
struct Conn {
    socket: TcpStream,
    peer: SocketAddr,
    /// Who waits for the connection to be made.
    connecting: Option<Token>,
    sends: Outgoing,
    receives: VecDeque<(Token, Buffer)>,
}

fn done(to: &mut Done, token: Token, result: Result<Outcome, IoError>) {
    to.push_back(Completion { token, result });
}

fn cancelled(what: &'static str, subject: String) -> IoError {
    IoError::of(ErrorKind::Cancelled, what, subject)
}

impl Net {
    /// Whether something waits for a socket.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    pub(super) fn submit(&mut self, op: Op, token: Token, to: &mut Done) {
        match op {
            Op::Listen { address, shared } => done(to, token, self.listen(address, shared)),
            Op::CloseListener { listener } => {
                let result = self.close_listener(listener, to);
                done(to, token, result);
            }
            Op::Accept { listener } => match self.listeners.get_mut(listener.0) {
                None => done(to, token, Err(cancelled("accept", format!("{listener:?}")))),
                Some(open) => {
                    open.accepts.push_back(token);
                    self.waiting += 1;
                    self.accept(listener.0, to);
                }
            },
            Op::Connect { address } => self.connect(address, token, to),
            Op::Receive { conn, buffer } => {
                assert!(buffer.len() < buffer.capacity(), "receive: the buffer has no room");
                match self.conns.get_mut(conn.0) {
                    None => done(to, token, Err(cancelled("receive", format!("{conn:?}")))),
                    Some(open) => {
                        open.receives.push_back((token, buffer));
                        self.waiting += 1;
                        self.waiting -= open.receive(to);
                    }
                }
            }
            Op::Send { conn, data } => match self.conns.get_mut(conn.0) {
                None => done(to, token, Err(cancelled("send", format!("{conn:?}")))),
                Some(open) => {
                    open.sends.push(token, data);
                    self.waiting += 1;
                    self.waiting -= open.send(to);
                }
            },
            Op::Disconnect { conn } => {
                let result = self.disconnect(conn, to);
                done(to, token, result);
            }
            other => unreachable!("not an operation on a socket: {other:?}"),
        }
    }

    /// Appends what to poll for.
    pub(super) fn interests(&mut self, polled: &mut Vec<libc::pollfd>) {
        self.polled.clear();
        if self.waiting == 0 {
            return;
        }
        for (id, listener) in self.listeners.iter_mut().filter(|(_, listener)| !listener.accepts.is_empty()) {
            let fd = listener.socket.as_raw_fd();
            polled.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
            self.polled.push(Polled::Listener(id));
        }
        for (id, conn) in self.conns.iter_mut() {
            let reading = if conn.receives.is_empty() { 0 } else { libc::POLLIN };
            let writing = if conn.sends.is_empty() && conn.connecting.is_none() { 0 } else { libc::POLLOUT };
            if reading | writing != 0 {
                let fd = conn.socket.as_raw_fd();
                polled.push(libc::pollfd { fd, events: reading | writing, revents: 0 });
                self.polled.push(Polled::Conn(id));
            }
        }
    }

    /// Serves what `poll` found, given in the order of [`Net::interests`].
    pub(super) fn ready(&mut self, polled: &[libc::pollfd], to: &mut Done) {
        let owners = std::mem::take(&mut self.polled);
        for (owner, _) in owners.iter().zip(polled).filter(|(_, found)| found.revents != 0) {
            match *owner {
                Polled::Listener(id) => self.accept(id, to),
                Polled::Conn(id) => self.serve(id, to),
            }
        }
        self.polled = owners;
    }

    fn listen(&mut self, address: SocketAddr, shared: bool) -> Result<Outcome, IoError> {
        let listening = sys::listen(address, shared, BACKLOG).and_then(|socket| {
            let socket = TcpListener::from(socket);
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            Ok((socket, address))
        });
        let (socket, address) =
            listening.map_err(|error| IoError::from_std(&error, "listen", address.to_string()))?;
        let listener =
            ListenerId(self.listeners.insert(Listener { socket, address, accepts: VecDeque::new() }));
        Ok(Outcome::Listening { listener, address })
    }

    fn close_listener(&mut self, listener: ListenerId, to: &mut Done) -> Result<Outcome, IoError> {
        let closed = self.listeners.remove(listener.0);
        let closed = closed.ok_or_else(|| cancelled("close listener", format!("{listener:?}")))?;
        self.waiting -= closed.accepts.len();
        for token in closed.accepts {
            done(to, token, Err(cancelled("accept", format!("{listener:?}"))));
        }
        Ok(Outcome::Done)
    }

    fn accept(&mut self, id: u32, to: &mut Done) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        while let Some(token) = listener.accepts.pop_front() {
            let accepted = sys::uninterrupted(|| listener.socket.accept()).and_then(|(socket, peer)| {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                Ok((socket, peer))
            });
            match accepted {
                Err(error) if error.kind() == WouldBlock => {
                    listener.accepts.push_front(token);
                    return;
                }
                Err(error) if error.raw_os_error().is_some_and(sys::accept_goes_on) => {
                    listener.accepts.push_front(token);
                    continue;
                }
                Err(error) => {
                    let subject = listener.address.to_string();
                    done(to, token, Err(IoError::from_std(&error, "accept", subject)));
                }
                Ok((socket, peer)) => {
                    let conn = ConnId(self.conns.insert(Conn::new(socket, peer)));
                    done(to, token, Ok(Outcome::Accepted { conn, peer }));
                }
            }
            self.waiting -= 1;
        }
    }

    fn connect(&mut self, address: SocketAddr, token: Token, to: &mut Done) {
        let started = sys::tcp_socket(&address).and_then(|socket| {
            let socket = TcpStream::from(socket);
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let connected = sys::start_connect(socket.as_fd(), address)?;
            Ok((socket, connected))
        });
        match started {
            Err(error) => done(to, token, Err(IoError::from_std(&error, "connect", address.to_string()))),
            Ok((socket, true)) => {
                let conn = ConnId(self.conns.insert(Conn::new(socket, address)));
                done(to, token, Ok(Outcome::Connected { conn }));
            }
            Ok((socket, false)) => {
                let conn = Conn { connecting: Some(token), ..Conn::new(socket, address) };
                self.conns.insert(conn);
                self.waiting += 1;
            }
        }
    }

    /// Goes on with a connection that is ready for something.
    fn serve(&mut self, id: u32, to: &mut Done) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Some(token) = conn.connecting.take() {
            self.waiting -= 1;
            let failed = match conn.socket.take_error() {
                Ok(None) => return done(to, token, Ok(Outcome::Connected { conn: ConnId(id) })),
                Ok(Some(error)) | Err(error) => error,
            };
            let failed = IoError::from_std(&failed, "connect", conn.peer.to_string());
            self.conns.remove(id);
            return done(to, token, Err(failed));
        }
        self.waiting -= conn.receive(to);
        self.waiting -= conn.send(to);
    }

    fn disconnect(&mut self, id: ConnId, to: &mut Done) -> Result<Outcome, IoError> {
        let mut conn = self.conns.remove(id.0).ok_or_else(|| cancelled("disconnect", format!("{id:?}")))?;
        self.waiting -= conn.receives.len() + conn.sends.len();
        for (token, _) in conn.receives {
            done(to, token, Err(cancelled("receive", conn.peer.to_string())));
        }
        while let Some(token) = conn.sends.pop() {
            done(to, token, Err(cancelled("send", conn.peer.to_string())));
        }
        Ok(Outcome::Done)
    }
}

impl Conn {
    fn new(socket: TcpStream, peer: SocketAddr) -> Conn {
        Conn { socket, peer, connecting: None, sends: Outgoing::default(), receives: VecDeque::new() }
    }

    /// Receives as long as there is something and somebody to take it; says how many receives ended.
    fn receive(&mut self, to: &mut Done) -> usize {
        let mut ended = 0;
        while let Some((token, mut buffer)) = self.receives.pop_front() {
            let filled = buffer.len();
            let result = match sys::uninterrupted(|| (&self.socket).read(buffer.spare_mut())) {
                Err(error) if error.kind() == WouldBlock => {
                    self.receives.push_front((token, buffer));
                    return ended;
                }
                Err(error) => Err(self.error(&error, "receive")),
                Ok(len) => {
                    buffer.set_len(filled + len);
                    Ok(Outcome::Received { buffer, len })
                }
            };
            done(to, token, result);
            ended += 1;
        }
        ended
    }

    /// Sends as much as the socket takes; says how many sends ended.
    fn send(&mut self, to: &mut Done) -> usize {
        let mut ended = 0;
        loop {
            while let Some(token) = self.sends.pop_sent() {
                done(to, token, Ok(Outcome::Done));
                ended += 1;
            }
            if self.sends.is_empty() {
                return ended;
            }
            let parts: Vec<IoSlice<'_>> = self.sends.unsent().map(IoSlice::new).collect();
            match sys::send(self.socket.as_fd(), &parts) {
                Err(error) if error.kind() == WouldBlock => return ended,
                Ok(sent) => self.sends.advance(sent),
                Err(error) => {
                    let failed = self.error(&error, "send");
                    if let Some(token) = self.sends.pop() {
                        done(to, token, Err(failed));
                        ended += 1;
                    }
                }
            }
        }
    }

    fn error(&self, error: &io::Error, what: &'static str) -> IoError {
        IoError::from_std(error, what, self.peer.to_string())
    }
}

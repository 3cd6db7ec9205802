//! Connections of one shard: accepted, served, ended.

use highwater_base::{ByteLen, Limits, Mono, Now};
use highwater_io::{Completion, ConnId, ErrorKind, Io, ListenerId, Op, Outcome, Token};
use highwater_runtime::Timers;

use crate::config::Settings;
use crate::connection::{Allowance, Connection, Tag};
use crate::log::{Level, Log};
use crate::session::Session;
use crate::slots::Slots;

/// Owners of completions above this are connections: this plus their slot.
pub(super) const CONNECTION_OWNERS: u32 = 1 << 31;

/// What the tags of the front's own operations say.
const LISTEN: u32 = 1;
const ACCEPT: u32 = 2;
const CLOSE_LISTENER: u32 = 3;
const REFUSE: u32 = 4;

/// The key of the timer for an accept that is to be tried again; no slot has it.
const ACCEPT_TIMER: u64 = u64::MAX;

/// How long to wait after an accept that failed for want of handles or memory.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// The listener and the connections of one shard.
///
/// [`Front::take_dirty`] gives the connections on which something happened; the shard takes their requests and
/// then calls [`Front::step`] for each.
pub(super) struct Front {
    owner: u32,
    connections: Slots<Connection>,
    timers: Timers,
    dirty: Vec<u64>,
    listener: Option<ListenerId>,
    accepting: bool,
    /// Accepts are wanted.
    open: bool,
    /// Bytes of requests and answers that connections hold.
    held: usize,
    memory: usize,
    limit: usize,
    requests: usize,
    frame: ByteLen,
    idle: Option<std::time::Duration>,
    listener_name: std::sync::Arc<str>,
    /// Ended connections, and how many there were.
    pub(super) ended: Vec<u64>,
}

/// What a completion of the front's own meant for the shard.
pub(super) enum FrontEvent {
    /// Nothing more.
    None,
    /// The listener is open, or cannot be.
    Listening(Result<std::net::SocketAddr, highwater_io::IoError>),
}

impl Front {
    pub(super) fn new(owner: u32, settings: &Settings, shards: usize, limits: &Limits) -> Front {
        Front {
            owner,
            connections: Slots::new(),
            timers: Timers::new(),
            dirty: Vec::new(),
            listener: None,
            accepting: false,
            open: false,
            held: 0,
            memory: (settings.request_memory_bytes() / shards).min(limits.request_bytes),
            limit: settings.max_connections().div_ceil(shards).min(limits.connections),
            requests: limits.requests_per_connection,
            frame: ByteLen::new(settings.request_max_bytes() as u64),
            idle: settings.max_idle(),
            listener_name: settings.listener().into(),
            ended: Vec::new(),
        }
    }

    /// Opens a listener; [`FrontEvent::Listening`] follows.
    pub(super) fn listen(&mut self, address: std::net::SocketAddr, shared: bool, io: &mut dyn Io) {
        io.submit(Op::Listen { address, shared }, self.token(LISTEN));
    }

    /// Begins to accept.
    pub(super) fn open(&mut self, io: &mut dyn Io) {
        self.open = true;
        self.accept(io);
    }

    /// Stops accepting; connections go on.
    pub(super) fn close_listener(&mut self, io: &mut dyn Io) {
        self.open = false;
        if let Some(listener) = self.listener.take() {
            io.submit(Op::CloseListener { listener }, self.token(CLOSE_LISTENER));
        }
    }

    /// Ends every connection: at once, or after the answers to what it asked.
    pub(super) fn end_all(&mut self, at_once: bool) {
        for key in self.connections.keys() {
            let connection = self.connections.get_mut(key).expect("its key was just given");
            if at_once {
                connection.close()
            } else {
                connection.finish()
            }
            self.dirty.push(key);
        }
        self.recount();
    }

    /// Whether a listener is open.
    pub(super) fn has_listener(&self) -> bool {
        self.listener.is_some()
    }

    /// Whether something happened on a connection that was not looked at yet.
    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether no connection is left.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.len() == 0
    }

    /// The connection of a key.
    pub(super) fn get(&self, key: u64) -> Option<&Connection> {
        self.connections.get(key)
    }

    /// How much a connection may do now.
    pub(super) fn allowance(&self) -> Allowance {
        Allowance { requests: self.requests, may_receive: self.held < self.memory }
    }

    /// Says that something happened on a connection.
    pub(super) fn touch(&mut self, key: u64) {
        self.dirty.push(key);
    }

    /// Changes a connection, and keeps count of the memory it holds.
    pub(super) fn with<R>(&mut self, key: u64, change: impl FnOnce(&mut Connection) -> R) -> Option<R> {
        let connection = self.connections.get_mut(key)?;
        let before = connection.held();
        let result = change(connection);
        self.held = self.held + connection.held() - before;
        Some(result)
    }

    /// The connections on which something happened, each once.
    pub(super) fn take_dirty(&mut self) -> Vec<u64> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        dirty
    }

    /// Submits what a connection can do; forgets it if it is gone.
    pub(super) fn step(&mut self, key: u64, io: &mut dyn Io) {
        let allowance = self.allowance();
        let gone = self.with(key, |connection| {
            connection.step(allowance, io);
            connection.is_gone()
        });
        if gone == Some(true) {
            self.timers.cancel(key);
            self.connections.remove(key);
        }
    }

    /// If memory is available again, the connections that wait for it are served.
    pub(super) fn resume(&mut self, was_short: bool) {
        if was_short && self.held < self.memory {
            for key in self.connections.keys() {
                if self.connections.get(key).is_some_and(Connection::wants_memory) {
                    self.dirty.push(key);
                }
            }
        }
    }

    /// Whether memory for requests is used up.
    pub(super) fn is_short(&self) -> bool {
        self.held >= self.memory
    }

    /// Takes a completion whose owner is a connection.
    pub(super) fn complete_connection(
        &mut self,
        completion: Completion,
        now: Now,
        log: &mut Log,
        io: &mut dyn Io,
    ) {
        let slot = completion.token.owner - CONNECTION_OWNERS;
        let key = self.connections.key_at(slot).expect("a connection stays until its last completion");
        let connection = self.connections.get_mut(key).expect("its key was just given");
        let before = connection.held();
        match completion.token.tag {
            tag if tag == Tag::Receive as u32 => {
                let received = completion.result.map(|outcome| match outcome {
                    Outcome::Received { buffer, len } => (buffer, len),
                    other => unreachable!("a receive gave {other:?}"),
                });
                if connection.received(received, now.mono, io) {
                    self.ended.push(key);
                }
            }
            tag if tag == Tag::Send as u32 => {
                let result = completion.result.map(|_| ());
                if let Err(error) = &result
                    && !matches!(error.kind, ErrorKind::Disconnected | ErrorKind::Cancelled)
                {
                    let peer = connection.peer();
                    log.repeated(
                        now,
                        Level::Warn,
                        "send",
                        format_args!("{peer}: {error}; the connection is closed"),
                    );
                }
                if result.is_err() {
                    self.ended.push(key);
                }
                connection.sent(result, now.mono);
            }
            _ => connection.disconnected(),
        }
        self.held = self.held + connection.held() - before;
        self.dirty.push(key);
    }

    /// Takes a completion of an operation of the front's own.
    pub(super) fn complete(
        &mut self,
        completion: Completion,
        now: Now,
        log: &mut Log,
        io: &mut dyn Io,
    ) -> FrontEvent {
        match completion.token.tag {
            LISTEN => {
                let listening = completion.result.map(|outcome| match outcome {
                    Outcome::Listening { listener, address } => {
                        self.listener = Some(listener);
                        address
                    }
                    other => unreachable!("a listen gave {other:?}"),
                });
                return FrontEvent::Listening(listening);
            }
            ACCEPT => {
                self.accepting = false;
                match completion.result {
                    Ok(Outcome::Accepted { conn, peer }) => self.accepted(conn, peer, now, log, io),
                    Ok(other) => unreachable!("an accept gave {other:?}"),
                    Err(error) if error.kind == ErrorKind::Cancelled => return FrontEvent::None,
                    Err(error) => {
                        log.repeated(
                            now,
                            Level::Warn,
                            "accept",
                            format_args!("no connection accepted: {error}"),
                        );
                        self.timers.set(ACCEPT_TIMER, now.mono.plus(ACCEPT_PAUSE));
                        return FrontEvent::None;
                    }
                }
                self.accept(io);
            }
            _ => {}
        }
        FrontEvent::None
    }

    fn accept(&mut self, io: &mut dyn Io) {
        if let (true, false, Some(listener)) = (self.open, self.accepting, self.listener) {
            self.accepting = true;
            io.submit(Op::Accept { listener }, self.token(ACCEPT));
        }
    }

    fn accepted(
        &mut self,
        conn: ConnId,
        peer: std::net::SocketAddr,
        now: Now,
        log: &mut Log,
        io: &mut dyn Io,
    ) {
        if self.connections.len() >= self.limit || !self.open {
            let limit = self.limit;
            let why = format_args!("{peer}: refused, {limit} connections are open (max.connections)");
            log.repeated(now, Level::Warn, "connections", why);
            return io.submit(Op::Disconnect { conn }, self.token(REFUSE));
        }
        let session = Session::anonymous(&self.listener_name);
        let placeholder = Connection::new(conn, 0, peer, session.clone(), self.frame, now.mono);
        let key = self.connections.insert(placeholder);
        let owner = CONNECTION_OWNERS + key as u32;
        *self.connections.get_mut(key).expect("just inserted") =
            Connection::new(conn, owner, peer, session, self.frame, now.mono);
        if let Some(idle) = self.idle {
            self.timers.set(key, now.mono.plus(idle));
        }
        self.dirty.push(key);
    }

    /// Closes connections on which nothing has happened for too long, and accepts again after a pause.
    pub(super) fn expire(&mut self, now: Now, io: &mut dyn Io) {
        while let Some(key) = self.timers.pop_due(now.mono) {
            if key == ACCEPT_TIMER {
                self.accept(io);
                continue;
            }
            let (Some(idle), Some(connection)) = (self.idle, self.connections.get(key)) else { continue };
            let end = connection.active().plus(idle);
            if !connection.is_quiet() {
                self.timers.set(key, now.mono.plus(idle));
            } else if end > now.mono {
                self.timers.set(key, end);
            } else {
                // Kafka's clients expect this and connect again when they need to: no line in the log.
                self.with(key, Connection::close);
                self.ended.push(key);
                self.dirty.push(key);
            }
        }
    }

    /// When [`Front::expire`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.timers.next_deadline()
    }

    fn recount(&mut self) {
        let held = |key| self.connections.get(key).map_or(0, Connection::held);
        self.held = self.connections.keys().into_iter().map(held).sum();
    }

    fn token(&self, tag: u32) -> Token {
        Token { owner: self.owner, tag }
    }
}

//! One log, from any thread.

use std::sync::Arc;

use highwater_base::{Offset, WallMs};
use highwater_runtime::Sender;

use super::EngineError;
use super::gate::Gate;
use super::shard::{Message, Request};
use crate::{Appended, Fetched, LogSettings, Ticket, TimestampOffset};

/// A log of an [`Engine`](crate::Engine). Clone it freely; use it from any thread. Reads never wait for writes
/// of other logs, and see what has been acknowledged, nothing more.
///
/// See [`Engine`](crate::Engine) for an example.
#[derive(Clone, Debug)]
pub struct LogHandle {
    name: Arc<str>,
    owner: u32,
    shard: Sender<Message>,
    gate: Arc<Gate>,
}

/// A log's figures, as of one moment.
///
/// ```
/// use highwater_base::Offset;
/// let facts = highwater_engine::LogFacts { start: Offset::ZERO, end: Offset::new(3), size_bytes: 210, segments: 1 };
/// assert_eq!(facts.end.since(facts.start), 3);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogFacts {
    /// The first offset that may be read.
    pub start: Offset,
    /// The end of what is acknowledged, and so readable.
    pub end: Offset,
    /// Bytes of all segments.
    pub size_bytes: u64,
    /// How many segments.
    pub segments: usize,
}

impl LogHandle {
    pub(super) fn new(name: &str, owner: u32, shard: Sender<Message>, gate: Arc<Gate>) -> LogHandle {
        LogHandle { name: name.into(), owner, shard, gate }
    }

    /// The log's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Appends one record batch (see [`crate::batch::BatchBuilder`]) and waits until it is acknowledged: under
    /// [`Durability::Each`](crate::Durability::Each), until it is on stable storage.
    pub fn append(&self, batch: Vec<u8>) -> Result<Appended, EngineError> {
        self.start_append(batch).wait().ok_or(EngineError::Stopped)?
    }

    /// Like [`LogHandle::append`], without waiting: the ticket may be waited for, polled or awaited. Batches of one
    /// thread are appended in the order of these calls.
    pub fn start_append(&self, batch: Vec<u8>) -> Ticket<Result<Appended, EngineError>> {
        self.ask(|reply| Request::Append { batch, reply })
    }

    /// Reads whole batches from the one that holds `from`: about `max_bytes`, at least one batch if there is one.
    pub fn read(&self, from: Offset, max_bytes: usize) -> Result<Fetched, EngineError> {
        self.ask(|reply| Request::Read { from, max_bytes, reply }).wait().ok_or(EngineError::Stopped)?
    }

    /// Follows the tail: like [`LogHandle::read`], but the ticket is answered only when there is something at `from`.
    /// The reader asks again when it has done its work, so a slow one is never flooded.
    pub fn follow(&self, from: Offset, max_bytes: usize) -> Ticket<Result<Fetched, EngineError>> {
        self.ask(|reply| Request::Follow { from, max_bytes, reply })
    }

    /// The first record whose timestamp is at least `at`, if there is one.
    pub fn find_time(&self, at: WallMs) -> Result<Option<TimestampOffset>, EngineError> {
        self.ask(|reply| Request::FindTime { at, reply }).wait().ok_or(EngineError::Stopped)?
    }

    /// Waits until everything acknowledged so far is on stable storage, whatever the log's durability, and says
    /// up to where.
    pub fn sync(&self) -> Result<Offset, EngineError> {
        self.ask(|reply| Request::Sync { reply }).wait().ok_or(EngineError::Stopped)?
    }

    /// Cuts everything from the batch that holds `to` onwards; says where the log now ends.
    pub fn truncate(&self, to: Offset) -> Result<Offset, EngineError> {
        self.ask(|reply| Request::Truncate { to, reply }).wait().ok_or(EngineError::Stopped)?
    }

    /// Forgets everything below `to`: the log's start is raised at once, whole segments go later.
    pub fn trim(&self, to: Offset) -> Result<Offset, EngineError> {
        self.ask(|reply| Request::Trim { to, reply }).wait().ok_or(EngineError::Stopped)?
    }

    /// The log's figures.
    pub fn facts(&self) -> Result<LogFacts, EngineError> {
        self.ask(|reply| Request::Facts { reply }).wait().ok_or(EngineError::Stopped)?
    }

    pub(super) fn update_settings(&self, settings: LogSettings) -> Result<(), EngineError> {
        self.ask(|reply| Request::Settings { settings: Box::new(settings), reply })
            .wait()
            .ok_or(EngineError::Stopped)?
    }

    pub(super) fn delete(&self) -> Result<(), EngineError> {
        self.ask(|reply| Request::Delete { reply }).wait().ok_or(EngineError::Stopped)?
    }

    /// Sends a request once there is a place for it. A shard that is gone drops the promise, which answers the ticket.
    fn ask<T>(
        &self,
        request: impl FnOnce(super::shard::Reply<T>) -> Request,
    ) -> Ticket<Result<T, EngineError>> {
        let place = self.gate.enter();
        let (promise, ticket) = Ticket::pair();
        let reply = super::shard::Reply::new(promise, place);
        let message = Message::Request { owner: self.owner, request: request(reply) };
        if let Err(full) = self.shard.send(message) {
            // The gate keeps a live shard's mailbox from filling up: this shard is gone.
            drop(full);
        }
        ticket
    }
}

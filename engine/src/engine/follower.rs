//! A reader that goes on where it left off.

use std::time::Duration;

use highwater_base::Offset;

use super::{EngineError, LogHandle, StoredRecord};
use crate::{Fetched, Ticket};

/// Reads a log from an offset to its tail, and goes on as the log grows. It asks for more only when it is called, so
/// a slow one is never flooded; what it has not asked for costs nothing.
///
/// ```
/// use highwater_engine::{Engine, EngineConfig, MemoryDisk, NewRecord, Offset};
/// let engine = Engine::open(EngineConfig::at("data").in_memory(MemoryDisk::new()))?;
/// let log = engine.log("events")?;
/// let mut follower = log.follower(Offset::ZERO);
/// assert!(follower.poll()?.is_empty()); // nothing yet
/// log.append_records([NewRecord::new().value("first")])?;
/// assert_eq!(follower.wait()?[0].value(), b"first"); // or `follower.next().await`
/// assert_eq!(follower.position(), Offset::new(1));
/// # Ok::<(), highwater_engine::EngineError>(())
/// ```
#[derive(Debug)]
pub struct Follower {
    log: LogHandle,
    /// Of the next record to be given.
    position: Offset,
    max_bytes: usize,
    asked: Option<Ticket<Result<Fetched, EngineError>>>,
}

impl Follower {
    pub(super) fn new(log: LogHandle, position: Offset) -> Follower {
        Follower { log, position, max_bytes: 1 << 20, asked: None }
    }

    /// About how many bytes of batches one answer holds; at least one batch. Default 1 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Follower {
        self.max_bytes = bytes;
        self
    }

    /// The offset after the last record given: what to remember, and where to begin after a restart.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Goes on from another offset.
    pub fn seek(&mut self, to: Offset) {
        self.position = to;
        self.asked = None;
    }

    /// The next records; waits until there is at least one. After an error the position is as it was.
    pub fn wait(&mut self) -> Result<Vec<StoredRecord>, EngineError> {
        loop {
            let fetched = self.ask().result()?;
            let records = self.take(fetched)?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }

    /// Like [`Follower::wait`], but none when `limit` has passed without any.
    pub fn wait_for(&mut self, limit: Duration) -> Result<Vec<StoredRecord>, EngineError> {
        match self.ask().wait_for(limit) {
            Ok(answer) => self.take(answer.ok_or(EngineError::Stopped)??),
            Err(ticket) => {
                self.asked = Some(ticket);
                Ok(Vec::new())
            }
        }
    }

    /// The next records, without waiting: none if they are not there yet.
    pub fn poll(&mut self) -> Result<Vec<StoredRecord>, EngineError> {
        match self.ask().poll_now() {
            Ok(answer) => self.take(answer.ok_or(EngineError::Stopped)??),
            Err(ticket) => {
                self.asked = Some(ticket);
                Ok(Vec::new())
            }
        }
    }

    /// Like [`Follower::wait`], for tasks: any executor will do. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Vec<StoredRecord>, EngineError> {
        loop {
            let ticket = self.ask();
            let answer = self.asked.insert(ticket).await;
            self.asked = None;
            let records = self.take(answer.ok_or(EngineError::Stopped)??)?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }

    /// The question under way, or a new one.
    fn ask(&mut self) -> Ticket<Result<Fetched, EngineError>> {
        self.asked.take().unwrap_or_else(|| self.log.follow(self.position, self.max_bytes))
    }

    fn take(&mut self, fetched: Fetched) -> Result<Vec<StoredRecord>, EngineError> {
        let records = fetched.records(self.position).map_err(EngineError::Records)?;
        self.position = fetched.next;
        Ok(records)
    }
}

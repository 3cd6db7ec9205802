//! One log, from any thread.

use std::path::PathBuf;
use std::sync::Arc;

use highwater_base::{Limits, Offset, ProducerEpoch, ProducerId, WallMs};
use highwater_runtime::{Clock, Sender};

use super::gate::{Gate, Place};
use super::records::pack;
use super::shard::{Message, Reply, Request, Wanted, Writer};
use super::{EngineError, EngineMetrics, Follower, LogFacts, LogMetrics, NewRecord, StoredRecord};
use crate::batch::{Marker, marker_batch};
use crate::{Appended, Fetched, Isolation, LogSettings, Ticket, TimestampOffset};

/// A log of an [`Engine`](crate::Engine). Clone it freely; use it from any thread. Reads see what has been acknowledged,
/// nothing more. Readers never wait for writers, nor writers for readers.
///
/// ```
/// use highwater_engine::{Engine, EngineConfig, MemoryDisk, NewRecord, Offset};
/// let engine = Engine::open(EngineConfig::at("data").in_memory(MemoryDisk::new()))?;
/// let log = engine.log("events")?;
/// let first = log.pack([NewRecord::new().key("a").value("1"), NewRecord::new().key("b").value("2")]);
/// let second = log.pack([NewRecord::new().key("a").value("3")]);
/// let ticket = log.start_append(first); // wait for it, poll it, or `.await` it
/// log.append(second)?;
/// assert_eq!(ticket.result()?.end, Offset::new(2));
/// let values: Vec<_> = log.records(Offset::new(1), 1 << 20)?.into_iter().map(|r| r.value).collect();
/// assert_eq!(values, [Some(b"2".to_vec()), Some(b"3".to_vec())]);
/// # Ok::<(), highwater_engine::EngineError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LogHandle {
    name: Arc<str>,
    owner: u32,
    shard: Sender<Message>,
    ways: Arc<Ways>,
    isolation: Isolation,
}

impl<T> Ticket<Result<T, EngineError>> {
    /// Blocks until the answer is there: [`Ticket::wait`], with [`EngineError::Stopped`] for an engine that has stopped
    /// without one.
    pub fn result(self) -> Result<T, EngineError> {
        self.wait().unwrap_or(Err(EngineError::Stopped))
    }
}

/// The ways into an engine's shards, for all its handles.
#[derive(Debug)]
pub(super) struct Ways {
    writers: Arc<Gate>,
    readers: Arc<Gate>,
    clock: Clock,
}

impl Ways {
    /// A quarter of a mailbox for each gate leaves half of it to the engine's own messages.
    pub(super) fn new(limits: &Limits, clock: Clock) -> Ways {
        Ways {
            writers: Arc::new(Gate::new(limits.mailbox / 4, limits.request_bytes)),
            readers: Arc::new(Gate::new(limits.mailbox / 4, 0)),
            clock,
        }
    }

    pub(super) fn measure(&self, metrics: &mut EngineMetrics) {
        let appends = self.writers.in_flight();
        (metrics.appends_in_flight, metrics.append_bytes_in_flight) = (appends.requests, appends.bytes);
        metrics.reads_in_flight = self.readers.in_flight().requests;
    }
}

impl LogHandle {
    pub(super) fn new(name: Arc<str>, owner: u32, shard: Sender<Message>, ways: Arc<Ways>) -> LogHandle {
        LogHandle { name, owner, shard, ways, isolation: Isolation::default() }
    }

    /// The log's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same log, whose reads and followers see what `isolation` says. Without transactions there is no difference.
    /// Default: [`Isolation::ReadCommitted`], in which a transaction that nobody ends holds readers back.
    ///
    /// ```
    /// use highwater_engine::batch::{BatchBuilder, Marker};
    /// use highwater_engine::{Engine, EngineConfig, Isolation, MemoryDisk, Offset, ProducerEpoch, ProducerId};
    /// let engine = Engine::open(EngineConfig::at("data").in_memory(MemoryDisk::new()))?;
    /// let log = engine.log("events")?;
    /// let (producer, epoch) = (ProducerId::new(7), ProducerEpoch::new(0));
    /// let batch = BatchBuilder::new().producer(producer, epoch, 0).transactional().record(1, None, Some(b"v"));
    /// log.append(batch.build())?;
    /// let all = log.isolated(Isolation::ReadUncommitted);
    /// let seen = || Ok::<_, highwater_engine::EngineError>(
    ///     [&log, &all].map(|log| log.records(Offset::ZERO, 1 << 20).map(|records| records.len())));
    /// assert_eq!(seen()?.map(Result::unwrap), [0, 1]); // it is open
    /// log.end_transaction(producer, epoch, Marker::Abort)?;
    /// assert_eq!(seen()?.map(Result::unwrap), [0, 1]); // it was aborted
    /// # Ok::<(), highwater_engine::EngineError>(())
    /// ```
    #[must_use]
    pub fn isolated(&self, isolation: Isolation) -> LogHandle {
        LogHandle { isolation, ..self.clone() }
    }

    /// Appends these records as one batch, all or none, and waits like [`LogHandle::append`]. Records without a
    /// timestamp get this moment's. At least one record, and not more than
    /// [`LogSettings::max_message_bytes`](crate::LogSettings::max_message_bytes) of them.
    pub fn append_records(
        &self,
        records: impl IntoIterator<Item = NewRecord>,
    ) -> Result<Appended, EngineError> {
        self.append(self.pack(records))
    }

    /// These records as one batch, for [`LogHandle::start_append`] and the others. Not compressed: for a codec, or an
    /// idempotent producer, use [`BatchBuilder`](crate::batch::BatchBuilder).
    pub fn pack(&self, records: impl IntoIterator<Item = NewRecord>) -> Vec<u8> {
        pack(records, self.ways.clock.now().wall)
    }

    /// Appends one record batch and waits until it is acknowledged: under
    /// [`Durability::Each`](crate::Durability::Each), until it is on stable storage.
    pub fn append(&self, batch: Vec<u8>) -> Result<Appended, EngineError> {
        self.start_append(batch).result()
    }

    /// Appends several batches, which share writes and syncs, and waits for all. Each is all or nothing, the whole is
    /// not: the first error is returned, and others may have been appended.
    pub fn append_all(
        &self,
        batches: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Vec<Appended>, EngineError> {
        let tickets: Vec<_> = batches.into_iter().map(|batch| self.start_append(batch)).collect();
        let answers: Vec<_> = tickets.into_iter().map(Ticket::result).collect();
        answers.into_iter().collect()
    }

    /// Like [`LogHandle::append`], without waiting for the acknowledgement: the ticket may be waited for, polled or
    /// awaited. Batches of one thread are appended in the order of these calls. Waits while
    /// [`Limits::request_bytes`] of appends, or a quarter of [`Limits::mailbox`], are in flight in this engine.
    pub fn start_append(&self, batch: Vec<u8>) -> Ticket<Result<Appended, EngineError>> {
        let place = self.ways.writers.enter(batch.len());
        self.ask(place, |reply| Request::Append { batch, from: Writer::Client, reply })
    }

    /// Like [`LogHandle::start_append`], but where that would wait, the batch comes back: for tasks, which must not
    /// block. Try again when an append in flight has been answered.
    pub fn try_append(&self, batch: Vec<u8>) -> Result<Ticket<Result<Appended, EngineError>>, Vec<u8>> {
        match self.ways.writers.try_enter(batch.len()) {
            Some(place) => {
                Ok(self.ask(place, |reply| Request::Append { batch, from: Writer::Client, reply }))
            }
            None => Err(batch),
        }
    }

    /// Ends the open transaction of a producer whose batches were built with
    /// [`BatchBuilder::transactional`](crate::batch::BatchBuilder::transactional), by a marker, and waits like
    /// [`LogHandle::append`]. An older epoch than the producer's is refused; a newer one fences it.
    pub fn end_transaction(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        how: Marker,
    ) -> Result<Appended, EngineError> {
        let batch = marker_batch(how, producer, epoch, 0, self.ways.clock.now().wall);
        let place = self.ways.writers.enter(batch.len());
        self.ask(place, |reply| Request::Append { batch, from: Writer::Coordinator, reply }).result()
    }

    /// Reads whole batches from the one that holds `from`: about `max_bytes`, at least one batch if there is one. The
    /// bytes are never copied; [`Fetched::records`] takes the records out of them.
    pub fn read(&self, from: Offset, max_bytes: usize) -> Result<Fetched, EngineError> {
        self.start_read(from, max_bytes).result()
    }

    /// Like [`LogHandle::read`], without waiting for the disk.
    pub fn start_read(&self, from: Offset, max_bytes: usize) -> Ticket<Result<Fetched, EngineError>> {
        let wanted = Wanted { from, max_bytes, isolation: self.isolation };
        self.ask(self.ways.readers.enter(0), |reply| Request::Read { wanted, reply })
    }

    /// The records at and after `from`: about `max_bytes` of batches; none only if there is nothing more to see.
    pub fn records(&self, from: Offset, max_bytes: usize) -> Result<Vec<StoredRecord>, EngineError> {
        let mut at = from;
        loop {
            let fetched = self.read(at, max_bytes)?;
            let records = fetched.records(from).map_err(EngineError::Records)?;
            // Batches with nothing to see are passed over: markers, what was aborted, what compaction emptied.
            if !records.is_empty() || fetched.next <= at {
                return Ok(records);
            }
            at = fetched.next;
        }
    }

    /// Follows the tail: like [`LogHandle::start_read`], but the ticket is answered only when there is something at
    /// `from`. The reader asks again when it has done its work, so a slow one is never flooded. At most
    /// [`Limits::parked`] may wait at once; a ticket that is dropped waits no more.
    pub fn follow(&self, from: Offset, max_bytes: usize) -> Ticket<Result<Fetched, EngineError>> {
        let wanted = Wanted { from, max_bytes, isolation: self.isolation };
        self.ask(self.ways.readers.enter(0), |reply| Request::Follow { wanted, reply })
    }

    /// A reader that begins at `from` and goes on where it left off.
    pub fn follower(&self, from: Offset) -> Follower {
        Follower::new(self.clone(), from)
    }

    /// The first record whose timestamp is at least `at`, if there is one.
    pub fn find_time(&self, at: WallMs) -> Result<Option<TimestampOffset>, EngineError> {
        self.wait_for(|reply| Request::FindTime { at, reply })
    }

    /// Waits until everything taken so far is on stable storage, whatever the log's durability, and says up to where.
    pub fn sync(&self) -> Result<Offset, EngineError> {
        self.wait_for(|reply| Request::Sync { reply })
    }

    /// Cuts everything from the batch that holds `to` onwards; says where the log now ends.
    pub fn truncate(&self, to: Offset) -> Result<Offset, EngineError> {
        self.wait_for(|reply| Request::Truncate { to, reply })
    }

    /// Forgets everything below `to`, at most up to the acknowledged end, and says where the log now begins. When this
    /// returns, a power cut does not bring anything back; whole segments go a little later.
    pub fn trim(&self, to: Offset) -> Result<Offset, EngineError> {
        self.wait_for(|reply| Request::Trim { to, reply })
    }

    /// Compacts what can be compacted now, if the settings ask for compaction
    /// ([`LogSettings::compaction`](crate::LogSettings)), and says up to where that is done when it is. Without this a shard
    /// compacts its logs by itself, now and then. Only segments that are complete, acknowledged and behind a checkpoint
    /// are.
    pub fn compact(&self) -> Result<Offset, EngineError> {
        self.wait_for(|reply| Request::Compact { reply })
    }

    /// The log's state.
    pub fn facts(&self) -> Result<LogFacts, EngineError> {
        self.wait_for(|reply| Request::Facts { reply })
    }

    /// The log's directory, with its files in Apache Kafka's format: to look at, not to write to. With the feature
    /// `map`, `Mapping` shows a sealed segment without reading it, as long as retention leaves it.
    pub fn directory(&self) -> Result<PathBuf, EngineError> {
        self.wait_for(|reply| Request::Directory { reply })
    }

    /// What went through the log since it was opened.
    pub fn metrics(&self) -> Result<LogMetrics, EngineError> {
        self.wait_for(|reply| Request::Metrics { reply })
    }

    pub(super) fn update_settings(&self, settings: LogSettings) -> Result<(), EngineError> {
        self.wait_for(|reply| Request::Settings { settings: Box::new(settings), reply })
    }

    pub(super) fn move_to(
        &self,
        directory: PathBuf,
        bytes_per_second: u64,
    ) -> Ticket<Result<(), EngineError>> {
        let request =
            |reply: Reply<()>| Request::Move { directory, bytes_per_second, reply: reply.leaving() };
        self.ask(self.ways.readers.enter(0), request)
    }

    pub(super) fn delete(&self) -> Result<(), EngineError> {
        self.wait_for(|reply| Request::Delete { reply })
    }

    fn wait_for<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, EngineError> {
        self.ask(self.ways.readers.enter(0), request).result()
    }

    /// Sends a request that has its place. A shard that is gone drops the promise, which answers the ticket.
    fn ask<T>(
        &self,
        place: Place,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Ticket<Result<T, EngineError>> {
        let (promise, ticket) = Ticket::pair();
        let message = Message::Request { owner: self.owner, request: request(Reply::new(promise, place)) };
        // The gates keep the mailbox from filling up; were it full, dropping the message would answer the ticket.
        drop(self.shard.send(message));
        ticket
    }
}

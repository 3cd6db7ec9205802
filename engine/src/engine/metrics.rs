//! Figures as plain values.

use highwater_base::Offset;

/// A log's state, as of one moment.
///
/// ```
/// use highwater_engine::{Engine, EngineConfig, MemoryDisk, NewRecord};
/// let engine = Engine::open(EngineConfig::at("data").in_memory(MemoryDisk::new()))?;
/// let log = engine.log("orders")?;
/// log.append_records([NewRecord::new().value("a"), NewRecord::new().value("b")])?;
/// let facts = log.facts()?;
/// assert_eq!((facts.end.since(facts.start), facts.segments, facts.no_space), (2, 1, false));
/// # Ok::<(), highwater_engine::EngineError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LogFacts {
    /// The first offset that may be read.
    pub start: Offset,
    /// The end of what is acknowledged, and so readable. Exclusive, like the other two.
    pub end: Offset,
    /// The end of what is on stable storage.
    pub synced_end: Offset,
    /// The end of what was taken, acknowledged or not.
    pub log_end: Offset,
    /// Bytes of all segments.
    pub size_bytes: u64,
    /// How many segments.
    pub segments: usize,
    /// The device is full: appends are refused.
    pub no_space: bool,
}

/// What went through a log since it was opened, and what waits in it now.
///
/// ```
/// use highwater_engine::{Engine, EngineConfig, MemoryDisk, NewRecord, Offset};
/// let engine = Engine::open(EngineConfig::at("data").in_memory(MemoryDisk::new()))?;
/// let log = engine.log("orders")?;
/// log.append_records([NewRecord::new().value("a"), NewRecord::new().value("b")])?;
/// let read = log.read(Offset::ZERO, 1 << 20)?;
/// let metrics = log.metrics()?;
/// assert_eq!((metrics.appended_batches, metrics.appended_records), (1, 2));
/// assert_eq!(metrics.read_bytes, read.len() as u64);
/// assert_eq!(engine.metrics()?.logs, 1);
/// # Ok::<(), highwater_engine::EngineError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LogMetrics {
    /// Batches acknowledged, duplicates not counted.
    pub appended_batches: u64,
    /// Records in them.
    pub appended_records: u64,
    /// Their bytes.
    pub appended_bytes: u64,
    /// Batches refused, whatever for.
    pub refused_batches: u64,
    /// Those of them in which a record's time lies too far in the past or the future.
    pub refused_times: u64,
    /// Reads answered, also those with nothing in them.
    pub reads: u64,
    /// Bytes of batches that they gave.
    pub read_bytes: u64,
    /// Bytes of sealed segments that the scrubber has read.
    pub scrubbed_bytes: u64,
    /// How often it has read all of them.
    pub scrub_rounds: u64,
    /// Slices in which it found rot, or which could not be read.
    pub rotten_slices: u64,
    /// Segments that began in a file that had been another segment (`docs/decisions/0010`).
    pub segments_recycled: u64,
    /// Appends that wait for the disk now.
    pub waiting_appends: usize,
    /// Readers that wait at the tail now.
    pub waiting_readers: usize,
}

impl LogMetrics {
    pub(super) fn add(&mut self, other: &LogMetrics) {
        self.appended_batches += other.appended_batches;
        self.appended_records += other.appended_records;
        self.appended_bytes += other.appended_bytes;
        self.refused_batches += other.refused_batches;
        self.reads += other.reads;
        self.read_bytes += other.read_bytes;
        self.scrubbed_bytes += other.scrubbed_bytes;
        self.scrub_rounds += other.scrub_rounds;
        self.rotten_slices += other.rotten_slices;
        self.segments_recycled += other.segments_recycled;
        self.waiting_appends += other.waiting_appends;
        self.waiting_readers += other.waiting_readers;
    }
}

/// An engine's figures, all logs together.
///
/// See [`LogMetrics`] for an example.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct EngineMetrics {
    /// Logs that are open.
    pub logs: usize,
    /// Sums over them.
    pub total: LogMetrics,
    /// Appends asked for and not answered.
    pub appends_in_flight: usize,
    /// Bytes of their batches.
    pub append_bytes_in_flight: usize,
    /// Other requests asked for and not answered; readers that wait at the tail are not counted.
    pub reads_in_flight: usize,
}

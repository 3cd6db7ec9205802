//! What a log is told about itself: durability, sizes, times, limits. Checked once, then plain values.

use std::fmt;

use highwater_base::{BLOCK, Limits, Mutant};

use crate::batch::{Codec, TimestampType};
use crate::compact::CompactionSettings;

/// What an acknowledged append survives. Named for what it promises.
///
/// ```
/// assert_eq!(highwater_engine::Durability::default(), highwater_engine::Durability::Each);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Each append is on stable storage before it is acknowledged. The default.
    #[default]
    Each,
    /// Acknowledged once the operating system has it; synced before any of these is exceeded, so that a
    /// power cut loses no more than that.
    Interval {
        /// Bytes appended since the last sync.
        bytes: u64,
        /// Records appended since the last sync (Kafka's `flush.messages`).
        messages: u64,
        /// Milliseconds since the first append after the last sync (Kafka's `flush.ms`).
        ms: u64,
    },
    /// Acknowledged once the operating system has it; synced when a segment ends and at a checkpoint.
    /// A power cut may lose more: Kafka's way.
    Os,
}

/// How much of a batch is looked at when it arrives, besides its header and its checksum.
///
/// ```
/// assert_eq!(highwater_engine::RecordCheck::default(), highwater_engine::RecordCheck::Records);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RecordCheck {
    /// The records too, unpacked as a bounded stream of which nothing is kept. What a broker does.
    #[default]
    Records,
    /// Header and checksum only: for embedders who make their batches themselves.
    Header,
}

/// How space is prepared ahead of the write position. No write of the append path extends a file.
///
/// ```
/// assert_eq!(highwater_engine::Preallocate::default(), highwater_engine::Preallocate::Ahead);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Preallocate {
    /// In steps that grow with use: reserved blocks, or written ones where each append is synced. The default.
    #[default]
    Ahead,
    /// A whole segment at once, as written blocks (zeros): each byte is written twice, but the second write is
    /// faster, and a sync of it is a flush of the device without a journal commit. For logs whose latency
    /// matters more than their space (Kafka's `preallocate=true`).
    Written,
}

/// A log's settings.
///
/// ```
/// use highwater_engine::{Durability, LogSettings};
/// let settings = LogSettings { durability: Durability::Os, ..LogSettings::default() };
/// settings.check().unwrap();
/// assert_eq!(settings.segment_bytes, 1 << 30);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LogSettings {
    /// What an acknowledgement promises. Default [`Durability::Each`].
    pub durability: Durability,
    /// A segment rolls before it would exceed this many bytes; 1,024 to 2,147,483,647. Default 1 GiB.
    pub segment_bytes: u64,
    /// A segment rolls when it spans more than this many milliseconds; at least 1. Default 7 days.
    pub segment_ms: u64,
    /// One index entry for at least so many bytes. Default 4,096.
    pub index_interval_bytes: u64,
    /// Largest offset or time index, in bytes; a full one rolls the segment; at least 36. Default 10 MiB.
    pub index_bytes: u64,
    /// Records older than this many milliseconds may go; `None`: never. Default never (a broker's topics: 7 days).
    pub retention_ms: Option<u64>,
    /// The oldest segments may go while the log stays at least this many bytes; `None`: no limit. Default none.
    pub retention_bytes: Option<u64>,
    /// Keep the latest record of each key, and let older ones go; `None`: not compacted. Records without a key are then
    /// refused. Age and size are reasons to go as well unless they are `None`. Default none.
    pub compaction: Option<CompactionSettings>,
    /// The codec that batches of clients are stored with: those that come otherwise are packed anew. `None`: each as it comes.
    /// Needs that codec's feature. Default none.
    pub compression: Option<Codec>,
    /// How often retention is considered, in milliseconds. Default 5 minutes.
    pub retention_check_ms: u64,
    /// How long a deleted file keeps its space, in milliseconds. Default 60,000.
    pub file_delete_delay_ms: u64,
    /// Largest batch a client may append, in bytes, its 12 bytes of overhead included. Default 1,048,588.
    pub max_message_bytes: usize,
    /// Whose timestamps records carry. Default the producer's.
    pub timestamps: TimestampType,
    /// How far in the past a producer's timestamp may lie, in milliseconds. Default `i64::MAX`, no limit.
    pub timestamp_before_max_ms: i64,
    /// How far in the future a producer's timestamp may lie, in milliseconds. Default one hour.
    pub timestamp_after_max_ms: i64,
    /// An idempotent producer without an open transaction is forgotten after this many milliseconds. Default a day.
    pub producer_expiration_ms: u64,
    /// How much of each arriving batch is looked at. Default the records too.
    pub records: RecordCheck,
    /// How space is prepared. Default in steps.
    pub preallocate: Preallocate,
    /// Bypass the page cache where the file system allows it. Default true.
    pub direct: bool,
    /// A checkpoint is written this many milliseconds after something new was synced, if not sooner by
    /// [`Limits::checkpoint_bytes`]. Default 5,000.
    pub checkpoint_ms: u64,
    /// Appends are refused, with [`crate::AppendError::NoSpace`], while the file system that holds the log has fewer
    /// bytes than this free: its low-water mark. They are taken again by themselves once an eighth more is free. Give all
    /// logs of a directory the same. Default 0: only the file system refuses.
    pub min_free_bytes: u64,
    /// Bytes of the log's sealed segments that are read and compared with their seals each day, in slices of 1 MiB spread
    /// over it; 0: none. Default 1 GiB.
    pub scrub_bytes_a_day: u64,
    /// A rule weakened on purpose; tests only. Default none.
    pub mutant: Mutant,
    /// How much of everything. Default [`Limits::PRODUCTION`].
    pub limits: Limits,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            durability: Durability::Each,
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            index_interval_bytes: 4096,
            index_bytes: 10 << 20,
            retention_ms: None,
            retention_bytes: None,
            compaction: None,
            compression: None,
            retention_check_ms: 300_000,
            file_delete_delay_ms: 60_000,
            max_message_bytes: (1 << 20) + 12,
            timestamps: TimestampType::Create,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            producer_expiration_ms: 24 * 3_600_000,
            records: RecordCheck::Records,
            preallocate: Preallocate::Ahead,
            direct: true,
            checkpoint_ms: 5_000,
            min_free_bytes: 0,
            scrub_bytes_a_day: 1 << 30,
            mutant: Mutant::None,
            limits: Limits::PRODUCTION,
        }
    }
}

/// A setting outside its bounds.
///
/// ```
/// use highwater_engine::LogSettings;
/// let wrong = LogSettings { segment_bytes: 3, ..LogSettings::default() }.check().unwrap_err();
/// assert_eq!(wrong.setting, "segment_bytes");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingError {
    /// The field's name.
    pub setting: &'static str,
    /// What was given.
    pub found: u64,
    /// The smallest value allowed.
    pub min: u64,
    /// The largest value allowed.
    pub max: u64,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SettingError { setting, found, min, max } = self;
        write!(f, "setting {setting} is {found}, expected {min} to {max}")
    }
}

impl std::error::Error for SettingError {}

impl LogSettings {
    /// A segment rolls when it spans more than this many milliseconds: at the latest when what it holds must be
    /// compacted.
    pub(crate) fn roll_ms(&self) -> u64 {
        self.compaction.map_or(self.segment_ms, |compaction| self.segment_ms.min(compaction.max_lag_ms))
    }

    /// Whether every value lies within its bounds.
    pub fn check(&self) -> Result<(), SettingError> {
        let within = |setting, found: u64, min: u64, max: u64| {
            if (min..=max).contains(&found) { Ok(()) } else { Err(SettingError { setting, found, min, max }) }
        };
        within("segment_bytes", self.segment_bytes, 1024, i32::MAX as u64)?;
        within("segment_ms", self.segment_ms, 1, u64::MAX)?;
        if let Some(compaction) = self.compaction {
            within("compaction.max_lag_ms", compaction.max_lag_ms, 1, u64::MAX)?;
            let ratio = (compaction.min_dirty_ratio * 100.0) as u64;
            within("compaction.min_dirty_ratio (hundredths)", ratio, 0, 100)?;
        }
        within("index_bytes", self.index_bytes, 36, i32::MAX as u64)?;
        within("limits.write_bytes", self.limits.write_bytes as u64, BLOCK, 1 << 30)?;
        within("limits.read_bytes", self.limits.read_bytes as u64, 2 * BLOCK, 1 << 30)?;
        within("limits.chunk_bytes", self.limits.chunk_bytes as u64, BLOCK, 1 << 30)?;
        within("limits.small_chunk_bytes", self.limits.small_chunk_bytes as u64, BLOCK, 1 << 30)?;
        within("limits.writes_in_flight", self.limits.writes_in_flight as u64, 1, 1024)?;
        within("limits.unsynced_bytes", self.limits.unsynced_bytes as u64, 2 * BLOCK, 1 << 30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_tiny_limits_are_within_bounds() {
        LogSettings::default().check().unwrap();
        LogSettings { limits: Limits::TINY, ..LogSettings::default() }.check().unwrap();
    }
}

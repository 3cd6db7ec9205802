//! Why a batch was refused, and which Kafka error says so.

use std::fmt;

use super::{CompressionError, CompressionFault, FrameError, RecordError, TimestampType};

/// Most faulty records named in one answer.
pub const MOST_FAULTS: usize = 100;

/// Why a batch was refused on arrival, or cannot be read.
///
/// ```
/// use highwater_engine::batch::BatchError;
/// let e = BatchError::TooLarge { found: 2_000_000, limit: 1_048_588 };
/// assert_eq!(e.kafka_code(), 10);
/// assert!(e.to_string().contains("max.message.bytes"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BatchError {
    /// No whole batch: the bytes end before it does.
    Partial {
        /// How many bytes there are.
        found: usize,
    },
    /// No batch at all.
    Frame(FrameError),
    /// Of an older format, which cannot be produced any more.
    Magic {
        /// The magic; 2 was expected.
        found: i8,
    },
    /// More than one batch.
    Several {
        /// Size of the first.
        first: usize,
        /// Size of all.
        total: usize,
    },
    /// A client numbers its records from 0.
    BaseOffset {
        /// What it wrote.
        found: i64,
    },
    /// Larger than `max.message.bytes`.
    TooLarge {
        /// Its size with the 12 bytes before the length's count.
        found: usize,
        /// `max.message.bytes`.
        limit: usize,
    },
    /// Larger than a whole segment.
    LargerThanSegment {
        /// Its size.
        found: usize,
        /// `segment.bytes`.
        limit: usize,
    },
    /// The checksum differs.
    Checksum {
        /// As stored in the batch.
        expected: u32,
        /// As the bytes have it.
        found: u32,
    },
    /// Count of records and range of offsets disagree, or there is no record.
    Count {
        /// By the header's last offset delta.
        expected: i64,
        /// The header's count.
        found: i32,
    },
    /// A client may not write control batches.
    Control,
    /// A producer id needs a sequence.
    Sequence {
        /// The producer.
        producer: i64,
        /// The base sequence.
        found: i32,
    },
    /// A codec id that means nothing.
    Codec {
        /// The id; 0 to 4 were expected.
        found: u8,
    },
    /// A record cannot be decoded.
    Record(RecordError),
    /// The records cannot be unpacked.
    Compression(CompressionError),
    /// Records without a key in a compacted topic.
    MissingKey(Faults),
    /// Timestamps outside the topic's bounds.
    Timestamp {
        /// `message.timestamp.before.max.ms`.
        before_max_ms: i64,
        /// `message.timestamp.after.max.ms`.
        after_max_ms: i64,
        /// The broker's clock.
        now_ms: i64,
        /// Whose; each with its timestamp.
        faults: Faults,
    },
    /// A producer may not say LogAppendTime here.
    TimestampType {
        /// The topic's `message.timestamp.type`.
        topic: TimestampType,
    },
    /// A record's offset delta lies outside the batch.
    OffsetDelta {
        /// The record, counted from 0.
        record: i32,
        /// Its delta.
        found: i32,
        /// The header's last offset delta.
        last: i32,
    },
}

/// The first hundred faulty records of a batch and how many there are.
///
/// ```
/// use highwater_engine::batch::Faults;
/// assert_eq!(Faults::default().total(), 0);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    named: Vec<(i32, i64)>,
    total: u32,
}

impl Faults {
    /// How many records are faulty.
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// The first of them: number in the batch from 0, and timestamp.
    pub fn named(&self) -> &[(i32, i64)] {
        &self.named
    }

    pub(super) fn add(&mut self, record: i32, timestamp: i64) {
        self.total += 1;
        if self.named.len() < MOST_FAULTS {
            self.named.push((record, timestamp));
        }
    }
}

impl BatchError {
    /// The wire code of the Kafka error that a producer is told.
    pub const fn kafka_code(&self) -> i16 {
        const CORRUPT_MESSAGE: i16 = 2;
        const MESSAGE_TOO_LARGE: i16 = 10;
        const RECORD_LIST_TOO_LARGE: i16 = 18;
        const INVALID_TIMESTAMP: i16 = 32;
        const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
        const INVALID_RECORD: i16 = 87;
        match self {
            BatchError::Partial { .. } | BatchError::Frame(_) | BatchError::Checksum { .. } => {
                CORRUPT_MESSAGE
            }
            BatchError::Compression(CompressionError { fault: CompressionFault::NotCompiledIn, .. }) => {
                UNSUPPORTED_COMPRESSION_TYPE
            }
            BatchError::Compression(_) => CORRUPT_MESSAGE,
            BatchError::TooLarge { .. } => MESSAGE_TOO_LARGE,
            BatchError::LargerThanSegment { .. } => RECORD_LIST_TOO_LARGE,
            BatchError::Timestamp { .. } | BatchError::TimestampType { .. } => INVALID_TIMESTAMP,
            BatchError::Magic { .. }
            | BatchError::Several { .. }
            | BatchError::BaseOffset { .. }
            | BatchError::Count { .. }
            | BatchError::Control
            | BatchError::Sequence { .. }
            | BatchError::Codec { .. }
            | BatchError::Record(_)
            | BatchError::MissingKey(_)
            | BatchError::OffsetDelta { .. } => INVALID_RECORD,
        }
    }

    /// The faulty records, where the error is about single ones: for the `record_errors` of an answer.
    pub fn faults(&self) -> &[(i32, i64)] {
        match self {
            BatchError::MissingKey(faults) | BatchError::Timestamp { faults, .. } => faults.named(),
            _ => &[],
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Partial { found } => write!(f, "no whole batch in {found} bytes"),
            BatchError::Frame(error) => error.fmt(f),
            BatchError::Magic { found } => {
                write!(f, "record format {found} cannot be produced, expected 2")
            }
            BatchError::Several { first, total } => {
                write!(f, "expected exactly one batch, found {} bytes behind the first", total - first)
            }
            BatchError::BaseOffset { found } => write!(f, "a producer's base offset is {found}, expected 0"),
            BatchError::TooLarge { found, limit } => {
                write!(f, "a batch of {found} bytes is above max.message.bytes, which is {limit}")
            }
            BatchError::LargerThanSegment { found, limit } => {
                write!(f, "a batch of {found} bytes is above segment.bytes, which is {limit}")
            }
            BatchError::Checksum { expected, found } => {
                write!(f, "the batch says CRC-32C {expected:08x}, its bytes have {found:08x}")
            }
            BatchError::Count { expected, found } => {
                write!(f, "the batch spans {expected} offsets and says it has {found} records")
            }
            BatchError::Control => f.write_str("clients may not write control batches"),
            BatchError::Sequence { producer, found } => {
                write!(f, "producer {producer} gave the base sequence {found}, expected 0 or more")
            }
            BatchError::Codec { found } => write!(f, "codec {found} is unknown, expected 0 to 4"),
            BatchError::Record(error) => error.fmt(f),
            BatchError::Compression(error) => error.fmt(f),
            BatchError::MissingKey(faults) => {
                write!(f, "{} records without a key, which a compacted topic needs", faults.total())
            }
            BatchError::Timestamp { before_max_ms, after_max_ms, now_ms, faults } => write!(
                f,
                "{} timestamps are not within {before_max_ms} ms before and {after_max_ms} ms after the \
                 broker's time {now_ms}; the first is {}",
                faults.total(),
                faults.named.first().map_or(-1, |fault| fault.1)
            ),
            BatchError::TimestampType { topic } => write!(
                f,
                "the producer marked the batch LogAppendTime; the topic's message.timestamp.type is {}",
                topic.name()
            ),
            BatchError::OffsetDelta { record, found, last } => {
                write!(f, "record {record} has the offset delta {found}, expected 0 to {last}")
            }
        }
    }
}

impl std::error::Error for BatchError {}

impl From<FrameError> for BatchError {
    fn from(error: FrameError) -> BatchError {
        BatchError::Frame(error)
    }
}

impl From<RecordError> for BatchError {
    fn from(error: RecordError) -> BatchError {
        BatchError::Record(error)
    }
}

impl From<CompressionError> for BatchError {
    fn from(error: CompressionError) -> BatchError {
        BatchError::Compression(error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Codec;
    use super::*;

    #[test]
    fn a_codec_that_is_not_compiled_in_is_unsupported_not_corrupt() {
        let error =
            BatchError::from(CompressionError { codec: Codec::Zstd, fault: CompressionFault::NotCompiledIn });
        assert_eq!(error.kafka_code(), 76);
        let text = error.to_string();
        assert_eq!(
            text,
            "the codec zstd is not compiled in: build with the feature \"zstd\" of highwater-engine"
        );
    }
}

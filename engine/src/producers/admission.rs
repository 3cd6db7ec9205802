//! May this producer's batch be appended? Kafka's rules, in Kafka's order.

use std::fmt;

use highwater_base::{Mutant, Offset, ProducerId, WallMs};

use super::{ProducerBatch, Producers};
use crate::batch::Writer;

/// What to do with a batch.
///
/// ```
/// use highwater_engine::producers::Admission;
/// assert_ne!(Admission::Append, Admission::Duplicate {
///     first_offset: highwater_base::Offset::ZERO,
///     last_offset: highwater_base::Offset::ZERO,
///     timestamp: highwater_base::WallMs::NONE,
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Append it.
    Append,
    /// It was appended before: answer with what was answered then, write nothing.
    Duplicate {
        /// Its first offset then.
        first_offset: Offset,
        /// Its last offset then.
        last_offset: Offset,
        /// Its largest timestamp then.
        timestamp: WallMs,
    },
}

/// Why a producer's batch was refused.
///
/// ```
/// use highwater_base::ProducerId;
/// use highwater_engine::producers::ProducerError;
/// let e = ProducerError::Sequence { producer: ProducerId::new(1), epoch: 0, expected: 5, found: 9 };
/// assert_eq!(e.kafka_code(), 45);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProducerError {
    /// A newer incarnation of this producer has written here.
    Fenced {
        /// Whose.
        producer: ProducerId,
        /// The epoch known here.
        expected: i16,
        /// The batch's epoch.
        found: i16,
    },
    /// Records are missing before this batch, or it is older than the last five.
    Sequence {
        /// Whose.
        producer: ProducerId,
        /// Its epoch.
        epoch: i16,
        /// The sequence that comes next.
        expected: i32,
        /// The batch's first sequence.
        found: i32,
    },
    /// A batch outside a transaction while this producer has one open here.
    OpenTransaction {
        /// Whose.
        producer: ProducerId,
        /// Where its transaction began.
        since: Offset,
    },
    /// A marker of a coordinator that has been replaced.
    Coordinator {
        /// Whose.
        producer: ProducerId,
        /// The coordinator's epoch known here.
        expected: i32,
        /// The marker's.
        found: i32,
    },
}

impl ProducerError {
    /// The wire code of the Kafka error that says this.
    pub const fn kafka_code(&self) -> i16 {
        match self {
            ProducerError::Sequence { .. } => 45, // OUT_OF_ORDER_SEQUENCE_NUMBER
            ProducerError::Fenced { .. } => 47,   // INVALID_PRODUCER_EPOCH
            ProducerError::OpenTransaction { .. } => 48, // INVALID_TXN_STATE
            ProducerError::Coordinator { .. } => 52, // TRANSACTION_COORDINATOR_FENCED
        }
    }
}

impl fmt::Display for ProducerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProducerError::Fenced { producer, expected, found } => {
                write!(f, "producer {producer}: epoch {found}, expected {expected} or above")
            }
            ProducerError::Sequence { producer, epoch, expected, found } => write!(
                f,
                "producer {producer} in epoch {epoch}: sequence {found}, expected {expected}, or one of its \
                 last five batches again"
            ),
            ProducerError::OpenTransaction { producer, since } => write!(
                f,
                "producer {producer} wrote outside its transaction, which is open since offset {since}"
            ),
            ProducerError::Coordinator { producer, expected, found } => write!(
                f,
                "a marker for producer {producer} of coordinator epoch {found}, expected {expected} or above"
            ),
        }
    }
}

impl std::error::Error for ProducerError {}

impl Producers {
    /// Judges a batch that is about to be appended; changes nothing. Replicated batches are never refused: their
    /// leader has judged.
    pub fn check(&self, batch: &ProducerBatch, writer: Writer) -> Result<Admission, ProducerError> {
        let judged = writer != Writer::Replica || self.mutant == Mutant::ReplicaSequences;
        let Some(entry) = self.get(batch.producer_id).filter(|_| judged) else {
            return Ok(Admission::Append);
        };
        let client = writer == Writer::Client || self.mutant == Mutant::ReplicaSequences;
        let producer = batch.producer_id;
        let same_epoch = batch.epoch == entry.epoch();
        if writer == Writer::Client && same_epoch && batch.marker.is_none() {
            let known = entry.batches().iter().find(|known| {
                known.first_sequence() == batch.base_sequence && known.last_sequence == batch.last_sequence
            });
            if let Some(known) = known {
                return Ok(Admission::Duplicate {
                    first_offset: known.first_offset(),
                    last_offset: known.last_offset,
                    timestamp: known.timestamp,
                });
            }
        }
        if batch.epoch < entry.epoch() && self.mutant != Mutant::OldEpochAccepted {
            let (expected, found) = (entry.epoch().get(), batch.epoch.get());
            return Err(ProducerError::Fenced { producer, expected, found });
        }
        if let Some(marker) = batch.marker {
            let empty = self.mutant == Mutant::EmptyAbortFences && entry.open_transaction().is_none();
            if empty || (same_epoch && self.mutant == Mutant::MarkerNeedsNewerEpoch) {
                let (expected, found) = (entry.epoch().get() + 1, batch.epoch.get());
                return Err(ProducerError::Fenced { producer, expected, found });
            }
            if marker.coordinator_epoch < entry.coordinator_epoch() {
                let (expected, found) = (entry.coordinator_epoch(), marker.coordinator_epoch);
                return Err(ProducerError::Coordinator { producer, expected, found });
            }
            return Ok(Admission::Append);
        }
        // Without an epoch nothing is known (its records are gone): any sequence may follow.
        if client && entry.epoch().is_some() {
            let in_sequence = match self.mutant {
                Mutant::OldEpochAccepted if !same_epoch => true,
                Mutant::SequenceDoesNotWrap if same_epoch => {
                    batch.base_sequence == entry.last_sequence().wrapping_add(1)
                }
                _ if same_epoch => entry.is_next(batch.base_sequence),
                _ => batch.base_sequence == 0,
            };
            if !in_sequence {
                let expected =
                    if same_epoch { crate::batch::add_sequence(entry.last_sequence(), 1) } else { 0 };
                let (epoch, found) = (batch.epoch.get(), batch.base_sequence);
                return Err(ProducerError::Sequence { producer, epoch, expected, found });
            }
        }
        match entry.open_transaction() {
            Some(since) if !batch.transactional => Err(ProducerError::OpenTransaction { producer, since }),
            _ => Ok(Admission::Append),
        }
    }
}

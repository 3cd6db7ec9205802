//! Kafka's error codes, assigned in one place: every error of the crates below becomes a [`Refusal`] here.

use highwater_base::Offset;
use highwater_control::ControlError;
use highwater_engine::AppendError;
use highwater_engine::batch::BatchError;
use highwater_replication::PartitionError;
use highwater_wire::ErrorCode;

/// Why something was not done, in the words of the protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    /// Kafka's code.
    pub(crate) code: ErrorCode,
    /// For people; null on the wire if there is nothing to add to the code.
    pub(crate) message: Option<String>,
    /// The offending records of a refused batch: their index in it, and why. Empty but for Produce.
    pub(crate) records: Vec<(i32, String)>,
    /// The log start, where Kafka tells it with an error of Produce.
    pub(crate) log_start: Option<Offset>,
}

impl Refusal {
    /// A bare code.
    pub(crate) fn code(code: ErrorCode) -> Refusal {
        Refusal { code, message: None, records: Vec::new(), log_start: None }
    }

    /// A code and why.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: Some(message.into()), records: Vec::new(), log_start: None }
    }

    /// As the answer of a Produce to a log that starts here: Kafka tells the log start with what it finds wrong inside the log,
    /// but for these few errors (its ReplicaManager's `appendRecordsToLeader`).
    pub(crate) fn of_produce(self, log_start: Offset) -> Refusal {
        let told = !matches!(
            self.code,
            ErrorCode::CorruptMessage
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::MessageTooLarge
                | ErrorCode::RecordListTooLarge
                | ErrorCode::KafkaStorageError
        );
        Refusal { log_start: told.then_some(log_start), ..self }
    }

    /// A reply of another kind than the call has: a bug, told to the client rather than hidden.
    pub(crate) fn unexpected(what: &str) -> Refusal {
        Refusal::new(
            ErrorCode::UnknownServerError,
            format!("expected a reply to {what}, found one to another call"),
        )
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Refusal {
        let code = ErrorCode::from_code(error.kafka_code()).unwrap_or(ErrorCode::UnknownServerError);
        Refusal::new(code, error.to_string())
    }
}

impl From<PartitionError> for Refusal {
    fn from(error: PartitionError) -> Refusal {
        let (code, records) = match &error {
            PartitionError::Append(AppendError::Batch(batch)) => (batch.kafka_code(), faults(batch)),
            PartitionError::Append(AppendError::Producer(producer)) => (producer.kafka_code(), Vec::new()),
            other => (other.kafka_code(), Vec::new()),
        };
        let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
        Refusal { code, message: Some(error.to_string()), records, log_start: None }
    }
}

/// The single records that a batch was refused for.
fn faults(error: &BatchError) -> Vec<(i32, String)> {
    let what = |timestamp: i64| match error {
        BatchError::Timestamp { before_max_ms, after_max_ms, now_ms, .. } => format!(
            "timestamp {timestamp} is more than {before_max_ms} ms before or {after_max_ms} ms after the broker's \
             time {now_ms}"
        ),
        _ => "the record has no key, which a compacted topic needs".to_owned(),
    };
    error.faults().iter().map(|(record, timestamp)| (*record, what(*timestamp))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_base::{BrokerId, LeaderEpoch};

    #[test]
    fn a_batch_tells_its_own_code_through_all_layers() {
        let checksum = BatchError::Checksum { expected: 1, found: 2 };
        let refusal = Refusal::from(PartitionError::Append(AppendError::Batch(checksum)));
        assert_eq!(refusal.code, ErrorCode::CorruptMessage);
        assert!(refusal.message.unwrap().contains("00000001"));
        let large = BatchError::TooLarge { found: 9, limit: 8 };
        let refusal = Refusal::from(PartitionError::Append(AppendError::Batch(large)));
        assert_eq!((refusal.code, refusal.records.len()), (ErrorCode::MessageTooLarge, 0));
    }

    #[test]
    fn what_the_partition_and_the_authority_refuse_keeps_its_code() {
        let moved = PartitionError::NotLeader { leader: BrokerId::new(2), epoch: LeaderEpoch::new(1) };
        assert_eq!(Refusal::from(moved).code, ErrorCode::NotLeaderOrFollower);
        let there = ControlError::TopicExists { name: "t".into() };
        assert_eq!(Refusal::from(there).code, ErrorCode::TopicAlreadyExists);
    }
}

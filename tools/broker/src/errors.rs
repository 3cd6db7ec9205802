//! Kafka's error codes, assigned in one place: every error of the crates below becomes a [`Refusal`] here.

use highwater_control::ControlError;
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
}

impl Refusal {
    /// A bare code.
    pub(crate) fn code(code: ErrorCode) -> Refusal {
        Refusal { code, message: None, records: Vec::new() }
    }

    /// A code and why.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: Some(message.into()), records: Vec::new() }
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
        let code = ErrorCode::from_code(error.kafka_code()).unwrap_or(ErrorCode::UnknownServerError);
        Refusal::new(code, error.to_string())
    }
}

//! Why a batch could not be compacted.

use std::fmt;

use crate::batch::{BatchError, LegacyError};

/// Why a batch could not be compacted: it is not what a log holds.
///
/// ```
/// use highwater_engine::batch::BatchError;
/// use highwater_engine::compact::CompactError;
/// let error = CompactError::from(BatchError::Partial { found: 3 });
/// assert!(error.to_string().contains("no whole batch"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CompactError {
    /// A batch of magic 2 that cannot be read.
    Batch(BatchError),
    /// A message set of magic 0 or 1 that cannot be read.
    Legacy(LegacyError),
}

impl fmt::Display for CompactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompactError::Batch(error) => error.fmt(f),
            CompactError::Legacy(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CompactError {}

impl From<BatchError> for CompactError {
    fn from(error: BatchError) -> CompactError {
        CompactError::Batch(error)
    }
}

impl From<LegacyError> for CompactError {
    fn from(error: LegacyError) -> CompactError {
        CompactError::Legacy(error)
    }
}

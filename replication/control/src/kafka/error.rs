//! Why a metadata log of Apache Kafka cannot be read.

use std::fmt;

/// A record of Kafka's metadata log that makes no sense here.
///
/// ```
/// use highwater_control::{KafkaMetadata, MetadataError};
/// let error = KafkaMetadata::new().apply(&[1, 99, 0]).unwrap_err();
/// assert_eq!(error, MetadataError::Kind { found: 99 });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MetadataError {
    /// The version of the frame is not 1.
    Frame {
        /// What it is.
        found: u32,
    },
    /// A kind of record that this program does not know: a later Kafka wrote it.
    Kind {
        /// Its number.
        found: u32,
    },
    /// A known kind in a version that this program does not know: a later Kafka wrote it.
    Version {
        /// The kind's number.
        kind: u32,
        /// The version.
        found: u32,
        /// The newest that is known.
        newest: u32,
    },
    /// A field makes no sense.
    Malformed {
        /// Where in the record's value.
        at: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// A record speaks of something that no record before it has made.
    Unknown {
        /// What.
        what: String,
    },
    /// Every record makes sense, but not together.
    Impossible {
        /// The rule that is broken.
        broken: String,
    },
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetadataError::Frame { found } => write!(f, "expected a frame of version 1, found {found}"),
            MetadataError::Kind { found } => {
                write!(f, "expected a kind of metadata record up to Apache Kafka 4.3's, found kind {found}")
            }
            MetadataError::Version { kind, found, newest } => {
                write!(f, "expected version {newest} or less of metadata record kind {kind}, found {found}")
            }
            MetadataError::Malformed { at, expected } => write!(f, "expected {expected} at byte {at}"),
            MetadataError::Unknown { what } => write!(f, "expected {what} to be made before it is changed"),
            MetadataError::Impossible { broken } => f.write_str(broken),
        }
    }
}

impl std::error::Error for MetadataError {}

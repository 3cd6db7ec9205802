//! What is wrong with a setting: its name, what was found, its bounds, its default, and what to do.

use std::fmt;

/// A setting that cannot be taken.
///
/// ```
/// use highwater_broker::{Settings, Source};
/// let error = Settings::from_sources(&[(Source::Flag, "num.partitons".into(), "3".into())]).unwrap_err();
/// assert!(error.to_string().contains("num.partitions"), "the nearest known name: {error}");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// No setting has this name.
    Unknown {
        /// The name that was given.
        name: String,
        /// The known name that is most like it.
        nearest: &'static str,
    },
    /// The value is not one that this setting can have.
    Value {
        /// The setting.
        name: String,
        /// The value that was given.
        found: String,
        /// What it can be: type and bounds.
        expected: String,
        /// Its default.
        default: String,
    },
    /// A value that Kafka knows and that Highwater cannot honour, so that taking it would be a lie.
    Unsupported {
        /// The setting.
        name: String,
        /// The value that was given.
        found: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// A broker setting that stands behind a topic's, and cannot be one.
    Topic(highwater_control::ConfigError),
    /// A line of a properties file that is none.
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unknown { name, nearest } => {
                write!(f, "unknown setting {name}; the nearest known one is {nearest}")
            }
            ConfigError::Value { name, found, expected, default } => {
                write!(f, "{name}: expected {expected}, found {found:?} (the default is {default})")
            }
            ConfigError::Unsupported { name, found, why } => write!(f, "{name}={found}: {why}"),
            ConfigError::Topic(error) => error.fmt(f),
            ConfigError::Line { line, why } => write!(f, "line {line}: {why}"),
        }
    }
}

impl std::error::Error for ConfigError {}

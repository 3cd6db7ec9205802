//! Why an engine or one of its logs refused something.

use std::fmt;
use std::path::PathBuf;

use highwater_io::IoError;

use crate::batch::BatchError;
use crate::{AppendError, OpenError, ReadError, SettingError};

/// Why an engine or one of its logs refused something.
///
/// ```
/// let e = highwater_engine::EngineError::NoSuchLog { name: "orders".into() };
/// assert_eq!(e.to_string(), "no log is named \"orders\"");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EngineError {
    /// The operator's: another process holds the directory.
    Held {
        /// Which directory.
        directory: PathBuf,
        /// The process that holds it, where the system says.
        process: Option<u32>,
    },
    /// The operator's: the system refused something.
    Io(IoError),
    /// The operator's: a log could not be opened.
    Open(OpenError),
    /// The caller's: a setting outside its bounds.
    Setting(SettingError),
    /// The caller's: not a name for a log.
    Name {
        /// What was given.
        found: String,
    },
    /// The caller's: no such log.
    NoSuchLog {
        /// Its name.
        name: String,
    },
    /// The caller's: none of the engine's directories.
    NoSuchDirectory {
        /// What was given.
        directory: PathBuf,
    },
    /// The log's move was given up for another one that was asked for.
    MoveReplaced,
    /// The caller's: more requests in flight than the engine takes. Wait for some answers.
    Overloaded,
    /// Why nothing was appended.
    Append(AppendError),
    /// Why nothing was read.
    Read(ReadError),
    /// The log's batches were read, and their records cannot be: a codec that is not compiled in, an old format.
    Records(BatchError),
    /// The engine has stopped.
    Stopped,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Held { directory, process } => {
                write!(f, "{} is in use by ", directory.display())?;
                match process {
                    Some(process) => write!(f, "process {process}; stop it first")?,
                    None => f.write_str("another process; stop it first")?,
                }
                Ok(())
            }
            EngineError::Io(error) => error.fmt(f),
            EngineError::Open(error) => error.fmt(f),
            EngineError::Setting(error) => error.fmt(f),
            EngineError::Name { found } => write!(
                f,
                "{found:?} is no name for a log: expected 1 to 249 of a-z A-Z 0-9 . _ - and neither \".\" nor \"..\""
            ),
            EngineError::NoSuchLog { name } => write!(f, "no log is named {name:?}"),
            EngineError::NoSuchDirectory { directory } => write!(
                f,
                "{} is none of the engine's directories; name one of Engine::directories",
                directory.display()
            ),
            EngineError::MoveReplaced => f.write_str("another move of the log was asked for meanwhile"),
            EngineError::Overloaded => {
                f.write_str("too many requests are in flight; wait for some of their answers")
            }
            EngineError::Append(error) => error.fmt(f),
            EngineError::Read(error) => error.fmt(f),
            EngineError::Records(error) => write!(f, "records cannot be taken out of their batch: {error}"),
            EngineError::Stopped => f.write_str("the engine has stopped"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<IoError> for EngineError {
    fn from(error: IoError) -> EngineError {
        EngineError::Io(error)
    }
}

impl From<OpenError> for EngineError {
    fn from(error: OpenError) -> EngineError {
        EngineError::Open(error)
    }
}

impl From<AppendError> for EngineError {
    fn from(error: AppendError) -> EngineError {
        EngineError::Append(error)
    }
}

impl From<ReadError> for EngineError {
    fn from(error: ReadError) -> EngineError {
        EngineError::Read(error)
    }
}

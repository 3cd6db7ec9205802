//! What an embedder may be told of its logs, without asking.

use std::fmt;
use std::sync::Arc;

use highwater_base::Offset;

use crate::{LogFailure, ReadError};

/// Something happened to a log; see [`EngineConfig::listener`](crate::EngineConfig::listener).
///
/// ```
/// use std::sync::mpsc;
/// use highwater_engine::{Engine, EngineConfig, MemoryDisk, NewRecord, Notice, Offset};
/// let (told, heard) = mpsc::channel();
/// let config = EngineConfig::at("data").in_memory(MemoryDisk::new()).listener(move |log, notice| {
///     let _nobody_listens_any_more = told.send((log.to_owned(), notice.clone()));
/// });
/// let engine = Engine::open(config)?;
/// engine.log("orders")?.append_records([NewRecord::new().value("paid")])?;
/// let end = Offset::new(1);
/// assert_eq!(heard.recv().unwrap(), ("orders".to_owned(), Notice::Acknowledged { end }));
/// # Ok::<(), highwater_engine::EngineError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Everything below `end` is acknowledged, and may be read. Several appends may share one notice.
    Acknowledged {
        /// Exclusive.
        end: Offset,
    },
    /// The first offset that may be read has moved, by retention or by a trim.
    Trimmed {
        /// The first offset now.
        start: Offset,
    },
    /// A truncation is durably done.
    Truncated {
        /// Where the log ends now.
        end: Offset,
    },
    /// The device is full, or at its low-water mark: appends are refused, reads go on.
    NoSpace,
    /// Space has returned: appends are taken again.
    SpaceReturned,
    /// Damage was found; see [`crate::LogEvent::Damaged`].
    Damaged(ReadError),
    /// The log has failed for good; see [`LogFailure`].
    Failed(LogFailure),
}

/// Who is told.
#[derive(Clone, Default)]
pub(super) struct Listener(Option<Arc<Told>>);

type Told = dyn Fn(&str, &Notice) + Send + Sync;

impl Listener {
    pub(super) fn new(told: impl Fn(&str, &Notice) + Send + Sync + 'static) -> Listener {
        Listener(Some(Arc::new(told)))
    }

    pub(super) fn tell(&self, log: &str, notice: &Notice) {
        if let Some(told) = &self.0 {
            told(log, notice);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Listener" } else { "no listener" })
    }
}

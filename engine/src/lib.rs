//! An embeddable segmented log in Apache Kafka's format.
//!
//! A [`Log`] is a state machine over [`highwater_io::Io`]: appends are staged in memory, written in large
//! aligned blocks, synced in groups; reads come from memory or from the disk. It never blocks, never reads a
//! clock and starts no thread. Files are Apache Kafka's, byte for byte, with a few of our own beside them.
//!
//! An [`Engine`] holds many logs by name, each on one of its threads, and gives handles that any thread may use:
//!
//! ```
//! use highwater_engine::{Engine, EngineConfig, NewRecord, Offset};
//! # let directory = std::env::temp_dir().join(format!("highwater-doc-{}", std::process::id()));
//! let engine = Engine::open(EngineConfig::at(&directory))?; // recovers what a crash left
//! let orders = engine.log("orders")?; // made if there is none
//! let appended = orders.append_records([NewRecord::new().key("id-7").value("paid")])?;
//! // Now it is on stable storage.
//! for record in orders.records(Offset::ZERO, 1 << 20)? {
//!     assert_eq!((record.key(), record.value()), (&b"id-7"[..], &b"paid"[..]));
//! }
//! assert_eq!(appended.end, Offset::new(1));
//! engine.close()?; // Apache Kafka can open the directory now
//! # std::fs::remove_dir_all(&directory).ok();
//! # Ok::<(), highwater_engine::EngineError>(())
//! ```
//!
//! `docs/EMBEDDING.md` walks through three programs on it, and says when not to use it.
#![forbid(unsafe_code)]

pub mod batch;
pub mod checkpoint_file;
mod cleaner;
pub mod compact;
mod config;
mod directory;
mod engine;
pub mod epochs;
mod error;
pub mod index;
pub mod layout;
mod log;
mod manifest;
mod place;
pub mod producers;
mod rare;
pub mod recovery;
pub mod relocation;
pub mod retention;
pub mod seal;
mod segment;
mod tail;
mod tail_space;
mod ticket;
pub mod transactions;
mod whole_file;

pub use cleaner::{Cleaner, CleanerSettings};
pub use config::{Durability, LogSettings, Preallocate, RecordCheck, SettingError};
pub use directory::DataDirectory;
pub use engine::{
    Engine, EngineConfig, EngineError, EngineMetrics, Follower, LogFacts, LogHandle, LogMetrics, NewRecord,
    Notice, StoredRecord,
};
pub use error::{AppendError, Busy, LogFailure, OpenError, ReadError};
pub use log::{
    AbortedTransaction, Appended, Fetched, Isolation, Log, LogEvent, Lookup, MoveFacts, OpenHint, Origin,
    Read, ReadId, RecycleSpace, ScrubFacts, TimestampOffset,
};
pub use manifest::{ListedLog, Manifest, StoppedLog};
pub use recovery::{Checkpoint, Finding, RecoveryReport, Verdict};
pub use tail_space::TailSpace;
pub use ticket::{Promise, Ticket};
pub use whole_file::{read_file, replace_file};

// The words of the crates below that an embedder needs, so that this crate is the only one to name.
pub use highwater_base::{LeaderEpoch, Limits, Offset, ProducerEpoch, ProducerId, Uuid, WallMs};
#[cfg(feature = "map")]
pub use highwater_io::Mapping;
pub use highwater_io::{ErrorKind, IoChoice, IoError, MemoryDisk, Slice};

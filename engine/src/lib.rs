//! An embeddable segmented log in Apache Kafka's format.
//!
//! A [`Log`] is a state machine over [`highwater_io::Io`]: appends are staged in memory, written in large
//! aligned blocks, synced in groups; reads come from memory or from the disk. It never blocks, never reads a
//! clock and starts no thread. Files are Apache Kafka's, byte for byte, with a few of our own beside them.
//!
//! An [`Engine`] holds many logs by name, each on one of its threads, and gives handles that any thread may use:
//!
//! ```
//! use highwater_base::Offset;
//! use highwater_engine::batch::BatchBuilder;
//! use highwater_engine::{Engine, EngineConfig};
//! # let directory = std::env::temp_dir().join(format!("highwater-doc-{}", std::process::id()));
//! let engine = Engine::open(EngineConfig::at(&directory))?;
//! let orders = engine.log("orders")?;
//! let batch = BatchBuilder::new().record(1_700_000_000_000, Some(b"id-7"), Some(b"paid")).build();
//! let appended = orders.append(batch)?; // on stable storage when this returns
//! let fetched = orders.read(Offset::ZERO, 1 << 20)?;
//! assert_eq!(fetched.next, appended.end);
//! engine.close()?; // Apache Kafka can open the directory now
//! # std::fs::remove_dir_all(&directory).ok();
//! # Ok::<(), highwater_engine::EngineError>(())
//! ```
#![forbid(unsafe_code)]

pub mod batch;
pub mod checkpoint_file;
mod config;
mod directory;
mod engine;
pub mod epochs;
mod error;
pub mod index;
pub mod layout;
mod log;
pub mod producers;
pub mod recovery;
pub mod retention;
pub mod seal;
mod segment;
mod tail;
mod ticket;
pub mod transactions;

pub use config::{Durability, LogSettings, Preallocate, RecordCheck, SettingError};
pub use directory::{DataDirectory, read_file, replace_file};
pub use engine::{Engine, EngineConfig, EngineError, LogFacts, LogHandle};
pub use error::{AppendError, Busy, LogFailure, OpenError, ReadError};
pub use log::{
    AbortedTransaction, Appended, Fetched, Log, LogEvent, Lookup, OpenHint, Origin, Read, ReadId,
    TimestampOffset,
};
pub use recovery::{Checkpoint, Finding, RecoveryReport, Verdict};
pub use ticket::{Promise, Ticket};

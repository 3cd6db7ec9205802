//! An embeddable segmented log in Apache Kafka's format.
//!
//! A [`Log`] is a state machine over [`highwater_io::Io`]: appends are staged in memory, written in large
//! aligned blocks, synced in groups; reads come from memory or from the disk. It never blocks, never reads a
//! clock and starts no thread. Files are Apache Kafka's, byte for byte, with a few of our own beside them.
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

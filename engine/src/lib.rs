//! An embeddable segmented log in Apache Kafka's format.
//!
//! A [`Log`] is a state machine over [`highwater_io::Io`]: appends are staged in memory, written in large
//! aligned blocks, synced in groups; reads come from memory or from the disk. It never blocks, never reads a
//! clock and starts no thread. Files are Apache Kafka's, byte for byte, with a few of our own beside them.
#![forbid(unsafe_code)]

pub mod batch;
mod config;
mod error;
mod log;
mod recovery;

pub use config::{Durability, LogSettings, Preallocate, RecordCheck, SettingError, TimestampRule};
pub use error::{AppendError, Busy, LogFailure, OpenError, ReadError};
pub use log::{
    AbortedTransaction, Appended, Fetched, Log, LogEvent, Lookup, OpenHint, Origin, Read, ReadId,
    TimestampOffset,
};
pub use recovery::{Finding, RecoveryReport, Verdict};

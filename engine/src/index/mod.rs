//! Sparse indexes in Kafka's formats: hints from which a reader scans on; the batch found is always checked.
//!
//! [`IndexBuilder`] applies Kafka's append rule to both indexes of a segment while it is written or scanned;
//! [`OffsetIndex`] and [`TimeIndex`] look up in the bytes of a file; [`TxnIndex`] lists aborted transactions.

mod append;
mod entry;
mod offset_index;
mod time_index;
mod txn_index;

pub use append::IndexBuilder;
pub use entry::{IndexError, OffsetEntry, TimeEntry};
pub use offset_index::{OFFSET_ENTRY_BYTES, OffsetIndex};
pub use time_index::{TIME_ENTRY_BYTES, TimeIndex};
pub use txn_index::{AbortedTxn, TXN_ENTRY_BYTES, TxnIndex};

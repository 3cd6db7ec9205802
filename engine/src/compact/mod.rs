//! Compaction (kafka.md 3.7 to 3.9): of each key the latest record stays, at its offset, in its order. Pure: what is
//! dirty, which segments become one, which records of a batch stay. `log/compact` acts.
//!
//! A pass never moves an offset, never looks at what is not committed, and removes a tombstone or a transaction's
//! marker only `delete.retention.ms` after the first pass that met it with nothing left to mark (KIP-534).

mod error;
mod hash;
mod key_map;
mod pass;
mod plan;
mod slice;
mod transactions;

pub use error::CompactError;
pub use key_map::{KEY_SLOT_BYTES, KeyMap};
pub(crate) use pass::Mapped;
pub use pass::{Pass, PassRules, Rewrite};
pub use plan::{Bounds, CompactionSettings, Dirty, Source, dirty, groups};
pub(crate) use slice::Slice;

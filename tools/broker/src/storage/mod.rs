//! The data directories: whose they are, what they hold, and the files that say so.

mod borrow;
mod checkpoints;
mod claim;
mod error;
mod kafka_log;
mod look;
mod replace;

pub(crate) use borrow::{Borrowed, obstacles, remove_ours, unknown};
pub(crate) use checkpoints::{CheckpointFiles, Offsets, PartitionOffsets};
pub(crate) use claim::{DataDir, Storage, lock};
pub use error::StorageError;
pub(crate) use look::{Looked, entries, newest_catalog, read_text};
pub(crate) use replace::{Replace, Step};

use std::path::Path;

use highwater_io::{IoError, Park};

/// The files of these directories are texts and a catalog; one larger than this is none of them, and is not read.
const LARGEST_FILE: usize = 1 << 30;

/// All of a file, or `None` if there is none. Waits for the disk: before serving only.
pub(crate) fn read_file(io: &mut dyn Park, path: &Path) -> Result<Option<Vec<u8>>, IoError> {
    highwater_engine::read_file(io, path, LARGEST_FILE)
}

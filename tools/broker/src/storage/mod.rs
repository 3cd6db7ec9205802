//! The data directories: whose they are, what they hold, and the files that say so.

mod checkpoints;
mod claim;
mod error;
mod replace;

pub(crate) use checkpoints::{CheckpointFiles, Offsets, PartitionOffsets};
pub(crate) use claim::{DataDir, Storage};
pub use error::StorageError;
pub(crate) use replace::{Replace, Step};

use std::path::Path;

use highwater_base::FilePos;
use highwater_io::{ErrorKind, IoError, Op, OpenHow, Outcome, Park, blocking};

/// The files of these directories are texts and a catalog; one larger than this is none of them.
const LARGEST_FILE: u64 = 1 << 30;

/// All of a file, or `None` if there is none. Waits for the disk: before serving only.
pub(crate) fn read_file(io: &mut dyn Park, path: &Path) -> Result<Option<Vec<u8>>, IoError> {
    let open = Op::Open { path: path.to_path_buf(), how: OpenHow::Read, direct: false };
    let (file, len) = match blocking::run(io, open) {
        Ok(Outcome::Opened { file, len, .. }) => (file, len),
        Ok(other) => unreachable!("an open gave {other:?}"),
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let read = read_open(io, file, path, len);
    blocking::run(io, Op::Close { file })?;
    read.map(Some)
}

fn read_open(
    io: &mut dyn Park,
    file: highwater_io::FileId,
    path: &Path,
    len: u64,
) -> Result<Vec<u8>, IoError> {
    if len > LARGEST_FILE {
        return Err(IoError::of(ErrorKind::Other, "read", format!("{} ({len} bytes)", path.display())));
    }
    let mut bytes = Vec::new();
    loop {
        let buffer = io.buffer(64 << 10);
        let at = FilePos::new(bytes.len() as u64);
        match blocking::run(io, Op::Read { file, at, buffer })? {
            Outcome::Read { buffer } if buffer.is_empty() => return Ok(bytes),
            Outcome::Read { buffer } => bytes.extend_from_slice(buffer.filled()),
            other => unreachable!("a read gave {other:?}"),
        }
    }
}

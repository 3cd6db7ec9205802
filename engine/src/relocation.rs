//! What a move between data directories leaves when a crash ends it, and what a start does with it.
//!
//! A copy that is complete says so by a file, [`layout::MOVED`], made after everything else in it was durable. The old
//! directory is renamed only after that, so:
//!
//! | found | what it is | to be done |
//! |---|---|---|
//! | the log's directory, and a copy | the log, which has served since | [`discard`] the copy, and copy again |
//! | a complete copy, and no log where it came from | the log | [`finish_move`] |
//! | a copy that is not complete, and no log | the log lies in a directory that is not here | nothing |

use std::path::{Path, PathBuf};

use highwater_base::Uuid;
use highwater_io::{ErrorKind, IoError, Op, Park, blocking};

use crate::checkpoint_file::decode_moved;
use crate::layout::{self, PartitionDir, PartitionRole};
use crate::whole_file::read_file;

/// Whether the copy in this `-future` directory is complete: then what the owner called the data directory that it came
/// from ([`crate::Log::move_to`]). One whose mark is torn is not: the old directory was not renamed yet.
///
/// ```
/// use highwater_io::MemoryIo;
/// let future = std::path::Path::new("/b/orders-0.36f67f48397d4451aa81723b974882fd-future");
/// assert_eq!(highwater_engine::relocation::completed_move(&mut MemoryIo::new(), future)?, None);
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub fn completed_move(io: &mut dyn Park, future: &Path) -> Result<Option<Uuid>, IoError> {
    Ok(read_file(io, &future.join(layout::MOVED), 4096)?.as_deref().and_then(decode_moved))
}

/// Gives a complete copy its log's name, durably. To be called only if no directory of that name is left in the data
/// directories that it may have come `from`: that becomes durable first, since a process that was killed may have left the
/// old name on its way out. Gives the log's directory.
///
/// # Errors
/// What the system says; also if `future` is not the name of a copy. The copy is then as it was, or has its name.
///
/// ```
/// use highwater_io::{MemoryIo, Op, blocking};
/// let mut io = MemoryIo::new();
/// let future = "/orders-0.36f67f48397d4451aa81723b974882fd-future";
/// blocking::run(&mut io, Op::CreateDir { path: future.into() })?;
/// let log = highwater_engine::relocation::finish_move(&mut io, future.as_ref(), ["/".as_ref()])?;
/// assert_eq!(log, std::path::Path::new("/orders-0"));
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub fn finish_move<'d>(
    io: &mut dyn Park,
    future: &Path,
    from: impl IntoIterator<Item = &'d Path>,
) -> Result<PathBuf, IoError> {
    let (directory, name) = parts(future)?;
    for path in from {
        blocking::run(io, Op::SyncDir { path: path.to_path_buf() })?;
    }
    let log = directory.join(name.log_name());
    blocking::run(io, Op::Rename { from: future.to_path_buf(), to: log.clone() })?;
    blocking::run(io, Op::SyncDir { path: directory })?;
    // Nobody looks at it there.
    match blocking::run(io, Op::Unlink { path: log.join(layout::MOVED) }) {
        Err(error) if error.kind != ErrorKind::NotFound => Err(error),
        _ => Ok(log),
    }
}

/// Gives a copy that nobody wants the name of something to be removed, durably; [`crate::Log::remove`] removes it. To be
/// called before the log that it is a copy of takes an append.
///
/// # Errors
/// What the system says; also if `future` is not the name of a copy.
///
/// ```
/// use highwater_io::{MemoryIo, Op, blocking};
/// let mut io = MemoryIo::new();
/// let future = "/orders-0.36f67f48397d4451aa81723b974882fd-future";
/// blocking::run(&mut io, Op::CreateDir { path: future.into() })?;
/// let gone = highwater_engine::relocation::discard(&mut io, future.as_ref())?;
/// assert_eq!(gone, std::path::Path::new("/orders-0.36f67f48397d4451aa81723b974882fd-delete"));
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub fn discard(io: &mut dyn Park, future: &Path) -> Result<PathBuf, IoError> {
    let (directory, name) = parts(future)?;
    let to = directory.join(name.doomed_name());
    blocking::run(io, Op::Rename { from: future.to_path_buf(), to: to.clone() })?;
    blocking::run(io, Op::SyncDir { path: directory })?;
    Ok(to)
}

fn parts(future: &Path) -> Result<(PathBuf, PartitionDir), IoError> {
    let name = future.file_name().and_then(|name| name.to_str()).and_then(PartitionDir::parse);
    let name = name.filter(|name| name.role == PartitionRole::Future);
    let what =
        || IoError::of(ErrorKind::Other, "take for the copy of a moving log", future.display().to_string());
    Ok((future.parent().map(PathBuf::from).unwrap_or_default(), name.ok_or_else(what)?))
}

impl PartitionDir {
    fn log_name(&self) -> String {
        PartitionDir::current(self.partition.clone()).to_string()
    }

    fn doomed_name(&self) -> String {
        self.with_role(PartitionRole::Delete, self.unique).to_string()
    }
}

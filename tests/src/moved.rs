//! A log that moves between two data directories of a simulated disk, at a start.

use std::path::{Path, PathBuf};

use highwater_engine::relocation;
use highwater_io::IoError;
use highwater_sim::SimIo;

use crate::rig::DIR;

/// The data directory in which the log of a [`Rig`](crate::rig::Rig) lies at first, and the one that
/// [`Rig::begin_move`](crate::rig::Rig::begin_move) moves it to and from, if that is there.
pub const DIRECTORIES: [&str; 2] = ["/data", "/other"];

/// The log's directory; a move that was cut short is ended as a start ends it. Without a second data directory nothing is
/// done.
pub fn settle_move(io: &mut SimIo) -> Result<PathBuf, IoError> {
    let seen: Vec<PathBuf> = io.disk().image().into_keys().filter(|path| path.iter().count() == 3).collect();
    let name = Path::new(DIR).file_name().unwrap_or_default();
    let current = seen.iter().find(|path| path.file_name() == Some(name)).cloned();
    let is_copy =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-future"));
    for copy in seen.iter().filter(|path| is_copy(path)) {
        if current.is_some() {
            relocation::discard(io, copy)?;
        } else if relocation::completed_move(io, copy)?.is_some() {
            return relocation::finish_move(io, copy, DIRECTORIES.map(Path::new));
        }
    }
    Ok(current.unwrap_or_else(|| PathBuf::from(DIR)))
}

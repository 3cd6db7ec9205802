//! What a path is, by its name and, of a directory, by what lies in it.

use std::path::{Path, PathBuf};

use highwater_engine::layout::{self, FileKind, FileName, PartitionDir};
use highwater_io::{IoError, is_locked};

use crate::InspectError;
use crate::files::Files;
use crate::source::Access;

/// What can be looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A file of a partition's directory.
    PartitionFile(FileName),
    /// A file of a log directory.
    TopFile(TopFile),
    /// A partition's directory.
    Partition,
    /// A log directory.
    LogDirectory,
}

/// Files of a log directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TopFile {
    OffsetCheckpoint,
    MetaProperties,
    CleanShutdown,
    BootstrapCheckpoint,
    Catalog,
}

impl TopFile {
    pub(crate) fn of(name: &str) -> Option<TopFile> {
        match name {
            layout::RECOVERY_POINTS
            | layout::LOG_STARTS
            | layout::HIGH_WATERMARKS
            | layout::CLEANER_OFFSETS => Some(TopFile::OffsetCheckpoint),
            layout::META_PROPERTIES => Some(TopFile::MetaProperties),
            layout::CLEAN_SHUTDOWN => Some(TopFile::CleanShutdown),
            layout::BOOTSTRAP_CHECKPOINT => Some(TopFile::BootstrapCheckpoint),
            layout::CATALOG => Some(TopFile::Catalog),
            _ => None,
        }
    }
}

/// Finds out what `path` is.
pub(crate) fn place(files: &mut Files, path: &Path) -> Result<Place, InspectError> {
    let facts = files.facts(path)?;
    let name = file_name(path);
    if !facts.is_dir {
        let partition_file = FileName::parse(&name).map(Place::PartitionFile);
        let place = partition_file.or_else(|| TopFile::of(&name).map(Place::TopFile));
        return place.ok_or_else(|| InspectError::Unknown { path: path.into() });
    }
    // By what lies in it first: a log directory may be called `data-1`.
    let entries = files.list(path)?;
    let holds_segments = entries.iter().any(|entry| {
        let kind = FileName::parse(&entry.name).map(|name| name.kind);
        !entry.is_dir
            && matches!(kind, Some(FileKind::Log | FileKind::OffsetIndex | FileKind::PartitionMetadata))
    });
    let holds_partitions = entries.iter().any(|entry| {
        if entry.is_dir {
            PartitionDir::parse(&entry.name).is_some()
        } else {
            TopFile::of(&entry.name).is_some()
        }
    });
    let partition = holds_segments || !holds_partitions && PartitionDir::parse(&name).is_some();
    Ok(if partition { Place::Partition } else { Place::LogDirectory })
}

/// The last part of a path; of `.` and the like the last part of what it stands for.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The log directory that a place lies in (or is).
pub(crate) fn log_directory(place: &Place, path: &Path) -> PathBuf {
    let up = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_path_buf(),
        None => path.to_path_buf(),
    };
    match place {
        Place::LogDirectory => path.to_path_buf(),
        // `..` also finds the parent of `.`, which has none by name.
        Place::Partition => path.join(".."),
        Place::TopFile(_) => up(path),
        Place::PartitionFile(_) => up(path).join(".."),
    }
}

/// How to look at files there: mapped unless a broker runs.
pub(crate) fn access(place: &Place, path: &Path) -> Result<Access, IoError> {
    let held = is_locked(&log_directory(place, path).join(layout::LOCK))?;
    Ok(if held { Access::Read } else { Access::Map })
}

//! Operations that may take long or that a ring would hand to a worker thread anyway: those on names, and
//! those that change a file's length or blocks. Done by whoever calls: [`PosixIo`](crate::PosixIo) itself,
//! or the slow lane of a ring.

use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_base::BLOCK;

use crate::op::{DirEntry, EntryKind, FileFacts, OpenHow, Outcome, Prepared};
use crate::sys::{self, Allocate};
use crate::{IoError, Slice, arena};

/// Zeros are written in pieces of this size, one at a time: others' writes get in between.
const ZEROS: usize = 1 << 20;

/// A slow operation, with all it needs.
#[derive(Debug)]
pub(crate) enum Slow {
    Open {
        path: PathBuf,
        how: OpenHow,
        direct: bool,
    },
    Stat {
        path: PathBuf,
    },
    StatMany {
        paths: Vec<PathBuf>,
    },
    Space {
        path: PathBuf,
    },
    ReadDir {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    CreateDir {
        path: PathBuf,
    },
    RemoveDir {
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
    },
    Truncate {
        handle: Arc<File>,
        name: Arc<str>,
        len: u64,
    },
    Prepare {
        handle: Arc<File>,
        name: Arc<str>,
        direct: bool,
        at: u64,
        len: u64,
        how: Prepared,
    },
    /// A write that could not be started without waiting.
    Write {
        handle: Arc<File>,
        name: Arc<str>,
        at: u64,
        data: Slice,
    },
    /// A sync that nobody waits for.
    Sync {
        handle: Arc<File>,
        name: Arc<str>,
        data_only: bool,
    },
    /// The last reference to an unlinked file gives its blocks back: that can take as long as unlinking.
    Close {
        handle: Arc<File>,
    },
}

/// How a slow operation ended well.
#[derive(Debug)]
pub(crate) enum SlowDone {
    Opened(Opened),
    Outcome(Outcome),
    Closed,
}

/// A file that was just opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) handle: File,
    pub(crate) name: Arc<str>,
    pub(crate) how: OpenHow,
    pub(crate) asked_direct: bool,
    pub(crate) direct: bool,
    pub(crate) len: u64,
}

impl Slow {
    /// Does it.
    pub(crate) fn perform(self) -> Result<SlowDone, IoError> {
        match self {
            Slow::Open { path, how, direct } => open(&path, how, direct).map(SlowDone::Opened),
            Slow::Stat { path } => named(&path, "stat", stat(&path)),
            Slow::StatMany { paths } => {
                let facts = paths.iter().map(|path| facts(path)).collect();
                Ok(SlowDone::Outcome(Outcome::Stats { facts }))
            }
            Slow::Space { path } => crate::space::space(&path).map(SlowDone::Outcome),
            Slow::ReadDir { path } => {
                named(&path, "read directory", entries(&path).map(|entries| Outcome::Entries { entries }))
            }
            Slow::Rename { from, to } => named(&from, "rename", fs::rename(&from, &to).map(done)),
            Slow::Unlink { path } => named(&path, "unlink", fs::remove_file(&path).map(done)),
            Slow::CreateDir { path } => named(&path, "create directory", create_dir(&path).map(done)),
            Slow::RemoveDir { path } => named(&path, "remove directory", fs::remove_dir(&path).map(done)),
            Slow::SyncDir { path } => named(&path, "sync directory", sync_dir(&path).map(done)),
            Slow::Truncate { handle, name, len } => handle
                .set_len(len)
                .map(|()| SlowDone::Outcome(Outcome::Done))
                .map_err(|error| IoError::from_std(&error, "truncate", &*name)),
            Slow::Prepare { handle, name, direct, at, len, how } => prepare(&handle, direct, at, len, how)
                .map(|()| SlowDone::Outcome(Outcome::Done))
                .map_err(|error| IoError::from_std(&error, "prepare", &*name)),
            Slow::Write { handle, name, at, data } => match sys::uninterrupted(|| handle.write_at(&data, at))
            {
                Ok(0) if !data.is_empty() => Err(IoError::from_errno(libc::ENOSPC, "write", &*name)),
                Ok(len) => Ok(SlowDone::Outcome(Outcome::Wrote { len })),
                Err(error) => Err(IoError::from_std(&error, "write", &*name)),
            },
            Slow::Sync { handle, name, data_only } => {
                let synced = if data_only { handle.sync_data() } else { handle.sync_all() };
                synced
                    .map(|()| SlowDone::Outcome(Outcome::Done))
                    .map_err(|error| IoError::from_std(&error, "sync", &*name))
            }
            Slow::Close { handle } => {
                drop(handle);
                Ok(SlowDone::Closed)
            }
        }
    }
}

fn done((): ()) -> Outcome {
    Outcome::Done
}

fn named(path: &Path, what: &'static str, result: io::Result<Outcome>) -> Result<SlowDone, IoError> {
    result.map(SlowDone::Outcome).map_err(|error| IoError::from_std(&error, what, path.display().to_string()))
}

fn open(path: &Path, how: OpenHow, direct: bool) -> Result<Opened, IoError> {
    let mut options = OpenOptions::new();
    options.read(true).write(how != OpenHow::Read);
    match how {
        OpenHow::Read | OpenHow::Write => {}
        OpenHow::CreateOrWrite => {
            options.create(true).truncate(false);
        }
        OpenHow::CreateNew => {
            options.create_new(true);
        }
        OpenHow::CreateOrEmpty => {
            options.create(true).truncate(true);
        }
    }
    let name: Arc<str> = path.display().to_string().into();
    let opened = options.open(path).and_then(|handle| {
        let facts = handle.metadata()?;
        if facts.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        Ok((handle, facts.len()))
    });
    let (handle, len) = opened.map_err(|error| IoError::from_std(&error, "open", &*name))?;
    let is_direct = direct && sys::set_direct(&handle);
    Ok(Opened { handle, name, how, asked_direct: direct, direct: is_direct, len })
}

fn stat(path: &Path) -> io::Result<Outcome> {
    let facts = fs::metadata(path)?;
    let (kind, modified_ms) = (kind(facts.file_type()), modified_ms(&facts));
    Ok(Outcome::Stat { kind, len: facts.len(), modified_ms, device: facts.dev(), links: facts.nlink() })
}

fn facts(path: &Path) -> Option<FileFacts> {
    let facts = fs::metadata(path).ok()?;
    let (kind, modified_ms) = (kind(facts.file_type()), modified_ms(&facts));
    Some(FileFacts { kind, len: facts.len(), modified_ms })
}

fn modified_ms(facts: &fs::Metadata) -> i64 {
    facts.mtime() * 1_000 + facts.mtime_nsec() / 1_000_000
}

fn entries(path: &Path) -> io::Result<Vec<DirEntry>> {
    fs::read_dir(path)?
        .map(|entry| {
            let entry = entry?;
            Ok(DirEntry { name: entry.file_name(), kind: kind(entry.file_type()?) })
        })
        .collect()
}

fn kind(of: FileType) -> EntryKind {
    if of.is_file() {
        EntryKind::File
    } else if of.is_dir() {
        EntryKind::Directory
    } else {
        EntryKind::Other
    }
}

fn create_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    let directory = File::open(path)?;
    if !directory.metadata()?.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    directory.sync_all()
}

fn prepare(file: &File, direct: bool, at: u64, len: u64, how: Prepared) -> io::Result<()> {
    let written = match how {
        Prepared::Allocated => sys::fallocate(file, Allocate::Unwritten, at, len).transpose()?.is_some(),
        Prepared::Zeroed => {
            let free = sys::fallocate(file, Allocate::Zeroed, at, len).transpose()?.is_some();
            if !free {
                // Reserved first, in one piece: the zeros then land in few extents, and running out of
                // space is noticed before a byte is written.
                sys::fallocate(file, Allocate::Unwritten, at, len).transpose()?;
            }
            free
        }
    };
    if !written {
        write_zeros(file, direct, at, len)?;
    }
    file.sync_data()
}

fn write_zeros(file: &File, direct: bool, at: u64, len: u64) -> io::Result<()> {
    let zeros = arena::zeros().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
    let zeros = &zeros[..ZEROS];
    debug_assert!(!direct || (at.is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK)));
    let mut position = at;
    while position < at + len {
        let n = (at + len - position).min(zeros.len() as u64) as usize;
        match sys::uninterrupted(|| file.write_at(&zeros[..n], position))? {
            0 => return Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            wrote => position += wrote as u64,
        }
    }
    Ok(())
}

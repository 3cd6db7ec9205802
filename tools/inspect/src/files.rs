//! Reading directories and files through the I/O seam, without any way to change them.

use std::path::{Path, PathBuf};

use highwater_base::FilePos;
use highwater_io::{Buffer, EntryKind, FileId, IoError, Op, OpenHow, Outcome, PosixIo, ReadOnly, blocking};

/// What a path is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub(crate) is_dir: bool,
    pub(crate) len: u64,
    pub(crate) modified_ms: i64,
}

/// A regular file or a directory in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) is_dir: bool,
    pub(crate) len: u64,
}

/// The read-only way to disk.
#[derive(Debug)]
pub(crate) struct Files {
    io: ReadOnly<PosixIo>,
}

impl Files {
    pub(crate) fn new() -> Result<Files, IoError> {
        Ok(Files { io: ReadOnly::new(PosixIo::new()?) })
    }

    pub(crate) fn facts(&mut self, path: &Path) -> Result<Facts, IoError> {
        match blocking::run(&mut self.io, Op::Stat { path: path.into() })? {
            Outcome::Stat { kind, len, modified_ms, .. } => {
                Ok(Facts { is_dir: kind == EntryKind::Directory, len, modified_ms })
            }
            other => unreachable!("a stat gave {other:?}"),
        }
    }

    /// Files and directories of a directory, by name; names that are no UTF-8 are nobody's here. What vanishes
    /// meanwhile, as a running broker's files do, is left out.
    pub(crate) fn list(&mut self, dir: &Path) -> Result<Vec<Entry>, IoError> {
        let entries = match blocking::run(&mut self.io, Op::ReadDir { path: dir.into() })? {
            Outcome::Entries { entries } => entries,
            other => unreachable!("reading a directory gave {other:?}"),
        };
        let mut listed = Vec::with_capacity(entries.len());
        for entry in entries {
            let (Some(name), false) = (entry.name.to_str(), entry.kind == EntryKind::Other) else { continue };
            let path = dir.join(name);
            let Ok(facts) = self.facts(&path) else { continue };
            listed.push(Entry { name: name.into(), path, is_dir: facts.is_dir, len: facts.len });
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    pub(crate) fn open(&mut self, path: &Path) -> Result<(FileId, u64), IoError> {
        let open = Op::Open { path: path.into(), how: OpenHow::Read, direct: false };
        match blocking::run(&mut self.io, open)? {
            Outcome::Opened { file, len, .. } => Ok((file, len)),
            other => unreachable!("an open gave {other:?}"),
        }
    }

    pub(crate) fn close(&mut self, file: FileId) {
        // A file that was only read has nothing to lose by a failed close.
        let _ = blocking::run(&mut self.io, Op::Close { file });
    }

    /// Fills the front of `out` from `at`; fewer bytes only at the end of the file.
    pub(crate) fn read(&mut self, file: FileId, at: u64, out: &mut [u8]) -> Result<usize, IoError> {
        let mut filled = 0;
        while filled < out.len() {
            let buffer = Buffer::new((out.len() - filled).min(PIECE));
            let read = Op::Read { file, at: FilePos::new(at + filled as u64), buffer };
            match blocking::run(&mut self.io, read)? {
                Outcome::Read { buffer } if buffer.is_empty() => break,
                Outcome::Read { buffer } => {
                    let n = buffer.len().min(out.len() - filled);
                    out[filled..filled + n].copy_from_slice(&buffer.filled()[..n]);
                    filled += n;
                }
                other => unreachable!("a read gave {other:?}"),
            }
        }
        Ok(filled)
    }

    /// A whole file, at most `limit` bytes of it.
    pub(crate) fn read_all(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, IoError> {
        let (file, len) = self.open(path)?;
        let mut bytes = vec![0; len.min(limit) as usize];
        let read = self.read(file, 0, &mut bytes);
        self.close(file);
        bytes.truncate(read?);
        Ok(bytes)
    }
}

/// One read.
const PIECE: usize = 1 << 20;

//! The bytes of one file: mapped, or read in pieces.

use std::ops::Range;
use std::path::Path;

use highwater_io::{FileId, IoError, Mapping};

use crate::files::Files;

/// How files are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Mapped: fast, but only where nobody cuts them.
    Map,
    /// Read: an unreadable sector is then an answer and not the end of the process.
    Read,
}

/// A file of which any part can be looked at.
pub(crate) struct Source<'f> {
    kind: Kind<'f>,
    len: u64,
}

enum Kind<'f> {
    Mapped(Mapping),
    Read(Reader<'f>),
}

struct Reader<'f> {
    files: &'f mut Files,
    file: FileId,
    window: Vec<u8>,
    /// Where the window begins in the file.
    at: u64,
    unreadable: Vec<(Range<u64>, IoError)>,
}

/// Least bytes read at once.
const WINDOW: usize = 1 << 20;
/// What is given up around an unreadable place.
const SECTOR: usize = 4096;

impl<'f> Source<'f> {
    pub(crate) fn open(files: &'f mut Files, path: &Path, access: Access) -> Result<Source<'f>, IoError> {
        if access == Access::Map
            && let Ok(mapping) = Mapping::open(path)
        {
            let len = mapping.len() as u64;
            return Ok(Source { kind: Kind::Mapped(mapping), len });
        }
        let (file, len) = files.open(path)?;
        let reader = Reader { files, file, window: Vec::new(), at: 0, unreadable: Vec::new() };
        Ok(Source { kind: Kind::Read(reader), len })
    }

    /// The file's length when it was opened.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Up to `len` bytes at `at`; fewer only at the end of the file. What cannot be read reads as zeros and is noted.
    pub(crate) fn at(&mut self, at: u64, len: usize) -> &[u8] {
        let end = at.saturating_add(len as u64).min(self.len);
        let at = at.min(end);
        match &mut self.kind {
            Kind::Mapped(mapping) => &mapping[at as usize..end as usize],
            Kind::Read(reader) => reader.at(at, end, self.len),
        }
    }

    /// Where the file could not be read, and why.
    pub(crate) fn unreadable(&self) -> &[(Range<u64>, IoError)] {
        match &self.kind {
            Kind::Mapped(_) => &[],
            Kind::Read(reader) => &reader.unreadable,
        }
    }
}

impl Drop for Source<'_> {
    fn drop(&mut self) {
        if let Kind::Read(reader) = &mut self.kind {
            reader.files.close(reader.file);
        }
    }
}

impl Reader<'_> {
    fn at(&mut self, at: u64, end: u64, file_len: u64) -> &[u8] {
        if at < self.at || end > self.at + self.window.len() as u64 {
            let want = ((end - at) as usize).max(WINDOW).min((file_len - at) as usize);
            self.fill(at, want);
        }
        let start = (at - self.at) as usize;
        &self.window[start..start + (end - at) as usize]
    }

    fn fill(&mut self, at: u64, want: usize) {
        self.window.clear();
        self.window.resize(want, 0);
        self.at = at;
        // A file that has become shorter meanwhile reads as zeros behind its end.
        if self.files.read(self.file, at, &mut self.window).is_ok() {
            return;
        }
        for start in (0..want).step_by(SECTOR) {
            let end = (start + SECTOR).min(want);
            let sector = &mut self.window[start..end];
            if let Err(error) = self.files.read(self.file, at + start as u64, sector) {
                sector.fill(0);
                let range = at + start as u64..at + end as u64;
                match self.unreadable.last_mut() {
                    Some((last, _)) if last.start <= range.start && range.end <= last.end => {}
                    Some((last, _)) if last.end == range.start => last.end = range.end,
                    _ => self.unreadable.push((range, error)),
                }
            }
        }
    }
}

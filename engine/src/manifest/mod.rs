//! `highwater.manifest`: what a clean stop knew of each log of a data directory, so that opening ten thousand of them
//! reads one file and looks at a few facts of each.
//!
//! A hint. It is written at a clean stop, before the marker that says that there was one, and removed together with the
//! marker, durably, before anything that it lists is opened. A log is opened by it only if the marker was there, the
//! log's directory has the time that is noted (no name in it came or went) and each of its segments has the length and the
//! time that are noted. All other logs are opened as if there were no manifest.

mod entry;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_base::Offset;
use highwater_io::{EntryKind, FileFacts, IoError, Op, Outcome, Park, blocking};

use crate::layout::{FileKind, FileName, MANIFEST};
use crate::whole_file::{read_file, replace_file};

pub(crate) use entry::{Entry, SegmentEntry};

const MAGIC: &[u8; 8] = b"HWMANIF\n";
const VERSION: u32 = 2;
/// Magic, version and count.
const HEAD_BYTES: usize = 16;
const CRC_BYTES: usize = 4;
/// Bytes of the largest manifest that is read, and written: a million small logs.
const MOST_BYTES: usize = 512 << 20;
/// A log with a longer entry (a large index, many producers) is not listed: opening it in full costs little beside its size.
const ENTRY_BYTES: usize = 128 << 10;
/// Logs looked at together.
const LOGS: usize = 512;
/// Paths looked at in one operation.
const PATHS: usize = 4096;

/// A log as a clean stop left it, for [`Manifest::write`]; from `Log::stopped`.
///
/// ```
/// let none: Vec<highwater_engine::StoppedLog> = Vec::new();
/// highwater_engine::Manifest::write(&mut highwater_io::MemoryIo::new(), "/".as_ref(), none)?;
/// # Ok::<(), highwater_io::IoError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct StoppedLog(pub(crate) Entry);

/// What a manifest says of one log; for `Log::open_listed`. Cheap to clone.
///
/// ```
/// use highwater_engine::Manifest;
/// assert!(Manifest::default().log("orders-0").is_none());
/// ```
#[derive(Clone, Debug)]
pub struct ListedLog {
    manifest: Arc<Vec<u8>>,
    entry: Range<u32>,
    unchanged: bool,
}

impl ListedLog {
    /// Whether directory and segments have the facts that are noted.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.unchanged
    }

    pub(crate) fn entry(&self) -> Option<Entry> {
        Entry::decode(self.manifest.get(self.entry.start as usize..self.entry.end as usize)?)
    }
}

/// A data directory's manifest. See the format in `docs/FORMAT.md`.
///
/// ```
/// use highwater_engine::Manifest;
/// use highwater_io::MemoryIo;
/// let mut io = MemoryIo::new();
/// Manifest::write(&mut io, "/".as_ref(), Vec::new())?;
/// let (manifest, why_ignored) = Manifest::load(&mut io, "/".as_ref())?;
/// assert!(manifest.is_empty() && why_ignored.is_none());
/// # Ok::<(), highwater_io::IoError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    bytes: Arc<Vec<u8>>,
    /// Where each entry lies, in the order of their names, and whether what it lists is unchanged.
    entries: Vec<(Range<u32>, bool)>,
}

impl Manifest {
    /// Reads the manifest of a data directory and looks at everything that it lists. One that is missing, damaged, too
    /// large or of another version is as good as none; if it was there, the line says why it is ignored.
    ///
    /// # Errors
    ///
    /// Those of the system, but not of a single path.
    pub fn load(io: &mut dyn Park, dir: &Path) -> Result<(Manifest, Option<String>), IoError> {
        let path = dir.join(MANIFEST);
        let ignored = |why: String| {
            let line = format!("{}: {why}; it is ignored, and each log is opened by itself", path.display());
            Ok((Manifest::default(), Some(line)))
        };
        let bytes = match read_file(io, &path, MOST_BYTES) {
            Ok(None) => return Ok((Manifest::default(), None)),
            Ok(Some(bytes)) => bytes,
            Err(error) => return ignored(error.to_string()),
        };
        match Manifest::decode(bytes) {
            Ok(mut manifest) => {
                manifest.look(io, dir)?;
                Ok((manifest, None))
            }
            Err(why) => ignored(why),
        }
    }

    /// From a manifest's bytes; nothing is known to be unchanged yet. The error is for people.
    ///
    /// ```
    /// assert_eq!(highwater_engine::Manifest::decode(b"HWMANIF".to_vec()).unwrap_err(),
    ///     "expected a manifest of 20 bytes at least, found 7");
    /// ```
    pub fn decode(bytes: Vec<u8>) -> Result<Manifest, String> {
        let half = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let Some(end) = bytes.len().checked_sub(CRC_BYTES).filter(|end| *end >= HEAD_BYTES) else {
            let least = HEAD_BYTES + CRC_BYTES;
            return Err(format!("expected a manifest of {least} bytes at least, found {}", bytes.len()));
        };
        if bytes[..8] != *MAGIC || half(8) != VERSION {
            return Err(format!("expected a manifest of version {VERSION}, found other bytes"));
        }
        let (expected, found) = (half(end), crc32fast::hash(&bytes[..end]));
        if expected != found {
            return Err(format!("expected the checksum {expected:08x}, found {found:08x}"));
        }
        let mut entries: Vec<(Range<u32>, bool)> = Vec::new();
        let (mut at, mut last) = (HEAD_BYTES, None);
        while at < end {
            let body = at + 4;
            let len = if body <= end { half(at) as usize } else { usize::MAX };
            let name = body.checked_add(len).filter(|next| *next <= end).and_then(|next| {
                at = next;
                Entry::name_of(&bytes[body..next])
            });
            if name.is_none() || name <= last {
                return Err(format!("expected the name of a log behind byte {body}, in order"));
            }
            last = name;
            entries.push((body as u32..at as u32, false));
        }
        if entries.len() != half(12) as usize {
            return Err(format!("expected {} logs, found {}", half(12), entries.len()));
        }
        Ok(Manifest { bytes: Arc::new(bytes), entries })
    }

    /// Whether it lists no log.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What it says of the log in the directory of this name.
    pub fn log(&self, name: &str) -> Option<ListedLog> {
        let at = self.entries.binary_search_by(|(entry, _)| {
            Entry::name_of(self.bytes_of(entry)).unwrap_or_default().cmp(name)
        });
        let (entry, unchanged) = self.entries[at.ok()?].clone();
        Some(ListedLog { manifest: Arc::clone(&self.bytes), entry, unchanged })
    }

    fn bytes_of(&self, entry: &Range<u32>) -> &[u8] {
        &self.bytes[entry.start as usize..entry.end as usize]
    }

    /// Compares what is there with what is listed.
    fn look(&mut self, io: &mut dyn Park, dir: &Path) -> Result<(), IoError> {
        // A few at a time, so that little memory is taken for it.
        for first in (0..self.entries.len()).step_by(LOGS) {
            let last = self.entries.len().min(first + LOGS);
            let decoded = |(range, _): &(Range<u32>, bool)| Entry::decode(self.bytes_of(range));
            let listed: Vec<Option<Entry>> = self.entries[first..last].iter().map(decoded).collect();
            let paths = listed.iter().flatten().flat_map(|entry| paths(dir, entry)).collect();
            let mut facts = stat_all(io, paths)?.into_iter();
            for (at, entry) in listed.iter().enumerate() {
                let Some(entry) = entry else { continue };
                let found = facts.by_ref().take(1 + entry.segments.len());
                self.entries[first + at].1 = is_as_listed(entry, &found.collect::<Vec<_>>());
            }
        }
        Ok(())
    }

    /// Writes the manifest of a data directory whose logs are stopped: the last thing but the marker of a clean stop.
    /// Logs whose files are not what they should be are left out.
    ///
    /// # Errors
    ///
    /// Those of the system; then there may be no manifest, which only makes the next start slower.
    pub fn write(io: &mut dyn Park, dir: &Path, logs: Vec<StoppedLog>) -> Result<(), IoError> {
        let mut logs: Vec<Entry> = logs.into_iter().map(|log| log.0).collect();
        logs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        logs.dedup_by(|a, b| a.name == b.name);
        let mut facts = stat_all(io, logs.iter().flat_map(|entry| paths(dir, entry)).collect())?.into_iter();
        let mut bytes = [&MAGIC[..], &VERSION.to_be_bytes(), &[0; 4]].concat();
        let mut count = 0u32;
        for mut entry in logs {
            let found: Vec<Option<FileFacts>> = facts.by_ref().take(1 + entry.segments.len()).collect();
            if !note_times(&mut entry, &found) {
                continue;
            }
            let start = bytes.len();
            entry.encode(&mut bytes);
            if bytes.len() - start > ENTRY_BYTES || bytes.len() > MOST_BYTES - CRC_BYTES {
                bytes.truncate(start);
            } else {
                count += 1;
            }
        }
        bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&count.to_be_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend(crc.to_be_bytes());
        replace_file(io, &dir.join(MANIFEST), bytes)
    }
}

/// The log's directory, then its segments.
fn paths<'a>(dir: &Path, entry: &'a Entry) -> impl Iterator<Item = PathBuf> + use<'a> {
    let dir = dir.join(&entry.name);
    let log = |base: Offset| FileName::live(FileKind::Log, base).to_string();
    let segments = entry.segments.iter().map(move |segment| segment.base);
    std::iter::once(dir.clone()).chain(segments.map(move |base| dir.join(log(base))))
}

fn stat_all(io: &mut dyn Park, mut paths: Vec<PathBuf>) -> Result<Vec<Option<FileFacts>>, IoError> {
    let mut all = Vec::with_capacity(paths.len());
    while !paths.is_empty() {
        let rest = paths.split_off(paths.len().min(PATHS));
        let paths = std::mem::replace(&mut paths, rest);
        if let Outcome::Stats { mut facts } = blocking::run(io, Op::StatMany { paths })? {
            all.append(&mut facts);
        }
    }
    Ok(all)
}

/// Whether a log's directory and segments (in this order) are as they are listed.
fn is_as_listed(entry: &Entry, found: &[Option<FileFacts>]) -> bool {
    let mut now = entry.clone();
    note_times(&mut now, found) && now == *entry
}

/// Notes the times of a log's directory and segments (in this order); false if they are not what they must be.
fn note_times(entry: &mut Entry, found: &[Option<FileFacts>]) -> bool {
    let Some((Some(dir), segments)) = found.split_first() else { return false };
    entry.modified_ms = dir.modified_ms;
    let mut sound = dir.kind == EntryKind::Directory && segments.len() == entry.segments.len();
    for (segment, facts) in entry.segments.iter_mut().zip(segments) {
        let Some(facts) = facts else { return false };
        sound &= facts.kind == EntryKind::File && facts.len == segment.size;
        segment.modified_ms = facts.modified_ms;
    }
    sound
}

#[cfg(test)]
mod tests;

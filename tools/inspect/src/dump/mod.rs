//! `highwater dump`: what a file or directory holds.

mod batch;
mod directory;
mod index;
mod record;
mod segment;
mod side;

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use highwater_base::Offset;

use crate::files::Files;
use crate::place::{self, Place};
use crate::source::Access;
use crate::{Damage, Finding, InspectError};

/// What to print, and how.
///
/// ```
/// use highwater_inspect::DumpOptions;
/// let options = DumpOptions { json: true, records: true, ..DumpOptions::default() };
/// assert!(options.offsets.is_none());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DumpOptions {
    /// JSON lines instead of text for people.
    pub json: bool,
    /// Records too, not only batches.
    pub records: bool,
    /// Only batches that hold one of these offsets, and the records among them; none: all.
    pub offsets: Option<Range<Offset>>,
    /// Bytes that one batch may unpack to. Default 1 GiB.
    pub decompressed_bytes: u64,
}

impl Default for DumpOptions {
    fn default() -> DumpOptions {
        DumpOptions { json: false, records: false, offsets: None, decompressed_bytes: 1 << 30 }
    }
}

impl DumpOptions {
    /// Whether `first..=last` overlaps what is asked for.
    fn wants(&self, first: Offset, last: Offset) -> bool {
        self.offsets.as_ref().is_none_or(|asked| first < asked.end && last >= asked.start)
    }
}

/// What a dump went through, and the damage it met.
///
/// ```
/// assert!(highwater_inspect::DumpSummary::default().findings.is_empty());
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DumpSummary {
    /// Files that were looked into.
    pub files: u64,
    /// Batches of all segments.
    pub batches: u64,
    /// Records of all batches, by their headers.
    pub records: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Damaged places, in the order in which they were met.
    pub findings: Vec<Finding>,
}

/// Prints what `path` holds. Never writes to it; never stops at damage, which is reported in the summary (and, in
/// text, where it is met).
pub fn dump(out: &mut dyn Write, options: &DumpOptions, path: &Path) -> Result<DumpSummary, InspectError> {
    let mut files = Files::new()?;
    let place = place::place(&mut files, path)?;
    let access = place::access(&place, path)?;
    let mut buffered = std::io::BufWriter::with_capacity(256 << 10, out);
    let mut dumper =
        Dumper { out: &mut buffered, options, files: &mut files, access, summary: DumpSummary::default() };
    match place {
        Place::PartitionFile(name) => dumper.partition_file(path, &place::file_name(path), name)?,
        Place::TopFile(kind) => dumper.top_file(path, &place::file_name(path), kind)?,
        Place::Partition => dumper.partition(path)?,
        Place::LogDirectory => dumper.log_directory(path)?,
    }
    let summary = dumper.summary;
    buffered.flush()?;
    Ok(summary)
}

/// One dump under way.
struct Dumper<'a> {
    out: &'a mut dyn Write,
    options: &'a DumpOptions,
    files: &'a mut Files,
    access: Access,
    summary: DumpSummary,
}

impl Dumper<'_> {
    /// Notes damage, and says so in text.
    fn damaged(&mut self, path: &Path, position: Option<u64>, damage: Damage) -> Result<(), InspectError> {
        let finding = Finding { path: path.into(), position, damage, verdict: None };
        if !self.options.json {
            writeln!(self.out, "  DAMAGED {finding}")?;
        }
        self.summary.findings.push(finding);
        Ok(())
    }

    /// A whole small file; a file that cannot be read is damage.
    fn whole(&mut self, path: &Path) -> Result<Option<Vec<u8>>, InspectError> {
        match self.files.read_all(path, LARGEST_WHOLE) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => {
                self.damaged(path, None, Damage::Unreadable { bytes: 0..0, error })?;
                Ok(None)
            }
        }
    }
}

/// Files that are read whole are small; of a larger one this much is looked at.
const LARGEST_WHOLE: u64 = 256 << 20;

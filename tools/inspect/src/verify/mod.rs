//! `highwater verify`: a full walk of a directory that names every damaged place.
//!
//! Always by reading, never by mapping, so that an unreadable sector is a finding and not the end of the process.

mod deep;
mod offset_entries;
mod partition;
mod sealed_batches;
mod segment;
mod side;
mod time_entries;
mod txn_entries;
mod verdict;

use std::path::{Path, PathBuf};

use highwater_engine::layout::{self, PartitionDir};

use crate::damage::{line_start, not_utf8};
use crate::files::Files;
use crate::place::{self, Place, TopFile};
use crate::{Damage, Finding, InspectError};

/// What a walk went through and what it found.
///
/// ```
/// let report = highwater_inspect::VerifyReport::default();
/// assert_eq!(report.exit_status(), 0);
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct VerifyReport {
    /// Partition directories.
    pub partitions: u64,
    /// Files that were read.
    pub files: u64,
    /// Segments among them.
    pub segments: u64,
    /// Batches of all segments.
    pub batches: u64,
    /// Records of all batches.
    pub records: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Whether the log directory was stopped in order; then nothing may be unfinished.
    pub clean_stop: bool,
    /// Seals that bind nothing any more because somebody else has written the segment: no damage.
    pub void_seals: Vec<PathBuf>,
    /// Damaged places.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// What the program ends with: 0 if nothing is damaged, 1 if something is. (2, that it could not run, is an
    /// [`InspectError`].)
    pub fn exit_status(&self) -> u8 {
        u8::from(!self.findings.is_empty())
    }
}

/// Walks a log directory or a partition's directory: framing, checksum and records of every batch, every index entry
/// against the batches, snapshots, seals, checkpoints.
///
/// A batch that is cut off is damage. Zeros behind the last batch and unwritten index slots are not, unless the
/// directory carries the mark of an orderly stop. Files that wait for their removal are not looked at. While a broker
/// writes to the directory, what it has not finished may look cut off.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("highwater-verify-{}", std::process::id()));
/// # std::fs::create_dir_all(dir.join("orders-0")).unwrap();
/// let batch = highwater_engine::batch::BatchBuilder::new().record(1, Some(b"k"), Some(b"v")).build();
/// std::fs::write(dir.join("orders-0/00000000000000000000.log"), &batch[..batch.len() - 5]).unwrap();
/// let report = highwater_inspect::verify(&dir)?;
/// assert_eq!(report.exit_status(), 1); // the only batch is cut off
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), highwater_inspect::InspectError>(())
/// ```
pub fn verify(path: &Path) -> Result<VerifyReport, InspectError> {
    walk(path, false)
}

/// The same, and what the files say together: snapshots, leader epochs, aborted transactions, seals and the proven end
/// against all batches of the partition. `highwater verify --deep`. Reads no more than [`verify`] does; remembers what
/// the partition's producers are.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("highwater-deep-{}", std::process::id()));
/// # std::fs::create_dir_all(dir.join("orders-0")).unwrap();
/// use highwater_base::LeaderEpoch;
/// use highwater_engine::batch::BatchBuilder;
/// let batch = BatchBuilder::new().leader_epoch(LeaderEpoch::ZERO).record(1, Some(b"k"), Some(b"v")).build();
/// std::fs::write(dir.join("orders-0/00000000000000000000.log"), batch).unwrap();
/// std::fs::write(dir.join("orders-0/leader-epoch-checkpoint"), "0\n2\n5 0\n6 9\n").unwrap();
/// assert_eq!(highwater_inspect::verify(&dir)?.exit_status(), 0);
/// let report = highwater_inspect::verify_deep(&dir)?;
/// assert_eq!(report.exit_status(), 1); // the checkpoint says epoch 5
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), highwater_inspect::InspectError>(())
/// ```
pub fn verify_deep(path: &Path) -> Result<VerifyReport, InspectError> {
    walk(path, true)
}

fn walk(path: &Path, deep: bool) -> Result<VerifyReport, InspectError> {
    let mut files = Files::new()?;
    let place = place::place(&mut files, path)?;
    let top = place::log_directory(&place, path);
    let mut verifier = Verifier { files: &mut files, report: VerifyReport::default(), deep };
    verifier.report.clean_stop = verifier.files.facts(&top.join(layout::CLEAN_SHUTDOWN)).is_ok();
    match place {
        Place::Partition => verifier.partition(path)?,
        Place::LogDirectory => verifier.log_directory(path)?,
        Place::PartitionFile(_) | Place::TopFile(_) => {
            return Err(InspectError::Unknown { path: path.into() });
        }
    }
    Ok(verifier.report)
}

/// One walk under way.
struct Verifier<'f> {
    files: &'f mut Files,
    report: VerifyReport,
    /// Compare the files with each other, too.
    deep: bool,
}

impl Verifier<'_> {
    fn log_directory(&mut self, dir: &Path) -> Result<(), InspectError> {
        let entries = self.files.list(dir)?;
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            if let Some(kind) = TopFile::of(&entry.name) {
                self.report.files += 1;
                self.top_file(&entry.path, kind);
            }
        }
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            if PartitionDir::parse(&entry.name).is_some() {
                self.partition(&entry.path)?;
            }
        }
        Ok(())
    }

    fn found(&mut self, path: &Path, position: Option<u64>, damage: Damage) {
        self.report.findings.push(Finding { path: path.into(), position, damage, verdict: None });
    }

    /// A whole small file; one that cannot be read is a finding.
    fn whole(&mut self, path: &Path) -> Option<Vec<u8>> {
        match self.files.read_all(path, u64::MAX) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.found(path, None, Damage::Unreadable { bytes: 0..0, error });
                None
            }
        }
    }

    /// A text file; bytes that are no text are a finding.
    fn text(&mut self, path: &Path) -> Option<String> {
        match String::from_utf8(self.whole(path)?) {
            Ok(text) => Some(text),
            Err(error) => {
                let (position, damage) = not_utf8(&error);
                self.found(path, Some(position), damage);
                None
            }
        }
    }

    fn bad_line(&mut self, path: &Path, text: &str, line: usize, damage: Damage) {
        self.found(path, Some(line_start(text, line)), damage);
    }
}

//! What opening a log found and did.

use std::path::PathBuf;

use highwater_base::{FilePos, Offset};

use super::Verdict;

/// One damaged place, what was made of it and what was done.
///
/// ```
/// use highwater_base::FilePos;
/// use highwater_engine::{Finding, Verdict};
/// let f = Finding { file: "0.log".into(), position: FilePos::new(97), bytes: 20, verdict: Verdict::Torn, kept: None };
/// assert_eq!(f.verdict, Verdict::Torn);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The segment.
    pub file: PathBuf,
    /// Where the bad bytes begin.
    pub position: FilePos,
    /// How many bytes were cut, or cannot be read.
    pub bytes: u64,
    /// What it is.
    pub verdict: Verdict,
    /// Where the bytes that were cut are kept aside, if they are.
    pub kept: Option<PathBuf>,
}

/// What opening a log found and did.
///
/// ```
/// let report = highwater_engine::RecoveryReport::default();
/// assert!(report.is_clean());
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Segments found.
    pub segments: usize,
    /// Bytes of all segments.
    pub log_bytes: u64,
    /// Bytes of them that had to be read, prepared space behind the last batch included. Those that are then written again in place are
    /// counted once.
    pub scanned_bytes: u64,
    /// Bytes cut from the end of the log.
    pub cut_bytes: u64,
    /// Whether anything on disk was changed to make the log whole.
    pub changed: bool,
    /// Each damaged place.
    pub findings: Vec<Finding>,
    /// Files that did not belong there, or were remains of something interrupted, and were removed.
    pub removed: Vec<PathBuf>,
    /// The end of what was proven to be synced before the stop.
    pub proven_end: Option<Offset>,
}

impl RecoveryReport {
    /// Whether nothing was damaged.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

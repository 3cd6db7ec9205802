//! The time index against the batches.

use std::path::{Path, PathBuf};

use highwater_base::WallMs;
use highwater_engine::index::{TIME_ENTRY_BYTES, TimeEntry, TimeIndex};

use super::segment::{Observer, Seen, Segment};
use crate::{Damage, Finding};

/// Every entry's timestamp must be the largest up to the batch that holds its offset. (The offset itself is that of a
/// batch's end, or of a record in it: Kafka has done both.)
pub(super) struct TimeEntries {
    path: PathBuf,
    entries: Vec<TimeEntry>,
    next: usize,
    largest: WallMs,
    /// No damage so far: the largest timestamp is known, not only a least.
    exact: bool,
}

impl TimeEntries {
    pub(super) fn new(path: &Path, index: TimeIndex<'_>) -> TimeEntries {
        TimeEntries {
            path: path.into(),
            entries: index.entries().collect(),
            next: 0,
            largest: WallMs::NONE,
            exact: true,
        }
    }

    fn wrong(&self, entry: usize, expected: String, found: &mut Vec<Finding>) {
        let TimeEntry { timestamp, offset } = self.entries[entry];
        found.push(Finding {
            path: self.path.clone(),
            position: Some((entry * TIME_ENTRY_BYTES) as u64),
            damage: Damage::Entry {
                entry,
                found: format!("time {} up to offset {offset}", timestamp.get()),
                expected,
            },
            verdict: None,
        });
    }
}

impl Observer for TimeEntries {
    fn batch(&mut self, seen: &Seen<'_>, found: &mut Vec<Finding>) {
        self.largest = self.largest.max(seen.batch.max_timestamp());
        self.exact &= !seen.gap;
        while let Some(entry) = self.entries.get(self.next).filter(|e| e.offset <= seen.batch.last_offset()) {
            if entry.offset < seen.base {
                if !seen.gap {
                    self.wrong(self.next, "an offset that a batch holds".into(), found);
                }
            } else if entry.timestamp < self.largest || self.exact && entry.timestamp > self.largest {
                self.wrong(self.next, format!("time {}", self.largest.get()), found);
            }
            self.next += 1;
        }
    }

    fn end(&mut self, segment: &Segment<'_>, whole: bool, found: &mut Vec<Finding>) {
        // After a crash an index may be ahead of its segment; a start makes it anew.
        while whole && segment.clean && self.next < self.entries.len() {
            self.wrong(self.next, "an offset that a batch holds".into(), found);
            self.next += 1;
        }
    }
}

//! The offset index against the batches.

use std::path::{Path, PathBuf};

use highwater_engine::index::{OFFSET_ENTRY_BYTES, OffsetEntry, OffsetIndex};

use super::segment::{Observer, Seen, Segment};
use crate::{Damage, Finding};

/// Every entry must lie at the start of a batch, and its offset must be the last one of that batch. Kafka before 4
/// wrote one entry for several batches appended together, with the last offset of them all: so a later batch, before
/// the next entry, will do.
pub(super) struct OffsetEntries {
    path: PathBuf,
    entries: Vec<OffsetEntry>,
    /// The next entry whose position has not come.
    next: usize,
    /// The entry whose position has come and whose offset has not.
    open: Option<usize>,
    /// The end of the batches seen so far.
    end: u64,
}

impl OffsetEntries {
    pub(super) fn new(path: &Path, index: OffsetIndex<'_>) -> OffsetEntries {
        OffsetEntries { path: path.into(), entries: index.entries().collect(), next: 0, open: None, end: 0 }
    }

    fn wrong(&self, entry: usize, expected: &str, found: &mut Vec<Finding>) {
        let OffsetEntry { offset, position } = self.entries[entry];
        found.push(Finding {
            path: self.path.clone(),
            position: Some((entry * OFFSET_ENTRY_BYTES) as u64),
            damage: Damage::Entry {
                entry,
                found: format!("offset {offset} at byte {position}"),
                expected: expected.into(),
            },
            verdict: None,
        });
    }

    /// The open entry's batches have gone by; behind a gap they may have been in it.
    fn close(&mut self, gap: bool, found: &mut Vec<Finding>) {
        if let Some(entry) = self.open.take().filter(|_| !gap) {
            self.wrong(entry, "the last offset of the batch there", found);
        }
    }
}

impl Observer for OffsetEntries {
    fn batch(&mut self, seen: &Seen<'_>, found: &mut Vec<Finding>) {
        self.end = seen.position + seen.batch.size() as u64;
        while let Some(&entry) = self.entries.get(self.next)
            && entry.position.get() <= seen.position
        {
            self.close(seen.gap, found);
            if entry.position.get() == seen.position {
                self.open = Some(self.next);
            } else if !seen.gap {
                self.wrong(self.next, "the start of a batch", found);
            }
            self.next += 1;
        }
        if self.open.is_some_and(|open| self.entries[open].offset == seen.batch.last_offset()) {
            self.open = None;
        }
    }

    fn end(&mut self, segment: &Segment<'_>, whole: bool, found: &mut Vec<Finding>) {
        if !whole {
            // Entries of batches that are damaged have nothing to be compared with.
            return;
        }
        self.close(false, found);
        while self.next < self.entries.len() {
            let beyond = self.entries[self.next].position.get() >= self.end;
            // After a crash an index may be ahead of its segment; a start makes it anew.
            if segment.clean || !beyond {
                self.wrong(self.next, "the start of a batch", found);
            }
            self.next += 1;
        }
    }
}

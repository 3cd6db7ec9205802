//! The transaction index against the markers.

use std::path::{Path, PathBuf};

use highwater_engine::index::{AbortedTxn, TXN_ENTRY_BYTES, TxnIndex};
use highwater_engine::producers::MarkerFacts;

use super::segment::{Observer, Seen, Segment};
use crate::{Damage, Finding};

/// Every entry's last offset must be that producer's abort marker; compaction may have emptied the marker's batch.
pub(super) struct TxnEntries {
    path: PathBuf,
    entries: Vec<AbortedTxn>,
    next: usize,
}

impl TxnEntries {
    pub(super) fn new(path: &Path, index: TxnIndex<'_>) -> TxnEntries {
        let entries = index.entries().map(|(_, aborted)| aborted).collect();
        TxnEntries { path: path.into(), entries, next: 0 }
    }

    fn wrong(&self, entry: usize, found: &mut Vec<Finding>) {
        let aborted = self.entries[entry];
        found.push(Finding {
            path: self.path.clone(),
            position: Some((entry * TXN_ENTRY_BYTES) as u64),
            damage: Damage::Entry {
                entry,
                found: format!("producer {} aborted at offset {}", aborted.producer_id, aborted.last_offset),
                expected: "the offset of its abort marker".into(),
            },
            verdict: None,
        });
    }
}

impl Observer for TxnEntries {
    fn batch(&mut self, seen: &Seen<'_>, found: &mut Vec<Finding>) {
        let last = seen.batch.last_offset();
        while let Some(aborted) = self.entries.get(self.next).filter(|aborted| aborted.last_offset <= last) {
            let is_its_marker = aborted.last_offset == last
                && seen.batch.header().is_some_and(|header| {
                    header.producer_id() == aborted.producer_id
                        && header.attributes().is_control()
                        && (header.record_count() == 0
                            || MarkerFacts::of(seen.batch).is_some_and(|marker| !marker.committed))
                });
            let is_in_gap = seen.gap && aborted.last_offset < seen.base;
            if !is_its_marker && !is_in_gap {
                self.wrong(self.next, found);
            }
            self.next += 1;
        }
    }

    fn end(&mut self, segment: &Segment<'_>, whole: bool, found: &mut Vec<Finding>) {
        while whole && segment.clean && self.next < self.entries.len() {
            self.wrong(self.next, found);
            self.next += 1;
        }
    }
}

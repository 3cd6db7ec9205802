//! `--deep`: what the batches of a partition say together, held against the files that repeat it.
//!
//! Leader epochs, producers, aborted transactions, the facts in seals and the proven end all follow from the batches. Where
//! the two differ and no batch is damaged, the file beside is wrong. Nothing is concluded from batches behind damage, nor,
//! of producers, behind a hole in the offsets, where compaction may have taken what a snapshot still knows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater_base::{LeaderEpoch, Offset, ProducerId, WallMs};
use highwater_engine::Checkpoint;
use highwater_engine::epochs::EpochCache;
use highwater_engine::index::AbortedTxn;
use highwater_engine::layout::{self, FileKind, FileName};
use highwater_engine::producers::{ProducerBatch, ProducerEntry, Producers, SnapshotEntry};
use highwater_engine::seal::Seal;

use super::segment::{Observer, Seen, Segment};
use crate::damage::line_start;
use crate::{Damage, Finding};

/// The files beside the segments, as far as they can be read.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) dir: PathBuf,
    /// The directory was stopped in order: nothing may lag behind.
    pub(super) clean: bool,
    /// `leader-epoch-checkpoint` and its text.
    pub(super) epochs: Option<(EpochCache, String)>,
    /// Producers by the offset of their snapshot.
    pub(super) snapshots: BTreeMap<Offset, Vec<SnapshotEntry>>,
    /// Transaction indexes by segment.
    pub(super) aborted: BTreeMap<Offset, Vec<AbortedTxn>>,
    /// Seals that bind their segment.
    pub(super) seals: BTreeMap<Offset, Seal>,
    pub(super) checkpoint: Option<Checkpoint>,
}

/// Goes along with a partition's batches, from segment to segment.
pub(super) struct Deep {
    beside: Beside,
    /// The first batch's offset.
    first: Option<Offset>,
    /// The offset after the last batch.
    next: Offset,
    /// Every batch so far was whole.
    whole: bool,
    /// And no offset was missing.
    dense: bool,
    producers: Producers,
    /// Aborted transactions of this segment, by their markers.
    markers: Vec<AbortedTxn>,
    facts: SealFacts,
    /// The last contradiction of epochs that was reported: a batch's epoch, and the file's.
    reported: Option<(LeaderEpoch, LeaderEpoch)>,
    checkpoint_seen: bool,
}

/// What a seal repeats of its batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SealFacts {
    first: Offset,
    last: Offset,
    first_epoch: LeaderEpoch,
    last_epoch: LeaderEpoch,
    max_timestamp: WallMs,
}

impl SealFacts {
    const NONE: SealFacts = SealFacts {
        first: Offset::NONE,
        last: Offset::NONE,
        first_epoch: LeaderEpoch::NONE,
        last_epoch: LeaderEpoch::NONE,
        max_timestamp: WallMs::NONE,
    };

    fn see(&mut self, first: Offset, last: Offset, epoch: LeaderEpoch, timestamp: WallMs) {
        if !self.first.is_some() {
            (self.first, self.first_epoch) = (first, epoch);
        }
        self.last = last;
        self.first_epoch = self.first_epoch.min(epoch);
        self.last_epoch = self.last_epoch.max(epoch);
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    fn of(seal: &Seal) -> SealFacts {
        SealFacts {
            first: seal.first_offset,
            last: seal.last_offset,
            first_epoch: seal.first_epoch,
            last_epoch: seal.last_epoch,
            max_timestamp: seal.max_timestamp,
        }
    }

    fn text(&self) -> String {
        format!(
            "offsets {} to {}, epochs {} to {}, largest time {}",
            self.first,
            self.last,
            self.first_epoch,
            self.last_epoch,
            self.max_timestamp.get()
        )
    }
}

/// Producers remembered at once; far above what Kafka keeps.
const PRODUCERS: usize = 1 << 20;

impl Deep {
    pub(super) fn new(beside: Beside) -> Deep {
        Deep {
            beside,
            first: None,
            next: Offset::NONE,
            whole: true,
            dense: true,
            producers: Producers::new(PRODUCERS),
            markers: Vec::new(),
            facts: SealFacts::NONE,
            reported: None,
            checkpoint_seen: false,
        }
    }

    fn path(&self, kind: FileKind, offset: Offset) -> PathBuf {
        self.beside.dir.join(FileName::live(kind, offset).to_string())
    }

    /// Whether producers of the batches so far are all there were.
    fn certain(&self) -> bool {
        self.whole && self.dense
    }

    fn epoch(&mut self, seen: &Seen<'_>, found: &mut Vec<Finding>) {
        let Some((cache, text)) = &self.beside.epochs else { return };
        let Some(header) = seen.batch.header() else { return };
        let epoch = header.leader_epoch();
        let entries = cache.entries();
        let below = entries.partition_point(|entry| entry.1 <= seen.base);
        let in_force = below.checked_sub(1).map_or(LeaderEpoch::NONE, |index| entries[index].0);
        if epoch == in_force || !epoch.is_some() || self.reported == Some((epoch, in_force)) {
            return;
        }
        // Below the log's start the first entries are cut off; after a crash the last may be missing.
        let cut_off = below == 0 && !entries.is_empty();
        let lags = !self.beside.clean && epoch > cache.latest();
        if cut_off || lags {
            return;
        }
        self.reported = Some((epoch, in_force));
        found.push(fact(
            &self.beside.dir.join(layout::LEADER_EPOCHS),
            line_start(text, if below == 0 { 1 } else { below + 2 }),
            format!("epoch {epoch} at offset {}, as the batch there says", seen.base),
            format!("epoch {in_force}"),
        ));
    }

    fn proven_end(&mut self, seen: &Seen<'_>, segment: Offset, found: &mut Vec<Finding>) {
        let Some(checkpoint) = &self.beside.checkpoint else { return };
        let end = seen.position + seen.batch.size() as u64;
        let position = checkpoint.position.get();
        if checkpoint.segment != segment || self.checkpoint_seen || position >= end {
            return;
        }
        self.checkpoint_seen = true;
        if position < seen.position {
            return; // Damage lies there.
        }
        let expected = if self.next.is_some() { self.next } else { segment };
        if position > seen.position || (self.certain() && checkpoint.offset != expected) {
            found.push(fact(
                &self.beside.dir.join(layout::CHECKPOINT),
                0,
                format!("the end of a batch; offset {expected} follows at byte {}", seen.position),
                format!("proven up to byte {position} of segment {segment}, offset {}", checkpoint.offset),
            ));
        }
    }

    /// Compares the snapshots that end at or before `upto` with the producers so far.
    fn snapshots_up_to(&mut self, upto: Offset, found: &mut Vec<Finding>) {
        while let Some(first) = self.beside.snapshots.first_entry()
            && *first.key() <= upto
        {
            let (offset, entries) = first.remove_entry();
            if !self.certain() {
                continue;
            }
            let path = self.path(FileKind::Snapshot, offset);
            for (number, entry) in entries.iter().enumerate() {
                if let Some(expected) = self.contradiction(entry) {
                    found.push(fact(&path, entry_position(number), expected, entry_text(entry)));
                }
            }
            for (id, known) in self.producers.iter() {
                if known.open_transaction().is_some() && !entries.iter().any(|entry| entry.producer_id == id)
                {
                    found.push(fact(
                        &path,
                        0,
                        known_text(id, known),
                        format!("no entry of producer {id}, whose transaction is open"),
                    ));
                }
            }
        }
    }

    /// What the batches say of a producer, if a snapshot's entry says something else.
    fn contradiction(&self, entry: &SnapshotEntry) -> Option<String> {
        let first = self.first?;
        let known = self.producers.get(entry.producer_id);
        let Some(known) = known else {
            // Its batches may lie before the log's start.
            let gone = !entry.last_offset.is_some() || entry.last_offset < first;
            return (!gone).then(|| format!("no producer {} below", entry.producer_id));
        };
        let last = known.batches().last();
        let same_batch = match last {
            Some(last) => {
                (last.last_offset, last.last_sequence, last.offset_delta)
                    == (entry.last_offset, entry.last_sequence, entry.offset_delta)
            }
            None => !entry.last_offset.is_some() || entry.last_offset < first,
        };
        let open = known.open_transaction().unwrap_or(Offset::NONE);
        let same_open = open == entry.open_transaction
            || (entry.open_transaction.is_some() && entry.open_transaction < first);
        let same = known.epoch() == entry.epoch && same_batch && same_open;
        (!same).then(|| known_text(entry.producer_id, known))
    }

    /// The aborted transactions of a segment against its index.
    fn index_of_aborted(&mut self, segment: &Segment<'_>, found: &mut Vec<Finding>) {
        let markers = std::mem::take(&mut self.markers);
        // The active segment's index is written by and by.
        if segment.next == Offset::MAX && !segment.clean {
            return;
        }
        let none = Vec::new();
        let listed = self.beside.aborted.get(&segment.base).unwrap_or(&none);
        for marker in markers {
            let same = |entry: &&AbortedTxn| entry.last_offset == marker.last_offset;
            let says = match listed.iter().find(same) {
                Some(entry) if entry.first_offset == marker.first_offset => continue,
                Some(entry) => format!("begun at offset {}", entry.first_offset),
                None => "no entry of it".to_owned(),
            };
            let expected = format!(
                "producer {}'s transaction of offsets {} to {}, aborted",
                marker.producer_id, marker.first_offset, marker.last_offset
            );
            found.push(fact(&self.path(FileKind::TxnIndex, segment.base), 0, expected, says));
        }
    }
}

impl Observer for &mut Deep {
    fn batch(&mut self, seen: &Seen<'_>, found: &mut Vec<Finding>) {
        let last = seen.batch.last_offset();
        self.whole &= !seen.gap;
        self.dense &= self.next == seen.base || !self.next.is_some();
        self.first.get_or_insert(seen.base);
        self.snapshots_up_to(seen.base, found);
        self.epoch(seen, found);
        self.proven_end(seen, seen.segment, found);
        let epoch = seen.batch.header().map_or(LeaderEpoch::NONE, |header| header.leader_epoch());
        self.facts.see(seen.base, last, epoch, seen.batch.max_timestamp());
        if let Some(header) = seen.batch.header() {
            // Compaction keeps a batch's range and thins out its records.
            self.dense &= header.record_count() == header.last_offset_delta() + 1;
        }
        if let Some(batch) = ProducerBatch::of(seen.batch)
            && let Some(aborted) = self.producers.apply(&batch)
        {
            self.markers.push(aborted);
        }
        self.next = last.plus(1);
    }

    fn end(&mut self, segment: &Segment<'_>, whole: bool, found: &mut Vec<Finding>) {
        self.whole &= whole;
        let facts = std::mem::replace(&mut self.facts, SealFacts::NONE);
        if whole {
            self.index_of_aborted(segment, found);
            if let Some(seal) = self.beside.seals.get(&segment.base)
                && SealFacts::of(seal) != facts
            {
                let path = self.path(FileKind::Seal, segment.base);
                found.push(fact(&path, 0, facts.text(), SealFacts::of(seal).text()));
            }
        }
        self.markers.clear();
        if segment.next != Offset::MAX {
            return;
        }
        let end = if self.next.is_some() { self.next } else { segment.base };
        self.snapshots_up_to(end, found);
        // After a crash those behind the end go.
        if self.beside.clean && self.whole {
            for offset in self.beside.snapshots.keys() {
                let path = self.path(FileKind::Snapshot, *offset);
                let expected = format!("an offset up to {end}, the log's end");
                found.push(fact(&path, 0, expected, format!("offset {offset} in its name")));
            }
        }
    }
}

fn fact(path: &Path, position: u64, expected: String, found: String) -> Finding {
    let damage = Damage::Contradicts { expected, found };
    Finding { path: path.into(), position: Some(position), damage, verdict: None }
}

fn entry_position(number: usize) -> u64 {
    use highwater_engine::producers::{SNAPSHOT_ENTRY_BYTES, SNAPSHOT_HEADER_BYTES};
    (SNAPSHOT_HEADER_BYTES + number * SNAPSHOT_ENTRY_BYTES) as u64
}

fn entry_text(entry: &SnapshotEntry) -> String {
    format!(
        "producer {} of epoch {}, last sequence {} at offset {}, open transaction from {}",
        entry.producer_id, entry.epoch, entry.last_sequence, entry.last_offset, entry.open_transaction
    )
}

fn known_text(id: ProducerId, known: &ProducerEntry) -> String {
    format!(
        "producer {id} of epoch {}, last sequence {} at offset {}, open transaction from {}",
        known.epoch(),
        known.last_sequence(),
        known.batches().last().map_or(Offset::NONE, |batch| batch.last_offset),
        known.open_transaction().unwrap_or(Offset::NONE)
    )
}

//! A partition's directory: every live file, and the segments with what is known of them.

use std::path::Path;

use highwater_base::{Offset, WallMs};
use highwater_engine::Checkpoint;
use highwater_engine::epochs::EpochCache;
use highwater_engine::index::{
    IndexError, OFFSET_ENTRY_BYTES, OffsetIndex, TIME_ENTRY_BYTES, TXN_ENTRY_BYTES, TimeIndex, TxnIndex,
};
use highwater_engine::layout::{self, FileKind, FileName, FileState, PartitionDir, PartitionRole};
use highwater_engine::producers::Snapshot;
use highwater_engine::seal::{Seal, SealState};

use super::Verifier;
use super::deep::{Beside, Deep};
use super::offset_entries::OffsetEntries;
use super::sealed_batches::SealedBatches;
use super::segment::{Observer, Segment};
use super::time_entries::TimeEntries;
use super::txn_entries::TxnEntries;
use super::verdict::{LogFacts, judge};
use crate::files::Entry;
use crate::place::file_name;
use crate::{Damage, InspectError};

impl Verifier<'_> {
    pub(super) fn partition(&mut self, dir: &Path) -> Result<(), InspectError> {
        self.report.partitions += 1;
        let first_finding = self.report.findings.len();
        let entries: Vec<Entry> = self.files.list(dir)?.into_iter().filter(|entry| !entry.is_dir).collect();
        let live: Vec<(&Entry, FileName)> = entries
            .iter()
            .filter_map(|entry| Some((entry, FileName::parse(&entry.name)?)))
            .filter(|(_, name)| name.state == FileState::Live)
            .collect();
        // Kafka leaves the preallocated indexes of these as they are, also in an orderly stop.
        let role = PartitionDir::parse(&file_name(dir)).map_or(PartitionRole::Current, |dir| dir.role);
        // The metadata log's too: the marker of a stop says nothing of it, and Kafka reads it anew at each start.
        let is_marked = file_name(dir) != layout::CLUSTER_METADATA;
        let clean = self.report.clean_stop
            && is_marked
            && matches!(role, PartitionRole::Current | PartitionRole::Future);
        let mut facts = LogFacts::new(clean);
        let checkpoint = live.iter().find(|(_, name)| name.kind == FileKind::Checkpoint);
        facts.checkpoint = checkpoint
            .and_then(|(entry, _)| Checkpoint::newest(&self.files.read_all(&entry.path, u64::MAX).ok()?));
        let mut deep = self.deep.then(|| Deep::new(self.beside(dir, &live, clean)));
        for (i, (entry, name)) in live.iter().enumerate() {
            self.report.files += 1;
            let path = &entry.path;
            match name.kind {
                FileKind::Log => {
                    let next = live[i + 1..].iter().find(|(_, later)| later.kind == FileKind::Log);
                    let next = next.map_or(Offset::MAX, |(_, later)| later.offset);
                    let segment = Segment { path, base: name.offset, next, clean };
                    self.segment_with_indexes(&segment, &live, &mut facts, deep.as_mut());
                }
                // A snapshot's records are numbered from 0, whatever the offset in its name.
                FileKind::RaftSnapshot => {
                    let segment = Segment { path, base: Offset::ZERO, next: Offset::MAX, clean };
                    self.segment(&segment, &mut []);
                }
                FileKind::Snapshot => self.producer_snapshot(path),
                FileKind::LeaderEpochs => self.leader_epochs(path),
                FileKind::PartitionMetadata => self.partition_metadata(path),
                FileKind::Checkpoint => facts.checkpoint = self.checkpoint(path),
                FileKind::QuorumState => drop(self.text(path)),
                // With their segment.
                FileKind::OffsetIndex | FileKind::TimeIndex | FileKind::TxnIndex | FileKind::Seal => {}
                // Zeros that wait to become a segment.
                FileKind::Prepared => {}
            }
        }
        judge(&facts, &mut self.report.findings[first_finding..]);
        Ok(())
    }

    fn segment_with_indexes(
        &mut self,
        segment: &Segment<'_>,
        live: &[(&Entry, FileName)],
        facts: &mut LogFacts,
        deep: Option<&mut Deep>,
    ) {
        let beside = |kind| {
            let name = FileName::live(kind, segment.base);
            live.iter().find(|(_, found)| *found == name).map(|(entry, _)| entry.path.as_path())
        };
        let mut observers: Vec<Box<dyn Observer + '_>> = Vec::new();
        if let Some(path) = beside(FileKind::OffsetIndex)
            && let Some(bytes) = self.whole(path)
        {
            let index = OffsetIndex::new(&bytes, segment.base);
            let unused = index.slots() - index.len();
            if self.index_form(path, index.check(), OFFSET_ENTRY_BYTES, unused, segment.clean) {
                observers.push(Box::new(OffsetEntries::new(path, index)));
            }
        }
        if let Some(path) = beside(FileKind::TimeIndex)
            && let Some(bytes) = self.whole(path)
        {
            let index = TimeIndex::new(&bytes, segment.base);
            let unused = index.slots() - index.len();
            if self.index_form(path, index.check(), TIME_ENTRY_BYTES, unused, segment.clean) {
                observers.push(Box::new(TimeEntries::new(path, index)));
            }
        }
        if let Some(path) = beside(FileKind::TxnIndex)
            && let Some(bytes) = self.whole(path)
        {
            let index = TxnIndex::new(&bytes);
            if self.index_form(path, index.check(segment.base), TXN_ENTRY_BYTES, 0, segment.clean) {
                observers.push(Box::new(TxnEntries::new(path, index)));
            }
        }
        if let Some(deep) = deep {
            observers.push(Box::new(deep));
        }
        let before = facts.log_bytes;
        let seal = beside(FileKind::Seal).and_then(|path| self.seal(path, segment.path, facts.checkpoint));
        let sealed = seal.is_some();
        if let Some(seal) = seal {
            observers.push(Box::new(seal));
        }
        if let Some(walked) = self.segment(segment, &mut observers) {
            facts.add(segment, before, sealed, &walked);
        }
    }

    /// What the files beside the segments say. What cannot be read is none; the walk reports it.
    fn beside(&mut self, dir: &Path, live: &[(&Entry, FileName)], clean: bool) -> Beside {
        let mut beside = Beside { dir: dir.into(), clean, ..Beside::default() };
        for (entry, name) in live {
            let wanted = matches!(
                name.kind,
                FileKind::LeaderEpochs
                    | FileKind::Snapshot
                    | FileKind::TxnIndex
                    | FileKind::Seal
                    | FileKind::Checkpoint
            );
            let Ok(bytes) = (if wanted { self.files.read_all(&entry.path, u64::MAX) } else { continue })
            else {
                continue;
            };
            match name.kind {
                FileKind::LeaderEpochs => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    beside.epochs = EpochCache::decode(&text).ok().map(|cache| (cache, text));
                }
                FileKind::Snapshot => {
                    let snapshot = Snapshot::new(&bytes);
                    if snapshot.check().is_ok() {
                        beside.snapshots.insert(name.offset, snapshot.entries().collect());
                    }
                }
                FileKind::TxnIndex => {
                    let index = TxnIndex::new(&bytes);
                    if index.check(name.offset).is_ok() {
                        let entries = index.entries().map(|(_, aborted)| aborted);
                        beside.aborted.insert(name.offset, entries.collect());
                    }
                }
                FileKind::Seal => {
                    let segment = dir.join(FileName::live(FileKind::Log, name.offset).to_string());
                    if let (Ok(seal), Ok(facts)) = (Seal::decode(&bytes), self.files.facts(&segment))
                        && seal.state(WallMs::new(facts.modified_ms)) == SealState::Binding
                    {
                        beside.seals.insert(name.offset, seal);
                    }
                }
                FileKind::Checkpoint => beside.checkpoint = Checkpoint::newest(&bytes),
                _ => {}
            }
        }
        beside
    }

    /// Whether an index is in order by itself, so that its entries can be compared with the batches.
    fn index_form(
        &mut self,
        path: &Path,
        check: Result<(), IndexError>,
        entry_bytes: usize,
        unused: usize,
        clean: bool,
    ) -> bool {
        match check {
            Err(error) => {
                self.found(path, Some(error.position(entry_bytes)), Damage::Index(error));
                return false;
            }
            Ok(()) if unused > 0 && clean => {
                self.found(path, None, Damage::UnusedSlots { slots: unused });
            }
            Ok(()) => {}
        }
        true
    }

    /// The seal, to be compared with the segment's batches, if it can be believed and binds.
    fn seal(&mut self, path: &Path, segment: &Path, checkpoint: Option<Checkpoint>) -> Option<SealedBatches> {
        let bytes = self.whole(path)?;
        let seal = match Seal::decode(&bytes) {
            Ok(seal) => seal,
            Err(error) => {
                self.found(path, Some(0), Damage::Seal(error));
                return None;
            }
        };
        let facts = self.files.facts(segment).ok()?;
        if seal.state(WallMs::new(facts.modified_ms)) == SealState::Void {
            self.report.void_seals.push(path.into());
            return None;
        }
        Some(SealedBatches::new(seal, facts.len, checkpoint))
    }
}

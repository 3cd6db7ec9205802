//! Files that follow from the batches, made anew from those that can be believed and stay.

use std::collections::BTreeMap;

use highwater_base::{FilePos, Offset, WallMs};
use highwater_engine::batch::{Batch, legacy_base_offset};
use highwater_engine::epochs::EpochCache;
use highwater_engine::index::{AbortedTxn, IndexBuilder};
use highwater_engine::layout::{FileKind, FileName};
use highwater_engine::producers::{ProducerBatch, Producers, Snapshot};

use super::plan::Wanted;
use super::survey::Facts;
use crate::InspectError;
use crate::files::Files;
use crate::source::{Access, Source};
use crate::walk::{Step, Walk};

/// What was made, by the file's kind and offset.
pub(super) type Rebuilt = BTreeMap<(FileKind, Offset), Vec<u8>>;

/// Kafka's default; what other programs find by an index does not depend on it.
const INDEX_INTERVAL: u64 = 4096;
/// Bytes that one legacy batch may unpack to.
const DECOMPRESSED: u64 = 1 << 30;
/// Producers remembered at once.
const PRODUCERS: usize = 1 << 20;

/// Reads the batches that stay, if anything of them is wanted.
pub(super) fn rebuild(facts: &Facts, wanted: &Wanted) -> Result<Rebuilt, InspectError> {
    let mut rebuilt = Rebuilt::new();
    if wanted.indexes.is_empty() && wanted.snapshots.is_empty() && !wanted.epochs {
        return Ok(rebuilt);
    }
    let mut files = Files::new()?;
    let mut maker = Maker {
        wanted,
        epochs: EpochCache::default(),
        producers: Producers::new(PRODUCERS),
        snapshots: wanted.snapshots.iter().copied().collect(),
        rebuilt: &mut rebuilt,
    };
    if let Some((first, _)) = facts.segments.first_key_value() {
        let path = facts.dir.join(FileName::live(FileKind::Snapshot, *first).to_string());
        if !wanted.snapshots.contains(first)
            && let Ok(bytes) = files.read_all(&path, u64::MAX)
        {
            // Producers whose batches lie before the log's start. One that is damaged says nothing.
            let _ = maker.producers.load(Snapshot::new(&bytes), WallMs::new(0), i64::MAX);
        }
    }
    let bases: Vec<Offset> = facts.segments.keys().copied().collect();
    for (number, base) in bases.iter().enumerate() {
        let cut = wanted.cut.filter(|cut| cut.segment <= *base);
        let end = match cut {
            Some(cut) if cut.segment == *base => cut.position,
            Some(_) => break,
            None => u64::MAX,
        };
        let path = facts.dir.join(FileName::live(FileKind::Log, *base).to_string());
        let next = bases.get(number + 1).copied().unwrap_or(Offset::MAX);
        let mut source = Source::open(&mut files, &path, Access::Read)?;
        maker.segment(&mut source, *base, next, end);
    }
    maker.finish();
    Ok(rebuilt)
}

struct Maker<'a> {
    wanted: &'a Wanted,
    epochs: EpochCache,
    producers: Producers,
    /// Snapshots not made yet, ascending.
    snapshots: std::collections::VecDeque<Offset>,
    rebuilt: &'a mut Rebuilt,
}

impl Maker<'_> {
    fn segment(&mut self, source: &mut Source<'_>, base: Offset, limit: Offset, end: u64) {
        let mut index = IndexBuilder::new(base, INDEX_INTERVAL);
        let mut aborted: Vec<AbortedTxn> = Vec::new();
        let mut walk = Walk::new(source, base, true);
        let mut expected = base;
        while let Some(step) = walk.next(source) {
            let Step::Batch { position, size } = step else { continue };
            if position >= end {
                break;
            }
            let Ok(Some(batch)) = Batch::at(source.at(position, size), 0) else { continue };
            let first = match batch.header() {
                Some(header) => Some(header.base_offset()),
                None => legacy_base_offset(batch, DECOMPRESSED).ok().map(|(first, _)| first),
            };
            let last = batch.last_offset();
            let Some(first) = first.filter(|first| *first >= expected && last >= *first && last < limit)
            else {
                continue;
            };
            if !batch.crc_matches() {
                continue;
            }
            expected = last.plus(1);
            walk.confirm(last);
            self.snapshots_up_to(first);
            index.push(last, FilePos::new(position), size as u64, batch.max_timestamp());
            if let Some(header) = batch.header() {
                self.epochs.assign(header.leader_epoch(), first);
            }
            if let Some(batch) = ProducerBatch::of(batch) {
                aborted.extend(self.producers.apply(&batch));
            }
        }
        if self.wanted.indexes.contains(&base) {
            index.finish();
            self.rebuilt.insert((FileKind::OffsetIndex, base), index.offset_bytes().to_vec());
            self.rebuilt.insert((FileKind::TimeIndex, base), index.time_bytes().to_vec());
            let aborted = aborted.iter().flat_map(AbortedTxn::encode).collect();
            self.rebuilt.insert((FileKind::TxnIndex, base), aborted);
        }
    }

    fn snapshots_up_to(&mut self, upto: Offset) {
        while let Some(offset) = self.snapshots.front().copied().filter(|offset| *offset <= upto) {
            self.snapshots.pop_front();
            self.rebuilt.insert((FileKind::Snapshot, offset), self.producers.snapshot());
        }
    }

    fn finish(&mut self) {
        self.snapshots_up_to(Offset::MAX);
        if self.wanted.epochs {
            let text = self.epochs.encode().into_bytes();
            self.rebuilt.insert((FileKind::LeaderEpochs, Offset::ZERO), text);
        }
    }
}

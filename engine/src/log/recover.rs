//! Recovery: from the last proof to the end, batch by batch.

use highwater_base::{FilePos, Mutant, Now, Offset, WallMs};
use highwater_io::{OpenHow, Park};

use super::Log;
use super::open::{OnDisk, OpenHint, open_file, read_file, run};
use super::script::Step;
use crate::index::{TimeIndex, TxnIndex};
use crate::layout::FileKind;
use crate::producers::Snapshot;
use crate::recovery::{Checkpoint, Damage, Finding, Triage, WalkRules, Window, walk};
use crate::seal::{Seal, SealState};
use crate::segment::{Largest, Phase, Sealed, Segment};
use crate::{OpenError, RecoveryReport};

/// Where the proof ends: everything before was synced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    /// Index of the segment.
    pub(super) segment: usize,
    pub(super) position: u64,
    pub(super) offset: Offset,
    pub(super) reach: u64,
}

impl Proof {
    /// How far it reaches into segment number `segment`, of `len` bytes.
    pub(super) fn of(&self, segment: usize, len: u64) -> u64 {
        match segment.cmp(&self.segment) {
            std::cmp::Ordering::Less => len,
            std::cmp::Ordering::Equal => self.position,
            std::cmp::Ordering::Greater => 0,
        }
    }

    /// The offset that follows at `position` of segment number `segment`, if that is the proven end.
    pub(super) fn offset_at(&self, segment: usize, position: u64) -> Option<Offset> {
        (segment == self.segment && position == self.position).then_some(self.offset)
    }
}

/// Where reading begins, and what from there on is rebuilt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Segments before this one are not looked at.
    pub(super) first: usize,
    /// Indexes are rebuilt or continued from this segment on; those before only feed producers.
    pub(super) index_from: usize,
    /// Producers are rebuilt from this offset on.
    pub(super) producers_from: Offset,
    /// The directory was stopped in order.
    pub(super) clean: bool,
    /// The epoch checkpoint is missing or damaged: every batch is read to make it again.
    pub(super) epochs_lost: bool,
    /// That, or a transaction index is: a checkpoint is to say what was made of them.
    pub(super) side_files_lost: bool,
}

/// What a segment's walk asks for next.
pub(super) enum Next {
    /// The next segment.
    Go,
    /// Nothing behind is kept.
    End,
    /// The checkpoint is of another file: begin again without it.
    Void,
    /// A file was split: begin again, with these files, and with the segment that is new.
    Split(Triage, Offset),
}

impl Log {
    /// Rebuilds everything that is not proven, from what is there.
    #[allow(clippy::too_many_arguments)] // One caller, which has just gathered them.
    pub(super) fn recover(
        &mut self,
        io: &mut dyn Park,
        now: Now,
        found: &Triage,
        on_disk: Vec<OnDisk>,
        checkpoint: Option<Checkpoint>,
        hint: OpenHint,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let (mut found, mut on_disk, mut checkpoint) = (found.clone(), on_disk, checkpoint);
        loop {
            let before = (self.epochs.clone(), report.clone());
            match self.recover_once(io, now, &found, &on_disk, checkpoint, hint, report)? {
                Next::Go | Next::End => return Ok(()),
                again => {
                    // Somebody else has written the file: judge it without our checkpoint.
                    self.forget(io)?;
                    (self.epochs, *report, checkpoint) = (before.0, before.1, None);
                    let mut bases: Vec<Offset> = on_disk.iter().map(|file| file.base).collect();
                    if let Next::Split(names, base) = again {
                        (found, report.changed) = (names, true);
                        bases.extend((!bases.contains(&base)).then_some(base));
                        bases.sort_unstable();
                    }
                    // Segments that were looked at are as long as they are by now.
                    on_disk = super::open::on_disk(io, &self.dir, &bases)?;
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // One caller.
    fn recover_once(
        &mut self,
        io: &mut dyn Park,
        now: Now,
        found: &Triage,
        on_disk: &[OnDisk],
        checkpoint: Option<Checkpoint>,
        hint: OpenHint,
        report: &mut RecoveryReport,
    ) -> Result<Next, OpenError> {
        let proof = checkpoint.and_then(|checkpoint| {
            let segment = on_disk.iter().position(|file| file.base == checkpoint.segment)?;
            (on_disk[segment].len >= checkpoint.position.get()).then_some(Proof {
                segment,
                position: checkpoint.position.get(),
                offset: checkpoint.offset,
                reach: checkpoint.reach,
            })
        });
        let valid = checkpoint.filter(|_| proof.is_some());
        let plan = self.plan(io, now, found, on_disk, valid, proof, hint)?;
        self.checkpoint = super::checkpoint::CheckpointState::loaded(valid);
        report.proven_end = proof.map(|proof| proof.offset);
        for index in 0..plan.first {
            let segment = self.sealed_from_disk(io, found, on_disk, index, report)?;
            self.segments.push_back(segment);
        }
        let mut index = plan.first;
        while index < on_disk.len() {
            match self.recover_segment(io, found, on_disk, index, plan, proof, report)? {
                Next::Go => index += 1,
                Next::End => break,
                again => return Ok(again),
            }
        }
        let kept = self.segments.len();
        self.remove_later(io, &on_disk[kept..], report)?;
        self.finish_recovery(io, proof, plan, report)?;
        Ok(Next::End)
    }

    fn forget(&mut self, io: &mut dyn Park) -> Result<(), OpenError> {
        let files: Vec<_> = self.segments.drain(..).filter_map(|segment| segment.file()).collect();
        for file in files {
            run(io, [Step::Adopt(file), Step::Close])?;
        }
        self.producers.clear();
        self.quarantine = Default::default();
        Ok(())
    }

    /// What must be read.
    #[allow(clippy::too_many_arguments)] // One caller.
    fn plan(
        &mut self,
        io: &mut dyn Park,
        now: Now,
        found: &Triage,
        on_disk: &[OnDisk],
        checkpoint: Option<Checkpoint>,
        proof: Option<Proof>,
        hint: OpenHint,
    ) -> Result<Plan, OpenError> {
        let last = on_disk.len() - 1;
        let holding = |offset: Offset| on_disk.partition_point(|file| file.base <= offset).saturating_sub(1);
        let index_from = match (proof, hint.clean_stop, hint.recovery_point) {
            (Some(proof), _, _) => proof.segment,
            (None, true, _) => last,
            (None, false, Some(point)) => holding(point),
            (None, false, None) => 0,
        };
        // A damaged transaction index is made again from the producers of where its segment begins.
        let damaged = self.damaged_txn_index(io, found, on_disk, checkpoint)?;
        let index_from = damaged.map_or(index_from, |damaged| index_from.min(damaged));
        let checkpoint = checkpoint.filter(|_| damaged.is_none());
        let clean_stop = hint.clean_stop && damaged.is_none();
        // Producers: none were known, or a snapshot goes with it, or the newest that is usable.
        let mut producers_from = on_disk[0].base;
        match checkpoint {
            Some(checkpoint) if !checkpoint.snapshot.is_some() => producers_from = checkpoint.offset,
            _ => {
                let newest = match checkpoint {
                    Some(checkpoint) => checkpoint.offset,
                    None if clean_stop => Offset::MAX,
                    None => on_disk[index_from].base,
                };
                let usable = found.snapshots.iter().rev().filter(|snapshot| **snapshot <= newest);
                let mut loaded = false;
                for &snapshot in usable {
                    let path = self.path(FileKind::Snapshot, snapshot);
                    let bytes = read_file(io, &path)?.unwrap_or_default();
                    let expiry = self.settings.producer_expiration_ms.min(i64::MAX as u64) as i64;
                    let empty = bytes.is_empty() && self.settings.mutant == Mutant::EmptySnapshotBelieved;
                    if empty || self.producers.load(Snapshot::new(&bytes), now.wall, expiry).is_ok() {
                        producers_from = match self.settings.mutant {
                            Mutant::ReplayFromCheckpoint => newest,
                            _ => snapshot,
                        };
                        loaded = true;
                        break;
                    }
                    self.producers.clear();
                }
                if !loaded && checkpoint.is_none() && clean_stop && found.snapshots.is_empty() {
                    // As Kafka does: a clean stop without a snapshot knew no producers.
                    producers_from = Offset::MAX;
                }
            }
        }
        let first = index_from.min(holding(producers_from));
        // A segment without its index is read, wherever it lies.
        let missing = (0..last).find(|i| {
            !found.has(FileKind::OffsetIndex, on_disk[*i].base) || self.may_overreach(found, on_disk, *i)
        });
        let mutant = self.settings.mutant;
        let missing = match mutant {
            Mutant::EmptySegmentNeedsIndex if !found.has(FileKind::OffsetIndex, on_disk[last].base) => {
                Some(0)
            }
            _ => missing,
        };
        let index_from = missing.map_or(index_from, |missing| index_from.min(missing));
        let epochs_lost = !found.epochs && on_disk.iter().any(|file| file.len > 0);
        let first = if epochs_lost { 0 } else { first.min(index_from) };
        let side_files_lost = epochs_lost || damaged.is_some();
        Ok(Plan { first, index_from, producers_from, clean: hint.clean_stop, epochs_lost, side_files_lost })
    }

    /// The first segment whose transaction index is there and is none, or is not what its seal or the checkpoint says.
    fn damaged_txn_index(
        &self,
        io: &mut dyn Park,
        found: &Triage,
        on_disk: &[OnDisk],
        checkpoint: Option<Checkpoint>,
    ) -> Result<Option<usize>, OpenError> {
        for (number, file) in on_disk.iter().enumerate() {
            let bytes = match found.has(FileKind::TxnIndex, file.base) {
                true => read_file(io, &self.path(FileKind::TxnIndex, file.base))?.unwrap_or_default(),
                false => Vec::new(),
            };
            let sealed = self.binding_seal(io, found, *file)?;
            if TxnIndex::new(&bytes).check(file.base).is_err()
                || self.speaks_against(checkpoint, file.base, &bytes)
                || sealed.is_some_and(|seal| seal.speaks_against(&bytes) && !self.ignores_sums())
            {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn ignores_sums(&self) -> bool {
        self.settings.mutant == Mutant::SideSumsIgnored
    }

    /// Whether the transaction index of the segment at `base` does not begin with the bytes that a checkpoint counts on.
    fn speaks_against(&self, checkpoint: Option<Checkpoint>, base: Offset, txn_index: &[u8]) -> bool {
        let of_it = checkpoint.filter(|checkpoint| checkpoint.segment == base && !self.ignores_sums());
        of_it.and_then(|checkpoint| checkpoint.sums).is_some_and(|sums| {
            let counted = txn_index.get(..sums.txn_index_bytes as usize);
            counted.is_none_or(|counted| crc32fast::hash(counted) != sums.txn_index)
        })
    }

    /// A segment that is not read: its facts come from its size and its indexes' ends.
    fn sealed_from_disk(
        &mut self,
        io: &mut dyn Park,
        found: &Triage,
        on_disk: &[OnDisk],
        index: usize,
        report: &mut RecoveryReport,
    ) -> Result<Segment, OpenError> {
        let OnDisk { base, len, modified_ms } = on_disk[index];
        let mut segment = Segment::new(base, modified_ms, Phase::Sealed(Sealed::default()));
        segment.size = len;
        segment.end = on_disk.get(index + 1).map_or(Offset::MAX, |next| next.base);
        segment.largest = self.largest_on_disk(io, found, base)?;
        if found.has(FileKind::TxnIndex, base) {
            let bytes = read_file(io, &self.path(FileKind::TxnIndex, base))?.unwrap_or_default();
            let txns = TxnIndex::new(&bytes);
            if txns.check(base).is_ok() {
                segment.aborted = txns.entries().map(|(_, aborted)| aborted).collect();
            }
        }
        let seal = self.seal_on_disk(io, found, base)?;
        let binding = seal.filter(|seal| seal.state(WallMs::new(modified_ms)) == SealState::Binding);
        if let Some(seal) = &binding {
            self.note_missing(base, seal, segment.end, report);
        }
        if let Some(seal) = binding
            && seal.length.get() > len
        {
            // The same file has lost its end.
            let from = self.end_of_sealed(io, &segment)?;
            let damage = Damage {
                segment: base,
                position: FilePos::new(from.0),
                position_end: FilePos::new(seal.length.get()),
                from: from.1,
                until: segment.end,
            };
            segment.size = seal.length.get();
            self.note(report, base, from.0, seal.length.get() - from.0, crate::Verdict::Rot, None);
            self.quarantine.add(damage);
        }
        Ok(segment)
    }

    fn largest_on_disk(&self, io: &mut dyn Park, found: &Triage, base: Offset) -> Result<Largest, OpenError> {
        if !found.has(FileKind::TimeIndex, base) {
            return Ok(Largest::NONE);
        }
        let bytes = read_file(io, &self.path(FileKind::TimeIndex, base))?.unwrap_or_default();
        let last = TimeIndex::new(&bytes, base).last();
        Ok(last.map_or(Largest::NONE, |entry| Largest { timestamp: entry.timestamp, offset: entry.offset }))
    }

    pub(super) fn seal_on_disk(
        &self,
        io: &mut dyn Park,
        found: &Triage,
        base: Offset,
    ) -> Result<Option<Seal>, OpenError> {
        if !found.has(FileKind::Seal, base) {
            return Ok(None);
        }
        let bytes = read_file(io, &self.path(FileKind::Seal, base))?.unwrap_or_default();
        Ok(Seal::decode(&bytes).ok())
    }

    /// A segment's seal, if it binds the file that is there, and that file has lost nothing.
    pub(super) fn binding_seal(
        &self,
        io: &mut dyn Park,
        found: &Triage,
        file: OnDisk,
    ) -> Result<Option<Seal>, OpenError> {
        Ok(self.seal_on_disk(io, found, file.base)?.filter(|seal| {
            seal.state(WallMs::new(file.modified_ms)) == SealState::Binding && seal.length.get() == file.len
        }))
    }

    /// Position and offset after the last good batch of a sealed segment that lost its end.
    fn end_of_sealed(&self, io: &mut dyn Park, segment: &Segment) -> Result<(u64, Offset), OpenError> {
        let path = self.path(FileKind::Log, segment.base);
        let file = open_file(io, path, OpenHow::Read, self.settings.direct)?;
        let mut window = Window::new(file, segment.size, self.settings.limits.read_bytes);
        let rules = self.walk_rules(segment.base, segment.end, true);
        let walked = walk(io, &mut window, (0, segment.base), segment.size, &rules, |_, _, _| {});
        run(io, [Step::Adopt(file), Step::Close])?;
        let walked = walked?;
        Ok((walked.position, walked.next))
    }

    pub(super) fn walk_rules(&self, base: Offset, limit: Offset, proven: bool) -> WalkRules<'_> {
        WalkRules {
            base,
            limit,
            epochs: proven.then_some(&self.epochs),
            mutant: self.settings.mutant,
            end_offset: None,
        }
    }

    pub(super) fn note(
        &self,
        report: &mut RecoveryReport,
        base: Offset,
        position: u64,
        bytes: u64,
        verdict: crate::Verdict,
        kept: Option<std::path::PathBuf>,
    ) {
        let file = self.path(FileKind::Log, base);
        report.findings.push(Finding { file, position: FilePos::new(position), bytes, verdict, kept });
    }
}

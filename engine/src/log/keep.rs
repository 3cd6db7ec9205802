//! What a recovery leaves on disk: segments with their indexes and seals, the active one ready for more.

use std::path::PathBuf;

use highwater_base::{BLOCK, FilePos, Offset, WallMs};
use highwater_io::{ErrorKind, FileId, OpenHow, Park};

use super::Log;
use super::open::{OnDisk, is_as_noted, read_file, run};
use super::rebuild::Gathered;
use super::recover::{Plan, Proof};
use super::script::{Step, replace_file, write_file};
use crate::OpenError;
use crate::index::{IndexBuilder, OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES, TXN_ENTRY_BYTES};
use crate::layout::{FileKind, FileName, FileState};
use crate::recovery::{RecoveryReport, Triage};
use crate::segment::{Live, Name, Phase, Segment};
use crate::tail::{Place, Tail};

impl Log {
    /// A segment that has successors: its indexes and seal are as if it had been sealed in time.
    #[allow(clippy::too_many_arguments)] // One caller.
    pub(super) fn keep_sealed(
        &mut self,
        io: &mut dyn Park,
        found: &Triage,
        segment: Segment,
        mut gathered: Gathered,
        file: FileId,
        len: u64,
        rebuilt: bool,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let base = segment.base;
        let mut steps = vec![Step::Adopt(file)];
        let mut changed = false;
        // A seal that binds proves all of its file, which is then left alone: to cut it to the length that it has would
        // change its time, and void the seal.
        let sealed = if rebuilt { self.seal_on_disk(io, found, base)? } else { None };
        let fits = len == segment.size
            && sealed.as_ref().is_some_and(|seal| {
                seal.state(WallMs::new(segment.modified_ms)) == crate::seal::SealState::Binding
                    && seal.length.get() == len
            });
        if rebuilt && !fits {
            // It was read, and perhaps written again, in whole blocks.
            steps.push(Step::Truncate { len: segment.size });
            changed = len != segment.size;
            // It was not proven, and nobody may have synced it.
            steps.push(Step::Sync);
        }
        steps.push(Step::Close);
        if rebuilt {
            gathered.index.finish();
            let aborted = segment.aborted_bytes();
            let beside = aborted.clone().unwrap_or_default();
            for (kind, bytes) in [
                (FileKind::OffsetIndex, Some(gathered.index.offset_bytes().to_vec())),
                (FileKind::TimeIndex, Some(gathered.index.time_bytes().to_vec())),
                (FileKind::TxnIndex, aborted),
            ] {
                let path = self.path(kind, base);
                let there = if found.has(kind, base) { read_file(io, &path)? } else { None };
                match bytes {
                    // A checkpoint of this segment may count on what is there.
                    Some(bytes) if there.as_ref() != Some(&bytes) && kind == FileKind::TxnIndex => {
                        steps.extend(replace_file(path, bytes));
                    }
                    Some(bytes) if there.as_ref() != Some(&bytes) => steps.extend(write_file(path, bytes)),
                    Some(_) => continue,
                    None if there.is_some() => steps.push(Step::Unlink { path }),
                    None => continue,
                }
                changed = true;
            }
            // The producers are those of this segment's end: a later truncation begins from there.
            let next = segment.end;
            if gathered.producers_from <= next
                && !self.producers.is_empty()
                && !self.snapshots.contains(&next)
            {
                steps.extend(replace_file(self.path(FileKind::Snapshot, next), self.producers.snapshot()));
                self.snapshots.push(next);
                self.snapshots.sort_unstable();
                changed = true;
            }
            let whole = gathered.seal.as_ref().is_some_and(|seal| seal.length().get() == segment.size);
            if !fits && whole {
                // The seal notes the time of the last change, so that comes first.
                steps.push(Step::Stat { path: self.path(FileKind::Log, base) });
                let script = run(io, std::mem::take(&mut steps))?;
                let modified = WallMs::new(script.modified_ms());
                let seal = gathered.seal.take().expect("checked above").followed_by(segment.end);
                let seal = seal.beside(&beside).finish(modified);
                steps.extend(write_file(self.path(FileKind::Seal, base), seal.encode()));
                changed = true;
            } else if !fits && sealed.is_some() {
                steps.push(Step::Unlink { path: self.path(FileKind::Seal, base) });
                changed = true;
            } else if let Some(mut seal) = sealed.filter(|seal| fits && seal.speaks_against(&beside)) {
                // What was compacted says less of transactions than it did: the seal is of what was made of it.
                seal.txn_index = Some(crc32fast::hash(&beside));
                steps.extend(replace_file(self.path(FileKind::Seal, base), seal.encode()));
                changed = true;
            }
        }
        if changed {
            steps.push(Step::SyncDir { path: self.dir.clone() });
            report.changed = true;
        }
        run(io, steps)?;
        self.segments.push_back(Segment { oldest: gathered.first_timestamp, ..segment });
        Ok(())
    }

    /// The last segment: it is written to from now on.
    pub(super) fn keep_active(
        &mut self,
        io: &mut dyn Park,
        found: &Triage,
        mut segment: Segment,
        gathered: Gathered,
        file: FileId,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let (base, size) = (segment.base, segment.size);
        let cut = self.was_cut(report, base);
        let Some(on_disk) = stat_len(io, self.path(FileKind::Log, base))? else {
            return Err(highwater_io::IoError::of(
                highwater_io::ErrorKind::NotFound,
                "stat",
                base.to_string(),
            )
            .into());
        };
        let mut steps = vec![Step::Adopt(file)];
        // A segment that is written to has no seal.
        if found.has(FileKind::Seal, base) {
            steps.push(Step::Unlink { path: self.path(FileKind::Seal, base) });
            steps.push(Step::SyncDir { path: self.dir.clone() });
            report.changed = true;
        }
        let floor = size / BLOCK * BLOCK;
        if size > floor {
            steps.push(Step::Read { at: FilePos::new(floor), len: (size - floor) as usize });
        }
        let mut prepared = on_disk;
        if cut {
            // To the byte first, so that nothing of what was there comes back.
            steps.push(Step::Truncate { len: size });
            prepared = size;
            report.changed = true;
        }
        if !prepared.is_multiple_of(BLOCK) {
            prepared = prepared.next_multiple_of(BLOCK);
            steps.push(Step::Truncate { len: prepared });
        }
        steps.push(Step::Sync);
        let script = run(io, steps)?;
        let mut live = Live::new(
            Place::ZERO,
            base,
            self.settings.index_interval_bytes,
            WallMs::new(segment.modified_ms),
        );
        let place = Place::ZERO.plus(size);
        live.file = Some(file);
        live.name = Name::Durable;
        live.prepared = prepared;
        live.opened_size = size;
        live.step = if prepared > size { self.settings.limits.prepare_min_bytes } else { 0 };
        live.synced = place;
        live.synced_end = segment.end;
        let first_timestamp = gathered.first_timestamp;
        live.first_timestamp = first_timestamp;
        live.seal = gathered.seal.filter(|seal| seal.length().get() == size).map(Box::new);
        live.index = gathered.index;
        let aborted = segment.aborted_bytes().unwrap_or_default();
        live.indexed_on_disk = self.settle_index_files(io, found, base, &live.index, &aborted)?;
        segment.phase = Phase::Live(Box::new(live));
        let end = segment.end;
        self.segments.push_back(Segment { oldest: first_timestamp, ..segment });
        self.tail.replace(Tail::new(Place::ZERO, place, script.data(), &self.settings.limits));
        self.reset_places(place, end);
        Ok(())
    }

    /// Index files of the active segment keep what agrees with the index in memory; the rest is written by and by.
    pub(super) fn settle_index_files(
        &self,
        io: &mut dyn Park,
        found: &Triage,
        base: Offset,
        index: &IndexBuilder,
        aborted: &[u8],
    ) -> Result<[usize; 3], OpenError> {
        let mut settled = [0; 3];
        let mut steps = Vec::new();
        for (i, (kind, bytes, entry)) in [
            (FileKind::OffsetIndex, index.offset_bytes(), OFFSET_ENTRY_BYTES),
            (FileKind::TimeIndex, index.time_bytes(), TIME_ENTRY_BYTES),
            (FileKind::TxnIndex, aborted, TXN_ENTRY_BYTES),
        ]
        .into_iter()
        .enumerate()
        {
            if !found.has(kind, base) {
                continue;
            }
            let path = self.path(kind, base);
            let there = read_file(io, &path)?.unwrap_or_default();
            let same = bytes.iter().zip(&there).take_while(|(a, b)| a == b).count() / entry * entry;
            settled[i] = same;
            if there.len() > same {
                steps.extend([
                    Step::Open { path, how: OpenHow::Write, direct: false },
                    Step::Truncate { len: same as u64 },
                    Step::Sync,
                    Step::Close,
                ]);
            }
        }
        run(io, steps)?;
        Ok(settled)
    }

    /// Files of segments behind the log's end go.
    pub(super) fn remove_later(
        &mut self,
        io: &mut dyn Park,
        later: &[OnDisk],
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let mut steps = Vec::new();
        for file in later.iter().rev() {
            for kind in super::retain::SEGMENT_FILES {
                let live = FileName::live(kind, file.base);
                let (from, to) = (self.dir.join(live.to_string()), self.deleted_path(kind, file.base));
                debug_assert_eq!(
                    live.with_state(FileState::Deleted).to_string(),
                    to.file_name().unwrap_or_default().to_string_lossy()
                );
                report.removed.push(from.clone());
                steps.extend([Step::RenameIfThere { from, to: to.clone() }, Step::Remove { path: to }]);
            }
            // One durably gone before the one in front of it goes: a crash must not leave a hole.
            steps.push(Step::SyncDir { path: self.dir.clone() });
        }
        if !steps.is_empty() {
            report.changed = true;
            run(io, steps)?;
        }
        Ok(())
    }

    /// Snapshots beyond the end go; a checkpoint says what was found.
    pub(super) fn finish_recovery(
        &mut self,
        io: &mut dyn Park,
        proof: Option<Proof>,
        plan: Plan,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let end = self.log_end;
        let mut steps = Vec::new();
        for snapshot in self.snapshots.iter().filter(|snapshot| **snapshot > end) {
            steps.push(Step::Unlink { path: self.path(FileKind::Snapshot, *snapshot) });
            report.changed = true;
        }
        self.snapshots.retain(|snapshot| *snapshot <= end);
        // A checkpoint speaks of the epochs as they will stay.
        self.log_start = self.log_start.max(self.segments[0].base);
        self.epochs_dirty |= self.epochs.truncate_to(end.plus(1));
        self.epochs_dirty |= self.log_start <= end && self.epochs.trim_to(self.log_start);
        if self.epochs_dirty {
            let path = self.dir.join(crate::layout::LEADER_EPOCHS);
            steps.extend(replace_file(path, self.epochs.encode().into_bytes()));
            steps.push(Step::SyncDir { path: self.dir.clone() });
            self.epochs_dirty = false;
        }
        run(io, steps)?;
        // After a clean stop it is proven what is damaged, and must stay so when more follows it.
        let damaged = !self.quarantine.is_empty() && !plan.clean;
        let noted = self.checkpoint.last.is_none_or(|last| is_as_noted(&last, &self.epochs));
        let holds = proof.is_some_and(|proof| proof.offset == end) && !plan.side_files_lost && noted;
        if !holds && !damaged {
            let checkpoint = self.opening_checkpoint_steps();
            match run(io, checkpoint) {
                Ok(_) => self.settle_checkpoint(),
                // A full device is no reason not to serve what is there: the proof that there was still holds.
                Err(error) if error.kind == ErrorKind::NoSpace => self.put_off_checkpoint(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn stat_len(io: &mut dyn Park, path: PathBuf) -> Result<Option<u64>, OpenError> {
    match highwater_io::blocking::run(io, highwater_io::Op::Stat { path }) {
        Ok(highwater_io::Outcome::Stat { len, .. }) => Ok(Some(len)),
        Ok(_) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

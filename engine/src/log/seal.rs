//! After a roll, in the background: cut to the true length, indexes written, sealed.

use highwater_base::{Mutant, Now, Offset, WallMs};
use highwater_io::Io;

use super::Log;
use super::flight::Purpose;
use super::script::{Script, Step, replace_file, write_file};
use crate::layout::FileKind;
use crate::segment::{Name, Phase, Sealed};

impl Log {
    /// Begins to seal the oldest rolled segment that is wholly durable.
    pub(super) fn drive_seals(&mut self, _now: Now) {
        let first = self.first_live();
        let Some(segment) = self.segments.get(first) else { return };
        let Some(next) = self.segments.get(first + 1).and_then(|segment| segment.live()) else { return };
        let successor = next.name;
        let Some(live) = segment.live() else { return };
        let durable = live.rolled && live.synced >= live.place.plus(segment.size) && live.syncing.is_none();
        // A checkpoint under way may be writing the snapshot of the same offset.
        if !durable
            || self.is_running(&Purpose::Checkpoint)
            || live.sealing
            || live.preparing
            || successor != Name::Durable
            || (self.state == super::State::Cutting && !self.is_draining_for_cut())
        {
            return;
        }
        let (base, size) = (segment.base, segment.size);
        let file = live.file.expect("a durable segment is open");
        let (offsets, times) = (live.index.offset_bytes().to_vec(), live.index.time_bytes().to_vec());
        let aborted = segment.aborted_bytes();
        let snapshot = live.snapshot.clone();
        let end = self.segments[first + 1].base;
        let mut steps = vec![Step::Adopt(file), Step::Truncate { len: size }, Step::Sync];
        steps.extend(write_file(self.path(FileKind::OffsetIndex, base), offsets));
        steps.extend(write_file(self.path(FileKind::TimeIndex, base), times));
        if let Some(aborted) = aborted {
            // A checkpoint may count on what is there: old or new, never torn.
            steps.extend(replace_file(self.path(FileKind::TxnIndex, base), aborted));
        }
        if let Some(snapshot) = snapshot {
            steps.extend(replace_file(self.path(FileKind::Snapshot, end), snapshot));
            if let Err(at) = self.snapshots.binary_search(&end) {
                self.snapshots.insert(at, end);
            }
        }
        // The time of the last change is part of the seal.
        steps.push(Step::Stat { path: self.path(FileKind::Log, base) });
        let live = self.segments[first].live_mut().expect("checked above");
        live.sealing = true;
        // Readers keep its file meanwhile: what is to be written may have to wait for space.
        if self.settings.mutant == Mutant::SealHidesSegment {
            live.file = None;
        }
        self.run(Purpose::Settle(base), steps);
    }

    /// A segment's files are as they will stay: the seal itself is written.
    pub(super) fn settled(&mut self, base: Offset, script: &Script) {
        let Some(index) = self.segment_index(base) else { return };
        let modified_ms = script.modified_ms();
        let next = self.segments.get(index + 1).map_or(Offset::NONE, |next| next.base);
        let segment = &mut self.segments[index];
        segment.modified_ms = modified_ms;
        let aborted = segment.aborted_bytes().unwrap_or_default();
        let Some(live) = segment.live_mut() else { return };
        let seal = live.seal.take().map(|seal| seal.followed_by(next).beside(&aborted));
        let seal = seal.map(|seal| seal.finish(WallMs::new(modified_ms)).encode());
        let mut steps = Vec::new();
        // Without a seal, after a restart, its batches' own checksums must do.
        if let Some(seal) = seal {
            steps.extend(write_file(self.path(FileKind::Seal, base), seal));
        }
        steps.push(Step::SyncDir { path: self.dir.clone() });
        self.run(Purpose::Seal(base), steps);
    }

    pub(super) fn sealed(&mut self, base: Offset, io: &mut dyn Io) {
        let Some(index) = self.segment_index(base) else { return };
        // Readers open it anew, for reading only.
        let file = self.segments[index].file();
        self.segments[index].phase = Phase::Sealed(Sealed::default());
        if let Some(file) = file {
            self.close_file(file, io);
        }
    }
}

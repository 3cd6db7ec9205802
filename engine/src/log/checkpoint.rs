//! `highwater.checkpoint`: when it is due, and what is made durable before it.
//!
//! What it will say is captured at the log's end; it is written once that is synced.

use std::time::Duration;

use highwater_base::{FilePos, Mono, Now, Offset, WallMs};
use highwater_io::{OpenHow, Slice};

use super::flight::Purpose;
use super::script::{Step, replace_file};
use super::{Log, State};
use crate::Durability;
use crate::index::TXN_ENTRY_BYTES;
use crate::layout::{CHECKPOINT, FileKind};
use crate::recovery::{Checkpoint, SideSums};
use crate::segment::Name;

/// What is known of the checkpoint on disk.
#[derive(Debug, Default)]
pub(crate) struct CheckpointState {
    /// The one on disk, if there is one.
    pub(super) last: Option<Checkpoint>,
    /// The next one, waiting for its bytes to be synced.
    captured: Option<Box<Captured>>,
    /// The one being written.
    writing: Option<Box<Captured>>,
    /// Since when the log has grown beyond what the one on disk says.
    dirty_since: Option<Mono>,
    /// The log start offset, or a promise, must come to be on disk.
    wanted: bool,
    /// The epochs in the file go further back than the log start: it is written anew once a checkpoint has the log start. Before,
    /// what the one on disk says of them would not be so.
    epochs_trimmed: bool,
    /// The segment whose index files have durable names: those that a checkpoint made are there.
    named: Option<Offset>,
}

/// How many bytes a log at the device's rate takes between two checkpoints: each costs a few syncs, which a small log pays for
/// by what recovery reads, and a large one pays for fewer of. A log that goes slower has them by the time between two instead.
const fn stride(log_bytes: u64, least: u64) -> u64 {
    let share = log_bytes / 16;
    if share > least { share } else { least }
}

/// The state of a log at an offset.
#[derive(Debug)]
struct Captured {
    checkpoint: Checkpoint,
    /// Bytes of the offset, the time and the transaction index up to there.
    indexed: [usize; 3],
    /// The producers, if there are any.
    snapshot: Option<Vec<u8>>,
}

impl CheckpointState {
    pub(super) fn loaded(last: Option<Checkpoint>) -> CheckpointState {
        CheckpointState { last, ..CheckpointState::default() }
    }
}

impl Log {
    /// Something that only a checkpoint makes durable has changed.
    pub(super) fn want_checkpoint(&mut self) {
        self.is_pristine_no_more();
        self.checkpoint.wanted = true;
        self.due = true;
    }

    /// A checkpoint waits for bytes to be synced. Under `os` that is what syncs a log at all.
    pub(super) fn checkpoint_wants_sync(&self) -> bool {
        self.checkpoint.captured.as_ref().is_some_and(|captured| captured.checkpoint.offset > self.synced_end)
    }

    /// The checkpoint on disk promises a limit of unsynced bytes, which holds until another one is there.
    pub(super) fn checkpoint_promises_reach(&self) -> bool {
        let promises = |checkpoint: &Checkpoint| checkpoint.reach > 0;
        self.checkpoint.last.as_ref().is_some_and(promises)
            || self.checkpoint.writing.as_ref().is_some_and(|writing| promises(&writing.checkpoint))
    }

    /// What was captured is no longer so: the log was cut or restarted.
    pub(super) fn forget_captured(&mut self) {
        self.checkpoint.captured = None;
        self.checkpoint.named = None;
    }

    pub(super) fn checkpoint_deadline(&self) -> Option<Mono> {
        if self.state != State::Open
            || self.checkpoint.writing.is_some()
            || self.checkpoint.captured.is_some()
        {
            return None;
        }
        Some(self.checkpoint.dirty_since?.plus(Duration::from_millis(self.settings.checkpoint_ms)))
    }

    pub(super) fn drive_checkpoint(&mut self, now: Now) {
        if self.state != State::Open || self.checkpoint.writing.is_some() {
            return;
        }
        let says = self.checkpoint.last.map_or(self.segments[0].base, |last| last.offset);
        if self.log_end > says {
            self.checkpoint.dirty_since.get_or_insert(now.mono);
        }
        if self.checkpoint_deadline().is_some_and(|at| at <= now.mono) {
            self.checkpoint.wanted = true;
        }
        if self.checkpoint.captured.is_none() && self.checkpoint_is_due(now) {
            self.checkpoint.captured = Some(Box::new(self.capture()));
            self.checkpoint.wanted = false;
            self.due = true;
        }
        let Some(captured) = &self.checkpoint.captured else { return };
        if captured.checkpoint.segment != self.active().base {
            // The segment rolled meanwhile; its seal comes first, then a checkpoint of the new one.
            self.checkpoint.captured = None;
            self.checkpoint.wanted = true;
            return;
        }
        let sealed = self.live_count() == 1;
        let named = self.active().live().is_some_and(|live| live.name == Name::Durable);
        let epochs = !self.epochs_dirty && !self.is_running(&Purpose::Epochs);
        if sealed && named && epochs && captured.checkpoint.offset <= self.synced_end {
            let captured = self.checkpoint.captured.take().expect("checked above");
            let steps = self.checkpoint_steps(captured, true);
            self.run(Purpose::Checkpoint, steps);
        }
    }

    fn checkpoint_is_due(&self, now: Now) -> bool {
        let (active, last) = (self.active(), self.checkpoint.last);
        // One that is of an older segment makes recovery read all of this one.
        let live = self.live_count();
        if live > 1 {
            return false;
        }
        let grown = match last {
            Some(last) if last.segment == active.base => active.size.saturating_sub(last.position.get()),
            Some(_) => u64::MAX,
            None => active.size,
        };
        let pause = Duration::from_millis(self.settings.limits.checkpoint_pause_ms);
        let rested = self.checkpoint.dirty_since.is_some_and(|since| since.plus(pause) <= now.mono);
        let promised = last.is_some_and(|last| last.reach > 0);
        let enough = self.settings.limits.checkpoint_bytes;
        let large = || rested || grown >= stride(self.size_bytes(), enough);
        self.checkpoint.wanted
            || (active.size > 0 && grown >= enough && large())
            || (promised && self.settings.durability != Durability::Each)
    }

    /// The state at the log's end.
    fn capture(&self) -> Captured {
        let settings = &self.settings;
        let active = self.active();
        let live = active.live().expect("the last segment is live");
        let snapshot = (!self.producers.is_empty()).then(|| self.producers.snapshot());
        let reach =
            if settings.durability == Durability::Each { settings.limits.unsynced_bytes as u64 } else { 0 };
        Captured {
            checkpoint: Checkpoint {
                sequence: 0,
                segment: active.base,
                position: FilePos::new(active.size),
                offset: self.log_end,
                log_start: self.log_start,
                snapshot: if snapshot.is_some() { self.log_end } else { Offset::NONE },
                reach,
                max_timestamp: active.largest.timestamp,
                max_timestamp_offset: active.largest.offset,
                first_timestamp: live.first_timestamp.unwrap_or(WallMs::NONE),
                epoch: self.epochs.latest(),
                sums: None,
            },
            indexed: [
                live.index.offset_bytes().len(),
                live.index.time_bytes().len(),
                active.aborted.len() * TXN_ENTRY_BYTES,
            ],
            snapshot,
        }
    }

    /// The steps of the checkpoint that a log without segments begins with: nothing of it is proven, and all of it is ours, so
    /// that a recovery can tell a missing segment from what Apache Kafka's compaction leaves. Its name becomes durable
    /// with those that are made beside it.
    pub(super) fn first_checkpoint_steps(&mut self) -> Vec<Step> {
        let captured = Box::new(self.capture());
        let steps = self.slot_steps(&captured.checkpoint);
        self.checkpoint.writing = Some(captured);
        steps.into()
    }

    /// The steps of the checkpoint that goes with a clean stop; index and snapshot files are written already.
    pub(super) fn last_checkpoint_steps(&mut self) -> Vec<Step> {
        let captured = Box::new(self.capture());
        self.checkpoint_steps(captured, false)
    }

    /// The steps of the checkpoint that ends a recovery; with index entries and snapshot.
    pub(super) fn opening_checkpoint_steps(&mut self) -> Vec<Step> {
        let captured = Box::new(self.capture());
        self.checkpoint_steps(captured, true)
    }

    /// If `whole`, index entries and the producers' snapshot up to there, then the slot.
    fn checkpoint_steps(&mut self, mut captured: Box<Captured>, whole: bool) -> Vec<Step> {
        captured.checkpoint.sequence = self.checkpoint.last.map_or(0, |last| last.sequence + 1);
        captured.checkpoint.log_start = self.log_start;
        // Since it was captured the durability may have changed, and with it what was written and not synced.
        let unsynced = self.submitted.block_ceil().get() - self.synced.block_floor().get();
        if self.settings.durability != Durability::Each || unsynced > captured.checkpoint.reach {
            captured.checkpoint.reach = 0;
        }
        captured.checkpoint.sums = Some(self.side_sums(&captured));
        let checkpoint = captured.checkpoint;
        let live = self.active().live().expect("the last segment is live");
        let mut steps = Vec::new();
        let mut names = captured.snapshot.is_some() || self.checkpoint.named != Some(checkpoint.segment);
        if whole {
            let aborted = self.active().aborted_bytes().unwrap_or_default();
            for (i, (kind, bytes)) in [
                (FileKind::OffsetIndex, live.index.offset_bytes()),
                (FileKind::TimeIndex, live.index.time_bytes()),
                // Markers before the checkpoint are not read again: what they aborted must be found here.
                (FileKind::TxnIndex, &aborted[..]),
            ]
            .into_iter()
            .enumerate()
            {
                let (from, to) = (live.indexed_on_disk[i], captured.indexed[i]);
                if to > from {
                    names |= from == 0;
                    let data = Slice::from(bytes[from..to].to_vec());
                    let path = self.path(kind, checkpoint.segment);
                    steps.extend([
                        Step::Open { path, how: OpenHow::CreateOrWrite, direct: false },
                        Step::Write { at: FilePos::new(from as u64), data },
                        Step::SyncData,
                        Step::Close,
                    ]);
                }
            }
            if let Some(snapshot) = captured.snapshot.take() {
                steps.extend(replace_file(self.path(FileKind::Snapshot, checkpoint.offset), snapshot));
            }
        }
        if (names && !steps.is_empty()) || self.checkpoint.last.is_none() {
            steps.push(Step::SyncDir { path: self.dir.clone() });
        }
        steps.extend(self.slot_steps(&checkpoint));
        if self.checkpoint.last.is_none() {
            steps.push(Step::SyncDir { path: self.dir.clone() });
        }
        if whole && checkpoint.snapshot.is_some() {
            for stale in self.stale_snapshots(checkpoint.offset) {
                steps.push(Step::Unlink { path: self.path(FileKind::Snapshot, stale) });
            }
        }
        self.checkpoint.writing = Some(captured);
        self.checkpoint.dirty_since = None;
        steps
    }

    /// Of what was captured: the epochs in the file, or of one that goes further back, are those in memory.
    fn side_sums(&self, captured: &Captured) -> SideSums {
        let checkpoint = &captured.checkpoint;
        let aborted = self.active().aborted_bytes().unwrap_or_default();
        let counted = &aborted[..captured.indexed[2]];
        SideSums {
            txn_index: crc32fast::hash(counted),
            txn_index_bytes: counted.len() as u32,
            epochs: self.epochs.sum(checkpoint.log_start, checkpoint.offset),
        }
    }

    /// The epochs in memory were trimmed to the log start.
    pub(super) fn epochs_are_trimmed(&mut self) {
        self.checkpoint.epochs_trimmed = true;
    }

    /// Whether the epochs' file may follow them now, with the checkpoint that is durable.
    pub(super) fn take_trimmed_epochs(&mut self) -> bool {
        std::mem::take(&mut self.checkpoint.epochs_trimmed)
    }

    fn slot_steps(&self, checkpoint: &Checkpoint) -> [Step; 4] {
        [
            Step::Open { path: self.dir.join(CHECKPOINT), how: OpenHow::CreateOrWrite, direct: false },
            Step::Write { at: checkpoint.slot(), data: Slice::from(checkpoint.encode()) },
            Step::SyncData,
            Step::Close,
        ]
    }

    /// A checkpoint that was written as part of something else is on disk.
    pub(super) fn settle_checkpoint(&mut self) {
        if let Some(written) = self.checkpoint.writing.take() {
            self.checkpoint.last = Some(written.checkpoint);
        }
    }

    /// One that could not be written is tried again once the log serves.
    pub(super) fn put_off_checkpoint(&mut self) {
        self.checkpoint.writing = None;
        self.want_checkpoint();
    }

    pub(super) fn checkpointed(&mut self, now: Now) {
        let written = self.checkpoint.writing.take().expect("a checkpoint was being written");
        let earlier = self.checkpoint.last.map(|last| last.log_start);
        self.checkpoint.last = Some(written.checkpoint);
        if let Some(index) = self.segment_index(written.checkpoint.segment)
            && let Some(live) = self.segments[index].live_mut()
        {
            live.indexed_on_disk = written.indexed;
            self.checkpoint.named = Some(written.checkpoint.segment);
        }
        let log_start = written.checkpoint.log_start;
        if log_start == self.log_start && self.take_trimmed_epochs() {
            (self.epochs_dirty, self.due) = (true, true);
        }
        if earlier.is_none_or(|earlier| earlier < log_start) && log_start > self.announced_start {
            self.announced_start = log_start;
            self.events.push_back(super::LogEvent::Trimmed { log_start });
        }
        if self.log_end > written.checkpoint.offset {
            self.checkpoint.dirty_since.get_or_insert(now.mono);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_checkpoint_leaves_behind_is_a_small_share_of_the_log_and_never_less_than_is_worth_one() {
        assert_eq!(stride(0, 32 << 20), 32 << 20);
        assert_eq!(stride(1 << 30, 32 << 20), 64 << 20);
        assert_eq!(stride(64 << 30, 32 << 20), 4 << 30);
    }
}

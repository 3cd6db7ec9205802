//! Segments that go: by age, size or log start. Renamed at once, removed bit by bit once nobody reads them.

use std::path::PathBuf;
use std::time::Duration;

use highwater_base::{BLOCK, Mono, Mutant, Now, Offset, WallMs};
use highwater_io::{FileId, Io};

use super::flight::Purpose;
use super::script::Step;
use super::{Log, State};
use crate::LogSettings;
use crate::layout::FileKind;
use crate::rare::{AtFirst, Rare};
use crate::retention::{Candidate, Rules};
use crate::segment::{Phase, Segment};

/// Every kind of file that a segment may have.
pub(super) const SEGMENT_FILES: [FileKind; 6] = [
    FileKind::Log,
    FileKind::OffsetIndex,
    FileKind::TimeIndex,
    FileKind::TxnIndex,
    FileKind::Snapshot,
    FileKind::Seal,
];

/// What waits to be removed, and when retention is considered again.
#[derive(Debug)]
pub(crate) struct Retention {
    next_check: Mono,
    going: Rare<Going>,
}

/// Files that go.
#[derive(Debug)]
struct Going {
    /// Files renamed to `.deleted`, each with its segment, and when they may go.
    waiting: Vec<Waiting>,
    /// Names that the running [`Purpose::Rename`] makes.
    renaming: Vec<Waiting>,
    /// Names that the running [`Purpose::CompactSwap`] makes.
    replacing: Vec<Waiting>,
}

impl AtFirst for Going {
    const NEW: Going = Going { waiting: Vec::new(), renaming: Vec::new(), replacing: Vec::new() };
    const SEEN: &'static Going = &Going::NEW;
}

#[derive(Debug)]
pub(super) struct Waiting {
    segment: Offset,
    pub(super) path: PathBuf,
    /// Its handle, closed before it is removed.
    pub(super) file: Option<FileId>,
    remove_at: Mono,
    /// How long it is, if it is a segment that retention gave up: one that may be used again.
    pub(super) bytes: Option<u64>,
}

/// From one slice of a file that goes to the next, where the first of those that wait behind it is so `late`: appends come
/// first, and few of them meet a slice, unless the others have waited for long.
fn rest_of(late: Duration) -> Duration {
    match late.as_secs() {
        0..10 => Duration::from_millis(6),
        10..60 => Duration::from_millis(2),
        _ => Duration::ZERO,
    }
}

impl Retention {
    pub(super) fn new(now: Now, settings: &LogSettings) -> Retention {
        let next_check = now.mono.plus(Duration::from_millis(settings.retention_check_ms));
        Retention { next_check, going: Rare::new() }
    }

    /// A file of a segment that is being replaced will be there under `path`.
    pub(super) fn replaces(&mut self, segment: Offset, path: PathBuf, file: Option<FileId>, remove_at: Mono) {
        self.going.replacing.push(Waiting { segment, path, file, remove_at, bytes: None });
    }

    /// The files of [`Retention::replaces`] are there.
    pub(super) fn replaced(&mut self) {
        let going = &mut *self.going;
        going.waiting.append(&mut going.replacing);
    }

    /// Every file that waits to be removed; a clean stop waits no longer.
    pub(super) fn take_waiting(&mut self) -> Vec<(Option<FileId>, PathBuf)> {
        let waiting = self.going.changed().map(|going| std::mem::take(&mut going.waiting));
        waiting.into_iter().flatten().map(|waiting| (waiting.file, waiting.path)).collect()
    }
}

impl Log {
    /// Raises the log start offset (DeleteRecords), at most to the log's end. Whole segments below it go later.
    /// [`super::LogEvent::Trimmed`] tells when the new start is durable.
    pub fn trim(&mut self, to: Offset) {
        let to = to.min(self.log_end);
        if to > self.log_start && matches!(self.state, State::Open | State::Switching(_)) {
            self.move_log_start(to);
            // What lies before the start now may go at once.
            self.retention.next_check = Mono::ZERO;
        }
    }

    fn move_log_start(&mut self, to: Offset) {
        self.log_start = to;
        self.high_watermark = self.high_watermark.max(to);
        if self.epochs.trim_to(to) {
            self.epochs_are_trimmed();
        }
        self.quarantine.trim(to);
        if self.settings.mutant == Mutant::TrimForgetsProducers {
            self.producers.forget_before(to);
        }
        self.want_checkpoint();
    }

    pub(super) fn retention_deadline(&self) -> Option<Mono> {
        if self.state != State::Open {
            return None;
        }
        let removal = self.retention.going.waiting.iter().map(|waiting| waiting.remove_at).min();
        let idle = self.is_running(&Purpose::Remove) || self.is_running(&Purpose::Rename);
        removal.filter(|_| !idle).into_iter().chain([self.retention.next_check]).min()
    }

    pub(super) fn drive_retention(&mut self, now: Now, _io: &mut dyn Io) {
        if self.state != State::Open {
            return;
        }
        if now.mono >= self.retention.next_check {
            self.retention.next_check =
                now.mono.plus(Duration::from_millis(self.settings.retention_check_ms.max(1)));
            self.producers.expire(now.wall, self.settings.producer_expiration_ms as i64);
            self.retire(now);
        }
        self.rename_retired(now);
        self.remove_waiting(now);
    }

    /// Lets go of the segments that retention gives up.
    fn retire(&mut self, now: Now) {
        let candidates: Vec<Candidate> = self
            .segments
            .iter()
            .enumerate()
            .map(|(index, segment)| Candidate {
                base: segment.base,
                end: self.segments.get(index + 1).map_or(self.log_end, |next| next.base),
                bytes: segment.size,
                newest: match segment.largest.timestamp {
                    time if time.get() >= 0 => time,
                    _ => WallMs::new(segment.modified_ms),
                },
            })
            .collect();
        let committed = match self.settings.mutant {
            Mutant::RetentionUncommitted => self.log_end,
            _ => self.high_watermark.min(self.synced_end),
        };
        let rules = Rules {
            log_start: self.log_start,
            committed,
            retention_bytes: self.settings.retention_bytes,
            retention_ms: self.settings.retention_ms,
            now: now.wall,
        };
        let expired = match self.settings.mutant {
            Mutant::IdleSegmentStays => rules.expired(&candidates).min(candidates.len() - 1),
            _ => rules.expired(&candidates),
        };
        if expired == 0 {
            return;
        }
        if expired == self.segments.len() && !self.is_awake_or_wakes() {
            self.retention.next_check = now.mono;
            return;
        }
        if expired == self.segments.len() {
            // Everything may go: an empty segment goes on from here.
            self.roll(now, self.log_end);
        }
        let sealed = self.first_live();
        if expired > sealed {
            // Those are sealed first; the rest goes soon.
            self.retention.next_check =
                now.mono.plus(Duration::from_millis(self.settings.retention_check_ms.min(1000)));
        }
        let start = self.segments[expired.min(sealed)].base;
        if start > self.log_start {
            self.move_log_start(start);
        }
    }

    /// Renames the files of the sealed segments that lie wholly below the log start, once that is durable: a crash may
    /// keep some of the renames and lose others, and the log start tells which segments are gone.
    fn rename_retired(&mut self, now: Now) {
        let Some(start) = self.checkpoint.last.map(|last| last.log_start) else { return };
        let below = self.segments.partition_point(|segment| segment.base <= start).saturating_sub(1);
        let sealed = self.first_live();
        let gone = below.min(sealed);
        let settings = &self.settings;
        let kept = settings.mutant == Mutant::StartKeepsSegments
            && settings.retention_ms.is_none()
            && settings.retention_bytes.is_none();
        // A swap counts on its segments.
        let busy = self.is_running(&Purpose::Rename) || self.is_running(&Purpose::CompactSwap);
        if gone == 0 || kept || busy {
            return;
        }
        let going: Vec<Segment> = self.segments.drain(..gone).collect();
        let remove_at = now.mono.plus(Duration::from_millis(self.settings.file_delete_delay_ms));
        let steps = self.rename_steps(going, remove_at, Offset::MAX);
        self.run(Purpose::Rename, steps);
    }

    /// Renames the files of segments that go, newest segment first, so that what a crash leaves is a log without a
    /// hole; `keep_snapshot` is the snapshot that stays.
    pub(super) fn rename_steps(
        &mut self,
        going: Vec<Segment>,
        remove_at: Mono,
        keep_snapshot: Offset,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        // By retention the oldest go, and a crash between must leave the newest.
        let oldest_first =
            going.last().is_some_and(|last| self.segments.front().is_some_and(|s| s.base > last.base));
        let mut order: Vec<Segment> = going;
        if !oldest_first {
            order.reverse();
        }
        for segment in order {
            let size = segment.size;
            let file = match segment.phase {
                Phase::Live(live) => live.file,
                Phase::Sealed(sealed) => sealed.file,
            };
            for kind in SEGMENT_FILES {
                if kind == FileKind::Snapshot {
                    let known = self.snapshots.binary_search(&segment.base);
                    let Ok(known) = known else { continue };
                    if segment.base == keep_snapshot {
                        continue;
                    }
                    self.snapshots.remove(known);
                }
                let (from, path) = (self.path(kind, segment.base), self.deleted_path(kind, segment.base));
                steps.push(Step::RenameIfThere { from, to: path.clone() });
                let is_log = kind == FileKind::Log;
                let (segment, file) = (segment.base, file.filter(|_| is_log));
                let bytes = (is_log && oldest_first).then_some(size);
                self.retention.going.renaming.push(Waiting { segment, path, file, remove_at, bytes });
            }
            // One segment durably gone before the next one goes: names become durable in any order, and a crash must
            // not leave a hole.
            steps.push(Step::SyncDir { path: self.dir.clone() });
        }
        steps
    }

    pub(super) fn renamed(&mut self) {
        let going = &mut *self.retention.going;
        going.waiting.append(&mut going.renaming);
    }

    /// Removes what has waited long enough and is not being read, but for a segment that is used again.
    fn remove_waiting(&mut self, now: Now) {
        if self.retention.going.waiting.is_empty() || self.is_running(&Purpose::Remove) {
            return;
        }
        let reading =
            |segment: Offset| self.readers.slots.iter().flatten().any(|reader| reader.reads(segment));
        let careless = self.settings.mutant == Mutant::RecycledWhileRead;
        let free = |waiting: &Waiting| !reading(waiting.segment) || (careless && waiting.bytes.is_some());
        let (go, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.retention.going.waiting)
            .into_iter()
            .partition(|waiting| waiting.remove_at <= now.mono && free(waiting));
        self.retention.going.waiting = stay;
        let mut steps = Vec::new();
        for waiting in go {
            let Some(waiting) = self.take_deleted(waiting) else { continue };
            if let Some(file) = waiting.file {
                steps.extend([Step::Adopt(file), Step::Close]);
            }
            steps.push(Step::Remove { path: waiting.path });
        }
        if !steps.is_empty() {
            self.run(Purpose::Remove, steps);
        }
    }

    /// How long the removal of files rests before it takes the next slice of one.
    pub(super) fn removal_rest(&self, now: Now) -> Duration {
        let hurries = self.state != State::Open || self.no_space.is_some() || self.room.low().is_some();
        let late = self.retention.going.waiting.iter().map(|waiting| now.mono.since(waiting.remove_at)).max();
        if hurries { Duration::ZERO } else { rest_of(late.unwrap_or_default()) }
    }

    pub(super) fn rest_deadline(&self) -> Option<Mono> {
        let idle = self.readers.idle_from?;
        (self.state == State::Open && !self.resting).then(|| idle.plus(REST_AFTER))
    }

    /// A log that nobody uses gives its memory back.
    pub(super) fn drive_rest(&mut self, now: Now) {
        if self.state != State::Open || self.resting {
            return;
        }
        if self.written == self.tail.end()
            && self.tail.held().get() > BLOCK
            && self.tail.full_space().is_some()
        {
            self.tail.rest(&self.settings.limits);
        }
        let busy = self.written < self.tail.end() || !self.readers.is_quiet();
        if busy {
            self.readers.idle_from = None;
            return;
        }
        let idle_from = *self.readers.idle_from.get_or_insert(now.mono);
        if now.mono.since(idle_from) < REST_AFTER {
            return;
        }
        for reader in self.readers.slots.iter_mut().flatten() {
            reader.dead |= reader.job.is_none();
        }
        self.sweep_readers();
        self.tail.rest(&self.settings.limits);
        self.ends.shrink_to_fit();
        self.writes.shrink_to_fit();
        self.scripts.shrink_to_fit();
        self.events.shrink_to_fit();
        self.resting = true;
    }
}

/// A log that was not used for so long gives its memory back.
const REST_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_hurries_the_later_it_is() {
        let rests = [0, 9, 10, 59, 60].map(|late| rest_of(Duration::from_secs(late)).as_millis());
        assert_eq!(rests, [6, 6, 2, 2, 0]);
    }
}

//! A new segment begins: when, and how without waiting.

use highwater_base::{BLOCK, FilePos, Mutant, Now, Offset};
use highwater_io::{ErrorKind, FileId, Io, IoError, OpenHow};

use super::flight::Purpose;
use super::script::Step;
use super::{Log, State};
use crate::LogSettings;
use crate::layout::{FileKind, FileName, PREPARED};
use crate::segment::{BatchFacts, Live, Name, Phase, Segment, first_step};

/// The file that the next segment will use.
#[derive(Debug)]
pub(crate) struct NextFile {
    pub(crate) file: FileId,
    pub(crate) prepared: u64,
    pub(crate) settled: crate::segment::Settled,
    /// It is a deleted segment, wiped: the space that it counts in.
    pub(crate) recycled: Option<super::recycle::Held>,
}

/// What decides whether a segment rolls before a batch (kafka.md 3.1).
#[derive(Clone, Copy, Debug)]
struct RollFacts {
    size: u64,
    batch: u64,
    /// Milliseconds between the first batch's time (or the segment's beginning) and this one's (or now).
    waited_ms: i64,
    index_full: bool,
    /// The batch's last offset, from the segment's base.
    relative_last: i64,
}

fn is_due(facts: RollFacts, settings: &LogSettings) -> bool {
    let too_large = facts.size > settings.segment_bytes.saturating_sub(facts.batch);
    let too_old = i128::from(facts.waited_ms) > i128::from(settings.roll_ms());
    // Positions are 31 bits in the index.
    let too_far = facts.size + facts.batch > i32::MAX as u64;
    facts.size > 0 && (too_large || too_old || too_far)
        || facts.index_full
        || (facts.relative_last > i64::from(i32::MAX) && settings.mutant != Mutant::OffsetsUnbounded)
}

impl Log {
    /// Where a new segment begins, if the next batch needs one.
    pub(super) fn roll_due(&self, now: Now, batch: &BatchFacts) -> Option<Offset> {
        let active = self.active();
        let live = active.live().expect("the last segment is live");
        let waited_ms = match live.first_timestamp {
            Some(first) if first.get() >= 0 => batch.max_timestamp.get().saturating_sub(first.get()),
            _ => now.wall.get().saturating_sub(live.created.get()),
        };
        let facts = RollFacts {
            size: active.size,
            batch: batch.size,
            waited_ms,
            index_full: live.index.is_full(self.settings.index_bytes as usize),
            relative_last: batch.last.since(active.base),
        };
        if !is_due(facts, &self.settings) {
            return None;
        }
        // Segments follow each other without a gap, so that recovery can tell a missing one, unless the gap is
        // wider than a segment's reach.
        let reachable = batch.last.since(self.log_end) <= i64::from(i32::MAX);
        Some(if reachable && self.log_end > active.base { self.log_end } else { batch.first })
    }

    /// Ends the active segment; the next one begins at `base`.
    pub(super) fn roll(&mut self, now: Now, base: Offset) {
        if self.settings.mutant == Mutant::ProducersAhead
            && let Some(batch) = self.admitted
        {
            self.producers.apply(&batch);
        }
        let snapshot = self.producer_snapshot();
        let place = self.tail.begin_segment();
        let next = self.next.take();
        let most = self.settings.limits.prepare_max_bytes;
        let interval = self.settings.index_interval_bytes;
        let mutant = self.settings.mutant;
        if mutant == Mutant::ClockMustNotGoBack && now.wall.get() < self.active().modified_ms {
            return self.fail("roll", IoError::of(ErrorKind::Other, "roll", "the clock went back"));
        }
        let active = self.segments.back_mut().expect("a log that serves has a segment");
        active.modified_ms = now.wall.get();
        let live = active.live_mut().expect("the last segment is live");
        live.rolled = true;
        let step = live.step;
        live.snapshot = snapshot;
        live.index.finish();
        let mut live = Live::new(place, base, interval, now.wall);
        live.index = live.index.weakened(self.settings.mutant);
        if let Some(next) = next {
            self.note_recycled(&next);
            live.file = Some(next.file);
            live.prepared = next.prepared;
            live.settled = next.settled;
            live.step = next.prepared.min(most);
            let from = self.dir.join(PREPARED);
            let to = self.path(FileKind::Log, base);
            self.run(Purpose::Name(place), [Step::Rename { from, to }]);
        } else {
            let path = self.path(FileKind::Log, base);
            let mut steps = vec![Step::Open { path, how: OpenHow::CreateNew, direct: self.settings.direct }];
            steps.push(self.first_space(step));
            self.run(Purpose::Fresh(place), steps);
        }
        self.segments.push_back(Segment::new(base, now.wall.get(), Phase::Live(Box::new(live))));
    }

    /// The first preparation of a new segment's file, after the step of the segment before it (0: there is none).
    pub(super) fn first_space(&self, step: u64) -> Step {
        let (len, how) = first_step(step, &self.settings);
        Step::Prepare { at: FilePos::ZERO, len: len.next_multiple_of(BLOCK), how }
    }

    /// The directory's names become durable after what was just renamed or made.
    pub(super) fn sync_names(&mut self, place: crate::tail::Place) {
        if self.settings.mutant == Mutant::NamesUnsynced {
            return self.name_is(place, Name::Durable);
        }
        let path = self.dir.clone();
        self.run(Purpose::SyncNames(place), [Step::SyncDir { path }]);
    }

    /// Makes `next.prepared` while the active segment fills.
    pub(super) fn drive_names(&mut self, _now: Now, _io: &mut dyn Io) {
        let wanted = self.state == State::Open
            && self.is_awake()
            && self.no_space.is_none()
            && self.rolls_soon()
            && !self.is_recycling()
            && self.next_name_is_free();
        if wanted {
            let step = self.active().live().map_or(0, |live| live.step);
            let path = self.dir.join(PREPARED);
            let mut steps =
                vec![Step::Open { path, how: OpenHow::CreateOrEmpty, direct: self.settings.direct }];
            steps.push(self.first_space(step));
            self.run(Purpose::Next, steps);
        }
    }

    /// Whether the active segment is nearly full.
    pub(super) fn rolls_soon(&self) -> bool {
        self.segments.back().is_some_and(|active| active.size >= self.settings.segment_bytes / 4 * 3)
    }

    /// Whether no file has or is getting the name `next.prepared`: each that had it has its own for good. A segment may be
    /// full before it has.
    pub(super) fn next_name_is_free(&self) -> bool {
        let mut live = self.segments.iter().rev().map_while(Segment::live);
        self.next.is_none()
            && !self.is_running(&Purpose::Next)
            && !self.is_running(&Purpose::Reuse)
            && live.all(|live| live.name == Name::Durable)
    }

    /// The path of a file of this log.
    pub(super) fn path(&self, kind: FileKind, offset: Offset) -> std::path::PathBuf {
        self.dir.join(FileName::live(kind, offset).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_to_roll_rolls_alone() {
        let settings = LogSettings { segment_bytes: 1000, segment_ms: 500, ..LogSettings::default() };
        let none = RollFacts { size: 900, batch: 100, waited_ms: 500, index_full: false, relative_last: 5 };
        assert!(!is_due(none, &settings));
        assert!(is_due(RollFacts { batch: 101, ..none }, &settings));
        assert!(is_due(RollFacts { waited_ms: 501, ..none }, &settings));
        assert!(is_due(RollFacts { index_full: true, ..none }, &settings));
        assert!(is_due(RollFacts { relative_last: 1 << 31, ..none }, &settings));
    }

    #[test]
    fn an_empty_segment_takes_a_batch_of_any_size_and_age() {
        let settings = LogSettings { segment_bytes: 1000, segment_ms: 500, ..LogSettings::default() };
        let facts = RollFacts { size: 0, batch: 5000, waited_ms: 9999, index_full: false, relative_last: 5 };
        assert!(!is_due(facts, &settings));
    }
}

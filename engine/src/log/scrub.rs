//! The scrubber: sealed segments are read slice by slice, within a budget of bytes a day, and held against their seals.
//! Rot is thus found while a replica or a backup still has what was there.
//!
//! A slice is one read that bypasses the page cache, by housekeeping, never while another is under way. What differs is
//! read a second time; if it still differs, batch by batch: bad ones are put aside as a reader would do, and where each
//! batch looks right by itself (its first 17 bytes lie outside its checksum), all that the differing piece touches is.
//! A segment without a seal that binds it is judged by its batches.
//!
//! Nothing of this is kept on disk: after a restart a round begins anew, at a segment chosen by the day, so that a log that
//! is restarted daily is still read through.

use std::ops::Range;
use std::time::Duration;

use highwater_base::{FilePos, Mono, Now, Offset, WallMs};
use highwater_io::{ErrorKind, IoError, OpenHow};

use super::cold::{Job, Reader};
use super::flight::Purpose;
use super::script::{Script, Step};
use super::{Log, LogEvent, State};
use crate::ReadError;
use crate::layout::FileKind;
use crate::rare::{AtFirst, Rare};
use crate::recovery::Damage;
use crate::seal::{BEHIND, SEAL_PIECE, Seal, SealState, Unfinished, look};
use crate::segment::BatchFacts;

/// What the scrubber of a log has done since the log was opened.
///
/// ```
/// let facts = highwater_engine::ScrubFacts::default();
/// assert_eq!((facts.bytes, facts.rounds, facts.rotten), (0, 0, 0));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubFacts {
    /// Bytes of segments read.
    pub bytes: u64,
    /// How often every sealed segment was read through.
    pub rounds: u64,
    /// Slices that could not be read, or that were not what was sealed.
    pub rotten: u64,
}

/// Where the scrubber is.
#[derive(Debug)]
pub(crate) struct Scrub {
    next_at: Mono,
    round: Rare<Round>,
}

/// A round over the sealed segments, of which most logs have none.
#[derive(Debug)]
struct Round {
    /// The segment and the byte that come next; none: a round begins.
    at: Option<(Offset, u64)>,
    /// Where the round began.
    began: Offset,
    /// It has gone on from the last sealed segment to the first.
    wrapped: bool,
    /// The slice differed, and is read a second time.
    again: bool,
    /// Ranges of a segment whose batches are to be looked at; whether something in them is known to differ.
    suspects: Vec<(Offset, Range<u64>, bool)>,
    /// A batch that began before this slice, and when the segment's file was last changed then.
    unfinished: Option<Box<(WallMs, Unfinished)>>,
    facts: ScrubFacts,
}

impl AtFirst for Round {
    const NEW: Round = Round {
        at: None,
        began: Offset::ZERO,
        wrapped: false,
        again: false,
        suspects: Vec::new(),
        unfinished: None,
        facts: ScrubFacts { bytes: 0, rounds: 0, rotten: 0 },
    };
    const SEEN: &'static Round = &Round::NEW;
}

impl Scrub {
    /// The first slice is due within one pause, at a moment that differs from log to log.
    pub(super) fn new(now: Now, owner: u32, budget: u64) -> Scrub {
        let pause = pause(SLICE, budget);
        let share = owner.wrapping_mul(2_654_435_769) >> 16; // Spreads neighbours evenly.
        Scrub { next_at: now.mono.plus(pause / 65_536 * share), round: Rare::new() }
    }
}

/// Bytes of one slice: whole pieces of a seal.
const SLICE: u64 = 16 * SEAL_PIECE as u64;

/// How long so many bytes take at `budget` bytes a day (0 is never asked).
fn pause(bytes: u64, budget: u64) -> Duration {
    const DAY_MS: u128 = 24 * 3_600_000;
    let ms = u128::from(bytes) * DAY_MS / u128::from(budget.max(1));
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX).max(1))
}

impl Log {
    /// What the scrubber has done since the log was opened.
    pub fn scrub_facts(&self) -> ScrubFacts {
        self.scrub.round.facts
    }

    /// When the next slice is due, if there is anything to read.
    pub(super) fn scrub_deadline(&self) -> Option<Mono> {
        let due = self.scrubs() && self.first_live() > 0 && !self.scrub_is_running();
        due.then_some(self.scrub.next_at)
    }

    fn scrubs(&self) -> bool {
        self.state == State::Open && self.settings.scrub_bytes_a_day > 0
    }

    pub(super) fn scrub_is_running(&self) -> bool {
        let looks = |reader: &Reader| matches!(reader.job, Some(Job::Check { .. }));
        self.scrub_purpose().is_some() || self.readers.slots.iter().flatten().any(looks)
    }

    fn scrub_purpose(&self) -> Option<(Offset, u64)> {
        self.scripts.iter().flatten().find_map(|running| match running.purpose {
            Purpose::Scrub { segment, from } => Some((segment, from)),
            _ => None,
        })
    }

    /// Begins the next slice if it is due.
    pub(super) fn drive_scrub(&mut self, now: Now) {
        if !self.scrubs() {
            return self.stop_scrub();
        }
        // A budget that was raised holds at once.
        let latest = now.mono.plus(pause(SLICE, self.settings.scrub_bytes_a_day));
        self.scrub.next_at = self.scrub.next_at.min(latest);
        if self.scrub_is_running() || self.is_running(&Purpose::CompactSwap) {
            return;
        }
        let suspect = self.scrub.round.changed().and_then(|round| round.suspects.pop());
        if let Some((segment, range, differs)) = suspect {
            return self.look_at(now, segment, range, differs);
        }
        if now.mono < self.scrub.next_at || self.first_live() == 0 {
            return;
        }
        let Some((segment, from)) = self.scrub.round.at.or_else(|| self.begin_round(now)) else { return };
        let Some(size) = self.sealed_size(segment).filter(|size| from < *size) else {
            return self.next_segment(segment);
        };
        let len = (size - from).min(SLICE + BEHIND) as usize;
        let path = self.path(FileKind::Log, segment);
        let steps = [
            Step::Load { path: self.path(FileKind::Seal, segment), len: i32::MAX as usize },
            Step::Stat { path: path.clone() },
            Step::Open { path, how: OpenHow::Read, direct: true },
            Step::Read { at: FilePos::new(from), len },
            Step::Close,
        ];
        self.scrub.round.at = Some((segment, from));
        self.run(Purpose::Scrub { segment, from }, steps);
    }

    /// The log is being cut, closed or deleted: nothing is looked at meanwhile, and a round begins anew.
    fn stop_scrub(&mut self) {
        for reader in self.readers.slots.iter_mut().flatten() {
            if matches!(reader.job, Some(Job::Check { .. })) {
                (reader.job, reader.dead) = (None, true);
            }
        }
        if let Some(round) = self.scrub.round.changed() {
            (round.at, round.again, round.unfinished) = (None, false, None);
            round.suspects.clear();
        }
    }

    /// Compaction has put another segment in the place of these: what was found in them says nothing of it.
    pub(super) fn scrub_leaves(&mut self, replaced: &[Offset]) {
        let Some(round) = self.scrub.round.changed() else { return };
        round.suspects.retain(|(segment, _, _)| !replaced.contains(segment));
        if round.at.is_some_and(|(segment, _)| replaced.contains(&segment)) {
            (round.at, round.again) = (Some((replaced[0], 0)), false);
        }
    }

    fn sealed_size(&self, base: Offset) -> Option<u64> {
        let segment = &self.segments[self.segment_index(base)?];
        segment.live().is_none().then_some(segment.size)
    }

    fn begin_round(&mut self, now: Now) -> Option<(Offset, u64)> {
        let sealed = self.first_live();
        let day = now.wall.get().max(0) as u64 / (24 * 3_600_000);
        let first = self.segments.get(usize::try_from(day % sealed.max(1) as u64).ok()?)?.base;
        (self.scrub.round.began, self.scrub.round.wrapped) = (first, false);
        Some((first, 0))
    }

    /// Goes on behind the segment `after`; ends the round where it began.
    fn next_segment(&mut self, after: Offset) {
        let sealed = self.segments.iter().take(self.first_live()).map(|segment| segment.base);
        let mut next = sealed.clone().find(|base| *base > after);
        if next.is_none() && !self.scrub.round.wrapped {
            self.scrub.round.wrapped = true;
            next = sealed.clone().next();
        }
        let ended = next.is_none_or(|next| self.scrub.round.wrapped && next >= self.scrub.round.began);
        self.scrub.round.unfinished = None;
        self.scrub.round.facts.rounds += u64::from(ended);
        self.scrub.round.at = next.filter(|_| !ended).map(|next| (next, 0));
        self.due = true;
    }

    /// A slice is read.
    pub(super) fn scrubbed(&mut self, now: Now, segment: Offset, from: u64, script: &Script) {
        let Some(size) = self.sealed_size(segment).filter(|_| self.scrubs()) else { return };
        let to = (from + SLICE).min(size);
        let data = script.data();
        self.scrub.round.facts.bytes += (data.len() as u64).min(to - from);
        let seal = script.loaded(0).and_then(|bytes| Seal::decode(bytes).ok()).filter(|seal| {
            seal.state(WallMs::new(script.modified_ms())) == SealState::Binding && seal.length.get() == size
        });
        match seal {
            Some(seal) => {
                let before =
                    self.scrub.round.unfinished.as_deref().filter(|(modified, _)| *modified == seal.modified);
                let looked = look(&seal, from..to, data, before.map(|(_, batch)| batch.clone()));
                let ranges = looked.differing;
                if !ranges.is_empty() && !std::mem::replace(&mut self.scrub.round.again, true) {
                    // Perhaps it was only read wrongly.
                    self.scrub.next_at = now.mono;
                    return;
                }
                self.scrub.round.facts.rotten += u64::from(!ranges.is_empty());
                self.scrub.round.unfinished = looked.unfinished.map(|batch| Box::new((seal.modified, batch)));
                self.scrub
                    .round
                    .suspects
                    .extend(looked.open.into_iter().map(|range| (segment, range, false)));
                self.scrub.round.suspects.extend(ranges.into_iter().map(|range| (segment, range, true)));
            }
            None => {
                self.scrub.round.unfinished = None;
                self.scrub.round.suspects.push((segment, from..to, false));
            }
        }
        self.slice_done(now, segment, from..to, size);
    }

    fn slice_done(&mut self, now: Now, segment: Offset, slice: Range<u64>, size: u64) {
        let (bytes, to) = ((slice.end - slice.start).max(SEAL_PIECE as u64), slice.end);
        self.scrub.round.again = false;
        self.scrub.next_at = now.mono.plus(pause(bytes, self.settings.scrub_bytes_a_day));
        self.scrub.round.at = Some((segment, to));
        if to >= size {
            self.next_segment(segment);
        }
        self.due = true;
    }

    /// A slice cannot be read. Its segment may have gone; otherwise that is damage, too.
    pub(super) fn scrub_failed(&mut self, now: Now, segment: Offset, from: u64, error: IoError) {
        let size = self.sealed_size(segment);
        if error.kind != ErrorKind::NotFound || size.is_some() {
            self.scrub.round.facts.rotten += 1;
            self.events.push_back(LogEvent::Damaged(ReadError::Io(error)));
        }
        self.scrub.round.unfinished = None;
        let size = size.unwrap_or(from);
        self.slice_done(now, segment, from..(from + SLICE).min(size).max(from), size);
    }

    /// Has a reader go through the batches of a range.
    fn look_at(&mut self, now: Now, segment: Offset, range: Range<u64>, differs: bool) {
        if self.sealed_size(segment).is_none() {
            return;
        }
        let job = Job::Check { range: range.clone(), differs, inside: None };
        if self.add_reader(Reader::new(segment, job)).is_err() {
            // Too many read at present.
            self.scrub.round.suspects.push((segment, range, differs));
            self.scrub.next_at = now.mono.plus(pause(SLICE, self.settings.scrub_bytes_a_day));
        }
    }

    /// A reader that checks a range has come upon a good batch; true if it has seen enough.
    pub(super) fn check_sees(&mut self, slot: usize, position: u64, facts: &BatchFacts) -> bool {
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        let Some(Job::Check { range, inside, .. }) = &mut reader.job else { return false };
        if position >= range.end {
            return self.checked(slot, position, facts.first);
        }
        if position + facts.size > range.start {
            inside.get_or_insert((position, facts.first));
        }
        reader.position = Some(position + facts.size);
        reader.expected = Some(facts.last.plus(1));
        reader.forget_before();
        false
    }

    /// Its segment ends.
    pub(super) fn check_ends(&mut self, slot: usize, base: Offset) -> bool {
        let index = self.segment_index(base);
        let (size, end) = index.map_or((0, base), |i| (self.segments[i].size, self.segments[i].end));
        self.checked(slot, size, end)
    }

    /// A reader that checks a range is at a good batch, or at the segment's end, and has seen enough. `here` and
    /// `offset` are where it is.
    pub(super) fn checked(&mut self, slot: usize, here: u64, offset: Offset) -> bool {
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        reader.dead = true;
        let base = reader.segment;
        let Some(Job::Check { range, differs: true, inside: Some((position, from)) }) = reader.job.take()
        else {
            return true;
        };
        // Each batch there is right by itself, and yet the bytes are not those that were sealed.
        if !self.quarantine.touches(base, &range) {
            self.found_damage(Damage {
                segment: base,
                position: FilePos::new(position),
                position_end: FilePos::new(here),
                from,
                until: offset.max(from.plus(1)),
            });
        }
        true
    }

    /// Puts a damaged range aside, and says so the first time.
    pub(super) fn found_damage(&mut self, damage: Damage) {
        if self.quarantine.holding(damage.from).is_none() {
            let error = damage.error(self.log_path(damage.segment));
            self.events.push_back(LogEvent::Damaged(error));
        }
        self.quarantine.add(damage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_kept_over_a_day() {
        let slices = Duration::from_secs(24 * 3600).as_millis() / pause(SLICE, 1 << 30).as_millis();
        assert_eq!(slices as u64 * SLICE, 1 << 30);
        assert_eq!(pause(SLICE, u64::MAX), Duration::from_millis(1));
        assert!(pause(SLICE, 1) > Duration::from_secs(1 << 30));
    }
}

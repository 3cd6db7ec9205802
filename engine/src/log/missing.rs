//! Segments that are missing at a start, told from gaps that belong there.
//!
//! Only a seal that binds its segment is believed, and what it says of the next one ([`Seal::next`]): that one's name was
//! durable before. Nothing is said of segments without a seal of ours, nor of what lies below the log start.

use highwater_base::{FilePos, Mutant, Offset};
use highwater_io::Park;

use super::Log;
use super::cold::Job;
use super::open::{OnDisk, read_at};
use super::recover::{Next, Proof};
use crate::batch::{HEADER_BYTES, Header};
use crate::layout::FileKind;
use crate::recovery::{Checkpoint, Damage, RecoveryReport, Triage};
use crate::seal::Seal;
use crate::{OpenError, Verdict};

impl Log {
    /// Segments may be missing behind a sealed one, before the next that is there, which begins at `next`: then their
    /// offsets are refused, and everything around them is served.
    pub(super) fn note_missing(
        &mut self,
        base: Offset,
        seal: &Seal,
        next: Offset,
        report: &mut RecoveryReport,
    ) {
        let from = seal.next;
        let passed_over = self.settings.mutant == Mutant::MissingPassedOver;
        if !from.is_some() || from >= next || next == Offset::MAX || next <= self.log_start || passed_over {
            return;
        }
        let position = seal.length.get();
        self.note(report, base, position, 0, Verdict::Rot, None);
        self.quarantine.add(Damage {
            segment: base,
            position: FilePos::new(position),
            position_end: FilePos::new(position + 1),
            from,
            until: next,
        });
    }

    /// Where the log goes on if its last segments are missing: behind every offset that is known to have been given. A
    /// log that is being dropped as a whole loses its checkpoint before its segments.
    pub(super) fn missing_end(
        &self,
        io: &mut dyn Park,
        found: &Triage,
        on_disk: &[OnDisk],
        checkpoint: Option<Checkpoint>,
    ) -> Result<Option<Offset>, OpenError> {
        let (Some(last), Some(checkpoint)) = (on_disk.last(), checkpoint) else { return Ok(None) };
        if self.settings.mutant == Mutant::MissingPassedOver {
            return Ok(None);
        }
        let next = self.binding_seal(io, found, *last)?.map_or(Offset::NONE, |seal| seal.next);
        Ok((next > last.base).then(|| checkpoint.offset.max(next.plus(1))))
    }

    /// Whether the segment behind number `number` follows it, which ends at `end`. Ours follow each other without a gap,
    /// but for one that is wider than a segment's reach.
    pub(super) fn follows(
        &self,
        io: &mut dyn Park,
        on_disk: &[OnDisk],
        number: usize,
        end: Offset,
    ) -> Result<bool, OpenError> {
        let Some(next) = on_disk.get(number + 1) else { return Ok(false) };
        if next.base <= end || self.settings.mutant == Mutant::GapsAreHoles {
            return Ok(next.base == end);
        }
        let head = read_at(io, self.path(FileKind::Log, next.base), 0, HEADER_BYTES)?;
        Ok(Header::decode(&head).is_some_and(|first| {
            let (first, last) = (first.base_offset(), first.last_offset());
            first == next.base && last.since(end) > i64::from(i32::MAX)
        }))
    }

    /// What comes behind segment number `number`, all of which is good: nothing, if the next one does not follow it, behind the
    /// proof and where no seal says that its name was durable. A crash took what is missing there.
    pub(super) fn behind(
        &self,
        io: &mut dyn Park,
        on_disk: &[OnDisk],
        number: usize,
        end: Offset,
        proof: Option<Proof>,
        sealed: &Option<Seal>,
    ) -> Result<Next, OpenError> {
        let unproven = proof.is_some_and(|proof| number >= proof.segment) && sealed.is_none();
        let is_last = number + 1 == on_disk.len();
        let hole = unproven && !is_last && !self.follows(io, on_disk, number, end)?;
        Ok(if hole { Next::End } else { Next::Go })
    }

    /// A fetch has come to its segment's end with nothing, and the next one begins at `next`: it is refused if segments
    /// are missing in between.
    pub(super) fn refuse_hole(&mut self, slot: usize, next: Offset) -> bool {
        let reader = self.readers.slots[slot].as_ref().expect("a reader with a job");
        let Some(Job::Fetch { from, .. }) = reader.job else { return false };
        let hole = self.quarantine.holding(next.plus(-1)).filter(|damage| from <= damage.from).cloned();
        hole.is_some_and(|damage| self.pass_damage(slot, &damage))
    }
}

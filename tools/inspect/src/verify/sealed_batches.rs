//! The seal against the batches.

use highwater_base::Offset;
use highwater_engine::Checkpoint;
use highwater_engine::seal::{Seal, SealCheck};

use super::segment::{Observer, Seen, Segment};
use crate::{Damage, Finding};

/// Every batch must lie where it was sealed, with the front that it had; the rest of it is under its own checksum.
pub(super) struct SealedBatches {
    check: Option<SealCheck>,
    /// Where the next segment begins, if the seal says so.
    next: Offset,
    /// The log's.
    checkpoint: Option<Checkpoint>,
    /// Of the segment's file.
    length: u64,
}

impl SealedBatches {
    pub(super) fn new(seal: Seal, length: u64, checkpoint: Option<Checkpoint>) -> SealedBatches {
        let next = seal.next;
        SealedBatches { check: Some(SealCheck::new(seal)), next, checkpoint, length }
    }

    /// Where the missing segments behind this one end, as a start has it.
    fn missing_until(&self, segment: &Segment<'_>) -> Option<Offset> {
        let until = match segment.next {
            // Those at the end are: behind every offset that is known to have been given.
            Offset::MAX => self.checkpoint?.offset.max(self.next.plus(1)),
            next => next,
        };
        let start = self.checkpoint.map_or(Offset::ZERO, |checkpoint| checkpoint.log_start);
        (self.next > segment.base && until > self.next && until > start).then_some(until)
    }
}

impl Observer for SealedBatches {
    fn batch(&mut self, seen: &Seen<'_>, _found: &mut Vec<Finding>) {
        if let Some(check) = &mut self.check {
            check.batch(seen.position, seen.batch.bytes());
        }
    }

    fn end(&mut self, segment: &Segment<'_>, _whole: bool, found: &mut Vec<Finding>) {
        for bytes in self.check.take().map(|check| check.finish(self.length)).unwrap_or_default() {
            found.push(Finding {
                path: segment.path.into(),
                position: Some(bytes.start),
                damage: Damage::Sealed { bytes },
                verdict: None,
            });
        }
        if let Some(until) = self.missing_until(segment) {
            found.push(Finding {
                path: segment.path.into(),
                position: Some(self.length),
                damage: Damage::Missing { from: self.next, until },
                verdict: None,
            });
        }
    }
}

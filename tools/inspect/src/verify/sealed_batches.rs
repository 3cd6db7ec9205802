//! The seal against the batches.

use highwater_engine::seal::{Seal, SealCheck};

use super::segment::{Observer, Seen, Segment};
use crate::{Damage, Finding};

/// Every batch must lie where it was sealed, with the front that it had; the rest of it is under its own checksum.
pub(super) struct SealedBatches {
    check: Option<SealCheck>,
    /// Of the segment's file.
    length: u64,
}

impl SealedBatches {
    pub(super) fn new(seal: Seal, length: u64) -> SealedBatches {
        SealedBatches { check: Some(SealCheck::new(seal)), length }
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
    }
}

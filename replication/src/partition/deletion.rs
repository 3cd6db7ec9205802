//! DeleteRecords: raise the log start.

use highwater_base::{Mono, Now, Offset};

use super::Partition;
use crate::Outcome;
use crate::PartitionError;

impl Partition {
    /// Forgets records below `to` ([`Offset::NONE`]: below the high watermark); gives the low watermark once every live
    /// replica has done so. Whole segments go later. Not beyond the high watermark, not for topics that are only compacted.
    pub fn delete_records(&mut self, now: Now, to: Offset, deadline: Mono, key: u64) -> Outcome<Offset> {
        let checked = self.check_serving().and_then(|()| {
            if self.settings.deletable { self.check_room() } else { Err(PartitionError::NotDeletable) }
        });
        if let Err(error) = checked {
            return Outcome::Now(Err(error));
        }
        let high = self.high_watermark();
        let asked = if to == Offset::NONE { high } else { to };
        if asked < Offset::ZERO || asked > high {
            let log_start = self.log.log_start();
            return Outcome::Now(Err(PartitionError::OffsetOutOfRange { asked, log_start, end: high }));
        }
        if asked > self.log.log_start() {
            self.log.trim(asked);
            self.pump(now);
        }
        if self.log.log_start() >= asked {
            return Outcome::Now(Ok(self.log.log_start()));
        }
        self.trims.park(asked, deadline, key);
        Outcome::Parked
    }
}

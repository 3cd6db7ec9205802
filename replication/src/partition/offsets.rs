//! ListOffsets and OffsetForLeaderEpoch.

use highwater_base::{LeaderEpoch, Now, Offset, WallMs};
use highwater_engine::TimestampOffset;
use highwater_isr::EpochEnd;

use super::Partition;
use super::looking::{By, Looking, What};
use crate::PartitionError;
use crate::{Isolation, ListedOffset, OffsetTarget, Outcome, Reply};

impl Partition {
    /// Finds an offset. What must not go back ([`OffsetTarget::Latest`], and times of which no committed record is
    /// found) is not told before the high watermark has reached the start of this leadership (KIP-207).
    pub fn list_offset(
        &mut self,
        now: Now,
        target: OffsetTarget,
        isolation: Isolation,
        current_epoch: LeaderEpoch,
        key: u64,
    ) -> Outcome<ListedOffset> {
        if let Err(error) = self.check_serving().and_then(|()| self.check_epoch(current_epoch)) {
            return Outcome::Now(Err(error));
        }
        let by = match target {
            OffsetTarget::Latest => {
                let latest = self.check_settled().map(|()| ListedOffset {
                    offset: self.bound(isolation),
                    timestamp: WallMs::NONE,
                    epoch: self.leader_epoch(),
                });
                return Outcome::Now(latest);
            }
            OffsetTarget::Earliest | OffsetTarget::EarliestLocal => {
                let offset = self.log.log_start();
                let listed = ListedOffset { offset, timestamp: WallMs::NONE, epoch: self.epoch_at(offset) };
                return Outcome::Now(Ok(listed));
            }
            OffsetTarget::LatestTiered => return Outcome::Now(Ok(ListedOffset::NOTHING)),
            OffsetTarget::MaxTimestamp => By::MaxTimestamp,
            OffsetTarget::Time(at) => By::Time(at),
        };
        match self.look(now, Looking { key, what: What::Offset { by, isolation } }) {
            Outcome::Now(Ok(Reply::Offset(listed))) => Outcome::Now(Ok(listed)),
            Outcome::Now(Ok(other)) => unreachable!("a lookup gives an offset, not {other:?}"),
            Outcome::Now(Err(error)) => Outcome::Now(Err(error)),
            Outcome::Parked => Outcome::Parked,
        }
    }

    /// The largest epoch at or before `epoch` that this leader knows, and its end.
    pub fn epoch_end(
        &self,
        epoch: LeaderEpoch,
        current_epoch: LeaderEpoch,
    ) -> Result<EpochEnd, PartitionError> {
        self.check_serving()?;
        self.check_epoch(current_epoch)?;
        let (epoch, end) = self.log.epoch_end(epoch);
        Ok(EpochEnd { epoch, end })
    }

    /// A record found by its time, if it may be seen.
    pub(super) fn listed(
        &self,
        isolation: Isolation,
        found: Option<TimestampOffset>,
    ) -> Result<ListedOffset, PartitionError> {
        match found {
            Some(found) if found.offset < self.bound(isolation) => {
                let TimestampOffset { timestamp, offset, leader_epoch } = found;
                Ok(ListedOffset { offset, timestamp, epoch: leader_epoch })
            }
            // There is none, or it is not committed. Before this leadership is settled, that may not be the last word.
            _ => self.check_settled().map(|()| ListedOffset::NOTHING),
        }
    }

    fn check_settled(&self) -> Result<(), PartitionError> {
        if self.replicator.is_settled() {
            Ok(())
        } else {
            Err(PartitionError::OffsetNotAvailable { high_watermark: self.high_watermark() })
        }
    }

    /// The epoch in which the record at `offset` was, or would be, appended.
    fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let epochs = self.log.epochs();
        let after = epochs.partition_point(|(_, start)| *start <= offset);
        if after == 0 { LeaderEpoch::NONE } else { epochs[after - 1].0 }
    }
}

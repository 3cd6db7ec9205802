//! Produce: append on the leader, then acknowledge, or park until that may be.

use highwater_base::{Mono, Now};
use highwater_engine::{AppendError, Appended, Busy, Origin};
use highwater_isr::Event;

use super::Partition;
use super::held::Held;
use crate::PartitionError;
use crate::parking::ParkedProduce;
use crate::{Acks, Outcome, ProduceDone};

impl Partition {
    /// Appends one record batch of a client's.
    ///
    /// Acks none: answered at once. Leader: answered when the log counts the batch (synced, under durability `each`).
    /// All: refused, with nothing appended, while fewer than `min.insync.replicas` are in sync; answered when the
    /// high watermark has passed it. A duplicate is answered like the original, with its offsets. While the log is
    /// being made or goes over to another data directory, or has too much staged, the batch is held, in order, and appended then. Past `deadline` the answer is
    /// [`PartitionError::TimedOut`], whatever becomes of the batch.
    pub fn produce<R>(
        &mut self,
        now: Now,
        records: R,
        acks: Acks,
        deadline: Mono,
        key: u64,
    ) -> Outcome<ProduceDone>
    where
        R: AsRef<[u8]> + Send + 'static,
    {
        if let Err(error) = self.check_produce(acks).and_then(|()| self.check_room()) {
            return Outcome::Now(Err(error));
        }
        // Nothing overtakes a held batch: a producer's sequence numbers come in order.
        let appended = if self.held.is_empty() { self.append(now, records.as_ref()) } else { Ok(None) };
        match appended {
            Err(error) => Outcome::Now(Err(error)),
            Ok(Some(appended)) => self.appended(now, appended, acks, deadline, key),
            Ok(None) => {
                self.held.push_back(Held { records: Box::new(records), acks, deadline, key });
                Outcome::Parked
            }
        }
    }

    /// What must hold before a client's batch is appended.
    pub(super) fn check_produce(&self, acks: Acks) -> Result<(), PartitionError> {
        self.check_serving()?;
        let in_sync = self.in_sync();
        if acks == Acks::All && in_sync.committed < in_sync.needed {
            return Err(PartitionError::NotEnoughReplicas {
                in_sync: in_sync.committed,
                needed: in_sync.needed,
            });
        }
        Ok(())
    }

    /// Appends; gives none if the log takes nothing just now, but will.
    pub(super) fn append(&mut self, now: Now, records: &[u8]) -> Result<Option<Appended>, PartitionError> {
        let origin = Origin::Client { leader_epoch: self.leader_epoch() };
        match self.log.append(now, records, origin) {
            Ok(appended) => Ok(Some(appended)),
            Err(
                AppendError::Backpressure { .. }
                | AppendError::Busy(Busy::Creating | Busy::Waking | Busy::Moving),
            ) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What becomes of the request now that its batch is in the log.
    pub(super) fn appended(
        &mut self,
        now: Now,
        appended: Appended,
        acks: Acks,
        deadline: Mono,
        key: u64,
    ) -> Outcome<ProduceDone> {
        let done = ProduceDone {
            first: appended.first,
            last: appended.last,
            append_time: appended.append_time,
            log_start: self.log.log_start(),
            duplicate: appended.duplicate,
        };
        if !appended.duplicate {
            self.run(now, Event::LogMoved);
        }
        let reached = match acks {
            Acks::None => true,
            Acks::Leader => self.acknowledged >= appended.end,
            Acks::All => self.high_watermark() >= appended.end,
        };
        if !reached {
            self.produces.park(acks, appended.end, deadline, ParkedProduce { key, done });
            return Outcome::Parked;
        }
        Outcome::Now(if acks == Acks::All { self.check_success().map(|()| done) } else { Ok(done) })
    }

    /// Whether a batch that the high watermark has passed may be acknowledged to acks=all.
    pub(super) fn check_success(&self) -> Result<(), PartitionError> {
        let in_sync = self.in_sync();
        if in_sync.maximal < in_sync.needed {
            let (in_sync, needed) = (in_sync.maximal, in_sync.needed);
            return Err(PartitionError::NotEnoughReplicasAfterAppend { in_sync, needed });
        }
        Ok(())
    }
}

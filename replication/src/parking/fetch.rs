//! Consumers that wait for something to read (the long poll of Fetch).

use highwater_base::{Mono, Offset};

use super::Parking;
use crate::Isolation;

/// All of one partition, by the bound that they may read to.
#[derive(Debug, Default)]
pub(crate) struct ParkedFetches {
    uncommitted: Parking<u64>,
    committed: Parking<u64>,
}

impl ParkedFetches {
    /// Waits until the bound lies beyond `beyond`.
    pub(crate) fn park(&mut self, isolation: Isolation, beyond: Offset, deadline: Mono, key: u64) {
        let parking = match isolation {
            Isolation::ReadUncommitted => &mut self.uncommitted,
            Isolation::ReadCommitted => &mut self.committed,
        };
        parking.park(beyond.plus(1), deadline, key);
    }

    /// The bounds are these now: the next one that this wakes.
    pub(crate) fn wake_up_to(&mut self, high_watermark: Offset, last_stable: Offset) -> Option<u64> {
        self.uncommitted.pop_reached(high_watermark).or_else(|| self.committed.pop_reached(last_stable))
    }

    /// The next one whose time is up.
    pub(crate) fn expire(&mut self, now: Mono) -> Option<u64> {
        self.uncommitted.pop_expired(now).or_else(|| self.committed.pop_expired(now))
    }

    /// Any one: it has to look again.
    pub(crate) fn give_up(&mut self) -> Option<u64> {
        self.uncommitted.pop_first().or_else(|| self.committed.pop_first())
    }

    /// Nobody waits for this one any more.
    pub(crate) fn forget(&mut self, key: u64) {
        self.uncommitted.remove(|parked| *parked == key);
        self.committed.remove(|parked| *parked == key);
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        [self.uncommitted.next_deadline(), self.committed.next_deadline()].into_iter().flatten().min()
    }

    pub(crate) fn len(&self) -> usize {
        self.uncommitted.len() + self.committed.len()
    }
}

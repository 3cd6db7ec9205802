//! Produce requests that are appended and wait for their acknowledgement.

use highwater_base::{Mono, Offset};

use super::Parking;
use crate::{Acks, ProduceDone};

/// A batch that is appended and not acknowledged.
#[derive(Debug)]
pub(crate) struct ParkedProduce {
    /// Who is told.
    pub(crate) key: u64,
    /// What they are told.
    pub(crate) done: ProduceDone,
}

/// All of one partition: those with acks=1 wait for the leader's own end, those with acks=all for the high watermark.
#[derive(Debug, Default)]
pub(crate) struct ParkedProduces {
    leader: Parking<ParkedProduce>,
    all: Parking<ParkedProduce>,
}

impl ParkedProduces {
    pub(crate) fn park(&mut self, acks: Acks, until: Offset, deadline: Mono, produce: ParkedProduce) {
        let parking = match acks {
            Acks::None | Acks::Leader => &mut self.leader,
            Acks::All => &mut self.all,
        };
        parking.park(until, deadline, produce);
    }

    /// The leader acknowledges everything below `end`: the next acks=1 that this wakes.
    pub(crate) fn wake_leader_up_to(&mut self, end: Offset) -> Option<ParkedProduce> {
        self.leader.pop_reached(end)
    }

    /// Everything below `end` is committed: the next acks=all that this wakes.
    pub(crate) fn wake_all_up_to(&mut self, end: Offset) -> Option<ParkedProduce> {
        self.all.pop_reached(end)
    }

    /// The next one whose time is up.
    pub(crate) fn expire(&mut self, now: Mono) -> Option<ParkedProduce> {
        self.leader.pop_expired(now).or_else(|| self.all.pop_expired(now))
    }

    /// One that waits for the log to get further than `written`.
    pub(crate) fn give_up_beyond(&mut self, written: Offset) -> Option<ParkedProduce> {
        self.leader.pop_beyond(written).or_else(|| self.all.pop_beyond(written))
    }

    /// Any one: none of them will be acknowledged.
    pub(crate) fn give_up(&mut self) -> Option<ParkedProduce> {
        self.leader.pop_first().or_else(|| self.all.pop_first())
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        [self.leader.next_deadline(), self.all.next_deadline()].into_iter().flatten().min()
    }

    pub(crate) fn len(&self) -> usize {
        self.leader.len() + self.all.len()
    }
}

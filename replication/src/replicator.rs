//! The seam between a partition and the machine that decides for it.

use highwater_base::{BrokerId, LeaderEpoch, Mono, Offset};
use highwater_isr::{Effect, Event, LogView, Replica, Standalone};

/// Decides for one replica of one partition: takes what happens, says what to do. The one that ships is
/// [`Replica`] (and [`Standalone`], for a partition with one replica); another protocol fits the same seam.
///
/// Calling order: [`Replicator::handle`], then [`Replicator::poll_effect`] until it gives none, each effect carried out
/// before the next input. [`Replicator::poll_timeout`] says when [`Event::Timer`] is due. It does no I/O, reads no
/// clock, and panics rather than give an effect that breaks a rule.
///
/// ```
/// use highwater_base::*;
/// use highwater_isr::*;
/// use highwater_replication::Replicator;
/// # struct Log(i64);
/// # impl LogView for Log {
/// #     fn log_start(&self) -> Offset { Offset::ZERO }
/// #     fn log_end(&self) -> Offset { Offset::new(self.0) }
/// #     fn counted_end(&self) -> Offset { Offset::new(self.0) }
/// #     fn latest_epoch(&self) -> LeaderEpoch { LeaderEpoch::ZERO }
/// #     fn epoch_end(&self, _: LeaderEpoch) -> EpochEnd { EpochEnd::UNDEFINED }
/// # }
/// let me = BrokerId::new(1);
/// let mut replicator: Box<dyn Replicator> = Box::new(Standalone::new(me, Offset::ZERO, &Log(0)));
/// let alone = Assignment::standalone(me, LeaderEpoch::ZERO, PartitionEpoch::ZERO);
/// replicator.handle(Mono::ZERO, Event::Assigned(alone), &Log(0));
/// replicator.handle(Mono::ZERO, Event::LogMoved, &Log(3));
/// assert_eq!(replicator.high_watermark(), Offset::new(3));
/// ```
pub trait Replicator: Send {
    /// Takes an input.
    fn handle(&mut self, now: Mono, event: Event, log: &dyn LogView);

    /// The next thing to do, in order.
    fn poll_effect(&mut self) -> Option<Effect>;

    /// When [`Event::Timer`] is due, if it is.
    fn poll_timeout(&self) -> Option<Mono>;

    /// Everything below is committed.
    fn high_watermark(&self) -> Offset;

    /// Whether this replica leads.
    fn is_leader(&self) -> bool;

    /// The leader, or [`BrokerId::NONE`].
    fn leader(&self) -> BrokerId;

    /// The latest leadership known of.
    fn leader_epoch(&self) -> LeaderEpoch;

    /// Whether the high watermark has reached the start of this leadership, so that it does not lie below what an
    /// earlier leader showed.
    fn is_settled(&self) -> bool;

    /// How many replicas are in sync, on a leader.
    fn in_sync(&self) -> InSync;
}

/// How many replicas are in sync, against how many must be.
///
/// ```
/// use highwater_replication::InSync;
/// let alone = InSync { committed: 1, maximal: 1, needed: 1 };
/// assert!(alone.committed >= alone.needed);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InSync {
    /// Members that the authority has acknowledged: acks=all begins only with enough of these.
    pub committed: usize,
    /// Members that there may be: acks=all succeeds only with enough of these.
    pub maximal: usize,
    /// `min.insync.replicas`, no more than there are replicas.
    pub needed: usize,
}

impl Replicator for Replica {
    fn handle(&mut self, now: Mono, event: Event, log: &dyn LogView) {
        Replica::handle(self, now, event, log);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        Replica::poll_effect(self)
    }

    fn poll_timeout(&self) -> Option<Mono> {
        Replica::poll_timeout(self)
    }

    fn high_watermark(&self) -> Offset {
        Replica::high_watermark(self)
    }

    fn is_leader(&self) -> bool {
        Replica::is_leader(self)
    }

    fn leader(&self) -> BrokerId {
        Replica::leader(self)
    }

    fn leader_epoch(&self) -> LeaderEpoch {
        Replica::leader_epoch(self)
    }

    fn is_settled(&self) -> bool {
        Replica::is_settled(self)
    }

    fn in_sync(&self) -> InSync {
        let (committed, maximal) =
            self.isr().map_or((0, 0), |isr| (isr.committed().len(), isr.maximal().len()));
        InSync { committed, maximal, needed: self.needed_in_sync() }
    }
}

impl Replicator for Standalone {
    fn handle(&mut self, now: Mono, event: Event, log: &dyn LogView) {
        Standalone::handle(self, now, event, log);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        Standalone::poll_effect(self)
    }

    fn poll_timeout(&self) -> Option<Mono> {
        None
    }

    fn high_watermark(&self) -> Offset {
        Standalone::high_watermark(self)
    }

    fn is_leader(&self) -> bool {
        Standalone::is_leader(self)
    }

    fn leader(&self) -> BrokerId {
        Standalone::leader(self)
    }

    fn leader_epoch(&self) -> LeaderEpoch {
        Standalone::leader_epoch(self)
    }

    fn is_settled(&self) -> bool {
        Standalone::is_settled(self)
    }

    fn in_sync(&self) -> InSync {
        let count = usize::from(Standalone::is_leader(self));
        InSync { committed: count, maximal: count, needed: 1 }
    }
}

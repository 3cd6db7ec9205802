//! Everything a replica may ask for.

use highwater_base::{BrokerEpoch, BrokerId, LeaderEpoch, Mono, Offset, PartitionEpoch};

use crate::EpochEnd;

/// A fetch that this follower wants to make.
///
/// ```
/// use highwater_base::*;
/// let fetch = highwater_isr::FetchRequest {
///     leader: BrokerId::new(1), leader_epoch: LeaderEpoch::ZERO, offset: Offset::ZERO, last_epoch: LeaderEpoch::NONE,
///     log_start: Offset::ZERO, synced_end: Offset::ZERO, high_watermark: Offset::ZERO, request: 1,
/// };
/// assert_eq!(fetch.request, 1);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FetchRequest {
    /// From whom.
    pub leader: BrokerId,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// From where: the log end.
    pub offset: Offset,
    /// The log's latest epoch, for the leader to compare.
    pub last_epoch: LeaderEpoch,
    /// This replica's log start.
    pub log_start: Offset,
    /// The end that this replica counts with.
    pub synced_end: Offset,
    /// This replica's high watermark.
    pub high_watermark: Offset,
    /// Comes back in [`crate::Event::FetchAnswered`].
    pub request: u64,
}

/// What this leader answers a follower's fetch.
///
/// ```
/// assert_ne!(highwater_isr::FollowerAnswer::Fenced, highwater_isr::FollowerAnswer::NotLeader);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FollowerAnswer {
    /// Records from `from` up to the log end, or a wait for some.
    Read {
        /// From where.
        from: Offset,
    },
    /// The logs part; no records.
    Diverging(EpochEnd),
    /// OFFSET_OUT_OF_RANGE.
    OutOfRange,
    /// FENCED_LEADER_EPOCH.
    Fenced,
    /// UNKNOWN_LEADER_EPOCH.
    UnknownEpoch,
    /// NOT_LEADER_OR_FOLLOWER: no leader, no such replica, or an earlier incarnation of its broker.
    NotLeader,
}

/// A proposal of another ISR.
///
/// ```
/// use highwater_base::*;
/// let p = highwater_isr::IsrProposal {
///     leader_epoch: LeaderEpoch::ZERO, partition_epoch: PartitionEpoch::ZERO,
///     isr: vec![(BrokerId::new(1), BrokerEpoch::NONE)],
/// };
/// assert_eq!(p.isr.len(), 1);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IsrProposal {
    /// The leadership that proposes.
    pub leader_epoch: LeaderEpoch,
    /// The version of the record it is about.
    pub partition_epoch: PartitionEpoch,
    /// The members, each with the incarnation whose fetches were counted; [`BrokerEpoch::NONE`] for the leader itself
    /// and for brokers that do not say theirs.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
}

/// Something to be done, in the order given. A follower's fetch that acknowledges records is only given once the
/// log counts them: an acknowledgement cannot overtake its data.
///
/// ```
/// use highwater_base::Offset;
/// assert_ne!(highwater_isr::Effect::Acknowledge { up_to: Offset::ZERO }, highwater_isr::Effect::StepDown);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Tell the log that this epoch begins at its end.
    AssignEpoch(LeaderEpoch),
    /// Everything below is committed: tell the log, wake acks=all and readers.
    SetHighWatermark(Offset),
    /// Everything below is on this leader for good, as its durability means it: wake acks=1.
    Acknowledge {
        /// The counted end.
        up_to: Offset,
    },
    /// Append the records of the answer that was just handled; batches of a later epoch end the append.
    /// [`crate::Event::LogMoved`] follows.
    Append {
        /// The epoch of the fetch.
        leader_epoch: LeaderEpoch,
    },
    /// Cut the log and its epochs at `to`, which may be its end. [`crate::Event::LogCut`] follows.
    Truncate {
        /// The new end.
        to: Offset,
        /// The high watermark before, if the cut goes below it: to be counted, logged and shown (rule 9).
        committed_lost: Option<Offset>,
    },
    /// Drop everything and go on at this offset. [`crate::Event::LogCut`] follows.
    RestartAt(Offset),
    /// Raise the log start to the leader's.
    Trim {
        /// The new log start.
        to: Offset,
    },
    /// Fetch from the leader, not before `at`.
    Fetch {
        /// What.
        fetch: FetchRequest,
        /// When; in the past for at once.
        at: Mono,
    },
    /// Ask the authority for another ISR.
    ProposeIsr(IsrProposal),
    /// Answer a follower's fetch.
    Answer {
        /// Whose.
        to: BrokerId,
        /// The number that its fetch had.
        request: u64,
        /// What.
        answer: FollowerAnswer,
    },
    /// This replica leads no more: what is parked is answered NOT_LEADER_OR_FOLLOWER.
    StepDown,
}

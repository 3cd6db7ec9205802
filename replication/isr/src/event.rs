//! Everything that can happen to a replica.

use highwater_base::{BrokerEpoch, BrokerId, LeaderEpoch, Mono, Offset, PartitionEpoch};

use crate::EpochEnd;

/// Another replica, as the cluster's metadata knows its broker.
///
/// ```
/// use highwater_base::{BrokerEpoch, BrokerId};
/// let peer = highwater_isr::Peer { id: BrokerId::new(2), broker_epoch: BrokerEpoch::new(9), eligible: true };
/// assert!(peer.eligible);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    /// Its broker.
    pub id: BrokerId,
    /// Its broker's present incarnation.
    pub broker_epoch: BrokerEpoch,
    /// Neither fenced nor shutting down.
    pub eligible: bool,
}

/// A partition's record at the authority, as far as a replica needs it. Always the whole record.
///
/// ```
/// use highwater_base::*;
/// let me = BrokerId::new(1);
/// let alone = highwater_isr::Assignment::standalone(me, LeaderEpoch::new(4), PartitionEpoch::new(4));
/// assert_eq!(alone.isr, vec![me]);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Assignment {
    /// The leader, or [`BrokerId::NONE`].
    pub leader: BrokerId,
    /// The present leadership.
    pub leader_epoch: LeaderEpoch,
    /// The version of this record.
    pub partition_epoch: PartitionEpoch,
    /// All replicas (AR), this one included.
    pub replicas: Vec<BrokerId>,
    /// The committed ISR.
    pub isr: Vec<BrokerId>,
    /// What is known of the other replicas' brokers. One that is missing is not eligible.
    pub peers: Vec<Peer>,
}

impl Assignment {
    /// One replica, which leads.
    pub fn standalone(
        me: BrokerId,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
    ) -> Assignment {
        Assignment {
            leader: me,
            leader_epoch,
            partition_epoch,
            replicas: vec![me],
            isr: vec![me],
            peers: Vec::new(),
        }
    }
}

/// A follower's fetch, as it reaches the leader.
///
/// ```
/// use highwater_base::*;
/// let fetch = highwater_isr::FollowerFetch {
///     from: BrokerId::new(2), broker_epoch: BrokerEpoch::new(1), leader_epoch: LeaderEpoch::new(3),
///     offset: Offset::new(10), last_epoch: LeaderEpoch::new(3), synced_end: Some(Offset::new(8)), request: 1,
/// };
/// assert_eq!(fetch.counted_end(), Offset::new(8));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FollowerFetch {
    /// Who fetches.
    pub from: BrokerId,
    /// Its broker's incarnation; [`BrokerEpoch::NONE`] from one that does not say (before KIP-903).
    pub broker_epoch: BrokerEpoch,
    /// The leader epoch it fetches in.
    pub leader_epoch: LeaderEpoch,
    /// Its log end, from where it wants records.
    pub offset: Offset,
    /// The epoch of its last record, [`LeaderEpoch::NONE`] with an empty log.
    pub last_epoch: LeaderEpoch,
    /// Up to where it has synced, if it counts with that; a follower that sends none counts with its log end.
    pub synced_end: Option<Offset>,
    /// Whatever the caller needs to find the request again; comes back in the answer.
    pub request: u64,
}

impl FollowerFetch {
    /// The end that this follower counts with.
    pub fn counted_end(&self) -> Offset {
        self.synced_end.map_or(self.offset, |synced| synced.min(self.offset))
    }
}

/// What a leader said to this follower's fetch.
///
/// ```
/// assert_ne!(highwater_isr::FetchAnswer::NotLeader, highwater_isr::FetchAnswer::Failed);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FetchAnswer {
    /// Records, or none yet. The machine says [`crate::Effect::Append`] if they are to be taken.
    Records {
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start.
        log_start: Offset,
        /// The leader's log end.
        log_end: Offset,
        /// Whether there are any.
        any: bool,
    },
    /// The follower's log parts from the leader's: what the leader knows of the epoch that was asked about.
    Diverging(EpochEnd),
    /// The leader does not have the offset that was asked for.
    OutOfRange {
        /// The leader's log start.
        log_start: Offset,
        /// The leader's log end.
        log_end: Offset,
    },
    /// FENCED_LEADER_EPOCH: the follower lives in an earlier epoch. It waits for its next assignment.
    Fenced,
    /// UNKNOWN_LEADER_EPOCH: the leader does not know of its leadership yet.
    UnknownEpoch,
    /// NOT_LEADER_OR_FOLLOWER.
    NotLeader,
    /// No answer, or one of no use.
    Failed,
}

/// Why the authority did not commit a proposal.
///
/// ```
/// assert_ne!(highwater_isr::IsrRefusal::Rejected, highwater_isr::IsrRefusal::Outdated);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IsrRefusal {
    /// It was considered and refused (INELIGIBLE_REPLICA), or not attempted: back to the committed set.
    Rejected,
    /// The proposal is about an earlier state: the next assignment will tell.
    Outdated,
    /// No answer, or one of no use: propose the same again.
    Unavailable,
}

/// Something happened.
///
/// ```
/// use highwater_isr::Event;
/// assert_eq!(Event::LogMoved, Event::LogMoved);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// The authority's record changed, or is told again.
    Assigned(Assignment),
    /// The topic's `min.insync.replicas` changed.
    MinInsyncChanged(usize),
    /// The local log's start, end or counted end moved: records were appended, written, synced, trimmed.
    LogMoved,
    /// The local log did not take the records of an answer: the follower fetches them again, after a pause.
    AppendRefused,
    /// A truncation or restart that was asked for is durably done.
    LogCut,
    /// The local log failed for good.
    LogFailed,
    /// A follower fetches from this leader.
    FollowerFetched(FollowerFetch),
    /// This follower's fetch was answered.
    FetchAnswered {
        /// The epoch that the fetch was made in.
        leader_epoch: LeaderEpoch,
        /// The number that the fetch had.
        request: u64,
        /// The answer.
        answer: FetchAnswer,
    },
    /// The leader pushes its high watermark.
    HighWatermarkPushed {
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// Its high watermark.
        high_watermark: Offset,
    },
    /// The authority committed this leader's proposal.
    IsrCommitted {
        /// The epoch of the leadership that proposed.
        leader_epoch: LeaderEpoch,
        /// The record's new version.
        partition_epoch: PartitionEpoch,
        /// The ISR now.
        isr: Vec<BrokerId>,
    },
    /// The authority did not.
    IsrRefused {
        /// The epoch of the leadership that proposed.
        leader_epoch: LeaderEpoch,
        /// The version that the proposal was about.
        partition_epoch: PartitionEpoch,
        /// Why.
        refusal: IsrRefusal,
    },
    /// The authority confirms that until then no other leader is named. Until the first of these, a leader needs
    /// no lease (a lone broker has none); from then on it acknowledges nothing once its lease has run out.
    LeaseExtended {
        /// The leadership that is confirmed.
        leader_epoch: LeaderEpoch,
        /// Until when.
        until: Mono,
    },
    /// The time that `poll_timeout` asked for has come.
    Timer,
}

//! One follower as its leader sees it.

use std::time::Duration;

use highwater_base::{BrokerEpoch, Mono, Offset};

use crate::{FollowerFetch, Peer};

/// What a leader knows of one follower, in the present epoch only: another epoch begins with nothing known.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Progress {
    /// The end that it counts with, as of its last fetch; none before its first fetch of this epoch.
    counted_end: Option<Offset>,
    /// The leader's log end when it last fetched; never falls within an epoch.
    leader_end_then: Offset,
    /// When it last fetched.
    fetched_at: Option<Mono>,
    /// When it last had everything that the leader had at some moment not before; never falls.
    caught_up_at: Option<Mono>,
    /// The incarnation whose fetches were counted.
    fetched_epoch: BrokerEpoch,
    /// Its broker's incarnation, as the metadata has it.
    broker_epoch: BrokerEpoch,
    /// Neither fenced nor shutting down, as the metadata has it.
    eligible: bool,
}

impl Progress {
    /// At the start of a leadership: members of the ISR get the benefit of the doubt.
    pub(crate) fn new(peer: Option<&Peer>, in_sync: bool, now: Mono) -> Progress {
        Progress {
            counted_end: None,
            leader_end_then: Offset::ZERO,
            fetched_at: None,
            caught_up_at: in_sync.then_some(now),
            fetched_epoch: BrokerEpoch::NONE,
            broker_epoch: peer.map_or(BrokerEpoch::NONE, |peer| peer.broker_epoch),
            eligible: peer.is_some_and(|peer| peer.eligible),
        }
    }

    /// The metadata changed. Another incarnation of the broker begins with nothing known.
    pub(crate) fn update(&mut self, peer: Option<&Peer>) {
        let epoch = peer.map_or(BrokerEpoch::NONE, |peer| peer.broker_epoch);
        if epoch != self.broker_epoch {
            let caught_up_at = self.caught_up_at;
            *self = Progress { caught_up_at, ..Progress::new(peer, false, Mono::ZERO) };
        }
        self.eligible = peer.is_some_and(|peer| peer.eligible);
    }

    /// Whether a fetch comes from an incarnation that is no more.
    pub(crate) fn is_stale(&self, fetch: &FollowerFetch) -> bool {
        fetch.broker_epoch.is_some() && fetch.broker_epoch < self.broker_epoch
    }

    /// Counts a valid fetch, made when the leader's log ended at `leader_end`.
    pub(crate) fn fetched(&mut self, fetch: &FollowerFetch, leader_end: Offset, now: Mono) {
        if fetch.broker_epoch.is_some() && fetch.broker_epoch != self.broker_epoch {
            return; // an incarnation that the metadata does not have yet: served, not counted
        }
        let end = fetch.counted_end();
        if end >= leader_end {
            self.caught_up_at = self.caught_up_at.max(Some(now));
        } else if end >= self.leader_end_then {
            self.caught_up_at = self.caught_up_at.max(self.fetched_at);
        }
        self.counted_end = Some(end);
        self.leader_end_then = self.leader_end_then.max(leader_end);
        self.fetched_at = Some(now);
        self.fetched_epoch = fetch.broker_epoch;
    }

    /// The end that it counts with; nothing if it has not fetched in this epoch.
    pub(crate) fn counted_end(&self) -> Option<Offset> {
        self.counted_end
    }

    /// The incarnation whose fetches were counted.
    pub(crate) fn fetched_epoch(&self) -> BrokerEpoch {
        self.fetched_epoch
    }

    /// Whether it may be in the ISR as far as its broker is concerned.
    pub(crate) fn eligible(&self) -> bool {
        self.eligible && (!self.fetched_epoch.is_some() || self.fetched_epoch == self.broker_epoch)
    }

    /// Whether it has everything, or had it no longer than `lag` ago.
    pub(crate) fn caught_up(&self, leader_end: Offset, lag: Duration, now: Mono) -> bool {
        self.counted_end.is_some_and(|end| end >= leader_end)
            || self.caught_up_at.is_some_and(|at| now.since(at) <= lag)
    }
}

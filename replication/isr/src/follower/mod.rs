//! A follower: aligns its log with its leader's, then copies it.

mod fetching;
mod reconcile;

use highwater_base::{BrokerId, LeaderEpoch, Mono, Offset};

use crate::env::Env;

/// One leader followed in one epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Follower {
    pub(crate) leader: BrokerId,
    pub(crate) epoch: LeaderEpoch,
    /// The leader has compared the logs in this epoch and found that ours is a part of its own. Before that, no
    /// high watermark of its is believed: it may lie on records of ours that it does not have (KAFKA-14704).
    aligned: bool,
    state: State,
    /// The number of the last fetch; grows. One counter for the replica's life, so that no two fetches share one.
    request: u64,
}

/// What a follower waits for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum State {
    /// To fetch, once the log counts `needs`, no sooner than `at`. The fetch acknowledges what is below `needs`.
    AfterSync { needs: Offset, at: Mono },
    /// The answer to its fetch from `offset`.
    Fetching { offset: Offset },
    /// Its log to take the records of an answer.
    Appending { leader: LeaderFacts },
    /// Its log to be cut or restarted; then it fetches, no sooner than `at`.
    Cutting { restart: Option<Offset>, at: Mono },
    /// Its next assignment: the leader is in a later epoch.
    Fenced,
}

/// What an answer says of the leader.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct LeaderFacts {
    high_watermark: Offset,
    log_start: Offset,
    log_end: Offset,
}

impl Follower {
    pub(crate) fn begin(leader: BrokerId, epoch: LeaderEpoch, request: u64, env: &mut Env<'_>) -> Follower {
        let state = State::AfterSync { needs: Offset::ZERO, at: env.now };
        let mut follower = Follower { leader, epoch, aligned: false, state, request };
        follower.maybe_fetch(env);
        follower
    }

    /// The number of the last fetch.
    pub(crate) fn last_request(&self) -> u64 {
        self.request
    }

    /// The leader pushes its high watermark.
    pub(crate) fn high_watermark_pushed(&mut self, to: Offset, env: &mut Env<'_>) {
        if self.aligned && !matches!(self.state, State::Cutting { .. }) {
            env.raise_high_watermark(to.min(env.log.log_end()));
        }
    }
}

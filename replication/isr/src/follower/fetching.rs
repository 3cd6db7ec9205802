//! A follower's fetches: when the next one goes, what becomes of its answer.

use crate::env::Env;
use crate::{Effect, FetchAnswer, FetchRequest, Weakened};
use highwater_base::{LeaderEpoch, Offset};

use super::{Follower, LeaderFacts, State};

impl Follower {
    /// The log moved: an append is done, or what a fetch acknowledges is counted now.
    pub(crate) fn log_moved(&mut self, env: &mut Env<'_>) {
        if let State::Appending { leader } = self.state {
            self.taken(leader, env);
        }
        self.maybe_fetch(env);
    }

    /// A fetch was answered. An answer of another epoch, or to another fetch, is dropped (KAFKA-18991, 7786).
    pub(crate) fn answered(
        &mut self,
        epoch: LeaderEpoch,
        request: u64,
        answer: FetchAnswer,
        env: &mut Env<'_>,
    ) {
        let offset = match self.state {
            State::Fetching { offset } if request == self.request && epoch == self.epoch => offset,
            _ if env.weakened(Weakened::AnyEpochAnswered) && !matches!(self.state, State::Cutting { .. }) => {
                env.log.log_end()
            }
            _ => return,
        };
        match answer {
            FetchAnswer::Records { high_watermark, log_start, log_end, any } => {
                let leader = LeaderFacts { high_watermark, log_start, log_end };
                self.aligned = true;
                if any && offset == env.log.log_end() {
                    self.state = State::Appending { leader };
                    env.say(Effect::Append { leader_epoch: epoch });
                } else {
                    self.taken(leader, env);
                }
            }
            FetchAnswer::Diverging(end) => self.diverging(end, env),
            FetchAnswer::OutOfRange { log_start, log_end } => self.out_of_range(log_start, log_end, env),
            FetchAnswer::Fenced => self.state = State::Fenced,
            FetchAnswer::UnknownEpoch | FetchAnswer::NotLeader | FetchAnswer::Failed => {
                let at = env.now.plus(env.settings.fetch_backoff);
                self.state = State::AfterSync { needs: Offset::ZERO, at };
            }
        }
        self.maybe_fetch(env);
    }

    /// The log did not take an answer's records.
    pub(crate) fn append_refused(&mut self, env: &mut Env<'_>) {
        if let State::Appending { .. } = self.state {
            let at = env.now.plus(env.settings.fetch_backoff);
            self.state = State::AfterSync { needs: Offset::ZERO, at };
            self.maybe_fetch(env);
        }
    }

    /// An answer's records are in the log (or there were none).
    fn taken(&mut self, leader: LeaderFacts, env: &mut Env<'_>) {
        let end = env.log.log_end();
        env.raise_high_watermark(leader.high_watermark.min(end));
        let start = leader.log_start.min(*env.high_watermark);
        if start > env.log.log_start() {
            env.say(Effect::Trim { to: start });
        }
        // Behind, the next fetch goes at once, and says what is synced by then. At the leader's end it would wait
        // there for records while the leader waits for our sync: so it goes after the sync.
        let behind = end < leader.log_end && env.settings.leader_reads_synced_end;
        let needs = if behind { Offset::ZERO } else { end };
        self.state = State::AfterSync { needs, at: env.now };
    }

    /// Fetches, if it is time to.
    pub(super) fn maybe_fetch(&mut self, env: &mut Env<'_>) {
        let State::AfterSync { needs, at } = self.state else { return };
        let all = if env.settings.leader_reads_synced_end { Offset::ZERO } else { env.log.log_end() };
        if env.log.counted_end() < needs.max(all) {
            return;
        }
        self.request += 1;
        let offset = env.log.log_end();
        self.state = State::Fetching { offset };
        env.say(Effect::Fetch {
            fetch: FetchRequest {
                leader: self.leader,
                leader_epoch: self.epoch,
                offset,
                last_epoch: env.log.latest_epoch(),
                log_start: env.log.log_start(),
                synced_end: env.log.counted_end(),
                high_watermark: *env.high_watermark,
                request: self.request,
            },
            at,
        });
    }
}

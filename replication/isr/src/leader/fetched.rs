//! A follower fetches: it is answered, its progress is counted, it may join.

use crate::env::Env;
use crate::{Effect, Fence, FollowerAnswer, FollowerFetch, Weakened};

use super::Leader;

impl Leader {
    pub(crate) fn follower_fetched(&mut self, fetch: &FollowerFetch, env: &mut Env<'_>) {
        let answer = self.judge(fetch, env);
        let counts = matches!(answer, FollowerAnswer::Read { .. })
            || (env.weakened(Weakened::DivergingCounted) && matches!(answer, FollowerAnswer::Diverging(_)));
        if counts {
            let leader_end = env.log.log_end();
            if let Some(progress) = self.followers.get_mut(&fetch.from) {
                progress.fetched(fetch, leader_end, env.now);
            }
            self.move_high_watermark(env);
            self.maybe_expand(fetch.from, env);
        }
        env.say(Effect::Answer { to: fetch.from, request: fetch.request, answer });
    }

    /// What to answer. Only a fetch that gets records counts: a follower that diverges, or asks for what is not
    /// there, holds nothing of ours yet (KAFKA-13141).
    fn judge(&self, fetch: &FollowerFetch, env: &Env<'_>) -> FollowerAnswer {
        if !env.weakened(Weakened::AnyEpochCounted) {
            // A follower's fetch must carry the epoch: one that does not say could be of any.
            if fetch.leader_epoch < self.epoch {
                return FollowerAnswer::Fenced;
            }
            if Fence::check(self.epoch, fetch.leader_epoch) == Fence::Unknown {
                return FollowerAnswer::UnknownEpoch;
            }
        }
        match self.followers.get(&fetch.from) {
            Some(progress) if !progress.is_stale(fetch) => {}
            _ => return FollowerAnswer::NotLeader,
        }
        // Below the log start first: what diverges there is gone anyway (KAFKA-12996).
        if fetch.offset < env.log.log_start() {
            return FollowerAnswer::OutOfRange;
        }
        if fetch.last_epoch.is_some() && !env.weakened(Weakened::NeverCompares) {
            let known = env.log.epoch_end(fetch.last_epoch);
            if !known.is_defined() {
                return FollowerAnswer::OutOfRange;
            }
            if known.epoch < fetch.last_epoch || known.end < fetch.offset {
                return FollowerAnswer::Diverging(known);
            }
        }
        if fetch.offset > env.log.log_end() {
            return FollowerAnswer::OutOfRange;
        }
        FollowerAnswer::Read { from: fetch.offset }
    }
}

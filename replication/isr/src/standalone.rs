//! One replica alone: the default, and the smallest machine that keeps the rules.

use std::collections::VecDeque;

use highwater_base::{BrokerId, LeaderEpoch, Mono, Offset};

use crate::{Assignment, Effect, Event, FollowerAnswer, LogView};

/// The only replica of a partition. What its log counts is committed: no followers, no ISR changes, no timer, and
/// no `min.insync.replicas` that one replica does not meet. Used like [`crate::Replica`], which it equals for
/// partitions with one replica.
///
/// ```
/// use highwater_base::*;
/// use highwater_isr::*;
/// struct Log(i64);
/// impl LogView for Log {
///     fn log_start(&self) -> Offset { Offset::ZERO }
///     fn log_end(&self) -> Offset { Offset::new(self.0) }
///     fn counted_end(&self) -> Offset { Offset::new(self.0) }
///     fn latest_epoch(&self) -> LeaderEpoch { LeaderEpoch::NONE }
///     fn epoch_end(&self, _: LeaderEpoch) -> EpochEnd { EpochEnd::UNDEFINED }
/// }
/// let me = BrokerId::new(1);
/// let mut alone = Standalone::new(me, Offset::ZERO, &Log(7));
/// let assignment = Assignment::standalone(me, LeaderEpoch::new(2), PartitionEpoch::ZERO);
/// alone.handle(Mono::ZERO, Event::Assigned(assignment), &Log(7));
/// assert_eq!(alone.poll_effect(), Some(Effect::AssignEpoch(LeaderEpoch::new(2))));
/// assert_eq!(alone.poll_effect(), Some(Effect::SetHighWatermark(Offset::new(7))));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standalone {
    me: BrokerId,
    role: Role,
    /// The latest leadership known of; never falls.
    leader_epoch: LeaderEpoch,
    /// `log_start <= high_watermark <= log_end`; never falls.
    high_watermark: Offset,
    effects: VecDeque<Effect>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// Not assigned (any more).
    Idle,
    /// It leads. Holds the log end when that began, and what was last acknowledged.
    Leading { epoch_start: Offset, acknowledged: Offset },
    /// Its log failed.
    Failed,
}

impl Standalone {
    /// A replica whose last known high watermark is `high_watermark`.
    pub fn new(me: BrokerId, high_watermark: Offset, log: &dyn LogView) -> Standalone {
        Standalone {
            me,
            role: Role::Idle,
            leader_epoch: LeaderEpoch::NONE,
            high_watermark: high_watermark.min(log.log_end()).max(log.log_start()),
            effects: VecDeque::new(),
        }
    }

    /// Takes an input. Panics if a rule is broken afterwards.
    pub fn handle(&mut self, _now: Mono, event: Event, log: &dyn LogView) {
        let before = self.high_watermark;
        match event {
            Event::Assigned(assignment) => self.assigned(&assignment, log),
            Event::LogMoved | Event::LogCut => self.log_moved(log),
            Event::LogFailed => self.leave(Role::Failed),
            Event::FollowerFetched(fetch) => self.effects.push_back(Effect::Answer {
                to: fetch.from,
                request: fetch.request,
                answer: FollowerAnswer::NotLeader,
            }),
            // What only replicas with others have to do with.
            Event::MinInsyncChanged(_)
            | Event::AppendRefused
            | Event::FetchAnswered { .. }
            | Event::HighWatermarkPushed { .. }
            | Event::IsrCommitted { .. }
            | Event::IsrRefused { .. }
            | Event::LeaseExtended { .. }
            | Event::Timer => {}
        }
        let (start, end, high) = (log.log_start(), log.log_end(), self.high_watermark);
        assert!(start <= high && high <= end, "high watermark {high} outside {start}..{end}");
        assert!(before <= high, "the high watermark fell from {before} to {high}");
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Everything below is committed.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether it leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leading { .. })
    }

    /// The latest leadership known of.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// This broker while it leads, else [`BrokerId::NONE`].
    pub fn leader(&self) -> BrokerId {
        if self.is_leader() { self.me } else { BrokerId::NONE }
    }

    /// Whether the high watermark has reached the start of this leadership.
    pub fn is_settled(&self) -> bool {
        matches!(self.role, Role::Leading { epoch_start, .. } if self.high_watermark >= epoch_start)
    }

    fn assigned(&mut self, assignment: &Assignment, log: &dyn LogView) {
        if self.role == Role::Failed || assignment.leader_epoch <= self.leader_epoch {
            return;
        }
        self.leader_epoch = assignment.leader_epoch;
        if assignment.leader != self.me {
            self.leave(Role::Idle);
            return;
        }
        if log.latest_epoch() < self.leader_epoch {
            self.effects.push_back(Effect::AssignEpoch(self.leader_epoch));
        }
        self.role = Role::Leading { epoch_start: log.log_end(), acknowledged: log.counted_end() };
        self.log_moved(log);
    }

    fn log_moved(&mut self, log: &dyn LogView) {
        let Role::Leading { acknowledged, .. } = &mut self.role else { return };
        let counted = log.counted_end();
        if counted > *acknowledged {
            *acknowledged = counted;
            self.effects.push_back(Effect::Acknowledge { up_to: counted });
        }
        if counted > self.high_watermark {
            self.high_watermark = counted;
            self.effects.push_back(Effect::SetHighWatermark(counted));
        }
    }

    fn leave(&mut self, to: Role) {
        if self.is_leader() {
            self.effects.push_back(Effect::StepDown);
        }
        self.role = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::{Rig, TestLog};
    use highwater_base::PartitionEpoch;

    fn drain(alone: &mut Standalone) -> Vec<Effect> {
        std::iter::from_fn(|| alone.poll_effect()).collect()
    }

    fn leading(log: &TestLog, high: i64) -> Standalone {
        let mut alone = Standalone::new(BrokerId::new(1), Offset::new(high), log);
        let assignment = Assignment::standalone(BrokerId::new(1), LeaderEpoch::new(4), PartitionEpoch::ZERO);
        alone.handle(Mono::ZERO, Event::Assigned(assignment), log);
        alone
    }

    #[test]
    fn nothing_is_acknowledged_or_committed_before_the_log_counts_it() {
        let mut log = TestLog::default();
        let mut alone = leading(&log, 0);
        assert_eq!(drain(&mut alone), [Effect::AssignEpoch(LeaderEpoch::new(4))]);
        log.end = 5;
        alone.handle(Mono::ZERO, Event::LogMoved, &log);
        assert_eq!(drain(&mut alone), []);
        log.counted = 3;
        alone.handle(Mono::ZERO, Event::LogMoved, &log);
        let three = Offset::new(3);
        assert_eq!(
            drain(&mut alone),
            [Effect::Acknowledge { up_to: three }, Effect::SetHighWatermark(three)]
        );
        alone.handle(Mono::ZERO, Event::LogMoved, &log);
        assert_eq!(drain(&mut alone), []);
    }

    #[test]
    fn a_weaker_durability_commits_more_and_a_stronger_one_takes_nothing_back() {
        let mut log = TestLog { end: 5, counted: 5, ..TestLog::default() };
        let mut alone = leading(&log, 0);
        log.counted = 2;
        alone.handle(Mono::ZERO, Event::LogMoved, &log);
        assert_eq!(alone.high_watermark(), Offset::new(5));
    }

    #[test]
    fn a_start_begins_at_the_checkpoint_and_is_settled_once_all_it_found_is_counted() {
        let mut log = TestLog { end: 5, counted: 3, ..TestLog::default() };
        let mut alone = leading(&log, 1);
        assert_eq!((alone.high_watermark(), alone.is_settled()), (Offset::new(3), false));
        log.counted = 5;
        alone.handle(Mono::ZERO, Event::LogMoved, &log);
        assert!(alone.is_settled());
    }

    #[test]
    fn it_steps_down_when_its_log_fails_or_another_leads() {
        let log = TestLog::default();
        for event in [
            Event::LogFailed,
            Event::Assigned(Assignment {
                leader: BrokerId::NONE,
                ..Assignment::standalone(BrokerId::new(1), LeaderEpoch::new(5), PartitionEpoch::ZERO)
            }),
        ] {
            let mut alone = leading(&log, 0);
            drain(&mut alone);
            alone.handle(Mono::ZERO, event, &log);
            assert_eq!(drain(&mut alone), [Effect::StepDown]);
            assert!(!alone.is_leader());
        }
    }

    /// Alone, the smallest machine and the whole one say the same.
    #[test]
    fn it_equals_the_whole_machine_with_one_replica() {
        let mut prng = highwater_base::Prng::new(5);
        for _ in 0..200 {
            let mut rig = Rig::new(prng.below(4) as i64, 1 + prng.below(3) as usize);
            let me = BrokerId::new(1);
            let mut alone = Standalone::new(me, Offset::ZERO, &rig.log);
            let mut epoch = LeaderEpoch::ZERO;
            for _ in 0..30 {
                let event = match prng.below(6) {
                    0 => {
                        epoch = if prng.one_in(2) { epoch.next() } else { epoch };
                        Event::Assigned(Assignment::standalone(me, epoch, PartitionEpoch::ZERO))
                    }
                    1 => {
                        rig.log.end += prng.below(3) as i64;
                        Event::LogMoved
                    }
                    2 | 3 => {
                        let left = (rig.log.end - rig.log.counted) as u64;
                        rig.log.counted += prng.below(left + 1) as i64;
                        Event::LogMoved
                    }
                    4 => Event::Timer,
                    _ => Event::MinInsyncChanged(1 + prng.below(3) as usize),
                };
                alone.handle(Mono::ZERO, event.clone(), &rig.log);
                let expected = rig.tell(event);
                assert_eq!(drain(&mut alone), expected);
                assert_eq!(alone.high_watermark(), rig.replica.high_watermark());
                assert_eq!(alone.is_settled(), rig.replica.is_settled());
                assert_eq!(alone.leader_epoch(), rig.replica.leader_epoch());
            }
        }
    }
}

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

//! One replica of one partition: its role, and the dispatch of what happens to it.

use std::collections::VecDeque;

use highwater_base::{BrokerId, LeaderEpoch, Mono, Offset, PartitionEpoch};

use crate::env::Env;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::{Assignment, Effect, Event, FollowerAnswer, Isr, LogView, ReplicaSettings};

/// One replica of one partition.
///
/// Three kinds of method: **getters**; **the input** [`Replica::handle`]; **outputs** [`Replica::poll_effect`], until
/// it gives none, after each input, and [`Replica::poll_timeout`], which says when [`Event::Timer`] is due. Effects are
/// carried out in their order, before the next input. Time is an argument and never goes back.
///
/// ```
/// use highwater_base::*;
/// use highwater_isr::*;
/// struct Log { end: i64, synced: i64 }
/// impl LogView for Log {
///     fn log_start(&self) -> Offset { Offset::ZERO }
///     fn log_end(&self) -> Offset { Offset::new(self.end) }
///     fn counted_end(&self) -> Offset { Offset::new(self.synced) }
///     fn latest_epoch(&self) -> LeaderEpoch { LeaderEpoch::ZERO }
///     fn epoch_end(&self, _: LeaderEpoch) -> EpochEnd { EpochEnd::UNDEFINED }
/// }
/// let me = BrokerId::new(1);
/// let mut log = Log { end: 0, synced: 0 };
/// let mut replica = Replica::new(me, ReplicaSettings::default(), Offset::ZERO, &log);
/// let alone = Assignment::standalone(me, LeaderEpoch::ZERO, PartitionEpoch::ZERO);
/// replica.handle(Mono::ZERO, Event::Assigned(alone), &log);
/// log.end = 5;
/// replica.handle(Mono::ZERO, Event::LogMoved, &log);
/// assert_eq!(replica.poll_effect(), None); // nothing is synced yet
/// log.synced = 5;
/// replica.handle(Mono::ZERO, Event::LogMoved, &log);
/// assert_eq!(replica.poll_effect(), Some(Effect::Acknowledge { up_to: Offset::new(5) }));
/// assert_eq!(replica.poll_effect(), Some(Effect::SetHighWatermark(Offset::new(5))));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Replica {
    me: BrokerId,
    settings: ReplicaSettings,
    role: Role,
    /// The latest leadership known of; never falls.
    leader_epoch: LeaderEpoch,
    /// The latest record known of, within that leadership; never falls.
    partition_epoch: PartitionEpoch,
    /// The leader of that leadership.
    leader: BrokerId,
    /// `log_start <= high_watermark <= log_end`; falls only with a follower's truncation.
    high_watermark: Offset,
    /// The high watermark when this leadership began, or was last checked; it never falls while leading.
    leading_floor: Option<Offset>,
    effects: VecDeque<Effect>,
    /// The number of the last fetch; grows over all roles.
    last_request: u64,
    /// Times that a truncation went below the high watermark; grows.
    committed_losses: u64,
}

/// What a replica is now. Data that is valid in one role lives in it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Role {
    /// Nobody leads, or this broker holds no replica any more.
    Idle,
    /// It leads.
    Leader(Box<Leader>),
    /// It follows.
    Follower(Follower),
    /// Its log failed; it stays so until it is opened again.
    Failed,
}

impl Replica {
    /// A replica whose last known high watermark (from the checkpoint) is `high_watermark`. It waits for its first
    /// [`Event::Assigned`].
    pub fn new(
        me: BrokerId,
        settings: ReplicaSettings,
        high_watermark: Offset,
        log: &dyn LogView,
    ) -> Replica {
        Replica {
            me,
            settings,
            role: Role::Idle,
            leader_epoch: LeaderEpoch::NONE,
            partition_epoch: PartitionEpoch::NONE,
            leader: BrokerId::NONE,
            high_watermark: high_watermark.min(log.log_end()).max(log.log_start()),
            leading_floor: None,
            effects: VecDeque::new(),
            last_request: 0,
            committed_losses: 0,
        }
    }

    /// Takes an input. Panics if a rule is broken afterwards: a wrong high watermark must not be acted upon.
    pub fn handle(&mut self, now: Mono, event: Event, log: &dyn LogView) {
        self.dispatch(now, event, log);
        if let Role::Follower(follower) = &self.role {
            self.last_request = follower.last_request();
        }
        self.invariants(log);
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if let Some(Effect::Truncate { committed_lost: Some(_), .. }) = effect {
            self.committed_losses += 1;
        }
        effect
    }

    /// When [`Event::Timer`] is due, if it is.
    pub fn poll_timeout(&self) -> Option<Mono> {
        match &self.role {
            Role::Leader(leader) => leader.timeout(),
            Role::Idle | Role::Follower(_) | Role::Failed => None,
        }
    }

    /// Everything below is committed.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether this replica leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// The leader, or [`BrokerId::NONE`].
    pub fn leader(&self) -> BrokerId {
        self.leader
    }

    /// The latest leadership known of.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The ISR, on the leader.
    pub fn isr(&self) -> Option<&Isr> {
        match &self.role {
            Role::Leader(leader) => Some(&leader.isr),
            Role::Idle | Role::Follower(_) | Role::Failed => None,
        }
    }

    /// Whether the high watermark has reached the start of this leadership: before, it may lie below what an earlier
    /// leader showed, and offsets that must not go back are not told (KIP-207).
    pub fn is_settled(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => self.high_watermark >= leader.epoch_start,
            Role::Idle | Role::Follower(_) | Role::Failed => false,
        }
    }

    /// How many members acks=all asks for: `min.insync.replicas`, but no more than there are replicas. 1 unless leading.
    pub fn needed_in_sync(&self) -> usize {
        match &self.role {
            Role::Leader(leader) => leader.needed(self.settings.min_insync),
            Role::Idle | Role::Follower(_) | Role::Failed => 1,
        }
    }

    /// How often a truncation went below the high watermark.
    pub fn committed_losses(&self) -> u64 {
        self.committed_losses
    }

    /// Panics if a rule that must hold after every step does not.
    pub fn invariants(&mut self, log: &dyn LogView) {
        let (start, end) = (log.log_start(), log.log_end());
        assert!(start <= log.counted_end() && log.counted_end() <= end, "counted end outside {start}..{end}");
        let high = self.high_watermark;
        assert!(start <= high && high <= end, "high watermark {high} outside {start}..{end}");
        match (&self.role, self.leading_floor) {
            (Role::Leader(leader), floor) => {
                assert_eq!(leader.epoch, self.leader_epoch, "a leader of another epoch");
                assert!(
                    floor.is_none_or(|floor| high >= floor),
                    "the high watermark of a leader fell to {high}"
                );
                assert!(leader.isr.committed().contains(&self.me), "a leader outside its ISR");
                self.leading_floor = Some(high);
            }
            (Role::Idle | Role::Follower(_) | Role::Failed, _) => self.leading_floor = None,
        }
    }

    fn dispatch(&mut self, now: Mono, event: Event, log: &dyn LogView) {
        let settings = self.settings;
        let mut env = Env {
            me: self.me,
            settings: &settings,
            log,
            now,
            high_watermark: &mut self.high_watermark,
            effects: &mut self.effects,
        };
        match (event, &mut self.role) {
            (_, Role::Failed) => {}
            (Event::Assigned(assignment), _) => self.assigned(now, assignment, log),
            (Event::LogFailed, role) => {
                if matches!(role, Role::Leader(_)) {
                    env.say(Effect::StepDown);
                }
                *role = Role::Failed;
            }
            (Event::MinInsyncChanged(min_insync), _) => {
                self.settings.min_insync = min_insync.max(1);
                // What it allows is evaluated with the new value.
                if matches!(self.role, Role::Leader(_)) {
                    self.dispatch(now, Event::LogMoved, log);
                }
            }
            (Event::LogMoved, Role::Leader(leader)) => leader.log_moved(&mut env),
            (Event::LogMoved, Role::Follower(follower)) => follower.log_moved(&mut env),
            (Event::AppendRefused, Role::Follower(follower)) => follower.append_refused(&mut env),
            (Event::LogCut, Role::Follower(follower)) => follower.log_cut(&mut env),
            (Event::LogCut, Role::Leader(leader)) => leader.log_moved(&mut env),
            (Event::FollowerFetched(fetch), Role::Leader(leader)) => {
                leader.follower_fetched(&fetch, &mut env)
            }
            (Event::FollowerFetched(fetch), Role::Idle | Role::Follower(_)) => {
                let answer = FollowerAnswer::NotLeader;
                env.say(Effect::Answer { to: fetch.from, request: fetch.request, answer });
            }
            (Event::FetchAnswered { leader_epoch, request, answer }, Role::Follower(follower)) => {
                follower.answered(leader_epoch, request, answer, &mut env);
            }
            (Event::HighWatermarkPushed { leader_epoch, high_watermark }, Role::Follower(follower)) => {
                if leader_epoch == follower.epoch {
                    follower.high_watermark_pushed(high_watermark, &mut env);
                }
            }
            (Event::IsrCommitted { leader_epoch, partition_epoch, isr }, Role::Leader(leader)) => {
                leader.isr_committed((leader_epoch, partition_epoch), isr, &mut env);
            }
            (Event::IsrRefused { leader_epoch, partition_epoch, refusal }, Role::Leader(leader)) => {
                leader.isr_refused((leader_epoch, partition_epoch), refusal, &mut env);
            }
            (Event::LeaseExtended { leader_epoch, until }, Role::Leader(leader)) => {
                if leader_epoch == leader.epoch {
                    leader.lease_extended(until, &mut env);
                }
            }
            (Event::Timer, Role::Leader(leader)) => leader.timer(&mut env),
            // What reaches a replica in a role that has no use for it came late.
            (Event::LogMoved | Event::LogCut, Role::Idle) => {}
            (Event::Timer, Role::Idle | Role::Follower(_)) => {}
            (Event::AppendRefused, Role::Idle | Role::Leader(_)) => {}
            (
                Event::FetchAnswered { .. } | Event::HighWatermarkPushed { .. },
                Role::Idle | Role::Leader(_),
            ) => {}
            (
                Event::IsrCommitted { .. } | Event::IsrRefused { .. } | Event::LeaseExtended { .. },
                Role::Idle | Role::Follower(_),
            ) => {}
        }
    }

    /// The record at the authority, or a later one. Only another leader epoch changes the role (KAFKA-13790), and each
    /// does, also if the leader is the same one (KAFKA-7164).
    fn assigned(&mut self, now: Mono, assignment: Assignment, log: &dyn LogView) {
        let version = (assignment.leader_epoch, assignment.partition_epoch);
        if version < (self.leader_epoch, self.partition_epoch) {
            return;
        }
        let new_leadership = assignment.leader_epoch > self.leader_epoch;
        let holds = assignment.replicas.contains(&self.me);
        (self.leader_epoch, self.partition_epoch) = version;
        self.leader = assignment.leader;
        let settings = self.settings;
        let mut env = Env {
            me: self.me,
            settings: &settings,
            log,
            now,
            high_watermark: &mut self.high_watermark,
            effects: &mut self.effects,
        };
        match &mut self.role {
            Role::Leader(leader) if holds && !new_leadership => {
                leader.assigned_again(&assignment, &mut env);
                return;
            }
            Role::Follower(_) | Role::Idle if holds && !new_leadership => return,
            Role::Leader(_) if !holds || assignment.leader != self.me => env.say(Effect::StepDown),
            Role::Leader(_) | Role::Follower(_) | Role::Idle | Role::Failed => {}
        }
        self.leading_floor = None;
        self.role = if !holds || !assignment.leader.is_some() {
            Role::Idle
        } else if assignment.leader == self.me {
            Role::Leader(Box::new(Leader::begin(&assignment, &mut env)))
        } else {
            let epoch = assignment.leader_epoch;
            Role::Follower(Follower::begin(assignment.leader, epoch, self.last_request, &mut env))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Rig;
    use std::time::Duration;

    #[test]
    fn a_new_leader_tells_its_log_of_its_epoch_before_anything_else() {
        // R11.
        let mut rig = Rig::new(5, 1);
        assert_eq!(rig.lead(1, &[1, 2])[0], Effect::AssignEpoch(LeaderEpoch::new(1)));
        assert_eq!(rig.log.history.latest(), LeaderEpoch::new(1));
    }

    #[test]
    fn a_deposed_leader_says_so_and_acknowledges_nothing_more() {
        let mut rig = Rig::new(0, 1);
        rig.lead(1, &[1]);
        assert_eq!(rig.append(1)[0], Effect::Acknowledge { up_to: Offset::new(1) });
        assert_eq!(rig.lead(2, &[1, 2])[0], Effect::StepDown);
        let effects = rig.append(1);
        assert!(
            !effects.iter().any(|e| matches!(e, Effect::Acknowledge { .. } | Effect::SetHighWatermark(_)))
        );
    }

    #[test]
    fn a_leader_whose_lease_ran_out_acknowledges_nothing_until_it_is_confirmed() {
        // R52: frozen, thawed, and not told yet that another leads.
        let mut rig = Rig::new(0, 1);
        rig.lead(1, &[1]);
        let (leader_epoch, _) = rig.epochs();
        let until = rig.now.plus(Duration::from_secs(9));
        rig.tell(Event::LeaseExtended { leader_epoch, until });
        rig.now = rig.now.plus(Duration::from_secs(60));
        assert_eq!(rig.append(1), []);
        assert_eq!(rig.high(), 0);
        let until = rig.now.plus(Duration::from_secs(9));
        let effects = rig.tell(Event::LeaseExtended { leader_epoch, until });
        assert_eq!(effects[0], Effect::Acknowledge { up_to: Offset::new(1) });
        assert_eq!(rig.high(), 1);
    }

    #[test]
    fn a_record_without_another_leader_epoch_is_no_new_leadership() {
        // R48.
        let mut rig = Rig::new(5, 1);
        rig.lead(1, &[1, 2]);
        rig.fetched(2, 5);
        assert_eq!(rig.high(), 5);
        assert_eq!(rig.retell(1, &[1, 2], |_| ()), []);
        rig.append(1);
        rig.fetched(2, 6);
        assert_eq!(rig.high(), 6, "the follower's progress was kept");
    }

    #[test]
    fn an_older_record_is_passed_over() {
        let mut rig = Rig::new(5, 1);
        let old = rig.assignment(2, &[1, 2]);
        rig.lead(1, &[1, 2]);
        assert_eq!(rig.tell(Event::Assigned(old)), []);
        assert!(rig.replica.is_leader());
    }

    #[test]
    fn a_failed_log_ends_the_role_for_good() {
        // R50.
        let mut rig = Rig::new(5, 1);
        rig.lead(1, &[1]);
        assert_eq!(rig.tell(Event::LogFailed), [Effect::StepDown]);
        assert_eq!(rig.lead(1, &[1]), []);
        assert!(!rig.replica.is_leader());
    }

    #[test]
    fn a_high_watermark_from_a_checkpoint_is_kept_within_the_log() {
        let log = crate::rig::TestLog { start: 3, end: 5, counted: 5, ..Default::default() };
        for (checkpoint, high) in [(0, 3), (4, 4), (9, 5)] {
            let replica =
                Replica::new(BrokerId::new(1), ReplicaSettings::default(), Offset::new(checkpoint), &log);
            assert_eq!(replica.high_watermark(), Offset::new(high));
        }
    }
}

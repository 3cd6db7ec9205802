//! Three replicas, their logs, the messages between them, and an authority, as one value that can be copied and hashed.

mod authority;

use authority::Authority;
use highwater_base::{BrokerEpoch, BrokerId, LeaderEpoch, Mono, Offset};
use highwater_isr::{
    Effect, EpochEnd, EpochHistory, Event, FetchAnswer, FetchRequest, FollowerAnswer, FollowerFetch,
    IsrProposal, LogView, Replica, ReplicaSettings, Weakened,
};
use std::time::Duration;

const NODES: usize = 3;

/// A record: the epoch it was appended in, and its number among all.
type Record = (i32, u8);

/// A rule weakened, who is in sync at first, and how much may happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) weakened: Weakened,
    pub(crate) in_sync: &'static [usize],
    pub(crate) min_insync: usize,
    /// What is appended is synced at once: fewer states, where nobody loses power.
    pub(crate) eager_sync: bool,
    pub(crate) budget: Budget,
}

/// How much may happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Budget {
    pub(crate) records: u8,
    /// The leader is suspected, and another elected.
    pub(crate) elections: u8,
    /// The leader looks for members that lag.
    pub(crate) shrinks: u8,
    /// A follower is suspected, and put out by the authority.
    pub(crate) fences: u8,
    pub(crate) power_cuts: u8,
}

impl Budget {
    pub(crate) const NONE: Budget = Budget { records: 0, elections: 0, shrinks: 0, fences: 0, power_cuts: 0 };
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Log {
    records: Vec<Record>,
    synced: usize,
    history: EpochHistory,
}

fn offset(at: usize) -> Offset {
    Offset::new(at as i64)
}

impl LogView for Log {
    fn log_start(&self) -> Offset {
        Offset::ZERO
    }

    fn log_end(&self) -> Offset {
        offset(self.records.len())
    }

    fn counted_end(&self) -> Offset {
        offset(self.synced)
    }

    fn latest_epoch(&self) -> LeaderEpoch {
        self.history.latest()
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        self.history.epoch_end(epoch, self.log_end())
    }
}

impl Log {
    fn push(&mut self, record: Record, sync: bool) {
        self.history.assign(LeaderEpoch::new(record.0), self.log_end());
        self.records.push(record);
        if sync {
            self.synced = self.records.len();
        }
    }

    fn cut(&mut self, to: usize) {
        self.records.truncate(to);
        self.synced = self.synced.min(to);
        self.history.truncate(offset(to));
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Answered {
    leader_epoch: LeaderEpoch,
    request: u64,
    answer: FetchAnswer,
    records: Vec<Record>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Node {
    replica: Replica,
    log: Log,
    broker_epoch: i64,
    /// The version of the record that it has learned.
    learned: i32,
    /// Its fetches on the way to their leaders; two at most, the older one is lost.
    fetches: Vec<FetchRequest>,
    /// Its fetch that waits at a leader.
    waiting: Option<FetchRequest>,
    /// Answers on the way to it.
    answers: Vec<Answered>,
    /// Its proposal on the way to the authority.
    proposal: Option<IsrProposal>,
    /// The authority's answer on the way to it.
    decision: Option<Event>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    authority: Authority,
    /// Everything that a leader ever said was committed, in order.
    committed: Vec<Record>,
    budget: Budget,
    next_record: u8,
    weakened: Weakened,
    min_insync: usize,
    eager_sync: bool,
}

/// One thing that can happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    Append(usize),
    Sync(usize),
    /// A fetch reaches its leader.
    Arrive(usize, usize),
    /// A leader answers a waiting fetch.
    Reply(usize),
    /// An answer reaches its follower.
    Take(usize, usize),
    /// A node learns what the authority's record is.
    Learn(usize),
    /// A proposal reaches the authority.
    Decide(usize),
    /// The decision reaches who proposed.
    Told(usize),
    /// The leader looks for members that lag.
    Shrink(usize),
    Elect,
    Fence(usize),
    PowerCut(usize),
}

impl Cluster {
    pub(crate) fn new(scope: Scope) -> Cluster {
        let Scope { weakened, in_sync, min_insync, eager_sync, budget } = scope;
        let node = |at: usize| {
            let log = Log::default();
            Node {
                replica: replica(at, weakened, min_insync, &log),
                log,
                broker_epoch: 1,
                learned: -1,
                fetches: Vec::new(),
                waiting: None,
                answers: Vec::new(),
                proposal: None,
                decision: None,
            }
        };
        let authority = Authority {
            leader: 0,
            leader_epoch: 0,
            partition_epoch: 0,
            isr: in_sync.to_vec(),
            elr: Vec::new(),
        };
        let nodes = (0..NODES).map(node).collect();
        let mut cluster = Cluster {
            nodes,
            authority,
            committed: Vec::new(),
            budget,
            next_record: 0,
            weakened,
            min_insync,
            eager_sync,
        };
        for at in 0..NODES {
            cluster.learn(at);
        }
        cluster
    }

    /// How much was committed.
    pub(crate) fn committed(&self) -> usize {
        self.committed.len()
    }

    /// Everything that can happen next.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            if node.replica.is_leader() && self.budget.records > 0 {
                actions.push(Action::Append(at));
            }
            if node.log.synced < node.log.records.len() {
                actions.push(Action::Sync(at));
            }
            for (which, fetch) in node.fetches.iter().enumerate() {
                let leader = &self.nodes[fetch.leader.get() as usize];
                if leader.replica.leader_epoch() >= fetch.leader_epoch {
                    actions.push(Action::Arrive(at, which));
                }
            }
            if node.waiting.is_some_and(|fetch| self.has_news(&fetch)) {
                actions.push(Action::Reply(at));
            }
            actions.extend((0..node.answers.len()).map(|which| Action::Take(at, which)));
            if node.learned < self.authority.partition_epoch {
                actions.push(Action::Learn(at));
            }
            if node.proposal.is_some() && node.decision.is_none() {
                actions.push(Action::Decide(at));
            }
            if node.decision.is_some() {
                actions.push(Action::Told(at));
            }
            if self.budget.shrinks > 0 && node.replica.is_leader() {
                actions.push(Action::Shrink(at));
            }
            if self.budget.power_cuts > 0 {
                actions.push(Action::PowerCut(at));
            }
            if self.budget.fences > 0 && at != self.authority.leader && self.authority.isr.contains(&at) {
                actions.push(Action::Fence(at));
            }
        }
        if self.budget.elections > 0 && self.successor(self.authority.leader).is_some() {
            actions.push(Action::Elect);
        }
        actions
    }

    /// Lets it happen; gives the rule that is broken by it.
    pub(crate) fn step(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Append(at) => {
                self.budget.records -= 1;
                let epoch = self.nodes[at].replica.leader_epoch().get();
                self.nodes[at].log.push((epoch, self.next_record), self.eager_sync);
                self.next_record += 1;
                self.tell(at, Event::LogMoved, Mono::ZERO, &[]);
            }
            Action::Sync(at) => {
                self.nodes[at].log.synced = self.nodes[at].log.records.len();
                self.tell(at, Event::LogMoved, Mono::ZERO, &[]);
            }
            Action::Arrive(at, which) => self.arrive(at, which),
            Action::Reply(at) => self.reply(at),
            Action::Take(at, which) => {
                let Answered { leader_epoch, request, answer, records } =
                    self.nodes[at].answers.remove(which);
                self.tell(at, Event::FetchAnswered { leader_epoch, request, answer }, Mono::ZERO, &records);
            }
            Action::Learn(at) => self.learn(at),
            Action::Decide(at) => self.decide(at),
            Action::Told(at) => {
                if let Some(decision) = self.nodes[at].decision.take() {
                    self.tell(at, decision, Mono::ZERO, &[]);
                }
            }
            Action::Shrink(at) => {
                self.budget.shrinks -= 1;
                self.tell(at, Event::Timer, Mono::from_nanos(1), &[]);
            }
            Action::Elect => {
                self.budget.elections -= 1;
                let suspect = self.authority.leader;
                self.put_out(suspect, false);
            }
            Action::Fence(at) => {
                self.budget.fences -= 1;
                self.put_out(at, false);
            }
            Action::PowerCut(at) => self.power_cut(at),
        }
        self.check()
    }

    /// Tells a node's machine, and does what it says. `records` come with an answer to a fetch.
    fn tell(&mut self, at: usize, event: Event, now: Mono, records: &[Record]) {
        let node = &mut self.nodes[at];
        node.replica.handle(now, event, &node.log);
        while let Some(effect) = self.nodes[at].replica.poll_effect() {
            let node = &mut self.nodes[at];
            match effect {
                Effect::AssignEpoch(epoch) => node.log.history.assign(epoch, node.log.log_end()),
                Effect::Append { leader_epoch } => {
                    for record in records.iter().filter(|record| record.0 <= leader_epoch.get()) {
                        node.log.push(*record, self.eager_sync);
                    }
                    node.replica.handle(now, Event::LogMoved, &node.log);
                }
                Effect::Truncate { to, .. } => {
                    node.log.cut(to.get() as usize);
                    node.replica.handle(now, Event::LogCut, &node.log);
                }
                Effect::Fetch { fetch, .. } => {
                    if node.fetches.len() == 2 {
                        node.fetches.remove(0);
                    }
                    node.fetches.push(fetch);
                }
                Effect::ProposeIsr(proposal) => node.proposal = Some(proposal),
                Effect::Answer { to, answer, .. } => self.answered(at, to.get() as usize, answer),
                Effect::StepDown => (node.proposal, node.decision) = (None, None),
                Effect::SetHighWatermark(_) | Effect::Acknowledge { .. } => {}
                Effect::RestartAt(_) | Effect::Trim { .. } => unreachable!("logs begin at 0"),
            }
        }
    }

    fn arrive(&mut self, at: usize, which: usize) {
        let fetch = self.nodes[at].fetches.remove(which);
        self.nodes[at].waiting = Some(fetch);
        let event = Event::FollowerFetched(FollowerFetch {
            from: BrokerId::new(at as i32),
            broker_epoch: BrokerEpoch::new(self.nodes[at].broker_epoch),
            leader_epoch: fetch.leader_epoch,
            offset: fetch.offset,
            last_epoch: fetch.last_epoch,
            synced_end: Some(fetch.synced_end),
            request: fetch.request,
        });
        self.tell(fetch.leader.get() as usize, event, Mono::ZERO, &[]);
    }

    /// A leader's machine has judged a fetch: records wait for news, everything else is sent.
    fn answered(&mut self, leader: usize, at: usize, answer: FollowerAnswer) {
        let Some(fetch) = self.nodes[at].waiting else { return };
        let log_end = self.nodes[leader].log.log_end();
        let answer = match answer {
            FollowerAnswer::Read { .. } => return,
            FollowerAnswer::Diverging(end) => FetchAnswer::Diverging(end),
            FollowerAnswer::OutOfRange => FetchAnswer::OutOfRange { log_start: Offset::ZERO, log_end },
            FollowerAnswer::Fenced => FetchAnswer::Fenced,
            FollowerAnswer::UnknownEpoch => FetchAnswer::UnknownEpoch,
            FollowerAnswer::NotLeader => {
                self.nodes[at].waiting = None; // lost: it will learn
                return;
            }
        };
        self.send(at, fetch, answer, Vec::new());
    }

    fn reply(&mut self, at: usize) {
        let Some(fetch) = self.nodes[at].waiting else { return };
        let leader = &self.nodes[fetch.leader.get() as usize];
        let records = leader.log.records[fetch.offset.get() as usize..].to_vec();
        let answer = FetchAnswer::Records {
            high_watermark: leader.replica.high_watermark(),
            log_start: Offset::ZERO,
            log_end: leader.log.log_end(),
            any: !records.is_empty(),
        };
        self.send(at, fetch, answer, records);
    }

    fn send(&mut self, at: usize, fetch: FetchRequest, answer: FetchAnswer, records: Vec<Record>) {
        let node = &mut self.nodes[at];
        node.waiting = None;
        if node.answers.len() == 2 {
            node.answers.remove(0);
        }
        let (leader_epoch, request) = (fetch.leader_epoch, fetch.request);
        node.answers.push(Answered { leader_epoch, request, answer, records });
    }

    /// Whether a waiting fetch would be told something.
    fn has_news(&self, fetch: &FetchRequest) -> bool {
        let leader = &self.nodes[fetch.leader.get() as usize];
        let current = leader.replica.is_leader()
            && (leader.replica.leader_epoch() == fetch.leader_epoch
                || self.weakened == Weakened::AnyEpochCounted);
        current
            && leader.log.log_end() >= fetch.offset
            && (leader.log.log_end() > fetch.offset || leader.replica.high_watermark() > fetch.high_watermark)
    }

    /// A node loses what it has not synced, all that it knew, and starts again; the authority learns of it.
    fn power_cut(&mut self, at: usize) {
        self.budget.power_cuts -= 1;
        let node = &mut self.nodes[at];
        node.log.cut(node.log.synced);
        node.replica = replica(at, self.weakened, self.min_insync, &node.log);
        node.broker_epoch += 1;
        node.learned = -1;
        (node.fetches, node.answers) = (Vec::new(), Vec::new());
        (node.waiting, node.proposal, node.decision) = (None, None, None);
        self.put_out(at, true);
    }

    /// What was committed must stay.
    fn check(&mut self) -> Result<(), String> {
        for (at, node) in self.nodes.iter().enumerate() {
            let high = node.replica.high_watermark().get() as usize;
            let seen = &node.log.records[..high];
            let both = high.min(self.committed.len());
            if seen[..both] != self.committed[..both] {
                return Err(format!("node {at} shows {seen:?}, committed was {:?}", self.committed));
            }
            if high > self.committed.len() {
                if !node.replica.is_leader() {
                    return Err(format!("follower {at} shows {seen:?}, no leader ever said so"));
                }
                self.committed = seen.to_vec();
            }
        }
        let leader = &self.nodes[self.authority.leader];
        if !leader.log.records.starts_with(&self.committed) {
            let (at, records) = (self.authority.leader, &leader.log.records);
            return Err(format!("leader {at} has {records:?}, committed was {:?}", self.committed));
        }
        Ok(())
    }
}

fn replica(at: usize, weakened: Weakened, min_insync: usize, log: &Log) -> Replica {
    let settings = ReplicaSettings {
        min_insync,
        lag_time_max: Duration::ZERO,
        fetch_backoff: Duration::ZERO,
        leader_reads_synced_end: true,
        weakened,
    };
    Replica::new(BrokerId::new(at as i32), settings, Offset::ZERO, log)
}

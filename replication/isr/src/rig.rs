//! A replica over a log in memory, for unit tests.

use highwater_base::{BrokerEpoch, BrokerId, LeaderEpoch, Mono, Offset, PartitionEpoch};

use crate::{
    Assignment, Effect, EpochEnd, EpochHistory, Event, FetchAnswer, FollowerFetch, LogView, Peer, Replica,
    ReplicaSettings,
};

/// Records are numbers: the epochs they were appended in.
#[derive(Default)]
pub(crate) struct TestLog {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) counted: i64,
    pub(crate) history: EpochHistory,
}

impl LogView for TestLog {
    fn log_start(&self) -> Offset {
        Offset::new(self.start)
    }

    fn log_end(&self) -> Offset {
        Offset::new(self.end)
    }

    fn counted_end(&self) -> Offset {
        Offset::new(self.counted)
    }

    fn latest_epoch(&self) -> LeaderEpoch {
        self.history.latest()
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        self.history.epoch_end(epoch, self.log_end())
    }
}

/// Broker 1's replica of three: brokers 1, 2 and 3, each in its first incarnation, which has epoch 10.
pub(crate) struct Rig {
    pub(crate) log: TestLog,
    pub(crate) replica: Replica,
    pub(crate) now: Mono,
    epoch: i32,
    partition_epoch: i32,
}

pub(crate) fn id(id: i32) -> BrokerId {
    BrokerId::new(id)
}

pub(crate) fn ids(list: &[i32]) -> Vec<BrokerId> {
    list.iter().copied().map(BrokerId::new).collect()
}

impl Rig {
    /// A log with this many counted records of epoch 0.
    pub(crate) fn new(records: i64, min_insync: usize) -> Rig {
        let mut log = TestLog { end: records, counted: records, ..TestLog::default() };
        if records > 0 {
            log.history.assign(LeaderEpoch::ZERO, Offset::ZERO);
        }
        let settings = ReplicaSettings { min_insync, ..ReplicaSettings::default() };
        let replica = Replica::new(id(1), settings, Offset::ZERO, &log);
        Rig { log, replica, now: Mono::ZERO, epoch: 0, partition_epoch: 0 }
    }

    pub(crate) fn assignment(&self, leader: i32, isr: &[i32]) -> Assignment {
        let peer = |id| Peer { id, broker_epoch: BrokerEpoch::new(10), eligible: true };
        Assignment {
            leader: id(leader),
            leader_epoch: LeaderEpoch::new(self.epoch),
            partition_epoch: PartitionEpoch::new(self.partition_epoch),
            replicas: ids(&[1, 2, 3]),
            isr: ids(isr),
            peers: ids(&[1, 2, 3]).into_iter().map(peer).collect(),
        }
    }

    /// Another leadership, in the next epoch.
    pub(crate) fn lead(&mut self, leader: i32, isr: &[i32]) -> Vec<Effect> {
        self.epoch += 1;
        self.partition_epoch += 1;
        let assignment = self.assignment(leader, isr);
        self.tell(Event::Assigned(assignment))
    }

    /// The record is told again within the leadership, changed by `change`.
    pub(crate) fn retell(
        &mut self,
        leader: i32,
        isr: &[i32],
        change: impl FnOnce(&mut Assignment),
    ) -> Vec<Effect> {
        self.partition_epoch += 1;
        let mut assignment = self.assignment(leader, isr);
        change(&mut assignment);
        self.tell(Event::Assigned(assignment))
    }

    pub(crate) fn epochs(&self) -> (LeaderEpoch, PartitionEpoch) {
        (LeaderEpoch::new(self.epoch), PartitionEpoch::new(self.partition_epoch))
    }

    /// Tells the replica, does to the log what it says, and gives all effects.
    pub(crate) fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.replica.handle(self.now, event, &self.log);
        let mut effects = Vec::new();
        while let Some(effect) = self.replica.poll_effect() {
            match &effect {
                Effect::AssignEpoch(epoch) => self.log.history.assign(*epoch, self.log.log_end()),
                Effect::Truncate { to, .. } => {
                    self.log.end = to.get();
                    self.log.counted = self.log.counted.min(to.get());
                    self.log.history.truncate(*to);
                }
                Effect::RestartAt(at) => {
                    (self.log.start, self.log.end, self.log.counted) = (at.get(), at.get(), at.get());
                    self.log.history = EpochHistory::default();
                }
                Effect::Trim { to } => self.log.start = to.get(),
                _ => {}
            }
            effects.push(effect);
        }
        effects
    }

    /// Records of this leadership are appended here, and counted at once.
    pub(crate) fn append(&mut self, records: i64) -> Vec<Effect> {
        self.log.history.assign(LeaderEpoch::new(self.epoch), self.log.log_end());
        self.log.end += records;
        self.log.counted = self.log.end;
        self.tell(Event::LogMoved)
    }

    /// A follower whose log is a copy of ours up to `offset` fetches.
    pub(crate) fn fetch_of(&self, from: i32, offset: i64) -> FollowerFetch {
        FollowerFetch {
            from: id(from),
            broker_epoch: BrokerEpoch::new(10),
            leader_epoch: LeaderEpoch::new(self.epoch),
            offset: Offset::new(offset),
            last_epoch: LeaderEpoch::NONE,
            synced_end: None,
            request: 1,
        }
    }

    pub(crate) fn fetched(&mut self, from: i32, offset: i64) -> Vec<Effect> {
        let fetch = self.fetch_of(from, offset);
        self.tell(Event::FollowerFetched(fetch))
    }

    /// Our fetch of this number is answered by the leader of the present epoch.
    pub(crate) fn answered(&mut self, request: u64, answer: FetchAnswer) -> Vec<Effect> {
        let leader_epoch = LeaderEpoch::new(self.epoch);
        self.tell(Event::FetchAnswered { leader_epoch, request, answer })
    }

    pub(crate) fn high(&self) -> i64 {
        self.replica.high_watermark().get()
    }
}

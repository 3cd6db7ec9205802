//! Three replicas over real logs, with an authority between them: records are copied, leaders change, members leave the
//! ISR and return, and every log is the same in the end.

mod rig;

use std::time::Duration;

use highwater_base::{BrokerId, FilePos, Limits, Mono, Now, Offset, PartitionIndex, Uuid};
use highwater_control::{Applied, BrokerState, Command, Image, IsrChange, NewTopic, Registration, Topic};
use highwater_engine::{Log, LogSettings};
use highwater_io::{Buffer, Io, Op, OpenHow, Outcome as Gave, Slice, blocking};
use highwater_isr::{FetchAnswer, FetchRequest, FollowerAnswer, FollowerFetch, IsrRefusal, ReplicaSettings};
use highwater_replication::{
    Acks, Authority, LocalAuthority, Outcome, Outgoing, Partition, PartitionError, PartitionSettings, Reply,
    assignment_of,
};
use rig::{Mode, Slow, batch, now_at};

const TOPIC: Uuid = Uuid::from_bytes([7; 16]);
const INDEX: PartitionIndex = PartitionIndex::new(0);

struct Broker {
    io: Slow,
    partition: Partition,
    /// Its fetch that is at its leader, and whether that has found it good: then it waits there for news.
    waiting: Option<(FetchRequest, bool)>,
    /// Its network is cut.
    alone: bool,
}

struct Cluster {
    now: Now,
    brokers: Vec<Broker>,
    authority: LocalAuthority,
}

fn id(at: usize) -> BrokerId {
    BrokerId::new(at as i32 + 1)
}

impl Cluster {
    /// Brokers 1, 2 and 3 (at 0, 1 and 2), broker 1 leads, all are in sync, two must be.
    fn new() -> Cluster {
        let now = now_at(0);
        let broker = |at: usize| {
            let settings = LogSettings { limits: Limits::TINY, ..LogSettings::default() };
            let log = Log::create(now, "/t-0".as_ref(), 7, settings, TOPIC);
            let replica = ReplicaSettings { min_insync: 2, ..ReplicaSettings::default() };
            let settings = PartitionSettings { replica, ..PartitionSettings::default() };
            let partition = Partition::new(id(at), log, settings, Offset::ZERO);
            Broker { io: Slow::new(), partition, waiting: None, alone: false }
        };
        let brokers = (0..3).map(broker).collect();
        let mut cluster = Cluster { now, brokers, authority: LocalAuthority::new(Image::new("c")) };
        for at in 0..3 {
            cluster.change(Command::RegisterBroker(Registration::new(id(at), "h", 9092))).unwrap();
            let epoch = cluster.authority.image().broker(id(at)).unwrap().epoch;
            cluster.change(Command::UnfenceBroker { broker: id(at), epoch }).unwrap();
        }
        let mut new = NewTopic::named("t", TOPIC);
        new.assignments = vec![(INDEX, (0..3).map(id).collect())];
        new.configs.insert("min.insync.replicas".into(), "2".into());
        cluster.change(Command::CreateTopic(new)).unwrap();
        cluster.settle();
        cluster
    }

    fn topic(&self) -> Topic {
        (**self.authority.image().topic("t").unwrap()).clone()
    }

    fn leader(&self) -> usize {
        self.topic().partitions[0].leader.get() as usize - 1
    }

    fn isr(&self) -> Vec<i32> {
        self.topic().partitions[0].isr.iter().map(|id| id.get()).collect()
    }

    /// Changes the metadata and tells every broker that hears of it.
    fn change(&mut self, command: Command) -> Result<Applied, highwater_control::ControlError> {
        self.authority.propose(1, command);
        if let Some(image) = self.authority.poll_store() {
            self.authority.stored(image.version());
        }
        let decision = self.authority.poll_decision().expect("a local authority decides once it has stored");
        let image = self.authority.image().clone();
        if let Some(assignment) = image.topic("t").and_then(|topic| assignment_of(&image, topic, INDEX)) {
            for broker in self.brokers.iter_mut().filter(|broker| !broker.alone) {
                broker.partition.assign(self.now, assignment.clone());
            }
        }
        decision.result
    }

    fn set_state(&mut self, at: usize, state: BrokerState) {
        let epoch = self.authority.image().broker(id(at)).unwrap().epoch;
        let broker = id(at);
        let command = match state {
            BrokerState::Active => Command::UnfenceBroker { broker, epoch },
            BrokerState::Fenced | BrokerState::ShuttingDown => Command::FenceBroker { broker, epoch },
        };
        self.change(command).unwrap();
    }

    /// Everything that can happen without time passing.
    fn settle(&mut self) {
        for _ in 0..2000 {
            let mut busy = false;
            for at in 0..3 {
                busy |= self.turn(at);
                busy |= self.reply(at);
            }
            if !busy {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono.plus(time);
        self.settle();
    }

    /// One turn of a broker: its disk, then what it has for others.
    fn turn(&mut self, at: usize) -> bool {
        let broker = &mut self.brokers[at];
        broker.partition.step(self.now, &mut broker.io);
        let mut done = Vec::new();
        broker.io.reap(&mut done);
        let mut busy = !done.is_empty() || broker.partition.needs_step();
        for completion in done {
            broker.partition.complete(self.now, completion, &mut broker.io);
        }
        while let Some(outgoing) = self.brokers[at].partition.poll_outgoing() {
            busy = true;
            self.carry(at, outgoing);
        }
        busy
    }

    fn carry(&mut self, at: usize, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Fetch { fetch, .. } => {
                let leader = fetch.leader.get() as usize - 1;
                if self.brokers[at].alone || self.brokers[leader].alone {
                    return;
                }
                self.brokers[at].waiting = Some((fetch, false));
                let broker_epoch = self.authority.image().broker(id(at)).unwrap().epoch;
                let fetch = FollowerFetch {
                    from: id(at),
                    broker_epoch,
                    leader_epoch: fetch.leader_epoch,
                    offset: fetch.offset,
                    last_epoch: fetch.last_epoch,
                    synced_end: Some(fetch.synced_end),
                    request: fetch.request,
                };
                self.brokers[leader].partition.follower_fetched(self.now, fetch);
            }
            Outgoing::AnswerFollower { to, answer, .. } => {
                let follower = to.get() as usize - 1;
                let log = self.brokers[at].partition.log();
                let answer = match answer {
                    FollowerAnswer::Read { .. } => {
                        if let Some((_, good)) = &mut self.brokers[follower].waiting {
                            *good = true;
                        }
                        return;
                    }
                    FollowerAnswer::Diverging(end) => FetchAnswer::Diverging(end),
                    FollowerAnswer::OutOfRange => {
                        FetchAnswer::OutOfRange { log_start: log.log_start(), log_end: log.log_end() }
                    }
                    FollowerAnswer::Fenced => FetchAnswer::Fenced,
                    FollowerAnswer::UnknownEpoch => FetchAnswer::UnknownEpoch,
                    FollowerAnswer::NotLeader => FetchAnswer::NotLeader,
                };
                self.answer(follower, answer, Vec::new());
            }
            Outgoing::ProposeIsr(proposal) => self.propose(at, proposal),
            _ => {}
        }
    }

    fn propose(&mut self, at: usize, proposal: highwater_isr::IsrProposal) {
        let image = self.authority.image().clone();
        let change = IsrChange {
            topic: TOPIC,
            index: INDEX,
            leader: id(at),
            leader_broker_epoch: image.broker(id(at)).unwrap().epoch,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            isr: proposal.isr,
            recovery: image.topic("t").unwrap().partitions[0].recovery,
        };
        let (leader_epoch, before) = (proposal.leader_epoch, proposal.partition_epoch);
        let (now, result) = (self.now, self.change(Command::ChangeIsr(change)));
        let partition = &mut self.brokers[at].partition;
        match result {
            Ok(Applied::IsrChanged { isr, partition_epoch }) => {
                partition.isr_committed(now, leader_epoch, partition_epoch, isr);
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => partition.isr_refused(now, leader_epoch, before, IsrRefusal::Rejected),
        }
    }

    /// Answers a follower's waiting fetch, if its leader has news for it.
    fn reply(&mut self, at: usize) -> bool {
        let Some((fetch, true)) = self.brokers[at].waiting else { return false };
        let leader = fetch.leader.get() as usize - 1;
        if self.brokers[at].alone || self.brokers[leader].alone {
            return false;
        }
        let leader = &mut self.brokers[leader].partition;
        if !leader.is_leader() || leader.leader_epoch() != fetch.leader_epoch {
            return false;
        }
        let (end, high_watermark) = (leader.log().log_end(), leader.high_watermark());
        if end <= fetch.offset && high_watermark <= fetch.high_watermark {
            return false;
        }
        let log_start = leader.log().log_start();
        let records = match leader.read_for_follower(self.now, fetch.offset, 1 << 20, 0) {
            Outcome::Now(Ok(done)) => done.data,
            other => panic!("the tail is in memory: {other:?}"),
        };
        let answer =
            FetchAnswer::Records { high_watermark, log_start, log_end: end, any: !records.is_empty() };
        self.answer(at, answer, records);
        true
    }

    fn answer(&mut self, at: usize, answer: FetchAnswer, records: Vec<Slice>) {
        let Some((fetch, _)) = self.brokers[at].waiting.take() else { return };
        let partition = &mut self.brokers[at].partition;
        partition.fetch_answered(self.now, fetch.leader_epoch, fetch.request, answer, records);
    }

    fn produce(&mut self, at: usize, acks: Acks, key: u64) -> Outcome<highwater_replication::ProduceDone> {
        self.brokers[at].partition.produce(self.now, batch(1), acks, Mono::MAX, key)
    }

    fn answered(&mut self, at: usize) -> Vec<(u64, Result<Reply, PartitionError>)> {
        let poll = || self.brokers[at].partition.poll_answer().map(|answer| (answer.key, answer.reply));
        std::iter::from_fn(poll).collect()
    }

    /// The log's end, the high watermark, and the bytes of its segment, as they are on disk.
    fn log_of(&mut self, at: usize) -> (i64, i64, Vec<u8>) {
        let Broker { partition, io, .. } = &mut self.brokers[at];
        let (end, high) = (partition.log().log_end().get(), partition.high_watermark().get());
        let path = partition.log().dir().join("00000000000000000000.log");
        let how = OpenHow::Read;
        let Ok(Gave::Opened { file, len, .. }) =
            blocking::run(&mut io.inner, Op::Open { path, how, direct: false })
        else {
            panic!("the segment is there")
        };
        let buffer = Buffer::new(len as usize);
        let read = blocking::run(&mut io.inner, Op::Read { file, at: FilePos::ZERO, buffer });
        let Ok(Gave::Read { buffer }) = read else { panic!("{read:?}") };
        let last = buffer.filled().iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        (end, high, buffer.filled()[..last].to_vec())
    }
}

#[test]
fn what_is_acknowledged_to_all_is_the_same_on_all() {
    let mut cluster = Cluster::new();
    for key in 0..5 {
        assert!(matches!(cluster.produce(0, Acks::All, key), Outcome::Parked));
        cluster.settle();
        assert!(
            matches!(cluster.answered(0)[..], [(_, Ok(Reply::Produced(done)))] if done.first.get() == key as i64)
        );
    }
    let logs = [cluster.log_of(0), cluster.log_of(1), cluster.log_of(2)];
    assert_eq!((logs[0].0, logs[0].1), (5, 5));
    assert_eq!((&logs[0], &logs[0]), (&logs[1], &logs[2]));
}

#[test]
fn all_waits_for_the_sync_of_every_member_and_no_longer_than_it_is_one() {
    let mut cluster = Cluster::new();
    cluster.brokers[2].io.set(Mode::HoldSyncs);
    assert!(matches!(cluster.produce(0, Acks::All, 1), Outcome::Parked));
    cluster.settle();
    assert!(cluster.answered(0).is_empty());
    for _ in 0..3 {
        cluster.pass(Duration::from_secs(16));
    }
    assert_eq!(cluster.isr(), [1, 2]);
    assert!(matches!(cluster.answered(0)[..], [(1, Ok(_))]));
    cluster.brokers[2].io.set(Mode::Pass);
    cluster.pass(Duration::from_secs(2));
    assert!(matches!(cluster.produce(0, Acks::All, 2), Outcome::Parked));
    cluster.settle();
    assert_eq!(cluster.isr(), [1, 2, 3], "it has caught up");
    assert_eq!(cluster.log_of(2).0, 2);
}

#[test]
fn below_min_isr_all_is_refused_and_one_is_stored_but_not_shown() {
    let mut cluster = Cluster::new();
    cluster.set_state(1, BrokerState::Fenced);
    cluster.set_state(2, BrokerState::Fenced);
    assert_eq!(cluster.isr(), [1]);
    let refused = cluster.produce(0, Acks::All, 1);
    assert!(matches!(
        refused,
        Outcome::Now(Err(PartitionError::NotEnoughReplicas { in_sync: 1, needed: 2 }))
    ));
    assert!(matches!(cluster.produce(0, Acks::Leader, 2), Outcome::Parked));
    cluster.settle();
    assert!(matches!(cluster.answered(0)[..], [(2, Ok(_))]));
    let (end, high, _) = cluster.log_of(0);
    assert_eq!((end, high), (1, 0), "R30");
}

#[test]
fn a_leader_that_was_cut_off_loses_only_what_nobody_committed() {
    let mut cluster = Cluster::new();
    assert!(matches!(cluster.produce(0, Acks::All, 1), Outcome::Parked));
    cluster.settle();
    cluster.answered(0);
    // Cut off, it goes on; what only it has is never acknowledged to all.
    cluster.brokers[0].alone = true;
    for key in 2..5 {
        assert!(matches!(cluster.produce(0, Acks::All, key), Outcome::Parked));
    }
    cluster.settle();
    assert!(cluster.answered(0).is_empty(), "R52");
    cluster.set_state(0, BrokerState::Fenced);
    assert_eq!(cluster.leader(), 1);
    cluster.settle();
    assert!(matches!(cluster.produce(1, Acks::All, 9), Outcome::Parked));
    cluster.settle();
    assert!(matches!(cluster.answered(1)[..], [(9, Ok(_))]));
    // It hears of its successor: everybody who waits there is told, its log is cut where the logs part, and filled.
    cluster.brokers[0].alone = false;
    cluster.set_state(0, BrokerState::Active);
    cluster.settle();
    let told = cluster.answered(0);
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(
        |(_, reply)| matches!(reply, Err(PartitionError::NotLeader { leader, .. }) if *leader == id(1))
    ));
    cluster.pass(Duration::from_secs(2));
    assert!(matches!(cluster.produce(1, Acks::All, 10), Outcome::Parked));
    cluster.settle();
    let logs = [cluster.log_of(0), cluster.log_of(1), cluster.log_of(2)];
    assert_eq!((logs[0].0, logs[0].1), (3, 3));
    assert_eq!((&logs[0], &logs[0]), (&logs[1], &logs[2]));
    assert_eq!(cluster.isr(), [1, 2, 3]);
}

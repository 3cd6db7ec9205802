//! The partitions of one shard: completions find their log, deadlines their partition, and idle ones cost nothing.

mod rig;

use std::time::Duration;

use highwater_base::{LeaderEpoch, Limits, Offset, PartitionEpoch, PartitionIndex, Uuid};
use highwater_engine::{Log, LogSettings};
use highwater_io::Io;
use highwater_isr::Assignment;
use highwater_replication::{
    Acks, Answer, Isolation, Node, Outcome, Partition, PartitionKey, PartitionSettings, Reply,
};
use rig::{ME, Mode, Slow, batch, now_at};

struct Shard {
    io: Slow,
    node: Node,
    ms: u64,
    answers: Vec<(PartitionKey, Answer)>,
    /// When the next turn is due.
    next: Option<highwater_base::Mono>,
}

fn key(number: u64) -> PartitionKey {
    (Uuid::from_halves(3, number), PartitionIndex::new(0))
}

impl Shard {
    fn new(partitions: u64) -> Shard {
        let mut shard = Shard { io: Slow::new(), node: Node::new(), ms: 0, answers: Vec::new(), next: None };
        for number in 1..=partitions {
            let settings = LogSettings { limits: Limits::TINY, ..LogSettings::default() };
            let dir = format!("/t{number}-0");
            let log = Log::create(now_at(0), dir.as_ref(), 100 + number as u32, settings, key(number).0);
            let mut partition = Partition::new(ME, log, PartitionSettings::default(), Offset::ZERO);
            let alone = Assignment::standalone(ME, LeaderEpoch::ZERO, PartitionEpoch::ZERO);
            partition.assign(now_at(0), alone);
            shard.node.insert(key(number), partition);
        }
        shard.settle();
        shard
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            let now = now_at(self.ms);
            let mut done = Vec::new();
            self.io.reap(&mut done);
            let mut idle = done.is_empty();
            for completion in done {
                assert!(self.node.owns(completion.token.owner));
                self.node.complete(now, completion, &mut self.io);
            }
            self.next = self.node.step(now, &mut self.io);
            while let Some(answer) = self.node.poll_answer() {
                self.answers.push(answer);
                idle = false;
            }
            assert!(self.node.poll_outgoing().is_none());
            if idle && self.io.inner.in_flight() == 0 && self.next.is_none_or(|at| at > now.mono) {
                return;
            }
        }
        panic!("the shard does not come to rest");
    }

    fn produce(&mut self, number: u64, request: u64) {
        let now = now_at(self.ms);
        let deadline = now.mono.plus(Duration::from_secs(30));
        let partition = self.node.get_mut(key(number)).unwrap();
        assert!(matches!(partition.produce(now, batch(1), Acks::All, deadline, request), Outcome::Parked));
    }
}

#[test]
fn answers_come_from_the_partition_that_was_asked() {
    let mut shard = Shard::new(20);
    for number in 1..=20 {
        shard.produce(number, number * 10);
    }
    shard.settle();
    let mut seen: Vec<_> = shard.answers.drain(..).collect();
    seen.sort_by_key(|(_, answer)| answer.key);
    assert_eq!(seen.len(), 20);
    for (number, (from, answer)) in (1..).zip(seen) {
        assert_eq!((from, answer.key), (key(number), number * 10));
        assert!(matches!(answer.reply, Ok(Reply::Produced(done)) if done.first == Offset::ZERO));
    }
}

#[test]
fn the_next_deadline_is_the_earliest_of_all_partitions() {
    let mut shard = Shard::new(3);
    let wait = |shard: &mut Shard, number, seconds| {
        let deadline = now_at(shard.ms).mono.plus(Duration::from_secs(seconds));
        let partition = shard.node.get_mut(key(number)).unwrap();
        let isolation = Isolation::ReadUncommitted;
        assert!(matches!(
            partition.await_readable(Offset::ZERO, isolation, deadline, number),
            Outcome::Parked
        ));
        deadline
    };
    wait(&mut shard, 1, 3);
    let first = wait(&mut shard, 2, 1);
    shard.settle();
    assert!(shard.next.is_some_and(|at| at <= first));
    shard.ms += 999;
    shard.settle();
    assert!(shard.answers.is_empty());
    shard.ms += 1;
    shard.settle();
    assert!(matches!(shard.answers[..], [(from, _)] if from == key(2)));
}

#[test]
fn a_removed_partition_is_forgotten_and_late_completions_are_dropped() {
    let mut shard = Shard::new(2);
    shard.io.set(Mode::HoldSyncs);
    shard.produce(1, 1);
    shard.settle();
    let partition = shard.node.remove(key(1)).unwrap();
    assert_eq!(partition.log().owner(), 101);
    assert!(!shard.node.owns(101) && shard.node.get(key(1)).is_none());
    shard.io.set(Mode::Pass);
    let mut done = Vec::new();
    shard.io.reap(&mut done);
    assert!(!done.is_empty());
    for completion in done {
        shard.node.complete(now_at(0), completion, &mut shard.io);
    }
    shard.produce(2, 2);
    shard.settle();
    assert!(matches!(shard.answers[..], [(from, _)] if from == key(2)));
    assert_eq!(shard.node.len(), 1);
}

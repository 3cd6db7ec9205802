//! A partition against a naive model under random requests, slow disks, elections and restarts: each request is answered
//! exactly once, what was acknowledged stays where it was said to be, and nobody reads beyond the high watermark.

mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_base::{Limits, Mono, Offset, Prng};
use highwater_engine::batch::Batches;
use highwater_engine::{Durability, LogSettings};
use highwater_replication::{
    Acks, Answer, Isolation, Outcome, PartitionError, PartitionSettings, ProduceDone, ReadDone, ReadRequest,
    Reply,
};
use rig::{Mode, Rig, labelled};

struct Model {
    rig: Rig,
    prng: Prng,
    next_key: u64,
    /// Requests that are not answered, and the label of the record that they produce.
    open: BTreeMap<u64, (Acks, u64)>,
    /// Requests that wait, and may be told so without a label.
    waits: BTreeSet<u64>,
    /// What is known to be at an offset.
    known: BTreeMap<i64, u64>,
    high_watermark: Offset,
    each: bool,
    acknowledged: usize,
    records_read: usize,
}

fn settings(each: bool) -> LogSettings {
    let durability = if each { Durability::Each } else { Durability::Os };
    LogSettings { durability, limits: Limits::TINY, ..LogSettings::default() }
}

impl Model {
    fn new(seed: u64) -> Model {
        Model {
            rig: Rig::creating(settings(true)),
            prng: Prng::new(seed),
            next_key: 1,
            open: BTreeMap::new(),
            waits: BTreeSet::new(),
            known: BTreeMap::new(),
            high_watermark: Offset::ZERO,
            each: true,
            acknowledged: 0,
            records_read: 0,
        }
    }

    fn step(&mut self) {
        match self.prng.below(20) {
            0..=7 => self.produce(),
            8..=10 => self.read(),
            11 => self.await_more(),
            12 => self.delete(),
            13 => {
                let modes = [Mode::Pass, Mode::HoldSyncs, Mode::HoldWrites];
                self.rig.io.set(modes[self.prng.below(3) as usize]);
            }
            14 => self.rig.pass(Duration::from_millis(self.prng.below(3000))),
            15 if self.prng.one_in(3) => {
                let epoch = self.rig.partition.leader_epoch().next().get();
                self.rig.lead(epoch);
            }
            16 if self.prng.one_in(4) => {
                self.each = !self.each;
                let settings = settings(self.each);
                self.rig.partition.update_settings(self.rig.now, settings, PartitionSettings::default());
            }
            17 if self.prng.one_in(6) => self.restart(),
            _ => self.rig.settle(),
        }
        self.take_answers();
        let high = self.rig.partition.high_watermark();
        assert!(
            high >= self.high_watermark,
            "the high watermark fell from {} to {high}",
            self.high_watermark
        );
        self.high_watermark = high;
    }

    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    fn produce(&mut self) {
        let key = self.key();
        let acks = [Acks::None, Acks::Leader, Acks::All][self.prng.below(3) as usize];
        let bytes = self.prng.below(1500) as usize;
        self.open.insert(key, (acks, key));
        match self.rig.produce(labelled(key, bytes), acks, key) {
            Outcome::Now(Ok(done)) => self.produced(key, done),
            Outcome::Now(Err(error)) => panic!("{error}"),
            Outcome::Parked => {}
        }
    }

    fn produced(&mut self, key: u64, done: ProduceDone) {
        let (acks, label) = self.open.remove(&key).expect("answered once");
        // A reader may have seen it before its producer heard of it.
        let known = *self.known.entry(done.first.get()).or_insert(label);
        assert_eq!(known, label, "another record at {}", done.first);
        let log = self.rig.partition.log();
        match acks {
            Acks::None => {}
            Acks::Leader | Acks::All => {
                self.acknowledged += 1;
                assert!(log.written_end() > done.last, "acknowledged before it was written");
                assert!(!self.each || log.synced_end() > done.last || self.high_watermark > done.last);
            }
        }
        if acks == Acks::All {
            assert!(self.rig.partition.high_watermark() > done.last);
        }
    }

    fn read(&mut self) {
        let end = self.rig.partition.log().log_end().get();
        let from = Offset::new(self.prng.below(end as u64 + 2) as i64);
        let key = self.key();
        let request = ReadRequest::new(from, Isolation::ReadUncommitted, 1 + self.prng.below(9000) as usize);
        match self.rig.partition.read(self.rig.now, request, key) {
            Outcome::Now(Ok(done)) => self.was_read(&done),
            Outcome::Now(Err(PartitionError::OffsetOutOfRange { log_start, end, .. })) => {
                assert!(from < log_start || from > end, "{from} is within {log_start} to {end}");
            }
            Outcome::Now(Err(error)) => panic!("{error}"),
            Outcome::Parked => _ = self.waits.insert(key),
        }
    }

    fn was_read(&mut self, done: &ReadDone) {
        let bytes: Vec<u8> = done.data.iter().flat_map(|slice| slice.iter().copied()).collect();
        for batch in Batches::in_memory(&bytes) {
            let batch = batch.unwrap();
            assert!(batch.last_offset() < done.high_watermark);
            assert!(batch.crc_matches());
            let label = rig::label(batch.bytes());
            let offset = batch.stored_offset().get();
            let known = *self.known.entry(offset).or_insert(label);
            assert_eq!(known, label, "another record at {offset}");
            self.records_read += 1;
        }
        assert!(done.high_watermark <= self.rig.partition.high_watermark());
    }

    fn await_more(&mut self) {
        let key = self.key();
        let beyond = self.rig.partition.high_watermark().plus(self.prng.below(4) as i64 - 1);
        let deadline = self.rig.now.mono.plus(Duration::from_millis(500));
        match self.rig.partition.await_readable(beyond, Isolation::ReadUncommitted, deadline, key) {
            Outcome::Now(result) => result.unwrap(),
            Outcome::Parked => _ = self.waits.insert(key),
        }
    }

    fn delete(&mut self) {
        let key = self.key();
        let high = self.rig.partition.high_watermark();
        let to = Offset::new(self.prng.below(high.get() as u64 + 1) as i64);
        match self.rig.partition.delete_records(self.rig.now, to, Mono::MAX, key) {
            Outcome::Now(result) => assert!(result.unwrap() >= to),
            Outcome::Parked => _ = self.waits.insert(key),
        }
    }

    fn take_answers(&mut self) {
        for Answer { key, reply } in std::mem::take(&mut self.rig.answers) {
            match reply {
                Ok(Reply::Produced(done)) => self.produced(key, done),
                Ok(Reply::Read(done)) => {
                    assert!(self.waits.remove(&key));
                    self.was_read(&done);
                }
                Ok(Reply::Readable | Reply::Deleted { .. }) => assert!(self.waits.remove(&key)),
                Ok(other) => panic!("{other:?}"),
                Err(PartitionError::TimedOut) => assert!(self.open.remove(&key).is_some()),
                // A read that waits for the disk while its segment goes.
                Err(PartitionError::OffsetOutOfRange { .. }) => assert!(self.waits.remove(&key)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Everybody who waits has been answered.
    fn come_to_rest(&mut self) {
        self.rig.io.set(Mode::Pass);
        self.rig.settle();
        self.rig.pass(Duration::from_secs(60));
        self.take_answers();
        assert!(self.open.is_empty() && self.waits.is_empty(), "{:?} {:?}", self.open, self.waits);
        assert_eq!(self.rig.partition.parked(), 0);
    }

    fn restart(&mut self) {
        self.come_to_rest();
        let clean = self.prng.one_in(2);
        let end = self.rig.partition.log().log_end();
        self.rig.reopen(clean, settings(self.each));
        assert_eq!(self.rig.partition.log().log_end(), end);
        self.take_answers();
    }
}

#[test]
fn each_request_is_answered_once_and_what_was_acknowledged_stays() {
    let (mut acknowledged, mut read) = (0, 0);
    for seed in 0..300 {
        let mut model = Model::new(seed);
        for _ in 0..400 {
            model.step();
        }
        model.come_to_rest();
        acknowledged += model.acknowledged;
        read += model.records_read;
    }
    assert!(
        acknowledged > 20_000 && read > 15_000,
        "too little happened: {acknowledged} acknowledged, {read} read"
    );
    println!("figure: partition_model acknowledged={acknowledged} read={read} lost=0");
}

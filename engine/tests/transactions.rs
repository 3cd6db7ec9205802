//! What a log knows of transactions survives stops and kills: aborted ranges are told to readers of committed records also
//! where recovery does not read their markers again.

use highwater_base::{LeaderEpoch, Limits, Mono, Now, Offset, ProducerEpoch, ProducerId, Uuid, WallMs};
use highwater_engine::batch::{BatchBuilder, Marker, marker_batch};
use highwater_engine::{Log, LogEvent, LogSettings, OpenHint, Origin};
use highwater_io::{Io, MemoryDisk, MemoryIo, Op, blocking};

const DIR: &str = "/ledger-0";
const START_MS: i64 = 1_700_000_000_000;

struct World {
    disk: MemoryDisk,
    io: MemoryIo,
    log: Log,
    now: Now,
}

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 64 << 10,
        index_interval_bytes: 1 << 20,
        retention_ms: None,
        checkpoint_ms: 1 << 40,
        limits: Limits::TINY,
        ..LogSettings::default()
    }
}

impl World {
    fn new() -> World {
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(START_MS) };
        let disk = MemoryDisk::new();
        let log = Log::create(now, DIR.as_ref(), 3, settings(), Uuid::from_halves(5, 6));
        let mut world = World { io: MemoryIo::on(disk.clone()), disk, log, now };
        world.until(|event| matches!(event, LogEvent::Ready));
        world
    }

    fn until(&mut self, wanted: impl Fn(&LogEvent) -> bool) {
        for _ in 0..20_000 {
            self.now.mono = self.now.mono.plus(std::time::Duration::from_millis(5));
            self.log.step(self.now, &mut self.io);
            let mut completions = Vec::new();
            self.io.reap(&mut completions);
            for completion in completions {
                self.log.complete(self.now, completion, &mut self.io);
            }
            if std::iter::from_fn(|| self.log.poll_event()).any(|event| wanted(&event)) {
                return;
            }
        }
        panic!("the event never came: {:?}", self.log);
    }

    fn append(&mut self, batch: &[u8], origin: Origin) {
        let end = self.log.append(self.now, batch, origin).unwrap().end;
        self.until(|event| matches!(event, LogEvent::Synced(synced) if *synced >= end));
    }

    fn transaction(&mut self, producer: i64, sequence: i32, marker: Marker) {
        let (id, epoch) = (ProducerId::new(producer), ProducerEpoch::new(0));
        let batch = BatchBuilder::new()
            .producer(id, epoch, sequence)
            .transactional()
            .record(START_MS, None, Some(&[9; 500]))
            .build();
        let leader_epoch = LeaderEpoch::ZERO;
        self.append(&batch, Origin::Client { leader_epoch });
        let marker = marker_batch(marker, id, epoch, 1, WallMs::new(START_MS));
        self.append(&marker, Origin::Coordinator { leader_epoch });
    }

    fn aborted(&self) -> Vec<(i64, i64)> {
        let all = self.log.aborted_in(Offset::ZERO, Offset::MAX);
        all.iter().map(|aborted| (aborted.producer.get(), aborted.first.get())).collect()
    }

    /// What is on disk is opened by the next process.
    fn reopen(self, clean_stop: bool) -> World {
        let mut io = MemoryIo::on(self.disk.clone());
        let hint = OpenHint { clean_stop, ..OpenHint::default() };
        let (log, _) = Log::open(&mut io, self.now, DIR.as_ref(), 3, settings(), hint).unwrap();
        World { io, log, ..self }
    }

    fn close(&mut self) {
        self.log.close();
        self.until(|event| matches!(event, LogEvent::Closed));
    }
}

#[test]
fn what_was_aborted_is_known_after_a_clean_stop() {
    let mut world = World::new();
    world.transaction(7, 0, Marker::Abort);
    world.transaction(8, 0, Marker::Commit);
    world.transaction(7, 1, Marker::Abort);
    assert_eq!(world.aborted(), [(7, 0), (7, 4)]);
    world.close();
    let mut world = world.reopen(true);
    assert_eq!(world.aborted(), [(7, 0), (7, 4)]);
    world.transaction(8, 1, Marker::Abort);
    world.close();
    assert_eq!(world.reopen(true).aborted(), [(7, 0), (7, 4), (8, 6)]);
}

#[test]
fn what_was_aborted_before_the_checkpoint_is_known_after_a_kill() {
    let mut world = World::new();
    // TINY limits: a checkpoint after every few batches, in the middle of the segment.
    for round in 0..20 {
        world.transaction(7, round, if round % 3 == 0 { Marker::Commit } else { Marker::Abort });
    }
    let aborted = world.aborted();
    assert_eq!(aborted.len(), 13);
    let mut world = world.reopen(false);
    assert_eq!(world.aborted(), aborted, "killed");
    world.transaction(8, 0, Marker::Abort);
    let aborted = world.aborted();
    let world = world.reopen(false);
    assert_eq!(world.aborted(), aborted, "killed again");
}

#[test]
fn what_was_aborted_is_known_where_a_segment_lost_its_index() {
    let mut world = World::new();
    world.transaction(7, 0, Marker::Abort);
    world.close();
    let path = "/ledger-0/00000000000000000000.index".into();
    blocking::run(&mut world.io, Op::Unlink { path }).unwrap();
    assert_eq!(world.reopen(true).aborted(), [(7, 0)]);
}

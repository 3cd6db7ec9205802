//! The scrubber in the simulator: whichever bit of a sealed segment rots, it is found within one round and refused, and
//! everything else is served; appends go on; a day's budget is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_base::{LeaderEpoch, Limits, Offset, ProducerEpoch, ProducerId, Uuid};
use highwater_engine::batch::{BatchBuilder, Batches};
use highwater_engine::{Log, LogEvent, LogSettings, OpenHint, Origin, Read, ReadError};
use highwater_io::Io;
use highwater_sim::{EIO, Fault, FaultKind, SimDisk, SimIo};

const DIR: &str = "/data/orders-0";
const SEGMENT: &str = "/data/orders-0/00000000000000000000.log";

fn settings(scrub_bytes_a_day: u64) -> LogSettings {
    LogSettings {
        segment_bytes: 6 << 10,
        index_interval_bytes: 1000,
        retention_ms: None,
        scrub_bytes_a_day,
        limits: Limits::TINY,
        ..LogSettings::default()
    }
}

struct World {
    io: SimIo,
    log: Log,
    events: Vec<LogEvent>,
}

impl World {
    /// A log of several sealed segments, closed; gives its disk and its batches by their first offset.
    fn closed() -> (SimDisk, BTreeMap<i64, Vec<u8>>) {
        let mut disk = SimDisk::new();
        disk.put("/data/meta.properties", b"");
        let io = SimIo::new(disk, 1);
        let now = io.clock().now();
        let log = Log::create(now, DIR.as_ref(), 1, settings(0), Uuid::from_halves(1, 2));
        let mut world = World { io, log, events: Vec::new() };
        world.until(|world| world.log.is_ready());
        for number in 0..60 {
            world.append(number);
        }
        let end = world.log.log_end();
        world.until(|world| world.log.synced_end() == end);
        let mut batches = BTreeMap::new();
        let (bytes, refused) = world.read_all();
        assert!(refused.is_empty() && world.log.segment_count() >= 4, "{refused:?}");
        for batch in Batches::in_memory(&bytes).map_while(Result::ok) {
            batches.insert(batch.header().expect("magic 2").base_offset().get(), batch.bytes().to_vec());
        }
        world.log.close();
        world.until(|world| world.events.iter().any(|event| matches!(event, LogEvent::Closed)));
        world.io.disk_mut().settle();
        let disk = world.io.disk().clone();
        (disk, batches)
    }

    fn open(disk: SimDisk, scrub_bytes_a_day: u64) -> World {
        let mut io = SimIo::new(disk, 2);
        let now = io.clock().now();
        let settings = settings(scrub_bytes_a_day);
        let opened = Log::open(&mut io, now, DIR.as_ref(), 1, settings, OpenHint::default());
        let (log, report) = opened.expect("a log");
        assert!(report.is_clean(), "a start does not read sealed segments: {report:?}");
        World { io, log, events: Vec::new() }
    }

    fn append(&mut self, number: i32) -> Offset {
        let batch = BatchBuilder::new()
            .producer(ProducerId::new(5), ProducerEpoch::ZERO, number)
            .record(1_767_225_600_000, Some(b"key"), Some(&[number as u8; 250]))
            .build();
        let origin = Origin::Client { leader_epoch: LeaderEpoch::new(number / 20) };
        let end = self.log.append(self.io.clock().now(), &batch, origin).expect("appended").end;
        self.log.set_high_watermark(end);
        self.until(|world| world.log.synced_end() >= end);
        end
    }

    /// One completion, or, if none is on its way, on to the log's deadline. False if there is neither.
    fn turn(&mut self) -> bool {
        let deadline = self.log.step(self.io.clock().now(), &mut self.io);
        self.events.extend(std::iter::from_fn(|| self.log.poll_event()));
        let mut done = Vec::new();
        if !self.io.advance(&mut done) {
            let Some(deadline) = deadline else { return self.log.needs_step() };
            self.io.clock().advance_to(deadline);
        }
        for completion in done {
            self.log.complete(self.io.clock().now(), completion, &mut self.io);
        }
        true
    }

    fn until(&mut self, wanted: impl Fn(&World) -> bool) {
        for _ in 0..100_000 {
            if wanted(self) {
                return;
            }
            assert!(self.turn(), "the log has come to rest: {:?}", self.log.failure());
        }
        panic!("the log does not come that far");
    }

    fn damage(&mut self) -> Vec<ReadError> {
        let events = std::mem::take(&mut self.events);
        let damage = events.into_iter().filter_map(|event| match event {
            LogEvent::Damaged(error) => Some(error),
            _ => None,
        });
        damage.collect()
    }

    /// Every byte that is served, and the ranges of offsets that are refused.
    fn read_all(&mut self) -> (Vec<u8>, Vec<(i64, i64)>) {
        let (mut bytes, mut refused) = (Vec::new(), Vec::new());
        let (mut next, end) = (self.log.log_start(), self.log.log_end());
        while next < end {
            let now = self.io.clock().now();
            let result = match self.log.read(now, next, end, 2000) {
                Ok(Read::Ready(fetched)) => Ok(fetched),
                Ok(Read::Pending(wanted)) => loop {
                    let done =
                        |event: &LogEvent| matches!(event, LogEvent::ReadDone { id, .. } if *id == wanted);
                    if let Some(at) = self.events.iter().position(done) {
                        let LogEvent::ReadDone { result, .. } = self.events.remove(at) else {
                            unreachable!()
                        };
                        break result;
                    }
                    assert!(self.turn(), "a read is not answered");
                },
                Err(error) => Err(error),
            };
            match result {
                Ok(fetched) => {
                    assert!(fetched.next > next);
                    fetched.data.iter().for_each(|slice| bytes.extend_from_slice(slice));
                    next = fetched.next;
                }
                Err(ReadError::Damaged { from, until, .. }) => {
                    refused.push((from.get(), until.get()));
                    next = until;
                }
                Err(error) => panic!("{error}"),
            }
        }
        (bytes, refused)
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_segment_is_found_within_one_round() {
    let (disk, batches) = World::closed();
    let segment = disk.contents(SEGMENT).expect("a segment");
    let whole: Vec<_> = Batches::in_memory(&segment).map_while(Result::ok).collect();
    let segment_end = whole.last().expect("batches").last_offset().get() + 1;
    let full = std::env::var_os("HIGHWATER_TEST_FULL").is_some();
    // All bits of one header, and some of all the rest.
    let header = whole[3].position() * 8..(whole[3].position() + 61) * 8;
    let bits = (0..segment.len() * 8).filter(|bit| full || header.contains(bit) || bit % 211 == 0);
    let mut found = 0;
    for bit in bits {
        let (at, mask) = (bit / 8, 1 << (bit % 8));
        let mut disk = disk.clone();
        disk.rot(SEGMENT, at as u64, &[segment[at] ^ mask]);
        let mut world = World::open(disk, u64::MAX);
        let damaged = |event: &LogEvent| matches!(event, LogEvent::Damaged(_));
        world.until(|world| world.log.scrub_facts().rounds > 0 && world.events.iter().any(damaged));
        let hit = whole.iter().find(|batch| batch.position() + batch.size() > at).expect("a batch");
        let offset = hit.header().expect("magic 2").base_offset().get();
        let damage = world.damage();
        let names_it = damage.iter().any(|error| {
            matches!(error, ReadError::Damaged { from, until, .. } if (from.get()..until.get()).contains(&offset))
        });
        assert!(names_it, "bit {bit} in the batch at {offset}: {damage:?}");
        let facts = world.log.scrub_facts();
        assert_eq!((facts.rounds, facts.rotten), (1, 1), "bit {bit}");
        // What is served is what was written; what is refused lies in that segment; nothing else is missing.
        let (bytes, refused) = world.read_all();
        let mut served: Vec<i64> = Vec::new();
        for batch in Batches::in_memory(&bytes).map(|batch| batch.expect("whole batches are served")) {
            let first = batch.header().expect("magic 2").base_offset().get();
            assert_eq!(batches.get(&first).map(Vec::as_slice), Some(batch.bytes()), "bit {bit}");
            served.push(first);
        }
        let is_refused = |offset: i64| refused.iter().any(|(from, until)| (*from..*until).contains(&offset));
        assert!(is_refused(offset) && refused.iter().all(|(_, until)| *until <= segment_end), "bit {bit}");
        let missing = batches.keys().find(|first| !served.contains(first) && !is_refused(**first));
        assert_eq!(missing, None, "bit {bit}");
        found += 1;
    }
    assert!(found > 400, "{found} bits");
}

#[test]
fn a_day_reads_no_more_than_its_budget_and_appends_go_on() {
    let (disk, _) = World::closed();
    let sealed: usize = disk.contents(SEGMENT).expect("a segment").len();
    let budget = 64 << 20;
    let mut world = World::open(disk, budget);
    let start = world.io.clock().now().mono;
    let day = start.plus(Duration::from_secs(24 * 3600));
    let mut number = 60;
    while world.io.clock().now().mono < day {
        world.append(number);
        number += 1;
        let next = world.io.clock().now().mono.plus(Duration::from_secs(600));
        while world.io.clock().now().mono < next && world.turn() {}
    }
    let facts = world.log.scrub_facts();
    assert!(facts.bytes <= budget + (1 << 20) && facts.bytes >= sealed as u64, "{facts:?}");
    assert!(facts.rounds > 0 && facts.rotten == 0 && world.damage().is_empty(), "{facts:?}");
}

#[test]
fn a_slice_that_cannot_be_read_is_reported_and_the_rest_is_read() {
    let (disk, _) = World::closed();
    let mut reported = 0;
    // Whichever of the operations of a slice fails.
    for number in 0..8 {
        let mut world = World::open(disk.clone(), u64::MAX);
        let at = world.io.operations() + number;
        world.io.inject(Fault { at, kind: FaultKind::Error(EIO), lasting: false });
        world.until(|world| world.log.scrub_facts().rounds > 0);
        let damage = world.damage();
        assert!(
            damage.iter().all(|error| matches!(error, ReadError::Io(error) if error.errno == EIO)),
            "{damage:?}"
        );
        assert_eq!(world.log.scrub_facts().rotten, damage.len() as u64);
        assert!(damage.len() <= 1 && world.log.failure().is_none(), "operation {number}: {damage:?}");
        reported += damage.len();
        let (_, refused) = world.read_all();
        assert!(refused.is_empty(), "it can be read now: {refused:?}");
    }
    // A handle that cannot be closed is no damage.
    assert!((4..8).contains(&reported), "{reported} of 8");
}

#[test]
fn a_log_without_a_budget_or_without_sealed_segments_is_left_in_peace() {
    let (disk, _) = World::closed();
    let mut world = World::open(disk, 0);
    for _ in 0..100 {
        world.turn();
    }
    assert_eq!(world.log.scrub_facts(), highwater_engine::ScrubFacts::default());
    assert_eq!(world.io.in_flight(), 0);
}

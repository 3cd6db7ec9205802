//! A log against a naive model: random appends, reads, cuts, restarts, with every limit tiny.

use std::collections::BTreeMap;

use highwater_base::{LeaderEpoch, Limits, Mono, Now, Offset, Prng, ProducerEpoch, ProducerId, Uuid, WallMs};
use highwater_engine::batch::{BatchBuilder, Batches, Codec, set_base_offset, set_leader_epoch};
use highwater_engine::{
    AppendError, Durability, Fetched, Log, LogEvent, LogSettings, Lookup, OpenHint, Origin, Read, ReadError,
    ReadId, TimestampOffset,
};
use highwater_io::{Io, MemoryIo};

const DIR: &str = "/model-0";

fn settings(durability: Durability) -> LogSettings {
    LogSettings {
        durability,
        segment_bytes: 24 << 10,
        index_interval_bytes: 1000,
        retention_ms: None,
        checkpoint_ms: 20,
        retention_check_ms: 50,
        file_delete_delay_ms: 30,
        limits: Limits::TINY,
        ..LogSettings::default()
    }
}

/// What the log should hold: batches by first offset.
#[derive(Default)]
struct Model {
    batches: BTreeMap<i64, (i64, Vec<u8>, i64)>,
    start: i64,
    end: i64,
}

impl Model {
    fn expected(&self, from: i64, upto: i64, max_bytes: usize) -> (Vec<u8>, i64) {
        let first = self.batches.range(..=from).next_back().map_or(0, |(first, _)| *first);
        let (mut bytes, mut next) = (Vec::new(), from);
        for (last, batch, _) in self.batches.range(first..).map(|(_, batch)| batch) {
            if *last < from {
                continue;
            }
            if *last >= upto || (!bytes.is_empty() && bytes.len() + batch.len() > max_bytes) {
                break;
            }
            bytes.extend_from_slice(batch);
            next = last + 1;
        }
        (bytes, next)
    }

    fn cut(&mut self, to: i64) {
        let keep =
            self.batches.iter().find(|(_, (last, ..))| *last >= to).map_or(self.end, |(first, _)| *first);
        self.batches.split_off(&keep);
        self.end = keep.min(self.end);
    }
}

struct World {
    io: MemoryIo,
    log: Log,
    model: Model,
    prng: Prng,
    now: Now,
    epoch: i32,
    sequences: [i32; 3],
    settings: LogSettings,
    done: BTreeMap<ReadId, Result<Fetched, ReadError>>,
    found: BTreeMap<ReadId, Option<TimestampOffset>>,
    events: Vec<LogEvent>,
}

impl World {
    fn new(seed: u64) -> World {
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_700_000_000_000) };
        let durability = match seed % 3 {
            0 => Durability::Each,
            1 => Durability::Os,
            _ => Durability::Interval { bytes: 10_000, messages: 50, ms: 30 },
        };
        let settings = settings(durability);
        let log = Log::create(now, DIR.as_ref(), 7, settings, Uuid::from_halves(1, 2));
        let mut world = World {
            io: MemoryIo::new(),
            log,
            model: Model::default(),
            prng: Prng::new(seed),
            now,
            epoch: 0,
            sequences: [0; 3],
            settings,
            done: BTreeMap::new(),
            found: BTreeMap::new(),
            events: Vec::new(),
        };
        world.until(|event| matches!(event, LogEvent::Ready));
        world
    }

    fn turn(&mut self) {
        self.now.mono = self.now.mono.plus(std::time::Duration::from_millis(1));
        self.now.wall = WallMs::new(self.now.wall.get() + 1);
        self.log.step(self.now, &mut self.io);
        let mut completions = Vec::new();
        self.io.reap(&mut completions);
        for completion in completions {
            self.log.complete(self.now, completion, &mut self.io);
        }
        self.log.invariants();
        while let Some(event) = self.log.poll_event() {
            match event {
                LogEvent::ReadDone { id, result } => {
                    self.done.insert(id, result);
                }
                LogEvent::LookupDone { id, result } => {
                    self.found.insert(id, result.unwrap());
                }
                LogEvent::Failed(failure) => panic!("{failure}"),
                event => self.events.push(event),
            }
        }
    }

    fn until(&mut self, wanted: fn(&LogEvent) -> bool) -> LogEvent {
        for _ in 0..10_000 {
            if let Some(position) = self.events.iter().position(wanted) {
                return self.events.swap_remove(position);
            }
            self.turn();
        }
        panic!("the event never came: {:?}", self.log);
    }

    fn wait<T>(&mut self, mut done: impl FnMut(&mut World) -> Option<T>) -> T {
        for _ in 0..1000 {
            if let Some(result) = done(self) {
                return result;
            }
            self.turn();
        }
        panic!("no answer: {:?}", self.log);
    }

    fn append(&mut self) {
        let count = 1 + self.prng.below(4);
        let mut builder = BatchBuilder::new();
        if self.prng.one_in(4) {
            builder = builder.codec(Codec::Lz4);
        }
        let producer = self.prng.below(3) as usize;
        let idempotent = self.prng.one_in(2);
        if idempotent {
            let sequence = self.sequences[producer];
            builder =
                builder.producer(ProducerId::new(100 + producer as i64), ProducerEpoch::new(0), sequence);
        }
        let mut largest = 0;
        for _ in 0..count {
            let len = match self.prng.below(20) {
                0 => 5500,
                1..=4 => 2000,
                _ => self.prng.below(300),
            };
            let mut value = vec![0; len as usize];
            self.prng.fill(&mut value);
            let time = self.now.wall.get() - self.prng.below(500) as i64;
            largest = largest.max(time);
            builder = builder.record(time, None, Some(&value));
        }
        let batch = builder.build();
        let origin = Origin::Client { leader_epoch: LeaderEpoch::new(self.epoch) };
        match self.log.append(self.now, &batch, origin) {
            Ok(appended) => {
                assert!(!appended.duplicate);
                assert_eq!(appended.first.get(), self.model.end);
                let mut stored = batch.clone();
                set_base_offset(&mut stored, appended.first);
                set_leader_epoch(&mut stored, LeaderEpoch::new(self.epoch));
                self.model.batches.insert(appended.first.get(), (appended.last.get(), stored, largest));
                self.model.end = appended.end.get();
                if idempotent {
                    self.sequences[producer] += count as i32;
                    if self.prng.one_in(3) {
                        match self.log.append(self.now, &batch, origin) {
                            Ok(again) => {
                                assert!(again.duplicate);
                                assert_eq!((again.first, again.end), (appended.first, appended.end));
                            }
                            Err(error) => {
                                assert!(matches!(error, AppendError::Backpressure { .. }), "{error}")
                            }
                        }
                    }
                }
                if self.prng.one_in(3) {
                    self.log.want_synced(appended.end);
                }
            }
            Err(AppendError::Backpressure { .. }) => self.turn(),
            Err(error) => panic!("{error}"),
        }
    }

    fn read(&mut self) {
        let (start, end) = (self.model.start, self.model.end);
        let from = start + self.prng.below((end - start + 1) as u64) as i64;
        let upto = from + self.prng.below((end - from + 1) as u64) as i64;
        let max_bytes = self.prng.below(20_000) as usize;
        self.read_exactly(from, upto, max_bytes);
    }

    fn read_exactly(&mut self, from: i64, upto: i64, max_bytes: usize) -> i64 {
        let asked = self.log.read(self.now, Offset::new(from), Offset::new(upto), max_bytes).unwrap();
        let fetched = match asked {
            Read::Ready(fetched) => fetched,
            Read::Pending(id) => {
                self.wait(|world| world.done.remove(&id)).unwrap_or_else(|error| panic!("{error}"))
            }
        };
        // A read may end early (at a segment's end), but gives a prefix, and at least one batch if there is one.
        let (expected, _) = self.model.expected(from, upto, usize::MAX);
        let (least, _) = self.model.expected(from, upto, 0);
        let got = fetched.to_vec();
        assert!(expected.starts_with(&got), "read {from}..{upto}, {} bytes", got.len());
        assert!(
            got.len() >= least.len(),
            "read {from}..{upto}: {} bytes, {} expected",
            got.len(),
            least.len()
        );
        assert!(got.len() <= max_bytes.max(least.len()));
        let mut next = from;
        for batch in Batches::in_memory(&got) {
            next = batch.unwrap().last_offset().get() + 1;
        }
        assert_eq!(fetched.next.get(), next);
        next
    }

    fn read_all(&mut self) {
        let mut from = self.model.start;
        while from < self.model.end {
            let next = self.read_exactly(from, self.model.end, 6000);
            assert!(next > from, "no progress at {from}");
            from = next;
        }
    }

    fn lookup(&mut self) {
        let Some((_, (_, _, largest))) = self.model.batches.iter().next_back() else { return };
        let at = largest - self.prng.below(2000) as i64;
        let asked = self.log.lookup_time(self.now, WallMs::new(at)).unwrap();
        let found = match asked {
            Lookup::Ready(found) => found,
            Lookup::Pending(id) => self.wait(|world| world.found.remove(&id)),
        };
        let expected = self.first_at(at);
        assert_eq!(found.map(|found| (found.timestamp.get(), found.offset.get())), expected, "time {at}");
    }

    fn first_at(&self, at: i64) -> Option<(i64, i64)> {
        for (_, bytes, _) in self.model.batches.values() {
            let mut records = highwater_engine::batch::RecordStream::new(bytes, 1 << 20).unwrap();
            let header = highwater_engine::batch::Header::decode(bytes).unwrap();
            while let Some(record) = records.next().unwrap() {
                let (time, offset) = (record.timestamp(header).get(), record.offset(header).get());
                if time >= at && offset >= self.model.start {
                    return Some((time, offset));
                }
            }
        }
        None
    }

    fn truncate(&mut self) {
        let low = self.model.start;
        let to = low + self.prng.below((self.model.end - low + 1) as u64) as i64;
        self.log.truncate(Offset::new(to));
        let LogEvent::Truncated { log_end } = self.until(|event| matches!(event, LogEvent::Truncated { .. }))
        else {
            unreachable!()
        };
        self.model.cut(to);
        assert_eq!(log_end.get(), self.model.end);
        self.model.start = self.model.start.min(self.model.end);
        self.after_cut();
    }

    /// Which sequences the producers are at, by what is left.
    fn after_cut(&mut self) {
        self.sequences = [0; 3];
        for (_, bytes, _) in self.model.batches.values() {
            let header = highwater_engine::batch::Header::decode(bytes).unwrap();
            if header.producer_id().is_some() {
                self.sequences[(header.producer_id().get() - 100) as usize] = header.last_sequence() + 1;
            }
        }
        self.epoch += 1;
        for (producer, expected) in self.sequences.iter().enumerate() {
            let known = self.log.producers().get(ProducerId::new(100 + producer as i64));
            let known = known.map_or(0, |entry| entry.last_sequence() + 1);
            assert_eq!(known, *expected, "producer {producer} of {:?}", self.log);
        }
    }

    fn trim(&mut self) {
        let (start, end) = (self.model.start, self.model.end);
        let to = start + self.prng.below((end - start + 1) as u64 / 2 + 1) as i64;
        self.log.set_high_watermark(self.log.log_end());
        self.log.trim(Offset::new(to));
        self.model.start = self.model.start.max(to);
        assert_eq!(self.log.log_start().get(), self.model.start);
    }

    fn close_and_open(&mut self) {
        self.log.close();
        self.until(|event| matches!(event, LogEvent::Closed));
        self.open(true);
        assert_eq!(self.log.log_end().get(), self.model.end);
        assert_eq!(self.log.log_start().get(), self.model.start);
    }

    fn kill_and_open(&mut self) {
        let written = self.log.written_end();
        while self.io.in_flight() > 0 {
            self.io.reap(&mut Vec::new());
        }
        self.open(false);
        let end = self.log.log_end();
        assert!(end >= written, "{end} is left of {written} written");
        self.model.cut(end.get());
        assert_eq!(self.model.end, end.get());
        // A start that was not announced may be lost; the log never begins later than it was told.
        assert!(self.log.log_start().get() <= self.model.start);
        self.log.trim(Offset::new(self.model.start.min(self.model.end)));
        self.model.start = self.log.log_start().get();
        self.after_cut();
    }

    fn open(&mut self, clean: bool) {
        let hint = OpenHint { clean_stop: clean, ..OpenHint::default() };
        let opened = Log::open(&mut self.io, self.now, DIR.as_ref(), 7, self.settings, hint);
        let (log, report) = opened.unwrap_or_else(|error| panic!("{error}"));
        for finding in &report.findings {
            assert!(!clean, "a clean stop left {finding:?}");
        }
        self.log = log;
        self.events.clear();
        self.done.clear();
        self.found.clear();
    }

    fn settle(&mut self) {
        self.log.want_synced(self.log.log_end());
        for _ in 0..100_000 {
            if self.log.synced_end() == self.log.log_end() {
                return;
            }
            self.turn();
        }
        panic!("never synced: {:?}", self.log);
    }
}

fn run(seed: u64, steps: usize) {
    let mut world = World::new(seed);
    for _ in 0..steps {
        match world.prng.below(100) {
            0..=54 => world.append(),
            55..=74 => world.turn(),
            75..=87 => world.read(),
            88..=90 => world.lookup(),
            91..=92 => world.settle(),
            93 => world.read_all(),
            94..=95 => world.truncate(),
            96 => world.trim(),
            97..=98 => world.close_and_open(),
            _ => world.kill_and_open(),
        }
    }
    world.settle();
    world.read_all();
    world.close_and_open();
    world.read_all();
}

#[test]
fn a_log_agrees_with_its_model() {
    for seed in 0..60 {
        println!("seed {seed}");
        run(seed, 400);
    }
}

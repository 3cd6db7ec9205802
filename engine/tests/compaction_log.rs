//! Passes of compaction beside everything else that a log does: readers, cuts, stops, restarts, a device that fails.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_base::{LeaderEpoch, Limits, Mono, Now, Offset, Prng, Uuid, WallMs};
use highwater_engine::batch::{BatchBuilder, BatchError, Batches, RecordStream};
use highwater_engine::compact::CompactionSettings;
use highwater_engine::{
    AppendError, Cleaner, CleanerSettings, Engine, EngineConfig, Log, LogEvent, LogSettings, MemoryDisk,
    OpenHint, Origin, Read,
};
use highwater_io::{Io, MemoryIo, Op, Outcome, blocking};

const DIR: &str = "/compacted-0";
const START_MS: i64 = 1_700_000_000_000;
const KEYS: u64 = 20;

struct World {
    io: MemoryIo,
    log: Log,
    now: Now,
    rng: Prng,
    /// The last offset of each key.
    state: BTreeMap<u64, i64>,
}

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 8 << 10,
        retention_ms: None,
        retention_check_ms: 1000,
        file_delete_delay_ms: 100,
        checkpoint_ms: 20,
        compaction: Some(CompactionSettings { min_dirty_ratio: 0.3, ..CompactionSettings::default() }),
        limits: Limits::TINY,
        ..LogSettings::default()
    }
}

impl World {
    fn new(settings: LogSettings) -> World {
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(START_MS) };
        let log = Log::create(now, DIR.as_ref(), 3, settings, Uuid::from_halves(5, 6));
        let mut world = World { io: MemoryIo::new(), log, now, rng: Prng::new(1), state: BTreeMap::new() };
        world.until(|event| matches!(event, LogEvent::Ready));
        world
    }

    /// One with enough in it, and its checkpoint behind it.
    fn filled(settings: LogSettings) -> World {
        let mut world = World::new(settings);
        world.fill(120);
        world
    }

    fn turn(&mut self) -> Vec<LogEvent> {
        self.now.mono = self.now.mono.plus(Duration::from_millis(1));
        self.now.wall = WallMs::new(self.now.wall.get() + 1);
        self.log.step(self.now, &mut self.io);
        let mut completions = Vec::new();
        self.io.reap(&mut completions);
        for completion in completions {
            self.log.complete(self.now, completion, &mut self.io);
        }
        std::iter::from_fn(|| self.log.poll_event()).collect()
    }

    fn until(&mut self, wanted: impl Fn(&LogEvent) -> bool) {
        for _ in 0..50_000 {
            if self.turn().iter().any(&wanted) {
                return;
            }
        }
        panic!("the event never came: {:?}", self.log);
    }

    fn pass_time(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn();
        }
    }

    fn append(&mut self) {
        let (key, len) = (self.rng.below(KEYS), self.rng.below(600) as usize);
        let name = format!("key-{key}");
        let batch = BatchBuilder::new()
            .record(self.now.wall.get(), Some(name.as_bytes()), Some(&vec![7; len]))
            .build();
        let origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };
        let appended = self.log.append(self.now, &batch, origin).unwrap();
        self.state.insert(key, appended.first.get());
        self.until(|event| matches!(event, LogEvent::Synced(synced) if *synced >= appended.end));
        self.log.set_high_watermark(appended.end);
    }

    fn fill(&mut self, appends: usize) {
        for _ in 0..appends {
            self.append();
        }
        self.pass_time(60);
    }

    fn begin(&mut self) {
        assert!(self.log.compact(self.now, 1 << 20, u64::MAX), "there is something to do");
    }

    fn compacted(&mut self) {
        self.until(|event| matches!(event, LogEvent::Compacted { .. }));
    }

    fn read(&mut self, from: i64, max_bytes: usize) -> (Vec<u8>, i64) {
        let end = self.log.log_end();
        let id = match self.log.read(self.now, Offset::new(from), end, max_bytes).unwrap() {
            Read::Ready(fetched) => return (fetched.to_vec(), fetched.next.get()),
            Read::Pending(id) => id,
        };
        for _ in 0..50_000 {
            for event in self.turn() {
                if let LogEvent::ReadDone { id: done, result } = event
                    && done == id
                {
                    let fetched = result.unwrap();
                    return (fetched.to_vec(), fetched.next.get());
                }
            }
        }
        panic!("a read was never answered");
    }

    /// The last offset of each key, by reading everything in small pieces.
    fn look(&mut self, max_bytes: usize) -> BTreeMap<u64, i64> {
        let (mut state, mut from) = (BTreeMap::new(), self.log.log_start().get());
        while from < self.log.log_end().get() {
            let (bytes, next) = self.read(from, max_bytes);
            assert!(next > from, "nothing at {from}");
            let mut last = from - 1;
            for batch in Batches::in_memory(&bytes) {
                let batch = batch.unwrap();
                let header = batch.header().unwrap();
                assert!(batch.crc_matches() && header.last_offset().get() > last, "disorder behind {last}");
                last = header.last_offset().get();
                let mut records = RecordStream::new(batch.bytes(), 1 << 20).unwrap();
                while let Some(record) = records.next().unwrap() {
                    let name = String::from_utf8_lossy(record.key.unwrap()).into_owned();
                    let key = name.strip_prefix("key-").unwrap().parse().unwrap();
                    state.insert(key, record.offset(header).get());
                }
            }
            from = next;
        }
        state
    }

    fn names(&mut self) -> Vec<String> {
        let entries = blocking::run(&mut self.io, Op::ReadDir { path: DIR.into() }).unwrap();
        let Outcome::Entries { entries } = entries else { unreachable!() };
        entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
    }

    /// Nothing that a pass makes is left.
    fn is_tidy(&mut self) -> bool {
        self.names().iter().all(|name| !name.ends_with(".cleaned") && !name.ends_with(".swap"))
    }
}

#[test]
fn a_compacted_log_refuses_records_without_a_key() {
    let mut world = World::new(settings());
    let batch = BatchBuilder::new().record(START_MS, None, Some(b"v")).build();
    let origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };
    let refused = world.log.append(world.now, &batch, origin).unwrap_err();
    assert!(
        matches!(&refused, AppendError::Batch(error @ BatchError::MissingKey(_)) if error.kafka_code() == 87)
    );
}

#[test]
fn a_pass_leaves_the_latest_of_each_key_and_gives_the_space_back() {
    let mut world = World::filled(settings());
    let (before, segments) = (world.log.size_bytes(), world.log.segment_count());
    let dirty = world.log.dirty(world.now).unwrap();
    assert!(dirty.ratio() == 1.0 && dirty.is_due(0.3));
    world.begin();
    assert!(world.log.dirty(world.now).is_none(), "one pass at a time");
    world.compacted();
    assert_eq!(world.log.cleaned_to(), dirty.upto);
    assert!(world.log.size_bytes() < before / 2, "{before} bytes became {}", world.log.size_bytes());
    assert_eq!(world.log.segment_count(), segments, "full segments are not put together");
    let after = world.log.dirty(world.now).unwrap();
    assert_eq!(after.dirty_bytes, 0);
    assert_eq!(world.look(700), world.state);
    assert!(world.is_tidy());
    world.pass_time(300);
    assert!(world.names().iter().all(|name| !name.ends_with(".deleted")), "{:?}", world.names());
    world.fill(120);
    let segments = world.log.segment_count();
    world.begin();
    world.compacted();
    assert!(world.log.segment_count() < segments, "small ones are");
    assert_eq!(world.look(5000), world.state);
}

#[test]
fn readers_go_on_across_every_swap() {
    let mut world = World::filled(LogSettings { file_delete_delay_ms: 0, ..settings() });
    for round in 0..4 {
        world.begin();
        let mut looks = 0;
        while world.log.is_compacting() {
            // Each read may begin before a swap and end behind it.
            assert_eq!(world.look(300 + round * 400), world.state);
            looks += 1;
        }
        assert!(looks > 0);
        world.pass_time(20);
        assert_eq!(world.look(300), world.state);
        world.fill(60);
    }
}

#[test]
fn appends_go_on_while_a_pass_runs() {
    let mut world = World::filled(settings());
    world.begin();
    let mut during = 0;
    while world.log.is_compacting() {
        world.append();
        during += 1;
    }
    assert!(during > 5, "only {during} appends");
    assert_eq!(world.look(2000), world.state);
}

#[test]
fn a_pass_is_given_up_for_a_cut_a_stop_and_a_deletion() {
    for turns in [0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 80] {
        let mut world = World::filled(settings());
        world.begin();
        world.pass_time(turns);
        let to = world.log.log_end().plus(-3);
        world.log.truncate(to);
        world.until(|event| matches!(event, LogEvent::Truncated { .. }));
        assert!(!world.log.is_compacting() && world.is_tidy(), "{:?}", world.names());
        world.pass_time(60);
        let cut = world.look(3000);
        assert!(cut.iter().all(|(key, offset)| world.state[key] == *offset || world.state[key] >= to.get()));
        world.state = cut;
        world.fill(40);
        world.begin();
        world.pass_time(turns);
        world.log.close();
        world.until(|event| matches!(event, LogEvent::Closed));
        assert!(world.is_tidy(), "{:?}", world.names());
        let hint = OpenHint { clean_stop: true, ..OpenHint::default() };
        world.log = Log::open(&mut world.io, world.now, DIR.as_ref(), 3, settings(), hint).unwrap().0;
        let end = world.log.log_end();
        world.log.set_high_watermark(end);
        world.pass_time(60);
        assert_eq!(world.look(3000), world.state);
        world.begin();
        world.pass_time(turns);
        world.log.delete();
        world.until(|event| matches!(event, LogEvent::Removed));
    }
}

#[test]
fn a_restart_goes_on_where_the_checkpoint_file_says() {
    let mut world = World::filled(settings());
    world.begin();
    world.compacted();
    let cleaned_to = world.log.cleaned_to();
    world.log.close();
    world.until(|event| matches!(event, LogEvent::Closed));
    for (told, dirty) in [(Some(cleaned_to), 0), (None, world.log.size_bytes()), (Some(Offset::new(9999)), 1)]
    {
        let hint = OpenHint { clean_stop: true, cleaned_to: told, ..OpenHint::default() };
        let log = Log::open(&mut world.io, world.now, DIR.as_ref(), 3, settings(), hint).unwrap().0;
        let end = log.log_end();
        world.log = log;
        world.log.set_high_watermark(end);
        let found = world.log.dirty(world.now).unwrap().dirty_bytes;
        assert!(found.min(dirty) == dirty.min(1) || found > 0 && dirty > 0, "told {told:?}: {found}");
        assert_eq!(world.look(900), world.state);
        world.log.close();
        world.until(|event| matches!(event, LogEvent::Closed));
    }
}

#[test]
fn a_pass_takes_as_long_as_its_rate_says() {
    let mut world = World::filled(settings());
    let (bytes, from) = (world.log.size_bytes(), world.now.mono);
    assert!(world.log.compact(world.now, 1 << 20, 10_000));
    world.compacted();
    // Everything is read twice.
    let least = Duration::from_millis((bytes - (8 << 10)) * 2 / 10);
    assert!(world.now.mono.since(from) >= least, "{bytes} bytes in {:?}", world.now.mono.since(from));
    assert_eq!(world.look(900), world.state);
}

#[test]
fn the_cleaner_takes_the_dirtiest_log_and_one_at_a_time() {
    let mut worlds = [World::filled(settings()), World::filled(settings())];
    worlds[0].begin();
    worlds[0].compacted();
    worlds[0].fill(60);
    let now = worlds.iter().map(|world| world.now).max_by_key(|now| now.mono).unwrap();
    let mut cleaner = Cleaner::new(now, CleanerSettings::default());
    assert_eq!(cleaner.drive(now, &mut worlds.iter_mut().map(|world| &mut world.log)), None, "not due yet");
    let later = Now { mono: cleaner.deadline().unwrap(), ..now };
    assert!(cleaner.drive(later, &mut worlds.iter_mut().map(|world| &mut world.log)).is_some());
    assert!(!worlds[0].log.is_compacting() && worlds[1].log.is_compacting());
    let next = Now { mono: cleaner.deadline().unwrap(), ..now };
    assert_eq!(cleaner.drive(next, &mut worlds.iter_mut().map(|world| &mut world.log)), None);
    worlds[1].now = next;
    worlds[1].compacted();
    let off = CleanerSettings { enabled: false, ..CleanerSettings::default() };
    assert_eq!(Cleaner::new(now, off).deadline(), None);
}

#[test]
fn an_engine_compacts_when_asked_and_remembers_how_far() {
    let disk = MemoryDisk::new();
    let settings = LogSettings { segment_bytes: 4096, ..settings() };
    let config = || EngineConfig::at("data").in_memory(disk.clone()).settings(settings);
    let engine = Engine::open(config()).unwrap();
    let log = engine.log("accounts").unwrap();
    let mut appended = 0;
    let mut compacted = Offset::ZERO;
    while compacted < Offset::new(50) && appended < 10_000 {
        let value = vec![7; 100];
        log.append(BatchBuilder::new().record(START_MS, Some(b"account"), Some(&value)).build()).unwrap();
        appended += 1;
        compacted = log.compact().unwrap();
    }
    let fetched = log.read(Offset::ZERO, 1 << 20).unwrap();
    let first = Batches::in_memory(&fetched.to_vec()).next().unwrap().unwrap().stored_offset();
    assert!(compacted >= Offset::new(50) && first > Offset::ZERO, "{compacted}, {first}");
    engine.close().unwrap();
    let engine = Engine::open(config()).unwrap();
    assert!(engine.log("accounts").unwrap().compact().unwrap() >= compacted);
    engine.close().unwrap();
}

//! A log from its creation to its removal: retention, clean stop, deletion, rest.

use highwater_base::{LeaderEpoch, Limits, Mono, Now, Offset, ProducerEpoch, ProducerId, Uuid, WallMs};
use highwater_engine::batch::{
    BatchBuilder, BatchError, Batches, Codec, Header, Marker, RecordStream, marker_batch,
};
use highwater_engine::{
    AppendError, Busy, Durability, Log, LogEvent, LogSettings, OpenHint, Origin, Read, ReadError,
};
use highwater_io::{Io, MemoryIo, Op, Outcome, blocking};

const DIR: &str = "/life-0";
const START_MS: i64 = 1_700_000_000_000;

struct World {
    io: MemoryIo,
    log: Log,
    now: Now,
}

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 8 << 10,
        retention_ms: None,
        retention_check_ms: 1000,
        file_delete_delay_ms: 100,
        checkpoint_ms: 50,
        limits: Limits::TINY,
        ..LogSettings::default()
    }
}

impl World {
    fn new(settings: LogSettings) -> World {
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(START_MS) };
        let log = Log::create(now, DIR.as_ref(), 3, settings, Uuid::from_halves(5, 6));
        let mut world = World { io: MemoryIo::new(), log, now };
        world.until(|event| matches!(event, LogEvent::Ready));
        world
    }

    /// Lets time pass and everything that is due happen; gives the events.
    fn turn(&mut self) -> Vec<LogEvent> {
        self.now.mono = self.now.mono.plus(std::time::Duration::from_millis(5));
        self.now.wall = WallMs::new(self.now.wall.get() + 5);
        self.log.step(self.now, &mut self.io);
        let mut completions = Vec::new();
        self.io.reap(&mut completions);
        for completion in completions {
            self.log.complete(self.now, completion, &mut self.io);
        }
        std::iter::from_fn(|| self.log.poll_event()).collect()
    }

    fn until(&mut self, wanted: impl Fn(&LogEvent) -> bool) {
        for _ in 0..20_000 {
            if self.turn().iter().any(&wanted) {
                return;
            }
        }
        panic!("the event never came: {:?}", self.log);
    }

    fn pass(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn();
        }
    }

    fn append(&mut self, len: usize) -> Offset {
        let batch = BatchBuilder::new().record(self.now.wall.get(), None, Some(&vec![7; len])).build();
        let origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };
        let end = self.log.append(self.now, &batch, origin).unwrap().end;
        self.until(|event| matches!(event, LogEvent::Synced(synced) if *synced >= end));
        end
    }

    fn names(&mut self) -> Vec<String> {
        let Outcome::Entries { entries } =
            blocking::run(&mut self.io, Op::ReadDir { path: DIR.into() }).unwrap()
        else {
            unreachable!()
        };
        let mut names: Vec<String> =
            entries.into_iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn old_segments_go_once_the_log_start_that_gives_them_up_is_durable() {
    let mut world = World::new(LogSettings { retention_bytes: Some(20 << 10), ..settings() });
    for _ in 0..20 {
        world.append(3000);
    }
    assert!(world.log.size_bytes() > 50 << 10);
    world.log.set_high_watermark(world.log.log_end());
    world.until(|event| matches!(event, LogEvent::Trimmed { .. }));
    let start = world.log.log_start();
    assert!(start > Offset::ZERO);
    world.pass(200);
    let size = world.log.size_bytes();
    assert!((20 << 10..40 << 10).contains(&size), "{size} bytes are kept");
    assert!(world.names().iter().all(|name| !name.ends_with(".deleted")), "{:?}", world.names());
    let gone = world.log.read(world.now, Offset::ZERO, Offset::MAX, 1000).unwrap_err();
    assert!(matches!(gone, ReadError::OutOfRange { log_start, .. } if log_start == start));
}

/// `compression.type` of a topic: what comes with another codec is packed anew, and nothing else of it changes.
#[test]
fn batches_are_stored_with_the_codec_that_the_log_has() {
    let records = |bytes: &[u8]| {
        let mut stream = RecordStream::new(bytes, 1 << 20).unwrap();
        std::iter::from_fn(|| stream.next().unwrap().map(|record| format!("{record:?}"))).collect::<Vec<_>>()
    };
    for (wanted, stored) in [(None, [0, 1, 4]), (Some(Codec::None), [0; 3]), (Some(Codec::Gzip), [1; 3])] {
        let mut world = World::new(LogSettings { compression: wanted, segment_bytes: 1 << 20, ..settings() });
        let (epoch, id, producer_epoch) = (LeaderEpoch::ZERO, ProducerId::new(5), ProducerEpoch::new(0));
        let mut sent = Vec::new();
        for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
            let batch = BatchBuilder::new().codec(codec).producer(id, producer_epoch, 2 * sent.len() as i32);
            let batch =
                batch.record(START_MS, Some(b"k"), Some(&[7; 900])).record(START_MS + 1, None, None).build();
            let appended =
                world.log.append(world.now, &batch, Origin::Client { leader_epoch: epoch }).unwrap();
            assert_eq!(appended.first.get(), 2 * sent.len() as i64);
            sent.push(batch);
        }
        let marker = marker_batch(Marker::Abort, id, producer_epoch, 1, world.now.wall);
        world.log.append(world.now, &marker, Origin::Coordinator { leader_epoch: epoch }).unwrap();
        let Ok(Read::Ready(fetched)) = world.log.read(world.now, Offset::ZERO, Offset::MAX, 1 << 20) else {
            panic!("it is in the tail")
        };
        let bytes: Vec<u8> = fetched.data.iter().flat_map(|slice| slice.iter().copied()).collect();
        let found: Vec<_> = Batches::in_memory(&bytes).map(Result::unwrap).collect();
        assert_eq!(found.len(), 4);
        for (i, batch) in found[..3].iter().enumerate() {
            assert!(batch.crc_matches());
            assert_eq!(batch.attributes().codec(), Codec::from_bits(stored[i]), "{wanted:?}, batch {i}");
            assert_eq!(records(batch.bytes()), records(&sent[i]));
            assert_eq!(Header::decode(batch.bytes()).unwrap().base_sequence(), 2 * i as i32);
        }
        assert!(found[3].attributes().is_control());
        assert_eq!(found[3].attributes().codec(), Some(Codec::None));
    }
}

/// The read before ended where its segment does, and rests there.
#[test]
fn a_read_goes_on_with_the_next_segment_though_its_last_one_went() {
    let mut world = World::new(settings());
    for _ in 0..14 {
        world.append(3000);
    }
    let read = |world: &mut World, from: i64| {
        let asked = world.log.read(world.now, Offset::new(from), Offset::MAX, 1).expect("it is there");
        assert!(matches!(asked, Read::Pending(_)), "from the disk");
        for _ in 0..1000 {
            for event in world.turn() {
                if let LogEvent::ReadDone { result, .. } = event {
                    return result.expect("it can be read").next.get();
                }
            }
        }
        panic!("the read is never answered");
    };
    // Two batches are in each segment.
    assert_eq!((read(&mut world, 0), read(&mut world, 1)), (1, 2));
    world.log.set_high_watermark(world.log.log_end());
    world.log.trim(Offset::new(2));
    world.pass(100);
    assert!(
        !world.names().iter().any(|name| name.starts_with("00000000000000000000.log")),
        "{:?}",
        world.names()
    );
    assert!(world.names().iter().any(|name| name == "00000000000000000002.log"), "{:?}", world.names());
    assert_eq!(read(&mut world, 2), 3);
}

#[test]
fn nothing_above_the_high_watermark_goes() {
    let mut world = World::new(LogSettings { retention_bytes: Some(0), ..settings() });
    for _ in 0..10 {
        world.append(3000);
    }
    world.pass(1000);
    assert_eq!(world.log.log_start(), Offset::ZERO);
    assert!(matches!(world.log.read(world.now, Offset::ZERO, Offset::MAX, 1), Ok(Read::Pending(_))));
}

#[test]
fn a_clean_stop_leaves_only_what_kafka_s_loader_knows_or_passes_over() {
    let mut world = World::new(settings());
    let mut end = Offset::ZERO;
    for _ in 0..7 {
        end = world.append(3000);
    }
    world.log.close();
    world.until(|event| matches!(event, LogEvent::Closed));
    let refused = world.log.append(world.now, &[], Origin::Replica { leader_epoch: LeaderEpoch::ZERO });
    assert_eq!(refused, Err(AppendError::Busy(Busy::Closing)));
    let names = world.names();
    assert!(!names.iter().any(|name| name.ends_with(".tmp") || name == "next.prepared"), "{names:?}");
    assert!(names.contains(&format!("{:020}.snapshot", end.get())), "{names:?}");
    let hint = OpenHint { clean_stop: true, ..OpenHint::default() };
    let (log, report) = Log::open(&mut world.io, world.now, DIR.as_ref(), 3, settings(), hint).unwrap();
    assert!(report.is_clean() && report.scanned_bytes <= 8 << 10, "{report:?}");
    assert_eq!((log.log_end(), log.topic_id()), (end, Some(Uuid::from_halves(5, 6))));
    let other = OpenHint { topic_id: Some(Uuid::from_halves(9, 9)), ..hint };
    assert!(Log::open(&mut world.io, world.now, DIR.as_ref(), 3, settings(), other).is_err());
}

#[test]
fn a_deleted_log_frees_its_name_and_then_its_space() {
    let mut world = World::new(settings());
    for _ in 0..5 {
        world.append(3000);
    }
    world.log.delete();
    world.until(|event| matches!(event, LogEvent::Deleted));
    assert!(blocking_stat(&mut world, DIR.into()).is_err());
    let renamed = world.log.dir().to_path_buf();
    assert!(renamed.to_string_lossy().ends_with("-delete"));
    world.until(|event| matches!(event, LogEvent::Removed));
    assert!(blocking_stat(&mut world, renamed).is_err());
    assert_eq!(world.io.in_flight(), 0);
}

fn blocking_stat(world: &mut World, path: std::path::PathBuf) -> Result<Outcome, highwater_io::IoError> {
    while world.io.in_flight() > 0 {
        let mut completions = Vec::new();
        world.io.reap(&mut completions);
        for completion in completions {
            world.log.complete(world.now, completion, &mut world.io);
        }
    }
    blocking::run(&mut world.io, Op::Stat { path })
}

#[test]
fn an_idle_log_asks_for_no_more_steps_and_wakes_again() {
    let mut world = World::new(LogSettings { durability: Durability::Os, ..settings() });
    let batch = BatchBuilder::new().record(START_MS, None, Some(b"v")).build();
    let origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };
    world.log.append(world.now, &batch, origin).unwrap();
    assert!(world.log.needs_step());
    world.pass(4000);
    assert!(!world.log.needs_step());
    assert_eq!(world.log.synced_end(), Offset::new(1), "a checkpoint syncs a slow log");
    world.log.append(world.now, &batch, origin).unwrap();
    world.until(|event| matches!(event, LogEvent::Written(end) if end.get() == 2));
    let Read::Ready(fetched) = world.log.read(world.now, Offset::new(1), Offset::MAX, 1000).unwrap() else {
        panic!("the tail has it");
    };
    assert_eq!(fetched.next, Offset::new(2));
}

#[test]
fn a_batch_refused_for_its_checksum_leaves_nothing_behind() {
    let mut world = World::new(settings());
    world.append(900);
    world.pass(100);
    let origin = Origin::Client { leader_epoch: LeaderEpoch::new(4) };
    let (end, names) = (world.log.log_end(), world.names());
    // Of every size: in one chunk of the tail and over several, with and without a roll.
    for (len, segment_kib) in [(10, 8), (3000, 8), (7100, 8), (9000, 64), (20_000, 64), (30_000, 64)] {
        let good = BatchBuilder::new().record(world.now.wall.get(), None, Some(&vec![9; len])).build();
        let last = good.len() - 1;
        let mut bad = good.clone();
        bad[last] ^= 1;
        world.log.update_settings(LogSettings { segment_bytes: segment_kib << 10, ..settings() });
        let refused = world.log.append(world.now, &bad, origin).unwrap_err();
        assert!(matches!(refused, AppendError::Batch(BatchError::Checksum { .. })), "{refused}");
        assert_eq!((world.log.log_end(), world.log.latest_epoch()), (end, LeaderEpoch::ZERO));
    }
    world.pass(50);
    assert_eq!(world.names(), names);
    // What is appended next is what is read.
    let next = BatchBuilder::new().record(world.now.wall.get(), None, Some(&[5; 12_000])).build();
    let appended = world.log.append(world.now, &next, origin).unwrap();
    assert_eq!(appended.first, end);
    world.until(|event| matches!(event, LogEvent::Synced(synced) if *synced >= appended.end));
    let Read::Ready(fetched) = world.log.read(world.now, end, appended.end, 1 << 20).unwrap() else {
        panic!("it is in the tail")
    };
    let bytes: Vec<u8> = fetched.data.iter().flat_map(|slice| slice.iter().copied()).collect();
    assert_eq!(bytes[16..], next[16..]);
}

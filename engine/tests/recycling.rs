//! Deleted segments are used again: which, how many, within what space, and which are never touched.
#![allow(clippy::disallowed_methods, reason = "a backup is made beside the log, by somebody else")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_base::{LeaderEpoch, Limits, Mono, Now, Offset, Uuid, WallMs};
use highwater_engine::batch::BatchBuilder;
use highwater_engine::compact::CompactionSettings;
use highwater_engine::{Durability, Log, LogEvent, LogSettings, Origin, RecycleSpace};
use highwater_io::{IoChoice, MemoryDisk, MemoryIo, Op, Outcome, Park, blocking, production};

const ORIGIN: Origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };
const SEGMENT: u64 = 64 << 10;

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: SEGMENT,
        retention_bytes: Some(2 * SEGMENT),
        retention_check_ms: 10,
        file_delete_delay_ms: 0,
        limits: Limits::TINY,
        ..LogSettings::default()
    }
}

struct Rig<'a> {
    io: &'a mut dyn Park,
    log: Log,
    now: Now,
}

impl<'a> Rig<'a> {
    fn new(io: &'a mut dyn Park, dir: &Path, settings: LogSettings) -> Rig<'a> {
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_767_225_600_000) };
        let log = Log::create(now, dir, 1, settings, Uuid::ZERO);
        let mut rig = Rig { io, log, now };
        rig.until(Log::is_ready);
        rig
    }

    fn turn(&mut self) {
        self.log.step(self.now, &mut *self.io);
        let mut done = Vec::new();
        if !self.log.needs_step() {
            self.io.park(Some(Duration::from_millis(1)), &mut done);
        }
        self.io.reap(&mut done);
        for completion in done {
            self.log.complete(self.now, completion, &mut *self.io);
        }
        while let Some(event) = self.log.poll_event() {
            assert!(!matches!(event, LogEvent::Failed(_)), "{event:?}");
        }
    }

    fn until(&mut self, done: impl Fn(&Log) -> bool) {
        for _ in 0..100_000 {
            if done(&self.log) {
                return;
            }
            self.turn();
            self.pass(1);
        }
        panic!("it never came");
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus(Duration::from_millis(ms));
        self.turn();
    }

    /// Appends a batch of some 4 KiB and waits until it is durable.
    fn append(&mut self) {
        let batch = BatchBuilder::new().record(1_767_225_600_000, Some(b"k"), Some(&[7; 4000])).build();
        let end = self.log.append(self.now, &batch, ORIGIN).expect("it takes appends").end;
        self.log.want_synced(end);
        self.until(|log| log.synced_end() == end);
        self.log.set_high_watermark(end);
    }

    /// Appends so many segments' worth.
    fn segments(&mut self, count: u64) {
        let until = self.log.size_bytes() + count * SEGMENT;
        let mut appended = self.log.size_bytes();
        while appended < until {
            self.append();
            appended += 4096;
        }
    }
}

fn names(io: &mut dyn Park, dir: &str) -> Vec<String> {
    let Ok(Outcome::Entries { entries }) = blocking::run(io, Op::ReadDir { path: dir.into() }) else {
        panic!("no directory {dir}")
    };
    entries.into_iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect()
}

#[test]
fn under_size_retention_a_synced_log_lives_in_its_own_deleted_segments() {
    let mut io = MemoryIo::new();
    let mut rig = Rig::new(&mut io, Path::new("/t-0"), settings());
    let space = RecycleSpace::default();
    rig.log.share_recycle_space(&space);
    rig.segments(12);
    let recycled = rig.log.segments_recycled();
    println!("figure: segments_recycled recycled={recycled} of=12");
    assert!(recycled >= 6, "{recycled} segments were recycled");
    // One at most is kept, and what waits is no longer than a segment.
    assert!(space.held() <= SEGMENT, "{} bytes are held", space.held());
    // Nobody uses it any more: what is kept ready is what any log keeps ready.
    rig.pass(11_000);
    (0..50).for_each(|_| rig.pass(20));
    assert_eq!(space.held(), 0);
    rig.append();
    rig.segments(4);
    assert!(rig.log.segments_recycled() > recycled, "in use again, it recycles again");
    rig.log.close();
    (0..50).for_each(|_| rig.pass(1));
    drop(rig);
    assert_eq!(space.held(), 0, "a log that is gone holds nothing");
    let left = names(&mut io, "/t-0");
    assert!(left.iter().all(|name| name != "next.prepared" && !name.ends_with(".deleted")), "{left:?}");
}

#[test]
fn logs_that_write_no_zeros_or_are_compacted_or_lack_room_recycle_nothing() {
    let compaction = Some(CompactionSettings::default());
    for (what, changed) in [
        ("os", LogSettings { durability: Durability::Os, ..settings() }),
        ("compacted", LogSettings { compaction, ..settings() }),
        ("low", LogSettings { min_free_bytes: 1 << 20, ..settings() }),
    ] {
        let disk = MemoryDisk::new();
        disk.set_free(2 << 20);
        let mut io = MemoryIo::on(disk.clone());
        let mut rig = Rig::new(&mut io, Path::new("/t-0"), changed);
        if what == "low" {
            rig.segments(8);
            let before = rig.log.segments_recycled();
            assert!(before > 0, "above its mark it recycles");
            disk.set_free(1000);
            rig.pass(2000);
            (0..50).for_each(|_| rig.pass(20));
            drop(rig);
            let held: u64 = ["/t-0/next.prepared"].iter().map(|path| len(&mut io, path)).sum();
            assert!(held <= Limits::TINY.prepare_min_bytes, "{held} bytes are held below the mark");
        } else {
            rig.segments(8);
            assert_eq!(rig.log.segments_recycled(), 0, "{what}");
        }
    }
}

fn len(io: &mut dyn Park, path: &str) -> u64 {
    match blocking::run(io, Op::Stat { path: path.into() }) {
        Ok(Outcome::Stat { len, .. }) => len,
        _ => 0,
    }
}

/// A backup that is made of hard links keeps its bytes.
#[test]
fn a_segment_that_has_another_name_is_never_written_or_cut() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("recycling-links");
    let _not_there = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    for choice in [IoChoice::Auto, IoChoice::Posix] {
        let log = dir.join(format!("{choice:?}-0"));
        let (mut io, _) = production(choice, 64).expect("this machine's files");
        let mut rig = Rig::new(&mut *io, &log, settings());
        rig.segments(2);
        let first = log.join("00000000000000000000.log");
        let linked = dir.join(format!("{choice:?}-backup"));
        std::fs::hard_link(&first, &linked).unwrap();
        rig.until(|log| log.segment_count() > 1);
        let before = std::fs::read(&first).unwrap();
        for _ in 0..2000 {
            if rig.log.segments_recycled() == 0 {
                rig.append();
            }
        }
        assert!(rig.log.segments_recycled() > 0, "the others are recycled");
        assert!(rig.log.log_start() > Offset::ZERO && !first.exists());
        let after = std::fs::read(&linked).unwrap();
        assert!(after[..before.len().min(after.len())] == before[..after.len().min(before.len())]);
        assert!(after.len() as u64 > SEGMENT - 8192, "the backup has {} bytes", after.len());
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

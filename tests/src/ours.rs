//! A log directory of our own on real files, for tests of the tools.

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_base::{FilePos, LeaderEpoch, Limits, Mono, Now, ProducerEpoch, ProducerId, Uuid, WallMs};
use highwater_engine::batch::{BatchBuilder, Batches, Codec};
use highwater_engine::checkpoint_file::encode_clean_shutdown;
use highwater_engine::{Checkpoint, Log, LogEvent, LogSettings, Origin};
use highwater_io::{Park, PosixIo};

/// A log directory with one log of several segments, removed when dropped.
#[derive(Debug)]
pub struct Ours {
    /// The log directory.
    pub dir: PathBuf,
    log: Log,
    io: PosixIo,
    now: Now,
    /// How many batches, of one record each.
    pub batches: usize,
}

impl Ours {
    /// What its log is told.
    pub fn settings() -> LogSettings {
        LogSettings {
            segment_bytes: 16 << 10,
            index_interval_bytes: 1000,
            retention_ms: None,
            limits: Limits::TINY,
            ..LogSettings::default()
        }
    }

    /// 220 batches of an idempotent producer, with every codec, a new leader epoch for each 50 of them.
    ///
    /// # Panics
    ///
    /// If the directory cannot be made or the log does not come that far.
    pub fn new(test: &str) -> Ours {
        let dir = std::env::temp_dir().join(format!("highwater-ours-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_767_225_600_000) };
        let log = Log::create(now, &dir.join("orders-0"), 7, Ours::settings(), Uuid::from_halves(3, 4));
        let mut ours = Ours { dir, log, io: PosixIo::new().expect("descriptors"), now, batches: 0 };
        ours.until(|event| matches!(event, LogEvent::Ready));
        for number in 0..220 {
            let batch = BatchBuilder::new()
                .codec(Codec::ALL[number % 5])
                .producer(ProducerId::new(5), ProducerEpoch::ZERO, number as i32)
                .record(now.wall.get() + number as i64, Some(b"key"), Some(&[number as u8; 300]))
                .build();
            let origin = Origin::Client { leader_epoch: LeaderEpoch::new(number as i32 / 50) };
            let end = ours.log.append(ours.now, &batch, origin).expect("appended").end;
            ours.until(|event| matches!(event, LogEvent::Synced(synced) if *synced >= end));
            ours.batches += 1;
        }
        for _ in 0..200 {
            ours.turn();
            while ours.log.poll_event().is_some() {}
        }
        ours
    }

    fn turn(&mut self) {
        self.now.mono = self.now.mono.plus(Duration::from_millis(100));
        self.log.step(self.now, &mut self.io);
        let mut completions = Vec::new();
        self.io.park(Some(Duration::ZERO), &mut completions);
        for completion in completions {
            self.log.complete(self.now, completion, &mut self.io);
        }
    }

    fn until(&mut self, wanted: impl Fn(&LogEvent) -> bool) {
        for _ in 0..100_000 {
            while let Some(event) = self.log.poll_event() {
                if wanted(&event) {
                    return;
                }
            }
            self.turn();
        }
        panic!("the log does not come that far");
    }

    /// Stops it in order, as the broker does.
    ///
    /// # Panics
    ///
    /// If it cannot be.
    pub fn stop(&mut self) {
        self.log.close();
        self.until(|event| matches!(event, LogEvent::Closed));
        let marker = self.dir.join(".kafka_cleanshutdown");
        std::fs::write(marker, encode_clean_shutdown(1)).expect("written");
    }

    /// The first segment.
    pub fn segment(&self) -> PathBuf {
        self.dir.join("orders-0/00000000000000000000.log")
    }
}

impl Ours {
    /// The partition's directory.
    pub fn partition(&self) -> PathBuf {
        self.dir.join("orders-0")
    }

    /// Says in the checkpoint that everything was proven up to batch `number` of segment `segment`, and that `reach` bytes
    /// can be in flight.
    ///
    /// # Panics
    ///
    /// If there is no such batch, or no checkpoint yet.
    pub fn prove(&self, segment: usize, number: usize, reach: u64) {
        let path = self.partition().join("highwater.checkpoint");
        let newest = Checkpoint::newest(&std::fs::read(&path).expect("a checkpoint")).expect("a valid slot");
        let bytes = std::fs::read(&self.segments()[segment]).expect("a segment");
        let all: Vec<_> = Batches::in_memory(&bytes).map_while(Result::ok).collect();
        let header = |number: usize| all[number].header().expect("magic 2");
        let checkpoint = Checkpoint {
            segment: header(0).base_offset(),
            position: FilePos::new(all[number].position() as u64),
            offset: header(number).base_offset(),
            reach,
            ..newest
        };
        let slot = checkpoint.encode();
        std::fs::write(path, [&slot[..], &slot[..]].concat()).expect("written");
    }

    /// Its segments, oldest first.
    ///
    /// # Panics
    ///
    /// If the directory cannot be read.
    pub fn segments(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.partition()).expect("a directory");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|kind| kind == "log"));
        paths.sort();
        paths
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Flips the lowest bit of a byte; the modification time stays, or is another.
///
/// # Panics
///
/// If the file has no such byte.
pub fn flip(path: &Path, at: u64, keep_time: bool) {
    let file = File::options().read(true).write(true).open(path).expect("a segment");
    let time = file.metadata().and_then(|facts| facts.modified()).expect("a time");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("written");
    let time = if keep_time { time } else { time + Duration::from_secs(5) };
    file.set_times(FileTimes::new().set_modified(time)).expect("a time");
}

//! Every bit of a 64 KiB segment and of all files beside it is flipped, one at a time; the log is opened and read back.
//! Each flip is noticed or harmless: no byte is served that was not written, and nothing goes missing in silence. A flip beside the
//! segments changes neither the leader epochs nor what was aborted.
//!
//! The plain form flips every bit of the files beside it, and one in [`SHARE`] of the segment; all of them with
//! `HIGHWATER_TEST_FULL=1`.
//!
//! `HIGHWATER_MUTANT=no_crc` leaves out the comparison of checksums, and must make this fail.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_base::{
    LeaderEpoch, Limits, Mono, Mutant, Now, Offset, Prng, ProducerEpoch, ProducerId, Uuid, WallMs,
};
use highwater_engine::batch::{BatchBuilder, Batches, Codec, Marker, marker_batch};
use highwater_engine::recovery::SLOT_BYTES;
use highwater_engine::{
    Durability, Fetched, Log, LogEvent, LogSettings, OpenHint, Origin, Preallocate, Read, ReadError,
};
use highwater_io::{Io, MemoryDisk, MemoryIo};

const DIR: &str = "/data/orders-0";
/// The segment whose every bit is flipped is as large as batches of about 300 bytes make it.
const SEGMENT: u64 = 64 << 10;
/// In the plain form one bit in so many of a segment is flipped. A prime, so that each bit of a byte has its turn.
const SHARE: usize = 23;
/// Bytes between two index entries, and what one flipped bit may cost: that and a batch on either side.
const INDEX_INTERVAL: u64 = 1 << 10;
const MOST_REFUSED: usize = 2 << 10;
const TOPIC: Uuid = Uuid::from_bytes([7; 16]);

fn mutant() -> Mutant {
    let name = std::env::var("HIGHWATER_MUTANT").unwrap_or_default();
    Mutant::named(&name).unwrap_or_else(|| panic!("HIGHWATER_MUTANT={name} is no mutant"))
}

fn is_full() -> bool {
    std::env::var("HIGHWATER_TEST_FULL").is_ok_and(|full| full == "1")
}

fn settings() -> LogSettings {
    LogSettings {
        durability: Durability::Each,
        segment_bytes: SEGMENT,
        index_interval_bytes: INDEX_INTERVAL,
        retention_ms: None,
        preallocate: Preallocate::Ahead,
        limits: Limits::TINY,
        mutant: mutant(),
        ..LogSettings::default()
    }
}

/// A log, its memory disk and the batches that it took, by first offset.
struct World {
    io: MemoryIo,
    log: Log,
    now: Now,
    written: Written,
}

/// Batches by first offset, and what the log knows beside them.
#[derive(Default)]
struct Written {
    batches: BTreeMap<i64, Vec<u8>>,
    beside: Beside,
}

#[derive(Default, PartialEq)]
struct Beside {
    epochs: Vec<(LeaderEpoch, Offset)>,
    aborted: Vec<Offset>,
}

impl Beside {
    fn of(log: &Log) -> Beside {
        let aborted = log.aborted_in(Offset::ZERO, log.log_end());
        let aborted = aborted.iter().map(|aborted| aborted.first).collect();
        Beside { epochs: log.epochs().to_vec(), aborted }
    }
}

impl World {
    fn new() -> World {
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_767_225_600_000) };
        let log = Log::create(now, DIR.as_ref(), 7, settings(), TOPIC);
        let disk = MemoryDisk::new();
        disk.put("/data/meta.properties", b"");
        let mut world = World { io: MemoryIo::on(disk), log, now, written: Written::default() };
        world.turns(50);
        world
    }

    fn turns(&mut self, n: u32) {
        for _ in 0..n {
            self.now.mono = self.now.mono.plus(Duration::from_millis(100));
            turn(&mut self.io, &mut self.log, self.now);
            while self.log.poll_event().is_some() {}
        }
    }

    fn append(&mut self, batch: &[u8], origin: Origin) {
        self.log.append(self.now, batch, origin).unwrap_or_else(|error| panic!("{error}"));
        self.turns(2);
        self.log.set_high_watermark(self.log.log_end());
    }

    /// Appends batches of every kind until there are `segments` segments.
    fn fill(&mut self, segments: usize) {
        let mut prng = Prng::new(1);
        let mut sequence = 0;
        for number in 0.. {
            let leader_epoch = LeaderEpoch::new(number / 20);
            let mut value = vec![0; 40 + prng.below(60) as usize];
            prng.fill(&mut value);
            let mut builder = BatchBuilder::new().codec(Codec::ALL[number as usize % 5]);
            let transactional = number % 7 == 5;
            if number % 3 == 0 {
                builder = builder.producer(ProducerId::new(40), ProducerEpoch::new(0), sequence);
                sequence += 2;
            } else if transactional {
                builder = builder.producer(ProducerId::new(41), ProducerEpoch::new(0), -1).transactional();
            }
            let time = self.now.wall.get() + i64::from(number);
            let batch =
                builder.record(time, Some(b"key"), Some(&value)).record(time + 1, None, Some(&value)).build();
            let origin = match transactional {
                true => Origin::Coordinator { leader_epoch },
                false => Origin::Client { leader_epoch },
            };
            self.append(&batch, origin);
            if transactional {
                let (id, epoch) = (ProducerId::new(41), ProducerEpoch::new(0));
                let marker = marker_batch(Marker::Abort, id, epoch, 1, WallMs::new(time));
                self.append(&marker, Origin::Coordinator { leader_epoch });
            }
            if self.log.segment_count() == segments {
                break;
            }
        }
        self.turns(200);
        let (batches, noticed) = read_all(&mut self.io, &mut self.log, self.now);
        assert!(!noticed, "nothing is damaged yet");
        self.written = Written { batches, beside: Beside::of(&self.log) };
        assert!(self.written.beside.epochs.len() > 2 && self.written.beside.aborted.len() > 2);
        let end = self.written.batches.last_key_value().map(|(first, batch)| first + records(batch));
        assert_eq!(end, Some(self.log.log_end().get()));
    }
}

fn records(batch: &[u8]) -> i64 {
    let batch = Batches::in_memory(batch).next().expect("a batch").expect("a batch");
    batch.last_offset().since(batch.stored_offset()) + 1
}

fn turn(io: &mut MemoryIo, log: &mut Log, now: Now) {
    log.step(now, io);
    let mut completions = Vec::new();
    io.reap(&mut completions);
    for completion in completions {
        log.complete(now, completion, io);
    }
}

/// Waits for a pending read.
fn wait(io: &mut MemoryIo, log: &mut Log, now: Now) -> Result<Fetched, ReadError> {
    for _ in 0..1000 {
        turn(io, log, now);
        while let Some(event) = log.poll_event() {
            if let LogEvent::ReadDone { result, .. } = event {
                return result;
            }
        }
    }
    panic!("a read does not end");
}

/// Every batch that the log serves, by the first offset it has, and whether it refused any.
fn read_all(io: &mut MemoryIo, log: &mut Log, now: Now) -> (BTreeMap<i64, Vec<u8>>, bool) {
    let mut batches = BTreeMap::new();
    let mut noticed = false;
    let mut from = log.log_start();
    while from < log.log_end() {
        let read = match log.read(now, from, log.log_end(), 64 << 10) {
            Ok(Read::Ready(fetched)) => Ok(fetched),
            Ok(Read::Pending(_)) => wait(io, log, now),
            Err(error) => Err(error),
        };
        match read {
            Ok(fetched) => {
                for batch in Batches::in_memory(&fetched.to_vec()) {
                    let batch = batch.expect("whole batches are served");
                    batches.insert(batch.stored_offset().get(), batch.bytes().to_vec());
                }
                assert!(fetched.next > from, "a read at {from} does not move on");
                from = fetched.next;
            }
            Err(ReadError::Damaged { until, .. }) => {
                noticed = true;
                from = until.max(from.plus(1));
            }
            Err(error) => panic!("a read at {from}: {error}"),
        }
    }
    (batches, noticed)
}

#[derive(Default)]
struct Tally {
    bits: u64,
    wrong: Vec<String>,
    silent: Vec<String>,
    panics: Vec<String>,
    /// For a bit of a segment, an index, a seal or a snapshot more is refused than what lies around it.
    excess: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.bits += other.bits;
        self.wrong.extend(other.wrong);
        self.silent.extend(other.silent);
        self.panics.extend(other.panics);
        self.excess.extend(other.excess);
    }
}

/// Every bit of every file of the log's directory, on as many threads as there are cores.
fn flip_all(disk: &MemoryDisk, written: &Written, now: Now) -> Tally {
    let mut flips = Vec::new();
    for path in disk.paths().into_iter().filter(|path| path.starts_with(DIR)) {
        if let Some(good) = disk.contents(&path) {
            let segment = path.extension().is_some_and(|extension| extension == "log");
            let share = if segment && !is_full() { SHARE } else { 1 };
            let bits = flipped_bits(&path, &good).into_iter().step_by(share);
            flips.extend(bits.map(|bit| (path.clone(), bit)));
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let parts = flips.chunks(flips.len().div_ceil(threads));
        let parts: Vec<_> = parts.map(|part| scope.spawn(|| flip(disk, part, written, now))).collect();
        for part in parts {
            tally.add(part.join().expect("panics are caught inside"));
        }
    });
    tally
}

fn flip(disk: &MemoryDisk, flips: &[(PathBuf, usize)], written: &Written, now: Now) -> Tally {
    let mut tally = Tally::default();
    for (path, bit) in flips {
        let at = || format!("{} bit {bit}", path.display());
        let disk = disk.fork();
        let mut bytes = disk.contents(path).expect("the file is there");
        bytes[bit / 8] ^= 1 << (bit % 8);
        disk.put(path, &bytes);
        tally.bits += 1;
        let Ok((served, noticed, beside)) = catch_unwind(AssertUnwindSafe(|| open_and_read(disk, now)))
        else {
            tally.panics.push(at());
            continue;
        };
        let segment = path.extension().is_some_and(|extension| extension == "log");
        let batches = &written.batches;
        if served.iter().any(|(first, batch)| batches.get(first) != Some(batch))
            || (!segment && beside.is_some_and(|beside| beside != written.beside))
        {
            tally.wrong.push(at());
        } else if !noticed && served.len() != batches.len() {
            tally.silent.push(at());
        } else if path.to_string_lossy().contains("/00000000") && size(batches) - size(&served) > MOST_REFUSED
        {
            tally.excess.push(at());
        }
    }
    tally
}

fn size(batches: &BTreeMap<i64, Vec<u8>>) -> usize {
    batches.values().map(Vec::len).sum()
}

/// All of a file's bits; of zeros behind what was written only the first 64 bytes', as they are all alike.
fn flipped_bits(path: &Path, bytes: &[u8]) -> Vec<usize> {
    let until = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1) + 64;
    let written = |at: usize, bytes: &[u8]| at * 8..(at + until(bytes).min(bytes.len())) * 8;
    if path.ends_with("highwater.checkpoint") {
        return bytes
            .chunks(SLOT_BYTES)
            .enumerate()
            .flat_map(|(i, slot)| written(i * SLOT_BYTES, slot))
            .collect();
    }
    match path.extension().is_some_and(|extension| extension == "log" || extension == "prepared") {
        true => written(0, bytes).collect(),
        false => (0..bytes.len() * 8).collect(),
    }
}

fn open_and_read(disk: MemoryDisk, now: Now) -> (BTreeMap<i64, Vec<u8>>, bool, Option<Beside>) {
    let mut io = MemoryIo::on(disk);
    match Log::open(&mut io, now, DIR.as_ref(), 7, settings(), OpenHint::default()) {
        // Refused as a whole, with a reason: noticed.
        Err(_) => (BTreeMap::new(), true, None),
        Ok((mut log, report)) => {
            let (batches, noticed) = read_all(&mut io, &mut log, now);
            (batches, noticed || !report.is_clean(), Some(Beside::of(&log)))
        }
    }
}

#[test]
fn flip_every_bit() {
    // A sealed segment of 64 KiB and a younger one, left as a kill leaves them.
    let mut world = World::new();
    world.fill(2);
    let disk = world.io.disk().fork();
    let there = |name: &str| disk.contents(Path::new(DIR).join(name)).unwrap_or_default().len();
    let sealed = there("00000000000000000000.log");
    assert!((63 << 10..=64 << 10).contains(&sealed), "{sealed} bytes");
    for kind in ["index", "timeindex", "txnindex", "seal"] {
        assert!(there(&format!("00000000000000000000.{kind}")) > 0, "{kind}");
    }
    for name in ["highwater.checkpoint", "leader-epoch-checkpoint", "partition.metadata"] {
        assert!(there(name) > 0, "{name}");
    }
    let is_snapshot = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "snapshot");
    assert!(disk.paths().iter().any(is_snapshot), "no snapshot");
    std::panic::set_hook(Box::new(|_| {}));
    let tally = flip_all(&disk, &world.written, world.now);
    let _ = std::panic::take_hook();

    let tallies = [&tally.wrong, &tally.panics, &tally.silent, &tally.excess];
    for (what, places) in ["wrong", "panic", "silent", "excess"].into_iter().zip(tallies) {
        println!("{what}: {}", places.len());
        for place in places.iter().take(20) {
            println!("{what}: {place}");
        }
    }
    println!(
        "figure: flip_every_bit bits={} wrong_bytes_served={} panics={} full={}",
        tally.bits,
        tally.wrong.len(),
        tally.panics.len(),
        if is_full() { "yes" } else { "no" }
    );
    assert_eq!(tallies.map(Vec::len), [0; 4]);
}

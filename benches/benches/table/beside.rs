//! Appends at a fixed rate beside a reader of what is not in memory (row 13), and beside compaction of the same log.

use std::time::{Duration, Instant};

use highwater_base::{Now, Offset};
use highwater_benches::driver::{Beside, Driver, Load, Nothing, batch};
use highwater_benches::row::{Better, Row, median};
use highwater_benches::scratch::Scratch;
use highwater_engine::batch::BatchBuilder;
use highwater_engine::compact::CompactionSettings;
use highwater_engine::{CleanerSettings, Durability, Log, LogEvent, LogSettings, Preallocate, Read, ReadId};

use super::tails::{WARM_UP, at, described, promise, stood_still};
use super::{row, settings};

/// Bytes a second.
const RATE: u64 = 50_000_000;
const TIME: Duration = Duration::from_secs(2);
/// Of a read.
const READ: usize = 1 << 20;

/// Reads a log from its start up to an offset, and again, as fast as it can.
struct ColdReader {
    next: Offset,
    upto: Offset,
    waits: Option<ReadId>,
    bytes: u64,
}

impl ColdReader {
    fn take(&mut self, fetched: &highwater_engine::Fetched) {
        self.bytes += fetched.data.iter().map(|slice| slice.len() as u64).sum::<u64>();
        self.next = if fetched.next < self.upto { fetched.next } else { Offset::ZERO };
    }
}

impl Beside for ColdReader {
    fn drive(&mut self, now: Now, log: &mut Log) {
        if self.waits.is_none() {
            match log.read(now, self.next, self.upto, READ).expect("a read") {
                Read::Ready(fetched) => self.take(&fetched),
                Read::Pending(id) => self.waits = Some(id),
            }
        }
    }

    fn hear(&mut self, event: &LogEvent) {
        if let LogEvent::ReadDone { id, result } = event
            && self.waits == Some(*id)
        {
            self.waits = None;
            self.take(result.as_ref().expect("a read"));
        }
    }

    fn is_over(&self) -> bool {
        true
    }
}

/// E19.
pub(super) fn cold_reader(rounds: u64, total: u64, rows: &mut Vec<Row>) {
    for durability in [Durability::Os, Durability::Each] {
        beside_cold_reader(durability, rounds, total, rows);
    }
}

fn beside_cold_reader(durability: Durability, rounds: u64, total: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("cold-reader");
    let (large, bytes) = (batch(64 << 10, 1024), batch(16 << 10, 1024));
    let load = Load::of(&bytes, RATE, TIME);
    let mut ratios = Vec::new();
    for round in 0..=rounds {
        let name = dir.join("log-0");
        let mut driver = Driver::new(&name, settings(durability, Preallocate::Ahead, 1 << 30));
        driver.append_relaxed(&large, total);
        driver.settle();
        let upto = driver.log().log_end();
        let without = driver.append_open_loop(&load, &mut Nothing);
        let mut reader = ColdReader { next: Offset::ZERO, upto, waits: None, bytes: 0 };
        let run = driver.append_open_loop(&load, &mut reader);
        let counts = !stood_still(&[&without, &run]) && round > 0;
        let (without, with) = (without.latencies(|sample| sample.due >= WARM_UP), run.latencies(|_| true));
        println!(
            "round {round}: {durability:?}, beside a reader of {} MB/s: {}; without: {}",
            (reader.bytes as f64 / 1e6 / run.wall.as_secs_f64()) as u64,
            described(&with),
            described(&without)
        );
        assert!(reader.bytes > 0, "nothing was read");
        if counts {
            ratios.push(at(&with, 0.99) / at(&without, 0.99));
        }
        drop(driver);
        std::fs::remove_dir_all(&name).expect("removing the log");
    }
    let what = format!("p99 of appends ({}) at 50 MB/s beside a cold reader", promise(durability));
    rows.push(row("13", what, "without it", median(ratios), Better::Lower, 1.5, 1.2));
}

/// Compacts a log up to an offset, in as many passes as it takes.
struct Compacting {
    upto: Offset,
    passes: u64,
    over: bool,
}

impl Beside for Compacting {
    fn drive(&mut self, now: Now, log: &mut Log) {
        log.set_high_watermark(log.synced_end());
        if self.over || log.is_compacting() {
            return;
        }
        self.over = log.cleaned_to() >= self.upto;
        if !self.over {
            let CleanerSettings { memory_bytes, bytes_per_second, .. } = CleanerSettings::default();
            assert!(log.compact(now, memory_bytes, bytes_per_second), "there is nothing to compact");
            self.passes += 1;
        }
    }

    fn hear(&mut self, _event: &LogEvent) {}

    fn is_over(&self) -> bool {
        self.over
    }
}

/// Bytes of a record with a key of 8 bytes.
const VALUE: usize = 85;
const RECORD: u64 = 107;
const BATCH: usize = 63 << 10;

/// So many bytes: every key once, then every tenth again. Gives the number of keys.
fn fill(driver: &mut Driver, total: u64) -> u64 {
    let keys = total / RECORD * 10 / 11;
    let (value, mut builder) = ([b'v'; VALUE], BatchBuilder::new());
    for key in (0..keys).chain((0..keys).step_by(10)) {
        builder.push(1_700_000_000_000, Some(&key.to_be_bytes()), Some(&value), &[]);
        if builder.size() >= BATCH {
            let bytes = std::mem::take(&mut builder).build();
            driver.append_unwaited(&bytes, bytes.len() as u64);
        }
    }
    driver.sync();
    keys
}

/// Beside compaction: goal of the performance notes, without a number of its own.
pub(super) fn compaction(rounds: u64, total: u64, rows: &mut Vec<Row>) {
    for durability in [Durability::Os, Durability::Each] {
        beside_compaction(durability, rounds, total, rows);
    }
}

fn beside_compaction(durability: Durability, rounds: u64, total: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("compaction");
    let compaction = Some(CompactionSettings { min_dirty_ratio: 0.0, ..CompactionSettings::default() });
    let usual = LogSettings {
        compaction,
        file_delete_delay_ms: 0,
        ..settings(durability, Preallocate::Ahead, 64 << 20)
    };
    let mut keyed = BatchBuilder::new();
    for _ in 0..15 {
        keyed.push(1_700_000_000_000, Some(b"one key"), Some(&[b'v'; 1024]), &[]);
    }
    let bytes = keyed.build();
    let load = Load::of(&bytes, RATE, 2 * TIME);
    let mut ratios = Vec::new();
    for round in 0..=rounds {
        let name = dir.join("log-0");
        let mut driver = Driver::new(&name, usual);
        let keys = fill(&mut driver, total);
        let upto = driver.log().log_end();
        let without = driver.append_open_loop(&load, &mut Nothing);
        // All that was filled in is sealed, and behind the checkpoint.
        driver.turn_until(|now, log| {
            log.set_high_watermark(log.synced_end());
            log.dirty(now).is_some_and(|dirty| dirty.upto >= upto)
        });
        let size = driver.log().size_bytes();
        let mut compacting = Compacting { upto, passes: 0, over: false };
        let start = Instant::now();
        let with = driver.append_open_loop(&Load { time: Duration::ZERO, ..load }, &mut compacting);
        let took = start.elapsed().as_secs_f64();
        let counts = !stood_still(&[&without, &with]) && round > 0;
        let (without, with) = (without.latencies(|sample| sample.due >= WARM_UP), with.latencies(|_| true));
        println!(
            "round {round}: {durability:?}, beside compaction of {} MB with {keys} keys in {} passes, {took:.1} s: {}; \
             without: {}",
            size / 1_000_000,
            compacting.passes,
            described(&with),
            described(&without)
        );
        if counts {
            ratios.push(at(&with, 0.99) / at(&without, 0.99));
        }
        drop(driver);
        std::fs::remove_dir_all(&name).expect("removing the log");
    }
    let what = format!(
        "p99 of appends ({}) at 50 MB/s beside compaction of {} MiB",
        promise(durability),
        total >> 20
    );
    rows.push(row("-", what, "without it", median(ratios), Better::Lower, 1.5, 1.5));
}

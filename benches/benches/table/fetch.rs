//! Reads and recovery: rows 7, 8 and 9.

use std::path::{Path, PathBuf};

use highwater_benches::driver::{Driver, batch};
use highwater_benches::row::{Better, Row, median};
use highwater_benches::{raw, scratch::Scratch};
use highwater_engine::batch::crc32c;
use highwater_engine::{Durability, LogSettings, Preallocate};

use super::{row, settings};

const SLICE: usize = 64 << 10;
const READ: usize = 1 << 20;
/// Less than the tail keeps.
const HOT: u64 = 4 << 20;

/// Rows 7, 8 and 9.
pub(super) fn rows(rounds: u64, total: u64, rows: &mut Vec<Row>) {
    hot(rounds, total, rows);
    cold_and_recovery(rounds, total, rows);
}

fn hot(rounds: u64, total: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("hot");
    let bytes = batch(16 << 10, 1024);
    let cached = dir.join("cached");
    raw::growing(&cached, SLICE, HOT);
    let mut driver = Driver::new(&dir.join("log-0"), settings(Durability::Os, Preallocate::Ahead, 64 << 20));
    driver.append_relaxed(&bytes, 2 * HOT);
    let count = total / SLICE as u64;
    let mut ratios = Vec::new();
    for round in 0..=rounds {
        let control = raw::cached_read(&cached, SLICE, HOT, total);
        let mut read = 0;
        // Sixteen records of 1 KiB in a batch of 16 KiB.
        let engine = raw::timed(total, || read = driver.read_hot((HOT >> 10) as i64 / 2, SLICE, count));
        let rate = read as f64 / 1e9 / engine.wall.as_secs_f64();
        println!("round {round}: hot fetch {rate:.0} GB/s; pread {:.1} GB/s", control.rate());
        if round > 0 {
            ratios.push(rate / control.rate());
        }
    }
    rows.push(row(
        "7",
        "hot fetch, slices of 64 KiB",
        "pread from the page cache",
        median(ratios),
        Better::Higher,
        2.0,
        10.0,
    ));
}

/// The only segment of a log.
fn only_segment(dir: &Path) -> PathBuf {
    dir.join("00000000000000000000.log")
}

/// A log of `total` bytes in one segment, left as by a process that died.
fn left_behind(dir: &Path, settings: LogSettings, total: u64) {
    let mut driver = Driver::new(dir, settings);
    driver.append_relaxed(&batch(SLICE, 1024), total);
    driver.settle();
}

fn cold_and_recovery(rounds: u64, total: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("cold");
    let usual = settings(Durability::Os, Preallocate::Ahead, 2 * total);
    // Without a checkpoint everything is read.
    let mut blind = usual;
    blind.limits.checkpoint_bytes = u64::MAX;
    let (mut cold, mut per_byte, mut share) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (log, unmarked) = (dir.join("log-0"), dir.join("log-1"));
        left_behind(&log, usual, total);
        left_behind(&unmarked, blind, total);
        let nothing: raw::Check<'_> = &|bytes| {
            std::hint::black_box(bytes);
        };
        let check: raw::Check<'_> = &|bytes| {
            for piece in bytes.chunks(SLICE) {
                std::hint::black_box(crc32c(piece));
            }
        };
        // A virtual machine's host keeps what was read last: each is read once before it counts.
        for left in [&log, &unmarked] {
            raw::direct_read(&only_segment(left), READ, 8, total, nothing);
        }
        let plain = raw::direct_read(&only_segment(&log), READ, 8, total, nothing);
        let (mut driver, _, report) = Driver::open(&log, usual);
        let mut read = 0;
        let engine = raw::timed(total, || read = driver.read_through(READ));
        assert!(read >= total, "{read} of {total} bytes were read");
        let checked = raw::direct_read(&only_segment(&unmarked), READ, 8, total, check);
        let (_, took, whole) = Driver::open(&unmarked, blind);
        let recovery = took.as_secs_f64() / (whole.scanned_bytes as f64 / 1e9);
        let scanned = report.scanned_bytes as f64 / read as f64;
        println!(
            "round {round}: cold fetch {:.2} GB/s, direct read {:.2} GB/s; recovery {recovery:.2} s/GB of {:.2} scanned, \
             read + CRC {:.2} s/GB; {scanned:.4} of a log is scanned",
            engine.rate(),
            plain.rate(),
            whole.scanned_bytes as f64 / 1e9,
            1.0 / checked.rate()
        );
        if round > 0 {
            cold.push(engine.rate() / plain.rate());
            per_byte.push(recovery * checked.rate());
            share.push(scanned);
        }
        drop(driver);
        for log in [log, unmarked] {
            std::fs::remove_dir_all(&log).expect("removing the log");
        }
    }
    let against = "O_DIRECT read, depth 8";
    rows.push(row("8", "cold sequential fetch", against, median(cold), Better::Higher, 0.8, 0.95));
    rows.push(row(
        "9",
        "recovery, time per GB scanned",
        "O_DIRECT read + CRC",
        median(per_byte),
        Better::Lower,
        1.3,
        1.1,
    ));
    rows.push(row("9", "bytes scanned", "bytes of the log", median(share), Better::Lower, 0.1, 0.02));
}

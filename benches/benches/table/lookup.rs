//! What is read of the device: for one offset looked up (E11), and at a start of logs that a process left when it died (E13).

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use highwater_base::{Offset, Prng};
use highwater_benches::counted::{Counted, Reads};
use highwater_benches::driver::{Driver, batch};
use highwater_benches::fleet::Fleet;
use highwater_benches::raw;
use highwater_benches::row::{Better, Row};
use highwater_benches::scratch::Scratch;
use highwater_engine::{Durability, Preallocate};
use highwater_io::{IoChoice, production};

use super::{number, row, settings};

const FETCH: usize = 4 << 10;
const LOOKUPS: u64 = 20_000;

/// E11.
pub(super) fn rows(_rounds: u64, total: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("lookup");
    let bytes = batch(FETCH, 900);
    let name = dir.join("log-0");
    let settings = settings(Durability::Os, Preallocate::Ahead, (total / 4).max(1 << 20));
    let mut driver = Driver::new(&name, settings);
    driver.append_relaxed(&bytes, total);
    driver.settle();
    drop(driver);
    let reads = Reads::default();
    let (io, _) = production(IoChoice::Auto, settings.limits.ring_entries).expect("an Io");
    let (mut driver, ..) = Driver::open_on(Box::new(Counted::new(io, reads.clone())), &name, settings);
    let end = driver.log().log_end();
    // Not what is in memory.
    let below = end.get() as u64 / 10 * 9;
    let mut prng = Prng::new(7);
    let mut offsets = || Offset::new(prng.below(below) as i64);
    let (counted, before) = (reads.so_far(), FromDevice::of(dir.path()));
    let mut latencies = raw::histogram();
    for _ in 0..LOOKUPS {
        let (start, from) = (Instant::now(), offsets());
        let fetched = driver.fetch(from, end, FETCH);
        latencies.record(start.elapsed().as_nanos() as u64).expect("within a minute");
        assert!(fetched.next > from, "nothing was found at {from}");
    }
    let (counted, device) = (reads.so_far() - counted, FromDevice::of(dir.path()).since(before));
    let per_lookup = counted as f64 / LOOKUPS as f64;
    let control = raw::random_reads(&name.join("00000000000000000000.log"), FETCH, LOOKUPS / 4);
    println!(
        "{LOOKUPS} lookups in {} segments, {} MiB: {per_lookup:.3} reads each, {:.0} bytes of this process, {:.3} reads of \
         the device by all processes; p50 {:.0} p99 {:.0} us; O_DIRECT read of 4 KiB: p50 {:.0} p99 {:.0} us",
        driver.log().segment_count(),
        total >> 20,
        device.bytes as f64 / LOOKUPS as f64,
        device.reads as f64 / LOOKUPS as f64,
        latencies.value_at_quantile(0.5) as f64 / 1000.0,
        latencies.value_at_quantile(0.99) as f64 / 1000.0,
        control.value_at_quantile(0.5) as f64 / 1000.0,
        control.value_at_quantile(0.99) as f64 / 1000.0,
    );
    let what = "reads of the device, the index's among them";
    rows.push(row("E11", what, "random offsets, 4 KiB fetched cold", per_lookup, Better::Lower, 2.0, 1.0));
}

/// What came from devices so far.
#[derive(Clone, Copy)]
struct FromDevice {
    /// To this process (`/proc/self/io`).
    bytes: u64,
    /// Requests of the device of a directory, whoever made them; 0 if the system does not say.
    reads: u64,
}

impl FromDevice {
    fn of(dir: &Path) -> FromDevice {
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let bytes = io.lines().find_map(|line| line.strip_prefix("read_bytes: "));
        let device = std::fs::metadata(dir).expect("the directory").dev();
        let (major, minor) = (libc::major(device), libc::minor(device));
        let stat =
            std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).unwrap_or_default();
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
        FromDevice { bytes: number(bytes), reads: number(stat.split_whitespace().next()) }
    }

    fn since(self, before: FromDevice) -> FromDevice {
        FromDevice { bytes: self.bytes - before.bytes, reads: self.reads - before.reads }
    }
}

const LOGS: usize = 16;

/// E13. `HIGHWATER_BENCH_RECOVERY_MB` (default 10,240) sets the size of all logs together.
pub(super) fn recovery(_rounds: u64, _total: u64, rows: &mut Vec<Row>) {
    let total = number("HIGHWATER_BENCH_RECOVERY_MB", 10_240) << 20;
    let dir = Scratch::new("recovery");
    let bytes = batch(64 << 10, 1024);
    for durability in [Durability::Os, Durability::Each] {
        let settings = settings(durability, Preallocate::Ahead, 1 << 30);
        let name = dir.join("logs");
        let mut fleet = Fleet::new(&name, LOGS, settings);
        let start = Instant::now();
        fleet.append_round_robin(&bytes, total);
        let took = start.elapsed().as_secs_f64();
        // As a process that is killed: nothing is synced, marked or closed.
        drop(fleet);
        let (mut scanned, mut size, mut recovery) = (0, 0, 0.0);
        for i in 0..LOGS {
            let (mut driver, took, report) = Driver::open(&name.join(format!("log-{i}")), settings);
            scanned += report.scanned_bytes;
            size += driver.log().size_bytes();
            recovery += took.as_secs_f64();
        }
        println!(
            "{durability:?}: {LOGS} logs of together {} MiB, written at {:.0} MB/s: {} MiB scanned in {recovery:.2} s",
            size >> 20,
            size as f64 / 1e6 / took,
            scanned >> 20
        );
        let what = format!(
            "bytes scanned at recovery, {LOGS} logs ({}) of together {} MiB",
            super::tails::promise(durability),
            size >> 20
        );
        let share = scanned as f64 / size as f64;
        rows.push(row("E13", what, "bytes of the logs", share, Better::Lower, 0.1, 0.02));
        std::fs::remove_dir_all(&name).expect("removing the logs");
    }
}

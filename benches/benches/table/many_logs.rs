//! Ten thousand logs: rows 10 (opening them), 11 (memory) and 12 (appending to them).
//!
//! `HIGHWATER_BENCH_LOGS` (default 10,000) sets how many.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use highwater_benches::driver::batch;
use highwater_benches::fleet::Fleet;
use highwater_benches::row::{Better, Row, median};
use highwater_benches::scratch::Scratch;
use highwater_engine::{Durability, Engine, EngineConfig, LogSettings, Preallocate};

use super::{number, row, settings};

/// With this argument and a directory the program opens the logs there and says how much memory it has.
pub(super) const IDLE: &str = "--resident-of-idle-logs";
/// Logs that the memory of many is compared with.
const FEW: u64 = 10;

/// Rows 10 to 12.
pub(super) fn rows(rounds: u64, total: u64, rows: &mut Vec<Row>) {
    let logs = number("HIGHWATER_BENCH_LOGS", 10_000);
    let (many, few) = (Scratch::new("many-logs"), Scratch::new("few-logs"));
    fill(many.path(), logs);
    fill(few.path(), FEW);
    opening(rounds, many.path(), rows);
    memory(many.path(), few.path(), logs, rows);
    drop((many, few));
    appending(rounds, total, logs, rows);
}

fn config(dir: &Path) -> EngineConfig {
    EngineConfig::at(dir).settings(LogSettings { durability: Durability::Os, ..LogSettings::default() })
}

/// Makes so many logs with a batch in each, and stops.
fn fill(dir: &Path, logs: u64) {
    let start = Instant::now();
    let engine = Engine::open(config(dir)).expect("an engine");
    let bytes = batch(1024, 940);
    for number in 0..logs {
        let log = engine.log(&format!("log-{number:05}")).expect("a log");
        log.append(bytes.clone()).expect("an append");
    }
    let made = start.elapsed();
    engine.close().expect("a clean stop");
    let stopped = start.elapsed() - made;
    println!("{logs} logs made in {:.1} s, stopped in {:.1} s", made.as_secs_f64(), stopped.as_secs_f64());
}

/// The raw control: every directory read, every file opened, looked at, its first block read, and closed.
fn raw_opening(dir: &Path) -> (Duration, u64) {
    let start = Instant::now();
    let (mut files, mut block) = (0, [0; 4096]);
    for entry in std::fs::read_dir(dir).expect("the directory") {
        let entry = entry.expect("an entry");
        if !entry.file_type().expect("its type").is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(entry.path()).expect("a log's directory") {
            let file = File::open(entry.expect("an entry").path()).expect("a file");
            std::hint::black_box(file.metadata().expect("its facts").len());
            std::hint::black_box(file.read_at(&mut block, 0).expect("its first block"));
            files += 1;
        }
    }
    (start.elapsed(), files)
}

fn engine_opening(dir: &Path) -> Duration {
    let start = Instant::now();
    let engine = Engine::open(config(dir)).expect("an engine");
    let took = start.elapsed();
    engine.close().expect("a clean stop");
    took
}

/// Empties the page cache, and those of names and inodes; false where that is not allowed.
fn drop_caches() -> bool {
    // SAFETY: a plain call.
    unsafe { libc::sync() };
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

fn opening(rounds: u64, dir: &Path, rows: &mut Vec<Row>) {
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    let cold_allowed = drop_caches();
    for round in 0..=rounds {
        let (raw, files) = raw_opening(dir);
        let engine = engine_opening(dir);
        println!(
            "round {round}: opening {:.3} s; raw {:.3} s ({files} files), warm",
            engine.as_secs_f64(),
            raw.as_secs_f64()
        );
        if round > 0 {
            warm.push(engine.as_secs_f64() / raw.as_secs_f64());
        }
        if cold_allowed && round > 0 {
            drop_caches();
            let (raw, _) = raw_opening(dir);
            drop_caches();
            let engine = engine_opening(dir);
            println!(
                "round {round}: opening {:.3} s; raw {:.3} s, cold",
                engine.as_secs_f64(),
                raw.as_secs_f64()
            );
            cold.push(engine.as_secs_f64() / raw.as_secs_f64());
        }
    }
    let (what, against) = ("clean open of 10,000 logs", "readdir, open, fstat, pread of their files");
    rows.push(row("10", what, against, median(warm), Better::Lower, 1.0, 0.25));
    if !cold.is_empty() {
        rows.push(row("10", "the same, cold", "the same, cold", median(cold), Better::Lower, 1.0, 0.25));
    }
}

/// Opens the logs of a directory and prints how many bytes are resident then: what a child process does.
pub(super) fn say_resident(dir: &Path) {
    let engine = Engine::open(config(dir)).expect("an engine");
    println!("{}", resident());
    engine.close().expect("a clean stop");
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kilobytes << 10
}

fn resident_of(dir: &Path) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let said = Command::new(program).arg(IDLE).arg(dir).output().expect("a child process");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).trim().parse().expect("a number of bytes")
}

fn memory(many: &Path, few: &Path, logs: u64, rows: &mut Vec<Row>) {
    let (of_many, of_few) = (resident_of(many), resident_of(few));
    let each = of_many.saturating_sub(of_few) as f64 / (logs - FEW) as f64;
    println!("resident with {logs} idle logs {of_many} bytes, with {FEW} {of_few}: {each:.0} bytes a log");
    let what = "resident memory per idle log, KiB";
    rows.push(row("11", what, "(10,000 logs less 10) / 9,990", each / 1024.0, Better::Lower, 4.0, 1.0));
}

/// Bytes appended before the clock starts, to each log and to all: more than tails may hold.
const WARM: (u64, u64) = (64 << 20, 1 << 30);

/// Megabytes a second of 4 KiB batches over so many logs in turn, until all are written.
fn appended(dir: &Scratch, logs: u64, total: u64, bytes: &[u8]) -> f64 {
    // What one log takes without beginning a new segment.
    let total = total.min(logs << 30);
    // Enough for every buffer to have been used once, and never so full that the next segment is prepared meanwhile.
    let warm = WARM.1.min(logs * WARM.0);
    let segment = ((warm + total) / logs * 3 / 2).next_multiple_of(1 << 16);
    let name = dir.join(&format!("fleet-{logs}"));
    let mut fleet = Fleet::new(&name, logs as usize, settings(Durability::Os, Preallocate::Written, segment));
    fleet.append_round_robin(bytes, warm);
    fleet.settle();
    let start = Instant::now();
    fleet.append_round_robin(bytes, total);
    let took = start.elapsed();
    fleet.sync();
    let synced = start.elapsed();
    println!(
        "{logs} logs: {:.0} MB/s until written, {:.0} MB/s until synced",
        total as f64 / 1e6 / took.as_secs_f64(),
        total as f64 / 1e6 / synced.as_secs_f64()
    );
    drop(fleet);
    std::fs::remove_dir_all(&name).expect("removing the logs");
    total as f64 / took.as_secs_f64()
}

fn appending(rounds: u64, total: u64, logs: u64, rows: &mut Vec<Row>) {
    highwater_io::raise_open_file_limit();
    let dir = Scratch::new("appending");
    let bytes = batch(4 << 10, 1024);
    let (mut thousand, mut all) = (Vec::new(), Vec::new());
    for round in 0..=rounds.min(3) {
        let [one, some, most] = [1, logs / 10, logs].map(|logs| appended(&dir, logs, total, &bytes));
        if round > 0 {
            thousand.push(some / one);
            all.push(most / one);
        }
    }
    let what = "relaxed append, 4 KiB batches over 1,000 logs in turn";
    rows.push(row("12", what, "over one log", median(thousand), Better::Higher, 0.7, 0.9));
    rows.push(row("12", "the same over 10,000 logs", "over one log", median(all), Better::Higher, 0.4, 0.7));
}

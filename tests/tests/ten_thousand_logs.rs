//! Many logs open at once take little memory: idle, as a clean stop left them; and busy, each with a batch in it.
//!
//! In full (`HIGHWATER_TEST_FULL=1`, in release): ten thousand. It needs as many file handles.

use std::path::Path;
use std::process::Command;

use highwater_engine::batch::BatchBuilder;
use highwater_engine::{Durability, Engine, EngineConfig, Limits, LogSettings, Offset};
use highwater_io::raise_open_file_limit;

/// What an idle log may take: row 11 of the storage design's table.
const IDLE_BYTES: u64 = 4 << 10;

/// What an allocator may have taken ahead of need, of all logs together: it counts where there are few.
const ALLOCATED_AHEAD: u64 = 256 << 10;

/// This process's resident memory, in bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn open(dir: &Path) -> Engine {
    let settings = LogSettings { durability: Durability::Os, ..LogSettings::default() };
    Engine::open(EngineConfig::at(dir).settings(settings)).expect("a scratch directory")
}

fn name(number: u64) -> String {
    format!("log-{number:05}")
}

fn append_to_each(engine: &Engine, logs: u64) {
    let handles: Vec<_> = (0..logs).map(|number| engine.log(&name(number)).expect("a log")).collect();
    let batch = || BatchBuilder::new().record(1_767_225_600_000, None, Some(&[b'v'; 900])).build();
    for some in handles.chunks(1000) {
        let tickets: Vec<_> = some.iter().map(|log| log.start_append(batch())).collect();
        tickets.into_iter().for_each(|ticket| _ = ticket.result().expect("appended"));
    }
}

/// With this set to a directory the test is a child process, which says how many bytes are resident with the directory's
/// logs open, idle and then busy: what memory a process had before and gave back to nobody would count for nothing.
const CHILD: &str = "HIGHWATER_TEST_MANY_LOGS";
const TEST: &str = "ten_thousand_logs_take_little_memory_idle_and_busy";

fn be_the_child(dir: &Path) {
    let logs = std::fs::read_dir(dir).expect("a directory").flatten().filter(|entry| entry.path().is_dir());
    let logs = logs.count() as u64;
    let engine = open(dir);
    let idle = resident().unwrap_or(0);
    assert!(engine.recovered().is_empty(), "every log is opened by the manifest");
    append_to_each(&engine, logs);
    let busy = resident().unwrap_or(0);
    for number in [0, logs / 2, logs - 1] {
        let log = engine.log(&name(number)).expect("a log");
        assert_eq!(log.facts().expect("facts").log_end, Offset::new(2));
    }
    println!("resident {idle} {busy}");
    // Closing takes longer than all that is looked at here.
    std::process::exit(0);
}

/// Idle and busy bytes of a process with so many logs.
fn child(dir: &Path, logs: u64) -> (u64, u64) {
    let dir = dir.join(logs.to_string());
    let engine = open(&dir);
    append_to_each(&engine, logs);
    engine.close().expect("a clean stop");
    let program = std::env::current_exe().expect("this program");
    let child = Command::new(program).args(["--exact", TEST, "--nocapture"]).env(CHILD, &dir).output();
    let output = child.expect("a child process");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find_map(|line| line.split_once("resident ").map(|(_, numbers)| numbers));
    let numbers: Vec<u64> =
        line.unwrap_or_default().split(' ').filter_map(|number| number.parse().ok()).collect();
    let [idle, busy] = numbers[..] else {
        panic!("the child said {said:?} and {}", String::from_utf8_lossy(&output.stderr));
    };
    (idle, busy)
}

#[test]
fn ten_thousand_logs_take_little_memory_idle_and_busy() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return be_the_child(dir.as_ref());
    }
    let full = std::env::var_os("HIGHWATER_TEST_FULL").is_some();
    let (few, logs) = (10, if full { 10_000 } else { 400 });
    // Each busy log has a file open.
    if raise_open_file_limit() < logs + 200 {
        return println!("skipped: no {} file handles", logs + 200);
    }
    if resident().is_none() {
        return println!("skipped: no /proc/self/status");
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("many-logs-{}", std::process::id()));
    let (of_few, of_all) = (child(&dir, few), child(&dir, logs));
    std::fs::remove_dir_all(&dir).expect("the scratch directory goes");
    let each = |all: u64, few_logs: u64| all.saturating_sub(few_logs) / (logs - few);
    let (idle, busy) = (each(of_all.0, of_few.0), each(of_all.1, of_few.1));
    println!(
        "figure: ten_thousand_logs logs={logs} idle_bytes_per_log={idle} busy_bytes_per_log={busy} full={}",
        if full { "yes" } else { "no" }
    );
    let slack = ALLOCATED_AHEAD / (logs - few);
    assert!(
        idle <= IDLE_BYTES + slack,
        "an idle log takes {idle} bytes, expected {IDLE_BYTES} + {slack} at most"
    );
    // A busy one holds its smallest chunk beside, and what is on its way.
    let most = IDLE_BYTES + 2 * Limits::PRODUCTION.small_chunk_bytes as u64;
    assert!(busy <= most, "a busy log takes {busy} bytes, expected {most} at most");
}

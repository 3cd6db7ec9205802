//! A log with more keys than the memory for them holds is compacted in several passes, within that memory.
//!
//! In full (`HIGHWATER_TEST_FULL=1`, in release): 1 GiB of ten million distinct keys in 128 MiB.

use highwater_engine::batch::BatchBuilder;
use highwater_engine::compact::CompactionSettings;
use highwater_engine::{CleanerSettings, Durability, Engine, EngineConfig, LogSettings, Offset};

/// What one run is made of.
struct Size {
    keys: u64,
    /// Bytes of a value.
    value: usize,
    /// Bytes for keys.
    memory: usize,
    segment_bytes: u64,
    /// Kilobytes that the process may grow by beside the memory for keys: buffers, indexes, what an allocator keeps.
    beside: u64,
}

/// This process's resident memory in kilobytes: now (`VmRSS`) or at most so far (`VmHWM`).
fn resident(what: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Appends every key once, then every tenth again with another value.
fn fill(log: &highwater_engine::LogHandle, size: &Size) -> u64 {
    let value = vec![b'v'; size.value];
    let keys = (0..size.keys).chain((0..size.keys).step_by(10));
    let mut records = 0;
    let mut batch = BatchBuilder::new();
    for key in keys {
        batch.push(1_767_225_600_000, Some(&key.to_be_bytes()), Some(&value), &[]);
        records += 1;
        if batch.len() == 5000 {
            log.append(std::mem::take(&mut batch).build()).expect("a batch of 5,000 records");
        }
    }
    if !batch.is_empty() {
        log.append(batch.build()).expect("the last batch");
    }
    // One more segment, so that all of these are behind the active one.
    for _ in 0..=size.segment_bytes / 100_000 {
        let filler =
            BatchBuilder::new().record(1_767_225_600_000, Some(b"filler"), Some(&vec![0; 100_000])).build();
        log.append(filler).expect("a batch of one record");
    }
    log.sync().expect("a sync");
    records
}

#[test]
fn compaction_stays_within_its_memory() {
    let full = std::env::var_os("HIGHWATER_TEST_FULL").is_some();
    let size = if full {
        Size { keys: 10_000_000, value: 85, memory: 128 << 20, segment_bytes: 64 << 20, beside: 64 << 10 }
    } else {
        Size { keys: 30_000, value: 85, memory: 256 << 10, segment_bytes: 1 << 20, beside: 64 << 10 }
    };
    let dir =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compaction-{}", std::process::id()));
    let settings = LogSettings {
        durability: Durability::Os,
        segment_bytes: size.segment_bytes,
        max_message_bytes: 2 << 20,
        file_delete_delay_ms: 0,
        checkpoint_ms: 50,
        compaction: Some(CompactionSettings { min_dirty_ratio: 0.0, ..CompactionSettings::default() }),
        ..LogSettings::default()
    };
    let cleaner = CleanerSettings { enabled: false, memory_bytes: size.memory, ..CleanerSettings::default() };
    let engine = Engine::open(EngineConfig::at(&dir).settings(settings).cleaner(cleaner))
        .expect("a scratch directory");
    let log = engine.log("keys").expect("a log");
    let records = fill(&log, &size);
    let end = Offset::new(records as i64);
    let before = (log.facts().expect("facts").size_bytes, resident("VmRSS"));
    // What was the most so far counts from now on.
    let _another_kernel = std::fs::write("/proc/self/clear_refs", "5");
    let (mut passes, mut cleaned) = (0, Offset::ZERO);
    while cleaned < end {
        let now = log.compact().expect("a pass");
        passes += u64::from(now > cleaned);
        cleaned = cleaned.max(now);
    }
    let grown = match (before.1, resident("VmHWM")) {
        (Some(before), Some(most)) => most.saturating_sub(before),
        _ => 0,
    };
    let after = log.facts().expect("facts").size_bytes;
    engine.close().expect("a clean stop");
    std::fs::remove_dir_all(&dir).expect("the scratch directory goes");
    println!(
        "figure: compaction_memory bytes={} keys={} passes={passes} limit_kib={} grown_kib={grown} full={}",
        before.0,
        size.keys,
        size.memory >> 10,
        if full { "yes" } else { "no" }
    );
    assert!(passes >= 2, "the map was to be too small for one pass");
    assert!(after < before.0, "every tenth record was there twice");
    let most = (size.memory as u64 >> 10) + size.beside;
    assert!(grown <= most, "grown by {grown} KiB, expected {most} at most");
}

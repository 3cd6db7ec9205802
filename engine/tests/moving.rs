//! A log moves between an engine's directories: while it is written to and read, across restarts, and over again.
#![allow(clippy::disallowed_methods, reason = "an embedder's own files, not a shard's")]

mod scratch;

use std::fs;
use std::path::{Path, PathBuf};

use highwater_engine::{
    Engine, EngineConfig, EngineError, Limits, LogSettings, MemoryDisk, NewRecord, Offset,
};
use scratch::Scratch;

fn config(at: &Path) -> EngineConfig {
    // Segments and slices small enough for a move of many.
    let limits = Limits { read_bytes: 64 << 10, unsynced_bytes: 64 << 10, ..Limits::PRODUCTION };
    let settings = LogSettings { segment_bytes: 128 << 10, limits, ..LogSettings::default() };
    EngineConfig::at(at.join("a")).also_at(at.join("b")).settings(settings)
}

fn values(engine: &Engine) -> Vec<String> {
    let (log, mut values) = (engine.log("orders").expect("the log"), Vec::new());
    let end = log.facts().expect("its facts").end;
    while (values.len() as i64) < end.get() {
        let records = log.records(Offset::new(values.len() as i64), 1 << 20).expect("records");
        values.extend(records.iter().map(|record| String::from_utf8_lossy(record.value()).into_owned()));
    }
    values
}

fn append(engine: &Engine, from: usize, count: usize) {
    let log = engine.log("orders").expect("the log");
    let value = |at: usize| format!("{at} {}", "x".repeat(2000));
    let batches = (from..from + count).map(|at| log.pack([NewRecord::new().value(value(at))]));
    log.append_all(batches).expect("appended");
}

fn check(engine: &Engine, count: usize) {
    let values = values(engine);
    assert_eq!(values.len(), count);
    for (at, value) in values.iter().enumerate() {
        assert!(value.starts_with(&format!("{at} x")), "record {at} is {}", &value[..10]);
    }
}

/// The log's directory in each of the two, and every name beside it.
fn names(at: &Path) -> [Vec<String>; 2] {
    ["a", "b"].map(|directory| {
        let entries = fs::read_dir(at.join(directory)).expect("the directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("orders")).collect();
        names.sort();
        names
    })
}

fn home(engine: &Engine) -> PathBuf {
    engine.log("orders").expect("the log").directory().expect("a directory")
}

#[test]
fn a_log_moves_while_it_is_written_to_and_back_again() {
    let scratch = Scratch::new("moves");
    let at: &Path = &scratch.0;
    let engine = Engine::open(config(at)).expect("it opens");
    append(&engine, 0, 300);
    let mut count = 300;
    for to in ["b", "a", "b"] {
        let moved = engine.move_log("orders", at.join(to), u64::MAX).expect("a log and a directory");
        append(&engine, count, 50);
        count += 50;
        moved.result().expect("it moves");
        assert_eq!(home(&engine), at.join(to).join("orders-0"));
        append(&engine, count, 10);
        count += 10;
        check(&engine, count);
    }
    engine.close().expect("a clean stop");
    let [a, b] = names(at);
    assert_eq!(b, ["orders-0"]);
    assert!(a.iter().all(|name| name.ends_with("-delete")), "{a:?}");
    let engine = Engine::open(config(at)).expect("it opens again");
    check(&engine, count);
    // Opened by the manifest it has no report: there was nothing to recover.
    let report = engine.recovered().get("orders");
    assert!(report.is_none_or(|report| report.is_clean() && report.cut_bytes == 0), "{report:?}");
    engine.close().expect("a clean stop");
    assert_eq!(
        names(at),
        [Vec::new(), vec!["orders-0".to_owned()]],
        "what a removal left goes at the next start"
    );
}

#[test]
fn the_end_of_the_process_in_the_middle_of_a_move_leaves_the_log_where_it_was() {
    let scratch = Scratch::new("moves-cut-short");
    let at: &Path = &scratch.0;
    let engine = Engine::open(config(at)).expect("it opens");
    append(&engine, 0, 300);
    // One byte a second: it never gets there.
    let moved = engine.move_log("orders", at.join("b"), 1).expect("a log and a directory");
    append(&engine, 300, 10);
    engine.close().expect("a clean stop");
    assert_eq!(moved.result(), Err(EngineError::Stopped));
    let [a, b] = names(at);
    assert_eq!(a, ["orders-0"]);
    assert!(b.len() == 1 && b[0].ends_with("-future"), "{b:?}");
    let engine = Engine::open(config(at)).expect("it opens again");
    check(&engine, 310);
    engine.close().expect("a clean stop");
    assert_eq!(names(at), [vec!["orders-0".to_owned()], Vec::new()]);
}

#[test]
fn a_complete_copy_without_its_log_is_the_log() {
    let scratch = Scratch::new("moves-complete");
    let at: &Path = &scratch.0;
    let engine = Engine::open(config(at)).expect("it opens");
    append(&engine, 0, 100);
    engine.close().expect("a clean stop");
    let future = at.join("b").join("orders-0.36f67f48397d4451aa81723b974882fd-future");
    fs::rename(at.join("a").join("orders-0"), &future).expect("a rename");
    // Without the mark it is not complete, and nobody touches it.
    let engine = Engine::open(config(at)).expect("it opens");
    assert_eq!(engine.names(), Vec::<String>::new());
    engine.close().expect("a clean stop");
    fs::write(future.join("highwater.moved"), "version: 0\nfrom: AAAAAAAAAAAAAAAAAAAAAA\n").expect("a file");
    let engine = Engine::open(config(at)).expect("it opens");
    assert_eq!(home(&engine), at.join("b").join("orders-0"));
    check(&engine, 100);
    engine.close().expect("a clean stop");
}

#[test]
fn a_move_is_replaced_by_another_and_refused_where_there_is_nothing_to_do() {
    let config = EngineConfig::at("/a").also_at("/b").also_at("/c").in_memory(MemoryDisk::new());
    let engine = Engine::open(config).expect("it opens");
    append(&engine, 0, 100);
    let missing = engine.move_log("nobody", "/b", u64::MAX);
    assert_eq!(missing.err(), Some(EngineError::NoSuchLog { name: "nobody".into() }));
    let nowhere = engine.move_log("orders", "/d", u64::MAX);
    assert_eq!(nowhere.err(), Some(EngineError::NoSuchDirectory { directory: "/d".into() }));
    let first = engine.move_log("orders", "/b", 1).expect("a log and a directory");
    let second = engine.move_log("orders", "/c", u64::MAX).expect("a log and a directory");
    assert_eq!(first.result(), Err(EngineError::MoveReplaced));
    second.result().expect("it moves");
    assert_eq!(home(&engine), Path::new("/c/orders-0"));
    engine.move_log("orders", "/c", u64::MAX).expect("a log and a directory").result().expect("it is there");
    engine.delete("orders").expect("it goes");
    append(&engine, 0, 1);
    check(&engine, 1);
}

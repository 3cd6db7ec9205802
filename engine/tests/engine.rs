//! The engine as an embedder sees it: logs by name, from any thread, across restarts.
#![allow(clippy::disallowed_methods, reason = "an embedder's own threads and files, not a shard's")]

mod scratch;

use std::sync::Arc;

use highwater_base::{Offset, WallMs};
use highwater_engine::batch::{BatchBuilder, Batches};
use highwater_engine::{Durability, Engine, EngineConfig, EngineError, LogSettings, ReadError};
use highwater_io::MemoryDisk;

use scratch::Scratch;

fn batch(value: &str) -> Vec<u8> {
    BatchBuilder::new().record(1_700_000_000_000, None, Some(value.as_bytes())).build()
}

fn values(bytes: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    for found in Batches::in_memory(bytes) {
        let found = found.expect("a whole batch");
        let header = found.header().expect("magic 2");
        for record in highwater_engine::batch::Records::new(found.records_bytes(), header.record_count()) {
            let value = record.expect("a record").value.expect("a value");
            values.push(String::from_utf8(value.to_vec()).expect("text"));
        }
    }
    values
}

#[test]
fn what_is_appended_is_read_back_after_a_clean_stop_and_after_a_crash() {
    let scratch = Scratch::new("engine-restart");
    let engine = Engine::open(EngineConfig::at(&scratch.0).shards(2)).unwrap();
    for name in ["orders", "payments", "letters"] {
        let log = engine.log(name).unwrap();
        for i in 0..100 {
            log.append(batch(&format!("{name}-{i}"))).unwrap();
        }
    }
    engine.close().unwrap();
    for round in 0..2 {
        let engine = Engine::open(EngineConfig::at(&scratch.0).shards(1)).unwrap();
        assert_eq!(engine.names(), ["letters", "orders", "payments"]);
        for name in engine.names() {
            let log = engine.log(&name).unwrap();
            let end = 100 + round;
            assert_eq!(log.facts().unwrap().end, Offset::new(end));
            let read = values(&log.read(Offset::ZERO, 1 << 20).unwrap().to_vec());
            assert_eq!(read.len() as i64, end);
            assert_eq!(read[99], format!("{name}-99"));
            log.append(batch("more")).unwrap();
        }
        drop(engine); // a crash: no clean stop
    }
}

#[test]
fn appends_of_many_threads_are_all_there_once_and_in_each_thread_s_order() {
    let engine = Arc::new(
        Engine::open(EngineConfig::at("data").shards(2).in_memory(MemoryDisk::new())).expect("an engine"),
    );
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let log = engine.log("shared").unwrap();
            std::thread::spawn(move || {
                let tickets: Vec<_> =
                    (0..200).map(|i| log.start_append(batch(&format!("{writer}:{i}")))).collect();
                tickets.into_iter().map(|t| t.wait().unwrap().unwrap().first).collect::<Vec<Offset>>()
            })
        })
        .collect();
    for writer in writers {
        assert!(writer.join().unwrap().is_sorted());
    }
    let log = engine.log("shared").unwrap();
    let (mut from, mut all) = (Offset::ZERO, Vec::new());
    while from < log.facts().unwrap().end {
        let fetched = log.read(from, 8 << 10).unwrap();
        all.extend(values(&fetched.to_vec()));
        from = fetched.next;
    }
    assert_eq!(all.len(), 800);
    for writer in 0..4 {
        let own: Vec<_> = all.iter().filter(|v| v.starts_with(&format!("{writer}:"))).collect();
        assert!((0..200).all(|i| *own[i] == format!("{writer}:{i}")));
    }
}

#[test]
fn a_follower_waits_at_the_tail_until_something_is_acknowledged() {
    let engine = Engine::open(EngineConfig::at("data").in_memory(MemoryDisk::new())).unwrap();
    let log = engine.log("events").unwrap();
    let ticket = log.follow(Offset::ZERO, 1 << 20);
    let ticket = ticket.poll_now().expect_err("nothing is there yet");
    log.append(batch("first")).unwrap();
    assert_eq!(values(&ticket.wait().unwrap().unwrap().to_vec()), ["first"]);
}

#[test]
fn a_log_is_cut_trimmed_searched_and_deleted() {
    let engine = Engine::open(EngineConfig::at("data").in_memory(MemoryDisk::new())).unwrap();
    let settings = LogSettings { durability: Durability::Os, ..LogSettings::default() };
    let log = engine.log_with("work", settings).unwrap();
    for i in 0..10 {
        let at = 1_700_000_000_000 + i;
        log.append(BatchBuilder::new().record(at, None, Some(b"x")).build()).unwrap();
    }
    assert_eq!(log.sync().unwrap(), Offset::new(10));
    let found = log.find_time(WallMs::new(1_700_000_000_004)).unwrap().unwrap();
    assert_eq!(found.offset, Offset::new(4));
    assert_eq!(log.truncate(Offset::new(8)).unwrap(), Offset::new(8));
    assert_eq!(log.trim(Offset::new(3)).unwrap(), Offset::new(3));
    assert_eq!(log.trim(Offset::new(2)).unwrap(), Offset::new(3), "there already");
    let error = log.read(Offset::new(1), 100).unwrap_err();
    assert!(matches!(error, EngineError::Read(ReadError::OutOfRange { .. })), "{error}");
    engine.delete("work").unwrap();
    assert!(engine.names().is_empty());
    assert!(matches!(log.facts(), Err(EngineError::Stopped) | Ok(_)));
}

#[test]
fn a_directory_in_use_and_a_name_that_is_none_are_refused() {
    let scratch = Scratch::new("engine-held");
    let engine = Engine::open(EngineConfig::at(&scratch.0)).unwrap();
    let error = Engine::open(EngineConfig::at(&scratch.0)).unwrap_err();
    assert!(matches!(error, EngineError::Held { .. }), "{error}");
    assert!(matches!(engine.log("a/b"), Err(EngineError::Name { .. })));
}

//! What a queue author relies on: records in and out, many threads, nobody in anybody's way, told what happens.
#![allow(clippy::disallowed_methods, reason = "an embedder's own threads and files, not a shard's")]

mod scratch;

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use highwater_engine::batch::{BatchBuilder, Batches, Marker};
use highwater_engine::{
    Durability, Engine, EngineConfig, EngineError, Follower, Isolation, Limits, LogHandle, LogSettings,
    Mapping, MemoryDisk, NewRecord, Notice, Offset, ProducerEpoch, ProducerId, ReadError, WallMs,
};

use scratch::Scratch;

fn in_memory() -> EngineConfig {
    EngineConfig::at("data").in_memory(MemoryDisk::new())
}

fn value(text: impl Into<String>) -> NewRecord {
    NewRecord::new().value(text.into())
}

fn append(log: &LogHandle, text: &str) {
    log.append_records([value(text)]).unwrap();
}

fn texts(records: Vec<highwater_engine::StoredRecord>) -> Vec<String> {
    records.into_iter().map(|record| String::from_utf8(record.value.unwrap()).unwrap()).collect()
}

/// The smallest executor there is.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn records_come_back_as_they_were_given_from_the_middle_of_a_batch_too() {
    let engine = Engine::open(in_memory()).unwrap();
    let log = engine.log("orders").unwrap();
    let at = WallMs::new(1_700_000_000_000);
    let records = [
        NewRecord::new().key("a").value("1").header("h", "x").header("h", "y").timestamp(at),
        NewRecord::new().key("a"),
        value("3").timestamp(WallMs::new(at.get() + 5)),
    ];
    let appended = log.append_records(records).unwrap();
    assert_eq!((appended.first, appended.end), (Offset::ZERO, Offset::new(3)));
    let read = log.records(Offset::ZERO, 1 << 20).unwrap();
    assert_eq!((read[0].key(), read[0].value(), read[0].timestamp), (&b"a"[..], &b"1"[..], at));
    assert_eq!(read[0].header("h"), Some(&b"y"[..]));
    assert_eq!((read[1].key.as_deref(), &read[1].value), (Some(&b"a"[..]), &None));
    assert!(read[1].timestamp > at, "the time of the append");
    let found = log.find_time(WallMs::new(at.get() + 5)).unwrap().unwrap();
    assert_eq!(found.offset, Offset::new(1), "the first whose timestamp is at least that");
    assert_eq!(log.records(Offset::new(2), 1).unwrap(), read[2..]);
    assert!(log.append_records([]).is_err(), "a batch without a record");
    let ends = log.append_all((0..3).map(|i| log.pack([value(i.to_string())]))).unwrap();
    assert_eq!(ends.last().unwrap().end, Offset::new(6));
}

#[test]
fn sleeping_readers_keep_no_writer_out() {
    let limits = Limits { mailbox: 8, parked: 100, ..Limits::TINY };
    let config = in_memory().settings(LogSettings { limits, ..LogSettings::default() });
    let engine = Engine::open(config).unwrap();
    let log = engine.log("events").unwrap();
    let waiting: Vec<_> = (0..100).map(|_| log.follow(Offset::ZERO, 100)).collect();
    let refused = log.follow(Offset::ZERO, 100).result();
    assert_eq!(refused.unwrap_err(), EngineError::Overloaded);
    assert_eq!(log.metrics().unwrap().waiting_readers, 100);
    append(&log, "for all");
    for ticket in waiting {
        assert_eq!(texts(ticket.result().unwrap().records(Offset::ZERO).unwrap()), ["for all"]);
    }
    // Tickets that were dropped make room for others.
    for _ in 0..100 {
        drop(log.follow(Offset::new(1), 100));
    }
    let ticket = log.follow(Offset::new(1), 100);
    append(&log, "more");
    assert_eq!(ticket.result().unwrap().next, Offset::new(2));
}

#[test]
fn a_reader_that_keeps_what_it_read_stops_no_writer() {
    let config = in_memory().settings(LogSettings { limits: Limits::TINY, ..LogSettings::default() });
    let engine = Engine::open(config).unwrap();
    let log = engine.log("events").unwrap();
    let mut kept = Vec::new();
    for i in 0..300 {
        let appended = log.append_records([value(format!("{i}:{}", "x".repeat(3000)))]).unwrap();
        kept.push((appended.first, log.read(appended.first, 1).unwrap()));
    }
    for (i, (first, fetched)) in kept.iter().enumerate() {
        assert!(texts(fetched.records(*first).unwrap())[0].starts_with(&format!("{i}:")));
    }
}

#[test]
fn an_append_that_would_wait_comes_back_to_a_task_that_must_not() {
    let (release, released) = channel::<()>();
    let (told, heard) = channel();
    let limits = Limits { mailbox: 8, ..Limits::TINY };
    let released = std::sync::Mutex::new(released);
    let config = in_memory().settings(LogSettings { limits, ..LogSettings::default() }).listener(
        // Holds the engine's thread, as no listener should.
        move |_, _| {
            told.send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
        },
    );
    let engine = Engine::open(config).unwrap();
    let log = engine.log("events").unwrap();
    let first = log.start_append(log.pack([value("first")]));
    heard.recv().unwrap();
    let second = log.try_append(log.pack([value("second")])).expect("a quarter of the mailbox: two");
    let third = log.pack([value("third")]);
    assert_eq!(log.try_append(third.clone()).unwrap_err(), third);
    assert!(log.start_read(Offset::ZERO, 100).poll_now().is_err(), "a reader has its own way in");
    for _ in 0..8 {
        release.send(()).unwrap();
    }
    assert_eq!(first.result().unwrap().end, Offset::new(1));
    assert_eq!(block_on(second).unwrap().unwrap().end, Offset::new(2));
    assert_eq!(block_on(log.try_append(third).unwrap()).unwrap().unwrap().end, Offset::new(3));
}

#[test]
fn a_follower_goes_on_where_it_left_off_waiting_polled_or_awaited() {
    let engine = Engine::open(in_memory()).unwrap();
    let log = engine.log("events").unwrap();
    let mut follower: Follower = log.follower(Offset::ZERO).max_bytes(1);
    assert!(follower.poll().unwrap().is_empty());
    assert!(follower.wait_for(Duration::ZERO).unwrap().is_empty());
    append(&log, "a");
    append(&log, "b");
    assert_eq!(texts(follower.wait().unwrap()), ["a"], "no more than it asked for");
    assert_eq!(texts(block_on(follower.next()).unwrap()), ["b"]);
    assert_eq!(follower.position(), Offset::new(2));
    let writer = thread::spawn({
        let log = log.clone();
        move || append(&log, "c")
    });
    assert_eq!(texts(block_on(follower.next()).unwrap()), ["c"]);
    writer.join().unwrap();
    follower.seek(Offset::new(1));
    assert_eq!(texts(follower.wait().unwrap()), ["b"]);
    // Whoever waits beyond the end of a log that is cut is told.
    follower.seek(Offset::new(3));
    assert!(follower.poll().unwrap().is_empty());
    log.truncate(Offset::new(1)).unwrap();
    let error = follower.wait().unwrap_err();
    assert!(matches!(error, EngineError::Read(ReadError::OutOfRange { .. })), "{error}");
}

#[test]
fn readers_see_what_their_isolation_says_before_and_after_a_restart() {
    let disk = MemoryDisk::new();
    let config = || EngineConfig::at("data").in_memory(disk.clone());
    let engine = Engine::open(config()).unwrap();
    let log = engine.log("events").unwrap();
    let (producer, epoch) = (ProducerId::new(7), ProducerEpoch::new(0));
    let transactional = |sequence, text: &str| {
        let batch = BatchBuilder::new().producer(producer, epoch, sequence).transactional();
        batch.record(1_700_000_000_000, None, Some(text.as_bytes())).build()
    };
    append(&log, "before");
    let all = log.isolated(Isolation::ReadUncommitted);
    let (mut patient, mut eager) = (log.follower(Offset::ZERO), all.follower(Offset::ZERO));
    log.append(transactional(0, "aborted")).unwrap();
    append(&log, "beside");
    assert_eq!(texts(patient.wait().unwrap()), ["before"]);
    assert!(patient.poll().unwrap().is_empty(), "the transaction is open");
    assert_eq!(texts(eager.wait().unwrap()), ["before", "aborted", "beside"]);
    log.end_transaction(producer, epoch, Marker::Abort).unwrap();
    assert_eq!(texts(patient.wait().unwrap()), ["beside"]);
    log.append(transactional(1, "committed")).unwrap();
    assert!(patient.poll().unwrap().is_empty(), "the next one is open");
    log.end_transaction(producer, epoch, Marker::Commit).unwrap();
    assert_eq!(texts(patient.wait().unwrap()), ["committed"]);
    engine.close().unwrap();

    let engine = Engine::open(config()).unwrap();
    let log = engine.log("events").unwrap();
    assert_eq!(texts(log.records(Offset::ZERO, 1 << 20).unwrap()), ["before", "beside", "committed"]);
    // A read that meets nothing but what was aborted goes on.
    assert_eq!(texts(log.records(Offset::new(1), 1).unwrap()), ["beside"]);
    let all = log.isolated(Isolation::ReadUncommitted);
    let every = ["before", "aborted", "beside", "committed"];
    assert_eq!(texts(all.records(Offset::ZERO, 1 << 20).unwrap()), every);
}

#[test]
fn one_name_asked_for_by_many_threads_is_one_log() {
    let engine = Engine::open(in_memory()).unwrap();
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for i in 0..8 {
            let (engine, start) = (&engine, &start);
            scope.spawn(move || {
                start.wait();
                append(&engine.log("shared").unwrap(), &i.to_string());
            });
        }
    });
    assert_eq!(engine.names(), ["shared"]);
    assert_eq!(engine.log("shared").unwrap().records(Offset::ZERO, 1 << 20).unwrap().len(), 8);
}

#[test]
fn a_handle_that_outlives_its_engine_is_told_so() {
    let engine = Engine::open(in_memory()).unwrap();
    let log = engine.log("events").unwrap();
    let waiting = log.follow(Offset::ZERO, 100);
    engine.close().unwrap();
    assert_eq!(waiting.wait().map(|answer| answer.is_ok()), None);
    assert_eq!(log.append_records([value("late")]).unwrap_err(), EngineError::Stopped);
    assert_eq!(log.facts().unwrap_err(), EngineError::Stopped);
    let engine = Engine::open(in_memory()).unwrap();
    let log = engine.log("events").unwrap();
    drop(engine);
    assert_eq!(log.append_records([value("late")]).unwrap_err(), EngineError::Stopped);
}

#[test]
fn settings_of_single_logs_hold_from_the_opening_on() {
    let disk = MemoryDisk::new();
    let short = LogSettings {
        segment_bytes: 1024,
        retention_bytes: Some(1024),
        retention_check_ms: 1,
        file_delete_delay_ms: 0,
        limits: Limits::TINY,
        ..LogSettings::default()
    };
    let long = LogSettings { retention_bytes: None, ..short };
    let config =
        || EngineConfig::at("data").in_memory(disk.clone()).settings(short).log_settings("ledger", long);
    // Nothing goes yet: then it is the next opening that trims.
    let engine = Engine::open(config().settings(long)).unwrap();
    for name in ["ledger", "samples"] {
        let log = engine.log(name).unwrap();
        log.append_all((0..40).map(|i| log.pack([value(format!("{i}:{}", "x".repeat(200)))]))).unwrap();
    }
    engine.close().unwrap();
    let (told, heard) = channel();
    let told = move |log: &str, notice: &Notice| told.send((log.to_owned(), notice.clone())).unwrap();
    let engine = Engine::open(config().listener(told)).unwrap();
    let trimmed = heard.recv().unwrap();
    assert!(matches!(&trimmed, (log, Notice::Trimmed { .. }) if log == "samples"), "{trimmed:?}");
    assert_eq!(engine.log("ledger").unwrap().facts().unwrap().start, Offset::ZERO);
    assert!(engine.log("samples").unwrap().facts().unwrap().start > Offset::ZERO);
    drop(engine);
    let durability = Durability::Interval { bytes: 1, messages: 1, ms: 1 };
    let engine = Engine::open(config()).unwrap();
    let log = engine.log_with("ledger", LogSettings { durability, ..long }).unwrap();
    append(&log, "soon on stable storage");
    assert_eq!(log.sync().unwrap(), Offset::new(41));
}

fn until(heard: &Receiver<(String, Notice)>, wanted: impl Fn(&Notice) -> bool) -> Notice {
    heard.iter().map(|(_, notice)| notice).find(wanted).unwrap()
}

#[test]
fn a_listener_hears_of_acknowledged_ends_before_the_append_returns_and_of_cuts_and_failures() {
    let scratch = Scratch::new("embedder-listener");
    let (told, heard) = channel();
    let config = EngineConfig::at(&scratch.0)
        .settings(LogSettings { segment_bytes: 1024, limits: Limits::TINY, ..LogSettings::default() })
        .listener(move |log, notice| told.send((log.to_owned(), notice.clone())).unwrap());
    let engine = Engine::open(config).unwrap();
    let log = engine.log("events").unwrap();
    append(&log, "first");
    assert_eq!(heard.try_recv().unwrap().1, Notice::Acknowledged { end: Offset::new(1) });
    append(&log, "second");
    log.truncate(Offset::new(1)).unwrap();
    let cut = until(&heard, |notice| matches!(notice, Notice::Truncated { .. }));
    assert_eq!(cut, Notice::Truncated { end: Offset::new(1) });
    // The directory goes away under the log: what it does next cannot succeed.
    std::fs::remove_dir_all(scratch.0.join("events-0")).unwrap();
    let failed = loop {
        match log.append_records([value("x".repeat(300))]) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let Notice::Failed(failure) = until(&heard, |notice| matches!(notice, Notice::Failed(_))) else {
        unreachable!("found as such");
    };
    assert!(failed.to_string().contains(&failure.to_string()), "{failed}; {failure}");
    engine.close().unwrap_err();
    assert!(!scratch.0.join(".kafka_cleanshutdown").exists(), "it was not stopped in order");
}

#[test]
fn figures_count_what_went_through_and_an_opening_says_what_it_found() {
    let scratch = Scratch::new("embedder-figures");
    let engine = Engine::open(EngineConfig::at(&scratch.0).shards(2)).unwrap();
    for name in ["a", "b"] {
        let log = engine.log(name).unwrap();
        log.append_records([value("1"), value("2")]).unwrap();
        log.append(vec![0; 70]).unwrap_err();
        log.records(Offset::ZERO, 1 << 20).unwrap();
    }
    let metrics = engine.metrics().unwrap();
    assert_eq!((metrics.logs, metrics.total.appended_batches, metrics.total.appended_records), (2, 2, 4));
    assert_eq!((metrics.total.refused_batches, metrics.total.reads), (2, 2));
    assert_eq!((metrics.appends_in_flight, metrics.append_bytes_in_flight), (0, 0));
    assert!(engine.recovered().is_empty());
    let facts = engine.log("a").unwrap().facts().unwrap();
    assert_eq!((facts.synced_end, facts.log_end, facts.no_space), (Offset::new(2), Offset::new(2), false));
    drop(engine);
    let engine = Engine::open(EngineConfig::at(&scratch.0)).unwrap();
    let reports = engine.recovered();
    assert_eq!(reports.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!(reports.values().all(|report| report.is_clean() && report.log_bytes > 0));
}

#[test]
fn a_trim_that_has_returned_stays_after_an_abrupt_end() {
    let disk = MemoryDisk::new();
    let config = || EngineConfig::at("data").in_memory(disk.clone());
    let engine = Engine::open(config()).unwrap();
    let log = engine.log("events").unwrap();
    for text in ["a", "b", "c"] {
        append(&log, text);
    }
    assert_eq!(log.trim(Offset::new(2)).unwrap(), Offset::new(2));
    // What the disk holds at this moment is what another engine finds.
    let engine = Engine::open(EngineConfig::at("data").in_memory(disk.fork())).unwrap();
    let facts = engine.log("events").unwrap().facts().unwrap();
    assert_eq!((facts.start, facts.end), (Offset::new(2), Offset::new(3)));
}

#[test]
fn a_sealed_segment_is_seen_without_reading_it() {
    let scratch = Scratch::new("embedder-mapping");
    let config = EngineConfig::at(&scratch.0);
    let engine = Engine::open(config.settings(LogSettings { segment_bytes: 1024, ..LogSettings::default() }));
    let engine = engine.unwrap();
    let log = engine.log("events").unwrap();
    while log.facts().unwrap().segments == 1 {
        append(&log, &"x".repeat(300));
    }
    let directory = log.directory().unwrap();
    engine.close().unwrap();
    let segment = Mapping::open(&directory.join("00000000000000000000.log")).unwrap();
    let batches: Vec<_> = Batches::in_file(&segment).map(|batch| batch.unwrap()).collect();
    assert!(batches.len() > 1 && batches.iter().all(|batch| batch.crc_matches()));
    assert_eq!(batches.last().unwrap().end(), segment.len());
}

#[test]
fn what_an_embedder_holds_may_go_to_any_thread() {
    fn anywhere<T: Send + Sync + 'static>() {}
    anywhere::<Engine>();
    anywhere::<LogHandle>();
    anywhere::<Follower>();
    anywhere::<EngineError>();
    anywhere::<highwater_engine::Fetched>();
}

//! Times, retention and deletion in the history of Kafka: each scenario holds by today's rules, and its old rule is
//! caught. `docs/FAULTS.md` says which is which.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use highwater_base::{LeaderEpoch, Mutant, Offset};
use highwater_engine::batch::{BatchBuilder, BatchError, Codec, set_base_offset, set_leader_epoch};
use highwater_engine::{AppendError, LogSettings, Read, ReadError};
use highwater_sim::{Fault, FaultKind, Moment, SimDisk, SimIo};
use highwater_tests::scenario::{EPOCH, Judged, Stage, ensure, holds_and_catches, small, value};

/// One day, in milliseconds.
const DAY: i64 = 24 * 3_600_000;

/// KAFKA-16310, 16342: of times 5, 9, 7, 9, 2 in one packed batch, 8 is found at 1, and the largest at the first record
/// that carries it; on a leader and on a follower, before and after a restart.
#[test]
fn r59_times_in_any_order_are_found_at_their_first_record() {
    holds_and_catches(Mutant::MaxTimeAtBatchEnd, |mutant| {
        for codec in Codec::ALL {
            for follower in [false, true] {
                let mut stage = Stage::new(small(mutant));
                let now = stage.time() - 100;
                let mut builder = BatchBuilder::new().codec(codec);
                for time in [5, 9, 7, 9, 2] {
                    builder.push(now + time, None, Some(b"v"), &[]);
                }
                let mut batch = builder.build();
                let appended = if follower {
                    set_base_offset(&mut batch, Offset::ZERO);
                    set_leader_epoch(&mut batch, EPOCH);
                    stage.replica(&batch)
                } else {
                    stage.client(&batch)
                };
                appended.map_err(|error| error.to_string())?;
                stage.commit();
                for restart in 0..3 {
                    let what = format!("{codec:?}, follower {follower}, restart {restart}");
                    let eight = stage.find_time(now + 8).map(|found| found.offset.get());
                    ensure(eight == Some(1), || format!("{what}: 8 is found at {eight:?}"))?;
                    let most =
                        stage.find_max_time().map(|found| (found.timestamp.get() - now, found.offset.get()));
                    ensure(most == Some((9, 1)), || format!("{what}: the largest is {most:?}"))?;
                    stage = if restart == 0 { stage.reopened() } else { stage.killed() };
                }
            }
        }
        Ok(())
    });
}

/// KAFKA-18929, KIP-937: a record from the future is refused, since it would hold its segment for years; and where one is
/// allowed, retention by size still works.
#[test]
fn r60_a_record_from_the_future_is_refused_and_holds_no_space() {
    holds_and_catches(Mutant::FutureAccepted, |mutant| {
        let mut stage = Stage::new(small(mutant));
        let refused = stage.client(&value(stage.time() + 75 * 365 * DAY, 100));
        ensure(matches!(refused, Err(AppendError::Batch(BatchError::Timestamp { .. }))), || {
            format!("a record of the next century: {refused:?}")
        })?;
        ensure(stage.log.log_end() == Offset::ZERO, || "it was appended".into())?;
        ensure(stage.log.refused_times() == 1, || format!("{} were counted", stage.log.refused_times()))?;
        stage.client(&value(stage.time() + 3_599_000, 100)).map_err(|error| error.to_string())?;

        let settings = LogSettings {
            timestamp_after_max_ms: i64::MAX,
            retention_ms: Some(DAY as u64),
            retention_bytes: Some(40 << 10),
            ..small(mutant)
        };
        let mut stage = Stage::new(settings);
        stage.keep(&value(stage.time() + 75 * 365 * DAY, 100));
        for _ in 0..60 {
            stage.keep(&value(stage.time(), 1500));
        }
        stage.pass(3000);
        let size = stage.log.size_bytes();
        ensure(stage.log.log_start() > Offset::ZERO && size < 80 << 10, || format!("{size} bytes are kept"))
    });
}

/// KAFKA-3716, 5634: data of 2001 is older than retention as soon as it is there. It goes by the documented rule, but
/// nothing at or above the high watermark does.
#[test]
fn r61_old_data_goes_but_never_what_is_not_committed() {
    holds_and_catches(Mutant::RetentionUncommitted, |mutant| {
        let settings = LogSettings { retention_ms: Some(3_600_000), ..small(mutant) };
        let mut stage = Stage::new(settings);
        let old = stage.time() - 25 * 365 * DAY;
        for _ in 0..30 {
            stage.client(&value(old, 1500)).map_err(|error| error.to_string())?;
            stage.settle();
        }
        stage.pass(3000);
        ensure(stage.log.log_start() == Offset::ZERO, || "what nobody committed is gone".into())?;
        let committed = Offset::new(15);
        stage.log.set_high_watermark(committed);
        stage.pass(3000);
        let (start, mark) = (stage.log.log_start(), stage.log.high_watermark());
        ensure(start > Offset::ZERO && start <= committed, || format!("it starts at {start}"))?;
        ensure(mark == committed, || format!("the high watermark became {mark}"))?;
        ensure(stage.batches(committed.get())?.len() == 15, || "uncommitted batches are missing".into())
    });
}

/// KAFKA-3716: a time of -1 means none, and a segment without any is as old as its file's last change; that it is
/// sealed is one.
#[test]
fn r61_records_without_a_time_are_as_old_as_their_segment() {
    let mut stage = Stage::new(LogSettings { retention_ms: Some(3_600_000), ..small(Mutant::None) });
    stage.keep(&value(-1, 1500));
    stage.pass(3_000_000);
    assert_eq!(stage.log.log_start(), Offset::ZERO);
    assert_eq!(stage.find_max_time(), None);
    stage.pass(1_000_000);
    assert_eq!(stage.log.segment_count(), 2, "an hour after its first record it is rolled");
    stage.pass(3_700_000);
    assert_eq!(stage.log.log_start(), Offset::new(1), "an hour after it was sealed it goes");
}

/// KAFKA-15047, 12177: an idle log past retention lets go of its active segment too, and asking twice changes nothing.
#[test]
fn r62_an_idle_active_segment_goes_and_a_second_pass_changes_nothing() {
    holds_and_catches(Mutant::IdleSegmentStays, |mutant| {
        let mut stage = Stage::new(LogSettings { retention_ms: Some(3_600_000), ..small(mutant) });
        stage.fill(3);
        let end = stage.log.log_end();
        stage.pass(3_700_000);
        ensure(stage.log.log_start() == end, || format!("{} to {end} are kept", stage.log.log_start()))?;
        stage.pass(5_000);
        let facts =
            |stage: &Stage| (stage.log.log_start(), stage.log.segment_count(), stage.log.size_bytes());
        let before = facts(&stage);
        ensure(before == (end, 1, 0), || format!("{before:?}"))?;
        stage.pass(10_000_000);
        ensure(facts(&stage) == before, || format!("{:?} became of {before:?}", facts(&stage)))?;
        ensure(stage.keep(&value(stage.time(), 10)) == end.plus(1), || "the next append".into())
    });
}

/// KAFKA-7400, 9133: segments below the log start go whatever the policy, also when the start lies within the last one.
#[test]
fn r63_segments_below_the_log_start_go_whatever_the_policy() {
    holds_and_catches(Mutant::StartKeepsSegments, |mutant| {
        let mut stage = Stage::new(small(mutant));
        stage.fill(4);
        stage.keep(&value(stage.time(), 100));
        let to = stage.log.log_end().plus(-1);
        stage.log.trim(to);
        stage.pass(3000);
        ensure(stage.log.segment_count() == 1, || format!("{} segments", stage.log.segment_count()))?;
        let logs = |stage: &Stage| stage.files().iter().filter(|(name, _)| name.contains(".log")).count();
        ensure(logs(&stage) == 1, || format!("{} files", logs(&stage)))?;
        for clean in [true, false] {
            stage = if clean { stage.reopened() } else { stage.killed() };
            ensure(stage.log.log_start() == to, || format!("it starts at {}", stage.log.log_start()))?;
            ensure(stage.batches(to.get())?.len() == 1, || "the last batch".into())?;
        }
        Ok(())
    });
}

/// KAFKA-17375: a follower takes what its leader took, whatever its own settings say of sizes by now.
#[test]
fn r68_a_follower_takes_a_batch_larger_than_its_own_settings_allow() {
    holds_and_catches(Mutant::ReplicaSizeLimited, |mutant| {
        let settings = LogSettings { segment_bytes: 2048, max_message_bytes: 1000, ..small(mutant) };
        let mut stage = Stage::new(settings);
        for base in 0..3 {
            let mut batch = value(stage.time(), 5000);
            set_base_offset(&mut batch, Offset::new(base));
            set_leader_epoch(&mut batch, EPOCH);
            stage.replica(&batch).map_err(|error| error.to_string())?;
            stage.commit();
        }
        let refused = stage.client(&value(stage.time(), 5000));
        ensure(matches!(refused, Err(AppendError::Batch(BatchError::TooLarge { .. }))), || {
            format!("a client's: {refused:?}")
        })?;
        stage = stage.killed();
        ensure(stage.batches(0)?.len() == 3, || "they are there after a restart".into())
    });
}

/// KAFKA-8813: settings that change while a log is being made hold when it is there.
#[test]
fn r69_settings_that_change_while_a_log_is_made_hold() {
    holds_and_catches(Mutant::SettingsLostInCreation, |mutant| {
        let mut disk = SimDisk::new();
        disk.put("/data/meta.properties", b"");
        let mut stage = Stage::begin(SimIo::new(disk, 1), small(mutant));
        stage.step();
        ensure(!stage.log.is_ready(), || "it is there already".into())?;
        stage.log.update_settings(LogSettings { max_message_bytes: 300, ..small(mutant) });
        stage.until(|stage| stage.log.is_ready());
        ensure(stage.log.settings().max_message_bytes == 300, || "the change is lost".into())?;
        let refused = stage.client(&value(stage.time(), 400));
        ensure(refused.is_err(), || format!("a batch beyond the new limit: {refused:?}"))
    });
}

/// What the log submitted while a read was slow.
struct Slow {
    stage: Stage,
    /// Files were removed while a read was in flight.
    removed_under_it: bool,
    /// The number of the read that brings records.
    read_at: Option<u64>,
    answer: Result<Vec<u8>, ReadError>,
}

/// A consumer reads the first segment while everything is deleted; `slow` names the operation that takes long.
fn delete_under_a_reader(mutant: Mutant, slow: Option<u64>) -> Slow {
    let mut stage =
        Stage::new(LogSettings { file_delete_delay_ms: 0, retention_check_ms: 10, ..small(mutant) });
    stage.fill(4);
    stage = stage.killed();
    stage.pass(100);
    if let Some(at) = slow {
        stage.io.inject(Fault { at, kind: FaultKind::Slow(Duration::from_secs(5)), lasting: false });
    }
    let (reading, removed, last) =
        (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)), Rc::new(Cell::new(None)));
    let (r, u, l) = (Rc::clone(&reading), Rc::clone(&removed), Rc::clone(&last));
    stage.io.watch(move |disk, event| {
        match (event.name, event.moment) {
            ("read", Moment::Submitted) => {
                r.set(r.get() + 1);
                l.set(Some(event.operation));
            }
            ("read", Moment::Completed) => r.set(r.get() - 1),
            _ => {}
        }
        let names = ["00000000000000000000.log", "00000000000000000000.log.deleted"];
        let there = names.iter().any(|name| disk.contents(Stage::path(name)).is_some());
        u.set(u.get() || (r.get() > 0 && !there));
    });
    let (now, end) = (stage.now(), stage.log.log_end());
    let id = match stage.log.read(now, Offset::new(1), end, 4000).expect("it is there") {
        Read::Pending(id) => id,
        Read::Ready(_) => panic!("a sealed segment is read from the disk"),
    };
    let read_at = loop {
        stage.step();
        if slow.is_some_and(|at| last.get() == Some(at)) || stage.is_answered(id) {
            break last.get();
        }
        stage.pump();
    };
    stage.log.set_high_watermark(end);
    // To the base of a segment in the middle.
    stage.log.trim(Offset::new(20));
    stage.pass(4000);
    let answer = stage.wait(id).map(|fetched| fetched.to_vec());
    stage.pass(4000);
    Slow { stage, removed_under_it: removed.get(), read_at, answer }
}

/// A reader is given what it asked for, or nothing, or told that it is out of range; never other records.
fn judge_answer(answer: Result<Vec<u8>, ReadError>) -> Judged {
    match answer {
        Ok(bytes) => {
            let first = highwater_tests::model::frames(&bytes)?.first().map(|frame| frame.first);
            ensure(first.is_none_or(|first| first == 1), || format!("asked for offset 1, given {first:?}"))
        }
        Err(ReadError::OutOfRange { asked, .. }) if asked == Offset::new(1) => Ok(()),
        Err(error) => Err(format!("refused with {error}")),
    }
}

/// A segment that is deleted while a slow consumer reads it: whole batches from where it asked, or "out of range"; and
/// its file stays until the last read in flight is done.
#[test]
fn r71_a_segment_deleted_under_a_reader_is_read_whole_or_refused() {
    let calm = delete_under_a_reader(Mutant::None, None);
    let at = calm.read_at.expect("it read from the disk");
    let Slow { stage, removed_under_it, answer, .. } = delete_under_a_reader(Mutant::None, Some(at));
    assert!(!removed_under_it, "a file was removed while it was read");
    judge_answer(answer).unwrap_or_else(|what| panic!("{what}"));
    let logs = stage.files().into_iter().filter(|(name, _)| name.contains(".log"));
    assert!(
        logs.map(|(name, _)| name).all(|name| *name >= *"00000000000000000020.log"),
        "once it is read they go"
    );
}

/// A reader that waits for its segment's file while that is deleted is refused: it is never given other records.
#[test]
fn r71_a_read_that_comes_too_late_is_refused() {
    holds_and_catches(Mutant::LateReadsGoOn, |mutant| {
        let calm = delete_under_a_reader(mutant, None);
        let last = calm.read_at.expect("it read from the disk");
        for at in last.saturating_sub(12)..=last {
            let Slow { answer, .. } = delete_under_a_reader(mutant, Some(at));
            judge_answer(answer).map_err(|what| format!("operation {at}: {what}"))?;
        }
        Ok(())
    });
}

/// The leader epoch in force stays known where retention has left no record of it.
#[test]
fn r63_the_leader_epoch_in_force_survives_the_records() {
    let mut stage = Stage::new(small(Mutant::None));
    stage.fill(3);
    let end = stage.log.log_end();
    stage.log.trim(end);
    stage.pass(3000);
    let mut stage = stage.killed();
    assert_eq!(stage.log.latest_epoch(), EPOCH);
    assert_eq!(stage.log.epoch_end(EPOCH), (EPOCH, end));
    assert_eq!(stage.log.epoch_end(LeaderEpoch::new(2)), (LeaderEpoch::new(2), end), "older than all known");
    assert_eq!(stage.keep(&value(stage.time(), 10)), end.plus(1));
}

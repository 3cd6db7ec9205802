//! Disks that fail and fill up, kind by kind. `docs/FAULTS.md` says which fault is which.

use highwater_base::{Mutant, Offset};
use highwater_engine::{AppendError, Durability, Log, LogSettings, Preallocate, Read, ReadError, Verdict};
use highwater_io::ErrorKind;
use highwater_sim::{EDQUOT, EFBIG, EIO, ENOSPC, Fault, FaultKind, Loss, SimDisk, SimIo};
use highwater_tests::points::{each, reopens};
use highwater_tests::scenario::{Judged, Stage, ensure, holds_and_catches, small, value};
use highwater_tests::workload::{Plan, Run, run, tiny};

/// Too many open files.
const EMFILE: i32 = 24;
/// The file system became read-only.
const EROFS: i32 = 30;

/// A log of several segments, stopped in order; its settings, and how many batches it holds.
fn stopped() -> (SimDisk, LogSettings, usize) {
    let mut stage = Stage::new(small(Mutant::None));
    stage.fill(4);
    let batches = stage.batches(0).expect("it is sound").len();
    (stage.stop(), small(Mutant::None), batches)
}

/// A read that fails, once or for good, is an answer with its reason; the log goes on, and once the disk is well reads do.
#[test]
fn f11_a_read_that_fails_is_told_and_the_log_goes_on() {
    let (disk, settings, kept) = stopped();
    let read_all = |stage: &mut Stage| {
        let (mut failed, mut next) = (0, 0);
        while next < stage.log.log_end().get() {
            match stage.read(next, 3000) {
                Ok(fetched) => next = fetched.next.get(),
                Err(ReadError::Io(error)) => {
                    assert_eq!(error.kind, ErrorKind::Device);
                    failed += 1;
                    if failed > 20 {
                        break;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        failed
    };
    let (mut stage, _) = Stage::open(disk.clone(), settings, true).unwrap();
    assert_eq!(read_all(&mut stage), 0);
    let operations = stage.operations();
    let mut met = 0;
    for (number, name) in operations.iter().enumerate().filter(|(_, name)| **name == "read") {
        for lasting in [false, true] {
            let (mut stage, _) = Stage::open(disk.clone(), settings, true).unwrap();
            let at = stage.io.operations() + number as u64;
            stage.io.inject(Fault { at, kind: FaultKind::Error(EIO), lasting });
            let failed = read_all(&mut stage);
            met += failed;
            assert!(!lasting || failed > 0, "{name} {number} was not met");
            assert!(lasting || failed <= 1, "{name} {number}: one fault, {failed} failures");
            assert_eq!(stage.log.failure(), None);
            stage.keep(&value(stage.time(), 100));
            stage.io.heal();
            let batches = stage.batches(0).unwrap();
            assert_eq!(batches.len(), kept + 1, "{name} {number} once it is well");
        }
    }
    assert!(met > 20, "only {met} failures");
}

fn short(faults: Vec<Fault>, mutant: Mutant) -> Run {
    let settings = LogSettings { mutant, ..tiny(Durability::Each) };
    run(Plan { faults, heal_when_refused: true, short: true, ..Plan::new(settings, 3) })
}

/// What a run that met a fault left: everything promised, nothing torn, by a kill and by a power cut.
fn judge_left(run: &Run, seed: u64) -> Judged {
    let settings = tiny(Durability::Each);
    let model = highwater_tests::model::Model { closed: false, ..run.rig.model() };
    [Loss::Kill, Loss::Unsynced].into_iter().try_for_each(|loss| {
        let disk = run.rig.io.disk().power_cut(loss, seed);
        reopens(disk, &model, settings, loss == Loss::Kill).map_err(|what| format!("{loss:?}: {what}"))
    })
}

/// A device that is full for a moment, by any of its names, at every write: no partial batch is seen, what was acknowledged
/// stays, and appends go on with no restart.
#[test]
fn f12_a_full_device_is_waited_for_and_forgiven() {
    holds_and_catches(Mutant::NoSpaceIsFinal, |mutant| {
        let names = short(Vec::new(), Mutant::None).rig.operations().clone();
        let mut cases = Vec::new();
        for (at, _) in (0..).zip(&names).filter(|(_, name)| name.ends_with("write")) {
            for errno in [ENOSPC, EDQUOT, EFBIG] {
                cases.push(Fault { at, kind: FaultKind::Error(errno), lasting: false });
            }
            cases.push(Fault { at, kind: FaultKind::Short, lasting: at % 2 == 1 });
        }
        assert!(cases.len() > 100, "only {} cases", cases.len());
        each(&cases, |index, fault| {
            let run = short(vec![*fault], mutant);
            let at = |what: String| format!("{fault:?}: {what}");
            ensure(run.violations.is_empty(), || at(format!("{:?}", run.violations)))?;
            ensure(!run.rig.has_failed(), || at(format!("it failed: {:?}", run.rig.log.failure())))?;
            judge_left(&run, index as u64).map_err(at)
        })
    });
}

/// Appends twenty batches to a device that is full from one operation on, until somebody makes room.
fn full_for_a_while(fault: Option<Fault>, mutant: Mutant) -> Result<Stage, String> {
    let mut stage = Stage::new(small(mutant));
    if let Some(fault) = fault {
        stage.io.inject(fault);
    }
    let (mut refused, mut appended) = (0, 0);
    while appended < 20 {
        match stage.client(&value(stage.time(), 1500)) {
            Ok(_) => appended += 1,
            Err(AppendError::NoSpace { .. } | AppendError::Backpressure { .. }) => {
                refused += 1;
                ensure(refused < 100, || "space never returned".into())?;
                let synced = stage.log.synced_end().get();
                if synced > 0 {
                    stage.read(0, 100).map_err(|error| format!("a read while it is full: {error}"))?;
                }
                stage.io.heal();
                stage.pass(3000);
                ensure(stage.log.synced_end().get() >= synced, || "it took something back".into())?;
            }
            Err(error) => return Err(error.to_string()),
        }
        stage.settle();
    }
    stage.io.heal();
    stage.pass(3000);
    let end = stage.log.log_end();
    ensure(end.get() == 20 && stage.log.synced_end() == end, || format!("{end} of 20 are there"))?;
    ensure(stage.batches(0)?.len() == 20, || "batches are missing".into())?;
    Ok(stage)
}

#[test]
fn f12_appends_go_on_with_no_restart_when_space_returns() {
    holds_and_catches(Mutant::NoSpaceIsFinal, |mutant| {
        let names = full_for_a_while(None, Mutant::None)?.operations();
        let mut met = 0;
        for (at, name) in
            (0..).zip(&names).filter(|(_, name)| matches!(**name, "write" | "durable write" | "prepare"))
        {
            for errno in [ENOSPC, EDQUOT, EFBIG] {
                let fault = Fault { at, kind: FaultKind::Error(errno), lasting: true };
                let stage =
                    full_for_a_while(Some(fault), mutant).map_err(|what| format!("{name} {at}: {what}"))?;
                met += 1;
                let disk = stage.die(Loss::Unsynced);
                let (mut stage, _) = Stage::open(disk, small(mutant), false).map_err(|e| e.to_string())?;
                ensure(stage.batches(0)?.len() == 20, || format!("{name} {at}: after a power cut"))?;
            }
        }
        ensure(met > 60, || format!("only {met} cases"))
    });
}

/// Readers of what is there go on while the device is full, also of a segment whose indexes wait to be written.
#[test]
fn f12_reads_go_on_while_a_seal_waits_for_space() {
    holds_and_catches(Mutant::SealHidesSegment, |mutant| {
        let fill = |fault: Option<Fault>| {
            let mut stage = Stage::new(small(mutant));
            fault.into_iter().for_each(|fault| stage.io.inject(fault));
            while stage.log.segment_count() < 2 {
                stage.settle();
                match stage.client(&value(stage.time(), 1500)) {
                    Err(AppendError::NoSpace { .. }) => break,
                    other => other.map_err(|error| error.to_string())?,
                };
            }
            stage.pass(100);
            Ok::<Stage, String>(stage)
        };
        let names = fill(None)?.operations();
        // Indexes, seal and checkpoint come after the last batch.
        for back in 1..8 {
            let writes: Vec<u64> =
                (0..).zip(&names).filter(|(_, name)| name.ends_with("write")).map(|(at, _)| at).collect();
            let at = writes[writes.len() - back];
            let mut stage = fill(Some(Fault { at, kind: FaultKind::Error(ENOSPC), lasting: true }))?;
            let (now, end) = (stage.now(), stage.log.log_end());
            let read = stage.log.read(now, Offset::ZERO, end, 4000).map_err(|error| error.to_string())?;
            if let Read::Pending(id) = read {
                for _ in 0..20 {
                    stage.pass(20);
                }
                ensure(stage.is_answered(id), || format!("full at write {back} from the end: no answer"))?;
                stage.wait(id).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    });
}

/// A write that fails for good ends the log: appends are refused with the reason, and nothing it promised is gone.
#[test]
fn f12_a_write_that_fails_ends_the_log_and_loses_nothing() {
    let names = short(Vec::new(), Mutant::None).rig.operations().clone();
    let writes: Vec<u64> =
        (0..).zip(&names).filter(|(_, name)| name.ends_with("write")).map(|(at, _)| at).collect();
    let judged = each(&writes, |index, at| {
        for lasting in [false, true] {
            let run = short(vec![Fault { at: *at, kind: FaultKind::Error(EIO), lasting }], Mutant::None);
            ensure(!run.rig.acked_after_failure(), || {
                format!("operation {at}: acknowledged after the failure")
            })?;
            ensure(run.violations.is_empty(), || format!("operation {at}: {:?}", run.violations))?;
            judge_left(&run, index as u64).map_err(|what| format!("operation {at}: {what}"))?;
        }
        Ok(())
    });
    judged.unwrap_or_else(|what| panic!("{what}"));
}

/// A sync that fails once and would succeed the second time: the log is fenced in the same turn, nothing more is
/// acknowledged, and no retry counts (KAFKA-10778).
#[test]
fn f13_a_sync_that_fails_once_is_final() {
    holds_and_catches(Mutant::SyncErrorIgnored, |mutant| {
        let names = short(Vec::new(), Mutant::None).rig.operations().clone();
        let syncs: Vec<u64> =
            (0..).zip(&names).filter(|(_, name)| **name == "sync").map(|(at, _)| at).collect();
        assert!(syncs.len() > 20, "only {} syncs", syncs.len());
        each(&syncs, |index, at| {
            let run = short(vec![Fault { at: *at, kind: FaultKind::Error(EIO), lasting: false }], mutant);
            let what = |what: String| format!("operation {at}: {what}");
            ensure(!run.rig.acked_after_failure(), || what("acknowledged after the failure".into()))?;
            ensure(run.violations.is_empty(), || what(format!("{:?}", run.violations)))?;
            judge_left(&run, index as u64).map_err(what)
        })
    });
}

/// One of two logs of a shard meets a failing disk or a file system that became read-only: it stops with its reason,
/// readers are told, and the other serves on.
/// A whole segment is to be prepared, and there is no room for it: that is asked for once, not for ever, and appends go on in what
/// there is.
#[test]
fn f12_a_segment_that_cannot_be_prepared_as_a_whole_keeps_nobody_busy() {
    let settings =
        LogSettings { preallocate: Preallocate::Written, segment_bytes: 256 << 10, ..small(Mutant::None) };
    let mut stage = Stage::new(LogSettings { preallocate: Preallocate::Ahead, ..settings });
    stage.keep(&value(stage.time(), 1500));
    stage.pass(100);
    let room = stage.io.disk().used() + (64 << 10);
    stage.io.disk_mut().set_capacity(room);
    stage.log.update_settings(settings);
    let before = stage.io.operations();
    stage.pass(10_000);
    let idle = stage.io.operations() - before;
    assert!(idle < 100, "{idle} operations in ten seconds without an append");
    for _ in 0..10 {
        stage.keep(&value(stage.time(), 1500));
        stage.pass(10);
    }
    stage.io.disk_mut().set_capacity(u64::MAX);
    stage.keep(&value(stage.time(), 1500));
    stage.pass(1000);
    assert!(stage.log.failure().is_none());
}

#[test]
fn f16_a_log_that_fails_leaves_the_others_alone() {
    for errno in [EIO, EROFS] {
        let mut stage = Stage::new(small(Mutant::None));
        stage.fill(2);
        let other_dir = std::path::Path::new("/data/other-0");
        let now = stage.now();
        let settings = small(Mutant::None);
        let id = highwater_base::Uuid::from_bytes([4; 16]);
        let mut other = Log::create(now, other_dir, 2, settings, id);
        drive(&mut other, &mut stage.io, |log| log.is_ready());
        // The next write is the first log's.
        let at = stage.io.operations();
        stage.io.inject(Fault { at, kind: FaultKind::Error(errno), lasting: false });
        stage.client(&value(stage.time(), 1500)).unwrap();
        stage.settle();
        let failure = stage.log.failure().expect("it has failed").clone();
        assert_eq!(
            (failure.error.errno, failure.dir.as_path()),
            (errno, std::path::Path::new("/data/events-0"))
        );
        let refused = stage.client(&value(stage.time(), 10));
        assert!(matches!(refused, Err(AppendError::Failed(_))), "{refused:?}");
        assert!(matches!(stage.read(0, 100), Err(ReadError::Failed(_))));

        let origin = highwater_engine::Origin::Client { leader_epoch: highwater_tests::scenario::EPOCH };
        for number in 1..30 {
            other.append(stage.now(), &value(stage.time(), 1500), origin).expect("it serves on");
            drive(&mut other, &mut stage.io, |log| log.synced_end().get() == number);
        }
    }
}

/// Steps a log by itself until `done`.
fn drive(log: &mut Log, io: &mut SimIo, done: impl Fn(&Log) -> bool) {
    for _ in 0..10_000 {
        log.step(io.clock().now(), io);
        if done(log) {
            return;
        }
        let mut completions = Vec::new();
        if !io.advance(&mut completions) {
            io.clock().advance(std::time::Duration::from_millis(10));
        }
        for completion in completions {
            log.complete(io.clock().now(), completion, io);
        }
    }
    panic!("it never came: {log:?}");
}

/// A segment's file removed while the log runs: reads of it say so, and everything else goes on, after a restart too.
#[test]
fn f16_a_removed_segment_is_told_to_its_readers_only() {
    let (disk, settings, _) = stopped();
    let (mut stage, _) = Stage::open(disk.clone(), settings, true).unwrap();
    let path = Stage::path("00000000000000000000.log");
    highwater_io::blocking::run(&mut stage.io, highwater_io::Op::Unlink { path }).unwrap();
    let missing = stage.read(0, 100);
    assert!(
        matches!(&missing, Err(ReadError::Io(error)) if error.kind == ErrorKind::NotFound),
        "{missing:?}"
    );
    assert!(stage.read(stage.log.log_end().get() - 12, 100).is_ok());
    stage.keep(&value(stage.time(), 100));
    assert_eq!(stage.log.failure(), None);
}

/// A log of six segments, stopped in order, and what its checkpoint was when it had two.
fn with_an_early_checkpoint(mutant: Mutant) -> (SimDisk, Vec<u8>, Offset) {
    let mut stage = Stage::new(small(mutant));
    stage.fill(2);
    let early = stage.files().into_iter().find(|(name, _)| name == "highwater.checkpoint");
    let (_, early) = early.expect("it was checkpointed");
    stage.fill(6);
    let end = stage.log.log_end();
    (stage.stop(), early, end)
}

/// The bases of a log's segments.
fn bases(disk: &SimDisk) -> Vec<i64> {
    let names = highwater_tests::scenario::files(disk).into_iter();
    names.filter_map(|(name, _)| name.strip_suffix(".log")?.parse().ok()).collect()
}

fn without_segments(disk: &SimDisk, gone: &[i64]) -> Result<SimDisk, String> {
    let mut io = SimIo::new(disk.clone(), 2);
    for (name, _) in highwater_tests::scenario::files(disk) {
        let of_these = gone.iter().any(|base| name.starts_with(&format!("{base:020}.")));
        if of_these && !name.ends_with(".snapshot") {
            let unlink = highwater_io::Op::Unlink { path: Stage::path(&name) };
            highwater_io::blocking::run(&mut io, unlink).map_err(|error| error.to_string())?;
        }
    }
    Ok(io.disk().clone())
}

/// Segments' files that are missing at a start, the last one or some in between, before the last checkpoint and behind it:
/// said, never passed over. Their offsets are refused, all others are read, none is given twice, and opening once more
/// says the same and changes nothing. Without the first ones a log begins later, as after retention.
#[test]
fn f16_a_segment_that_is_missing_at_a_start_is_told() {
    holds_and_catches(Mutant::MissingPassedOver, |mutant| {
        let (stopped, early, end) = with_an_early_checkpoint(mutant);
        let (settings, bases) = (small(mutant), bases(&stopped));
        ensure(bases.len() == 6, || format!("{} segments", bases.len()))?;
        let gone = (0..6).map(|number| number..number + 1).chain([1..4, 4..6]);
        let when = |gone: std::ops::Range<usize>| {
            [(true, false), (false, false), (false, true)].map(|how| (gone.clone(), how))
        };
        for (gone, (clean, behind)) in gone.flat_map(when) {
            let at = |what: String| format!("{gone:?} are missing, clean {clean}, behind {behind}: {what}");
            let mut disk = without_segments(&stopped, &bases[gone.clone()])?;
            if behind {
                disk.put(Stage::path("highwater.checkpoint"), &early);
            }
            let lost = bases[gone.start]..bases.get(gone.end).copied().unwrap_or(end.get());
            // The last ones: what was given of them is known from the checkpoint alone.
            let ends = if behind && gone.end == 6 { lost.start + 1 } else { end.get() };
            let opened = Stage::open(disk, settings, clean);
            let (mut stage, report) = opened.map_err(|error| at(error.to_string()))?;
            let told: Vec<Verdict> = report.findings.iter().map(|finding| finding.verdict).collect();
            let expected = if gone.start == 0 { vec![] } else { vec![Verdict::Rot] };
            ensure(told == expected, || at(format!("{told:?} is told")))?;
            ensure(stage.log.log_end().get() == ends, || at(format!("it ends at {}", stage.log.log_end())))?;
            for offset in 0..ends {
                let read = stage.read(offset, 1);
                let refused = matches!(read, Err(ReadError::Damaged { .. } | ReadError::OutOfRange { .. }));
                ensure(refused == lost.contains(&offset), || at(format!("offset {offset}: {read:?}")))?;
            }
            stage.settle();
            let image = stage.io.disk().image();
            let again = Stage::open(stage.io.disk().clone(), settings, false);
            let (again, report) = again.map_err(|error| at(error.to_string()))?;
            ensure(again.io.disk().image() == image, || at("changed by a second opening".into()))?;
            ensure(report.findings.len() == told.len(), || {
                at("the second opening says something else".into())
            })?;
            ensure(stage.keep(&value(stage.time(), 100)).get() == ends + 1, || at("the next append".into()))?;
        }
        Ok(())
    });
}

/// Out of file handles at any opening: tried again, or refused with the reason, and nothing is lost.
#[test]
fn f18_a_lack_of_file_handles_passes() {
    let names = short(Vec::new(), Mutant::None).rig.operations().clone();
    let opens: Vec<u64> = (0..).zip(&names).filter(|(_, name)| **name == "open").map(|(at, _)| at).collect();
    assert!(opens.len() > 30, "only {} openings", opens.len());
    let judged = each(&opens, |index, at| {
        let run =
            short(vec![Fault { at: *at, kind: FaultKind::Error(EMFILE), lasting: false }], Mutant::None);
        ensure(run.violations.is_empty(), || format!("operation {at}: {:?}", run.violations))?;
        ensure(!run.rig.has_failed(), || format!("operation {at}: {:?}", run.rig.log.failure()))?;
        judge_left(&run, index as u64).map_err(|what| format!("operation {at}: {what}"))
    });
    judged.unwrap_or_else(|what| panic!("{what}"));
}

/// Short transfers, retries below the seam and completions in any order, all the time: nobody notices.
#[test]
fn f18_short_transfers_and_completions_in_any_order_change_nothing() {
    for seed in 0..6 {
        let behaviour = highwater_sim::Behaviour::ROUGH;
        let plan = Plan { behaviour, short: true, ..Plan::new(tiny(Durability::Each), seed) };
        let run = run(plan);
        assert_eq!(run.violations, [], "seed {seed}");
        assert!(!run.rig.has_failed(), "seed {seed}: {:?}", run.rig.log.failure());
        judge_left(&run, seed).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

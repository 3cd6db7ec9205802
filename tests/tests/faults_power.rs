//! What the loss of power and of the process leave, kind by kind, on a short workload (`power_cut_every_op` has a long one
//! and all kinds). `docs/FAULTS.md` says which fault is which.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use highwater_base::Mutant;
use highwater_engine::{Durability, Log, LogSettings, OpenHint};
use highwater_sim::{Fault, FaultKind, Loss, Moment, SimDisk, SimIo};
use highwater_tests::model::Model;
use highwater_tests::points::{each, recorded, reopens};
use highwater_tests::recover::check;
use highwater_tests::rig::{DIR, Point, Rig};
use highwater_tests::scenario::{Judged, Stage, ensure, files, holds_and_catches, produced, small, value};
use highwater_tests::workload::{Plan, run, tiny};

fn settings(mutant: Mutant) -> LogSettings {
    LogSettings { mutant, ..tiny(Durability::Each) }
}

/// Every point of a workload left to one kind of loss, under `seeds` seeds, and opened by the rules it was written by.
fn cut(mutant: Mutant, loss: Loss, seeds: u64, wanted: impl Fn(&Point) -> bool) -> Judged {
    let settings = settings(mutant);
    let points: Vec<Point> = recorded(settings, 21).into_iter().filter(wanted).collect();
    assert!(points.len() > 5, "only {} points", points.len());
    each(&points, |index, point| {
        (0..seeds).try_for_each(|seed| {
            let disk = point.disk.power_cut(loss, seed * 1000 + index as u64);
            let at = |what: String| format!("{}, {loss:?}, seed {seed}: {what}", point.at);
            let rules = match mutant {
                // It is the reader of what is left that is weakened here.
                Mutant::NoCrc => settings,
                _ => LogSettings { mutant: Mutant::None, ..settings },
            };
            reopens(disk, &point.model, rules, loss == Loss::Kill).map_err(at)
        })
    })
}

#[test]
fn f01_a_power_cut_that_loses_everything_unsynced() {
    holds_and_catches(Mutant::NoSync, |mutant| cut(mutant, Loss::Unsynced, 1, |_| true));
}

/// A flush of the device is enough for blocks that were written before, and for no others.
#[test]
fn f01_a_shared_flush_serves_only_blocks_whose_metadata_is_durable() {
    let holds = |mutant, durability, by: &str| {
        let settings = LogSettings { durability, ..small(mutant) };
        let mut stage = Stage::new(settings);
        stage.keep(&value(1, 100));
        // More than one write takes: none of them can be durable alone.
        for _ in 0..2 {
            stage.client(&value(2, 12_000)).map_err(|error| error.to_string())?;
            stage.step();
        }
        let end = stage.log.log_end();
        stage.log.want_synced(end);
        stage.until(|stage| stage.log.synced_end() == end);
        let by_what = stage.operations();
        ensure(mutant != Mutant::None || by_what.contains(&by), || format!("no {by} in {by_what:?}"))?;
        let rules = LogSettings { mutant: Mutant::None, ..settings };
        let (stage, _) =
            Stage::open(stage.die(Loss::Unsynced), rules, false).map_err(|error| error.to_string())?;
        ensure(stage.log.log_end() == end, || format!("{:?} of {end:?} is left", stage.log.log_end()))
    };
    holds_and_catches(Mutant::UnsettledFlush, |mutant| {
        holds(mutant, Durability::Each, "flush")?;
        // Its space was only reserved.
        holds(mutant, Durability::Os, "sync")
    });
}

#[test]
fn f02_a_power_cut_that_keeps_any_subset_of_sectors() {
    holds_and_catches(Mutant::NoCrc, |mutant| cut(mutant, Loss::RandomSectors, 8, |_| true));
}

#[test]
fn f03_a_power_cut_that_keeps_later_writes_and_loses_earlier_ones() {
    holds_and_catches(Mutant::NoSync, |mutant| cut(mutant, Loss::EarlierWrites, 2, |_| true));
}

#[test]
fn f04_a_write_of_which_only_a_part_lands() {
    holds_and_catches(Mutant::NoCrc, |mutant| cut(mutant, Loss::TornWrite, 8, |_| true));
}

/// A roll makes a segment whose name is not durable yet: missing or empty, and everything before it is there.
#[test]
fn f05_a_new_segment_whose_directory_was_not_synced() {
    holds_and_catches(Mutant::NamesUnsynced, |mutant| {
        cut(mutant, Loss::LengthsAndNames, 1, |_| true)?;
        cut(mutant, Loss::SomeFiles, 2, |_| true)
    });
}

/// After each rename, before its directory is synced: the old name or the new, and nothing lost by either.
#[test]
fn f06_a_rename_whose_directory_was_not_synced() {
    holds_and_catches(Mutant::NamesUnsynced, |mutant| {
        let settings = settings(mutant);
        let points = recorded(settings, 21);
        let mut after = Vec::new();
        let mut left = 0;
        for point in points {
            left = if point.at.contains("rename Completed") { 12 } else { left - 1 };
            if left > 0 {
                after.push(point);
            }
        }
        assert!(after.len() > 20, "only {} points", after.len());
        let rules = LogSettings { mutant: Mutant::None, ..settings };
        each(&after, |index, point| {
            let losses = [Loss::Unsynced, Loss::LengthsAndNames, Loss::RandomSectors, Loss::EarlierWrites];
            losses.into_iter().try_for_each(|loss| {
                let disk = point.disk.power_cut(loss, index as u64);
                reopens(disk, &point.model, rules, false)
                    .map_err(|what| format!("{}, {loss:?}: {what}", point.at))
            })
        })
    });
}

/// KAFKA-15312, 9892: whatever side file lost its bytes when it was renamed too early, it counts as absent.
fn empty_side_files(mutant: Mutant) -> Judged {
    let settings = small(mutant);
    let mut stage = Stage::new(settings);
    let mut sequence = 0;
    while stage.log.segment_count() < 3 {
        stage.keep(&produced(7, 0, sequence, stage.time(), 700));
        stage.keep(&value(stage.time(), 700));
        sequence += 1;
    }
    stage.pass(200);
    let expected = (stage.log.log_end(), stage.log.producers().snapshot(), stage.log.epochs().to_vec());
    let batches = stage.batches(0)?;
    let disk = stage.die(Loss::Kill);
    let sides: Vec<String> = files(&disk).into_iter().map(|(name, _)| name).collect();
    let mut emptied = 0;
    for name in sides.iter().filter(|name| !name.ends_with(".log") && *name != "partition.metadata") {
        let mut left = disk.clone();
        left.put(Stage::path(name), b"");
        let (mut stage, _) =
            Stage::open(left, settings, false).map_err(|error| format!("{name}: {error}"))?;
        let found = (stage.log.log_end(), stage.log.producers().snapshot(), stage.log.epochs().to_vec());
        ensure(found == expected, || format!("{name}: {found:?} is not {expected:?}"))?;
        ensure(stage.batches(0)? == batches, || format!("{name}: other records"))?;
        emptied += 1;
    }
    ensure(emptied > 8, || format!("only {emptied} files"))?;
    // All of them at once, too.
    let mut left = disk.clone();
    for name in sides.iter().filter(|name| !name.ends_with(".log") && *name != "partition.metadata") {
        left.put(Stage::path(name), b"");
    }
    let (mut stage, _) = Stage::open(left, settings, false).map_err(|error| error.to_string())?;
    ensure(stage.batches(0)? == batches, || "all of them: other records".into())?;
    ensure(stage.log.producers().snapshot() == expected.1, || "all of them: other producers".into())
}

#[test]
fn f07_a_file_renamed_before_its_data_was_forced_counts_as_absent() {
    holds_and_catches(Mutant::EmptySnapshotBelieved, empty_side_files);
}

/// KAFKA-15312, 9892, 6499: the same, as Kafka's history has it: a snapshot of zero bytes is no snapshot, and a
/// checkpoint file of nothing says nothing.
#[test]
fn r66_a_snapshot_that_was_moved_before_its_data_is_no_snapshot() {
    holds_and_catches(Mutant::EmptySnapshotBelieved, |mutant| {
        let settings = small(mutant);
        let mut stage = Stage::new(settings);
        for sequence in 0..3 {
            stage.keep(&produced(7, 0, sequence, stage.time(), 100));
        }
        let mut disk = stage.stop();
        let snapshot = Stage::path("00000000000000000003.snapshot");
        assert!(disk.contents(&snapshot).is_some_and(|bytes| !bytes.is_empty()));
        disk.put(&snapshot, b"");
        let (mut stage, _) = Stage::open(disk, settings, true).map_err(|error| error.to_string())?;
        let again = stage.client(&produced(7, 0, 2, stage.time(), 100)).map_err(|error| error.to_string())?;
        ensure(again.duplicate && again.first.get() == 2, || format!("the last batch again: {again:?}"))
    });
}

/// A disk that says it has synced and has not: what is left is a prefix without a hole, and every record is one that was
/// appended there. That acknowledged records are gone only other replicas can tell.
#[test]
fn f14_a_disk_that_lies_about_a_sync_leaves_a_prefix() {
    let plan = |faults| Plan { faults, short: true, ..Plan::new(settings(Mutant::None), 5) };
    let names = run(plan(Vec::new())).rig.operations().clone();
    let syncs: Vec<u64> = (0..)
        .zip(&names)
        .filter(|(_, name)| name.ends_with("write") || **name == "sync")
        .map(|(at, _)| at)
        .collect();
    assert!(syncs.len() > 30, "only {} syncs and writes", syncs.len());
    let lies: Vec<(u64, bool)> = syncs.iter().map(|at| (*at, false)).chain([(syncs[3], true)]).collect();
    let judged = each(&lies, |index, (at, lasting)| {
        let run = run(plan(vec![Fault { at: *at, kind: FaultKind::Lying, lasting: *lasting }]));
        let model = Model { synced: 0, written: 0, closed: false, ..run.rig.model() };
        [Loss::Unsynced, Loss::EarlierWrites, Loss::RandomSectors].into_iter().try_for_each(|loss| {
            let disk = run.rig.io.disk().power_cut(loss, index as u64);
            let opened = Rig::open(SimIo::new(disk, 1), settings(Mutant::None), model.clone());
            let Ok((mut rig, _)) = opened else { return Ok(()) }; // Refused, with its reason.
            let (start, end) = (rig.log.log_start().get(), rig.log.log_end().get());
            // What is refused as rot is noticed; what is served is right.
            let mut next = start;
            while next < end {
                match rig.read(next, end, 4096) {
                    Some(Ok(fetched)) if fetched.next.get() > next => {
                        let bytes = fetched.to_vec();
                        for frame in highwater_tests::model::frames(&bytes)? {
                            let appended = model.batches.get(&frame.first).map(|(_, bytes)| &**bytes);
                            ensure(appended == Some(frame.bytes), || {
                                format!(
                                    "operation {at}, {loss:?}: offset {} is not what was appended",
                                    frame.first
                                )
                            })?;
                        }
                        next = fetched.next.get();
                    }
                    Some(Err(highwater_engine::ReadError::Damaged { until, .. })) => next = until.get(),
                    other => return Err(format!("operation {at}, {loss:?}: reading at {next}: {other:?}")),
                }
            }
            Ok(())
        })
    });
    judged.unwrap_or_else(|what| panic!("{what}"));
}

#[test]
fn f19_a_process_killed_at_any_operation_loses_nothing_it_wrote() {
    holds_and_catches(Mutant::NoCrc, |mutant| match mutant {
        Mutant::None => cut(mutant, Loss::Kill, 2, |_| true),
        _ => cut(mutant, Loss::Kill, 8, |_| true),
    });
}

/// The disk after every operation of an opening.
fn disks_while_opening(disk: SimDisk, settings: LogSettings) -> Vec<SimDisk> {
    let kept: Rc<RefCell<Vec<SimDisk>>> = Rc::default();
    let mut io = SimIo::new(disk, 3);
    let seen = Rc::clone(&kept);
    io.watch(move |disk, event| {
        if event.moment == Moment::Completed && !matches!(event.name, "read" | "stat" | "readdir" | "close") {
            seen.borrow_mut().push(disk.clone());
        }
    });
    let now = io.clock().now();
    let hint = OpenHint { topic_id: Some(highwater_tests::rig::topic_id()), ..OpenHint::default() };
    Log::open(&mut io, now, Path::new(DIR), 7, settings, hint).unwrap_or_else(|error| panic!("{error}"));
    drop(io);
    Rc::try_unwrap(kept).expect("the watch is gone").into_inner()
}

/// Killed during a recovery, at each of its operations, and during the recovery of that: also while a truncation, whose
/// points are among them, was under way.
#[test]
fn f20_a_recovery_killed_anywhere_and_once_more_ends_the_same() {
    let settings = settings(Mutant::None);
    let points: Vec<Point> = recorded(settings, 22).into_iter().filter(|point| point.model.ready).collect();
    let some: Vec<Point> =
        points.into_iter().enumerate().filter(|(i, _)| i % 9 == 0).map(|(_, p)| p).collect();
    let nested = std::sync::atomic::AtomicUsize::new(0);
    let judged = each(&some, |index, point| {
        for loss in [Loss::Unsynced, Loss::RandomSectors] {
            let disk = point.disk.power_cut(loss, index as u64);
            let model = Model { closed: false, ..point.model.clone() };
            for (step, first) in disks_while_opening(disk, settings).into_iter().enumerate() {
                let at =
                    |what: String| format!("{}, {loss:?}, step {step} of its recovery: {what}", point.at);
                let again = first.power_cut(Loss::RandomSectors, step as u64);
                check(&again, &model, settings, Loss::Unsynced, 1, false)
                    .map_err(|what| at(what.to_string()))?;
                nested.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if step % 4 == 0 {
                    for second in disks_while_opening(again, settings).into_iter().step_by(3) {
                        let last = second.power_cut(Loss::EarlierWrites, step as u64);
                        check(&last, &model, settings, Loss::Unsynced, 2, false)
                            .map_err(|what| at(format!("and once more: {what}")))?;
                    }
                }
            }
        }
        Ok(())
    });
    judged.unwrap_or_else(|what| panic!("{what}"));
    let nested = nested.into_inner();
    assert!(nested > 200, "only {nested} recoveries were interrupted");
}

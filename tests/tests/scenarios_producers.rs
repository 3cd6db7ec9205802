//! Producers and transactions in the history of Kafka, as far as they concern the log: each scenario holds by today's
//! rules, and its old rule is caught. `docs/FAULTS.md` says which is which.

use std::sync::atomic::{AtomicUsize, Ordering};

use highwater_base::{Mutant, Offset, ProducerEpoch, ProducerId};
use highwater_engine::batch::{Batch, BatchBuilder, Marker, set_base_offset, set_leader_epoch};
use highwater_engine::producers::{ProducerBatch, Producers};
use highwater_engine::{AppendError, Durability, LogSettings};
use highwater_sim::{Loss, SimDisk};
use highwater_tests::scenario::{
    EPOCH, Judged, Stage, ensure, files, holds_and_catches, marker, produced, small, transactional, value,
};
use highwater_tests::workload::{Plan, run, tiny};

fn code(error: &AppendError) -> i16 {
    match error {
        AppendError::Producer(error) => error.kafka_code(),
        other => panic!("{other}"),
    }
}

/// Everything that a producer's entry says but for all batches before the last, which snapshots do not hold.
fn state(producers: &Producers) -> Vec<u8> {
    producers.snapshot()
}

/// The state that all batches of a log give, one after the other.
fn replayed(stage: &mut Stage) -> Result<Producers, String> {
    let mut producers = Producers::new(1000);
    let from = stage.log.log_start().get();
    for (_, bytes) in stage.batches(from)? {
        let batch = Batch::at(&bytes, 0).ok().flatten().ok_or("a batch that is none")?;
        if let Some(batch) = ProducerBatch::of(batch) {
            producers.apply(&batch);
        }
    }
    Ok(producers)
}

/// KAFKA-6683: a producer's batch counts once it is appended: the snapshot of a roll before it does not know it.
#[test]
fn r72_the_snapshot_of_a_roll_does_not_know_the_batch_that_rolls() {
    holds_and_catches(Mutant::ProducersAhead, |mutant| {
        let settings = small(mutant);
        let mut stage = Stage::new(settings);
        let mut sequence = 0;
        while stage.log.segment_count() < 3 {
            stage.keep(&produced(7, 0, sequence, stage.time(), 1500));
            sequence += 1;
        }
        stage.pass(200);
        let mut judged = 0;
        for (name, bytes) in stage.files().into_iter().filter(|(name, _)| name.ends_with(".snapshot")) {
            let at: i64 = name[..20].parse().expect("an offset");
            let snapshot = highwater_engine::producers::Snapshot::new(&bytes);
            snapshot.check().map_err(|error| format!("{name}: {error}"))?;
            for entry in snapshot.entries() {
                ensure(entry.last_offset.get() < at, || {
                    format!("{name} knows offset {}", entry.last_offset)
                })?;
                ensure(i64::from(entry.last_sequence) < at, || {
                    format!("{name} knows sequence {}", entry.last_sequence)
                })?;
            }
            judged += 1;
        }
        ensure(judged >= 2, || format!("{judged} snapshots"))
    });
}

/// KAFKA-5249, 5435, 5829, 9105, 10832: after a crash at any point, the producers are those of all the batches there are.
fn producers_after_every_crash(mutant: Mutant) -> Judged {
    let settings = LogSettings { mutant, ..tiny(Durability::Each) };
    let mut recorded = run(Plan { record: true, short: true, crashes: true, ..Plan::new(settings, 11) });
    assert_eq!(recorded.violations, []);
    let points = std::mem::take(&mut recorded.points);
    drop(recorded);
    assert!(points.len() > 300, "only {} points", points.len());
    let next = AtomicUsize::new(0);
    let judge = || -> Judged {
        while let Some((index, point)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            points.get(index).map(|point| (index, point))
        } {
            for loss in [Loss::Kill, Loss::Unsynced, Loss::Nothing] {
                let disk = point.disk.power_cut(loss, index as u64);
                if !point.model.ready {
                    continue;
                }
                let before = || format!("{}, {loss:?}", point.at);
                let (mut rig, _) = highwater_tests::rig::Rig::open(
                    highwater_sim::SimIo::new(disk, 1),
                    settings,
                    highwater_tests::model::Model { closed: false, ..point.model.clone() },
                )
                .map_err(|error| format!("{}: {error}", before()))?;
                let (start, end) = (rig.log.log_start().get(), rig.log.log_end().get());
                let bytes = rig.read_all(start, end).map_err(|what| format!("{}: {what}", before()))?;
                let mut expected = Producers::new(1000);
                for frame in highwater_tests::model::frames(&bytes)? {
                    let batch = Batch::at(frame.bytes, 0).ok().flatten().and_then(ProducerBatch::of);
                    batch.map(|batch| expected.apply(&batch));
                }
                // Producers whose records are gone may be known too.
                for (id, entry) in expected.iter() {
                    let found = rig.log.producers().get(id);
                    let last = |batches: &[highwater_engine::producers::BatchMeta]| batches.last().copied();
                    ensure(found.map(|f| last(f.batches())) == Some(last(entry.batches())), || {
                        format!("{}: producer {id}: {found:?} is not {entry:?}", before())
                    })?;
                }
                for (id, entry) in rig.log.producers().iter() {
                    ensure(entry.batches().iter().all(|batch| batch.last_offset.get() < end), || {
                        format!("{}: producer {id} has written beyond {end}: {entry:?}", before())
                    })?;
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(judge)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })
}

#[test]
fn r73_producers_after_any_crash_are_those_of_a_full_replay() {
    producers_after_every_crash(Mutant::None).unwrap_or_else(|what| panic!("{what}"));
}

/// KAFKA-10832, 9105: without any snapshot, with an older one, with damaged ones: the same producers.
#[test]
fn r73_whatever_snapshots_there_are_the_producers_are_the_same() {
    holds_and_catches(Mutant::ReplayFromCheckpoint, |mutant| {
        let settings = small(mutant);
        let mut stage = Stage::new(settings);
        let mut sequence = 0;
        while stage.log.segment_count() < 4 {
            for id in [7, 8, 9] {
                stage.keep(&produced(id, 0, sequence, stage.time(), 700));
            }
            sequence += 1;
        }
        stage.pass(200);
        let expected = state(&replayed(&mut stage)?);
        assert_eq!(state(stage.log.producers()), expected);
        let disk = stage.die(Loss::Kill);
        let snapshots: Vec<String> = files(&disk)
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| name.ends_with(".snapshot"))
            .collect();
        assert!(snapshots.len() >= 3, "{snapshots:?}");
        for keep in 0..=snapshots.len() {
            for damaged in [false, true] {
                let mut left = SimDisk::new();
                for (name, bytes) in files(&disk) {
                    let gone = snapshots.iter().position(|other| *other == name).is_some_and(|at| at >= keep);
                    match (gone, damaged) {
                        (false, _) => left.put(Stage::path(&name), &bytes),
                        (true, true) => left.put(Stage::path(&name), &bytes[..bytes.len() / 2]),
                        (true, false) => {}
                    }
                }
                let (stage, _) = Stage::open(left, settings, false).map_err(|error| error.to_string())?;
                ensure(state(stage.log.producers()) == expected, || {
                    format!("{keep} snapshots kept, damaged {damaged}: {:?}", stage.log.producers())
                })?;
            }
        }
        Ok(())
    });
}

/// KAFKA-6003: a follower that forgot a producer takes sequence 57 all the same: its leader has judged.
#[test]
fn r74_a_follower_takes_the_leaders_order() {
    let mut stage = Stage::new(small(Mutant::None));
    for (base, sequence) in [(0, 3), (1, 57), (2, 12)] {
        let mut batch = produced(7, 0, sequence, stage.time(), 100);
        set_base_offset(&mut batch, Offset::new(base));
        set_leader_epoch(&mut batch, EPOCH);
        stage.replica(&batch).unwrap();
        stage.commit();
    }
    let entry = stage.log.producers().get(ProducerId::new(7)).expect("it is known");
    assert_eq!(entry.last_sequence(), 12);
    let refused = stage.client(&produced(7, 0, 40, stage.time(), 100)).unwrap_err();
    assert_eq!(code(&refused), 45, "as a leader it judges again");
}

/// KAFKA-7692, 7693, 5283: after sequence 2^31 - 1 comes 0, epochs go up to 32767, and a higher id is another producer.
#[test]
fn r75_sequences_wrap_and_epochs_go_to_their_end() {
    let mut stage = Stage::new(small(Mutant::None));
    let time = stage.time();
    stage.keep(&produced(7, 32_766, i32::MAX - 1, time, 10));
    let wrapping = BatchBuilder::new()
        .producer(ProducerId::new(7), ProducerEpoch::new(32_766), i32::MAX)
        .record(time, None, Some(b"2147483647"))
        .record(time, None, Some(b"0"))
        .build();
    stage.client(&wrapping).unwrap();
    stage.commit();
    stage = stage.killed();
    let again = stage.client(&wrapping).unwrap();
    assert!(again.duplicate && again.first.get() == 1, "the same again: {again:?}");
    stage.client(&produced(7, 32_766, 1, time, 10)).unwrap();
    stage.client(&produced(7, 32_767, 0, time, 10)).unwrap();
    let fenced = stage.client(&produced(7, 32_766, 2, time, 10)).expect_err("the last epoch fences");
    assert_eq!(code(&fenced), 47, "{fenced}");
    stage.client(&produced(8, 0, 0, time, 10)).unwrap();
    stage.commit();
}

/// The straight form of the scenario above: one record at a time over the end of the numbers.
#[test]
fn r75_the_sequence_after_the_largest_is_zero() {
    holds_and_catches(Mutant::SequenceDoesNotWrap, |mutant| {
        let mut stage = Stage::new(small(mutant));
        for sequence in [i32::MAX - 1, i32::MAX, 0, 1] {
            let batch = produced(7, 0, sequence, stage.time(), 10);
            stage.client(&batch).map_err(|error| format!("sequence {sequence}: {error}"))?;
            stage.commit();
        }
        Ok(())
    });
}

/// KAFKA-7190 (KIP-360): retention takes a producer's records, and neither its place nor its last five batches go with
/// them.
#[test]
fn r76_a_producer_whose_records_are_gone_is_still_known() {
    holds_and_catches(Mutant::TrimForgetsProducers, |mutant| {
        let mut stage = Stage::new(small(mutant));
        let batches: Vec<Vec<u8>> = (0..5).map(|n| produced(7, 0, n, stage.time(), 200)).collect();
        for batch in &batches {
            stage.keep(batch);
        }
        stage.keep(&value(stage.time(), 100));
        stage.log.trim(stage.log.log_end());
        stage.pass(3000);
        for (number, batch) in batches.iter().enumerate() {
            let again = stage.client(batch).map_err(|error| error.to_string())?;
            ensure(again.duplicate && again.first.get() == number as i64, || format!("{number}: {again:?}"))?;
        }
        for clean in [true, false] {
            stage = if clean { stage.reopened() } else { stage.killed() };
            let again = stage.client(&batches[4]).map_err(|error| error.to_string())?;
            ensure(again.duplicate, || format!("after a restart (clean {clean}): {again:?}"))?;
        }
        let gap = stage.client(&produced(7, 0, 9, stage.time(), 10)).expect_err("a gap");
        ensure(code(&gap) == 45, || gap.to_string())?;
        stage.client(&produced(7, 0, 5, stage.time(), 10)).map_err(|error| error.to_string())?;
        Ok(())
    });
}

/// Redpanda #3039: killed after the append and before the answer; the client's retry gets the offset of the first time,
/// for each of the last five batches.
#[test]
fn r77_a_retry_after_a_kill_is_a_duplicate_with_the_first_offset() {
    holds_and_catches(Mutant::ProducersNotReplayed, |mutant| {
        let settings = LogSettings { checkpoint_ms: 1_000_000, ..small(mutant) };
        let mut stage = Stage::new(settings);
        stage.keep(&value(stage.time(), 100));
        let batches: Vec<Vec<u8>> = (0..5).map(|n| produced(7, 0, n, stage.time(), 200)).collect();
        for batch in &batches {
            stage.client(batch).map_err(|error| error.to_string())?;
            stage.settle();
        }
        let end = stage.log.log_end();
        stage = stage.killed();
        for (number, batch) in batches.iter().enumerate() {
            let again = stage.client(batch).map_err(|error| error.to_string())?;
            ensure(again.duplicate && again.first.get() == 1 + number as i64, || {
                format!("batch {number}: {again:?}")
            })?;
        }
        ensure(stage.log.log_end() == end, || format!("{end} became {}", stage.log.log_end()))
    });
}

/// KAFKA-19999: a marker whose answer was lost is written again with the same epoch: taken, and nothing changes.
#[test]
fn r82_a_marker_again_changes_nothing() {
    holds_and_catches(Mutant::MarkerNeedsNewerEpoch, |mutant| {
        for what in [Marker::Abort, Marker::Commit] {
            let mut stage = Stage::new(small(mutant));
            stage.keep(&transactional(7, 4, 0, stage.time()));
            for _ in 0..3 {
                stage.coordinator(&marker(what, 7, 4, stage.time())).map_err(|error| error.to_string())?;
                stage.commit();
                ensure(stage.log.last_stable_offset() == stage.log.log_end(), || "readers are held".into())?;
            }
            let aborted = stage.log.aborted_in(Offset::ZERO, stage.log.log_end()).len();
            ensure(aborted == usize::from(what == Marker::Abort), || format!("{aborted} aborted"))?;
            stage = stage.killed();
            let after = stage.log.aborted_in(Offset::ZERO, stage.log.log_end()).len();
            ensure(after == aborted, || format!("{aborted} aborted became {after}"))?;
            stage.client(&transactional(7, 4, 1, stage.time())).map_err(|error| error.to_string())?;
        }
        Ok(())
    });
}

/// KAFKA-6119, KIP-588: after a new epoch, by data or by a marker, the old instance is refused for good: with an error of
/// its own, before and after any restart.
#[test]
fn r87_an_older_epoch_is_refused_for_good() {
    holds_and_catches(Mutant::OldEpochAccepted, |mutant| {
        let mut stage = Stage::new(small(mutant));
        let time = stage.time();
        stage.keep(&produced(7, 1, 0, time, 10));
        stage.keep(&produced(7, 2, 0, time, 10));
        stage.keep(&transactional(8, 1, 0, time));
        stage.coordinator(&marker(Marker::Abort, 8, 2, time)).map_err(|error| error.to_string())?;
        stage.commit();
        for restart in 0..3 {
            let zombies =
                [produced(7, 1, 1, time, 10), transactional(8, 1, 1, time), produced(8, 0, 0, time, 10)];
            for zombie in zombies {
                match stage.client(&zombie) {
                    Err(error) => ensure(code(&error) == 47, || error.to_string())?,
                    Ok(appended) => return Err(format!("restart {restart}: taken: {appended:?}")),
                }
            }
            let late = stage.coordinator(&marker(Marker::Commit, 8, 1, time));
            ensure(late.as_ref().is_err_and(|error| code(error) == 47), || {
                format!("a late marker: {late:?}")
            })?;
            stage = if restart == 0 { stage.reopened() } else { stage.killed() };
        }
        stage.client(&produced(7, 2, 1, time, 10)).map_err(|error| error.to_string())?;
        stage.client(&transactional(8, 2, 0, time)).map_err(|error| error.to_string())?;
        Ok(())
    });
}

/// KAFKA-18575, 18464, as far as the log goes: an abort of nothing is taken and holds nobody, and the producer goes on.
#[test]
fn r83_an_abort_of_nothing_is_taken() {
    holds_and_catches(Mutant::EmptyAbortFences, |mutant| {
        let mut stage = Stage::new(small(mutant));
        // Before the producer's first transaction, and again after each that was committed.
        for sequence in 0..3 {
            stage
                .coordinator(&marker(Marker::Abort, 7, 0, stage.time()))
                .map_err(|error| error.to_string())?;
            stage.commit();
            let end = stage.log.log_end();
            ensure(stage.log.aborted_in(Offset::ZERO, end).is_empty(), || "something is aborted".into())?;
            ensure(stage.log.last_stable_offset() == end, || "readers are held".into())?;
            stage.client(&transactional(7, 0, sequence, stage.time())).map_err(|error| error.to_string())?;
            stage.commit();
            ensure(stage.log.last_stable_offset() == end, || "an open transaction is read".into())?;
            stage
                .coordinator(&marker(Marker::Commit, 7, 0, stage.time()))
                .map_err(|error| error.to_string())?;
            stage.commit();
        }
        Ok(())
    });
}

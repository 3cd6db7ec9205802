//! The power goes after every I/O operation of a workload of more than 2,000, with rolls, retention, recycled segments,
//! compaction, truncation, snapshots, moves between data directories, stops, kills and power cuts in it, under nine loss
//! policies. In the plain form each moment is left to two of them, in turn; to all of them with `HIGHWATER_TEST_FULL=1`.
//!
//! `HIGHWATER_MUTANT=no_sync` (syncs are claimed, not done) must make this fail.

use std::sync::atomic::{AtomicUsize, Ordering};

use highwater_base::Mutant;
use highwater_engine::batch::BatchBuilder;
use highwater_engine::{Durability, LogSettings};
use highwater_sim::{Behaviour, Loss, SimDisk, SimIo};
use highwater_tests::model::Violation;
use highwater_tests::points::each;
use highwater_tests::recover::check;
use highwater_tests::rig::{Point, Rig};
use highwater_tests::workload::{Plan, Run, run, tiny, tiny_compacted};

fn mutant() -> Mutant {
    let name = std::env::var("HIGHWATER_MUTANT").unwrap_or_default();
    Mutant::named(&name).unwrap_or_else(|| panic!("HIGHWATER_MUTANT={name}: no such mutant"))
}

/// One point in so many is also checked for going on afterwards, which costs several recoveries.
const DEEP_ONE_IN: usize = 8;

/// In the plain form each point is left to so many of the policies, in turn.
const PLAIN_POLICIES: usize = 2;

fn is_full() -> bool {
    std::env::var("HIGHWATER_TEST_FULL").is_ok_and(|full| full == "1")
}

/// The policies of point number `index`, each with its number: all of them, or some in turn.
fn policies(index: usize) -> impl Iterator<Item = (usize, Loss)> {
    let all: Vec<Loss> = Loss::POWER_CUTS.into_iter().chain([Loss::Kill]).collect();
    let (count, first) = if is_full() { (all.len(), 0) } else { (PLAIN_POLICIES, index * PLAIN_POLICIES) };
    (first..first + count).map(move |number| (number % all.len(), all[number % all.len()]))
}

#[derive(Default)]
struct Found {
    points: AtomicUsize,
    lost: AtomicUsize,
    holes: AtomicUsize,
    changes: AtomicUsize,
    bad: AtomicUsize,
}

impl Found {
    fn add(&self, violation: &Violation) -> usize {
        let count = match violation {
            Violation::Lost(_) => &self.lost,
            Violation::Hole(_) => &self.holes,
            Violation::Changed(_) => &self.changes,
            Violation::Bad(_) => &self.bad,
        };
        count.fetch_add(1, Ordering::Relaxed)
    }

    fn get(count: &AtomicUsize) -> usize {
        count.load(Ordering::Relaxed)
    }
}

/// Checks every point under every policy, on as many threads as there are cores.
fn check_all(points: &[Point], settings: LogSettings, found: &Found) {
    let judged = each(points, |index, point| {
        for (policy, loss) in policies(index) {
            let seed = (index * 16 + policy) as u64;
            let deep = (index + policy).is_multiple_of(DEEP_ONE_IN);
            let disk = point.disk.power_cut(loss, seed);
            found.points.fetch_add(1, Ordering::Relaxed);
            if let Err(violation) = check(&disk, &point.model, settings, loss, seed, deep)
                && found.add(&violation) < 5
            {
                println!("{} (point {index}), {loss:?}: {violation}", point.at);
            }
        }
        // All are counted: the first does not end it.
        Ok(())
    });
    assert_eq!(judged, Ok(()));
}

/// How many times over, each with other seeds: `HIGHWATER_ROUNDS`, by default once.
fn rounds() -> u64 {
    let rounds = std::env::var("HIGHWATER_ROUNDS").ok();
    rounds.map_or(1, |rounds| {
        rounds.parse().unwrap_or_else(|_| panic!("HIGHWATER_ROUNDS={rounds}: not a number"))
    })
}

fn recorded(settings: LogSettings, round: u64, seed: u64) -> Run {
    // What is acknowledged durably by default gets the longest run; the others, and every other round, a device that
    // retries and transfers less than it was asked for.
    let short = settings.durability != Durability::Each;
    let behaviour = if short || round % 2 == 1 { Behaviour::ROUGH } else { Behaviour::CALM };
    run(Plan { record: true, crashes: true, short, behaviour, ..Plan::new(settings, seed) })
}

#[test]
fn power_cut_every_op() {
    let found = Found::default();
    let durabilities =
        [Durability::Each, Durability::Os, Durability::Interval { bytes: 16 << 10, messages: 20, ms: 20 }];
    let runs = (0..rounds())
        .flat_map(|round| (1..).zip(durabilities).map(move |(nth, d)| (round, round * 10 + nth, d)));
    for (round, seed, durability) in runs {
        let settings = LogSettings { mutant: mutant(), ..tiny_compacted(durability) };
        let run = recorded(settings, round, seed);
        assert!(!run.rig.has_failed(), "seed {seed}: {:?}", run.rig.log.failure());
        assert_eq!(run.violations, [], "while it ran, seed {seed}, {durability:?}");
        let operations = run.rig.operations().len();
        println!(
            "{durability:?}, seed {seed}: {operations} operations, {} points, {:?}",
            run.points.len(),
            run.done
        );
        // The shorter runs, which are of the other durabilities, do not move.
        let never: &[&str] = if durability == Durability::Each { &[] } else { &["moves"] };
        assert_eq!(run.done.never(), never, "the workload does not do everything");
        assert!(
            operations >= 2000 || durability != Durability::Each,
            "the workload has only {operations} operations"
        );
        check_all(&run.points, settings, &found);
    }
    let [points, lost, holes, changes, bad] =
        [&found.points, &found.lost, &found.holes, &found.changes, &found.bad].map(Found::get);
    let full = if is_full() { "yes" } else { "no" };
    println!(
        "figure: power_cut_every_op points={points} lost={lost} holes={holes} second_recovery_changes={changes} full={full}"
    );
    assert_eq!((lost, holes, changes, bad), (0, 0, 0, 0), "lost, holes, changes by a second recovery, other");
}

/// Names of several new segments, without what was in them, before there was time for a checkpoint of what was synced: none
/// of them follows the log's end.
#[test]
fn a_log_that_rolls_before_it_has_synced_anything_has_no_hole() {
    for durability in [Durability::Os, Durability::Each] {
        for (seed, at) in [(1, None), (2, Some(1000)), (3, Some(0))] {
            let settings = LogSettings { segment_bytes: 8 << 10, checkpoint_ms: 60_000, ..tiny(durability) };
            let mut disk = SimDisk::new();
            disk.put("/data/meta.properties", b"");
            let mut rig = Rig::create(SimIo::new(disk, seed), settings, true);
            if let Some(at) = at {
                rig.append(&BatchBuilder::new().record(1, None, Some(b"goes")).build())
                    .expect("it takes appends");
                rig.restart_at(at);
            }
            for size in [4000, 3900, 3500, 8000, 3950, 7000] {
                let batch = BatchBuilder::new().record(1_767_225_600_000, None, Some(&vec![7; size])).build();
                while rig.append(&batch).is_err() {
                    rig.pump();
                }
                rig.step();
                rig.pump();
            }
            rig.settle();
            let points = rig.take_points();
            let judged = each(&points, |index, point| {
                Loss::POWER_CUTS.into_iter().try_for_each(|loss| {
                    let disk = point.disk.power_cut(loss, index as u64);
                    check(&disk, &point.model, settings, loss, index as u64, false).map_err(|what| {
                        format!("{durability:?}, {at:?}, {} (point {index}), {loss:?}: {what}", point.at)
                    })
                })
            });
            assert_eq!(judged, Ok(()));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| run(Plan { crashes: true, ..Plan::new(tiny_compacted(Durability::Each), seed) }).trace;
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}

//! A log moves between two data directories while it is written to, trimmed, cut; the power goes after every I/O operation
//! of it, under every loss policy: exactly one of the two is the log, and everything acknowledged is in it. A compaction
//! during a move has no test.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use highwater_base::{Mutant, Prng, ProducerEpoch, ProducerId, Uuid};
use highwater_engine::batch::{BatchBuilder, Codec};
use highwater_engine::{Durability, LogSettings};
use highwater_sim::{Behaviour, EIO, ENOSPC, Fault, FaultKind, Loss, SimDisk, SimIo};
use highwater_tests::moved::DIRECTORIES;
use highwater_tests::points::each;
use highwater_tests::recover::check;
use highwater_tests::rig::{Point, Rig};
use highwater_tests::workload::tiny;

/// One point in so many is also checked for going on afterwards.
const DEEP_ONE_IN: usize = 16;

struct Workload {
    rig: Rig,
    rng: Prng,
    sequence: i32,
}

impl Workload {
    fn new(settings: LogSettings, seed: u64, behaviour: Behaviour) -> Workload {
        let mut disk = SimDisk::new();
        for directory in DIRECTORIES {
            disk.put(format!("{directory}/meta.properties"), b"");
        }
        let rig = Rig::create(SimIo::new(disk, seed).behaving(behaviour), settings, false);
        Workload { rig, rng: Prng::new(seed), sequence: 0 }
    }

    /// One batch; a log that goes over takes none at that moment.
    fn append(&mut self) -> bool {
        let codec = Codec::ALL[self.rng.below(5) as usize];
        let idempotent = self.rng.one_in(2);
        let mut builder = BatchBuilder::new().codec(codec);
        if idempotent {
            builder = builder.producer(ProducerId::new(7), ProducerEpoch::new(0), self.sequence);
        }
        let count = 1 + self.rng.below(3) as i32;
        for at in 0..count {
            let bytes: Vec<u8> = (0..self.rng.below(1500)).map(|_| self.rng.next_u64() as u8).collect();
            builder.push(1_767_225_600_000 + i64::from(at), Some(b"k"), Some(&bytes), &[]);
        }
        let taken = self.rig.append(&builder.build()).is_ok();
        self.sequence += if taken && idempotent { count } else { 0 };
        taken
    }

    fn fill(&mut self, batches: usize) {
        for _ in 0..batches {
            self.append();
            self.rig.settle();
        }
    }

    /// One completion, or some time.
    fn go_on(&mut self) {
        if !self.rig.pump() {
            self.rig.pass(Duration::from_millis(20));
        }
    }

    /// A whole move, with appends and `meanwhile` in it.
    fn move_log(&mut self, meanwhile: fn(&mut Workload, usize)) {
        let before = self.rig.moves;
        self.rig.begin_move();
        for turn in 0..2000 {
            if self.rig.moves > before || self.rig.has_failed() || self.rig.log.moving().is_none() {
                break;
            }
            // Slices are of 2 KiB here: more appends than this and the copy never catches up.
            if turn % 25 == 24 {
                self.append();
            }
            meanwhile(self, turn);
            self.go_on();
        }
    }
}

fn nothing(_: &mut Workload, _: usize) {}

fn trimmed(work: &mut Workload, turn: usize) {
    if turn == 25 {
        let end = work.rig.log.synced_end().get();
        work.rig.log.set_high_watermark(work.rig.log.synced_end());
        work.rig.trim(end - 3);
    }
}

fn cut(work: &mut Workload, turn: usize) {
    if turn == 40 {
        let to = (work.rig.log.log_end().get() - 7).max(work.rig.log.log_start().get());
        work.rig.truncate(to);
        work.sequence = work.rig.log.log_end().get() as i32;
        work.rig.epoch = work.rig.epoch.next();
    }
}

/// Given up half-way, and begun anew.
fn cancelled(work: &mut Workload, turn: usize) {
    if turn == 30 {
        work.rig.log.cancel_move();
        work.rig.step();
        work.rig.settle();
        work.rig.begin_move();
    }
}

/// Points of moves to and fro.
fn recorded(settings: LogSettings, seed: u64, behaviour: Behaviour) -> (Vec<Point>, Vec<&'static str>) {
    let mut work = Workload::new(settings, seed, behaviour);
    let mut points = Vec::new();
    for (round, meanwhile) in [nothing, trimmed, nothing, cancelled, cut].into_iter().enumerate() {
        work.fill(12);
        work.rig.take_points();
        work.rig.keep_points();
        work.move_log(meanwhile);
        assert_eq!(work.rig.moves, round + 1, "the log moves: {:?}", work.rig.log.moving());
        work.fill(3);
        points.extend(work.rig.take_points());
    }
    let names = work.rig.operations().clone();
    (points, names)
}

/// Whether both directories hold a log of the name.
fn is_in_both(disk: &SimDisk) -> bool {
    let image = disk.image();
    DIRECTORIES
        .iter()
        .all(|directory| image.contains_key(format!("{directory}/orders-0").as_ref() as &std::path::Path))
}

#[derive(Default)]
struct Found {
    points: AtomicUsize,
    lost: AtomicUsize,
    both: AtomicUsize,
}

fn check_all(points: &[Point], settings: LogSettings, found: &Found) {
    let judged = each(points, |index, point| {
        for (policy, loss) in Loss::POWER_CUTS.into_iter().chain([Loss::Kill]).enumerate() {
            let seed = (index * 16 + policy) as u64;
            let disk = point.disk.power_cut(loss, seed);
            found.points.fetch_add(1, Ordering::Relaxed);
            if is_in_both(&disk) && found.both.fetch_add(1, Ordering::Relaxed) < 3 {
                println!("{} (point {index}), {loss:?}: the log is in both directories", point.at);
            }
            let deep = (index + policy).is_multiple_of(DEEP_ONE_IN);
            if let Err(what) = check(&disk, &point.model, settings, loss, seed, deep)
                && found.lost.fetch_add(1, Ordering::Relaxed) < 3
            {
                println!("{} (point {index}), {loss:?}: {what}", point.at);
            }
        }
        Ok(())
    });
    assert_eq!(judged, Ok(()));
}

fn full() -> bool {
    std::env::var_os("HIGHWATER_TEST_FULL").is_some()
}

/// A mutant is given one of the two workloads.
fn cut_everywhere(mutant: Mutant, step: usize) -> (usize, usize, usize) {
    let found = Found::default();
    let runs = [(Durability::Each, Behaviour::CALM), (Durability::Os, Behaviour::ROUGH)];
    let runs = runs.into_iter().take(if mutant == Mutant::None { 2 } else { 1 });
    for (seed, (durability, behaviour)) in (1..).zip(runs) {
        let settings = LogSettings { mutant, ..tiny(durability) };
        let (points, names) = recorded(settings, seed, behaviour);
        println!("{durability:?}: {} operations, {} points of moves", names.len(), points.len());
        assert!(points.len() > 500, "too little was moved");
        let points: Vec<Point> = points.into_iter().step_by(step).collect();
        check_all(&points, settings, &found);
    }
    let Found { points, lost, both } = found;
    (points.into_inner(), lost.into_inner(), both.into_inner())
}

#[test]
fn move_power_cut() {
    // The smaller form takes every third point.
    let (points, lost, both) = cut_everywhere(Mutant::None, if full() { 1 } else { 3 });
    let whole = if full() { "yes" } else { "no" };
    println!("figure: move_power_cut points={points} lost={lost} both={both} full={whole}");
    assert_eq!((lost, both), (0, 0));
}

#[test]
fn a_copy_that_gets_its_name_before_the_old_directory_has_lost_it_is_found_twice() {
    let (_, _, both) = cut_everywhere(Mutant::MoveEntersFirst, 6);
    assert!(both > 0, "the test does not see two logs");
}

#[test]
fn a_copy_that_takes_its_place_unsynced_loses_what_was_acknowledged() {
    let (_, lost, _) = cut_everywhere(Mutant::MoveUnsynced, 6);
    assert!(lost > 0, "the test does not see what is lost");
}

/// A log with enough to move, on a calm disk; the number of the next operation is the same every time.
fn filled() -> Workload {
    let mut work = Workload::new(tiny(Durability::Each), 3, Behaviour::CALM);
    work.fill(20);
    work.rig.pass(Duration::from_millis(300));
    work
}

#[test]
fn whatever_fails_before_the_renames_ends_only_the_move() {
    let mut calm = filled();
    let first = calm.rig.io.operations();
    calm.move_log(nothing);
    assert_eq!(calm.rig.moves, 1);
    let names: Vec<&'static str> = calm.rig.operations()[first as usize..].to_vec();
    let (mut cases, mut failed, mut given_up) = (0, 0, 0);
    for (number, name) in names.iter().enumerate() {
        for kind in [FaultKind::Error(EIO), FaultKind::Error(ENOSPC), FaultKind::Short] {
            cases += 1;
            let case = format!("operation {number}, {name}, {kind:?}");
            let mut work = filled();
            work.rig.io.inject(Fault { at: first + number as u64, kind, lasting: false });
            work.move_log(nothing);
            work.rig.settle();
            if work.rig.has_failed() {
                failed += 1;
            } else {
                given_up += usize::from(work.rig.moves == 0);
                assert!(work.append(), "{case}: the log takes appends");
                let end = work.rig.log.log_end();
                assert!(
                    work.rig.run_until(|rig| rig.log.synced_end() == end),
                    "{case}: and makes them durable"
                );
                // What stood in the way is gone: it can move.
                work.move_log(nothing);
                assert!(work.rig.moves > 0, "{case}: {:?}", work.rig.log.failure());
            }
            assert!(!work.rig.acked_after_failure(), "{case}");
            for (seed, loss) in [(1, Loss::Kill), (2, Loss::Unsynced), (3, Loss::RandomSectors)] {
                let disk = work.rig.io.disk().power_cut(loss, seed);
                assert!(!is_in_both(&disk), "{case}, then {loss:?}: the log is in both directories");
                check(&disk, &work.rig.model(), tiny(Durability::Each), loss, seed, false)
                    .unwrap_or_else(|what| panic!("{case}, then {loss:?}: {what}"));
            }
        }
    }
    println!("{cases} cases: {given_up} gave the move up, {failed} ended the log");
    assert!(cases > 300 && given_up > 50 && failed < cases / 5, "{cases} {given_up} {failed}");
}

#[test]
fn a_move_keeps_to_its_rate_and_waits_when_told_to() {
    let mut work = filled();
    let bytes = work.rig.log.size_bytes();
    work.rig.log.move_to(DIRECTORIES[1].as_ref(), Uuid::ZERO, 0);
    work.rig.pass(Duration::from_secs(60));
    assert_eq!(work.rig.log.moving().map(|facts| facts.bytes), Some(0), "a move without a rate waits");
    work.rig.log.pace_move(bytes / 10);
    let began = work.rig.io.clock().now().mono;
    assert!(work.rig.run_until(|rig| rig.moves == 1), "it gets there");
    let took = work.rig.io.clock().now().mono.since(began);
    assert!(
        took >= Duration::from_secs(5),
        "ten seconds' worth of bytes, of which the last few do not wait: {took:?}"
    );
}

#[test]
fn readers_go_on_across_a_move() {
    let mut work = filled();
    let (start, end) = (work.rig.log.log_start().get(), work.rig.log.log_end().get());
    let before = work.rig.read_all(start, end).expect("a calm disk");
    work.rig.begin_move();
    let mut rounds = 0;
    while work.rig.moves == 0 {
        assert_eq!(work.rig.read_all(start, end).expect("while it moves"), before);
        work.go_on();
        rounds += 1;
        assert!(rounds < 2000);
    }
    assert_eq!(work.rig.read_all(start, end).expect("after it"), before);
    assert!(rounds > 3, "it was read while it moved");
}

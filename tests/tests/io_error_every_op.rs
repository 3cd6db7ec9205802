//! Every I/O operation of a workload fails once: with EIO, for want of space, or half done.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use highwater_engine::{Durability, LogSettings};
use highwater_sim::{EIO, ENOSPC, Fault, FaultKind, Loss};
use highwater_tests::model::Violation;
use highwater_tests::recover::check;
use highwater_tests::workload::{Plan, Run, run, tiny};

fn plan(faults: Vec<Fault>) -> Plan {
    Plan { faults, short: true, ..Plan::new(tiny(Durability::Each), 3) }
}

/// The operations of the workload without faults, by name.
fn operations() -> Vec<&'static str> {
    let run = run(plan(Vec::new()));
    assert_eq!(run.violations, []);
    assert!(!run.rig.has_failed());
    let names = run.rig.operations().clone();
    assert_eq!(names.len() as u64, run.rig.io.operations(), "every operation has its number");
    names
}

/// What is wrong with a run that met a fault, while it ran or with what it left.
fn judge(mut run: Run, settings: LogSettings, seed: u64) -> Vec<Violation> {
    let mut violations = std::mem::take(&mut run.violations);
    if run.rig.acked_after_failure() {
        violations.push(Violation::Lost("something was acknowledged after the log had failed".into()));
    }
    run.rig.io.heal();
    let model = run.rig.model();
    if !run.rig.has_failed() && model.ready {
        let (start, end) = (run.rig.log.log_start().get(), run.rig.log.log_end().get());
        let read = run.rig.read_all(start, end).and_then(|bytes| model.judge_bytes(start, end, &bytes));
        violations.extend(read.err());
    }
    for loss in [Loss::Kill, Loss::Unsynced, Loss::Nothing] {
        let disk = run.rig.io.disk().power_cut(loss, seed);
        let deep = seed.is_multiple_of(4);
        violations.extend(check(&disk, &model, settings, loss, seed, deep).err());
    }
    violations
}

/// Runs all cases on as many threads as there are cores; says how many violated something.
fn violations_of<C>(cases: &[C], judge: impl Fn(&C, u64) -> Vec<Violation> + Sync) -> usize
where
    C: Sync + std::fmt::Debug,
{
    let (next, bad) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, case)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(index).map(|case| (index, case))
                } {
                    let judged = catch_unwind(AssertUnwindSafe(|| judge(case, index as u64)));
                    let violations = judged.unwrap_or_else(|_| vec![Violation::Bad("it panicked".into())]);
                    if !violations.is_empty() && bad.fetch_add(1, Ordering::Relaxed) < 5 {
                        println!("{case:?}: {}", violations[0]);
                    }
                }
            });
        }
    });
    bad.into_inner()
}

#[test]
fn io_error_every_op() {
    let settings = tiny(Durability::Each);
    let mut cases = Vec::new();
    for (at, name) in operations().into_iter().enumerate() {
        let kinds = [FaultKind::Error(EIO), FaultKind::Error(ENOSPC), FaultKind::Short];
        let transfers = matches!(name, "read" | "write");
        for kind in kinds.into_iter().filter(|kind| *kind != FaultKind::Short || transfers) {
            cases.push((name, Fault { at: at as u64, kind, lasting: false }));
        }
    }
    let violations = violations_of(&cases, |(name, fault), seed| {
        let run = run(plan(vec![*fault]));
        // A short transfer is no error, and space that is missing once is waited for: no restart is needed.
        let survives = match fault.kind {
            FaultKind::Short => true,
            FaultKind::Error(ENOSPC) => matches!(*name, "write" | "prepare" | "mkdir" | "rename"),
            _ => false,
        };
        let failed = run.rig.has_failed().then(|| format!("the log failed: {:?}", run.rig.log.failure()));
        let mut violations = judge(run, settings, seed);
        violations.extend(failed.filter(|_| survives).map(Violation::Bad));
        violations
    });
    println!("figure: io_error_every_op cases={} violations={violations}", cases.len());
    assert_eq!(violations, 0);
}

#[test]
fn fsyncgate() {
    let settings = tiny(Durability::Each);
    let syncs = operations().into_iter().enumerate().filter(|(_, name)| matches!(*name, "sync" | "syncdir"));
    let cases: Vec<Fault> =
        syncs.map(|(at, _)| Fault { at: at as u64, kind: FaultKind::Error(EIO), lasting: false }).collect();
    assert!(cases.len() > 50, "only {} syncs", cases.len());
    let violations = violations_of(&cases, |fault, seed| judge(run(plan(vec![*fault])), settings, seed));
    println!("figure: fsyncgate cases={} acked_after_failure={violations}", cases.len());
    assert_eq!(violations, 0);
}

#[test]
fn appends_resume_without_a_restart_when_space_returns() {
    let full = |at| plan(vec![Fault { at, kind: FaultKind::Error(ENOSPC), lasting: true }]);
    let names = operations();
    let mut writes = (0..).zip(&names).filter(|(_, name)| **name == "write");
    let (write, _) = writes.nth(8).expect("it writes more than eight times");
    let run = run(Plan { heal_when_refused: true, ..full(write) });
    assert!(run.refused > 0, "the disk was never full");
    assert!(!run.rig.has_failed(), "{:?}", run.rig.log.failure());
    assert_eq!(judge(run, tiny(Durability::Each), 1), []);
}

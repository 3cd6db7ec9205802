//! Every I/O operation of a workload goes wrong, once or from then on: with EIO, for want of space, half done, retried
//! below the seam, or overtaken by the others. Every sync fails once.
//!
//! Then nothing acknowledged is gone, no partial batch is seen, nothing is acknowledged by a log that has failed, and one
//! that has not goes on without a restart. The plain form runs one case in [`SHARE`]; all of them with
//! `HIGHWATER_TEST_FULL=1`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use highwater_base::Mutant;
use highwater_engine::batch::BatchBuilder;
use highwater_engine::{Durability, LogSettings};
use highwater_sim::{Behaviour, EIO, ENOSPC, Fault, FaultKind, Loss, SimDisk, SimIo};
use highwater_tests::model::Violation;
use highwater_tests::recover::check;
use highwater_tests::rig::Rig;
use highwater_tests::workload::{Plan, Run, run, tiny, tiny_compacted};

/// One of the workloads that every fault is tried on: durability, seed and device differ.
#[derive(Clone, Copy, Debug)]
struct Base {
    durability: Durability,
    seed: u64,
    behaviour: Behaviour,
    mutant: Mutant,
}

/// Every durability, on a device that is calm and on one that retries and transfers less than it was asked for.
fn bases() -> Vec<Base> {
    let interval = Durability::Interval { bytes: 16 << 10, messages: 20, ms: 20 };
    let durabilities = [Durability::Each, Durability::Each, Durability::Os, interval];
    let devices = [Behaviour::CALM, Behaviour::ROUGH];
    let both = durabilities.into_iter().flat_map(|durability| devices.map(|device| (durability, device)));
    (3..)
        .zip(both)
        .map(|(seed, (durability, behaviour))| Base { durability, seed, behaviour, mutant: Mutant::None })
        .collect()
}

impl Base {
    fn settings(self) -> LogSettings {
        LogSettings { mutant: self.mutant, ..tiny_compacted(self.durability) }
    }

    fn plan(self, faults: Vec<Fault>) -> Plan {
        let Base { seed, behaviour, .. } = self;
        Plan { faults, short: true, behaviour, ..Plan::new(self.settings(), seed) }
    }

    /// The operations of the workload without faults, by name.
    fn operations(self) -> Vec<&'static str> {
        let run = run(self.plan(Vec::new()));
        assert_eq!(run.violations, []);
        assert!(!run.rig.has_failed());
        let names = run.rig.operations().clone();
        assert_eq!(names.len() as u64, run.rig.io.operations(), "every operation has its number");
        names
    }
}

/// A fault at one operation of a workload.
#[derive(Clone, Copy, Debug)]
struct Case {
    base: Base,
    /// Which operation it is.
    name: &'static str,
    fault: Fault,
}

impl Case {
    fn run(self) -> Run {
        // Space that is missing for good is given back when an append was refused for want of it.
        run(Plan { heal_when_refused: true, ..self.base.plan(vec![self.fault]) })
    }

    /// Whether the log must live through it: what is short or slow is no error, and space that is missing is waited for.
    fn must_survive(self) -> bool {
        match self.fault.kind {
            FaultKind::Short | FaultKind::Slow(_) => true,
            FaultKind::Error(ENOSPC) => {
                matches!(self.name, "write" | "durable write" | "prepare" | "mkdir" | "rename")
            }
            _ => false,
        }
    }
}

/// Retried below the seam (`EAGAIN`, `EINTR`): it takes ten times the slowest.
const RETRIED: FaultKind = FaultKind::Slow(Duration::from_millis(1));
/// Everything that was submitted after it completes before it.
const OVERTAKEN: FaultKind = FaultKind::Slow(Duration::from_millis(20));

/// Every fault at every operation, once and for all operations of its kind from then on.
fn all_cases(bases: Vec<Base>) -> Vec<Case> {
    let mut cases = Vec::new();
    for base in bases {
        for (at, name) in (0..).zip(base.operations()) {
            let kinds =
                [FaultKind::Error(EIO), FaultKind::Error(ENOSPC), RETRIED, OVERTAKEN, FaultKind::Short];
            let transfers = matches!(name, "read" | "write" | "durable write");
            for kind in kinds.into_iter().filter(|kind| *kind != FaultKind::Short || transfers) {
                for lasting in [false, true] {
                    cases.push(Case { base, name, fault: Fault { at, kind, lasting } });
                }
            }
        }
    }
    cases
}

fn is_full() -> bool {
    std::env::var("HIGHWATER_TEST_FULL").is_ok_and(|full| full == "1")
}

/// What is wrong with a run that met a fault: while it ran, when it goes on, or with what it left.
fn judge(case: Case, seed: u64) -> Vec<Violation> {
    let mut run = case.run();
    let settings = case.base.settings();
    let mut violations = std::mem::take(&mut run.violations);
    run.rig.io.heal();
    if !run.rig.has_failed() && run.rig.model().ready {
        violations.extend(goes_on(&mut run).err());
    }
    if run.rig.acked_after_failure() {
        violations.push(Violation::Lost("something was acknowledged after the log had failed".into()));
    }
    if run.rig.has_failed() && case.must_survive() {
        violations.push(Violation::Bad(format!("the log failed: {:?}", run.rig.log.failure())));
    }
    let model = run.rig.model();
    for loss in [Loss::Kill, Loss::Unsynced, Loss::Nothing] {
        let disk = run.rig.io.disk().power_cut(loss, seed);
        let deep = seed.is_multiple_of(4);
        violations.extend(check(&disk, &model, settings, loss, seed, deep).err());
    }
    violations
}

/// A log that has not failed takes another batch and makes it durable, without a restart, and serves all that it has.
fn goes_on(run: &mut Run) -> Result<(), Violation> {
    let batch = BatchBuilder::new().record(1_767_225_600_000, Some(b"after"), Some(b"the fault")).build();
    let mut appended = run.rig.append(&batch);
    for _ in 0..100 {
        if appended.is_ok() || run.rig.has_failed() {
            break;
        }
        run.rig.pass(Duration::from_millis(100));
        appended = run.rig.append(&batch);
    }
    let end = run.rig.log.log_end();
    run.rig.log.want_synced(end);
    run.rig.run_until(|rig| rig.log.synced_end() == end || rig.has_failed());
    if run.rig.has_failed() {
        return Ok(());
    }
    if appended.is_err() || run.rig.log.synced_end() != end {
        return Err(Violation::Bad(format!("it does not go on: {appended:?}, {:?}", run.rig.log)));
    }
    let (start, end, model) = (run.rig.log.log_start().get(), end.get(), run.rig.model());
    let bytes = run.rig.read_all(start, end)?;
    model.judge_bytes(start, end, &bytes)?;
    model.judge_keys(start, end, &bytes)
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

/// Without `HIGHWATER_TEST_FULL`, one case in so many. A prime, so that every kind of fault has its turn.
const SHARE: usize = 23;

#[test]
fn io_error_every_op() {
    let mut cases = all_cases(bases());
    if !is_full() {
        cases = cases.into_iter().step_by(SHARE).collect();
    }
    let violations = violations_of(&cases, |case, seed| judge(*case, seed));
    let full = if is_full() { "yes" } else { "no" };
    println!("figure: io_error_every_op cases={} violations={violations} full={full}", cases.len());
    assert_eq!(violations, 0);
}

/// Every sync of the workloads, failing once. A write that is to be durable is a sync, too.
fn failing_syncs(bases: Vec<Base>) -> Vec<Case> {
    let mut cases = Vec::new();
    for base in bases {
        for (at, name) in (0..).zip(base.operations()) {
            if matches!(name, "sync" | "syncdir" | "durable write") {
                let fault = Fault { at, kind: FaultKind::Error(EIO), lasting: false };
                cases.push(Case { base, name, fault });
            }
        }
    }
    cases
}

#[test]
fn fsyncgate() {
    let cases = failing_syncs(bases());
    assert!(cases.len() > 500, "only {} syncs", cases.len());
    let violations = violations_of(&cases, |case, seed| judge(*case, seed));
    println!("figure: fsyncgate cases={} acked_after_failure={violations}", cases.len());
    assert_eq!(violations, 0);
}

#[test]
fn a_log_that_counts_failed_syncs_is_found_out() {
    let by_the_old_rule = |base| Base { mutant: Mutant::SyncErrorIgnored, ..base };
    let cases = failing_syncs(bases().into_iter().map(by_the_old_rule).collect());
    assert!(violations_of(&cases, |case, seed| judge(*case, seed)) > 0);
}

#[test]
fn a_log_that_gives_up_for_want_of_space_is_found_out() {
    let mut cases = all_cases(vec![Base { mutant: Mutant::NoSpaceIsFinal, ..bases()[0] }]);
    cases.retain(|case| case.name == "write" && case.fault.kind == FaultKind::Error(ENOSPC));
    assert!(violations_of(&cases, |case, seed| judge(*case, seed)) > 0);
}

/// Appends to small segments, none of which waits for anything but room in memory.
fn hurried(settings: LogSettings, seed: u64, fault: Option<Fault>) -> Rig {
    let mut disk = SimDisk::new();
    disk.put("/data/meta.properties", b"");
    let mut io = SimIo::new(disk, seed);
    fault.into_iter().for_each(|fault| io.inject(fault));
    let mut rig = Rig::create(io, settings, false);
    for number in 0..30 {
        let value = vec![number as u8; 2000 + (number * 977 + seed as usize * 131) % 4000];
        let batch = BatchBuilder::new().record(1_767_225_600_000, None, Some(&value)).build();
        while rig.append(&batch).is_err() {
            assert!(!rig.has_failed(), "{:?}", rig.log.failure());
            if !rig.pump() {
                rig.pass(Duration::from_millis(1));
            }
        }
        rig.step();
    }
    rig.settle();
    rig
}

/// A segment may be full before it has its name: the file that is called the next one until then is not made anew.
#[test]
fn renames_that_later_segments_overtake_lose_nothing() {
    let settings = LogSettings { segment_bytes: 8 << 10, ..tiny(Durability::Each) };
    for seed in 0..40 {
        let operations = hurried(settings, seed, None).operations().clone();
        // Those of the creation, and of the epochs, come before.
        let renames = (0..).zip(operations).filter(|(_, name)| *name == "rename");
        for (at, _) in renames.take(6) {
            let fault = Fault { at, kind: OVERTAKEN, lasting: true };
            let mut rig = hurried(settings, seed, Some(fault));
            let (start, end, model) = (rig.log.log_start().get(), rig.log.log_end().get(), rig.model());
            let read = rig.read_all(start, end).and_then(|bytes| model.judge_bytes(start, end, &bytes));
            assert_eq!(read, Ok(()), "seed {seed}, operation {at}");
            let disk = rig.io.disk().power_cut(Loss::Unsynced, seed);
            let left = check(&disk, &model, settings, Loss::Unsynced, seed, false);
            assert_eq!(left, Ok(()), "seed {seed}, operation {at}");
        }
    }
}

#[test]
fn appends_resume_without_a_restart_when_space_returns() {
    let base = bases()[0];
    let mut writes = (0..).zip(base.operations()).filter(|(_, name)| name.ends_with("write"));
    let (at, name) = writes.nth(8).expect("it writes more than eight times");
    let case = Case { base, name, fault: Fault { at, kind: FaultKind::Error(ENOSPC), lasting: true } };
    let run = case.run();
    assert!(run.refused > 0, "the disk was never full");
    assert!(!run.rig.has_failed(), "{:?}", run.rig.log.failure());
    assert_eq!(judge(case, 1), []);
}

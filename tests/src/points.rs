//! A short workload's points, and what must hold when the power goes at each: for one kind of fault at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use highwater_engine::LogSettings;
use highwater_sim::{SimDisk, SimIo};

use crate::model::Model;
use crate::rig::{Point, Rig};
use crate::scenario::Judged;
use crate::workload::{Plan, run};

/// The points of a short workload, one for each operation that changed something. The workload itself must go well.
pub fn recorded(settings: LogSettings, seed: u64) -> Vec<Point> {
    let plan = Plan { record: true, short: true, ..Plan::new(settings, seed) };
    let run = run(plan);
    assert_eq!(run.violations, []);
    assert!(!run.rig.has_failed(), "{:?}", run.rig.log.failure());
    assert!(run.points.len() > 150, "only {} points", run.points.len());
    run.points
}

/// Judges each item, on as many threads as there are cores; the first failure counts.
///
/// ```
/// use highwater_tests::points::each;
/// assert_eq!(each(&[2, 4, 6], |_, n| if n % 2 == 0 { Ok(()) } else { Err("odd".into()) }), Ok(()));
/// assert_eq!(each(&[3], |index, _| Err(format!("item {index}"))), Err("item 0".to_owned()));
/// ```
pub fn each<T: Sync>(items: &[T], judge: impl Fn(usize, &T) -> Judged + Sync) -> Judged {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    if let Err(what) = judge(index, item) {
                        let mut failed = failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        failed.get_or_insert(what);
                        next.store(items.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
}

/// Opens what a crash left, by these settings and no others, and judges its ends and every byte.
pub fn reopens(disk: SimDisk, model: &Model, settings: LogSettings, kill: bool) -> Judged {
    if !model.ready {
        return Ok(());
    }
    let opened = Rig::open(SimIo::new(disk, 1), settings, model.clone());
    let (mut rig, _) = opened.map_err(|error| format!("it cannot be opened: {error}"))?;
    let (start, end) = (rig.log.log_start().get(), rig.log.log_end().get());
    model.judge_ends(start, end, kill).map_err(|violation| violation.to_string())?;
    let bytes = rig.read_all(start, end).map_err(|violation| violation.to_string())?;
    model.judge_bytes(start, end, &bytes).map_err(|violation| violation.to_string())
}

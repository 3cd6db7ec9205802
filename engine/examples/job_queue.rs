//! A queue of jobs with a log of acknowledgements beside it. Commit first, and a job runs at most once; process first,
//! and it runs at least once. Run it: `cargo run -p highwater-engine --example job_queue`.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a program of its own, not a shard")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::sync::Mutex;

use highwater_engine::{Engine, EngineConfig, LogHandle, NewRecord, Offset, StoredRecord};

/// Jobs in one log, what was acknowledged in another: a record a job that is done, its value the job's offset.
struct Queue {
    jobs: LogHandle,
    done: LogHandle,
    state: Mutex<State>,
}

/// Who has what. Everything below `low` is acknowledged.
#[derive(Default)]
struct State {
    low: Offset,
    acknowledged: BTreeSet<Offset>,
    /// Read, and neither handed out nor acknowledged yet.
    waiting: BTreeMap<Offset, StoredRecord>,
    /// The offset of the next job to be read.
    read_to: Offset,
}

impl Queue {
    fn open(engine: &Engine) -> Result<Queue, Box<dyn Error>> {
        let (jobs, done) = (engine.log("jobs")?, engine.log("jobs-done")?);
        let (start, facts) = (jobs.facts()?.start, done.facts()?);
        let mut state = State { low: start, read_to: start, ..State::default() };
        let mut acknowledgements = done.follower(facts.start);
        while acknowledgements.position() < facts.end {
            for record in acknowledgements.wait()? {
                state.acknowledge(Offset::new(i64::from_be_bytes(record.value().try_into()?)));
            }
        }
        Ok(Queue { jobs, done, state: Mutex::new(state) })
    }

    fn add(&self, jobs: impl IntoIterator<Item = String>) -> Result<(), Box<dyn Error>> {
        self.jobs.append_records(jobs.into_iter().map(|job| NewRecord::new().value(job)))?;
        Ok(())
    }

    /// The next job that nobody has; none if all are handed out.
    fn take(&self) -> Result<Option<StoredRecord>, Box<dyn Error>> {
        let mut state = self.state.lock().expect("no worker panics");
        while state.waiting.is_empty() {
            let records = self.jobs.records(state.read_to, 4096)?;
            let Some(last) = records.last() else { return Ok(None) };
            state.read_to = last.offset.plus(1);
            let open = records.into_iter().filter(|job| !state.is_acknowledged(job.offset));
            let open: Vec<_> = open.map(|job| (job.offset, job)).collect();
            state.waiting.extend(open);
        }
        Ok(state.waiting.pop_first().map(|(_, job)| job))
    }

    /// Says, durably, that a job need not be handed out again.
    fn acknowledge(&self, job: Offset) -> Result<(), Box<dyn Error>> {
        // One at a time: what is trimmed below must not hold what another worker is about to say.
        let mut state = self.state.lock().expect("no worker panics");
        let at = self.done.append_records([NewRecord::new().value(job.get().to_be_bytes())])?.first;
        state.acknowledge(job);
        if state.acknowledged.is_empty() {
            // Every job up to `low` is done: those go, and then what was said about them. In this order: a crash
            // in between leaves acknowledgements of jobs that are not there, which do no harm.
            self.jobs.trim(state.low)?;
            self.done.trim(at)?;
        }
        Ok(())
    }
}

impl State {
    fn is_acknowledged(&self, job: Offset) -> bool {
        job < self.low || self.acknowledged.contains(&job)
    }

    fn acknowledge(&mut self, job: Offset) {
        if job >= self.low {
            self.acknowledged.insert(job);
        }
        while self.acknowledged.remove(&self.low) {
            self.low = self.low.plus(1);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Promise {
    AtMostOnce,
    AtLeastOnce,
}

/// Works until there is nothing to do, or, after `until` jobs, ends between the two halves of one: as a crash would.
fn work(
    queue: &Queue,
    promise: Promise,
    until: usize,
    process: impl Fn(&StoredRecord),
) -> Result<(), Box<dyn Error>> {
    for number in 0.. {
        let Some(job) = queue.take()? else { return Ok(()) };
        let crash = number == until;
        match promise {
            Promise::AtMostOnce => {
                queue.acknowledge(job.offset)?;
                if crash {
                    return Ok(());
                }
                process(&job);
            }
            Promise::AtLeastOnce => {
                process(&job);
                if crash {
                    return Ok(());
                }
                queue.acknowledge(job.offset)?;
            }
        }
    }
    Ok(())
}

/// Several lives, each of three workers that crash; how often each job ran.
fn run(directory: &Path, promise: Promise) -> Result<BTreeMap<String, u32>, Box<dyn Error>> {
    let ran: Mutex<BTreeMap<String, u32>> = Mutex::default();
    let process = |job: &StoredRecord| {
        let name = String::from_utf8_lossy(job.value()).into_owned();
        *ran.lock().expect("no worker panics").entry(name).or_default() += 1;
    };
    for life in 0..CRASHES + 1 {
        let engine = Engine::open(EngineConfig::at(directory))?;
        let queue = Queue::open(&engine)?;
        if life == 0 {
            queue.add((0..JOBS).map(|number| format!("job-{number}")))?;
        }
        let until = if life < CRASHES { 5 + life } else { usize::MAX };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|_| scope.spawn(|| work(&queue, promise, until, process).map_err(|e| e.to_string())))
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
        })?;
        if life == CRASHES {
            let (jobs, all) = (queue.jobs.facts()?, Offset::new(JOBS as i64));
            assert_eq!((jobs.start, jobs.end), (all, all), "what is done is gone");
            engine.close()?;
        } // otherwise without a clean stop, like a crash
    }
    Ok(ran.into_inner()?)
}

const JOBS: usize = 100;
const CRASHES: usize = 3;
const WORKERS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("highwater-job-queue-{}", std::process::id()));
    for promise in [Promise::AtMostOnce, Promise::AtLeastOnce] {
        let ran = run(&directory.join(format!("{promise:?}")), promise)?;
        let (never, twice) = (JOBS - ran.len(), ran.values().filter(|times| **times > 1).count());
        println!("{promise:?}: of {JOBS} jobs, {never} never ran, {twice} ran more than once");
        match promise {
            Promise::AtMostOnce => assert_eq!((never, twice), (CRASHES * WORKERS, 0), "a crash loses a job"),
            Promise::AtLeastOnce => {
                assert_eq!((never, twice), (0, CRASHES * WORKERS), "a crash repeats a job")
            }
        }
    }
    std::fs::remove_dir_all(&directory)?;
    println!("job_queue: as promised");
    Ok(())
}

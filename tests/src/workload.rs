//! A fixed workload on one log: everything a log does, with the order decided by a seed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use highwater_base::{LeaderEpoch, Limits, Prng, ProducerEpoch, ProducerId};
use highwater_engine::batch::{BatchBuilder, Codec};
use highwater_engine::compact::CompactionSettings;
use highwater_engine::{AppendError, Durability, LogSettings, ReadError};
use highwater_sim::{Behaviour, Fault, Loss, SimDisk, SimIo};

use crate::done::Done;
use crate::model::{Violation, frames};
use crate::moved::DIRECTORIES;
use crate::rig::{Point, Rig};

mod space;

/// Keys that come again.
const KEYS: u64 = 12;

/// Settings under which every edge is met within a few hundred operations.
pub fn tiny(durability: Durability) -> LogSettings {
    LogSettings {
        durability,
        segment_bytes: 24 << 10,
        index_interval_bytes: 1024,
        index_bytes: 120,
        retention_ms: None,
        retention_bytes: Some(96 << 10),
        retention_check_ms: 500,
        file_delete_delay_ms: 200,
        checkpoint_ms: 100,
        limits: Limits::TINY,
        ..LogSettings::default()
    }
}

/// The same for a log that is compacted, too.
pub fn tiny_compacted(durability: Durability) -> LogSettings {
    let compaction = CompactionSettings {
        min_dirty_ratio: 0.0,
        delete_retention_ms: 300,
        ..CompactionSettings::default()
    };
    LogSettings { compaction: Some(compaction), ..tiny(durability) }
}

/// How to run the workload.
///
/// ```
/// use highwater_engine::Durability;
/// use highwater_tests::workload::{Plan, tiny};
/// let plan = Plan::new(tiny(Durability::Each), 1);
/// assert!(!plan.record && plan.faults.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    /// The log's settings.
    pub settings: LogSettings,
    /// Decides sizes, order and delays.
    pub seed: u64,
    /// Whether to keep a [`Point`] for every operation.
    pub record: bool,
    /// Whether the process and the machine die in between.
    pub crashes: bool,
    /// How the disk behaves.
    pub behaviour: Behaviour,
    /// Faults.
    pub faults: Vec<Fault>,
    /// Faults end once an append was refused for want of space.
    pub heal_when_refused: bool,
    /// Only a part of the workload, to be run a thousand times.
    pub short: bool,
}

impl Plan {
    /// A calm run that records nothing.
    pub fn new(settings: LogSettings, seed: u64) -> Plan {
        Plan {
            settings,
            seed,
            record: false,
            crashes: false,
            behaviour: Behaviour::CALM,
            faults: Vec::new(),
            heal_when_refused: false,
            short: false,
        }
    }
}

/// A finished run.
///
/// ```
/// use highwater_engine::Durability;
/// use highwater_tests::workload::{Plan, run, tiny};
/// let run = run(Plan { short: true, ..Plan::new(tiny(Durability::Each), 1) });
/// assert_eq!(run.violations, []);
/// assert!(run.points.is_empty());
/// ```
pub struct Run {
    /// The rig as it was left.
    pub rig: Rig,
    /// What was recorded.
    pub points: Vec<Point>,
    /// A hash of every operation and completion.
    pub trace: u64,
    /// What was wrong while it ran.
    pub violations: Vec<Violation>,
    /// Appends that were refused for want of space.
    pub refused: usize,
    /// What it did.
    pub done: Done,
}

struct Runner {
    plan: Plan,
    rig: Rig,
    prng: Prng,
    /// The next sequence number of each idempotent producer.
    sequences: [i32; 3],
    count: u64,
    traces: Vec<u64>,
    violations: Vec<Violation>,
    refused: usize,
    done: Done,
    snapshots: BTreeSet<PathBuf>,
}

/// Runs the workload to its end, or until the log has failed for good.
pub fn run(plan: Plan) -> Run {
    let mut disk = SimDisk::new();
    for directory in DIRECTORIES {
        disk.put(format!("{directory}/meta.properties"), b"");
    }
    let mut io = SimIo::new(disk, plan.seed).behaving(plan.behaviour);
    for fault in &plan.faults {
        io.inject(*fault);
    }
    let prng = Prng::new(plan.seed);
    let rig = Rig::create(io, plan.settings, plan.record);
    let mut runner = Runner {
        plan,
        rig,
        prng,
        sequences: [0; 3],
        count: 0,
        traces: Vec::new(),
        violations: Vec::new(),
        refused: 0,
        done: Done::default(),
        snapshots: BTreeSet::new(),
    };
    if runner.plan.short {
        runner.part();
    } else {
        runner.all();
    }
    let Runner { mut rig, mut traces, violations, refused, done, snapshots, .. } = runner;
    let done = Done { retired: rig.retired, moves: rig.moves, snapshots: snapshots.len(), ..done };
    traces.push(rig.io.trace());
    let trace = traces.iter().fold(0, |all: u64, trace| all.rotate_left(7) ^ trace);
    let points = rig.take_points();
    Run { rig, points, trace, violations, refused, done }
}

impl Runner {
    fn all(&mut self) {
        self.recycle(|_| {});
        self.appends(20);
        self.read_some(6);
        self.appends(25);
        self.rig.pass(Duration::from_millis(300));
        self.truncate();
        self.appends(15);
        self.crash(Loss::Kill);
        self.trim();
        self.appends(20);
        self.read_some(6);
        self.rig.pass(Duration::from_millis(700));
        self.compact(1000);
        self.relocate();
        if !self.rig.has_failed() {
            self.rig.close_and_reopen();
            self.new_epoch();
        }
        self.appends(25);
        self.crash(Loss::RandomSectors);
        self.appends(15);
        self.truncate();
        self.truncate();
        self.appends(10);
        self.recycle(Runner::relocate);
        self.rig.pass(Duration::from_millis(1500));
        self.read_some(6);
        self.appends(20);
        self.compact(12);
        self.appends(15);
        self.restart();
        self.appends(12);
        self.crash(Loss::Unsynced);
        self.appends(20);
        self.compact(1000);
        self.rig.pass(Duration::from_millis(1000));
        if !self.rig.has_failed() {
            self.rig.close_and_reopen();
        }
        self.appends(4);
        self.rig.settle();
    }

    fn part(&mut self) {
        self.appends(12);
        self.read_some(3);
        self.rig.pass(Duration::from_millis(300));
        self.truncate();
        self.appends(10);
        self.crash(Loss::Kill);
        self.trim();
        self.read_some(3);
        if !self.rig.has_failed() {
            self.rig.close_and_reopen();
            self.new_epoch();
        }
        self.appends(10);
        self.crash(Loss::RandomSectors);
        self.compact(1000);
        self.rig.pass(Duration::from_millis(700));
        self.read_some(3);
        self.recycle(|_| {});
        self.rig.settle();
    }

    fn new_epoch(&mut self) {
        self.rig.epoch = LeaderEpoch::new(self.rig.epoch.get() + 1);
        self.rig.log.assign_epoch(self.rig.epoch);
        self.rig.step();
    }

    /// A batch of any size and shape, no two alike, and of whose producer.
    fn batch(&mut self) -> (Vec<u8>, Option<(usize, i32)>) {
        self.count += 1;
        let sizes: &[(u64, u64)] =
            &[(20, 300), (20, 300), (300, 2000), (300, 2000), (2000, 5000), (6000, 11_000)];
        let (least, most) = sizes[self.prng.below(sizes.len() as u64) as usize];
        let mut builder = BatchBuilder::new();
        let mut producer = None;
        if self.prng.one_in(2) {
            let which = self.prng.below(3) as usize;
            builder = builder.producer(
                ProducerId::new(1000 + which as i64),
                ProducerEpoch::ZERO,
                self.sequences[which],
            );
            producer = Some(which);
        }
        if self.prng.one_in(5) {
            builder = builder.codec(Codec::Lz4);
        }
        let records = 1 + self.prng.below(4);
        let time = self.rig.io.clock().now().wall.get();
        for index in 0..records {
            let mut value = vec![0; (self.prng.below(most - least) + least) as usize / records as usize];
            self.prng.fill(&mut value);
            // Half of the keys come again, and some of these are removed.
            let (key, value) = match self.prng.below(8) {
                0..4 => (format!("{}/{index}", self.count), Some(&value[..])),
                4 => (format!("key-{}", self.prng.below(KEYS)), None),
                _ => (format!("key-{}", self.prng.below(KEYS)), Some(&value[..])),
            };
            builder.push(time + index as i64, Some(key.as_bytes()), value, &[]);
        }
        (builder.build(), producer.map(|which| (which, records as i32)))
    }

    /// Appends batches with completions in between, so that several operations are in flight at most times.
    fn appends(&mut self, count: usize) {
        for _ in 0..count {
            if self.rig.has_failed() {
                return;
            }
            let (batch, producer) = self.batch();
            let (mut tries, segments) = (0, self.rig.log.segment_count());
            let appended = loop {
                match self.rig.append(&batch) {
                    Err(AppendError::Backpressure { .. }) if tries < 200 => {
                        if !self.rig.pump() {
                            self.rig.pass(Duration::from_millis(10));
                        }
                    }
                    Err(AppendError::NoSpace { .. }) if tries < 200 => {
                        self.refused += 1;
                        if self.plan.heal_when_refused {
                            self.rig.io.heal();
                        }
                        self.rig.pass(Duration::from_millis(100));
                    }
                    other => break other,
                }
                tries += 1;
            };
            match appended {
                Ok(appended) => {
                    self.done.rolls += self.rig.log.segment_count().saturating_sub(segments);
                    if let Some((which, records)) = producer {
                        self.sequences[which] += records;
                        if self.prng.one_in(4) {
                            let again = self.rig.append(&batch);
                            if !again
                                .as_ref()
                                .is_ok_and(|again| again.duplicate && again.first == appended.first)
                            {
                                self.violations
                                    .push(Violation::Bad(format!("a batch was appended twice: {again:?}")));
                            }
                        }
                    }
                }
                Err(_) if self.rig.has_failed() => return,
                Err(error) => self.violations.push(Violation::Bad(format!("an append was refused: {error}"))),
            }
            if self.prng.one_in(6) {
                let end = self.rig.log.log_end();
                self.rig.log.want_synced(end);
            }
            match self.prng.below(4) {
                0 => {}
                1 => self.rig.step(),
                2 => {
                    for _ in 0..self.prng.below(4) {
                        self.rig.pump();
                    }
                }
                _ => self.rig.settle(),
            }
            let acknowledged = self.rig.log.acknowledged_end();
            self.rig.log.set_high_watermark(acknowledged);
        }
        let paths = self.rig.io.disk().image().into_keys();
        self.snapshots.extend(paths.filter(|path| path.extension().is_some_and(|kind| kind == "snapshot")));
    }

    fn read_some(&mut self, count: usize) {
        for _ in 0..count {
            let model = self.rig.model();
            let (start, end) = (self.rig.log.log_start().get(), self.rig.log.log_end().get());
            if start == end || self.rig.has_failed() {
                return;
            }
            let from = start + self.prng.below((end - start) as u64) as i64;
            let max_bytes = 100 + self.prng.below(20_000) as usize;
            match self.rig.read(from, end, max_bytes) {
                Some(Ok(fetched)) => {
                    let bytes = fetched.to_vec();
                    let first = model.batches.range(..=from).next_back().map_or(from, |(first, _)| *first);
                    if let Err(violation) = model.judge_bytes(first, fetched.next.get(), &bytes) {
                        self.violations.push(violation);
                    }
                    let batches = frames(&bytes).map_or(0, |frames| frames.len());
                    if bytes.len() > max_bytes && batches > 1 {
                        let what =
                            format!("{} bytes were read, {max_bytes} at most were asked for", bytes.len());
                        self.violations.push(Violation::Bad(what));
                    }
                }
                Some(Err(ReadError::Io(_) | ReadError::Failed(_))) if !self.plan.faults.is_empty() => {}
                other => self.violations.push(Violation::Bad(format!("reading at {from}: {other:?}"))),
            }
        }
    }

    /// Cuts a few batches, as a follower does, and goes on in a new epoch.
    fn truncate(&mut self) {
        if self.rig.has_failed() {
            return;
        }
        let model = self.rig.model();
        let back = 1 + self.prng.below(5) as usize;
        // What compaction relied on is never cut: it is committed.
        let low = model.log_start.max(self.rig.log.log_start().get()).max(model.compacted);
        let to = model.batches.iter().rev().nth(back).map_or(model.log_end, |(first, _)| *first).max(low);
        self.rig.truncate(to);
        self.done.truncations += usize::from(self.rig.log.log_end().get() < model.log_end);
        self.resume_producers();
        self.new_epoch();
    }

    /// Sequence numbers go on after the last batch that is still there.
    fn resume_producers(&mut self) {
        let model = self.rig.model();
        for (which, sequence) in self.sequences.iter_mut().enumerate() {
            let of = |bytes: &[u8]| crate::model::producer(bytes);
            let last = model.batches.iter().rev().find(|(_, (_, bytes))| of(bytes).0 == 1000 + which as i64);
            if let Some((first, (end, bytes))) = last {
                *sequence = of(bytes).2 + (end - first) as i32;
            }
        }
    }

    fn trim(&mut self) {
        let (start, acknowledged) = (self.rig.log.log_start().get(), self.rig.log.acknowledged_end().get());
        if !self.rig.has_failed() && acknowledged > start {
            self.rig.trim(start + (acknowledged - start) / 3);
            self.rig.pass(Duration::from_millis(600));
        }
    }

    /// A pass over all keys at once, or several over a few keys each. Where nothing can go (little is left behind a crash, or all of
    /// it is the latest of its key) more is appended first.
    fn compact(&mut self, slots: usize) {
        if self.rig.has_failed() || self.plan.settings.compaction.is_none() {
            return;
        }
        for _ in 0..5 {
            let before = self.rig.log.size_bytes();
            let begun = (0..3).filter(|_| self.rig.compact(slots)).count();
            self.done.compactions += begun;
            let went = begun > 0 && self.rig.log.size_bytes() < before;
            if went || !self.plan.faults.is_empty() {
                return;
            }
            self.appends(10);
        }
        panic!("nothing went of {} bytes", self.rig.log.size_bytes());
    }

    fn restart(&mut self) {
        if !self.rig.has_failed() {
            let at = self.rig.log.log_end().get() + 1000;
            self.rig.restart_at(at);
            self.new_epoch();
            // Nobody is remembered.
            self.sequences = self.sequences.map(|sequence| sequence + 100);
        }
    }

    fn crash(&mut self, loss: Loss) {
        if !self.plan.crashes || self.rig.has_failed() {
            return;
        }
        self.traces.push(self.rig.io.trace());
        let disk = self.rig.io.disk().power_cut(loss, self.plan.seed);
        let next = SimIo::new(disk, self.plan.seed + self.traces.len() as u64).behaving(self.plan.behaviour);
        next.clock().advance_to(self.rig.io.clock().now().mono);
        if let Err(error) = self.rig.crash(next, loss == Loss::Kill) {
            self.violations
                .push(Violation::Lost(format!("the log cannot be opened after {loss:?}: {error}")));
            return;
        }
        self.resume_producers();
        self.new_epoch();
    }
}

//! A stage for one scenario of a log's history: a log on a simulated disk, its files within reach, and a judge that wants
//! each scenario to hold by today's rules and to fail by the old ones.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use highwater_base::{LeaderEpoch, Limits, Mutant, Now, Offset, ProducerEpoch, ProducerId, Uuid, WallMs};
use highwater_engine::batch::{BatchBuilder, Marker, marker_batch};
use highwater_engine::{
    AppendError, Appended, Fetched, Log, LogEvent, LogSettings, Lookup, OpenError, OpenHint, Origin, Read,
    ReadError, ReadId, RecoveryReport, TimestampOffset,
};
use highwater_io::Completion;
use highwater_sim::{Loss, Moment, SimDisk, SimIo, Thing};

use crate::model::{Frame, frames};

/// The log's directory on every stage.
pub const DIR: &str = "/data/events-0";
/// The leader's epoch on every stage.
pub const EPOCH: LeaderEpoch = LeaderEpoch::new(3);

/// What is wrong, if anything is.
pub type Judged = Result<(), String>;

/// Fails with `what` unless `holds`.
///
/// ```
/// use highwater_tests::scenario::ensure;
/// assert!(ensure(true, || "never seen".into()).is_ok());
/// assert_eq!(ensure(false, || "it does not hold".into()), Err("it does not hold".to_owned()));
/// ```
pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Judged {
    if holds { Ok(()) } else { Err(what()) }
}

/// Runs a scenario by today's rules, by which it must hold, and by the old rule, which it must catch. A broken invariant
/// of the log (`docs/INVARIANTS.md`) is a catch too; any other panic is not.
pub fn holds_and_catches(mutant: Mutant, scenario: impl Fn(Mutant) -> Judged) {
    if let Err(what) = scenario(Mutant::None) {
        panic!("by today's rules: {what}");
    }
    match catch_unwind(AssertUnwindSafe(|| scenario(mutant))) {
        Ok(Ok(())) => panic!("the mutant {} is not caught", mutant.name()),
        Ok(Err(what)) => println!("{} is caught: {what}", mutant.name()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            let broken = text.strip_prefix('L').and_then(|rest| rest.split_once(": "));
            match broken.filter(|(number, _)| number.parse::<u32>().is_ok()) {
                Some(_) => println!("{} is caught by an invariant: {text}", mutant.name()),
                None => resume_unwind(panic),
            }
        }
    }
}

/// Settings with small segments, in which nothing goes by itself.
pub fn small(mutant: Mutant) -> LogSettings {
    LogSettings {
        segment_bytes: 16 << 10,
        index_interval_bytes: 1024,
        retention_ms: None,
        retention_check_ms: 1000,
        file_delete_delay_ms: 100,
        checkpoint_ms: 50,
        mutant,
        limits: Limits::TINY,
        ..LogSettings::default()
    }
}

/// A log on a simulated disk.
///
/// ```
/// use highwater_base::Mutant;
/// use highwater_tests::scenario::{Stage, small, value};
/// let mut stage = Stage::new(small(Mutant::None));
/// stage.keep(&value(stage.time(), 100));
/// assert_eq!(stage.log.synced_end().get(), 1);
/// ```
pub struct Stage {
    /// The simulated disk and clock.
    pub io: SimIo,
    /// The log.
    pub log: Log,
    /// What the log has said, but for answers to reads.
    pub events: Vec<LogEvent>,
    settings: LogSettings,
    reads: Vec<(ReadId, Result<Fetched, ReadError>)>,
    lookups: Vec<(ReadId, Result<Option<TimestampOffset>, ReadError>)>,
    names: Rc<RefCell<Vec<&'static str>>>,
}

/// A batch of one record with so many bytes.
pub fn value(time: i64, len: usize) -> Vec<u8> {
    BatchBuilder::new().record(time, None, Some(&vec![b'v'; len])).build()
}

/// A batch of one record of an idempotent producer.
pub fn produced(id: i64, epoch: i16, sequence: i32, time: i64, len: usize) -> Vec<u8> {
    let batch = BatchBuilder::new().producer(ProducerId::new(id), ProducerEpoch::new(epoch), sequence);
    batch.record(time, None, Some(&vec![b'p'; len])).build()
}

/// A transactional batch of one record.
pub fn transactional(id: i64, epoch: i16, sequence: i32, time: i64) -> Vec<u8> {
    let batch = BatchBuilder::new().producer(ProducerId::new(id), ProducerEpoch::new(epoch), sequence);
    batch.transactional().record(time, Some(b"key"), Some(b"in a transaction")).build()
}

/// The marker that ends a transaction.
pub fn marker(what: Marker, id: i64, epoch: i16, time: i64) -> Vec<u8> {
    marker_batch(what, ProducerId::new(id), ProducerEpoch::new(epoch), 1, WallMs::new(time))
}

impl Stage {
    /// A new log, ready.
    pub fn new(settings: LogSettings) -> Stage {
        let mut disk = SimDisk::new();
        disk.put("/data/meta.properties", b"");
        let mut stage = Stage::begin(SimIo::new(disk, 1), settings);
        stage.until(|stage| stage.log.is_ready());
        stage
    }

    /// A log that is about to be made.
    pub fn begin(io: SimIo, settings: LogSettings) -> Stage {
        let log = Log::create(io.clock().now(), Path::new(DIR), 1, settings, Uuid::from_bytes([9; 16]));
        Stage::around(io, log, settings)
    }

    fn around(mut io: SimIo, log: Log, settings: LogSettings) -> Stage {
        let names: Rc<RefCell<Vec<&'static str>>> = Rc::default();
        let seen = Rc::clone(&names);
        io.watch(move |_, event| {
            if event.moment == Moment::Submitted {
                seen.borrow_mut().push(event.name);
            }
        });
        let (events, reads, lookups) = (Vec::new(), Vec::new(), Vec::new());
        Stage { io, log, events, settings, reads, lookups, names }
    }

    /// Opens what is on a disk.
    pub fn open(
        disk: SimDisk,
        settings: LogSettings,
        clean_stop: bool,
    ) -> Result<(Stage, RecoveryReport), OpenError> {
        Stage::open_on(SimIo::new(disk, 2), settings, clean_stop)
    }

    /// Opens what is on the disk of `io`.
    pub fn open_on(
        mut io: SimIo,
        settings: LogSettings,
        clean_stop: bool,
    ) -> Result<(Stage, RecoveryReport), OpenError> {
        let hint = OpenHint { clean_stop, ..OpenHint::default() };
        let now = io.clock().now();
        let (log, report) = Log::open(&mut io, now, Path::new(DIR), 1, settings, hint)?;
        Ok((Stage::around(io, log, settings), report))
    }

    /// The names of the operations since this stage began.
    pub fn operations(&self) -> Vec<&'static str> {
        self.names.borrow().clone()
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        self.io.clock().now()
    }

    /// The wall clock, in milliseconds since 1970.
    pub fn time(&self) -> i64 {
        self.now().wall.get()
    }

    /// Lets the log do what is due, and takes in what it says. Says when it wants to be asked again.
    pub fn step(&mut self) -> Option<highwater_base::Mono> {
        let now = self.now();
        let deadline = self.log.step(now, &mut self.io);
        self.listen();
        deadline
    }

    fn listen(&mut self) {
        while let Some(event) = self.log.poll_event() {
            match event {
                LogEvent::ReadDone { id, result } => self.reads.push((id, result)),
                LogEvent::LookupDone { id, result } => self.lookups.push((id, result)),
                other => self.events.push(other),
            }
        }
    }

    fn take(&mut self, completions: Vec<Completion>) {
        let now = self.now();
        for completion in completions {
            self.log.complete(now, completion, &mut self.io);
        }
        self.step();
    }

    /// The next completions; false if nothing is in flight.
    pub fn pump(&mut self) -> bool {
        let mut completions = Vec::new();
        let any = self.io.advance(&mut completions);
        self.take(completions);
        any
    }

    /// Goes on until `done`; panics if that never comes.
    pub fn until(&mut self, done: impl Fn(&Stage) -> bool) {
        self.step();
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            if !self.pump() {
                self.pass(20);
            }
        }
        panic!("it never came: {:?}", self.log);
    }

    /// Goes on until nothing is in flight.
    pub fn settle(&mut self) {
        self.step();
        for _ in 0..20_000 {
            if !self.pump() {
                return;
            }
        }
        panic!("the log is busy for ever: {:?}", self.log);
    }

    /// Lets time pass, in small steps with everything that is due in between. Says how many steps that took.
    pub fn pass(&mut self, ms: u64) -> usize {
        let until = self.now().mono.plus(Duration::from_millis(ms));
        for steps in 0..100_000 {
            let deadline = self.step();
            let next = deadline.into_iter().chain(self.io.next_due()).min().filter(|next| *next < until);
            let now = self.now().mono;
            self.io.clock().advance_to(next.unwrap_or(until).max(now.plus(Duration::from_micros(1))));
            let mut completions = Vec::new();
            highwater_io::Io::reap(&mut self.io, &mut completions);
            self.take(completions);
            if next.is_none() {
                return steps;
            }
        }
        panic!("the log is busy for ever: {:?}", self.log);
    }

    /// Appends a client's batch.
    pub fn client(&mut self, batch: &[u8]) -> Result<Appended, AppendError> {
        self.log.append(self.now(), batch, Origin::Client { leader_epoch: EPOCH })
    }

    /// Appends a coordinator's batch.
    pub fn coordinator(&mut self, batch: &[u8]) -> Result<Appended, AppendError> {
        self.log.append(self.now(), batch, Origin::Coordinator { leader_epoch: EPOCH })
    }

    /// Appends batches copied from a leader.
    pub fn replica(&mut self, batches: &[u8]) -> Result<Appended, AppendError> {
        self.log.append(self.now(), batches, Origin::Replica { leader_epoch: EPOCH })
    }

    /// Appends a client's batch, makes it durable and commits it.
    pub fn keep(&mut self, batch: &[u8]) -> Offset {
        let end = self.client(batch).unwrap_or_else(|error| panic!("{error}")).end;
        self.commit();
        end
    }

    /// Everything so far is durable and committed.
    pub fn commit(&mut self) {
        self.settle();
        self.log.set_high_watermark(self.log.log_end());
    }

    /// Appends and commits batches until there are so many segments.
    pub fn fill(&mut self, segments: usize) {
        while self.log.segment_count() < segments {
            self.keep(&value(self.time(), 1500));
        }
        self.pass(100);
    }

    /// Reads once, waiting for the disk.
    pub fn read(&mut self, from: i64, max_bytes: usize) -> Result<Fetched, ReadError> {
        let (now, upto) = (self.now(), self.log.log_end());
        match self.log.read(now, Offset::new(from), upto, max_bytes)? {
            Read::Ready(fetched) => Ok(fetched),
            Read::Pending(id) => self.wait(id),
        }
    }

    /// Waits for a read.
    pub fn wait(&mut self, id: ReadId) -> Result<Fetched, ReadError> {
        self.until(|stage| stage.reads.iter().any(|(done, _)| *done == id));
        let index = self.reads.iter().position(|(done, _)| *done == id).expect("it is there");
        self.reads.swap_remove(index).1
    }

    /// Whether a read has been answered.
    pub fn is_answered(&self, id: ReadId) -> bool {
        self.reads.iter().any(|(done, _)| *done == id)
    }

    /// Everything from `from` on: the first offset of each batch and its bytes.
    pub fn batches(&mut self, from: i64) -> Result<Vec<(i64, Vec<u8>)>, String> {
        let (mut all, mut next) = (Vec::new(), from);
        while next < self.log.log_end().get() {
            let fetched = self.read(next, 3000).map_err(|error| format!("reading at {next}: {error}"))?;
            let bytes = fetched.to_vec();
            all.extend(frames(&bytes)?.iter().map(|Frame { first, bytes, .. }| (*first, bytes.to_vec())));
            ensure(fetched.next.get() > next, || format!("a read at {next} does not move on"))?;
            next = fetched.next.get();
        }
        Ok(all)
    }

    /// The first record at or after a time.
    pub fn find_time(&mut self, at: i64) -> Option<TimestampOffset> {
        let now = self.now();
        let lookup = self.log.lookup_time(now, WallMs::new(at)).unwrap_or_else(|error| panic!("{error}"));
        self.found(lookup)
    }

    /// The first record with the largest time.
    pub fn find_max_time(&mut self) -> Option<TimestampOffset> {
        let now = self.now();
        let lookup = self.log.lookup_max_timestamp(now).unwrap_or_else(|error| panic!("{error}"));
        self.found(lookup)
    }

    fn found(&mut self, lookup: Lookup) -> Option<TimestampOffset> {
        let id = match lookup {
            Lookup::Ready(found) => return found,
            Lookup::Pending(id) => id,
        };
        self.until(|stage| stage.lookups.iter().any(|(done, _)| *done == id));
        let index = self.lookups.iter().position(|(done, _)| *done == id).expect("it is there");
        self.lookups.swap_remove(index).1.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Stops in order; gives what is on disk.
    pub fn stop(mut self) -> SimDisk {
        self.log.close();
        self.until(|stage| stage.is_closed() || stage.log.failure().is_some());
        assert_eq!(self.log.failure(), None);
        self.settle();
        self.io.disk().clone()
    }

    fn is_closed(&self) -> bool {
        self.events.iter().any(|event| matches!(event, LogEvent::Closed))
    }

    /// Dies; gives what the next start finds.
    pub fn die(self, loss: Loss) -> SimDisk {
        self.io.disk().power_cut(loss, 5)
    }

    /// Stops and opens again, in order.
    pub fn reopened(self) -> Stage {
        let (settings, clock) = (self.settings, self.now().mono);
        let io = SimIo::new(self.stop(), 3);
        io.clock().advance_to(clock);
        Stage::open_on(io, settings, true).unwrap_or_else(|error| panic!("{error}")).0
    }

    /// Is killed and opens again.
    pub fn killed(self) -> Stage {
        let (settings, clock) = (self.settings, self.now().mono);
        let io = SimIo::new(self.die(Loss::Kill), 3);
        io.clock().advance_to(clock);
        Stage::open_on(io, settings, false).unwrap_or_else(|error| panic!("{error}")).0
    }

    /// The files of the log's directory, by name.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        files(&self.io.disk())
    }

    /// The path of a file of the log.
    pub fn path(name: &str) -> PathBuf {
        Path::new(DIR).join(name)
    }
}

/// The files of the log's directory on a disk, by name.
pub fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let image = disk.image().into_iter().filter(|(path, _)| path.starts_with(DIR));
    let named = image.filter_map(|(path, thing)| match thing {
        Thing::File(bytes) => Some((path.file_name()?.to_string_lossy().into_owned(), bytes)),
        Thing::Directory => None,
    });
    named.collect()
}

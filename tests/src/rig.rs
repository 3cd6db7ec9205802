//! One log on a simulated disk, driven operation by operation, with its model beside it.

use std::cell::{Ref, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use highwater_base::{LeaderEpoch, Offset, Uuid};
use highwater_engine::batch::{set_base_offset, set_leader_epoch};
use highwater_engine::{
    AppendError, Appended, Fetched, Log, LogEvent, LogSettings, OpenError, OpenHint, Origin, ReadError,
    ReadId, RecoveryReport, TailSpace,
};
use highwater_io::Completion;
use highwater_sim::{SimDisk, SimIo};

use crate::model::Model;
use crate::moved::{DIRECTORIES, settle_move};

mod reading;

/// The log's directory on every simulated disk.
pub const DIR: &str = "/data/orders-0";

/// Its topic's id.
pub fn topic_id() -> Uuid {
    Uuid::from_bytes([7; 16])
}

/// A moment at which the power may go: the disk, and what must and may be found then.
///
/// ```
/// use highwater_sim::SimDisk;
/// use highwater_tests::{model::Model, rig::Point};
/// let point = Point { at: "the start".into(), disk: SimDisk::new(), model: Model::default() };
/// assert_eq!(point.model.required(false), 0);
/// ```
#[derive(Clone)]
pub struct Point {
    /// Which operation, of how many.
    pub at: String,
    /// The disk.
    pub disk: SimDisk,
    /// The model.
    pub model: Model,
}

/// What the rig shares with the watch on its I/O.
#[derive(Default)]
struct Shared {
    model: Model,
    points: Option<Vec<Point>>,
    /// Names of all operations so far, in order.
    operations: Vec<&'static str>,
    /// What the last point was like.
    last: Option<State>,
}

/// What differs from one point to the next: the disk's version, the promises (synced, written, start, end), a cut.
type State = (u64, (i64, i64, i64, i64), Option<crate::model::Cut>, bool);

impl Shared {
    /// Keeps a point, if points are kept and something has changed since the last.
    fn record(&mut self, disk: &SimDisk, what: impl FnOnce() -> String) {
        let Some(points) = &mut self.points else { return };
        let promise = (self.model.synced, self.model.written, self.model.log_start, self.model.log_end);
        let state = (disk.version(), promise, self.model.cut, self.model.closed);
        if self.last.replace(state) != Some(state) {
            let at = format!("operation {}: {}", self.operations.len(), what());
            points.push(Point { at, disk: disk.clone(), model: self.model.clone() });
        }
    }
}

/// A log, its I/O and its model.
///
/// ```
/// use highwater_engine::{Durability, batch::BatchBuilder};
/// use highwater_sim::{SimDisk, SimIo};
/// use highwater_tests::{rig::Rig, workload::tiny};
/// let mut disk = SimDisk::new();
/// disk.put("/data/meta.properties", b"");
/// let mut rig = Rig::create(SimIo::new(disk, 1), tiny(Durability::Each), false);
/// let batch = BatchBuilder::new().record(1_767_225_600_000, None, Some(b"hello")).build();
/// rig.append(&batch).unwrap();
/// rig.settle();
/// assert_eq!(rig.model().synced, 1);
/// ```
pub struct Rig {
    /// The simulated disk and clock.
    pub io: SimIo,
    /// The log.
    pub log: Log,
    /// The epoch that appends carry.
    pub epoch: LeaderEpoch,
    settings: LogSettings,
    shared: Rc<RefCell<Shared>>,
    reads: Vec<(ReadId, Result<Fetched, ReadError>)>,
    closed: bool,
    /// The log has failed for good; what was synced and what was written until then.
    failed: Option<(i64, i64)>,
    /// Whether something was said to be durable after that.
    acked_after_failure: bool,
    /// How often the log has moved to another data directory.
    pub moves: usize,
    /// Segments that retention, or a raised log start, gave up.
    pub retired: usize,
}

fn watch(io: &mut SimIo, shared: &Rc<RefCell<Shared>>) {
    let shared = Rc::clone(shared);
    io.watch(move |disk, event| {
        let mut shared = shared.borrow_mut();
        let shared = &mut *shared;
        if event.moment == highwater_sim::Moment::Submitted {
            shared.operations.push(event.name);
        }
        shared.record(disk, || format!("{} {:?}", event.name, event.moment));
    });
}

impl Rig {
    /// Makes a new log and waits until it is there. With `record`, keeps a [`Point`] for each operation.
    pub fn create(mut io: SimIo, settings: LogSettings, record: bool) -> Rig {
        let shared = Rc::new(RefCell::new(Shared { points: record.then(Vec::new), ..Shared::default() }));
        watch(&mut io, &shared);
        let log = Log::create(io.clock().now(), Path::new(DIR), 7, settings, topic_id());
        let mut rig = Rig::around(io, log, settings, shared);
        rig.run_until(|rig| rig.shared.borrow().model.ready || rig.failed.is_some());
        rig
    }

    /// Opens the log that is on the disk. Nothing is recorded.
    pub fn open(
        mut io: SimIo,
        settings: LogSettings,
        model: Model,
    ) -> Result<(Rig, RecoveryReport), OpenError> {
        let clean_stop = model.closed;
        let shared = Rc::new(RefCell::new(Shared { model, ..Shared::default() }));
        let (log, report) = open_log(&mut io, settings, clean_stop)?;
        let mut rig = Rig::around(io, log, settings, shared);
        rig.found();
        Ok((rig, report))
    }

    fn around(io: SimIo, log: Log, settings: LogSettings, shared: Rc<RefCell<Shared>>) -> Rig {
        let epoch = LeaderEpoch::new(log.latest_epoch().get().max(0));
        Rig {
            io,
            log: crowded(log),
            epoch,
            settings,
            shared,
            reads: Vec::new(),
            closed: false,
            failed: None,
            acked_after_failure: false,
            moves: 0,
            retired: 0,
        }
    }

    /// Puts the model in step with a log that was just opened.
    fn found(&mut self) {
        let mut shared = self.shared.borrow_mut();
        let model = &mut shared.model;
        let (start, end) = (self.log.log_start().get(), self.log.log_end().get());
        match model.cut.take() {
            Some(crate::model::Cut::Restart(at)) if start == at && end == at => {
                model.batches.clear();
                (model.compacted, model.half_dropped) = (0, false);
            }
            Some(crate::model::Cut::Restart(_)) => (model.log_start, model.half_dropped) = (start, true),
            _ => model.log_start = start,
        }
        model.log_end = end;
        model.set_end(end);
        model.log_start = model.log_start.max(start);
        model.synced = self.log.synced_end().get();
        model.written = self.log.written_end().get();
        (model.ready, model.closed) = (true, false);
    }

    /// The model as it is now.
    pub fn model(&self) -> Model {
        self.shared.borrow().model.clone()
    }

    /// The names of all operations so far.
    pub fn operations(&self) -> Ref<'_, Vec<&'static str>> {
        Ref::map(self.shared.borrow(), |shared| &shared.operations)
    }

    /// Takes the points that were recorded.
    pub fn take_points(&mut self) -> Vec<Point> {
        self.shared.borrow_mut().points.take().unwrap_or_default()
    }

    /// Goes on keeping points, after [`Rig::take_points`].
    pub fn keep_points(&mut self) {
        self.shared.borrow_mut().points.get_or_insert_default();
    }

    /// Whether the log has failed for good.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Whether something was acknowledged after the log had failed.
    pub fn acked_after_failure(&self) -> bool {
        self.acked_after_failure
    }

    /// Whether the log is closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes in what the log has to say.
    fn listen(&mut self) {
        while let Some(event) = self.log.poll_event() {
            let mut shared = self.shared.borrow_mut();
            let model = &mut shared.model;
            match event {
                LogEvent::Ready => model.ready = true,
                LogEvent::Truncated { log_end } => {
                    model.end_cut();
                    assert_eq!(log_end.get(), model.log_end, "a truncation ends where it was to end");
                }
                LogEvent::ReadDone { id, result } => self.reads.push((id, result)),
                LogEvent::Closed => {
                    self.closed = true;
                    model.closed = true;
                    let end = model.log_end;
                    model.promise(end, end);
                }
                LogEvent::Failed(_) => self.failed = self.failed.or(Some((model.synced, model.written))),
                LogEvent::MoveCaughtUp => self.log.finish_move(),
                LogEvent::Moved { .. } => self.moves += 1,
                _ => {}
            }
        }
        let mut shared = self.shared.borrow_mut();
        let (synced, written) = (self.log.synced_end().get(), self.log.written_end().get());
        shared.model.promise(synced, written);
        shared.model.log_start = shared.model.log_start.max(self.log.log_start().get());
        let acked = |(synced, written)| shared.model.synced > synced || shared.model.written > written;
        self.acked_after_failure |= self.failed.is_some_and(acked);
        shared.record(&self.io.disk(), || "the log has heard of it".into());
    }

    /// Lets the log submit what is due.
    pub fn step(&mut self) {
        self.turn(None);
    }

    /// Gives the log a completion or a step, and takes in what it says. Says when it wants the next one.
    fn turn(&mut self, completion: Option<Completion>) -> Option<highwater_base::Mono> {
        let now = self.io.clock().now();
        let before = self.shared.borrow().points.as_ref().map_or(0, Vec::len);
        let (segments, replaces) = (self.log.segment_count(), self.log.is_compacting());
        let deadline = match completion {
            Some(completion) => {
                self.log.complete(now, completion, &mut self.io);
                None
            }
            None => self.log.step(now, &mut self.io),
        };
        if !replaces && self.shared.borrow().model.cut.is_none() {
            self.retired += segments.saturating_sub(self.log.segment_count());
        }
        // What the log decided to drop in this turn it may have begun to drop in this turn.
        let start = self.log.log_start().get();
        for point in self.shared.borrow_mut().points.iter_mut().flatten().skip(before) {
            point.model.log_start = point.model.log_start.max(start);
        }
        self.listen();
        deadline
    }

    /// One completion (or several at the same time); false if nothing is in flight.
    pub fn pump(&mut self) -> bool {
        let mut out: Vec<Completion> = Vec::new();
        if !self.io.advance(&mut out) {
            return false;
        }
        for completion in out {
            self.turn(Some(completion));
        }
        self.step();
        true
    }

    /// Goes on until `done`, passing time if nothing else happens; gives up after a while. What waits because of a fault
    /// must come to its end once there is none any more.
    pub fn run_until(&mut self, done: impl Fn(&Rig) -> bool) -> bool {
        self.step();
        for round in 0..20_000 {
            if done(self) {
                return true;
            }
            if round == 2_000 {
                self.io.heal();
            }
            if !self.pump() {
                self.pass(Duration::from_millis(50));
            }
        }
        false
    }

    /// Goes on until nothing is in flight and nothing is due at once.
    pub fn settle(&mut self) {
        self.step();
        for _ in 0..10_000 {
            if !self.pump() {
                return;
            }
        }
        panic!("the log is busy for ever: {:?}", self.log);
    }

    /// Lets time pass, with the log's deadlines in it.
    pub fn pass(&mut self, by: Duration) {
        let until = self.io.clock().now().mono.plus(by);
        for _ in 0..10_000 {
            let now = self.io.clock().now();
            let deadline = self.turn(None);
            let next = deadline.into_iter().chain(self.io.next_due()).min();
            let Some(next) = next.filter(|next| *next < until) else {
                self.io.clock().advance_to(until);
                self.step();
                return;
            };
            self.io.clock().advance_to(next.max(now.mono.plus(Duration::from_micros(1))));
            let mut out = Vec::new();
            highwater_io::Io::reap(&mut self.io, &mut out);
            for completion in out {
                self.turn(Some(completion));
            }
        }
        panic!("the log is busy for ever: {:?}", self.log);
    }

    /// Appends, as a client's batch. The model hears of it.
    pub fn append(&mut self, batch: &[u8]) -> Result<Appended, AppendError> {
        self.append_as(Origin::Client { leader_epoch: self.epoch }, batch)
    }

    /// Appends, as a coordinator's batch: one that ends a transaction.
    pub fn mark(&mut self, batch: &[u8]) -> Result<Appended, AppendError> {
        self.append_as(Origin::Coordinator { leader_epoch: self.epoch }, batch)
    }

    /// Appends batches as a follower does, which have their offsets and epochs already. The model hears of them.
    pub fn copy(&mut self, batches: &[u8]) -> Result<Appended, AppendError> {
        let origin = Origin::Replica { leader_epoch: LeaderEpoch::new(i32::MAX) };
        let appended = self.log.append(self.io.clock().now(), batches, origin)?;
        let mut shared = self.shared.borrow_mut();
        for frame in crate::model::frames(batches).expect("whole batches") {
            shared.model.append(frame.first, frame.end, frame.bytes.into());
        }
        Ok(appended)
    }

    fn append_as(&mut self, origin: Origin, batch: &[u8]) -> Result<Appended, AppendError> {
        let appended = self.log.append(self.io.clock().now(), batch, origin)?;
        if !appended.duplicate {
            let mut stored = batch.to_vec();
            set_base_offset(&mut stored, appended.first);
            set_leader_epoch(&mut stored, self.epoch);
            let mut shared = self.shared.borrow_mut();
            shared.model.append(appended.first.get(), appended.end.get(), stored.into());
        }
        Ok(appended)
    }

    /// Cuts the log and waits until that is done.
    pub fn truncate(&mut self, to: i64) {
        self.shared.borrow_mut().model.begin_truncation(to);
        self.log.truncate(Offset::new(to));
        self.run_until(|rig| rig.shared.borrow().model.cut.is_none() || rig.has_failed());
    }

    /// Drops everything, goes on at `at`, and waits until that is done.
    pub fn restart_at(&mut self, at: i64) {
        self.shared.borrow_mut().model.begin_restart(at);
        self.log.restart_at(Offset::new(at));
        self.run_until(|rig| rig.shared.borrow().model.cut.is_none() || rig.has_failed());
    }

    /// Raises the log start.
    pub fn trim(&mut self, to: i64) {
        {
            let mut shared = self.shared.borrow_mut();
            shared.model.log_start = shared.model.log_start.max(to);
        }
        self.log.trim(Offset::new(to));
        self.step();
    }

    /// One pass of compaction over everything but the active segment, and how it goes is waited for; whether there was
    /// something to do. At most `slots` keys are remembered.
    pub fn compact(&mut self, slots: usize) -> bool {
        let end = self.log.log_end();
        self.log.want_synced(end);
        self.run_until(|rig| rig.log.synced_end() == end || rig.has_failed());
        self.log.set_high_watermark(self.log.synced_end());
        // What is sealed is sealed, and a checkpoint says so.
        self.pass(Duration::from_millis(300));
        let now = self.io.clock().now();
        let active = self.active_base();
        if self.has_failed() || !self.log.compact(now, slots * 24, u64::MAX) {
            return false;
        }
        {
            let mut shared = self.shared.borrow_mut();
            shared.model.compacted = shared.model.compacted.max(active);
        }
        self.run_until(|rig| !rig.log.is_compacting() || rig.has_failed());
        true
    }

    /// The base of the last segment, by the names on the disk.
    fn active_base(&self) -> i64 {
        let image = self.io.disk().image();
        let bases = image.keys().filter(|path| path.extension().is_some_and(|kind| kind == "log"));
        bases.filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).max().unwrap_or(0)
    }

    /// Changes the log's settings while it runs, and after each opening from now on.
    pub fn update_settings(&mut self, settings: LogSettings) {
        self.settings = settings;
        self.log.update_settings(settings);
        self.step();
    }

    /// Begins to move the log to the other of [`DIRECTORIES`], which must be there.
    pub fn begin_move(&mut self) {
        let to = DIRECTORIES.into_iter().find(|to| self.log.dir().parent() != Some(Path::new(to)));
        self.log.move_to(Path::new(to.expect("one of the two")), Uuid::ZERO, u64::MAX);
        self.step();
    }

    /// Closes the log, opens it again, and goes on recording.
    pub fn close_and_reopen(&mut self) {
        self.log.close();
        if !self.run_until(|rig| rig.is_closed() || rig.has_failed()) || self.has_failed() {
            return;
        }
        let clean_stop = true;
        self.shared.borrow_mut().model.closed = false;
        let opened = open_log(&mut self.io, self.settings, clean_stop);
        let Ok((log, _)) = opened else {
            let model = self.model();
            self.failed = Some((model.synced, model.written));
            return;
        };
        (self.log, self.closed) = (crowded(log), false);
        self.reads.clear();
        let end = self.model().log_end;
        assert_eq!(self.log.log_end().get(), end, "a clean stop loses nothing");
        self.found();
    }

    /// The process dies (`kill`), or the machine; goes on, recording, with what is left on `next`.
    pub fn crash(&mut self, next: SimIo, kill: bool) -> Result<(), OpenError> {
        if !kill {
            let mut shared = self.shared.borrow_mut();
            shared.model.written = shared.model.synced;
        }
        self.io = next;
        watch(&mut self.io, &self.shared);
        let (log, _) = open_log(&mut self.io, self.settings, false)?;
        self.log = crowded(log);
        self.reads.clear();
        self.found();
        Ok(())
    }
}

/// The log with so little memory for its tail that it runs out of it now and then.
fn crowded(mut log: Log) -> Log {
    log.share_tail_space(&TailSpace::new(40 << 10));
    log
}

fn open_log(
    io: &mut SimIo,
    settings: LogSettings,
    clean_stop: bool,
) -> Result<(Log, RecoveryReport), OpenError> {
    let hint = OpenHint { clean_stop, topic_id: Some(topic_id()), ..OpenHint::default() };
    let now = io.clock().now();
    let dir = settle_move(io)?;
    Log::open(io, now, &dir, 7, settings, hint)
}

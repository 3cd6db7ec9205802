//! One log on the calling thread: appends, steps and waits as a shard would, with nothing in between.

mod open_loop;

pub use open_loop::{Beside, Load, Nothing, Run, Sample};

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use highwater_base::{LeaderEpoch, Now, Offset};
use highwater_engine::batch::BatchBuilder;
use highwater_engine::{
    AppendError, Fetched, Log, LogEvent, LogSettings, OpenHint, Origin, Read, RecoveryReport,
};
use highwater_io::{Completion, IoChoice, Park, production};
use highwater_runtime::Clock;

/// A log and its ring.
pub struct Driver {
    io: Box<dyn Park>,
    clock: Clock,
    /// Read once a turn, as a shard does.
    now: Now,
    log: Log,
    completions: Vec<Completion>,
    workers_before_sync: usize,
}

const CLIENT: Origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };

impl Driver {
    /// A new log in a directory that does not exist yet, ready for appends.
    pub fn new(dir: &Path, settings: LogSettings) -> Driver {
        let (io, warning) = production(IoChoice::Auto, settings.limits.ring_entries).expect("an Io");
        if let Some(warning) = warning {
            println!("note: {warning}");
        }
        let clock = Clock::start();
        let now = clock.now();
        let log = Log::create(now, dir, 1, settings, highwater_base::Uuid::ZERO);
        let mut driver = Driver { io, clock, now, log, completions: Vec::new(), workers_before_sync: 0 };
        let mut ready = false;
        while !ready {
            driver.turn(true, |event| ready |= matches!(event, LogEvent::Ready));
        }
        driver
    }

    /// An existing log, opened as after a process that died; what that took, and what was found.
    pub fn open(dir: &Path, settings: LogSettings) -> (Driver, Duration, RecoveryReport) {
        let (io, _) = production(IoChoice::Auto, settings.limits.ring_entries).expect("an Io");
        Driver::open_on(io, dir, settings)
    }

    /// The same on this `io`.
    pub fn open_on(
        mut io: Box<dyn Park>,
        dir: &Path,
        settings: LogSettings,
    ) -> (Driver, Duration, RecoveryReport) {
        let clock = Clock::start();
        let (start, now) = (Instant::now(), clock.now());
        let (log, report) =
            Log::open(&mut io, now, dir, 1, settings, OpenHint::default()).expect("opening the log");
        let took = start.elapsed();
        (Driver { io, clock, now, log, completions: Vec::new(), workers_before_sync: 0 }, took, report)
    }

    /// The log, for what this driver has no method for; it is stepped with the next turn.
    pub fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Turns until `done` says so of the log.
    pub fn turn_until(&mut self, mut done: impl FnMut(Now, &mut Log) -> bool) {
        while !done(self.now, &mut self.log) {
            self.turn(true, |_| ());
        }
    }

    /// Reads everything from the log's start on, `max_bytes` at a time; gives the bytes read.
    pub fn read_through(&mut self, max_bytes: usize) -> u64 {
        let (mut next, upto, mut bytes) = (self.log.log_start(), self.log.log_end(), 0);
        while next < upto {
            let fetched = self.fetch(next, upto, max_bytes);
            bytes += fetched.data.iter().map(|slice| slice.len() as u64).sum::<u64>();
            next = fetched.next;
        }
        bytes
    }

    /// Reads from `from` on, below `upto`, and waits for it.
    pub fn fetch(&mut self, from: Offset, upto: Offset, max_bytes: usize) -> Fetched {
        match self.log.read(self.now, from, upto, max_bytes).expect("read") {
            Read::Ready(fetched) => fetched,
            Read::Pending(wanted) => {
                let mut done = None;
                while done.is_none() {
                    self.turn(true, |event| {
                        if let LogEvent::ReadDone { id, result } = event
                            && *id == wanted
                        {
                            done = Some(result.clone());
                        }
                    });
                }
                done.expect("waited for").expect("read")
            }
        }
    }

    /// Reads `max_bytes` at a time from the last `offsets` offsets, which must be in the tail, `count` times; gives the bytes.
    pub fn read_hot(&mut self, offsets: i64, max_bytes: usize, count: u64) -> u64 {
        let (upto, mut bytes) = (self.log.log_end(), 0);
        for i in 0..count {
            let from = upto.plus(-offsets + (i * 61) as i64 % (offsets / 2));
            match self.log.read(self.now, from, upto, max_bytes) {
                Ok(Read::Ready(fetched)) => {
                    bytes += fetched.data.iter().map(|slice| slice.len() as u64).sum::<u64>();
                }
                other => panic!("a hot read went to the disk: {other:?}"),
            }
        }
        bytes
    }

    /// Which I/O it runs on.
    pub fn io_name(&self) -> &'static str {
        self.io.name()
    }

    /// One turn: reap, deliver, step; parks first if `wait` and nothing has completed.
    fn turn(&mut self, wait: bool, on: impl FnMut(&LogEvent)) {
        self.turn_within(if wait { Duration::MAX } else { Duration::ZERO }, on);
    }

    /// The same, parked for no longer than `most`.
    fn turn_within(&mut self, most: Duration, mut on: impl FnMut(&LogEvent)) {
        let deadline = self.log.step(self.now, &mut *self.io);
        // A step may have news, or leave something to do: then there is nothing to wait for.
        if !self.take_events(&mut on) && !self.log.needs_step() && !most.is_zero() {
            let limit = deadline.map(|at| at.since(self.now.mono));
            let limit = limit.into_iter().chain((most < Duration::MAX).then_some(most)).min();
            self.io.park(limit, &mut self.completions);
        } else {
            self.io.reap(&mut self.completions);
        }
        self.now = self.clock.now();
        for completion in self.completions.drain(..) {
            self.log.complete(self.now, completion, &mut *self.io);
        }
        self.take_events(&mut on);
    }

    fn take_events(&mut self, on: &mut impl FnMut(&LogEvent)) -> bool {
        let mut any = false;
        while let Some(event) = self.log.poll_event() {
            assert!(!matches!(event, LogEvent::Failed(_)), "{event:?}");
            on(&event);
            any = true;
        }
        any
    }

    /// Appends `batch` until `total` bytes are in, as fast as the log takes them, then waits for a sync of all.
    pub fn append_relaxed(&mut self, batch: &[u8], total: u64) {
        self.append_unwaited(batch, total);
        self.workers_before_sync = self.workers_before_sync.max(crate::threads::ring_workers());
        self.sync();
    }

    /// The same without the sync.
    pub fn append_unwaited(&mut self, batch: &[u8], total: u64) {
        let mut appended = 0;
        // A turn for each 64 KiB: what a shard does when requests queue up.
        let every = (64 * 1024 / batch.len()).max(1);
        while appended < total {
            for _ in 0..every {
                match self.log.append(self.now, batch, CLIENT) {
                    Ok(_) => appended += batch.len() as u64,
                    Err(AppendError::Backpressure { .. }) => {
                        self.turn(true, |_| ());
                        break;
                    }
                    Err(error) => panic!("append: {error}"),
                }
            }
            self.turn(false, |_| ());
        }
    }

    /// The most ring workers there were at the end of a run of relaxed appends, before its final sync.
    pub fn workers_before_sync(&self) -> usize {
        self.workers_before_sync
    }

    /// Appends one batch at a time and waits until each is durable; gives the latencies in nanoseconds.
    pub fn append_durable(&mut self, batch: &[u8], count: u64) -> Histogram<u64> {
        let mut latencies = crate::raw::histogram();
        for _ in 0..count {
            let start = Instant::now();
            let end = self.log.append(self.now, batch, CLIENT).expect("append").end;
            while self.log.synced_end() < end {
                self.turn(true, |_| ());
            }
            latencies.record(start.elapsed().as_nanos() as u64).expect("within a minute");
        }
        latencies
    }

    /// Waits until everything appended is durable.
    pub fn sync(&mut self) {
        let end: Offset = self.log.log_end();
        self.log.want_synced(end);
        while self.log.synced_end() < end {
            self.turn(true, |_| ());
        }
    }

    /// Lets housekeeping finish: turns until nothing is in flight and nothing is due.
    pub fn settle(&mut self) {
        self.turn(false, |_| ());
        while self.io.in_flight() > 0 || self.log.needs_step() {
            self.turn(self.io.in_flight() > 0, |_| ());
        }
    }
}

/// One batch of about `bytes` bytes in records of `record` bytes, which `append` stamps anew each time.
pub fn batch(bytes: usize, record: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let value: Vec<u8> = (0..record).map(|i| (i * 31 % 251) as u8).collect();
    // Seven bytes of framing a record, 61 of header.
    while builder.size() + record + 8 <= bytes || builder.is_empty() {
        builder.push(1_700_000_000_000, None, Some(&value), &[]);
    }
    builder.build()
}

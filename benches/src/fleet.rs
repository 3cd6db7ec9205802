//! Many logs on the calling thread, turned as a shard turns them: only those with something to do.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use highwater_base::{LeaderEpoch, Now, Offset, Uuid};
use highwater_engine::{AppendError, Log, LogEvent, LogSettings, Origin, TailSpace};
use highwater_io::{Completion, IoChoice, Park, production};
use highwater_runtime::{Clock, Timers};

const CLIENT: Origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };

/// Logs that share a ring.
pub struct Fleet {
    io: Box<dyn Park>,
    clock: Clock,
    /// Read once a turn, as a shard does.
    now: Now,
    /// Owner number `i + 1` is `logs[i]`.
    logs: Vec<Log>,
    timers: Timers,
    completions: Vec<Completion>,
    stirred: Vec<u32>,
}

/// What closed-loop writers got done.
#[derive(Debug)]
pub struct Written {
    /// Appends that were acknowledged.
    pub appends: u64,
    /// How long that took.
    pub wall: Duration,
    /// Nanoseconds from each append to its acknowledgement.
    pub latencies: Histogram<u64>,
}

impl Written {
    /// Acknowledged appends per second.
    pub fn rate(&self) -> f64 {
        self.appends as f64 / self.wall.as_secs_f64()
    }
}

impl Fleet {
    /// `count` new logs in directories below `dir`, ready for appends.
    pub fn new(dir: &Path, count: usize, settings: LogSettings) -> Fleet {
        let (io, warning) = production(IoChoice::Auto, settings.limits.ring_entries).expect("an Io");
        if let Some(warning) = warning {
            println!("note: {warning}");
        }
        std::fs::create_dir_all(dir).unwrap_or_else(|e| panic!("cannot make {}: {e}", dir.display()));
        let clock = Clock::start();
        let now = clock.now();
        let space = TailSpace::new(settings.limits.shard_tail_bytes);
        let create = |i: usize| {
            let mut log = Log::create(now, &dir.join(format!("log-{i}")), i as u32 + 1, settings, Uuid::ZERO);
            log.share_tail_space(&space);
            log
        };
        let logs = (0..count).map(create).collect();
        let mut fleet = Fleet {
            io,
            clock,
            now,
            logs,
            timers: Timers::new(),
            completions: Vec::new(),
            stirred: (1..=count as u32).collect(),
        };
        let mut ready = 0;
        while ready < count {
            fleet.turn(true, &mut |_, event| ready += usize::from(matches!(event, LogEvent::Ready)));
        }
        fleet
    }

    /// How many logs there are.
    pub fn len(&self) -> usize {
        self.logs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// One turn: steps the logs that were stirred, takes their events, then reaps; parks if `wait` and there is no news.
    fn turn(&mut self, wait: bool, on: &mut impl FnMut(usize, &LogEvent)) {
        let mut news = false;
        let mut stirred = std::mem::take(&mut self.stirred);
        stirred.sort_unstable();
        stirred.dedup();
        for owner in stirred.drain(..) {
            let index = owner as usize - 1;
            let log = &mut self.logs[index];
            match log.step(self.now, &mut *self.io) {
                Some(at) => self.timers.set(u64::from(owner), at),
                None => drop(self.timers.cancel(u64::from(owner))),
            }
            while let Some(event) = log.poll_event() {
                assert!(!matches!(event, LogEvent::Failed(_)), "{event:?}");
                on(index, &event);
                news = true;
            }
            if log.needs_step() {
                self.stirred.push(owner);
            }
        }
        stirred.append(&mut self.stirred);
        self.stirred = stirred;
        if wait && !news && self.stirred.is_empty() {
            let limit = self.timers.next_deadline().map(|at| at.since(self.now.mono));
            self.io.park(limit, &mut self.completions);
        } else {
            self.io.reap(&mut self.completions);
        }
        self.now = self.clock.now();
        for completion in self.completions.drain(..) {
            let owner = completion.token.owner;
            self.logs[owner as usize - 1].complete(self.now, completion, &mut *self.io);
            self.stirred.push(owner);
        }
        while let Some(owner) = self.timers.pop_due(self.now.mono) {
            self.stirred.push(owner as u32);
        }
    }

    /// Appends `batch` to the logs in turn, one each, until `total` bytes are in, then waits until all are written: what a
    /// relaxed append is acknowledged for.
    pub fn append_round_robin(&mut self, batch: &[u8], total: u64) {
        let (mut appended, mut next) = (0, 0);
        let every = (64 * 1024 / batch.len()).max(1);
        while appended < total {
            for _ in 0..every {
                match self.logs[next].append(self.now, batch, CLIENT) {
                    Ok(_) => {
                        appended += batch.len() as u64;
                        self.stirred.push(next as u32 + 1);
                        next = (next + 1) % self.logs.len();
                    }
                    Err(AppendError::Backpressure { .. }) => {
                        self.turn(true, &mut |_, _| ());
                        break;
                    }
                    Err(error) => panic!("append: {error}"),
                }
            }
            self.turn(false, &mut |_, _| ());
        }
        for index in 0..self.logs.len() {
            while self.logs[index].written_end() < self.logs[index].log_end() {
                self.turn(true, &mut |_, _| ());
            }
        }
    }

    /// Waits until everything appended is durable.
    pub fn sync(&mut self) {
        let ends: Vec<Offset> = self.logs.iter().map(Log::log_end).collect();
        for (i, end) in ends.iter().enumerate() {
            self.logs[i].want_synced(*end);
            self.stirred.push(i as u32 + 1);
        }
        for (i, end) in ends.iter().enumerate() {
            while self.logs[i].synced_end() < *end {
                self.turn(true, &mut |_, _| ());
            }
        }
    }

    /// `writers` closed loops over the logs in turn: each appends `batch`, waits until it is durable, and appends again,
    /// for `time`.
    pub fn append_durable(&mut self, batch: &[u8], writers: usize, time: Duration) -> Written {
        let mut latencies = crate::raw::histogram();
        // Per log: who waits, in the order of what they wait for.
        let mut waiting: Vec<std::collections::VecDeque<(Offset, Instant)>> =
            vec![Default::default(); self.logs.len()];
        let (start, mut appends) = (Instant::now(), 0);
        for writer in 0..writers {
            let index = writer % self.logs.len();
            let end = self.logs[index].append(self.now, batch, CLIENT).expect("append").end;
            waiting[index].push_back((end, Instant::now()));
            self.stirred.push(index as u32 + 1);
        }
        while start.elapsed() < time {
            let mut moved = Vec::new();
            self.turn(true, &mut |index, event| {
                if matches!(event, LogEvent::Synced(_)) {
                    moved.push(index);
                }
            });
            for index in moved {
                let synced = self.logs[index].synced_end();
                while waiting[index].front().is_some_and(|(end, _)| *end <= synced) {
                    let (_, since) = waiting[index].pop_front().expect("checked above");
                    latencies.record(since.elapsed().as_nanos() as u64).expect("within a minute");
                    appends += 1;
                    let end = self.logs[index].append(self.now, batch, CLIENT).expect("append").end;
                    waiting[index].push_back((end, Instant::now()));
                    self.stirred.push(index as u32 + 1);
                }
            }
        }
        Written { appends, wall: start.elapsed(), latencies }
    }

    /// Lets housekeeping finish: turns until nothing is in flight and nothing is due.
    pub fn settle(&mut self) {
        self.turn(false, &mut |_, _| ());
        while self.io.in_flight() > 0 || !self.stirred.is_empty() {
            self.turn(self.io.in_flight() > 0, &mut |_, _| ());
        }
    }
}

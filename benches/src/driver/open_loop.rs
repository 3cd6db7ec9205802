//! Appends at a fixed rate, whatever the log does meanwhile. A latency counts from when its append was due, so that one
//! that could not be made in time, because the log or its thread were busy, is not forgotten.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use highwater_base::{Now, Offset};
use highwater_engine::{AppendError, Log, LogEvent};

use super::{CLIENT, Driver};

/// What is appended, how often and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The batch.
    pub batch: &'a [u8],
    /// One is due each so often.
    pub every: Duration,
    /// For so long, or until what goes on beside is over, if that is later.
    pub time: Duration,
}

impl Load<'_> {
    /// `batch` as often as it takes for so many bytes a second, for `time`.
    pub fn of(batch: &[u8], bytes_per_second: u64, time: Duration) -> Load<'_> {
        let every = Duration::from_nanos(batch.len() as u64 * 1_000_000_000 / bytes_per_second);
        Load { batch, every, time }
    }
}

/// What goes on beside the appends, on the same log.
pub trait Beside {
    /// Its turn, before the log is stepped.
    fn drive(&mut self, now: Now, log: &mut Log);

    /// Something happened to the log.
    fn hear(&mut self, event: &LogEvent);

    /// Whether nothing of it is left to be waited for.
    fn is_over(&self) -> bool;
}

/// Nothing goes on beside the appends.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Beside for Nothing {
    fn drive(&mut self, _now: Now, _log: &mut Log) {}

    fn hear(&mut self, _event: &LogEvent) {}

    fn is_over(&self) -> bool {
        true
    }
}

/// One append.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// When it was due, from the run's beginning.
    pub due: Duration,
    /// From then to its acknowledgement.
    pub latency: Duration,
}

/// What became of the appends.
#[derive(Clone, Debug)]
pub struct Run {
    /// All of them, in order.
    pub samples: Vec<Sample>,
    /// When each append that began a segment was due.
    pub rolls: Vec<Duration>,
    /// How long it took until the last was acknowledged.
    pub wall: Duration,
    /// The process stood still meanwhile (somebody stopped it): a sleep took this much longer than it was to take.
    pub stood_still: Option<Duration>,
}

/// Sleeps take this much longer only if the process is stopped.
const STANDS_STILL: Duration = Duration::from_millis(500);

impl Run {
    /// The latencies, in nanoseconds, of the appends for which `which` is true.
    pub fn latencies(&self, which: impl Fn(&Sample) -> bool) -> Histogram<u64> {
        let mut latencies = crate::raw::histogram();
        for sample in self.samples.iter().filter(|sample| which(sample)) {
            latencies.record(sample.latency.as_nanos() as u64).expect("within a minute");
        }
        latencies
    }
}

impl Driver {
    /// Appends as `load` says and waits for every acknowledgement, as the log's durability defines it.
    pub fn append_open_loop(&mut self, load: &Load<'_>, beside: &mut dyn Beside) -> Run {
        // Memory is touched before it is timed.
        let mut samples =
            vec![Sample::default(); 2 * (load.time.as_nanos() / load.every.as_nanos()) as usize];
        samples.clear();
        let (mut rolls, mut waiting) = (Vec::new(), VecDeque::<(Offset, Duration)>::with_capacity(4096));
        let (start, mut next, mut last) = (Instant::now(), Duration::ZERO, Duration::MAX);
        let (mut segments, mut stood_still) = (self.log.segment_count(), None);
        loop {
            let at = start.elapsed();
            if last == Duration::MAX && at >= load.time && beside.is_over() {
                last = at;
            }
            while next <= at.min(last) {
                match self.log.append(self.now, load.batch, CLIENT) {
                    Ok(appended) => waiting.push_back((appended.end, next)),
                    Err(AppendError::Backpressure { .. }) => break,
                    Err(error) => panic!("append: {error}"),
                }
                if self.log.segment_count() > segments {
                    rolls.push(next);
                }
                segments = self.log.segment_count();
                next += load.every;
            }
            if next > last && waiting.is_empty() {
                return Run { samples, rolls, wall: at, stood_still };
            }
            if last == Duration::MAX {
                beside.drive(self.now, &mut self.log);
            }
            let before = start.elapsed();
            let idle = if next > last { Duration::MAX } else { next.saturating_sub(before) };
            self.turn_within(idle, |event| beside.hear(event));
            let (at, acknowledged) = (start.elapsed(), self.log.acknowledged_end());
            let too_long = (at - before).checked_sub(idle.saturating_add(STANDS_STILL));
            stood_still = stood_still.max(too_long.map(|more| more + STANDS_STILL));
            while waiting.front().is_some_and(|(end, _)| *end <= acknowledged) {
                let (_, due) = waiting.pop_front().expect("checked above");
                samples.push(Sample { due, latency: at - due });
            }
        }
    }
}

//! What an append at a fixed rate meets at its worst: across a roll, and beside retention and a cold reader. Row 13.
//!
//! Latencies count from when an append was due. Histograms of several runs are merged, percentiles never averaged.

use std::time::Duration;

use hdrhistogram::Histogram;
use highwater_benches::driver::{Driver, Load, Nothing, Run, batch};
use highwater_benches::raw;
use highwater_benches::row::{Better, Row, median};
use highwater_benches::scratch::Scratch;
use highwater_engine::{Durability, Preallocate};

use super::{row, settings};

/// Bytes a second, and of a segment, where rolls are looked at.
const RATE: u64 = 200_000_000;
const SEGMENT: u64 = 64 << 20;
/// So long before and after it a roll may have an effect.
const AROUND: Duration = Duration::from_millis(100);
/// First touch of a new log's memory is not what these rows are about.
pub(super) const WARM_UP: Duration = Duration::from_millis(500);

/// Segments that go at once: the first is kept to be used again, the second is removed.
const RETIRED: u64 = 2;
/// One durable append of 4 KiB each so often, for so long without and for so long with retention.
const EVERY: Duration = Duration::from_micros(500);
const TIME: Duration = Duration::from_secs(4);

/// E17.
pub(super) fn rolls(rounds: u64, total: u64, rows: &mut Vec<Row>) {
    for durability in [Durability::Os, Durability::Each] {
        across_rolls(durability, rounds, total, rows);
    }
}

/// Whether the process stood still in one of these, which is then not counted.
pub(super) fn stood_still(runs: &[&Run]) -> bool {
    let longest = runs.iter().filter_map(|run| run.stood_still).max();
    if let Some(longest) = longest {
        println!("not counted: the process stood still for {:.1} s", longest.as_secs_f64());
    }
    longest.is_some()
}

/// Microseconds at a quantile.
pub(super) fn at(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1000.0
}

/// How many, and p50, p99, p99.9 and the largest in microseconds.
pub(super) fn described(latencies: &Histogram<u64>) -> String {
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| at(latencies, quantile));
    let largest = latencies.max() as f64 / 1000.0;
    format!("{} appends, p50 {p50:.0} p99 {p99:.0} p99.9 {p999:.0} largest {largest:.0} us", latencies.len())
}

/// Latencies near a roll, and elsewhere.
struct Split {
    near: Histogram<u64>,
    elsewhere: Histogram<u64>,
}

impl Split {
    fn new() -> Split {
        Split { near: raw::histogram(), elsewhere: raw::histogram() }
    }

    fn add(&mut self, run: &Run, rolls: &[Duration]) {
        let near = |due: Duration| rolls.iter().any(|roll| due + AROUND >= *roll && due <= *roll + AROUND);
        self.near += run.latencies(|sample| sample.due >= WARM_UP && near(sample.due));
        self.elsewhere += run.latencies(|sample| sample.due >= WARM_UP && !near(sample.due));
    }

    fn ratio(&self) -> f64 {
        at(&self.near, 0.999) / at(&self.elsewhere, 0.999)
    }

    fn say(&self, what: &str) {
        println!(
            "{what}, within 100 ms: {}; elsewhere: {}",
            described(&self.near),
            described(&self.elsewhere)
        );
    }
}

/// The control is a log of one segment, of which the same windows are looked at: what a ratio is worth on this machine.
fn across_rolls(durability: Durability, rounds: u64, total: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("rolls");
    let bytes = batch(64 << 10, 1024);
    let load = Load::of(&bytes, RATE, Duration::from_nanos(total * 1_000_000_000 / RATE));
    let (mut rolling, mut single) = (Split::new(), Split::new());
    let mut rolled = 0;
    // Two runs a round: p99.9 wants many appends.
    for run in 0..=2 * rounds {
        let measured = |segment| {
            let name = dir.join("log-0");
            let mut driver = Driver::new(&name, settings(durability, Preallocate::Ahead, segment));
            let run = driver.append_open_loop(&load, &mut Nothing);
            drop(driver);
            std::fs::remove_dir_all(&name).expect("removing the log");
            run
        };
        let (rolls, plain) = (measured(SEGMENT), measured(2 * total));
        assert!(!rolls.rolls.is_empty() && plain.rolls.is_empty(), "{} rolls", rolls.rolls.len());
        if !stood_still(&[&rolls, &plain]) && run > 0 {
            rolled += rolls.rolls.len();
            rolling.add(&rolls, &rolls.rolls);
            let windows: Vec<Duration> = (1..)
                .map(|i| load.every * (i * SEGMENT / bytes.len() as u64) as u32)
                .take_while(|at| *at < plain.wall)
                .collect();
            single.add(&plain, &windows);
        }
    }
    println!("{durability:?}, 200 MB/s in batches of 64 KiB, {rolled} rolls of 64 MiB:");
    rolling.say("around a roll");
    single.say("without a roll, around each 64 MiB");
    println!("p99.9 in the windows of the log that does not roll / elsewhere: {:.2}", single.ratio());
    let what = format!("p99.9 of appends ({}) within 100 ms of a roll", promise(durability));
    rows.push(row("13", what, "elsewhere", rolling.ratio(), Better::Lower, 1.5, 1.1));
}

/// What an append waits for, in a word.
pub(super) fn promise(durability: Durability) -> &'static str {
    match durability {
        Durability::Each => "durable",
        Durability::Interval { .. } | Durability::Os => "relaxed",
    }
}

/// E18.
pub(super) fn retention(rounds: u64, total: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("retention");
    let (large, small) = (batch(64 << 10, 1024), batch(4 << 10, 1024));
    let mut keeping = settings(Durability::Each, Preallocate::Ahead, total);
    (keeping.retention_check_ms, keeping.file_delete_delay_ms) = (50, 0);
    let load = Load { batch: &small, every: EVERY, time: TIME };
    let mut ratios = Vec::new();
    for round in 0..=rounds {
        let name = dir.join("log-0");
        let mut driver = Driver::new(&name, keeping);
        while driver.log().segment_count() as u64 <= RETIRED {
            driver.append_relaxed(&large, total / 8);
        }
        driver.settle();
        let idle = driver.append_open_loop(&load, &mut Nothing);
        let log = driver.log();
        log.set_high_watermark(log.synced_end());
        log.update_settings(highwater_engine::LogSettings { retention_bytes: Some(1), ..keeping });
        let during = driver.append_open_loop(&load, &mut Nothing);
        let counts = !stood_still(&[&idle, &during]) && round > 0;
        let idle = idle.latencies(|sample| sample.due >= WARM_UP);
        let during = during.latencies(|_| true);
        assert_eq!(driver.log().segment_count(), 1, "segments after retention");
        let left = std::fs::read_dir(&name).expect("the log's directory").flatten();
        let left = left.filter(|entry| entry.file_name().to_string_lossy().ends_with(".deleted")).count();
        println!(
            "round {round}: {RETIRED} segments of {} MiB go: {}; before: {}; {left} files still to be wiped or removed",
            total >> 20,
            described(&during),
            described(&idle)
        );
        if counts {
            ratios.push(at(&during, 0.99) / at(&idle, 0.99));
        }
        drop(driver);
        std::fs::remove_dir_all(&name).expect("removing the log");
    }
    let what = format!("p99 of durable appends of 4 KiB while segments of {} MiB go", total >> 20);
    rows.push(row("13", what, "before", median(ratios), Better::Lower, 2.0, 1.2));
}

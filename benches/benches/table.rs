//! The table at the end of the storage design, as far as it applies to this version: rows 1-4 and 6.
//!
//! Each figure is the median of interleaved pairs, engine and raw control in turn, after a warm-up of both:
//! on a virtual machine first-touch memory and a growing page cache measure the hypervisor.
//! `HIGHWATER_BENCH_ROUNDS` (default 5) sets the number of pairs, `HIGHWATER_BENCH_MB` (default 1024) the size of one.

use highwater_benches::driver::{Driver, batch};
use highwater_benches::row::{Better, Row, median};
use highwater_benches::{cpu_time, raw, scratch::Scratch, threads};
use highwater_engine::batch::crc32c;
use highwater_engine::{Durability, LogSettings, Preallocate, RecordCheck};

const WRITE: usize = 1 << 20;
const WARM_UP: u64 = 64 << 20;

fn main() {
    // `cargo bench -- NAME` names a criterion benchmark; this table has none. `cargo test --benches` passes `--test`.
    if std::env::args().any(|a| a == "--test" || a == "--list") {
        return;
    }
    let rounds = number("HIGHWATER_BENCH_ROUNDS", 5);
    let total = number("HIGHWATER_BENCH_MB", 1024) << 20;
    let mut rows = Vec::new();
    workers(&batch(64 << 10, 1024), total / 2);
    relaxed(rounds, total, &mut rows);
    small(rounds, total / 2, &mut rows);
    durable(rounds, &mut rows);
    println!("\n| # | what | against | ratio | must | aim | |\n|---|---|---|---|---|---|---|");
    for row in &rows {
        println!("{}", row.line());
    }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, expected a number")),
        Err(_) => default,
    }
}

/// Settings of the rows: header and CRC are checked, as an embedder may choose; one segment, prepared as written blocks before the clock starts, as the raw
/// control's file is.
fn settings(durability: Durability, preallocate: Preallocate, segment: u64) -> LogSettings {
    LogSettings {
        durability,
        preallocate,
        segment_bytes: segment.min(i32::MAX as u64),
        records: RecordCheck::Header,
        ..LogSettings::default()
    }
}

struct Relaxed {
    rate: f64,
    cpu: f64,
}

fn engine_relaxed(dir: &Scratch, bytes: &[u8], total: u64, preallocate: Preallocate) -> Relaxed {
    let name = dir.join("log-0");
    let mut driver = Driver::new(&name, settings(Durability::Os, preallocate, 2 * total));
    // First touch of the staging memory is not what this measures.
    driver.append_relaxed(bytes, WARM_UP);
    driver.settle();
    let cpu = cpu_time::process();
    let took = raw::timed(total, || driver.append_relaxed(bytes, total));
    let cpu = cpu_time::process() - cpu;
    assert!(threads::ring_workers() <= 1, "more ring workers than one sync needs");
    drop(driver);
    std::fs::remove_dir_all(&name).expect("removing the log");
    Relaxed { rate: took.rate(), cpu: cpu.as_secs_f64() / (total as f64 / 1e9) }
}

fn relaxed(rounds: u64, total: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("table");
    let bytes = batch(64 << 10, 1024);
    let (growing, written) = (dir.join("growing"), dir.join("written"));
    raw::write_zeros(&written, total);
    let (mut one, mut two, mut six, mut steady) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let grown = raw::growing(&growing, bytes.len(), total);
        std::fs::remove_file(&growing).expect("removing the control");
        let engine = engine_relaxed(&dir, &bytes, total, Preallocate::Written);
        let best = [1, 2, 4, 8].map(|depth| raw::direct(&written, WRITE, depth, total, None).rate());
        let best = best.into_iter().fold(0.0, f64::max);
        let checked = raw::direct(
            &written,
            WRITE,
            4,
            total,
            Some(&|data: &[u8]| {
                for piece in data.chunks(64 << 10) {
                    std::hint::black_box(crc32c(piece));
                }
            }),
        );
        let plain = engine_relaxed(&dir, &bytes, total, Preallocate::Ahead);
        println!(
            "round {round}: engine {:.2} GB/s {:.3} CPU-s/GB; space ahead {:.2} GB/s; pwrite growing {:.2} GB/s \
             {:.3}; direct written {best:.2} GB/s; direct + CRC {:.3} CPU-s/GB",
            engine.rate,
            engine.cpu,
            plain.rate,
            grown.rate(),
            grown.cpu_per_gb(),
            checked.cpu_per_gb()
        );
        if round > 0 {
            one.push(engine.rate / grown.rate());
            two.push(engine.rate / best);
            six.push(engine.cpu / checked.cpu_per_gb());
            steady.push(plain.rate / grown.rate());
        }
    }
    rows.push(row(
        "1",
        "relaxed append, 64 KiB batches, final sync",
        "pwrite of a growing file, final sync",
        median(one),
        Better::Higher,
        0.9,
        1.3,
    ));
    rows.push(row(
        "1a",
        "the same, without preallocation",
        "the same",
        median(steady),
        Better::Higher,
        0.9,
        1.3,
    ));
    rows.push(row(
        "2",
        "relaxed append, 64 KiB batches, final sync",
        "O_DIRECT into written blocks, 1 MiB, best depth",
        median(two),
        Better::Higher,
        0.75,
        0.90,
    ));
    rows.push(row(
        "6",
        "CPU per byte of the same",
        "O_DIRECT write + CRC",
        median(six),
        Better::Lower,
        2.0,
        1.4,
    ));
}

/// Relaxed appends on a ring that has done nothing before: which workers it has before the final sync.
fn workers(bytes: &[u8], total: u64) {
    let dir = Scratch::new("workers");
    let run = |preallocate| {
        let name = dir.join("log-0");
        let mut driver = Driver::new(&name, settings(Durability::Os, preallocate, total + WARM_UP));
        driver.append_relaxed(bytes, total);
        println!(
            "ring workers of {} MiB of relaxed appends, {preallocate:?}, before the final sync: {}",
            total >> 20,
            driver.workers_before_sync()
        );
        drop(driver);
        std::fs::remove_dir_all(&name).expect("removing the log");
    };
    for preallocate in [Preallocate::Written, Preallocate::Ahead] {
        std::thread::scope(|scope| scope.spawn(|| run(preallocate)).join()).expect("the run");
    }
}

fn small(rounds: u64, total: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("small");
    let bytes = batch(1024, 940);
    let growing = dir.join("growing");
    let mut ratios = Vec::new();
    for round in 0..=rounds {
        let grown = raw::growing(&growing, bytes.len(), total);
        std::fs::remove_file(&growing).expect("removing the control");
        let engine = engine_relaxed(&dir, &bytes, total, Preallocate::Ahead);
        println!(
            "round {round}: engine {:.2} GB/s in 1 KiB batches; pwrite {:.2} GB/s",
            engine.rate,
            grown.rate()
        );
        if round > 0 {
            ratios.push(engine.rate / grown.rate());
        }
    }
    rows.push(row(
        "3",
        "relaxed append, 1 KiB batches, final sync",
        "pwrite of 1 KiB, final sync",
        median(ratios),
        Better::Higher,
        1.0,
        2.0,
    ));
}

fn durable(rounds: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("durable");
    let bytes = batch(64 << 10, 1024);
    let count = 1000;
    let written = dir.join("written");
    raw::write_zeros(&written, count * (64 << 10));
    let name = dir.join("log-0");
    let segment = (rounds + 2) * count * (64 << 10);
    let mut driver = Driver::new(&name, settings(Durability::Each, Preallocate::Written, segment));
    driver.settle();
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let control = raw::durable(&written, bytes.len(), count);
        let engine = driver.append_durable(&bytes, count);
        let at = |h: &hdrhistogram::Histogram<u64>, q| h.value_at_quantile(q) as f64 / 1000.0;
        println!(
            "round {round}: durable engine p50 {:.0} p99 {:.0} us; write + fdatasync p50 {:.0} p99 {:.0} us",
            at(&engine, 0.5),
            at(&engine, 0.99),
            at(&control, 0.5),
            at(&control, 0.99)
        );
        if round > 0 {
            p50.push(at(&engine, 0.5) / at(&control, 0.5));
            p99.push(at(&engine, 0.99) / at(&control, 0.99));
        }
    }
    println!(
        "ring workers at the end of the durable rows: {} ({})",
        threads::ring_workers(),
        driver.io_name()
    );
    rows.push(row(
        "4",
        "durable append, 64 KiB, one writer, p50",
        "write + fdatasync on written blocks",
        median(p50),
        Better::Lower,
        1.2,
        1.05,
    ));
    rows.push(row("4", "the same, p99", "the same", median(p99), Better::Lower, 1.2, 1.05));
}

fn row(
    number: &'static str,
    what: &'static str,
    against: &'static str,
    ratio: f64,
    better: Better,
    must: f64,
    aim: f64,
) -> Row {
    Row { number, what, against, ratio, better, must, aim }
}

//! Appends that nobody waits for: rows 1, 2, 3 and 6.

use highwater_benches::driver::{Driver, batch};
use highwater_benches::row::{Better, Row, median};
use highwater_benches::{cpu_time, raw, scratch::Scratch, threads};
use highwater_engine::batch::crc32c;
use highwater_engine::{Durability, Preallocate};

use super::{row, settings};

const WRITE: usize = 1 << 20;
const WARM_UP: u64 = 64 << 20;

/// Rows 1, 1a, 2, 3 and 6.
pub(super) fn rows(rounds: u64, total: u64, rows: &mut Vec<Row>) {
    workers(&batch(64 << 10, 1024), total / 2);
    relaxed(rounds, total, rows);
    small(rounds, total / 2, rows);
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

//! The table at the end of the storage design, and those goals of the performance notes that belong to it.
//!
//! Each figure is the median of interleaved pairs, engine and raw control in turn, after a warm-up of both:
//! on a virtual machine first-touch memory and a growing page cache measure the hypervisor.
//! `HIGHWATER_BENCH_ROUNDS` (default 5) sets the number of pairs, `HIGHWATER_BENCH_MB` (default 1024) the size of one,
//! `HIGHWATER_BENCH_ROWS` (default: all) the parts to run, as in `append,durable,shared`. The part `recovery` writes
//! `HIGHWATER_BENCH_RECOVERY_MB` (default 10,240) twice, `retention` needs room for two pairs and a half, `compaction` for one and a half.

mod append;
mod beside;
mod durable;
mod fetch;
mod lookup;
mod many_logs;
mod shared;
mod tails;

use highwater_benches::row::{Better, Row};
use highwater_engine::{Durability, LogSettings, Preallocate, RecordCheck};

/// A part of the table: its name, and what measures its rows with so many pairs of so many bytes.
type Part = (&'static str, fn(rounds: u64, total: u64, rows: &mut Vec<Row>));

const PARTS: [Part; 11] = [
    ("append", append::rows),
    ("durable", durable::rows),
    ("shared", shared::rows),
    ("fetch", fetch::rows),
    ("many_logs", many_logs::rows),
    ("rolls", tails::rolls),
    ("retention", tails::retention),
    ("cold_reader", beside::cold_reader),
    ("compaction", beside::compaction),
    ("lookup", lookup::rows),
    ("recovery", lookup::recovery),
];

fn main() {
    // `cargo bench -- NAME` names a criterion benchmark; this table has none. `cargo test --benches` passes `--test`.
    if std::env::args().any(|a| a == "--test" || a == "--list") {
        return;
    }
    if let [_, asked, dir] = &std::env::args().collect::<Vec<_>>()[..]
        && asked == many_logs::IDLE
    {
        return many_logs::say_resident(dir.as_ref());
    }
    let rounds = number("HIGHWATER_BENCH_ROUNDS", 5);
    let total = number("HIGHWATER_BENCH_MB", 1024) << 20;
    let wanted = std::env::var("HIGHWATER_BENCH_ROWS").ok();
    let wanted: Option<Vec<&str>> = wanted.as_deref().map(|names| names.split(',').collect());
    for name in wanted.iter().flatten() {
        let known = PARTS.map(|(part, _)| part);
        assert!(known.contains(name), "HIGHWATER_BENCH_ROWS names {name:?}; there are {known:?}");
    }
    let mut rows = Vec::new();
    for (name, measure) in PARTS {
        if wanted.as_ref().is_none_or(|wanted| wanted.contains(&name)) {
            measure(rounds, total, &mut rows);
        }
    }
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

fn row(
    number: &'static str,
    what: impl Into<std::borrow::Cow<'static, str>>,
    against: &'static str,
    ratio: f64,
    better: Better,
    must: f64,
    aim: f64,
) -> Row {
    Row { number, what: what.into(), against, ratio, better, must, aim }
}

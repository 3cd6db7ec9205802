//! One writer that waits for every append: row 4.

use highwater_benches::driver::{Driver, batch};
use highwater_benches::row::{Better, Row, median};
use highwater_benches::{raw, scratch::Scratch, threads};
use highwater_engine::{Durability, Preallocate};

use super::{row, settings};

/// Row 4.
pub(super) fn rows(rounds: u64, _total: u64, rows: &mut Vec<Row>) {
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

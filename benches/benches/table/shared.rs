//! Many writers that wait, on many logs: row 5.

use std::time::Duration;

use highwater_benches::driver::batch;
use highwater_benches::fleet::{Fleet, Written};
use highwater_benches::row::{Better, Row, median};
use highwater_benches::scratch::Scratch;
use highwater_engine::{Durability, Preallocate};

use super::{row, settings};

const LOGS: usize = 16;
const WRITERS: usize = 64;
const TIME: Duration = Duration::from_secs(4);

/// Row 5.
pub(super) fn rows(rounds: u64, _total: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("shared");
    let bytes = batch(4 << 10, 1024);
    let segment = 64 << 20;
    let settings = settings(Durability::Each, Preallocate::Ahead, segment);
    let mut one = Fleet::new(&dir.join("one"), 1, settings);
    let mut many = Fleet::new(&dir.join("many"), LOGS, settings);
    let mut ratios = Vec::new();
    for round in 0..=rounds {
        let alone = one.append_durable(&bytes, 1, TIME / 4);
        one.settle();
        let together = many.append_durable(&bytes, WRITERS, TIME);
        many.settle();
        let us = |of: &Written, q| of.latencies.value_at_quantile(q) as f64 / 1000.0;
        println!(
            "round {round}: {WRITERS} writers on {LOGS} logs {:.0} appends/s, p50 {:.0} p99 {:.0} us; one writer {:.0} \
             appends/s, p50 {:.0} p99 {:.0} us",
            together.rate(),
            us(&together, 0.5),
            us(&together, 0.99),
            alone.rate(),
            us(&alone, 0.5),
            us(&alone, 0.99)
        );
        if round > 0 {
            ratios.push(together.rate() / alone.rate());
        }
    }
    rows.push(row(
        "5",
        "durable append, 64 writers x 4 KiB on 16 logs",
        "one writer",
        median(ratios),
        Better::Higher,
        12.0,
        30.0,
    ));
}

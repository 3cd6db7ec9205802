//! Many writers that wait, on many logs: row 5.

use std::time::Duration;

use highwater_benches::driver::batch;
use highwater_benches::fleet::{Fleet, Written};
use highwater_benches::raw;
use highwater_benches::row::{Better, Row, median};
use highwater_benches::scratch::Scratch;
use highwater_engine::{Durability, Preallocate};

use super::{row, settings};

const LOGS: usize = 16;
/// What the writers of one log have at once, in whole blocks: the raw control's write.
const WRITE: usize = 16 << 10;
const WRITERS: usize = 64;
const TIME: Duration = Duration::from_secs(1);
const SEGMENT: u64 = 128 << 20;

/// Row 5.
pub(super) fn rows(rounds: u64, _total: u64, rows: &mut Vec<Row>) {
    let dir = Scratch::new("shared");
    let bytes = batch(4 << 10, 1024);
    // Written before the clock starts, as the files of raw controls are.
    let settings = settings(Durability::Each, Preallocate::Written, SEGMENT);
    let mut ratios = Vec::new();
    for round in 0..=rounds {
        let run = |name: &str, logs, writers| {
            let name = dir.join(name);
            let mut fleet = Fleet::new(&name, logs, settings);
            fleet.settle();
            // First touch of the staging memory is not what this measures.
            fleet.append_durable(&bytes, writers, TIME / 2);
            let written = fleet.append_durable(&bytes, writers, TIME);
            drop(fleet);
            std::fs::remove_dir_all(&name).expect("removing the logs");
            written
        };
        let raw = raw::shared_flush(dir.path(), LOGS, WRITE, SEGMENT / 8, TIME);
        let alone = run("one", 1, 1);
        let together = run("many", LOGS, WRITERS);
        let us = |of: &Written, q| of.latencies.value_at_quantile(q) as f64 / 1000.0;
        println!(
            "round {round}: {WRITERS} writers on {LOGS} logs {:.0} appends/s, p50 {:.0} p99 {:.0} us; one writer {:.0} \
             appends/s, p50 {:.0} p99 {:.0} us; raw, one flush for {LOGS} writes of 16 KiB: {:.0}/s",
            together.rate(),
            us(&together, 0.5),
            us(&together, 0.99),
            alone.rate(),
            us(&alone, 0.5),
            us(&alone, 0.99),
            raw as f64 * WRITERS as f64 / TIME.as_secs_f64()
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

//! A process that appends is killed (`SIGKILL`) at any moment, over and over in the same directory: what it was told
//! is durable is there, and a second recovery changes nothing.
//!
//! 100 kills; 300 with `HIGHWATER_TEST_FULL=1`.

use std::path::Path;

use highwater_base::Prng;
use highwater_tests::aftermath::recover;
use highwater_tests::ledger::{Ledger, settings};
use highwater_tests::loop_disk::Scratch;
use highwater_tests::writer::Writer;

/// So many kills in one directory; each directory has settings of its own.
const KILLS_EACH: u64 = 10;

#[test]
fn kill9_loop() {
    let full = std::env::var("HIGHWATER_TEST_FULL").is_ok_and(|full| full == "1");
    let kills: u64 = if full { 300 } else { 100 };
    let mut prng = Prng::new(9);
    let (mut lost, mut acked) = (0, 0);
    for seed in 0..kills / KILLS_EACH {
        let scratch =
            Scratch::new(Path::new(env!("CARGO_TARGET_TMPDIR")), &format!("kill9_loop-{seed}")).unwrap();
        let mut ledger = Ledger::default();
        for run in 1..=KILLS_EACH as i64 {
            let mut writer =
                Writer::start(env!("CARGO_BIN_EXE_ledger_writer"), scratch.path(), seed, run, "none")
                    .unwrap();
            // One in ten dies while it recovers or makes its logs.
            let count = if prng.one_in(10) { 0 } else { prng.below(600) };
            assert!(
                writer.acknowledges(count, &mut ledger, |_| {}),
                "seed {seed}, run {run}: it ended by itself"
            );
            writer.kill(&mut ledger).unwrap();
            if let Err(violation) = recover(scratch.path(), settings(seed), &mut ledger) {
                println!("seed {seed}, run {run}: {violation}");
                lost += 1;
                break;
            }
        }
        acked += ledger.acked();
    }
    println!("{acked} batches were acknowledged");
    println!("figure: kill9_loop kills={kills} lost={lost} full={}", if full { "yes" } else { "no" });
    assert_eq!(lost, 0);
    assert!(acked > 50 * kills, "it was killed before it did anything");
}

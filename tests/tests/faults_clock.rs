//! Clocks that jump: the wall clock decides nothing but what records are old enough to go; a monotonic jump (a machine
//! that was asleep) makes nobody busy. `docs/FAULTS.md` says which fault is which.

use std::time::Duration;

use highwater_base::{Mutant, Offset};
use highwater_engine::{Durability, LogSettings};
use highwater_tests::scenario::{Stage, ensure, holds_and_catches, produced, small, value};

const HOUR: i64 = 3_600_000;

/// Jumps of an hour and of ten years, a step back of a millisecond, and a clock that goes to and fro.
fn jumps() -> Vec<(&'static str, Vec<i64>)> {
    let years = 10 * 365 * 24 * HOUR;
    vec![
        ("an hour on", vec![HOUR]),
        ("an hour back", vec![-HOUR]),
        ("ten years on", vec![years]),
        ("ten years back", vec![-years]),
        ("a millisecond back", vec![-1]),
        ("to and fro", vec![HOUR, -2 * HOUR, HOUR, -HOUR, 2 * HOUR, -HOUR]),
    ]
}

/// Nothing is lost, offsets go on, rolls, syncs and checkpoints go on, whatever the wall clock does.
#[test]
fn c01_a_wall_clock_that_jumps_loses_nothing() {
    holds_and_catches(Mutant::ClockMustNotGoBack, |mutant| {
        for (what, steps) in jumps() {
            let settings = LogSettings { timestamp_after_max_ms: i64::MAX, ..small(mutant) };
            let mut stage = Stage::new(settings);
            let mut kept = 0;
            for by in steps {
                stage.fill(stage.log.segment_count() + 1);
                stage.io.clock().step_wall(by);
                let more = stage.log.segment_count() + 2;
                while stage.log.segment_count() < more {
                    let batch = value(stage.time(), 1500);
                    stage.client(&batch).map_err(|error| format!("{what}: {error}"))?;
                    stage.commit();
                }
                kept = stage.log.log_end().get();
                stage.pass(3000);
            }
            ensure(stage.log.log_start() == Offset::ZERO, || {
                format!("{what}: {} went", stage.log.log_start())
            })?;
            ensure(stage.batches(0)?.len() as i64 == kept, || format!("{what}: records are missing"))?;
            stage = stage.killed();
            ensure(stage.log.log_end().get() == kept, || {
                format!("{what}: it ends at {}", stage.log.log_end())
            })?;
            ensure(stage.batches(0)?.len() as i64 == kept, || format!("{what}: after a restart"))?;
        }
        Ok(())
    });
}

/// Retention by time compares records' times with the wall clock, and that is all: a clock that is behind keeps more, one
/// that is right again keeps what it should, and what is too young by the clock never goes.
#[test]
fn c01_retention_goes_by_the_wall_clock_as_it_is_now() {
    let mut stage = Stage::new(LogSettings { retention_ms: Some(2 * HOUR as u64), ..small(Mutant::None) });
    stage.fill(3);
    let end = stage.log.log_end();
    stage.io.clock().step_wall(-HOUR);
    stage.pass(5000);
    stage.io.clock().step_wall(2 * HOUR);
    stage.pass(5000);
    assert_eq!(stage.log.log_start(), Offset::ZERO, "an hour is less than two");
    stage.io.clock().step_wall(3 * HOUR);
    stage.pass(5000);
    assert_eq!(stage.log.log_start(), end, "four hours are more than two");
}

/// What waits by the clock waits by the monotonic one: the delay before a file is removed, the sync of an interval.
#[test]
fn c01_delays_are_counted_on_the_monotonic_clock() {
    let interval = Durability::Interval { bytes: u64::MAX, messages: u64::MAX, ms: 1000 };
    let settings = LogSettings {
        durability: interval,
        file_delete_delay_ms: 60_000,
        checkpoint_ms: 1_000_000,
        ..small(Mutant::None)
    };
    let mut stage = Stage::new(settings);
    stage.client(&value(stage.time(), 100)).unwrap();
    stage.settle();
    stage.io.clock().step_wall(24 * HOUR);
    stage.pass(500);
    assert_eq!(stage.log.synced_end(), Offset::ZERO, "half a second has passed");
    stage.io.clock().step_wall(-48 * HOUR);
    stage.pass(600);
    assert_eq!(stage.log.synced_end(), Offset::new(1), "a second has passed");

    let mut stage = Stage::new(LogSettings { file_delete_delay_ms: 60_000, ..small(Mutant::None) });
    stage.fill(3);
    let end = stage.log.log_end();
    stage.log.trim(end);
    stage.pass(3000);
    let waiting = |stage: &Stage| stage.files().iter().filter(|(name, _)| name.ends_with(".deleted")).count();
    assert!(waiting(&stage) > 0);
    stage.io.clock().step_wall(24 * HOUR);
    stage.pass(3000);
    assert!(waiting(&stage) > 0, "a minute has not passed");
    stage.io.clock().step_wall(-48 * HOUR);
    stage.pass(60_000);
    assert_eq!(waiting(&stage), 0, "a minute has passed");
}

/// Producers are remembered by the times of their records: a wall clock that goes back forgets nobody.
#[test]
fn c01_a_clock_that_goes_back_forgets_no_producer() {
    let mut stage = Stage::new(small(Mutant::None));
    stage.keep(&produced(7, 0, 0, stage.time(), 100));
    stage.io.clock().step_wall(-10 * 365 * 24 * HOUR);
    stage.pass(5000);
    let again = stage.client(&produced(7, 0, 0, stage.time() + 100 * 24 * HOUR, 100)).unwrap_err();
    assert!(again.to_string().contains("timestamp"), "too far in the future by this clock: {again}");
    assert_eq!(stage.log.producers().len(), 1);
}

/// A machine that slept for a day: what became due is done once, not once for each tick that was missed, and the next
/// step is asked for in the future.
#[test]
fn c02_a_monotonic_jump_makes_nobody_busy() {
    let settings = LogSettings {
        durability: Durability::Interval { bytes: u64::MAX, messages: u64::MAX, ms: 100 },
        retention_check_ms: 10,
        retention_bytes: Some(64 << 10),
        ..small(Mutant::None)
    };
    let mut stage = Stage::new(settings);
    stage.fill(4);
    stage.client(&value(stage.time(), 100)).unwrap();
    let operations = stage.operations().len();
    stage.io.clock().advance(Duration::from_secs(24 * 3600));
    let mut steps = 0;
    loop {
        let now = stage.now().mono;
        if let Some(next) = stage.step() {
            assert!(next > now, "it asks for a step in the past");
        }
        if !stage.pump() {
            break;
        }
        steps += 1;
        assert!(steps < 200, "it never comes to rest");
    }
    assert_eq!(stage.log.synced_end(), stage.log.log_end(), "what was due is done");
    let done = stage.operations().len() - operations;
    assert!(done < 60, "{done} operations for one sync and one checkpoint");
    let quiet = stage.pass(100);
    assert!(quiet < 60, "{quiet} steps in a tenth of a second");
}

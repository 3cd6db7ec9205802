//! The machine against a naive model of a cluster, in a small scope: three replicas, every interleaving of appends,
//! syncs, fetches, answers, ISR changes, elections and one power cut. What was ever committed must stay, everywhere.
//!
//! Each rule of Kafka's history, weakened on purpose, must be caught: the test can fail.

#[path = "isr_model/cluster.rs"]
mod cluster;
#[path = "isr_model/search.rs"]
mod search;

use cluster::{Budget, Cluster, Scope};
use highwater_isr::Weakened;
use search::{exhaust, walk};

/// Most states that an exhaustive search may hold; one that needs more is too large to be run with every other test.
/// (With three records and one election there are 8,702,895 states, and no counterexample.)
const STATES: usize = 1_000_000;

fn exhaustive(scope: Scope) {
    let report = exhaust(Cluster::new(scope), STATES);
    assert!(report.complete, "more than {STATES} states: make the scope smaller");
    assert!(report.counterexample.is_none(), "{}", report.counterexample.unwrap_or_default());
    println!("figure: isr_model {scope:?} states={}", report.states);
}

/// Every rule holds, two replicas must be in sync, nobody loses power.
const SMALL: Scope = Scope {
    weakened: Weakened::None,
    in_sync: &[0, 1, 2],
    min_insync: 2,
    eager_sync: true,
    budget: Budget::NONE,
};

/// What the long walks have room for.
const LARGE: Budget = Budget { records: 4, elections: 4, shrinks: 2, fences: 2, power_cuts: 1 };

#[test]
fn records_come_while_the_leader_changes_every_interleaving() {
    exhaustive(Scope { budget: Budget { records: 2, elections: 1, ..Budget::NONE }, ..SMALL });
}

#[test]
fn a_third_joins_while_the_leader_changes_every_interleaving() {
    exhaustive(Scope {
        in_sync: &[0, 1],
        budget: Budget { records: 1, elections: 1, ..Budget::NONE },
        ..SMALL
    });
}

#[test]
fn a_member_is_put_out_while_records_come_every_interleaving() {
    exhaustive(Scope { budget: Budget { records: 1, shrinks: 1, ..Budget::NONE }, ..SMALL });
}

#[test]
fn a_power_cut_and_what_follows_every_interleaving() {
    let budget = Budget { records: 1, power_cuts: 1, ..Budget::NONE };
    exhaustive(Scope { eager_sync: false, budget, ..SMALL });
}

#[test]
fn long_random_walks_through_a_larger_scope_keep_what_was_committed() {
    for in_sync in [&[0, 1, 2][..], &[0, 1], &[0]] {
        for min_insync in [1, 2] {
            let scope = Scope { in_sync, min_insync, eager_sync: false, budget: LARGE, ..SMALL };
            let report = walk(Cluster::new(scope), 2_000, 1);
            assert!(report.counterexample.is_none(), "{}", report.counterexample.unwrap_or_default());
            assert!(
                report.committed > 1_000,
                "the walks commit too little to mean anything: {}",
                report.committed
            );
        }
    }
}

#[test]
fn every_weakened_rule_is_caught() {
    for weakened in [
        Weakened::HighWatermarkBelowMinIsr,
        Weakened::PendingMemberUncounted,
        Weakened::RemovedMemberUncounted,
        Weakened::AnyEpochCounted,
        Weakened::JoinsBeforeEpochStart,
        Weakened::DivergingCounted,
        Weakened::AnyEpochAnswered,
        Weakened::CutsAtHighWatermark,
        Weakened::NeverCompares,
        Weakened::LeaderCountsUnsynced,
    ] {
        let caught = [(&[0, 1, 2][..], 2), (&[0, 1], 2), (&[0], 2), (&[0], 1)].into_iter().any(
            |(in_sync, min_insync)| {
                let scope = Scope { weakened, in_sync, min_insync, eager_sync: false, budget: LARGE };
                walk(Cluster::new(scope), 60_000, 2).counterexample.is_some()
            },
        );
        assert!(caught, "{weakened:?} is not caught");
    }
}

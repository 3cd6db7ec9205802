//! Two ways through a cluster's states: all of them, or many long ones by seed.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use highwater_base::Prng;

use crate::cluster::{Action, Cluster};

#[derive(Default)]
pub(crate) struct Report {
    /// Every reachable state was seen.
    pub(crate) complete: bool,
    pub(crate) states: usize,
    /// Records committed, over all walks.
    pub(crate) committed: usize,
    /// How a rule was broken.
    pub(crate) counterexample: Option<String>,
}

/// One step; a machine that panics has seen its own rule broken.
fn step(cluster: &mut Cluster, action: Action) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| cluster.step(action))) {
        Ok(result) => result,
        Err(_) => Err("the machine's own invariants".to_owned()),
    }
}

fn fingerprint(cluster: &Cluster) -> u64 {
    let mut hasher = DefaultHasher::new();
    cluster.hash(&mut hasher);
    hasher.finish()
}

/// Visits every state that can be reached, depth first, unless there are more than `most`.
pub(crate) fn exhaust(start: Cluster, most: usize) -> Report {
    let mut seen = HashSet::from([fingerprint(&start)]);
    let actions = start.actions();
    let mut stack: Vec<(Cluster, Vec<Action>)> = vec![(start, actions)];
    let mut path: Vec<Action> = Vec::new();
    while let Some((cluster, actions)) = stack.last_mut() {
        let Some(action) = actions.pop() else {
            stack.pop();
            path.pop();
            continue;
        };
        let mut next = cluster.clone();
        path.push(action);
        if let Err(broken) = step(&mut next, action) {
            let counterexample = Some(format!("{broken}\nafter {path:?}"));
            return Report { states: seen.len(), counterexample, ..Report::default() };
        }
        if !seen.insert(fingerprint(&next)) {
            path.pop();
            continue;
        }
        if seen.len() > most {
            return Report { states: seen.len(), ..Report::default() };
        }
        let actions = next.actions();
        stack.push((next, actions));
    }
    Report { complete: true, states: seen.len(), ..Report::default() }
}

/// Walks at random, `walks` times until nothing more can happen.
pub(crate) fn walk(start: Cluster, walks: u64, seed: u64) -> Report {
    let mut report = Report::default();
    for number in 0..walks {
        let mut prng = Prng::new(seed << 32 | number);
        let mut cluster = start.clone();
        let mut path = Vec::new();
        // Messages make news and news make messages, but every walk ends: what may happen of itself is bounded.
        while path.len() < 200 {
            let actions = cluster.actions();
            if actions.is_empty() {
                break;
            }
            let action = actions[prng.below(actions.len() as u64) as usize];
            path.push(action);
            if let Err(broken) = step(&mut cluster, action) {
                report.counterexample = Some(format!("{broken}\nafter {path:?}"));
                return report;
            }
        }
        report.states += path.len();
        report.committed += cluster.committed();
    }
    report.complete = true;
    report
}

//! The simulator's I/O is held to the same contract as the others.

use highwater_io::contract;
use highwater_sim::{Behaviour, SimDisk, SimIo};

fn hold(behaviour: Behaviour, seed: u64) {
    let mut seed = seed * 1000;
    contract::suite(&mut || {
        seed += 1;
        let io = SimIo::new(SimDisk::new(), seed).behaving(behaviour);
        let failing = io.failing_syncs();
        contract::Subject {
            io: Box::new(io),
            root: "/".into(),
            fail_next_sync: Some(Box::new(move || failing.set(1))),
            address: "127.0.0.1:0".parse().unwrap(),
        }
    });
}

#[test]
fn the_simulator_keeps_the_contract() {
    (0..4).for_each(|seed| hold(Behaviour::CALM, seed));
}

#[test]
fn the_simulator_keeps_the_contract_where_direct_files_are_refused() {
    (0..2).for_each(|seed| hold(Behaviour { direct: false, ..Behaviour::CALM }, seed));
}

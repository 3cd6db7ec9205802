//! Where replicas go: on as many racks as there are, and evenly. Pure.

use std::collections::BTreeMap;

use highwater_base::{BrokerId, Uuid};

use crate::{Broker, ControlError, Image};

/// Replicas of one partition, the preferred leader first, each with its data directory.
pub(crate) type Placed = (Vec<BrokerId>, Vec<Uuid>);

/// How much each broker and directory holds already; placing adds to it.
struct Load<'a> {
    broker: &'a Broker,
    leaders: usize,
    replicas: usize,
    /// Replicas by directory, in the broker's order.
    directories: Vec<usize>,
}

/// Places `partitions` partitions of `factor` replicas. `seed` decides among equals, so that the first
/// partitions of many topics do not all land on the same broker.
pub(crate) fn place(
    image: &Image,
    partitions: usize,
    factor: usize,
    seed: u64,
) -> Result<Vec<Placed>, ControlError> {
    let registered = image.brokers().count();
    if factor > registered {
        return Err(ControlError::TooFewBrokers { requested: factor, registered });
    }
    let mut loads = loads(image);
    if !loads.iter().any(|load| load.broker.state.may_lead()) {
        return Err(ControlError::AllBrokersFenced);
    }
    let start = (seed % loads.len() as u64) as usize;
    loads.rotate_left(start);
    Ok((0..partitions).map(|_| place_one(&mut loads, factor)).collect())
}

/// The directories for replicas that were chosen by hand: on each broker the emptiest one.
pub(crate) fn directories_for(image: &Image, assignments: &[Vec<BrokerId>]) -> Vec<Placed> {
    let mut loads = loads(image);
    assignments
        .iter()
        .map(|replicas| {
            let directories = replicas
                .iter()
                .map(|id| match loads.iter_mut().find(|load| load.broker.id == *id) {
                    Some(load) => take_directory(load),
                    None => Uuid::ZERO,
                })
                .collect();
            (replicas.clone(), directories)
        })
        .collect()
}

fn loads(image: &Image) -> Vec<Load<'_>> {
    let mut loads: BTreeMap<BrokerId, Load<'_>> = image
        .brokers()
        .map(|broker| {
            let directories = vec![0; broker.directories.len()];
            (broker.id, Load { broker, leaders: 0, replicas: 0, directories })
        })
        .collect();
    for partition in image.topics().flat_map(|topic| &topic.partitions) {
        for (at, id) in partition.replicas.iter().enumerate() {
            let Some(load) = loads.get_mut(id) else { continue };
            load.replicas += 1;
            load.leaders += usize::from(at == 0);
            let directory = partition.directories[at];
            if let Some(place) = load.broker.directories.iter().position(|id| *id == directory) {
                load.directories[place] += 1;
            }
        }
    }
    loads.into_values().collect()
}

fn place_one(loads: &mut [Load<'_>], factor: usize) -> Placed {
    let mut replicas: Vec<BrokerId> = Vec::with_capacity(factor);
    let mut directories = Vec::with_capacity(factor);
    let mut racks: Vec<Option<&str>> = Vec::with_capacity(factor);
    for nth in 0..factor {
        let on_rack = |load: &Load<'_>| {
            // A broker that names no rack stands on one of its own.
            let rack = load.broker.rack.as_deref();
            rack.map_or(0, |rack| racks.iter().filter(|used| **used == Some(rack)).count())
        };
        let best = (0..loads.len())
            .filter(|at| !replicas.contains(&loads[*at].broker.id))
            .filter(|at| nth > 0 || loads[*at].broker.state.may_lead())
            .min_by_key(|at| {
                let load = &loads[*at];
                let (first, second) =
                    if nth == 0 { (load.leaders, load.replicas) } else { (load.replicas, load.leaders) };
                (on_rack(load), !load.broker.state.may_lead(), first, second)
            })
            .expect("more brokers than replicas, one of them active: checked by `place`");
        let load = &mut loads[best];
        load.leaders += usize::from(nth == 0);
        load.replicas += 1;
        replicas.push(load.broker.id);
        racks.push(load.broker.rack.as_deref());
        directories.push(take_directory(load));
    }
    (replicas, directories)
}

fn take_directory(load: &mut Load<'_>) -> Uuid {
    let emptiest = (0..load.directories.len()).min_by_key(|at| load.directories[*at]);
    match emptiest {
        Some(at) => {
            load.directories[at] += 1;
            load.broker.directories[at]
        }
        None => Uuid::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, NewTopic, Registration, apply};
    use highwater_base::BrokerEpoch;

    fn cluster(racks: &[Option<&str>]) -> Image {
        let mut image = Image::new("c");
        for (at, rack) in racks.iter().enumerate() {
            let id = BrokerId::new(at as i32 + 1);
            let mut registration = Registration::new(id, "h", 9092);
            registration.rack = rack.map(str::to_owned);
            registration.directories = vec![Uuid::from_halves(at as u64, 1), Uuid::from_halves(at as u64, 2)];
            image = apply(&image, &Command::RegisterBroker(registration)).unwrap().0;
            let epoch = BrokerEpoch::new(image.version() as i64);
            image = apply(&image, &Command::UnfenceBroker { broker: id, epoch }).unwrap().0;
        }
        image
    }

    #[test]
    fn leaders_and_replicas_are_spread_evenly() {
        let image = cluster(&[None; 5]);
        let placed = place(&image, 20, 3, 7).unwrap();
        for id in 1..=5 {
            let id = BrokerId::new(id);
            assert_eq!(placed.iter().filter(|(r, _)| r[0] == id).count(), 4);
            let replicas = placed.iter().filter(|(r, _)| r.contains(&id)).count();
            assert!((11..=13).contains(&replicas), "{replicas} replicas of 60 on one broker of five");
        }
    }

    #[test]
    fn replicas_use_every_rack_before_one_twice() {
        let image = cluster(&[Some("a"), Some("a"), Some("a"), Some("b"), Some("c")]);
        for (replicas, _) in place(&image, 30, 3, 1).unwrap() {
            let mut racks: Vec<_> =
                replicas.iter().map(|id| image.broker(*id).unwrap().rack.clone().unwrap()).collect();
            racks.sort();
            assert_eq!(racks, ["a", "b", "c"]);
        }
    }

    #[test]
    fn a_broker_s_directories_fill_evenly_also_over_several_topics() {
        let mut image = cluster(&[None]);
        for topic in 0..4 {
            let new = NewTopic::named(format!("t{topic}"), Uuid::from_halves(9, topic + 1));
            image = apply(&image, &Command::CreateTopic(new)).unwrap().0;
        }
        let used: Vec<Uuid> = image.topics().map(|t| t.partitions[0].directories[0]).collect();
        for directory in &image.broker(BrokerId::new(1)).unwrap().directories {
            assert_eq!(used.iter().filter(|id| *id == directory).count(), 2);
        }
    }

    #[test]
    fn more_replicas_than_brokers_name_both_numbers() {
        let error = place(&cluster(&[None, None]), 1, 3, 0).unwrap_err();
        assert_eq!(error, ControlError::TooFewBrokers { requested: 3, registered: 2 });
        let text = error.to_string();
        assert!(text.contains('3') && text.contains('2'), "{text}");
        assert_eq!(error.kafka_code(), 38);
    }
}

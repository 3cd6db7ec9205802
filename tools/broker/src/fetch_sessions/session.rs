//! One fetch session (KIP-227): what its reader wants of each partition, and what it was last told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_base::{LeaderEpoch, Mono, Offset, PartitionIndex, Uuid};

/// A topic, as a reader names it: by name up to version 12 of Fetch, by id from 13 on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum TopicName {
    Name(Arc<str>),
    Id(Uuid),
}

/// A partition, as a reader names it.
pub(crate) type PartitionName = (TopicName, PartitionIndex);

/// What a reader wants of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    /// The first offset to read.
    pub(crate) from: Offset,
    /// The most record bytes of this partition; negative counts as 0.
    pub(crate) max_bytes: i32,
    /// The leader epoch that the reader believes in, or NONE.
    pub(crate) current: LeaderEpoch,
    /// The epoch of the last record that it has, or NONE.
    pub(crate) last_fetched: LeaderEpoch,
}

/// What an answer would say of a partition, as far as it decides whether it is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    /// There are record bytes.
    pub(crate) has_records: bool,
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    /// There is an error.
    pub(crate) is_error: bool,
    /// There is a divergence, or another replica to read from.
    pub(crate) is_directed: bool,
}

/// A session's partitions and its place in time.
#[derive(Debug)]
pub(super) struct Session {
    /// Whether its topics are named by id.
    pub(super) by_id: bool,
    /// Its reader is a broker of the cluster.
    pub(super) privileged: bool,
    pub(super) created: Mono,
    pub(super) used: Mono,
    /// The epoch that the next request must carry.
    pub(super) epoch: i32,
    /// In the order in which they are read: the one that waited longest first.
    order: BTreeMap<u64, Cached>,
    turns: BTreeMap<PartitionName, u64>,
    next_turn: u64,
}

#[derive(Debug)]
struct Cached {
    name: PartitionName,
    wanted: Wanted,
    /// As the reader was told; NONE if it was not, or was told of an error.
    high_watermark: Offset,
    log_start: Offset,
}

impl Session {
    /// A session without partitions, whose first request was answered now.
    pub(super) fn new(by_id: bool, privileged: bool, now: Mono) -> Session {
        Session {
            by_id,
            privileged,
            created: now,
            used: now,
            epoch: 1,
            order: BTreeMap::new(),
            turns: BTreeMap::new(),
            next_turn: 0,
        }
    }

    /// How many partitions it has.
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    /// The reader wants this of a partition from now on.
    pub(super) fn want(&mut self, name: &PartitionName, wanted: Wanted) {
        if let Some(turn) = self.turns.get(name) {
            self.order.get_mut(turn).expect("every turn is in the order").wanted = wanted;
            return;
        }
        let name = name.clone();
        self.turns.insert(name.clone(), self.next_turn);
        let cached = Cached { name, wanted, high_watermark: Offset::NONE, log_start: Offset::NONE };
        self.order.insert(self.next_turn, cached);
        self.next_turn += 1;
    }

    /// The reader wants nothing of a partition any more.
    pub(super) fn forget(&mut self, name: &PartitionName) {
        if let Some(turn) = self.turns.remove(name) {
            self.order.remove(&turn);
        }
    }

    /// Whether it has this partition.
    pub(super) fn has(&self, name: &PartitionName) -> bool {
        self.turns.contains_key(name)
    }

    /// What its reader wants, in the order in which it is to be read.
    pub(super) fn wanted(&self) -> Vec<(PartitionName, Wanted)> {
        self.order.values().map(|cached| (cached.name.clone(), cached.wanted)).collect()
    }

    /// Notes what an answer says of a partition. Whether it must say it: nothing new is left out. One with records goes
    /// to the end of the order, so that it does not keep the answers' room from the others.
    pub(super) fn tell(&mut self, name: &PartitionName, told: Told) -> bool {
        let Some(turn) = self.turns.get_mut(name) else { return true };
        let cached = self.order.get_mut(turn).expect("every turn is in the order");
        let is_new = told.has_records
            || told.is_error
            || told.is_directed
            || cached.high_watermark != told.high_watermark
            || cached.log_start != told.log_start;
        // When an error goes away, the partition is told of again whatever its offsets.
        cached.high_watermark = if told.is_error { Offset::NONE } else { told.high_watermark };
        cached.log_start = told.log_start;
        if told.has_records {
            let cached = self.order.remove(turn).expect("it was there a line before");
            *turn = self.next_turn;
            self.order.insert(self.next_turn, cached);
            self.next_turn += 1;
        }
        is_new
    }

    /// Notes what the full answer that opened the session said of a partition; all of it was said.
    pub(super) fn opened_with(&mut self, name: &PartitionName, wanted: Wanted, told: Told) {
        self.want(name, wanted);
        let cached = self.order.get_mut(&self.turns[name]).expect("every turn is in the order");
        (cached.high_watermark, cached.log_start) = (told.high_watermark, told.log_start);
    }
}

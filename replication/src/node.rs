//! The partitions of one shard: found by their key, by their log's owner number, and by what is due.

use std::collections::{BTreeMap, VecDeque};

use highwater_base::{Mono, Now};
use highwater_engine::Cleaner;
use highwater_io::{Completion, Io};
use highwater_runtime::Timers;

use crate::{Answer, Outgoing, Partition, PartitionKey};

/// All partitions of one shard.
///
/// Calling order in a turn: [`Node::complete`] for completions whose owner is a partition's, commands through
/// [`Node::get_mut`], then [`Node::step`], then [`Node::poll_answer`] and [`Node::poll_outgoing`] until they give none.
/// Only partitions that were touched, or whose deadline has come, are stepped: idle ones cost nothing.
///
/// ```
/// use highwater_base::*;
/// use highwater_engine::{Log, LogSettings};
/// use highwater_io::{Io, MemoryIo};
/// use highwater_replication::{Node, Partition, PartitionSettings};
/// let (mut io, now) = (MemoryIo::new(), Now { mono: Mono::ZERO, wall: WallMs::new(0) });
/// let mut node = Node::new();
/// let key = (Uuid::from_halves(1, 1), PartitionIndex::new(0));
/// let log = Log::create(now, "/t-0".as_ref(), 4, LogSettings::default(), key.0);
/// node.insert(key, Partition::new(BrokerId::new(1), log, PartitionSettings::default(), Offset::ZERO));
/// node.step(now, &mut io);
/// assert!(io.in_flight() > 0); // the log makes its directory
/// assert!(node.get(key).is_some() && node.owns(4) && !node.owns(5));
/// ```
#[derive(Debug, Default)]
pub struct Node {
    /// By the owner number of their logs.
    partitions: BTreeMap<u32, Entry>,
    /// Owner numbers by key.
    owners: BTreeMap<PartitionKey, u32>,
    timers: Timers,
    /// To be stepped, each once.
    due: VecDeque<u32>,
    /// That may have answers, each once.
    answering: VecDeque<u32>,
    /// That may have something for others, each once.
    sending: VecDeque<u32>,
}

#[derive(Debug)]
struct Entry {
    key: PartitionKey,
    partition: Partition,
    is_due: bool,
    is_answering: bool,
    is_sending: bool,
}

impl Node {
    /// No partitions.
    pub fn new() -> Node {
        Node::default()
    }

    /// Takes a partition over. Panics if its key or its log's owner number is taken.
    pub fn insert(&mut self, key: PartitionKey, partition: Partition) {
        let owner = partition.log().owner();
        let entry = Entry { key, partition, is_due: false, is_answering: false, is_sending: false };
        assert!(self.owners.insert(key, owner).is_none(), "Node::insert: partition {key:?} twice");
        assert!(self.partitions.insert(owner, entry).is_none(), "Node::insert: owner {owner} twice");
        self.touch(owner);
    }

    /// Gives a partition back, for instance one that is closed or removed.
    pub fn remove(&mut self, key: PartitionKey) -> Option<Partition> {
        let owner = self.owners.remove(&key)?;
        self.timers.cancel(u64::from(owner));
        self.partitions.remove(&owner).map(|entry| entry.partition)
    }

    /// A partition, to look at.
    pub fn get(&self, key: PartitionKey) -> Option<&Partition> {
        self.partitions.get(self.owners.get(&key)?).map(|entry| &entry.partition)
    }

    /// A partition, to be told something: it is stepped next.
    pub fn get_mut(&mut self, key: PartitionKey) -> Option<&mut Partition> {
        let owner = *self.owners.get(&key)?;
        self.touch(owner);
        self.partitions.get_mut(&owner).map(|entry| &mut entry.partition)
    }

    /// Whether completions with this owner number are a partition's.
    pub fn owns(&self, owner: u32) -> bool {
        self.partitions.contains_key(&owner)
    }

    /// Takes a completion with a partition's owner number; one of a partition that was removed is dropped.
    pub fn complete(&mut self, now: Now, completion: Completion, io: &mut dyn Io) {
        let owner = completion.token.owner;
        if let Some(entry) = self.partitions.get_mut(&owner) {
            entry.partition.complete(now, completion, io);
            self.touch(owner);
        }
    }

    /// Steps what is due. Says when to call again if nothing else happens before.
    pub fn step(&mut self, now: Now, io: &mut dyn Io) -> Option<Mono> {
        while let Some(owner) = self.timers.pop_due(now.mono) {
            self.touch(owner as u32);
        }
        for _ in 0..self.due.len() {
            let Some(owner) = self.due.pop_front() else { break };
            let Some(entry) = self.partitions.get_mut(&owner) else { continue };
            entry.is_due = false;
            entry.list(owner, &mut self.answering, &mut self.sending);
            match entry.partition.step(now, io) {
                Some(at) => self.timers.set(u64::from(owner), at),
                None => {
                    self.timers.cancel(u64::from(owner));
                }
            }
            if entry.partition.needs_step() {
                entry.is_due = true;
                self.due.push_back(owner);
            }
        }
        if self.due.is_empty() { self.timers.next_deadline() } else { Some(now.mono) }
    }

    /// Lets the cleaner look at the logs, if that is due.
    pub fn clean(&mut self, now: Now, cleaner: &mut Cleaner) {
        if cleaner.deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        let mut logs = self.partitions.values_mut().map(|entry| entry.partition.log_mut());
        if let Some(owner) = cleaner.drive(now, &mut logs) {
            self.touch(owner);
        }
    }

    /// The next late answer of any partition.
    pub fn poll_answer(&mut self) -> Option<(PartitionKey, Answer)> {
        loop {
            let owner = *self.answering.front()?;
            if let Some(entry) = self.partitions.get_mut(&owner) {
                if let Some(answer) = entry.partition.poll_answer() {
                    return Some((entry.key, answer));
                }
                entry.is_answering = false;
            }
            self.answering.pop_front();
        }
    }

    /// The next thing for others of any partition.
    pub fn poll_outgoing(&mut self) -> Option<(PartitionKey, Outgoing)> {
        loop {
            let owner = *self.sending.front()?;
            if let Some(entry) = self.partitions.get_mut(&owner) {
                if let Some(outgoing) = entry.partition.poll_outgoing() {
                    return Some((entry.key, outgoing));
                }
                entry.is_sending = false;
            }
            self.sending.pop_front();
        }
    }

    /// All partitions, by key.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionKey, &Partition)> {
        self.owners.iter().map(|(key, owner)| (*key, &self.partitions[owner].partition))
    }

    /// The keys of all partitions.
    pub fn keys(&self) -> Vec<PartitionKey> {
        self.owners.keys().copied().collect()
    }

    /// How many partitions.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    fn touch(&mut self, owner: u32) {
        if let Some(entry) = self.partitions.get_mut(&owner) {
            entry.list(owner, &mut self.answering, &mut self.sending);
            if !entry.is_due {
                entry.is_due = true;
                self.due.push_back(owner);
            }
        }
    }
}

impl Entry {
    /// Has its outputs polled.
    fn list(&mut self, owner: u32, answering: &mut VecDeque<u32>, sending: &mut VecDeque<u32>) {
        if !self.is_answering {
            self.is_answering = true;
            answering.push_back(owner);
        }
        if !self.is_sending {
            self.is_sending = true;
            sending.push_back(owner);
        }
    }
}

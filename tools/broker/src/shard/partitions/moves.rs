//! Partitions that move between this broker's data directories: one copies at a time, in the order in which they were
//! asked for, so that the rate holds for all; the metadata says where a partition will be before its copy takes its place.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use highwater_base::{Now, Uuid};
use highwater_control::Command;
use highwater_engine::layout::{PartitionDir, PartitionRole};
use highwater_io::IoError;
use highwater_replication::{Outgoing, PartitionKey};
use highwater_wire::ErrorCode;

use super::Partitions;
use crate::call::{Copied, PartitionReply};
use crate::errors::Refusal;
use crate::log::{Level, Log};

/// Longest name of a directory.
const MAX_NAME: usize = 255;

/// What the shard knows of partitions that move.
#[derive(Debug, Default)]
pub(super) struct Moves {
    by_key: BTreeMap<PartitionKey, Move>,
    /// The one that copies.
    first: Option<PartitionKey>,
    turns: u64,
    /// What the metadata is to know: where a partition lies, for the sake of which move.
    to_tell: VecDeque<(PartitionKey, usize, u64)>,
    /// What it was told, and has not answered.
    told: BTreeMap<u32, (PartitionKey, u64)>,
    numbers: u32,
}

/// A partition on its way to another directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    /// The number of the directory.
    to: usize,
    /// Moves are made in this order.
    turn: u64,
    /// The metadata was told that the partition lies there.
    told: bool,
}

impl Partitions {
    /// Begins to move a partition into the directory at `path`; asked for where it lies already, ends its move.
    pub(super) fn move_partition(
        &mut self,
        key: PartitionKey,
        path: &Path,
    ) -> Result<PartitionReply, Refusal> {
        let Some(to) = self.dirs.iter().position(|dir| dir.path == path) else {
            return Err(match self.broken.iter().any(|broken| broken == path) {
                true => Refusal::new(ErrorCode::KafkaStorageError, format!("{} is offline", path.display())),
                false => Refusal::code(ErrorCode::LogDirNotFound),
            });
        };
        if self.offline.contains(&to) {
            return Err(Refusal::new(ErrorCode::KafkaStorageError, format!("{} is offline", path.display())));
        }
        let Some(place) = self.places.get(&key) else {
            return Err(match self.lost.contains(&key) {
                true => Refusal::new(ErrorCode::KafkaStorageError, "its data directory is offline"),
                // Known, and not made yet.
                false => Refusal::code(ErrorCode::ReplicaNotAvailable),
            });
        };
        if self.offline.contains(&place.dir) || self.node.get(key).is_none_or(|at| at.failure().is_some()) {
            return Err(Refusal::new(ErrorCode::KafkaStorageError, "its log has failed"));
        }
        let copy =
            PartitionDir::current(place.partition.clone()).with_role(PartitionRole::Future, Uuid::ZERO);
        if copy.to_string().len() > MAX_NAME {
            let why = "the topic's name is too long for the name of a copy of its partition";
            return Err(Refusal::new(ErrorCode::InvalidTopicException, why));
        }
        if place.dir == to {
            self.give_up_move(key);
        } else if self.moves.by_key.get(&key).is_none_or(|known| known.to != to) {
            self.begin_move(key, to);
        }
        Ok(PartitionReply::Moving)
    }

    /// Begins a move, in the place of another one of the same partition.
    pub(super) fn begin_move(&mut self, key: PartitionKey, to: usize) {
        let Some(from) = self.places.get(&key).map(|place| place.dir) else { return };
        let Some(partition) = self.node.get_mut(key) else { return };
        partition.move_to(&self.dirs[to].path, self.dirs[from].id, 0);
        // It is the last again: what it has copied is for another directory.
        self.moves.first = self.moves.first.filter(|moving| *moving != key);
        self.moves.turns += 1;
        let told = self.moves.by_key.get(&key).is_some_and(|before| before.told);
        self.moves.by_key.insert(key, Move { to, turn: self.moves.turns, told });
        self.pace_moves();
    }

    /// Ends a move, unless its copy takes the partition's place at this moment.
    fn give_up_move(&mut self, key: PartitionKey) {
        let Some(partition) = self.node.get_mut(key) else { return };
        partition.cancel_move();
        if partition.log().moving().is_none() {
            self.move_is_over(key);
        }
    }

    /// The partition stays where it lies now; whoever was told otherwise is told so.
    fn move_is_over(&mut self, key: PartitionKey) {
        if let Some(over) = self.moves.by_key.remove(&key)
            && over.told
            && let Some(place) = self.places.get(&key)
        {
            self.moves.to_tell.push_back((key, place.dir, over.turn));
        }
        self.pace_moves();
    }

    /// Lets the first move go on, at the rate that this shard has, and the others wait.
    fn pace_moves(&mut self) {
        let first = self.moves.by_key.iter().min_by_key(|(_, at)| at.turn).map(|(key, _)| *key);
        if self.moves.first == first {
            return;
        }
        let rate = self.settings.move_rate(self.shards);
        for (key, rate) in [(self.moves.first, 0), (first, rate)] {
            if let Some(partition) = key.and_then(|key| self.node.get_mut(key)) {
                partition.pace_move(rate);
            }
        }
        self.moves.first = first;
    }

    /// What a partition says of its move.
    pub(super) fn hear_of_move(&mut self, key: PartitionKey, outgoing: &Outgoing, now: Now, log: &mut Log) {
        match outgoing {
            Outgoing::MoveCaughtUp => {
                if let Some(at) = self.moves.by_key.get_mut(&key) {
                    at.told = true;
                    self.moves.to_tell.push_back((key, at.to, at.turn));
                }
            }
            Outgoing::Moved => self.moved(key, now, log),
            Outgoing::MoveFailed(error) => self.move_failed(key, error, now, log),
            Outgoing::Discarded { dir } => {
                let name = dir.file_name().and_then(|name| name.to_str()).and_then(PartitionDir::parse);
                if let Some(name) = name {
                    self.remove_rest(dir.clone(), &name, now);
                }
            }
            _ => {}
        }
    }

    fn moved(&mut self, key: PartitionKey, now: Now, log: &mut Log) {
        self.moves.first = self.moves.first.filter(|moving| *moving != key);
        if let (Some(at), Some(place)) = (self.moves.by_key.remove(&key), self.places.get_mut(&key)) {
            let from = std::mem::replace(&mut place.dir, at.to);
            if let Some(partition) = self.node.get_mut(key) {
                partition.share_recycle_space(&self.dirs[at.to].recycle_space);
            }
            let (from, to) = (self.dirs[from].path.display(), self.dirs[at.to].path.display());
            log.line(now, Level::Info, format_args!("{} has moved from {from} to {to}", place.partition));
            // It begins anew to find out how much room it has.
            self.short.values_mut().for_each(|short| _ = short.remove(&key));
        }
        self.pace_moves();
    }

    fn move_failed(&mut self, key: PartitionKey, error: &IoError, now: Now, log: &mut Log) {
        if let (Some(at), Some(place)) = (self.moves.by_key.get(&key).copied(), self.places.get(&key)) {
            let (from, to) = (self.dirs[place.dir].path.display(), self.dirs[at.to].path.display());
            let line = format_args!("{} stays in {from}: it cannot move to {to}: {error}", place.partition);
            log.line(now, Level::Error, line);
            if crate::shard::directories::condemns(error) {
                self.suspect(at.to);
            }
        }
        self.move_is_over(key);
    }

    /// A partition is on its way out, or its log has failed: it goes nowhere else.
    pub(super) fn forget_move(&mut self, key: PartitionKey) {
        if self.moves.by_key.remove(&key).is_some() {
            self.pace_moves();
        }
    }

    /// Nothing moves into a directory that is offline, or out of it.
    pub(super) fn give_up_moves_of(&mut self, dir: usize) {
        let into = self.moves.by_key.iter().filter(|(_, at)| at.to == dir).map(|(key, _)| *key);
        for key in into.collect::<Vec<_>>() {
            self.give_up_move(key);
        }
        let places = &self.places;
        self.moves.by_key.retain(|key, _| places.get(key).is_some_and(|place| place.dir != dir));
        self.pace_moves();
    }

    /// The next thing that the metadata must know before a move can end, or because it has not: with a number under which
    /// [`Partitions::told_metadata`] hears of it.
    pub(in crate::shard) fn poll_move_command(&mut self) -> Option<(u32, Command)> {
        let (key, dir, turn) = self.moves.to_tell.pop_front()?;
        self.moves.numbers = self.moves.numbers.wrapping_add(1);
        let number = self.moves.numbers;
        self.moves.told.insert(number, (key, turn));
        let (topic, index) = key;
        let directory = self.dirs[dir].id;
        Some((number, Command::AssignDirectory { topic, index, broker: self.me, directory }))
    }

    /// The metadata knows, or does not.
    pub(in crate::shard) fn told_metadata(
        &mut self,
        number: u32,
        result: Result<(), String>,
        now: Now,
        log: &mut Log,
    ) {
        let Some((key, turn)) = self.moves.told.remove(&number) else { return };
        // Of a move that is over.
        if self.moves.by_key.get(&key).is_none_or(|at| at.turn != turn) {
            return;
        }
        match result {
            Ok(()) => {
                if let Some(partition) = self.node.get_mut(key) {
                    partition.finish_move();
                }
            }
            Err(why) => {
                if let Some(place) = self.places.get(&key) {
                    let line =
                        format_args!("{} stays where it is: its move was not stored: {why}", place.partition);
                    log.line(now, Level::Error, line);
                }
                self.give_up_move(key);
            }
        }
    }

    /// Where a partition's copy lies, and how far it has come.
    pub(super) fn copied(&self, key: PartitionKey) -> Option<Copied> {
        let at = self.moves.by_key.get(&key)?;
        let log = self.node.get(key)?.log();
        let facts = log.moving()?;
        Some(Copied { dir: at.to, size: facts.bytes, lag: log.log_end().since(facts.copied_to).max(0) })
    }
}

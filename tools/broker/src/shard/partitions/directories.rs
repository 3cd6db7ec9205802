//! What partitions have to do with the data directories they lie in: which takes new ones, which is short of space, which
//! has failed, and what a removal leaves there.

use std::path::Path;

use highwater_base::Now;
use highwater_replication::{Partition, PartitionKey};

use super::Partitions;
use crate::log::{Level, Log};

impl Partitions {
    /// The number of a directory that takes new logs; the emptiest, where none is named. One that is not there, or is
    /// offline, has none: what was assigned to it may lie in it, and is not made anew elsewhere.
    pub(super) fn dir_of(&self, id: Option<highwater_base::Uuid>) -> Option<usize> {
        let mut online = (0..self.dirs.len()).filter(|dir| !self.offline.contains(dir));
        let used = |dir: usize| self.places.values().filter(|place| place.dir == dir).count();
        match id {
            Some(id) => online.find(|dir| self.dirs[*dir].id == id),
            None => online.min_by_key(|dir| used(*dir)),
        }
    }

    /// Lets go of partitions that are removed, and of those that cannot be: the next start finds what they leave.
    pub(super) fn forget_removed(&mut self, now: Now, log: &mut Log) {
        let node = &self.node;
        let over = |partition: &Partition| partition.is_removed() || partition.failure().is_some();
        let removed: Vec<PartitionKey> =
            self.leaving.keys().filter(|key| node.get(**key).is_none_or(over)).copied().collect();
        for key in removed {
            let name = self.leaving.remove(&key);
            self.short.values_mut().for_each(|short| _ = short.remove(&key));
            let Some(partition) = self.node.remove(key) else { continue };
            let Some(failure) = partition.failure() else { continue };
            let dir = partition.log().dir().to_path_buf();
            let known = self.dir_at(&dir).is_some_and(|at| self.offline.contains(&at));
            if !known {
                log.line(
                    now,
                    Level::Error,
                    format_args!(
                        "{} was to be removed and is left: {}; the next start removes it or sets it aside",
                        dir.display(),
                        failure.error
                    ),
                );
            }
            self.stuck.extend(name.filter(|_| !partition.is_deleted()));
        }
    }

    /// The number of the data directory that a log lies in.
    pub(super) fn dir_at(&self, log: &Path) -> Option<usize> {
        self.dirs.iter().position(|dir| log.parent() == Some(&dir.path))
    }

    /// Something of a partition has failed: its directory is suspected, once.
    pub(super) fn suspect(&mut self, dir: usize) {
        if !self.offline.contains(&dir) && self.suspected.insert(dir) {
            self.suspects.push(dir);
        }
    }

    /// The next directory in which something has failed, to be told to shard 0; [`Partitions::judged`] is the answer.
    pub(in crate::shard) fn poll_suspect(&mut self) -> Option<usize> {
        self.suspects.pop()
    }

    /// What became of the suspicion.
    pub(in crate::shard) fn judged(&mut self, dir: usize, sound: bool) {
        self.suspected.remove(&dir);
        if !sound {
            self.offline.insert(dir);
            self.give_up_moves_of(dir);
        }
    }

    /// Says once of a directory that there is no space.
    pub(super) fn tell_space(&mut self, key: PartitionKey, now: Now, log: &mut Log, text: &str) {
        let Some(place) = self.places.get(&key) else { return };
        let short = self.short.entry(place.dir).or_default();
        if short.insert(key) && short.len() == 1 {
            let dir = self.dirs[place.dir].path.display();
            let rest = "appends are refused until there is space, reads are served; free some";
            log.line(now, Level::Error, format_args!("{dir} {text}: {rest}"));
        }
    }

    /// Says once of a directory that there is space again, when none of its partitions lacks any.
    pub(super) fn space_returned(&mut self, key: PartitionKey, now: Now, log: &mut Log) {
        for (dir, short) in &mut self.short {
            if short.remove(&key) && short.is_empty() {
                let dir = self.dirs[*dir].path.display();
                log.line(now, Level::Info, format_args!("{dir} has space again: appends are taken"));
            }
        }
    }

    /// Says once of each partition that has failed why it has; not of those whose directory has, which is told of itself.
    pub(in crate::shard) fn tell_failures(&mut self, now: Now, log: &mut Log) {
        for (key, partition) in self.node.iter() {
            let dir = self.places.get(&key).map(|place| place.dir);
            if dir.is_some_and(|dir| self.suspected.contains(&dir) || self.offline.contains(&dir)) {
                continue;
            }
            if let Some(failure) = partition.failure()
                && self.told.insert(key)
            {
                log.line(now, Level::Error, failure);
            }
        }
    }
}

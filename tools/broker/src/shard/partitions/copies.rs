//! What a move that the end of the process cut short has left, at a start.

use std::path::PathBuf;

use highwater_base::{Now, TopicPartition, Uuid};
use highwater_engine::checkpoint_file::decode_partition_metadata;
use highwater_engine::layout::{PARTITION_METADATA, PartitionDir, PartitionRole};
use highwater_engine::relocation::{completed_move, discard, finish_move};
use highwater_io::{IoError, Park};
use highwater_replication::PartitionKey;

use super::Partitions;
use crate::log::{Level, Log};
use crate::storage::read_file;

/// The copy of a partition's log in one of the directories.
pub(super) struct Copy {
    /// The number of the directory.
    dir: usize,
    path: PathBuf,
    name: PartitionDir,
    /// It is of this topic, and not of one of the same name that was deleted.
    pub(super) is_of_this: bool,
}

impl Partitions {
    /// The copies of a partition.
    pub(super) fn copies_of(
        &self,
        topic: Uuid,
        partition: &TopicPartition,
        io: &mut dyn Park,
    ) -> Result<Vec<Copy>, IoError> {
        let mut copies = Vec::new();
        for (dir, facts) in self.dirs.iter().enumerate() {
            let is_copy =
                |found: &&PartitionDir| found.role == PartitionRole::Future && found.partition == *partition;
            for name in facts.partitions.iter().filter(is_copy) {
                let path = facts.path.join(name.to_string());
                let text = read_file(io, &path.join(PARTITION_METADATA))?.unwrap_or_default();
                let id = decode_partition_metadata(&String::from_utf8_lossy(&text)).ok();
                copies.push(Copy { dir, path, name: name.clone(), is_of_this: id == Some(topic) });
            }
        }
        Ok(copies)
    }

    /// Of a partition that no directory here holds: a complete copy is the log, if it lies where the metadata says that
    /// the log is, and the directory that it came from is here, so that nothing can have been appended there since.
    pub(super) fn finish_cut_short(
        &self,
        copies: &[Copy],
        registered: Option<usize>,
        io: &mut dyn Park,
    ) -> Result<Option<usize>, IoError> {
        for copy in copies.iter().filter(|copy| copy.is_of_this && Some(copy.dir) == registered) {
            let from = completed_move(io, &copy.path)?;
            if let Some(from) = self.dirs.iter().find(|dir| Some(dir.id) == from) {
                finish_move(io, &copy.path, [from.path.as_path()])?;
                return Ok(Some(copy.dir));
            }
        }
        Ok(None)
    }

    /// Of a partition that was found: its copies go, and it moves anew to where it was to go.
    pub(super) fn go_on_moving(
        &mut self,
        key: PartitionKey,
        copies: Vec<Copy>,
        io: &mut dyn Park,
        now: Now,
        log: &mut Log,
    ) {
        let Some((here, name)) = self.places.get(&key).map(|place| (place.dir, place.partition.clone()))
        else {
            return;
        };
        for copy in copies.into_iter().filter(|copy| copy.dir != here) {
            match discard(io, &copy.path) {
                Ok(gone) => {
                    self.remove_rest(gone, &copy.name, now);
                    if copy.is_of_this {
                        let to = self.dirs[copy.dir].path.display();
                        log.line(
                            now,
                            Level::Info,
                            format_args!("{name} goes on moving to {to}, from the beginning"),
                        );
                        self.begin_move(key, copy.dir);
                    }
                }
                Err(error) => {
                    log.line(now, Level::Error, format_args!("{name}: {error}; it stays where it is"));
                    self.suspect(copy.dir);
                }
            }
        }
    }
}

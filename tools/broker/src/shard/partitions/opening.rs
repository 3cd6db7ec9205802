//! Opening a shard's partitions at the start: the only time that it waits for the disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use highwater_base::{Now, Offset, PartitionIndex, Prng, TopicPartition, Uuid};
use highwater_engine::layout::{PartitionDir, PartitionRole};
use highwater_engine::{
    Cleaner, Log as EngineLog, LogSettings, OpenError, OpenHint, RecoveryReport, TailSpace,
};
use highwater_io::{IoError, Op, Park, blocking};
use highwater_replication::{Node, Partition, PartitionKey, PartitionSettings};

use super::moves::Moves;
use super::{DirFacts, Partitions, Place};
use crate::log::{Level, Log};
use crate::shard::{FIRST_LOG, Parts};
use crate::slots::Slots;

impl Partitions {
    /// Opens the partitions that the metadata gives this shard.
    pub(in crate::shard) fn open(
        parts: &Parts,
        io: &mut dyn Park,
        now: Now,
        log: &mut Log,
    ) -> Result<Partitions, String> {
        let mut partitions = Partitions {
            me: parts.node.id,
            settings: Arc::clone(&parts.settings),
            dirs: Arc::clone(&parts.dirs),
            node: Node::new(),
            places: BTreeMap::new(),
            next_owner: FIRST_LOG,
            asked: Slots::new(),
            waits: BTreeMap::new(),
            replies: VecDeque::new(),
            followed: None,
            wanted: Vec::new(),
            leaving: BTreeMap::new(),
            stuck: BTreeSet::new(),
            making: BTreeSet::new(),
            short: BTreeMap::new(),
            told: BTreeSet::new(),
            lost: BTreeSet::new(),
            offline: BTreeSet::new(),
            suspected: BTreeSet::new(),
            suspects: Vec::new(),
            broken: Arc::clone(&parts.broken),
            moves: Moves::default(),
            tail_space: TailSpace::new(parts.limits.shard_tail_bytes),
            shards: parts.mail.shards().count(),
            deadline: None,
            cleaner: Cleaner::new(now, parts.settings.cleaner(parts.mail.shards().count())),
            closing: false,
        };
        for topic in parts.image.topics() {
            for (at, state) in topic.partitions.iter().enumerate() {
                let index = PartitionIndex::new(at as i32);
                if parts.mail.owner((topic.id, index)) == parts.mail.me()
                    && state.replicas.contains(&partitions.me)
                {
                    let partition = TopicPartition::new(Arc::clone(&topic.name), index);
                    partitions.open_one(
                        topic.id,
                        partition,
                        state.directory_of(partitions.me),
                        parts,
                        (io, now, log),
                    )?;
                }
            }
        }
        if !partitions.lost.is_empty() {
            let line = format_args!(
                "{} partitions lie in data directories that are not here; they answer KAFKA_STORAGE_ERROR until those \
                 are given again",
                partitions.lost.len()
            );
            log.line(now, Level::Error, line);
        }
        if parts.image.borrowed().is_some() {
            // What else lies in the directories is Apache Kafka's to remove or to set aside.
            return Ok(partitions);
        }
        for dir in parts.dirs.iter() {
            for found in &dir.partitions {
                let key = (found.unique, found.partition.partition);
                if found.role == PartitionRole::Delete && parts.mail.owner(key) == parts.mail.me() {
                    partitions.remove_rest(dir.path.join(found.to_string()), found, now);
                }
            }
        }
        if parts.id == 0 {
            set_strays_aside(parts, io, now, log)?;
        }
        Ok(partitions)
    }

    fn open_one(
        &mut self,
        topic: Uuid,
        partition: TopicPartition,
        directory: Option<Uuid>,
        parts: &Parts,
        (io, now, log): (&mut dyn Park, Now, &mut Log),
    ) -> Result<(), String> {
        let here = |dir: &DirFacts| {
            dir.partitions
                .iter()
                .any(|found| found.role == PartitionRole::Current && found.partition == partition)
        };
        let registered = self.dirs.iter().position(|dir| Some(dir.id) == directory);
        let found = registered.filter(|at| here(&self.dirs[*at])).or_else(|| self.dirs.iter().position(here));
        let key = (topic, partition.partition);
        let copies = match parts.image.borrowed() {
            None => self.copies_of(topic, &partition, io),
            // They are Apache Kafka's, and stay as they are.
            Some(_) => Ok(Vec::new()),
        };
        let copies = match copies {
            Ok(copies) => copies,
            Err(error) => return self.cannot_open(key, &partition, registered, error, now, log),
        };
        let found = match found {
            Some(found) => Some(found),
            None => match self.finish_cut_short(&copies, registered, io) {
                Ok(found) => found,
                Err(error) => return self.cannot_open(key, &partition, registered, error, now, log),
            },
        };
        if found.is_none() && copies.iter().any(|copy| copy.is_of_this) {
            // It lies in a directory that is not here.
            self.lost.insert(key);
            return Ok(());
        }
        let (settings, partition_settings) = self.settings.of_partitions(&parts.image, &partition.topic);
        let Some(dir) = found.or(registered).or_else(|| self.dir_of(directory)) else {
            self.lost.insert(key);
            return Ok(());
        };
        let place = Place { dir, partition };
        let path = self.path(&place);
        let owner = self.owner();
        let facts = &self.dirs[place.dir];
        let (mut engine_log, high_watermark) = match found {
            Some(_) => {
                let hint = OpenHint {
                    clean_stop: facts.clean,
                    log_start: facts.checkpoints.log_starts.offsets.get(&place.partition).copied(),
                    recovery_point: facts.checkpoints.recovery_points.offsets.get(&place.partition).copied(),
                    cleaned_to: facts.checkpoints.cleaned.offsets.get(&place.partition).copied(),
                    topic_id: Some(topic),
                    stale: facts.stale,
                };
                let listed = parts.manifests.get(dir).and_then(|of| of.log(&place.partition.to_string()));
                let asleep = listed
                    .and_then(|listed| EngineLog::open_listed(now, &path, owner, settings, hint, &listed));
                let opened = match asleep {
                    Some(opened) => Ok(opened),
                    None => EngineLog::open(io, now, &path, owner, settings, hint),
                };
                let (opened, report) = match opened {
                    Ok(opened) => opened,
                    Err(OpenError::Io(error)) => {
                        return self.cannot_open(key, &place.partition, Some(dir), error, now, log);
                    }
                    Err(error) => return Err(format!("{}: {error}", place.partition)),
                };
                tell(&place.partition, &report, now, log);
                let checkpointed = facts.checkpoints.high_watermarks.offsets.get(&place.partition).copied();
                // A lone replica holds all that was committed: its high watermark is its end. The checkpoint
                // is a lower bound for one that has others.
                (opened, checkpointed.unwrap_or(Offset::ZERO))
            }
            // The process ended between the storing of the metadata and the making of the log.
            None => {
                self.making.insert(key);
                (EngineLog::create(now, &path, owner, settings, topic), Offset::ZERO)
            }
        };
        self.share_spaces(&mut engine_log, place.dir);
        self.node.insert(key, Partition::new(self.me, engine_log, partition_settings, high_watermark));
        self.places.insert(key, place);
        if found.is_some() {
            self.go_on_moving(key, copies, io, now, log);
        }
        Ok(())
    }

    /// The device's trouble: other partitions, and other directories, are served.
    fn cannot_open(
        &mut self,
        key: PartitionKey,
        partition: &TopicPartition,
        dir: Option<usize>,
        error: IoError,
        now: Now,
        log: &mut Log,
    ) -> Result<(), String> {
        if self.dirs.len() < 2 {
            return Err(format!("{partition}: {error}"));
        }
        log.line(now, Level::Error, format_args!("{partition}: {error}; it answers KAFKA_STORAGE_ERROR"));
        self.lost.insert(key);
        if let Some(dir) = dir {
            self.suspect(dir);
        }
        Ok(())
    }

    /// Goes on with a removal that the end of the process cut short.
    pub(super) fn remove_rest(&mut self, path: PathBuf, found: &PartitionDir, now: Now) {
        let key = (found.unique, found.partition.partition);
        if self.node.get(key).is_some() {
            return;
        }
        let log = EngineLog::remove(now, &path, self.owner(), LogSettings::default());
        self.node.insert(key, Partition::new(self.me, log, PartitionSettings::default(), Offset::ZERO));
        self.leaving.insert(key, path);
    }
}

/// What the opening of a log found, for the operator.
fn tell(partition: &TopicPartition, report: &RecoveryReport, now: Now, log: &mut Log) {
    for finding in &report.findings {
        let kept =
            finding.kept.as_ref().map_or_else(String::new, |kept| format!(", kept in {}", kept.display()));
        log.line(
            now,
            Level::Warn,
            format_args!(
                "{partition}: {:?}: {} bytes at byte {} of {}{kept}",
                finding.verdict,
                finding.bytes,
                finding.position,
                finding.file.display()
            ),
        );
    }
    if report.cut_bytes > 0 {
        let line = format_args!(
            "{partition}: recovered; {} bytes at the end were cut, {} of {} bytes were read",
            report.cut_bytes, report.scanned_bytes, report.log_bytes
        );
        log.line(now, Level::Warn, line);
    }
}

/// Directories of partitions that the metadata does not know are renamed, and never served or removed.
fn set_strays_aside(parts: &Parts, io: &mut dyn Park, now: Now, log: &mut Log) -> Result<(), String> {
    let mut prng = Prng::new(parts.seed ^ now.wall.get() as u64);
    for dir in parts.dirs.iter() {
        let known = |found: &PartitionDir| {
            let topic = parts.image.topic(&found.partition.topic);
            topic.is_some_and(|topic| topic.partition(found.partition.partition).is_some())
        };
        let lies =
            |found: &PartitionDir| matches!(found.role, PartitionRole::Current | PartitionRole::Future);
        let strays = dir.partitions.iter().filter(|found| lies(found) && !known(found));
        for stray in strays {
            let aside = stray.with_role(PartitionRole::Stray, Uuid::random(&mut prng)).to_string();
            let (from, to) = (dir.path.join(stray.to_string()), dir.path.join(&aside));
            blocking::run(io, Op::Rename { from, to }).map_err(|error| error.to_string())?;
            blocking::run(io, Op::SyncDir { path: dir.path.clone() }).map_err(|error| error.to_string())?;
            let line = format_args!(
                "{stray} in {} is a partition of no topic that the catalog knows; it is set aside as {aside}",
                dir.path.display()
            );
            log.line(now, Level::Warn, line);
        }
    }
    Ok(())
}

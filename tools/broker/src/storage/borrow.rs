//! Serving a directory that Apache Kafka wrote and has not been kept: its metadata are Kafka's, read at each start.

use std::collections::BTreeSet;
use std::path::Path;

use highwater_base::{BrokerId, PartitionIndex, TopicPartition, Uuid};
use highwater_control::Image;
use highwater_engine::layout::{FileKind, FileName, FileState, PartitionDir, PartitionRole};
use highwater_io::{Op, Park, blocking};

use super::StorageError;
use super::kafka_log::KafkaLog;
use super::look::{Looked, entries};

/// Kafka's metadata as this node serves them.
#[derive(Clone, Debug)]
pub(crate) struct Borrowed {
    /// What is served.
    pub(crate) image: Image,
    /// As Kafka has it.
    pub(crate) kafka: Image,
    /// The log that it was read from.
    pub(crate) log: KafkaLog,
    /// Apache Kafka has run since our last start, or this is the first: what our files say of its logs is void.
    pub(crate) stale: bool,
}

impl Borrowed {
    /// Reads Kafka's metadata; `None` if none of the directories has any.
    ///
    /// `before` is the catalog of our last start, if there is one.
    pub(crate) fn read(
        io: &mut dyn Park,
        looked: &[Looked],
        me: BrokerId,
        cluster_id: &str,
        before: Option<&Image>,
    ) -> Result<Option<Borrowed>, StorageError> {
        let mut newest: Option<(&Looked, KafkaLog)> = None;
        for dir in looked.iter().filter(|dir| dir.has_kafka_log) {
            let log = KafkaLog::read(io, &dir.path)?;
            if newest.as_ref().is_none_or(|(_, newest)| newest.end < log.end) {
                newest = Some((dir, log));
            }
        }
        let Some((dir, log)) = newest else {
            return match (before, looked.first()) {
                (Some(_), Some(dir)) => Err(StorageError::CatalogMissing { dir: dir.path.clone() }),
                _ => Ok(None),
            };
        };
        let refuse = |why: String| StorageError::NotAdoptable { dir: dir.path.clone(), why };
        let kafka = log.metadata.image(cluster_id, log.end).map_err(|error| refuse(error.to_string()))?;
        let image = kafka.borrow(me, log.end, before).map_err(|error| refuse(error.to_string()))?;
        let stale = before.and_then(Image::borrowed) != Some(log.end);
        Ok(Some(Borrowed { image, kafka, log, stale }))
    }
}

/// What keeps the directories from being served: `kept` says whether they are to be served for good, so that no other
/// node counts any more. Empty if nothing does.
pub(crate) fn obstacles(kafka: &Image, me: BrokerId, looked: &[Looked], kept: bool) -> Vec<String> {
    let mut found = Vec::new();
    let tiered = |configs: &highwater_control::Configs| {
        configs.get("remote.storage.enable").is_some_and(|value| value.trim() == "true")
    };
    for topic in kafka.topics().filter(|topic| tiered(&topic.configs)) {
        found.push(format!(
            "topic {} is tiered (remote.storage.enable=true), which is not offered",
            topic.name
        ));
    }
    let shared: Vec<_> = kafka.shared_partitions(me).collect();
    if let Some((topic, index)) = shared.first().filter(|_| !kept) {
        found.push(format!(
            "{} partitions, such as {topic}-{index}, have replicas on other nodes: what is appended here alone would \
             contradict them once Apache Kafka runs again",
            shared.len()
        ));
    }
    let given: BTreeSet<Uuid> = looked.iter().filter_map(|dir| dir.meta.as_ref()?.directory_id).collect();
    let here: BTreeSet<&TopicPartition> = looked
        .iter()
        .flat_map(|dir| &dir.partitions)
        .filter(|dir| dir.role == PartitionRole::Current)
        .map(|dir| &dir.partition)
        .collect();
    for topic in kafka.topics() {
        for (at, state) in topic.partitions.iter().enumerate() {
            let partition = TopicPartition::new(topic.name.clone(), PartitionIndex::new(at as i32));
            if let Some(id) = state.directory_of(me).filter(|id| !given.contains(id))
                && !here.contains(&partition)
            {
                found.push(format!(
                    "partition {partition} is in the data directory {id}, which was not given"
                ));
            }
        }
    }
    found
}

/// Directories of partitions that Kafka's metadata do not know: Kafka sets them aside when it starts.
pub(crate) fn unknown<'l>(kafka: &Image, looked: &'l Looked) -> Vec<&'l PartitionDir> {
    let known = |dir: &PartitionDir| {
        let topic = kafka.topic(&dir.partition.topic);
        topic.is_some_and(|topic| topic.partition(dir.partition.partition).is_some())
    };
    looked.partitions.iter().filter(|dir| dir.role == PartitionRole::Current && !known(dir)).collect()
}

/// Removes what is ours from a partition's directory: seals and the proven synced end. Apache Kafka takes no notice of
/// them, but what it writes from now on makes them void.
pub(crate) fn remove_ours(io: &mut dyn Park, partition: &Path) -> Result<(), StorageError> {
    let mut any = false;
    for entry in entries(io, partition)? {
        let ours = entry.name.to_str().and_then(FileName::parse).is_some_and(|file| {
            let kind = matches!(file.kind, FileKind::Seal | FileKind::Checkpoint | FileKind::Prepared);
            kind && matches!(file.state, FileState::Live | FileState::Tmp)
        });
        if ours {
            any = true;
            blocking::run(io, Op::Unlink { path: partition.join(&entry.name) })?;
        }
    }
    if any {
        blocking::run(io, Op::SyncDir { path: partition.to_path_buf() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use highwater_base::{LeaderEpoch, Limits, Mono, Now, WallMs};
    use highwater_engine::batch::BatchBuilder;
    use highwater_engine::{Log, LogSettings, Origin};
    use highwater_io::{Io, MemoryIo};

    use super::*;

    /// The names in the log's directory.
    fn names(io: &mut MemoryIo, dir: &Path) -> Vec<String> {
        let entries = entries(io, dir).expect("it is there");
        entries.into_iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect()
    }

    /// Whatever recycling keeps, and whenever the process ended: nothing of it is left in a directory that is given back but
    /// segments named `.deleted`, wiped or not, which Apache Kafka removes unread when it opens the log.
    #[test]
    fn a_log_that_recycles_leaves_nothing_of_ours_in_a_directory_that_is_given_back() {
        let settings = LogSettings {
            segment_bytes: 64 << 10,
            retention_bytes: Some(128 << 10),
            retention_check_ms: 10,
            file_delete_delay_ms: 0,
            limits: Limits::TINY,
            ..LogSettings::default()
        };
        let (dir, mut io) = (Path::new("/orders-0"), MemoryIo::new());
        let mut now = Now { mono: Mono::ZERO, wall: WallMs::new(1_767_225_600_000) };
        let mut log = Log::create(now, dir, 1, settings, Uuid::ZERO);
        let batch = BatchBuilder::new().record(1_767_225_600_000, Some(b"k"), Some(&[7; 4000])).build();
        let (mut deleted, mut prepared, mut before) = (0, 0, Vec::new());
        for turn in 0..4000 {
            now.mono = now.mono.plus(Duration::from_millis(1));
            log.step(now, &mut io);
            let mut done = Vec::new();
            io.reap(&mut done);
            done.into_iter().for_each(|completion| log.complete(now, completion, &mut io));
            while log.poll_event().is_some() {}
            if log.is_ready() && turn % 8 == 0 {
                let origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };
                let end = log.append(now, &batch, origin).expect("it takes appends").end;
                log.want_synced(end);
                log.set_high_watermark(log.synced_end());
            }
            let found = names(&mut io, dir);
            if std::mem::replace(&mut before, found.clone()) == found {
                continue;
            }
            let has = |end: &str| usize::from(found.iter().any(|name| name.ends_with(end)));
            (deleted, prepared) = (deleted + has(".log.deleted"), prepared + has("next.prepared"));
            // The process ends here, and the directory goes back to Kafka.
            let mut after = MemoryIo::on(io.disk().fork());
            remove_ours(&mut after, dir).expect("a memory disk does not fail");
            let left = names(&mut after, dir);
            let ours = |name: &String| {
                [".prepared", ".seal"].iter().any(|end| name.ends_with(end)) || name.contains("highwater")
            };
            assert!(!left.iter().any(ours), "turn {turn}: of {found:?}, {left:?} is left");
            let segments = |names: &[String]| names.iter().filter(|name| name.ends_with(".log")).count();
            assert_eq!(segments(&left), segments(&found), "turn {turn}: segments went, too");
        }
        let recycled = log.segments_recycled();
        assert!(deleted > 0 && prepared > 0 && recycled > 2, "{deleted} {prepared} {recycled}");
    }
}

//! Every directory and file name, written and parsed. Kafka's, and a few of ours that Kafka's loader passes over.

use std::fmt;

use highwater_base::{Offset, PartitionIndex, TopicPartition, Uuid};

/// Kafka's lock of a data directory.
pub const LOCK: &str = ".lock";
/// Present only after an orderly stop.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Who owns a data directory.
pub const META_PROPERTIES: &str = "meta.properties";
/// Below these offsets data is known to be flushed.
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// Log start offsets above the first segment's base.
pub const LOG_STARTS: &str = "log-start-offset-checkpoint";
/// High watermarks.
pub const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// First dirty offsets of compacted partitions.
pub const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// KRaft's bootstrap records, in a data directory.
pub const BOOTSTRAP_CHECKPOINT: &str = "bootstrap.checkpoint";
/// The KRaft log's directory, which is no partition of ours.
pub const CLUSTER_METADATA: &str = "__cluster_metadata-0";
/// Kafka's cache of tiered indexes, which is no partition.
pub const REMOTE_INDEX_CACHE: &str = "remote-log-index-cache";
/// Leader epochs of a partition.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// The topic id of a partition.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// KRaft's vote, in the metadata log's directory.
pub const QUORUM_STATE: &str = "quorum-state";
/// Ours: a partition's proven synced end.
pub const CHECKPOINT: &str = "highwater.checkpoint";
/// Ours: topics, settings and producer ids, in a data directory.
pub const CATALOG: &str = "highwater.catalog";
/// Ours: what a clean stop knew of each log, in a data directory.
pub const MANIFEST: &str = "highwater.manifest";
/// Ours: the segment that comes next, before its base offset is known.
pub const PREPARED: &str = "next.prepared";
/// Ours: the copy of a log that moves is complete; in a `-future` directory.
pub const MOVED: &str = "highwater.moved";
/// Suffix of a file that is being written and will be renamed.
pub const TMP: &str = ".tmp";

/// Longest topic name.
pub const MAX_TOPIC_NAME: usize = 249;
/// Longest directory name.
const MAX_DIRECTORY_NAME: usize = 255;

/// Whether Kafka allows this topic name: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`.
///
/// ```
/// use highwater_engine::layout::is_topic_name;
/// assert!(is_topic_name("orders.v1"));
/// assert!(!is_topic_name("..") && !is_topic_name("a/b"));
/// ```
pub fn is_topic_name(name: &str) -> bool {
    (1..=MAX_TOPIC_NAME).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// What a partition's directory is for.
///
/// ```
/// use highwater_engine::layout::PartitionRole;
/// assert_eq!(PartitionRole::Delete.suffix(), Some("delete"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartitionRole {
    /// A replica in use.
    Current,
    /// Waits to be removed.
    Delete,
    /// The target of a move between data directories.
    Future,
    /// No longer assigned to this broker.
    Stray,
}

impl PartitionRole {
    /// The last word of the directory's name, if it has one.
    pub const fn suffix(self) -> Option<&'static str> {
        match self {
            PartitionRole::Current => None,
            PartitionRole::Delete => Some("delete"),
            PartitionRole::Future => Some("future"),
            PartitionRole::Stray => Some("stray"),
        }
    }
}

/// The name of a partition's directory.
///
/// ```
/// use highwater_engine::layout::{PartitionDir, PartitionRole};
/// let dir = PartitionDir::parse("a-b-3").unwrap();
/// assert_eq!((dir.partition.to_string().as_str(), dir.role), ("a-b-3", PartitionRole::Current));
/// let dir = PartitionDir::parse("moving-0.36f67f48397d4451aa81723b974882fd-future").unwrap();
/// assert_eq!(dir.role, PartitionRole::Future);
/// assert_eq!(dir.to_string(), "moving-0.36f67f48397d4451aa81723b974882fd-future");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionDir {
    /// Topic (of a `-delete` directory perhaps cut) and partition.
    pub partition: TopicPartition,
    /// What it is for.
    pub role: PartitionRole,
    /// Tells directories of one partition apart; zero for a current one.
    pub unique: Uuid,
}

impl PartitionDir {
    /// The directory of a replica in use.
    pub fn current(partition: TopicPartition) -> PartitionDir {
        PartitionDir { partition, role: PartitionRole::Current, unique: Uuid::ZERO }
    }

    /// The same replica in another role; the topic's part is cut so that a `-delete` name stays within 255 characters.
    #[must_use]
    pub fn with_role(&self, role: PartitionRole, unique: Uuid) -> PartitionDir {
        let mut partition = self.partition.clone();
        if role == PartitionRole::Delete {
            let rest = format!("-{}.{}-delete", partition.partition, hex(unique)).len();
            let keep = partition.topic.len().min(MAX_DIRECTORY_NAME - rest);
            partition.topic = partition.topic[..keep].into();
        }
        PartitionDir { partition, role, unique }
    }

    /// From a directory's name; none if it is no partition's.
    pub fn parse(name: &str) -> Option<PartitionDir> {
        if name == REMOTE_INDEX_CACHE {
            return None;
        }
        for role in [PartitionRole::Delete, PartitionRole::Future, PartitionRole::Stray] {
            let Some(rest) = name.strip_suffix(role.suffix().unwrap_or_default()) else { continue };
            let Some((partition, unique)) = rest.strip_suffix('-').and_then(|rest| rest.rsplit_once('.'))
            else {
                continue;
            };
            if let Some(unique) = parse_hex(unique) {
                return Some(PartitionDir { partition: parse_partition(partition)?, role, unique });
            }
        }
        Some(PartitionDir::current(parse_partition(name)?))
    }
}

impl fmt::Display for PartitionDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role.suffix() {
            None => self.partition.fmt(f),
            Some(suffix) => write!(f, "{}.{}-{suffix}", self.partition, hex(self.unique)),
        }
    }
}

fn parse_partition(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    if !is_topic_name(topic) || partition.is_empty() || !partition.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(TopicPartition::new(topic, PartitionIndex::new(partition.parse().ok()?)))
}

fn hex(id: Uuid) -> String {
    id.bytes().iter().map(|b| format!("{b:02x}")).collect()
}

fn parse_hex(text: &str) -> Option<Uuid> {
    let legal = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    legal.then(|| u128::from_str_radix(text, 16).ok())?.map(|bits| Uuid::from_bytes(bits.to_be_bytes()))
}

/// What a file of a partition's directory holds.
///
/// ```
/// use highwater_engine::layout::FileKind;
/// assert_eq!(FileKind::TimeIndex.extension(), Some("timeindex"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileKind {
    /// Record batches.
    Log,
    /// The sparse offset index.
    OffsetIndex,
    /// The sparse time index.
    TimeIndex,
    /// Aborted transactions.
    TxnIndex,
    /// Producer state up to the offset of its name.
    Snapshot,
    /// Ours: the checksums of a sealed segment.
    Seal,
    /// A KRaft snapshot.
    RaftSnapshot,
    /// `leader-epoch-checkpoint`.
    LeaderEpochs,
    /// `partition.metadata`.
    PartitionMetadata,
    /// `quorum-state`.
    QuorumState,
    /// `highwater.checkpoint`.
    Checkpoint,
    /// `next.prepared`.
    Prepared,
}

impl FileKind {
    /// The extension, of the kinds that are named by an offset.
    pub const fn extension(self) -> Option<&'static str> {
        match self {
            FileKind::Log => Some("log"),
            FileKind::OffsetIndex => Some("index"),
            FileKind::TimeIndex => Some("timeindex"),
            FileKind::TxnIndex => Some("txnindex"),
            FileKind::Snapshot => Some("snapshot"),
            FileKind::Seal => Some("seal"),
            FileKind::RaftSnapshot => Some("checkpoint"),
            FileKind::LeaderEpochs
            | FileKind::PartitionMetadata
            | FileKind::QuorumState
            | FileKind::Checkpoint
            | FileKind::Prepared => None,
        }
    }
}

/// What is happening to a file, as a suffix of its name.
///
/// ```
/// use highwater_engine::layout::FileState;
/// assert_eq!(FileState::Deleted.suffix(), ".deleted");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileState {
    /// In use.
    Live,
    /// Waits to be removed.
    Deleted,
    /// Being written by the cleaner; incomplete.
    Cleaned,
    /// Complete, about to replace others.
    Swap,
    /// Being written, to be renamed.
    Tmp,
    /// A KRaft snapshot being written.
    Part,
}

impl FileState {
    const ALL: [FileState; 6] = [
        FileState::Live,
        FileState::Deleted,
        FileState::Cleaned,
        FileState::Swap,
        FileState::Tmp,
        FileState::Part,
    ];

    /// The suffix, with its dot; empty for a file in use.
    pub const fn suffix(self) -> &'static str {
        match self {
            FileState::Live => "",
            FileState::Deleted => ".deleted",
            FileState::Cleaned => ".cleaned",
            FileState::Swap => ".swap",
            FileState::Tmp => ".tmp",
            FileState::Part => ".part",
        }
    }
}

/// A file's name in a partition's directory.
///
/// ```
/// use highwater_base::Offset;
/// use highwater_engine::layout::{FileKind, FileName, FileState};
/// let name = FileName::parse("00000000000000000042.log.deleted").unwrap();
/// assert_eq!((name.kind, name.offset, name.state), (FileKind::Log, Offset::new(42), FileState::Deleted));
/// assert_eq!(FileName::live(FileKind::Seal, Offset::new(42)).to_string(), "00000000000000000042.seal");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileName {
    /// The offset in the name (a segment's base, or the end of a snapshot); 0 where there is none.
    pub offset: Offset,
    /// What it holds.
    pub kind: FileKind,
    /// The epoch in a KRaft snapshot's name; 0 of all others.
    pub epoch: i32,
    /// What is happening to it.
    pub state: FileState,
}

impl FileName {
    /// The name of a file in use.
    pub const fn live(kind: FileKind, offset: Offset) -> FileName {
        FileName { offset, kind, epoch: 0, state: FileState::Live }
    }

    /// The same file in another state.
    #[must_use]
    pub const fn with_state(self, state: FileState) -> FileName {
        FileName { state, ..self }
    }

    /// From a file's name; none if it is of no kind that is known here.
    pub fn parse(name: &str) -> Option<FileName> {
        for state in FileState::ALL.into_iter().rev() {
            if let Some(stem) = name.strip_suffix(state.suffix())
                && let Some((kind, offset, epoch)) = parse_stem(stem)
            {
                return Some(FileName { offset, kind, epoch, state });
            }
        }
        None
    }
}

fn parse_stem(stem: &str) -> Option<(FileKind, Offset, i32)> {
    let fixed = match stem {
        LEADER_EPOCHS => Some(FileKind::LeaderEpochs),
        PARTITION_METADATA => Some(FileKind::PartitionMetadata),
        QUORUM_STATE => Some(FileKind::QuorumState),
        CHECKPOINT => Some(FileKind::Checkpoint),
        PREPARED => Some(FileKind::Prepared),
        _ => None,
    };
    if let Some(kind) = fixed {
        return Some((kind, Offset::ZERO, 0));
    }
    let (number, extension) = stem.split_once('.')?;
    let kind = [
        FileKind::Log,
        FileKind::OffsetIndex,
        FileKind::TimeIndex,
        FileKind::TxnIndex,
        FileKind::Snapshot,
        FileKind::Seal,
        FileKind::RaftSnapshot,
    ]
    .into_iter()
    .find(|kind| kind.extension() == Some(extension))?;
    let (number, epoch) = match kind {
        FileKind::RaftSnapshot => {
            let (number, epoch) = number.split_once('-')?;
            (number, digits(epoch, 10)?.parse().ok()?)
        }
        _ => (number, 0),
    };
    Some((kind, Offset::new(digits(number, 20)?.parse().ok()?), epoch))
}

fn digits(text: &str, len: usize) -> Option<&str> {
    (text.len() == len && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FileKind::LeaderEpochs => f.write_str(LEADER_EPOCHS)?,
            FileKind::PartitionMetadata => f.write_str(PARTITION_METADATA)?,
            FileKind::QuorumState => f.write_str(QUORUM_STATE)?,
            FileKind::Checkpoint => f.write_str(CHECKPOINT)?,
            FileKind::Prepared => f.write_str(PREPARED)?,
            FileKind::RaftSnapshot => write!(f, "{:020}-{:010}.checkpoint", self.offset.get(), self.epoch)?,
            FileKind::Log
            | FileKind::OffsetIndex
            | FileKind::TimeIndex
            | FileKind::TxnIndex
            | FileKind::Snapshot
            | FileKind::Seal => {
                write!(f, "{:020}.{}", self.offset.get(), self.kind.extension().unwrap_or_default())?;
            }
        }
        f.write_str(self.state.suffix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_survive_the_round_trip() {
        for name in [
            "00000000000000000000.log",
            "00000000000000000042.index",
            "00000000000000000042.timeindex.deleted",
            "00000000000000000042.txnindex.cleaned",
            "09223372036854775807.snapshot.swap",
            "00000000000000000042.seal.tmp",
            "00000000000000000175-0000000001.checkpoint",
            "00000000000000000175-0000000001.checkpoint.part",
            "leader-epoch-checkpoint",
            "leader-epoch-checkpoint.tmp",
            "partition.metadata",
            "quorum-state",
            "highwater.checkpoint",
            "next.prepared",
        ] {
            assert_eq!(FileName::parse(name).map(|n| n.to_string()).as_deref(), Some(name));
        }
    }

    #[test]
    fn other_names_are_nobody_s() {
        for name in [
            "",
            ".log",
            "0.log",
            "0000000000000000000a.log",
            "-0000000000000000001.log",
            "99999999999999999999.log",
            "00000000000000000000.log.gone",
            "00000000000000000000.checkpoint",
            "00000000000000000175-1.checkpoint",
            "notes.txt",
        ] {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn directory_names_are_parsed_at_the_last_dash() {
        let parse = |name| {
            PartitionDir::parse(name).map(|d| (d.partition.topic.to_string(), d.partition.partition.get()))
        };
        assert_eq!(parse("a-1-2"), Some(("a-1".into(), 2)));
        assert_eq!(parse("__cluster_metadata-0"), Some(("__cluster_metadata".into(), 0)));
        for name in
            ["a", "a-", "-1", "a-x", "a--1x", "a b-1", "remote-log-index-cache", "..-1", "a-99999999999"]
        {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_name_of_a_doomed_directory_never_passes_255_characters() {
        let topic = "t".repeat(MAX_TOPIC_NAME);
        let dir = PartitionDir::current(TopicPartition::new(topic, PartitionIndex::new(7)));
        let doomed = dir.with_role(PartitionRole::Delete, Uuid::from_halves(3, 4));
        assert_eq!(doomed.to_string().len(), 255);
        assert_eq!(PartitionDir::parse(&doomed.to_string()), Some(doomed));
    }
}

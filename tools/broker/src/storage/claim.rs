//! Claiming data directories at the start: make or inspect, lock, read what they say of themselves.

use std::path::{Path, PathBuf};

use highwater_base::{BrokerEpoch, BrokerId, Prng, Uuid};
use highwater_control::{Image, decode_catalog};
use highwater_engine::checkpoint_file::{MetaProperties, OffsetCheckpoint, decode_clean_shutdown};
use highwater_engine::layout::{
    self, CATALOG, CLEAN_SHUTDOWN, HIGH_WATERMARKS, LOCK, LOG_STARTS, META_PROPERTIES, PartitionDir,
    PartitionRole, RECOVERY_POINTS,
};
use highwater_io::{EntryKind, FileLock, IoError, Op, Outcome, Park, blocking};

use super::{CheckpointFiles, Replace, StorageError, read_file};

/// The claimed data directories.
#[derive(Debug)]
pub(crate) struct Storage {
    /// In the order given; at least one.
    pub(crate) dirs: Vec<DataDir>,
    /// Directories that are broken, and not served.
    pub(crate) broken: Vec<PathBuf>,
    /// This node.
    pub(crate) node_id: BrokerId,
    /// The cluster's id.
    pub(crate) cluster_id: String,
    /// The metadata, as the catalog has it; none at the first start.
    pub(crate) image: Option<Image>,
    /// Things that the operator should know.
    pub(crate) notes: Vec<String>,
}

/// One claimed data directory.
#[derive(Debug)]
pub(crate) struct DataDir {
    /// Where.
    pub(crate) path: PathBuf,
    /// Its `directory.id`.
    pub(crate) id: Uuid,
    /// The broker epoch in its clean-stop marker, if it was stopped cleanly.
    pub(crate) clean_stop: Option<BrokerEpoch>,
    /// What its checkpoint files said.
    pub(crate) checkpoints: CheckpointFiles,
    /// The partitions' directories in it.
    pub(crate) partitions: Vec<PartitionDir>,
    /// Held until the broker ends.
    lock: FileLock,
}

impl Storage {
    /// Claims the directories. Nothing is changed in one that is refused, except its lock file. One that cannot be read
    /// or written is left out, with a note, unless none is left.
    ///
    /// `node_id` is the configured node, if one was configured: a directory that knows its node needs none.
    pub(crate) fn claim(
        io: &mut dyn Park,
        paths: &[PathBuf],
        node_id: Option<BrokerId>,
        default_node: BrokerId,
        prng: &mut Prng,
    ) -> Result<Storage, StorageError> {
        let mut left_out = LeftOut::default();
        let mut claimed = Vec::new();
        for path in paths {
            claimed.extend(left_out.unless_broken(path, Claimed::inspect(io, path))?);
        }
        let mut notes = Vec::new();
        let image = newest_catalog(&claimed)?;
        for claim in &claimed {
            claim.check_partitions(io, image.as_ref())?;
        }
        let metas: Vec<Option<&MetaProperties>> = claimed.iter().map(|claim| claim.meta.as_ref()).collect();
        let known_node = metas.iter().flatten().find_map(|meta| meta.node_id);
        let node_id = node_id.or(known_node).unwrap_or(default_node);
        let cluster_id = match &image {
            Some(image) => image.cluster_id().to_owned(),
            None => metas
                .iter()
                .flatten()
                .find_map(|meta| meta.cluster_id.clone())
                .unwrap_or_else(|| Uuid::random(prng).to_string()),
        };
        for claim in &claimed {
            claim.check_identity(node_id, &cluster_id)?;
        }
        let mut dirs: Vec<DataDir> = Vec::new();
        for claim in claimed {
            let path = claim.path.clone();
            let completed = claim.complete(io, node_id, &cluster_id, prng, &mut notes);
            let Some(dir) = left_out.unless_broken(&path, completed)? else { continue };
            if let Some(twin) = dirs.iter().find(|other| other.id == dir.id) {
                return Err(StorageError::SameDirectory { first: twin.path.clone(), second: dir.path });
            }
            dirs.push(dir);
        }
        let LeftOut { dirs: broken, first, notes: why } = left_out;
        notes.extend(why);
        match first {
            Some(error) if dirs.is_empty() => Err(error),
            _ => Ok(Storage { dirs, broken, node_id, cluster_id, image, notes }),
        }
    }

    /// Removes the clean-stop markers: from now on a crash is an unclean stop.
    pub(crate) fn begin_loading(&self, io: &mut dyn Park) -> Result<(), StorageError> {
        for dir in self.dirs.iter().filter(|dir| dir.clean_stop.is_some()) {
            blocking::run(io, Op::Unlink { path: dir.path.join(CLEAN_SHUTDOWN) })?;
            blocking::run(io, Op::SyncDir { path: dir.path.clone() })?;
        }
        Ok(())
    }

    /// Gives the directories up. The lock file stays: removing it would let two processes lock two files of
    /// its name.
    pub(crate) fn release(self) {
        for dir in self.dirs {
            drop(dir.lock);
        }
    }
}

/// Directories that are broken.
#[derive(Default)]
struct LeftOut {
    dirs: Vec<PathBuf>,
    /// What is wrong with the first of them.
    first: Option<StorageError>,
    notes: Vec<String>,
}

impl LeftOut {
    /// Leaves a directory out if the system refuses to read or write it; other errors are the operator's to settle.
    fn unless_broken<T>(
        &mut self,
        path: &Path,
        result: Result<T, StorageError>,
    ) -> Result<Option<T>, StorageError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error @ StorageError::Io(_)) => {
                self.notes.push(format!(
                    "data directory {} is offline: {error}; the others are served; repair it and start again",
                    path.display()
                ));
                self.dirs.push(path.to_path_buf());
                self.first.get_or_insert(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// A directory that is locked and was looked at, and in which nothing was changed yet.
struct Claimed {
    path: PathBuf,
    lock: FileLock,
    meta: Option<MetaProperties>,
    /// Its catalog, as it lies there.
    catalog: Option<Vec<u8>>,
    /// Apache Kafka has run on it as a controller.
    has_cluster_metadata: bool,
    partitions: Vec<PartitionDir>,
}

impl Claimed {
    fn inspect(io: &mut dyn Park, path: &Path) -> Result<Claimed, StorageError> {
        create_with_parents(io, path)?;
        let entries = match blocking::run(io, Op::ReadDir { path: path.to_path_buf() })? {
            Outcome::Entries { entries } => entries,
            other => unreachable!("reading a directory gave {other:?}"),
        };
        let name_of = |entry: &highwater_io::DirEntry| entry.name.to_string_lossy().into_owned();
        let has = |name: &str| entries.iter().any(|entry| entry.name == name);
        if !has(META_PROPERTIES)
            && let Some(stranger) = entries.iter().map(name_of).find(|name| !may_precede_meta(name))
        {
            return Err(StorageError::NotOurs { dir: path.to_path_buf(), found: stranger });
        }
        let lock = FileLock::acquire(&path.join(LOCK)).map_err(|error| match error {
            highwater_io::LockError::Held { pid } => {
                StorageError::Locked { dir: path.to_path_buf(), holder: pid }
            }
            highwater_io::LockError::Io(error) => StorageError::Io(error),
        })?;
        let meta_path = path.join(META_PROPERTIES);
        let meta = match read_text(io, &meta_path)? {
            Some(text) => Some(
                MetaProperties::decode(&text)
                    .map_err(|error| StorageError::Unreadable { file: meta_path, why: error.to_string() })?,
            ),
            None => None,
        };
        let partitions = entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Directory && entry.name != layout::CLUSTER_METADATA)
            .filter_map(|entry| PartitionDir::parse(&name_of(entry)))
            .collect();
        Ok(Claimed {
            path: path.to_path_buf(),
            lock,
            meta,
            catalog: read_file(io, &path.join(CATALOG))?,
            has_cluster_metadata: has(layout::CLUSTER_METADATA),
            partitions,
        })
    }

    /// A directory with partitions needs a catalog that knows them, or at least the directory.
    fn check_partitions(&self, io: &mut dyn Park, image: Option<&Image>) -> Result<(), StorageError> {
        let unheard =
            |dir: &&PartitionDir| image.is_none_or(|image| image.topic(&dir.partition.topic).is_none());
        let current = self.partitions.iter().filter(|dir| dir.role == PartitionRole::Current);
        let unknown: Vec<&PartitionDir> = current.filter(unheard).collect();
        let Some(first) = unknown.first() else { return Ok(()) };
        let mut ours = false;
        for dir in &unknown {
            // Apache Kafka writes no file of this name.
            let mark = self.path.join(dir.to_string()).join(layout::CHECKPOINT);
            ours |= blocking::run(io, Op::Stat { path: mark }).is_ok();
        }
        let id = self.meta.as_ref().and_then(|meta| meta.directory_id);
        let registered =
            image.is_some_and(|image| image.brokers().any(|b| b.directories.iter().any(|d| Some(*d) == id)));
        match (image.is_some() && (self.catalog.is_some() || registered), ours) {
            // What a deletion left that was cut short: the partition is set aside when its shard starts.
            (true, _) if ours || !self.has_cluster_metadata => Ok(()),
            (false, true) => Err(StorageError::CatalogMissing { dir: self.path.clone() }),
            _ => Err(StorageError::Foreign { dir: self.path.clone(), found: first.to_string() }),
        }
    }

    fn check_identity(&self, node_id: BrokerId, cluster_id: &str) -> Result<(), StorageError> {
        let Some(meta) = &self.meta else { return Ok(()) };
        if let Some(found) = meta.node_id.filter(|found| *found != node_id) {
            return Err(StorageError::NodeId { dir: self.path.clone(), expected: node_id, found });
        }
        if let Some(found) = meta.cluster_id.as_ref().filter(|found| *found != cluster_id) {
            let (dir, expected) = (self.path.clone(), cluster_id.to_owned());
            return Err(StorageError::ClusterId { dir, expected, found: found.clone() });
        }
        Ok(())
    }

    /// Writes what a new directory lacks, and reads the rest.
    fn complete(
        self,
        io: &mut dyn Park,
        node_id: BrokerId,
        cluster_id: &str,
        prng: &mut Prng,
        notes: &mut Vec<String>,
    ) -> Result<DataDir, StorageError> {
        let mut meta = self.meta.clone().unwrap_or_default();
        let id = meta.directory_id.unwrap_or_else(|| Uuid::random(prng));
        if self.meta.is_none()
            || meta.directory_id.is_none()
            || meta.node_id.is_none()
            || meta.cluster_id.is_none()
        {
            meta.version = 1;
            meta.node_id = Some(node_id);
            meta.cluster_id = Some(cluster_id.to_owned());
            meta.directory_id = Some(id);
            Replace::run(io, &self.path.join(META_PROPERTIES), meta.encode().into_bytes())?;
        }
        let clean_stop = read_text(io, &self.path.join(CLEAN_SHUTDOWN))?
            .and_then(|text| decode_clean_shutdown(&text).ok())
            .map(BrokerEpoch::new);
        let mut offsets = |name: &str| -> Result<OffsetCheckpoint, StorageError> {
            let path = self.path.join(name);
            let Some(text) = read_text(io, &path)? else { return Ok(OffsetCheckpoint::default()) };
            // KAFKA: an unreadable checkpoint is as good as none; recovery then looks at more.
            Ok(OffsetCheckpoint::decode(&text).unwrap_or_else(|error| {
                notes.push(format!("{}: {error}; it is passed over and written anew", path.display()));
                OffsetCheckpoint::default()
            }))
        };
        let checkpoints = CheckpointFiles {
            recovery_points: offsets(RECOVERY_POINTS)?,
            log_starts: offsets(LOG_STARTS)?,
            high_watermarks: offsets(HIGH_WATERMARKS)?,
            cleaned: offsets(layout::CLEANER_OFFSETS)?,
        };
        Ok(DataDir {
            path: self.path,
            id,
            clean_stop,
            checkpoints,
            partitions: self.partitions,
            lock: self.lock,
        })
    }
}

/// What may lie in a directory whose first start was cut short, or that a file system made.
fn may_precede_meta(name: &str) -> bool {
    name == LOCK || name == "lost+found" || name == format!("{META_PROPERTIES}{}", layout::TMP)
}

/// The catalog of the latest image in any of the directories.
fn newest_catalog(claimed: &[Claimed]) -> Result<Option<Image>, StorageError> {
    let mut newest: Option<Image> = None;
    for claim in claimed {
        let Some(bytes) = &claim.catalog else { continue };
        let image = decode_catalog(bytes).map_err(|error| StorageError::Unreadable {
            file: claim.path.join(CATALOG),
            why: error.to_string(),
        })?;
        if newest.as_ref().is_none_or(|newest| image.version() > newest.version()) {
            newest = Some(image);
        }
    }
    Ok(newest)
}

fn read_text(io: &mut dyn Park, path: &Path) -> Result<Option<String>, StorageError> {
    let Some(bytes) = read_file(io, path)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| StorageError::Unreadable {
        file: path.to_path_buf(),
        why: "expected a text in UTF-8".into(),
    })
}

/// "Not a directory", on every system.
const ENOTDIR: i32 = 20;

fn create_with_parents(io: &mut dyn Park, path: &Path) -> Result<(), StorageError> {
    match blocking::run(io, Op::Stat { path: path.to_path_buf() }) {
        Ok(Outcome::Stat { kind: EntryKind::Directory, .. }) => return Ok(()),
        // As the system says it of a path below a file.
        Ok(_) => {
            return Err(IoError::from_errno(ENOTDIR, "use as a directory", path.display().to_string()).into());
        }
        Err(error) if error.kind == highwater_io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_with_parents(io, parent)?;
    }
    blocking::run(io, Op::CreateDir { path: path.to_path_buf() })?;
    blocking::run(io, Op::SyncDir { path: parent.unwrap_or(Path::new(".")).to_path_buf() })?;
    Ok(())
}

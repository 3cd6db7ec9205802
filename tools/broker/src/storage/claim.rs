//! Claiming data directories at the start: make or inspect, lock, read what they say of themselves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use highwater_base::{BrokerEpoch, BrokerId, Prng, Uuid};
use highwater_control::{Image, encode_catalog};
use highwater_engine::Manifest;
use highwater_engine::checkpoint_file::{MetaProperties, OffsetCheckpoint, decode_clean_shutdown};
use highwater_engine::layout::{
    self, CATALOG, CLEAN_SHUTDOWN, HIGH_WATERMARKS, LOCK, LOG_STARTS, MANIFEST, META_PROPERTIES,
    PartitionDir, PartitionRole, RECOVERY_POINTS,
};
use highwater_io::{EntryKind, FileLock, IoError, Op, Outcome, Park, blocking};

use super::{
    Borrowed, CheckpointFiles, Looked, Replace, StorageError, newest_catalog, obstacles, read_text,
    remove_ours, unknown,
};

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
    /// The metadata are Apache Kafka's, which has run since our last start.
    pub(crate) stale: bool,
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
    /// What a clean stop knew of its logs; taken by whoever opens them.
    pub(crate) manifest: Manifest,
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
        let catalog = newest_catalog(claimed.iter().map(|claim| &claim.looked))?;
        let metas: Vec<Option<&MetaProperties>> =
            claimed.iter().map(|claim| claim.looked.meta.as_ref()).collect();
        let known_node = metas.iter().flatten().find_map(|meta| meta.node_id);
        let node_id = node_id.or(known_node).unwrap_or(default_node);
        let cluster_id = match &catalog {
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
        let (image, stale) = match catalog {
            Some(image) if image.borrowed().is_none() => (Some(image), false),
            before => {
                let kafka_s = claimed.iter().any(|claim| claim.looked.has_kafka_log);
                if let Some(error) = left_out.first.take_if(|_| kafka_s) {
                    return Err(error);
                }
                borrow(io, &claimed, node_id, &cluster_id, before.as_ref(), &mut notes)?
            }
        };
        if image.as_ref().is_none_or(|image| image.borrowed().is_none()) {
            for claim in &claimed {
                claim.check_partitions(io, image.as_ref())?;
            }
        }
        let mut dirs: Vec<DataDir> = Vec::new();
        for claim in claimed {
            let path = claim.looked.path.clone();
            let completed = claim.complete(io, node_id, &cluster_id, prng, &mut notes);
            let Some(dir) = left_out.unless_broken(&path, completed)? else { continue };
            if let Some(twin) = dirs.iter().find(|other| other.id == dir.id) {
                return Err(StorageError::SameDirectory { first: twin.path.clone(), second: dir.path });
            }
            dirs.push(dir);
        }
        let LeftOut { dirs: broken, first, notes: why } = left_out;
        notes.extend(why);
        let storage = Storage { dirs, broken, node_id, cluster_id, image, stale, notes };
        match first {
            // Of what is Kafka's nothing may be served without the rest.
            Some(error) if storage.dirs.is_empty() || storage.is_borrowed() => Err(error),
            _ => Ok(storage),
        }
    }

    /// Whether the metadata are Apache Kafka's.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.image.as_ref().is_some_and(|image| image.borrowed().is_some())
    }

    /// The lines of a directory's checkpoint files that are of no partition of ours: Kafka wants them back.
    pub(crate) fn others(&self, dir: &DataDir) -> CheckpointFiles {
        if !self.is_borrowed() {
            return CheckpointFiles::default();
        }
        let current = dir.partitions.iter().filter(|dir| dir.role == PartitionRole::Current);
        dir.checkpoints.without(&current.map(|dir| &dir.partition).collect())
    }

    /// Every log is open: what our files say of them holds again. Apache Kafka's metadata are known as they are now.
    pub(crate) fn opened(&self, io: &mut dyn Park) -> Result<(), StorageError> {
        if let Some(image) = self.image.as_ref().filter(|_| self.stale) {
            for dir in &self.dirs {
                Replace::run(io, &dir.path.join(CATALOG), encode_catalog(image))?;
            }
        }
        Ok(())
    }

    /// Leaves nothing of ours in Kafka's partitions, but for those in directories of these numbers, which are offline;
    /// after a clean stop.
    pub(crate) fn give_back(&self, io: &mut dyn Park, offline: &BTreeSet<usize>) -> Result<(), StorageError> {
        let dirs = self.dirs.iter().enumerate().filter(|(at, _)| self.is_borrowed() && !offline.contains(at));
        for (_, dir) in dirs {
            let now = Looked::at(io, &dir.path)?;
            for found in now.partitions.iter().filter(|found| found.role == PartitionRole::Current) {
                remove_ours(io, &dir.path.join(found.to_string()))?;
            }
        }
        Ok(())
    }

    /// Removes the clean-stop markers and the manifests: from now on a crash is an unclean stop.
    pub(crate) fn begin_loading(&self, io: &mut dyn Park) -> Result<(), StorageError> {
        for dir in &self.dirs {
            let mut any = false;
            for name in [MANIFEST, CLEAN_SHUTDOWN] {
                match blocking::run(io, Op::Unlink { path: dir.path.join(name) }) {
                    Ok(_) => any = true,
                    Err(error) if error.kind == highwater_io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if any {
                blocking::run(io, Op::SyncDir { path: dir.path.clone() })?;
            }
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

/// The metadata of directories that hold Apache Kafka's, if any does, and whether Kafka has run since our last start.
fn borrow(
    io: &mut dyn Park,
    claimed: &[Claimed],
    me: BrokerId,
    cluster_id: &str,
    before: Option<&Image>,
    notes: &mut Vec<String>,
) -> Result<(Option<Image>, bool), StorageError> {
    let looked: Vec<Looked> = claimed.iter().map(|claim| claim.looked.clone()).collect();
    let Some(borrowed) = Borrowed::read(io, &looked, me, cluster_id, before)? else {
        return Ok((None, false));
    };
    let dir = looked[0].path.clone();
    if let Some(why) = obstacles(&borrowed.kafka, me, &looked, false).into_iter().next() {
        return Err(StorageError::NotAdoptable { dir, why });
    }
    for looked in &looked {
        for stray in unknown(&borrowed.kafka, looked) {
            notes.push(format!(
                "{stray} in {} is a partition of no topic that Apache Kafka's metadata know; it is left as it is",
                looked.path.display()
            ));
        }
    }
    notes.push(format!(
        "{} is Apache Kafka's, served as it is: topics are not made, changed or removed, and leader epochs stay; after a clean \
         stop Kafka can have it back; `highwater adopt {} --keep` makes it ours; settings of Kafka's server.properties count only \
         if they are given here too",
        dir.display(),
        dir.display()
    ));
    Ok((Some(borrowed.image), borrowed.stale))
}

/// A directory that is locked and was looked at, and in which nothing was changed yet.
struct Claimed {
    looked: Looked,
    lock: FileLock,
}

impl Claimed {
    fn inspect(io: &mut dyn Park, path: &Path) -> Result<Claimed, StorageError> {
        create_with_parents(io, path)?;
        // Looked at before the lock is made too: a directory that is nobody's gets no lock file.
        Looked::at(io, path)?;
        let lock = lock(path)?;
        Ok(Claimed { looked: Looked::at(io, path)?, lock })
    }

    /// A directory with partitions needs a catalog that knows them, or at least the directory.
    fn check_partitions(&self, io: &mut dyn Park, image: Option<&Image>) -> Result<(), StorageError> {
        let unheard =
            |dir: &&PartitionDir| image.is_none_or(|image| image.topic(&dir.partition.topic).is_none());
        let current = self.looked.partitions.iter().filter(|dir| dir.role == PartitionRole::Current);
        let unknown: Vec<&PartitionDir> = current.filter(unheard).collect();
        let Some(first) = unknown.first() else { return Ok(()) };
        let mut ours = false;
        for dir in &unknown {
            // Apache Kafka writes no file of this name.
            let mark = self.looked.path.join(dir.to_string()).join(layout::CHECKPOINT);
            ours |= blocking::run(io, Op::Stat { path: mark }).is_ok();
        }
        let id = self.looked.meta.as_ref().and_then(|meta| meta.directory_id);
        let registered =
            image.is_some_and(|image| image.brokers().any(|b| b.directories.iter().any(|d| Some(*d) == id)));
        match (image.is_some() && (self.looked.catalog.is_some() || registered), ours) {
            // What a deletion left that was cut short: the partition is set aside when its shard starts.
            (true, _) if ours || !self.looked.has_kafka_log => Ok(()),
            (false, true) => Err(StorageError::CatalogMissing { dir: self.looked.path.clone() }),
            _ => Err(StorageError::Foreign { dir: self.looked.path.clone(), found: first.to_string() }),
        }
    }

    fn check_identity(&self, node_id: BrokerId, cluster_id: &str) -> Result<(), StorageError> {
        let Some(meta) = &self.looked.meta else { return Ok(()) };
        if let Some(found) = meta.node_id.filter(|found| *found != node_id) {
            return Err(StorageError::NodeId { dir: self.looked.path.clone(), expected: node_id, found });
        }
        if let Some(found) = meta.cluster_id.as_ref().filter(|found| *found != cluster_id) {
            let (dir, expected) = (self.looked.path.clone(), cluster_id.to_owned());
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
        let mut meta = self.looked.meta.clone().unwrap_or_default();
        let id = meta.directory_id.unwrap_or_else(|| Uuid::random(prng));
        if self.looked.meta.is_none()
            || meta.directory_id.is_none()
            || meta.node_id.is_none()
            || meta.cluster_id.is_none()
        {
            meta.version = 1;
            meta.node_id = Some(node_id);
            meta.cluster_id = Some(cluster_id.to_owned());
            meta.directory_id = Some(id);
            Replace::run(io, &self.looked.path.join(META_PROPERTIES), meta.encode().into_bytes())?;
        }
        let clean_stop = read_text(io, &self.looked.path.join(CLEAN_SHUTDOWN))?
            .and_then(|text| decode_clean_shutdown(&text).ok())
            .map(BrokerEpoch::new);
        let mut offsets = |name: &str| -> Result<OffsetCheckpoint, StorageError> {
            let path = self.looked.path.join(name);
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
        // Without the marker whatever it says is of no use.
        let (manifest, ignored) = match clean_stop {
            Some(_) => Manifest::load(io, &self.looked.path)?,
            None => (Manifest::default(), None),
        };
        notes.extend(ignored);
        Ok(DataDir {
            path: self.looked.path,
            manifest,
            id,
            clean_stop,
            checkpoints,
            partitions: self.looked.partitions,
            lock: self.lock,
        })
    }
}

/// Locks a data directory against other processes, ours and Apache Kafka.
pub(crate) fn lock(path: &Path) -> Result<FileLock, StorageError> {
    FileLock::acquire(&path.join(LOCK)).map_err(|error| match error {
        highwater_io::LockError::Held { pid } => {
            StorageError::Locked { dir: path.to_path_buf(), holder: pid }
        }
        highwater_io::LockError::Io(error) => StorageError::Io(error),
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

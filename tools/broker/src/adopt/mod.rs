//! Directories that Apache Kafka wrote: what carries over, and keeping them for good.

mod report;

use std::path::PathBuf;

use highwater_base::{BrokerId, Prng, Uuid, WallMs};
use highwater_control::{Image, encode_catalog};
use highwater_engine::layout::{CATALOG, PartitionRole};
use highwater_io::{FileLock, IoChoice, Op, Park, ReadOnly, blocking, production};

pub use report::AdoptReport;

use crate::storage::{
    Borrowed, Looked, Replace, StorageError, lock, newest_catalog, obstacles, remove_ours, unknown,
};

/// Says what of Apache Kafka's data directories (all of one node's) will and will not carry over. Changes nothing, not even
/// a lock file; a broker that runs on them makes the answer a little old.
///
/// # Errors
/// They are not Apache Kafka's, or cannot be read.
///
/// ```
/// let empty = std::env::temp_dir().join("highwater-doc-adopt-check");
/// std::fs::create_dir_all(&empty)?;
/// assert!(highwater_broker::adopt_check(&[empty.clone()]).is_err());
/// std::fs::remove_dir(&empty)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn adopt_check(dirs: &[PathBuf]) -> Result<AdoptReport, StorageError> {
    let (io, _posix_needs_no_warning) = production(IoChoice::Posix, 64)?;
    let io = &mut ReadOnly::new(io);
    let found = Found::read(io, dirs)?;
    let obstacles = obstacles(&found.borrowed.kafka, found.node, &found.looked, false);
    report::report(io, &found, obstacles)
}

/// Makes Apache Kafka's data directories (all of one node's) ours for good: from the next start on their topics can be
/// changed and leader epochs rise, and Kafka must not be started on them again, as it would set aside and delete what its
/// metadata do not know. Replicas on other nodes are given up. What this did is said in lines.
///
/// # Errors
/// They are in use, not Apache Kafka's, kept already, or cannot be served; nothing was changed then.
///
/// ```
/// let empty = std::env::temp_dir().join("highwater-doc-adopt-keep");
/// std::fs::create_dir_all(&empty)?;
/// assert!(highwater_broker::adopt_keep(&[empty.clone()], highwater_base::WallMs::new(0)).is_err());
/// std::fs::remove_dir_all(&empty)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn adopt_keep(dirs: &[PathBuf], now: WallMs) -> Result<Vec<String>, StorageError> {
    let (mut io, _posix_needs_no_warning) = production(IoChoice::Posix, 64)?;
    let io = &mut *io;
    // Looked at before a lock file is made: a directory that is nobody's gets none.
    Found::read(io, dirs)?;
    let locks: Vec<FileLock> = dirs.iter().map(|dir| lock(dir)).collect::<Result<_, _>>()?;
    let found = Found::read(io, dirs)?;
    let Found { looked, node, borrowed, .. } = &found;
    if let Some(why) = obstacles(&borrowed.kafka, *node, looked, true).into_iter().next() {
        return Err(StorageError::NotAdoptable { dir: dirs[0].clone(), why });
    }
    let mut done = Vec::new();
    let mut prng = Prng::new(now.get() as u64);
    for looked in looked {
        let strays = unknown(&borrowed.kafka, looked);
        for current in looked.partitions.iter().filter(|dir| dir.role == PartitionRole::Current) {
            if borrowed.stale {
                remove_ours(io, &looked.path.join(current.to_string()))?;
            }
            if strays.contains(&current) {
                let aside = current.with_role(PartitionRole::Stray, Uuid::random(&mut prng)).to_string();
                let (from, to) = (looked.path.join(current.to_string()), looked.path.join(&aside));
                blocking::run(io, Op::Rename { from, to })?;
                blocking::run(io, Op::SyncDir { path: looked.path.clone() })?;
                done.push(format!(
                    "{current} is of no topic that Kafka's metadata know; set aside as {aside}"
                ));
            }
        }
    }
    let image = borrowed.image.keep(&borrowed.kafka);
    let bytes = encode_catalog(&image);
    // The first copy decides, as the newest is believed; each directory that is left alone must hold it.
    for dir in dirs {
        Replace::run(io, &dir.join(CATALOG), bytes.clone())?;
    }
    done.push(format!(
        "kept: {} topics of cluster {} are Highwater's from now on, by {}",
        image.topic_count(),
        image.cluster_id(),
        dirs[0].join(CATALOG).display()
    ));
    done.push(
        "this is one way: do not start Apache Kafka on this directory again; it would set aside and delete what its own \
         metadata do not know"
            .to_owned(),
    );
    drop(locks);
    Ok(done)
}

/// One node's directories, and Kafka's metadata in them.
struct Found {
    looked: Vec<Looked>,
    node: BrokerId,
    borrowed: Borrowed,
}

impl Found {
    fn read(io: &mut dyn Park, dirs: &[PathBuf]) -> Result<Found, StorageError> {
        let mut looked = Vec::with_capacity(dirs.len());
        for dir in dirs {
            looked.push(Looked::at(io, dir)?);
        }
        let not_kafka_s = |why: &str| StorageError::NotKafkas {
            dir: dirs.first().cloned().unwrap_or_default(),
            why: why.to_owned(),
        };
        let meta = looked.iter().find_map(|dir| dir.meta.clone());
        let meta = meta.ok_or_else(|| not_kafka_s("it has no meta.properties"))?;
        let node = meta.node_id.ok_or_else(|| not_kafka_s("its meta.properties names no node"))?;
        let cluster = meta.cluster_id.ok_or_else(|| not_kafka_s("its meta.properties names no cluster"))?;
        let others = looked.iter().filter_map(|dir| dir.meta.as_ref());
        for other in others {
            if other.node_id != Some(node) || other.cluster_id.as_ref() != Some(&cluster) {
                return Err(not_kafka_s("the directories given are of different nodes or clusters"));
            }
        }
        let before = newest_catalog(looked.iter())?;
        if before.as_ref().is_some_and(|image| image.borrowed().is_none()) {
            return Err(not_kafka_s("it is Highwater's already"));
        }
        let borrowed = Borrowed::read(io, &looked, node, &cluster, before.as_ref())?;
        let borrowed = borrowed.ok_or_else(|| not_kafka_s("it holds no __cluster_metadata-0"))?;
        Ok(Found { looked, node, borrowed })
    }

    fn kafka(&self) -> &Image {
        &self.borrowed.kafka
    }
}

//! What a data directory says of itself; nothing is changed, and it need not be locked.

use std::path::{Path, PathBuf};

use highwater_control::{Image, decode_catalog};
use highwater_engine::checkpoint_file::MetaProperties;
use highwater_engine::layout::{self, CATALOG, META_PROPERTIES, PartitionDir};
use highwater_io::{DirEntry, EntryKind, Op, Outcome, Park, blocking};

use super::{StorageError, read_file};

/// A data directory as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    pub(crate) path: PathBuf,
    /// Its `meta.properties`; none before its first start has ended.
    pub(crate) meta: Option<MetaProperties>,
    /// The catalog of ours in it, as it lies there.
    pub(crate) catalog: Option<Vec<u8>>,
    /// Whether Apache Kafka keeps its metadata log in it.
    pub(crate) has_kafka_log: bool,
    /// The directories of partitions, of every role.
    pub(crate) partitions: Vec<PartitionDir>,
}

impl Looked {
    /// Looks at a directory, which must be there.
    pub(crate) fn at(io: &mut dyn Park, path: &Path) -> Result<Looked, StorageError> {
        let entries = entries(io, path)?;
        let name_of = |entry: &DirEntry| entry.name.to_string_lossy().into_owned();
        let has = |name: &str| entries.iter().any(|entry| entry.name == name);
        if !has(META_PROPERTIES)
            && let Some(stranger) = entries.iter().map(name_of).find(|name| !may_precede_meta(name))
        {
            return Err(StorageError::NotOurs { dir: path.to_path_buf(), found: stranger });
        }
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
        Ok(Looked {
            path: path.to_path_buf(),
            meta,
            catalog: read_file(io, &path.join(CATALOG))?,
            has_kafka_log: has(layout::CLUSTER_METADATA),
            partitions,
        })
    }
}

/// What may lie in a directory whose first start was cut short, or that a file system made.
fn may_precede_meta(name: &str) -> bool {
    name == layout::LOCK || name == "lost+found" || name == format!("{META_PROPERTIES}{}", layout::TMP)
}

/// The catalog of the latest image in any of the directories.
pub(crate) fn newest_catalog<'l>(
    looked: impl Iterator<Item = &'l Looked>,
) -> Result<Option<Image>, StorageError> {
    let mut newest: Option<Image> = None;
    for looked in looked {
        let Some(bytes) = &looked.catalog else { continue };
        let image = decode_catalog(bytes).map_err(|error| StorageError::Unreadable {
            file: looked.path.join(CATALOG),
            why: error.to_string(),
        })?;
        if newest.as_ref().is_none_or(|newest| image.version() > newest.version()) {
            newest = Some(image);
        }
    }
    Ok(newest)
}

/// All of a text file, or `None` if there is none.
pub(crate) fn read_text(io: &mut dyn Park, path: &Path) -> Result<Option<String>, StorageError> {
    let Some(bytes) = read_file(io, path)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| StorageError::Unreadable {
        file: path.to_path_buf(),
        why: "expected a text in UTF-8".into(),
    })
}

/// The entries of a directory.
pub(crate) fn entries(io: &mut dyn Park, path: &Path) -> Result<Vec<DirEntry>, StorageError> {
    match blocking::run(io, Op::ReadDir { path: path.to_path_buf() })? {
        Outcome::Entries { entries } => Ok(entries),
        other => unreachable!("reading a directory gave {other:?}"),
    }
}

//! Why a data directory cannot be served.

use std::fmt;
use std::path::PathBuf;

use highwater_base::BrokerId;
use highwater_io::IoError;

/// A data directory that cannot be served; it was left as it is.
///
/// ```
/// use highwater_broker::StorageError;
/// let error = StorageError::Locked { dir: "/data".into(), holder: Some(42) };
/// assert!(error.to_string().contains("process 42"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The system refused something.
    Io(IoError),
    /// Another process serves it: one of ours, or Apache Kafka.
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process, if the system says.
        holder: Option<u32>,
    },
    /// It holds something, and is no data directory.
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// One of the entries that do not belong there.
        found: String,
    },
    /// Apache Kafka wrote it, and it holds topics that no catalog of ours knows.
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// One of its partitions.
        found: String,
    },
    /// Apache Kafka wrote it, and it cannot be served as it is.
    NotAdoptable {
        /// The directory.
        dir: PathBuf,
        /// What keeps it from being served.
        why: String,
    },
    /// It was to be adopted, and is no directory of Apache Kafka's.
    NotKafkas {
        /// The directory.
        dir: PathBuf,
        /// What it is.
        why: String,
    },
    /// A file that we cannot do without is not what its name says.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It belongs to another node.
    NodeId {
        /// The directory.
        dir: PathBuf,
        /// The configured one.
        expected: BrokerId,
        /// The one in its `meta.properties`.
        found: BrokerId,
    },
    /// It belongs to another cluster than the first directory, or than the catalog.
    ClusterId {
        /// The directory.
        dir: PathBuf,
        /// The cluster of the others.
        expected: String,
        /// The one in its `meta.properties`.
        found: String,
    },
    /// The catalog is gone, and with it what the partitions in the directory are.
    CatalogMissing {
        /// The directory.
        dir: PathBuf,
    },
    /// Two of the directories say that they are the same one.
    SameDirectory {
        /// The first.
        first: PathBuf,
        /// The second.
        second: PathBuf,
    },
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageError::Io(error) => error.fmt(f),
            StorageError::Locked { dir, holder: Some(pid) } => write!(
                f,
                "{} is served by process {pid}; stop it first, or give another directory with --data",
                dir.display()
            ),
            StorageError::Locked { dir, holder: None } => write!(
                f,
                "{} is served by another process; stop it first, or give another directory with --data",
                dir.display()
            ),
            StorageError::NotOurs { dir, found } => write!(
                f,
                "{} is no data directory: it holds {found:?}, and no meta.properties; nothing in it was changed; give \
                 an empty or a new directory with --data",
                dir.display()
            ),
            StorageError::Foreign { dir, found } => write!(
                f,
                "{} was written by Apache Kafka and holds partitions that no highwater.catalog knows, such as {found}; \
                 and a catalog or metadata of another time; nothing in it was changed; move that partition away, or restore the \
                 directory from a copy",
                dir.display()
            ),
            StorageError::NotAdoptable { dir, why } => write!(
                f,
                "{} was written by Apache Kafka and cannot be served: {why}; nothing in it was changed; `highwater adopt \
                 {} --check` says all that will and will not carry over",
                dir.display(),
                dir.display()
            ),
            StorageError::NotKafkas { dir, why } => write!(
                f,
                "{} cannot be adopted: expected a data directory of Apache Kafka in KRaft mode, but {why}; nothing in it was \
                 changed",
                dir.display()
            ),
            StorageError::Unreadable { file, why } => {
                write!(f, "{}: {why}; restore it from a copy, or move the directory away", file.display())
            }
            StorageError::NodeId { dir, expected, found } => write!(
                f,
                "{} belongs to node {found}, expected node {expected}; start with --node-id {found}, or give another \
                 directory",
                dir.display()
            ),
            StorageError::ClusterId { dir, expected, found } => write!(
                f,
                "{} belongs to cluster {found:?}, expected {expected:?}; give only directories of one cluster",
                dir.display()
            ),
            StorageError::CatalogMissing { dir } => write!(
                f,
                "{} was served before and its highwater.catalog is gone, without which its partitions have no names and \
                 settings; restore that file, or give every --data directory that was given before",
                dir.display()
            ),
            StorageError::SameDirectory { first, second } => write!(
                f,
                "{} and {} carry the same directory.id: one is a copy of the other; give only one of them",
                first.display(),
                second.display()
            ),
        }
    }
}

impl std::error::Error for StorageError {}

impl From<IoError> for StorageError {
    fn from(error: IoError) -> StorageError {
        StorageError::Io(error)
    }
}

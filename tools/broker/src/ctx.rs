//! What a handler sees of its shard.

use std::path::PathBuf;
use std::sync::Arc;

use highwater_base::{BrokerId, Mono, Now, PartitionIndex, Uuid};
use highwater_control::{Command, Image};

use crate::call::PartitionCall;
use crate::config::Settings;
use crate::fetch_sessions::FetchSessions;

/// What a handler sees of its shard while it works on one request. Indexes are those of that request: the reply
/// to a call comes with the index that the call returned, and no index is given twice in one request.
pub(crate) trait Ctx {
    /// The time of this turn.
    fn now(&self) -> Now;

    /// The cluster's metadata as this shard knows it now.
    fn image(&self) -> &Arc<Image>;

    /// The broker's settings.
    fn settings(&self) -> &Settings;

    /// Facts about this node that do not change while it runs.
    fn node(&self) -> &NodeFacts;

    /// Asks the shard that owns a partition (by topic id) for something; the reply is a `Reply::Partition` with
    /// the returned index. Calls to one partition arrive in the order they were made. A partition that no shard
    /// knows answers with `PartitionReply::Refused`, never with silence.
    fn call(&mut self, partition: (Uuid, PartitionIndex), call: PartitionCall) -> u32;

    /// Gives up a call that may be parked (a long poll); its reply may still come. Frees what is parked.
    fn forget(&mut self, partition: (Uuid, PartitionIndex), index: u32);

    /// Asks the authority to change metadata. When its reply comes, `image()` contains the change.
    fn control(&mut self, command: Command) -> u32;

    /// Asks for a producer id that was never given before; the reply is a `Reply::ProducerId`.
    fn allocate_producer_id(&mut self) -> u32;

    /// Asks how large the data directories are; the reply is a `Reply::Directories`.
    fn describe_directories(&mut self) -> u32;

    /// A fresh random topic id.
    fn new_topic_id(&mut self) -> Uuid;

    /// The fetch sessions of this shard.
    fn fetch_sessions(&mut self) -> &mut FetchSessions;

    /// Sets, or moves, this request's deadline.
    fn set_deadline(&mut self, at: Mono);
}

/// A data directory, for those who ask what there is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DirSpace {
    /// Where.
    pub(crate) path: PathBuf,
    /// All bytes of its file system, and those that may still be written; none of a directory that is offline.
    pub(crate) space: Option<(u64, u64)>,
}

/// What does not change while a node runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NodeFacts {
    /// `node.id`.
    pub(crate) id: BrokerId,
    /// The host that clients are told to connect to.
    pub(crate) host: String,
    /// The port that clients are told to connect to.
    pub(crate) port: u16,
    /// The cluster's id, as `meta.properties` has it.
    pub(crate) cluster_id: String,
    /// `broker.rack`.
    pub(crate) rack: Option<String>,
}

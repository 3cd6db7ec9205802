//! Leader/follower replication of engine logs by an ISR state machine.
//!
//! A [`Partition`] is one replica on its shard: an engine log, a [`Replicator`] that decides for it, and the requests
//! that wait. A [`Node`] holds the partitions of one shard. Who leads, and who is in sync, is committed by an
//! [`Authority`]; followers reach their leaders through a [`Transport`]. Each of these seams takes another
//! implementation: a replication protocol, a cluster's metadata, a network of your own.
//!
//! Nothing here blocks, reads a clock or starts a thread. [`Partition`] has an example of a log that is replicated by
//! nobody but itself, which is the default.
#![forbid(unsafe_code)]

mod authority;
mod error;
mod node;
mod parking;
mod partition;
mod replicator;
mod request;
mod transport;

/// How far a consumer may see, in the engine's words.
pub use highwater_engine::Isolation;

pub use authority::{Authority, Decision, LocalAuthority};
pub use error::PartitionError;
pub use node::Node;
pub use partition::{Partition, PartitionSettings, assignment_of};
pub use replicator::{InSync, Replicator};
pub use request::{
    Acks, Answer, ListedOffset, OffsetTarget, Outcome, Outgoing, PartitionKey, ProduceDone, ReadDone,
    ReadRequest, Reply,
};
pub use transport::{Fetched, Transport};

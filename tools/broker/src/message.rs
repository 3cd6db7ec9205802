//! What shards say to each other, and what they report to the thread that started them.

use std::net::SocketAddr;
use std::sync::Arc;

use highwater_base::{BrokerEpoch, PartitionIndex, ProducerId, Uuid};
use highwater_control::{Applied, Command, ControlError, Image};
use highwater_engine::StoppedLog;

use crate::call::{PartitionCall, PartitionReply};
use crate::ctx::{DirSpace, NodeFacts};
use crate::storage::PartitionOffsets;

/// Names a request of one shard, among all that it ever had.
pub(crate) type RequestKey = u64;

/// Which shard; the position of its mailbox.
pub(crate) type ShardId = u16;

/// One of the replies that a request waits for: where it goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ReplyTo {
    /// The shard that has the connection.
    pub(crate) shard: ShardId,
    /// The request there.
    pub(crate) request: RequestKey,
    /// Which of its calls.
    pub(crate) index: u32,
}

/// From shard to shard, or from the starting thread to a shard.
#[derive(Debug)]
pub(crate) enum Message {
    /// Do this to a partition that you own.
    Call {
        /// Where the reply goes.
        to: ReplyTo,
        /// The topic and the partition.
        partition: (Uuid, PartitionIndex),
        /// What to do.
        call: PartitionCall,
    },
    /// Give up a call that may be parked.
    Forget {
        /// Which call.
        call: ReplyTo,
        /// The topic and the partition.
        partition: (Uuid, PartitionIndex),
    },
    /// A partition's reply.
    Reply {
        /// Which call it answers.
        to: ReplyTo,
        /// The reply.
        reply: PartitionReply,
    },
    /// To shard 0: change the metadata.
    Control {
        /// Where the reply goes.
        to: ReplyTo,
        /// The change.
        command: Box<Command>,
    },
    /// From shard 0: what became of a change. The image with it came before.
    ControlReply {
        /// Which command it answers.
        to: ReplyTo,
        /// What became of it.
        result: Box<Result<Applied, ControlError>>,
    },
    /// To shard 0: say how large the data directories are.
    DescribeDirectories {
        /// Where the answer goes.
        to: ReplyTo,
    },
    /// From shard 0: the data directories.
    Directories {
        /// Who asked.
        to: ReplyTo,
        /// By their numbers, those that were broken at the start last.
        dirs: Arc<Vec<DirSpace>>,
    },
    /// To shard 0: something in this data directory has failed.
    Suspect {
        /// The directory's number.
        dir: usize,
    },
    /// From shard 0: a data directory that was suspected takes writes, or is offline from now on.
    Judged {
        /// The directory's number.
        dir: usize,
        /// It takes writes.
        sound: bool,
    },
    /// From shard 0: the metadata is this from now on.
    Image(Arc<Image>),
    /// To shard 0: this shard has made and removed the logs that the image asks for.
    Caught {
        /// Which shard.
        shard: ShardId,
        /// Up to which version of the image.
        version: u64,
    },
    /// To shard 0, with an answer from every shard: what the checkpoint files shall say.
    Offsets(Vec<PartitionOffsets>),
    /// From shard 0: tell me what the checkpoint files shall say.
    TellOffsets,
    /// From the starting thread: open a listener here. With `probe` the shard first makes sure that nobody else
    /// listens there.
    Listen {
        /// Where.
        address: SocketAddr,
        /// Whether this shard is the first to listen.
        probe: bool,
    },
    /// From the starting thread, to shard 0: enter the metadata.
    Register(Box<Registration>),
    /// From the starting thread: accept connections, as this node.
    Accept(Arc<NodeFacts>),
    /// From the starting thread: take no more requests, send the answers to those taken.
    Stop,
    /// From the starting thread, once every shard is drained: close the logs and end.
    CloseLogs,
}

/// How this broker enters the metadata when it starts.
#[derive(Debug)]
pub(crate) struct Registration {
    /// Where clients are told to connect, and the rest of it.
    pub(crate) broker: highwater_control::Registration,
    /// The largest producer id that any log or snapshot knows.
    pub(crate) largest_producer: ProducerId,
}

/// From a shard to the thread that started it.
#[derive(Debug)]
pub(crate) enum Report {
    /// Its logs are open.
    Opened {
        /// The largest producer id that its logs and snapshots know, or NONE.
        largest_producer: ProducerId,
    },
    /// It listens.
    Listening(Result<SocketAddr, highwater_io::IoError>),
    /// The broker is part of the metadata, and every partition has its role.
    Registered(Result<BrokerEpoch, String>),
    /// It could not be made.
    Failed(String),
    /// Somebody wants the broker to stop. (From outside, not from a shard.)
    StopAsked,
    /// A data directory is offline from now on.
    Offline(usize),
    /// After a stop: its connections are gone.
    Drained,
    /// It has stopped; its logs are closed.
    Stopped {
        /// What the checkpoint files shall say.
        offsets: Vec<PartitionOffsets>,
        /// What the manifest of each data directory (by its number) shall say.
        logs: Vec<(usize, StoppedLog)>,
        /// Whether everything is durably on disk, so that the directory may be marked as cleanly stopped.
        clean: bool,
    },
}

//! Who waits for a log.

use std::collections::{BTreeMap, VecDeque};

use highwater_base::Offset;

use super::EngineError;
use super::moving::Moves;
use super::shard::{Reply, Wanted, Writer};
use crate::rare::AtFirst;
use crate::ticket::Promise;
use crate::{Appended, Fetched, Isolation, ReadId, TimestampOffset};

/// Who waits for a log: nobody, for most.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) creating: Option<Promise<Result<u32, EngineError>>>,
    /// Appends that found too much staged, in order.
    pub(super) held: VecDeque<Held>,
    /// Appends that wait for their acknowledgement, in the order of their ends.
    pub(super) unacknowledged: VecDeque<Unacknowledged>,
    pub(super) syncing: VecDeque<(Offset, Reply<Offset>)>,
    pub(super) reads: BTreeMap<ReadId, (Wanted, Reply<Fetched>)>,
    pub(super) lookups: BTreeMap<ReadId, Reply<Option<TimestampOffset>>>,
    /// Readers at the tail, by how far they see and the offset that they wait for; at most
    /// [`Limits::parked`](highwater_base::Limits).
    pub(super) followers: BTreeMap<(Isolation, Offset), Vec<Following>>,
    pub(super) readers: usize,
    pub(super) cutting: VecDeque<Reply<Offset>>,
    pub(super) compacting: Vec<Reply<Offset>>,
    pub(super) moves: Moves,
    /// Trims whose new start is not durable yet, in order.
    pub(super) trimming: VecDeque<(Offset, Reply<Offset>)>,
    pub(super) deleting: Option<Reply<()>>,
}

impl AtFirst for Waiting {
    const NEW: Waiting = Waiting {
        creating: None,
        held: VecDeque::new(),
        unacknowledged: VecDeque::new(),
        syncing: VecDeque::new(),
        reads: BTreeMap::new(),
        lookups: BTreeMap::new(),
        followers: BTreeMap::new(),
        readers: 0,
        cutting: VecDeque::new(),
        compacting: Vec::new(),
        moves: Moves::NEW,
        trimming: VecDeque::new(),
        deleting: None,
    };
    const SEEN: &'static Waiting = &Waiting::NEW;
}

impl Waiting {
    /// Whether it is as good as a new one.
    pub(super) fn is_nobody(&self) -> bool {
        let appends = self.held.len() + self.unacknowledged.len();
        let reads = self.reads.len() + self.lookups.len() + self.followers.len();
        let others = self.syncing.len() + self.cutting.len() + self.compacting.len() + self.trimming.len();
        let life = self.creating.is_some() || self.deleting.is_some();
        appends + reads + others == 0 && !life && self.moves.is_nobody()
    }
}

/// A reader at the tail.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) wanted: Wanted,
    pub(super) reply: Reply<Fetched>,
}

/// An append that found too much staged.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) batch: Vec<u8>,
    pub(super) from: Writer,
    pub(super) reply: Reply<Appended>,
}

/// An append that waits for its acknowledgement.
#[derive(Debug)]
pub(super) struct Unacknowledged {
    pub(super) appended: Appended,
    pub(super) bytes: usize,
    pub(super) reply: Reply<Appended>,
}

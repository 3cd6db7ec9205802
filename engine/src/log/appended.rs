//! What is appended by whom, and what the log says about it.

use highwater_base::{LeaderEpoch, Offset, WallMs};

/// Who appends, which decides what is checked and what is stamped.
///
/// ```
/// use highwater_base::LeaderEpoch;
/// use highwater_engine::Origin;
/// let by = Origin::Client { leader_epoch: LeaderEpoch::new(3) };
/// assert_ne!(by, Origin::Replica { leader_epoch: LeaderEpoch::new(3) });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A client, through the leader: one batch, everything is checked; offsets and the epoch are stamped.
    Client {
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
    },
    /// The leader's own coordinators (markers, group offsets): one batch, no sequence checks; stamped likewise.
    Coordinator {
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
    },
    /// Copied from a leader: any number of batches, offsets and epochs are kept as they are; a partial last
    /// batch is passed over.
    Replica {
        /// The epoch in which the fetch was made; a batch of a later epoch ends the append (KAFKA-18723).
        leader_epoch: LeaderEpoch,
    },
}

/// A successful append: what it became. Nothing is written yet; see [`crate::LogEvent::Written`].
///
/// ```
/// use highwater_base::{Offset, WallMs};
/// let a = highwater_engine::Appended {
///     first: Offset::ZERO, last: Offset::new(2), end: Offset::new(3), append_time: WallMs::NONE, duplicate: false,
/// };
/// assert_eq!(a.end.since(a.first), 3);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Offset of the first record; of the earlier append if this is a duplicate.
    pub first: Offset,
    /// Offset of the last record, inclusive.
    pub last: Offset,
    /// The offset to wait for: `last + 1`.
    pub end: Offset,
    /// The timestamp given to the records under `LogAppendTime`, else [`WallMs::NONE`]. Of a duplicate, the largest of the
    /// earlier batch, whatever gave it, as with Kafka.
    pub append_time: WallMs,
    /// The batch was there already (one of its producer's last five); nothing was appended.
    pub duplicate: bool,
}

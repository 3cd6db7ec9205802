//! The seam between a follower and the broker its leader runs on.

use highwater_base::{BrokerId, Mono};
use highwater_isr::{FetchAnswer, FetchRequest};

use crate::PartitionKey;

/// How fetches of this node's followers reach their leaders. One instance serves one shard; a production one packs
/// the fetches of all partitions that follow one broker into one request, as Kafka's replicas do.
///
/// Calling order: [`Transport::fetch`] any time; [`Transport::poll_fetched`] until it gives none, each turn. Each fetch
/// is answered exactly once, with [`FetchAnswer::Failed`] if the leader cannot be reached or does not answer in
/// time, and in no particular order. Nothing blocks.
///
/// ```
/// use highwater_base::*;
/// use highwater_isr::{FetchAnswer, FetchRequest};
/// use highwater_replication::{Fetched, PartitionKey, Transport};
/// /// A leader that is never there.
/// #[derive(Default)]
/// struct Nowhere(Vec<Fetched>);
/// impl Transport for Nowhere {
///     fn fetch(&mut self, partition: PartitionKey, fetch: FetchRequest, _at: Mono) {
///         self.0.push(Fetched { partition, fetch, answer: FetchAnswer::Failed, records: Vec::new() });
///     }
///     fn forget(&mut self, _: PartitionKey) {}
///     fn leader_gone(&mut self, _: BrokerId) {}
///     fn poll_fetched(&mut self) -> Option<Fetched> { self.0.pop() }
/// }
/// # let fetch = FetchRequest {
/// #     leader: BrokerId::new(1), leader_epoch: LeaderEpoch::ZERO, offset: Offset::ZERO, last_epoch: LeaderEpoch::NONE,
/// #     log_start: Offset::ZERO, synced_end: Offset::ZERO, high_watermark: Offset::ZERO, request: 1,
/// # };
/// let mut nowhere = Nowhere::default();
/// nowhere.fetch((Uuid::ZERO, PartitionIndex::new(0)), fetch, Mono::ZERO);
/// assert_eq!(nowhere.poll_fetched().unwrap().answer, FetchAnswer::Failed);
/// ```
pub trait Transport {
    /// Sends a fetch, not before `at`.
    fn fetch(&mut self, partition: PartitionKey, fetch: FetchRequest, at: Mono);

    /// Nothing more is wanted for this partition: what is under way may be dropped.
    fn forget(&mut self, partition: PartitionKey);

    /// A broker is fenced or gone: its answers are not waited for.
    fn leader_gone(&mut self, broker: BrokerId);

    /// The next answer.
    fn poll_fetched(&mut self) -> Option<Fetched>;
}

/// An answered fetch.
///
/// ```
/// use highwater_replication::Fetched;
/// fn records_of(fetched: &Fetched) -> usize { fetched.records.iter().map(|slice| slice.len()).sum() }
/// ```
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whose.
    pub partition: PartitionKey,
    /// The fetch.
    pub fetch: FetchRequest,
    /// What the leader said.
    pub answer: FetchAnswer,
    /// The records that came with it.
    pub records: Vec<highwater_io::Slice>,
}

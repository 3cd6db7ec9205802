//! What a replica is told about its duties, and rules that tests can weaken.

use std::time::Duration;

/// A replica's settings.
///
/// ```
/// let settings = highwater_isr::ReplicaSettings::default();
/// assert_eq!(settings.lag_time_max.as_secs(), 30);
/// assert_eq!(settings.min_insync, 1);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReplicaSettings {
    /// `min.insync.replicas`: members that acks=all, and the high watermark, ask for. At least 1. Default 1.
    pub min_insync: usize,
    /// `replica.lag.time.max.ms`: how long a member may lack something before it is put out. Default 30 s.
    pub lag_time_max: Duration,
    /// `replica.fetch.backoff.ms`: the pause after a fetch that went wrong. Default 1 s.
    pub fetch_backoff: Duration,
    /// The leader reads the synced end out of our fetches. If it does not (Apache Kafka's), a fetch acknowledges
    /// everything below its offset, and waits until that is counted. Default true.
    pub leader_reads_synced_end: bool,
    /// A rule weakened on purpose; tests only. Default none.
    pub weakened: Weakened,
}

impl Default for ReplicaSettings {
    fn default() -> ReplicaSettings {
        ReplicaSettings {
            min_insync: 1,
            lag_time_max: Duration::from_secs(30),
            fetch_backoff: Duration::from_secs(1),
            leader_reads_synced_end: true,
            weakened: Weakened::None,
        }
    }
}

/// An old rule of Kafka's history, put back to show that a test would see it.
///
/// ```
/// assert_eq!(highwater_isr::Weakened::default(), highwater_isr::Weakened::None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Weakened {
    /// Every rule holds.
    #[default]
    None,
    /// The high watermark moves below `min.insync.replicas` (before KIP-966).
    HighWatermarkBelowMinIsr,
    /// A member whose addition is in flight does not count yet (before KIP-497).
    PendingMemberUncounted,
    /// A member whose removal is in flight does not count any more.
    RemovedMemberUncounted,
    /// A leader counts and serves fetches made in other epochs (KIP-320's first design).
    AnyEpochCounted,
    /// A follower joins at the high watermark, wherever the epoch began (KAFKA-7128).
    JoinsBeforeEpochStart,
    /// A diverging fetch counts (KAFKA-13141).
    DivergingCounted,
    /// A follower takes answers made in other epochs (KAFKA-18991).
    AnyEpochAnswered,
    /// A follower cuts at its high watermark instead of comparing epochs (KIP-101).
    CutsAtHighWatermark,
    /// A follower does not compare epochs at all before it appends.
    NeverCompares,
    /// A leader counts its own log end, synced or not.
    LeaderCountsUnsynced,
}

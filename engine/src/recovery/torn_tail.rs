//! The verdict on a log's end: torn by a crash, or rotten.

/// What bad bytes in a log are. The table is in `docs/RECOVERY.md`.
///
/// ```
/// assert_ne!(highwater_engine::Verdict::Torn, highwater_engine::Verdict::Rot);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verdict {
    /// Nothing but zeros after the last batch: space prepared and not used.
    Clean,
    /// A write that a crash cut short: beyond what was proven synced, nothing valid after it.
    Torn,
    /// Beyond what was proven synced, but valid batches follow within reach of one crash.
    Ambiguous,
    /// Bytes that had been synced have changed. Never cut.
    Rot,
}

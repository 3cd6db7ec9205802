//! What the machine may know of the local log. It is read, never kept: the log is the one source of its facts.

use highwater_base::{LeaderEpoch, Offset};

use crate::EpochEnd;

/// The local log as it is now.
///
/// `log_start <= counted_end <= log_end`.
///
/// ```
/// use highwater_base::{LeaderEpoch, Offset};
/// use highwater_isr::{EpochEnd, LogView};
/// struct Empty;
/// impl LogView for Empty {
///     fn log_start(&self) -> Offset { Offset::ZERO }
///     fn log_end(&self) -> Offset { Offset::ZERO }
///     fn counted_end(&self) -> Offset { Offset::ZERO }
///     fn latest_epoch(&self) -> LeaderEpoch { LeaderEpoch::NONE }
///     fn epoch_end(&self, _: LeaderEpoch) -> EpochEnd { EpochEnd::UNDEFINED }
/// }
/// assert_eq!(Empty.log_end(), Offset::ZERO);
/// ```
pub trait LogView {
    /// The first offset that may be read.
    fn log_start(&self) -> Offset;

    /// The next offset to be assigned (LEO).
    fn log_end(&self) -> Offset;

    /// The end that this replica counts with: what is synced under durability `each`, what is written otherwise.
    fn counted_end(&self) -> Offset;

    /// The latest leader epoch of the log, with or without records; [`LeaderEpoch::NONE`] if there is none.
    fn latest_epoch(&self) -> LeaderEpoch;

    /// The largest epoch at or before `epoch` that the log knows, and its end, by the rules of
    /// [`crate::EpochHistory::epoch_end`].
    fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd;
}

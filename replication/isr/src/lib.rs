//! The replica state machine: high watermark, ISR, epochs. Pure: it takes [`Event`]s and yields [`Effect`]s, reads
//! the log through [`LogView`], and touches nothing. The same machine runs in model tests, in the simulator and in
//! production.
//!
//! [`Replica`] is the whole of it; [`Standalone`] does the same for a partition with one replica, which is what a
//! lone broker has.
//!
//! Rules that hold after every step (checked by [`Replica::invariants`] and by `tests/isr_model.rs`):
//!
//! 1. `log_start <= high watermark <= log_end`; a leader's high watermark never falls.
//! 2. The high watermark moves only by [`advance`]: over the maximal ISR, on fetches of the leader's own epoch and
//!    the follower's present incarnation, and not below `min.insync.replicas`.
//! 3. A replica joins the ISR only if, in this epoch, it has fetched up to the high watermark and the epoch's start.
//! 4. One ISR change is in flight at a time; a pending member counts, and so does one that is being put out.
//! 5. A follower appends only what a leader of its own epoch sent after comparing logs; other answers are dropped.
//! 6. What is acknowledged is counted: synced, under durability `each`.
//!
//! ```
//! use highwater_base::Offset;
//! use highwater_isr::{Committed, advance};
//! let facts = Committed {
//!     high_watermark: Offset::ZERO, leader_end: Offset::new(4), in_sync: 2, needed: 1, others: &[Some(Offset::new(3))],
//! };
//! assert_eq!(advance(&facts), Offset::new(3));
//! ```
#![forbid(unsafe_code)]

mod effect;
mod env;
mod epoch;
mod event;
mod follower;
mod high_watermark;
mod isr;
mod leader;
mod log_view;
mod progress;
mod replica;
#[cfg(test)]
mod rig;
mod settings;
mod standalone;

pub use effect::{Effect, FetchRequest, FollowerAnswer, IsrProposal};
pub use epoch::{EpochEnd, EpochHistory, Fence, divergence_point};
pub use event::{Assignment, Event, FetchAnswer, FollowerFetch, IsrRefusal, Peer};
pub use high_watermark::{Committed, advance};
pub use isr::Isr;
pub use log_view::LogView;
pub use replica::Replica;
pub use settings::{ReplicaSettings, Weakened};
pub use standalone::Standalone;

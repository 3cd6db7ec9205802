//! The words every Highwater crate shares: offsets, epochs, positions, ids, time, limits.
//!
//! No I/O, no `unsafe`, no clock. Numbers that cross a function boundary are newtypes, so that a file
//! position cannot be passed where an offset is meant.
//!
//! ```
//! use highwater_base::{LeaderEpoch, Offset};
//! let end = Offset::ZERO.plus(3);
//! assert_eq!(end.get(), 3);
//! assert!(LeaderEpoch::NONE < LeaderEpoch::new(0));
//! ```
#![forbid(unsafe_code)]

mod bounded;
mod epoch;
mod id;
mod limits;
mod mutant;
mod offset;
mod position;
mod prng;
mod time;
mod trace;

pub use bounded::{Bounded, Full};
pub use epoch::{BrokerEpoch, LeaderEpoch, PartitionEpoch, ProducerEpoch};
pub use id::{BrokerId, PartitionIndex, ProducerId, TopicPartition, Uuid, UuidError};
pub use limits::Limits;
pub use mutant::Mutant;
pub use offset::Offset;
pub use position::{BLOCK, ByteLen, FilePos};
pub use prng::Prng;
pub use time::{Mono, Now, WallMs};
pub use trace::TraceHash;

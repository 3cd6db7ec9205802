//! A simulated disk, network, clock and scheduler.
//!
//! Code above the I/O seam is a function of the order of its inputs, so the same code runs here and in production.
//! [`SimIo`] is an [`Io`](highwater_io::Io) held to the same contract as the others; its disk ([`SimDisk`]) knows of
//! every 512-byte sector, length and name whether it would survive a power cut, and [`SimDisk::power_cut`] says what
//! the next start finds, by a policy ([`Loss`]) and a seed. [`SimNet`] carries byte streams, [`Sim`] gives turns.
//! Nothing here reads a clock or draws a random number: the same seed gives the same run, and
//! [`SimIo::trace`] proves it.
//!
//! ```
//! use highwater_io::{Op, OpenHow, Outcome, blocking};
//! use highwater_sim::{EIO, Fault, FaultKind, SimDisk, SimIo};
//!
//! let mut io = SimIo::new(SimDisk::new(), 42);
//! io.inject(Fault { at: 1, kind: FaultKind::Error(EIO), lasting: false });
//! let open = Op::Open { path: "/log".into(), how: OpenHow::CreateNew, direct: false };
//! let Outcome::Opened { file, .. } = blocking::run(&mut io, open)? else { unreachable!() };
//! assert!(blocking::run(&mut io, Op::Sync { file, data_only: true, urgent: true }).is_err());
//! assert!(blocking::run(&mut io, Op::Sync { file, data_only: true, urgent: true }).is_err()); // latched
//! # Ok::<(), highwater_io::IoError>(())
//! ```
#![forbid(unsafe_code)]

mod clock;
mod contents;
mod disk;
mod effect;
mod errno;
mod fault;
mod file;
mod flight;
mod names;
mod net;
mod power_cut;
mod sched;
mod sim_io;
mod sockets;
mod trace;

pub use clock::SimClock;
pub use disk::{SimDisk, Thing};
pub use errno::{EDQUOT, EFBIG, EIO, ENOSPC};
pub use fault::{Behaviour, Fault, FaultKind};
pub use net::SimNet;
pub use power_cut::Loss;
pub use sched::{Actor, Sim};
pub use sim_io::{Event, Moment, SimIo};

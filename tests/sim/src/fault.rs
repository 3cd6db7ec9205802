//! Faults on purpose, and how a device behaves without any.

use std::time::Duration;

use crate::errno::Errno;

/// One fault at one operation.
///
/// ```
/// use highwater_sim::{EIO, Fault, FaultKind};
/// let once = Fault { at: 17, kind: FaultKind::Error(EIO), lasting: false };
/// assert!(!once.lasting);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The number of the operation, in the order of submission, from 0.
    pub at: u64,
    /// What goes wrong.
    pub kind: FaultKind,
    /// Whether every later operation of the same kind (every write, say) fails likewise.
    pub lasting: bool,
}

/// What goes wrong with an operation.
///
/// ```
/// use highwater_sim::{ENOSPC, FaultKind};
/// assert_ne!(FaultKind::Error(ENOSPC), FaultKind::Short);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// It fails with this number. A write that fails with `EIO` leaves any of its sectors old or new; one that fails
    /// with anything else has done nothing. A failed sync latches the file, and what it covered is partly lost.
    Error(Errno),
    /// A read or write transfers only a part. Other operations are not affected.
    Short,
    /// A write is claimed and done nowhere.
    Lost,
    /// A write is claimed and lands some blocks further on in the same file.
    Misdirected,
    /// A sync is claimed and nothing is made durable.
    Lying,
    /// It takes this much longer.
    Slow(Duration),
}

/// How long operations take and how often transfers are short, when nothing is wrong.
///
/// ```
/// use highwater_sim::Behaviour;
/// assert_eq!(Behaviour::CALM.short_one_in, 0);
/// assert!(Behaviour::ROUGH.short_one_in > 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behaviour {
    /// The least time of an operation.
    pub quickest: Duration,
    /// The most time of an ordinary one. Between the two, operations overtake each other.
    pub slowest: Duration,
    /// One operation in so many is retried below the seam (`EAGAIN`, `EINTR`) and takes ten times the slowest; 0: none.
    pub retried_one_in: u64,
    /// One transfer in so many is short; 0: none.
    pub short_one_in: u64,
    /// Whether the file system accepts `O_DIRECT`.
    pub direct: bool,
}

impl Behaviour {
    /// Operations overtake each other, and that is all.
    pub const CALM: Behaviour = Behaviour {
        quickest: Duration::from_micros(10),
        slowest: Duration::from_micros(100),
        retried_one_in: 0,
        short_one_in: 0,
        direct: true,
    };

    /// Everything that the contract allows, often.
    pub const ROUGH: Behaviour = Behaviour { retried_one_in: 16, short_one_in: 8, ..Behaviour::CALM };
}

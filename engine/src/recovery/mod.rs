//! After a crash: what is proven synced decides, not the first bad batch.

mod checkpoint;
mod evidence;
mod quarantine;
mod report;
mod torn_tail;
mod triage;
mod walk;
mod window;

pub(crate) use checkpoint::CHECKPOINT_BYTES;
pub use checkpoint::{Checkpoint, SLOT_BYTES, SideSums};
pub use report::{Finding, RecoveryReport};
pub use torn_tail::{Behind, Evidence, Place, Rest, Verdict, behind, diagnose, reach};
pub use triage::{Triage, triage};

pub(crate) use evidence::{Search, search};
pub(crate) use quarantine::{Damage, Quarantine};
pub(crate) use torn_tail::{Act, act};
pub(crate) use walk::{Rules as WalkRules, Stop, walk};
pub(crate) use window::Window;

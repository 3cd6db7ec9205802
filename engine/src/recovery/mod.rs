//! After a crash: what is proven synced decides, not the first bad batch.

mod report;
mod torn_tail;

pub use report::{Finding, RecoveryReport};
pub use torn_tail::Verdict;

//! Whole-system tests: what several of them share.
//!
//! The tests themselves are in `tests/`, one file per kind; `README.md` lists them.
#![forbid(unsafe_code)]

pub mod aftermath;
pub mod compacted;
pub mod done;
pub mod fuzz;
pub mod golden;
pub mod ledger;
pub mod loop_disk;
pub mod model;
pub mod moved;
pub mod ours;
pub mod points;
pub mod recover;
pub mod replay;
pub mod rewritten;
pub mod rig;
pub mod scenario;
pub mod source;
pub mod workload;
pub mod writer;

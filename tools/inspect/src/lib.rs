//! Looks inside Kafka-format log directories, Apache Kafka's and ours.
//!
//! [`dump`] prints what a file or a directory holds, as text for people or as JSON lines; it decodes as much as it can
//! of a damaged file. [`verify`] walks a directory and reports every damaged place, [`verify_deep`] also what the files
//! say of each other. None of these can change anything. [`plan_repair`] says what would make a stopped directory whole;
//! [`repair`] alone does it.
//!
//! ```
//! use highwater_inspect::{DumpOptions, dump};
//! # let dir = std::env::temp_dir().join(format!("highwater-inspect-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir).unwrap();
//! # let path = dir.join("00000000000000000000.log");
//! # let batch = highwater_engine::batch::BatchBuilder::new().record(1, Some(b"k"), Some(b"v")).build();
//! # std::fs::write(&path, batch).unwrap();
//! let mut out = Vec::new();
//! let summary = dump(&mut out, &DumpOptions { json: true, ..DumpOptions::default() }, &path)?;
//! assert!(summary.findings.is_empty());
//! assert_eq!(String::from_utf8(out).unwrap().lines().count(), 2); // the segment, and its batch
//! # std::fs::remove_dir_all(&dir).unwrap();
//! # Ok::<(), highwater_inspect::InspectError>(())
//! ```
#![forbid(unsafe_code)]

mod damage;
mod dump;
mod files;
mod json;
mod place;
mod repair;
mod resync;
mod source;
mod verify;
mod walk;

pub use damage::{Damage, Finding, InspectError};
pub use dump::{DumpOptions, DumpSummary, dump};
pub use repair::{RepairAction, RepairError, RepairPlan, RepairStep, plan_repair, repair};
pub use verify::{VerifyReport, verify, verify_deep};

//! `highwater repair`: what would make a stopped log directory whole, why, and, only when told to, doing it.
//!
//! Looking ([`survey`]) reads and judges; planning ([`plan`]) is a pure function of what was seen; [`act`] is the only
//! part of this crate that changes anything. Nothing is ever removed: what goes is renamed, or copied before it is cut,
//! to a name beside it that Kafka's loader and ours pass over. Rot inside proven data is left as it is, and said.

mod act;
mod plan;
mod rebuild;
mod survey;

use std::fmt;
use std::path::{Path, PathBuf};

use highwater_engine::layout;
use highwater_io::{FileLock, IoError, LockError, is_locked};

use crate::files::Files;
use crate::place;
use crate::{Finding, InspectError};

/// What to do with one file.
///
/// ```
/// use highwater_inspect::RepairAction;
/// let action = RepairAction::SetAside { path: "t-0/5.log.cleaned".into(), aside: "t-0/5.log.cleaned.aside".into() };
/// assert!(action.to_string().starts_with("rename"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RepairAction {
    /// Rename it to a name that no loader looks at.
    SetAside {
        /// Which.
        path: PathBuf,
        /// To what.
        aside: PathBuf,
    },
    /// Finish a replacement that was complete: give the file the name it waits for.
    Rename {
        /// From.
        from: PathBuf,
        /// To.
        to: PathBuf,
    },
    /// Copy the end of a segment aside, then cut it off.
    Cut {
        /// Which.
        path: PathBuf,
        /// Where the cut goes.
        position: u64,
        /// How many bytes go.
        bytes: u64,
        /// Where they are kept.
        aside: PathBuf,
    },
    /// Write a file anew from the batches; what is there is renamed first.
    Rebuild {
        /// Which.
        path: PathBuf,
        /// What it is to hold.
        bytes: Vec<u8>,
        /// The old one's new name.
        aside: PathBuf,
    },
}

impl fmt::Display for RepairAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &Path| place::file_name(path);
        match self {
            RepairAction::SetAside { path, aside } => {
                write!(f, "rename {} to {}", path.display(), name(aside))
            }
            RepairAction::Rename { from, to } => write!(f, "rename {} to {}", from.display(), name(to)),
            RepairAction::Cut { path, position, bytes, aside } => {
                write!(
                    f,
                    "cut {} at byte {position}; keep its last {bytes} bytes in {}",
                    path.display(),
                    name(aside)
                )
            }
            RepairAction::Rebuild { path, bytes, aside } => write!(
                f,
                "write {} anew ({} bytes); rename the old one to {}",
                path.display(),
                bytes.len(),
                name(aside)
            ),
        }
    }
}

/// One thing to do, and why.
///
/// ```
/// use highwater_inspect::{RepairAction, RepairStep};
/// let action = RepairAction::Rename { from: "t-0/5.log.swap".into(), to: "t-0/5.log".into() };
/// let step = RepairStep { action, why: "the replacement was complete".into() };
/// assert_eq!(step.to_string(), "rename t-0/5.log.swap to 5.log: the replacement was complete");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepairStep {
    /// What.
    pub action: RepairAction,
    /// Why.
    pub why: String,
}

impl fmt::Display for RepairStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.action, self.why)
    }
}

/// What is to be done to a directory, in this order, and what no tool can do anything about.
///
/// ```
/// assert!(highwater_inspect::RepairPlan::default().steps.is_empty());
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RepairPlan {
    /// What is to be done.
    pub steps: Vec<RepairStep>,
    /// Damage that stays: rot in proven data, files that nothing can be rebuilt from.
    pub left: Vec<Finding>,
}

/// Why nothing could be planned or done.
///
/// ```
/// let error = highwater_inspect::plan_repair("/missing".as_ref()).unwrap_err();
/// assert!(error.to_string().contains("/missing"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RepairError {
    /// A broker holds the directory.
    Held {
        /// Which.
        dir: PathBuf,
        /// What is known of who holds it.
        why: String,
    },
    /// It cannot be looked at.
    Inspect(InspectError),
    /// A step failed; those before it are done, and another repair goes on from there.
    Io(IoError),
}

impl fmt::Display for RepairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RepairError::Held { dir, why } => write!(f, "{}: {why}", dir.display()),
            RepairError::Inspect(error) => error.fmt(f),
            RepairError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RepairError {}

impl From<InspectError> for RepairError {
    fn from(error: InspectError) -> RepairError {
        RepairError::Inspect(error)
    }
}

impl From<IoError> for RepairError {
    fn from(error: IoError) -> RepairError {
        RepairError::Io(error)
    }
}

/// What a repair of a log directory, or of one partition's, would do. Changes nothing. A directory that a broker holds
/// is refused: what looks damaged may be on its way.
///
/// ```
/// use highwater_inspect::{plan_repair, repair};
/// # let dir = std::env::temp_dir().join(format!("highwater-repair-{}", std::process::id()));
/// # std::fs::create_dir_all(dir.join("orders-0")).unwrap();
/// let batch = highwater_engine::batch::BatchBuilder::new().record(1, Some(b"k"), Some(b"v")).build();
/// let segment = dir.join("orders-0/00000000000000000000.log");
/// std::fs::write(&segment, &batch[..batch.len() - 5]).unwrap(); // a torn tail
/// assert_eq!(plan_repair(&dir)?.steps.len(), 1);
/// repair(&dir)?;
/// assert_eq!(std::fs::metadata(&segment).unwrap().len(), 0);
/// let kept = dir.join("orders-0/highwater.cut.0.0");
/// assert_eq!(std::fs::read(kept).unwrap(), batch[..batch.len() - 5]);
/// assert!(plan_repair(&dir)?.steps.is_empty());
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), highwater_inspect::RepairError>(())
/// ```
pub fn plan_repair(path: &Path) -> Result<RepairPlan, RepairError> {
    let top = top(path)?;
    if is_locked(&top.join(layout::LOCK))? {
        return Err(RepairError::Held {
            dir: top,
            why: "a broker holds this directory; stop it first".into(),
        });
    }
    look(path)
}

/// Repairs a log directory, or one partition's, and says what was done and what damage is left. Holds the directory's
/// lock meanwhile. A repair that was interrupted is finished by the next.
pub fn repair(path: &Path) -> Result<RepairPlan, RepairError> {
    let top = top(path)?;
    let lock = FileLock::acquire(&top.join(layout::LOCK)).map_err(|error| match error {
        LockError::Held { .. } => RepairError::Held { dir: top, why: error.to_string() },
        LockError::Io(error) => RepairError::Io(error),
    })?;
    let mut done = RepairPlan::default();
    // Once names are right, a second look may find more.
    for _ in 0..ROUNDS {
        let plan = look(path)?;
        act::act(&plan.steps)?;
        done.left = plan.left;
        if plan.steps.is_empty() {
            break;
        }
        done.steps.extend(plan.steps);
    }
    drop(lock);
    Ok(done)
}

/// Looks at most so often: names, contents, and to see that nothing is left to do.
const ROUNDS: usize = 4;

/// The log directory that `path` is or lies in.
fn top(path: &Path) -> Result<PathBuf, RepairError> {
    let mut files = Files::new()?;
    let place = place::place(&mut files, path)?;
    match place {
        place::Place::Partition | place::Place::LogDirectory => Ok(place::log_directory(&place, path)),
        _ => Err(InspectError::Unknown { path: path.into() }.into()),
    }
}

fn look(path: &Path) -> Result<RepairPlan, RepairError> {
    let mut whole = RepairPlan::default();
    for facts in survey::survey(path, &mut whole.left)? {
        let wanted = plan::wanted(&facts);
        let rebuilt = rebuild::rebuild(&facts, &wanted)?;
        let RepairPlan { steps, left } = plan::plan(&facts, &wanted, rebuilt);
        whole.steps.extend(steps);
        whole.left.extend(left);
    }
    Ok(whole)
}

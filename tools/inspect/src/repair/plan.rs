//! The plan for one partition: a pure function of what was seen of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use highwater_base::Offset;
use highwater_engine::Verdict;
use highwater_engine::layout::{FileKind, FileName, LEADER_EPOCHS, PREPARED};

use super::rebuild::Rebuilt;
use super::survey::Facts;
use super::{RepairAction, RepairPlan, RepairStep};
use crate::place::file_name;
use crate::{Damage, Finding};

/// Where a log is to be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cut {
    pub(super) segment: Offset,
    pub(super) position: u64,
    pub(super) verdict: Verdict,
}

/// What must be read again before the plan can be made.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Wanted {
    pub(super) cut: Option<Cut>,
    /// Segments whose indexes are to be made anew.
    pub(super) indexes: BTreeSet<Offset>,
    pub(super) snapshots: BTreeSet<Offset>,
    pub(super) epochs: bool,
    /// Files that go, as they cannot be used and nothing replaces them.
    pub(super) useless: Vec<(PathBuf, String)>,
    /// Findings about which nothing is done.
    pub(super) left: Vec<Finding>,
}

/// What to do about each finding. Where a partition's segments hold rot, they convict no other file.
pub(super) fn wanted(facts: &Facts) -> Wanted {
    let mut wanted = Wanted::default();
    if !facts.triage.swaps.is_empty() {
        // What the findings are about is about to be replaced.
        return wanted;
    }
    let kind = |finding: &Finding| FileName::parse(&file_name(&finding.path));
    let is_log = |finding: &Finding| kind(finding).is_some_and(|name| name.kind == FileKind::Log);
    let (segments, others): (Vec<&Finding>, Vec<&Finding>) =
        facts.findings.iter().partition(|finding| is_log(finding));
    let mut rotten = false;
    for finding in segments {
        let whole = matches!(finding.damage, Damage::Batch(_) | Damage::Legacy(_));
        match (finding.verdict, kind(finding), finding.position) {
            (Some(verdict @ (Verdict::Torn | Verdict::Ambiguous)), Some(name), Some(position)) if !whole => {
                let cut = Cut { segment: name.offset, position, verdict };
                let earlier =
                    wanted.cut.is_none_or(|known| (cut.segment, position) < (known.segment, known.position));
                wanted.cut = if earlier { Some(cut) } else { wanted.cut };
            }
            (Some(Verdict::Clean), _, _) => {}
            _ => {
                rotten = true;
                wanted.left.push(finding.clone());
            }
        }
    }
    for finding in others {
        let by_batches = matches!(finding.damage, Damage::Contradicts { .. } | Damage::Entry { .. });
        let Some(name) = kind(finding).filter(|_| !(rotten && by_batches)) else {
            wanted.left.push(finding.clone());
            continue;
        };
        match name.kind {
            FileKind::OffsetIndex | FileKind::TimeIndex | FileKind::TxnIndex => {
                wanted.indexes.insert(name.offset);
            }
            FileKind::Snapshot => {
                wanted.snapshots.insert(name.offset);
            }
            FileKind::LeaderEpochs => wanted.epochs = true,
            FileKind::Seal | FileKind::Checkpoint => {
                if !wanted.useless.iter().any(|(path, _)| *path == finding.path) {
                    wanted.useless.push((finding.path.clone(), finding.damage.to_string()));
                }
            }
            _ => wanted.left.push(finding.clone()),
        }
    }
    if let Some(cut) = wanted.cut {
        wanted.indexes.insert(cut.segment);
        wanted.indexes.retain(|base| *base <= cut.segment);
        // A start trims epochs by itself; here it is done with the cut.
        wanted.epochs |= facts.triage.epochs;
    }
    wanted
}

/// The steps, in the order in which a crash between any two leaves nothing worse than there is.
pub(super) fn plan(facts: &Facts, wanted: &Wanted, rebuilt: Rebuilt) -> RepairPlan {
    let mut planner = Planner { facts, taken: facts.names.iter().cloned().collect(), steps: Vec::new() };
    planner.leftovers();
    for path in &facts.void_seals {
        planner
            .set_aside(path, "the segment was written by somebody else since; the seal says nothing of it");
    }
    for (path, why) in &wanted.useless {
        planner.set_aside(path, &format!("{why}; a start makes it anew where it is needed"));
    }
    if let Some(cut) = wanted.cut {
        planner.cut(cut);
    }
    for ((kind, offset), bytes) in rebuilt {
        planner.rebuild(kind, offset, bytes, wanted.cut);
    }
    RepairPlan { steps: planner.steps, left: wanted.left.clone() }
}

struct Planner<'a> {
    facts: &'a Facts,
    /// Names that are there, or will be.
    taken: BTreeSet<String>,
    steps: Vec<RepairStep>,
}

impl Planner<'_> {
    fn step(&mut self, action: RepairAction, why: &str) {
        self.steps.push(RepairStep { action, why: why.into() });
    }

    /// A name beside a file that no loader looks at, and that is free.
    fn aside(&mut self, name: &str) -> PathBuf {
        let mut free = name.to_owned();
        let mut number = 0;
        while !self.taken.insert(free.clone()) {
            number += 1;
            free = format!("{name}.{number}");
        }
        self.facts.dir.join(free)
    }

    fn path(&self, kind: FileKind, offset: Offset) -> PathBuf {
        self.facts.dir.join(FileName::live(kind, offset).to_string())
    }

    fn has(&self, path: &Path) -> bool {
        self.facts.names.contains(&file_name(path))
    }

    fn is_moved(&self, path: &Path) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(&step.action, RepairAction::SetAside { path: moved, .. } if moved == path))
    }

    fn set_aside(&mut self, path: &Path, why: &str) {
        if self.has(path) && !self.is_moved(path) {
            let aside = self.aside(&format!("{}.aside", file_name(path)));
            self.step(RepairAction::SetAside { path: path.into(), aside }, why);
        }
    }

    /// What an interrupted cleaning, deletion or replacement left behind, as a start judges it.
    fn leftovers(&mut self) {
        let mut triage = self.facts.triage.clone();
        for name in std::mem::take(&mut triage.remove) {
            if name == PREPARED {
                continue;
            }
            let why = match FileName::parse(&name) {
                Some(parsed) if parsed == FileName::live(parsed.kind, parsed.offset) => {
                    "no segment of this base is there".to_owned()
                }
                _ => "left behind by something that was interrupted".to_owned(),
            };
            self.set_aside(&self.facts.dir.join(name), &why);
        }
        let swaps = triage.swaps.iter().filter(|swap| swap.kind == FileKind::Log).map(|swap| swap.offset);
        let Some(start) = swaps.min() else { return };
        let end = self.facts.swaps_end.max(start);
        let renames = triage.swap_in(start, end);
        for name in std::mem::take(&mut triage.remove) {
            self.set_aside(&self.facts.dir.join(name), "a complete replacement takes its place");
        }
        for (from, to) in renames {
            let (from, to) = (self.facts.dir.join(from), self.facts.dir.join(to));
            self.set_aside(&to, "a complete replacement takes its place");
            self.step(
                RepairAction::Rename { from, to },
                "the replacement was complete when it was interrupted",
            );
        }
    }

    fn cut(&mut self, cut: Cut) {
        let path = self.path(FileKind::Log, cut.segment);
        self.set_aside(&self.path(FileKind::Seal, cut.segment), "its segment is cut");
        for base in self.facts.segments.keys().filter(|base| **base > cut.segment).rev() {
            for kind in [
                FileKind::Seal,
                FileKind::OffsetIndex,
                FileKind::TimeIndex,
                FileKind::TxnIndex,
                FileKind::Snapshot,
                FileKind::Log,
            ] {
                self.set_aside(&self.path(kind, *base), "it lies behind the place where the log is cut");
            }
        }
        let snapshots: Vec<Offset> = self.facts.triage.snapshots.clone();
        for snapshot in snapshots.into_iter().filter(|snapshot| *snapshot > cut.segment) {
            self.set_aside(
                &self.path(FileKind::Snapshot, snapshot),
                "it lies behind the place where the log is cut",
            );
        }
        let bytes = self.facts.segments.get(&cut.segment).map_or(0, |len| len.saturating_sub(cut.position));
        let aside = self.aside(&format!("highwater.cut.{}.{}", cut.segment, cut.position));
        let why = match cut.verdict {
            Verdict::Torn => {
                "torn: written when the crash came, beyond what was proven synced, nothing valid behind"
            }
            _ => {
                "ambiguous: beyond what was proven synced, with valid batches behind; fetch them from a replica"
            }
        };
        self.step(RepairAction::Cut { path, position: cut.position, bytes, aside }, why);
    }

    fn rebuild(&mut self, kind: FileKind, offset: Offset, bytes: Vec<u8>, cut: Option<Cut>) {
        let path = match kind {
            FileKind::LeaderEpochs => self.facts.dir.join(LEADER_EPOCHS),
            _ => self.path(kind, offset),
        };
        // Whatever is not there is made by a start. An empty transaction index is none.
        let nothing = !self.has(&path) && (kind != FileKind::TxnIndex || bytes.is_empty());
        if nothing || self.is_moved(&path) {
            return;
        }
        let aside = self.aside(&format!("{}.aside", file_name(&path)));
        let of_cut = cut.is_some_and(|cut| {
            kind == FileKind::LeaderEpochs || (cut.segment == offset && kind != FileKind::Snapshot)
        });
        let why = if of_cut { "it goes with what is cut" } else { "it does not say what the batches say" };
        self.step(RepairAction::Rebuild { path, bytes, aside }, why);
    }
}

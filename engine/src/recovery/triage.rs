//! The files of a partition's directory, sorted out (kafka.md 3.5). Pure: says what to do, does nothing.

use std::collections::BTreeSet;

use highwater_base::Offset;

use crate::layout::{FileKind, FileName, FileState};

/// What a directory's names say.
///
/// ```
/// use highwater_engine::recovery::triage;
/// let found = triage(["00000000000000000000.log", "00000000000000000007.index"].into_iter());
/// assert_eq!(found.remove, ["00000000000000000007.index"]); // an index without its segment
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Triage {
    /// Bases of the segments, ascending.
    pub segments: Vec<Offset>,
    /// Snapshots, ascending.
    pub snapshots: Vec<Offset>,
    /// Every file in use that is named by an offset.
    pub files: BTreeSet<(Offset, FileKind)>,
    /// Remains of something interrupted, to be removed.
    pub remove: Vec<String>,
    /// Replacements that were complete: `.swap` logs, whose range decides what else goes.
    pub swaps: Vec<FileName>,
    /// Whether there is a checkpoint of ours.
    pub checkpoint: bool,
    /// Whether there is an epoch checkpoint.
    pub epochs: bool,
    /// Whether there is a `partition.metadata`.
    pub metadata: bool,
}

impl Triage {
    /// Whether a file in use is there.
    pub fn has(&self, kind: FileKind, offset: Offset) -> bool {
        self.files.contains(&(offset, kind))
    }
}

/// Sorts out the names of a directory's files. Names that mean nothing here are left alone.
pub fn triage<'a>(names: impl Iterator<Item = &'a str>) -> Triage {
    let parsed: Vec<(&str, FileName)> =
        names.filter_map(|name| FileName::parse(name).map(|parsed| (name, parsed))).collect();
    let first_cleaned =
        parsed.iter().filter(|(_, file)| file.state == FileState::Cleaned).map(|(_, file)| file.offset).min();
    let mut triage = Triage::default();
    for (name, file) in parsed {
        match file.state {
            FileState::Deleted if file.kind == FileKind::RaftSnapshot => {}
            FileState::Deleted | FileState::Cleaned | FileState::Tmp => triage.remove.push(name.to_owned()),
            // A split that was interrupted before it was complete (KAFKA-6264).
            FileState::Swap if first_cleaned.is_some_and(|first| file.offset >= first) => {
                triage.remove.push(name.to_owned());
            }
            FileState::Swap => triage.swaps.push(file),
            FileState::Part => {}
            FileState::Live => triage.sort_live(file),
        }
    }
    triage.settle();
    triage
}

impl Triage {
    fn sort_live(&mut self, file: FileName) {
        match file.kind {
            FileKind::Checkpoint => self.checkpoint = true,
            FileKind::LeaderEpochs => self.epochs = true,
            FileKind::PartitionMetadata => self.metadata = true,
            FileKind::Prepared => self.remove.push(file.to_string()),
            FileKind::QuorumState | FileKind::RaftSnapshot => {}
            FileKind::Log
            | FileKind::OffsetIndex
            | FileKind::TimeIndex
            | FileKind::TxnIndex
            | FileKind::Snapshot
            | FileKind::Seal => {
                self.files.insert((file.offset, file.kind));
            }
        }
    }

    /// Once names are final: indexes without a log go, segments and snapshots are listed.
    pub(crate) fn settle(&mut self) {
        let logs: BTreeSet<Offset> =
            self.files.iter().filter(|(_, kind)| *kind == FileKind::Log).map(|(offset, _)| *offset).collect();
        let (mut keep, mut snapshots) = (BTreeSet::new(), Vec::new());
        for (offset, kind) in std::mem::take(&mut self.files) {
            if kind == FileKind::Snapshot {
                snapshots.push(offset);
            } else if !logs.contains(&offset) {
                self.remove.push(FileName::live(kind, offset).to_string());
                continue;
            }
            keep.insert((offset, kind));
        }
        self.files = keep;
        self.segments = logs.into_iter().collect();
        self.snapshots = snapshots;
    }

    /// A complete replacement of `start..end` takes the place of what is there: gives what to rename, from and to. What
    /// goes and is not renamed over is added to [`Triage::remove`].
    pub fn swap_in(&mut self, start: Offset, end: Offset) -> Vec<(String, String)> {
        let swaps = std::mem::take(&mut self.swaps);
        let replaced: Vec<_> = self
            .files
            .iter()
            .copied()
            .filter(|(offset, kind)| *kind != FileKind::Snapshot && (start..end).contains(offset))
            .collect();
        for (offset, kind) in replaced {
            self.files.remove(&(offset, kind));
            // What is renamed over needs no removal.
            if !swaps.iter().any(|swap| (swap.offset, swap.kind) == (offset, kind)) {
                self.remove.push(FileName::live(kind, offset).to_string());
            }
        }
        let mut renames = Vec::new();
        for swap in swaps {
            self.files.insert((swap.offset, swap.kind));
            renames.push((swap.to_string(), swap.with_state(FileState::Live).to_string()));
        }
        self.settle();
        renames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&str]) -> Triage {
        triage(names.iter().copied())
    }

    #[test]
    fn remains_go_and_strangers_stay() {
        let found = sorted(&[
            "00000000000000000000.log",
            "00000000000000000000.index",
            "00000000000000000007.timeindex",
            "00000000000000000003.log.deleted",
            "leader-epoch-checkpoint.tmp",
            "next.prepared",
            "notes.txt",
            "00000000000000000009.snapshot",
        ]);
        assert_eq!(found.segments, [Offset::ZERO]);
        assert_eq!(found.snapshots, [Offset::new(9)]);
        let mut removed = found.remove.clone();
        removed.sort();
        assert_eq!(
            removed,
            [
                "00000000000000000003.log.deleted",
                "00000000000000000007.timeindex",
                "leader-epoch-checkpoint.tmp",
                "next.prepared"
            ]
        );
    }

    #[test]
    fn an_interrupted_split_is_undone_and_a_complete_swap_is_finished() {
        let interrupted = sorted(&[
            "00000000000000000000.log",
            "00000000000000000005.log.swap",
            "00000000000000000005.log.cleaned",
        ]);
        assert!(interrupted.swaps.is_empty());
        assert_eq!(interrupted.remove.len(), 2);

        let mut complete = sorted(&[
            "00000000000000000000.log",
            "00000000000000000005.log",
            "00000000000000000005.index",
            "00000000000000000009.log",
            "00000000000000000000.log.swap",
        ]);
        let renames = complete.swap_in(Offset::ZERO, Offset::new(9));
        assert_eq!(renames.len(), 1);
        assert_eq!(complete.segments, [Offset::ZERO, Offset::new(9)]);
        assert_eq!(complete.remove.len(), 2);
    }
}

//! Kafka's four checkpoint files of a data directory: recovery points, log starts, high watermarks, first dirty offsets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use highwater_base::{Offset, TopicPartition};
use highwater_engine::checkpoint_file::OffsetCheckpoint;
use highwater_engine::layout::{CLEANER_OFFSETS, HIGH_WATERMARKS, LOG_STARTS, RECOVERY_POINTS};

/// What the checkpoint files say of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PartitionOffsets {
    /// In which data directory, by its place in the list.
    pub(crate) dir: usize,
    /// Which partition.
    pub(crate) partition: TopicPartition,
    /// Its offsets.
    pub(crate) offsets: Offsets,
}

/// Offsets of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offsets {
    /// Everything below is synced.
    pub(crate) recovery_point: Offset,
    /// The log start, if it lies above the first segment's base.
    pub(crate) log_start: Option<Offset>,
    /// The high watermark.
    pub(crate) high_watermark: Offset,
    /// Everything below is compacted, if anything is.
    pub(crate) cleaned_to: Option<Offset>,
}

/// The texts of the four files of one data directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct CheckpointFiles {
    pub(crate) recovery_points: OffsetCheckpoint,
    pub(crate) log_starts: OffsetCheckpoint,
    pub(crate) high_watermarks: OffsetCheckpoint,
    pub(crate) cleaned: OffsetCheckpoint,
}

impl CheckpointFiles {
    /// The files of the data directory at this place in the list. `others` are lines of partitions that are none of ours,
    /// and are kept.
    pub(crate) fn of(dir: usize, all: &[PartitionOffsets], others: &CheckpointFiles) -> CheckpointFiles {
        let mut files = others.clone();
        for PartitionOffsets { partition, offsets, .. } in all.iter().filter(|offsets| offsets.dir == dir) {
            files.recovery_points.offsets.insert(partition.clone(), offsets.recovery_point);
            files.high_watermarks.offsets.insert(partition.clone(), offsets.high_watermark);
            if let Some(cleaned_to) = offsets.cleaned_to {
                files.cleaned.offsets.insert(partition.clone(), cleaned_to);
            }
            if let Some(log_start) = offsets.log_start {
                files.log_starts.offsets.insert(partition.clone(), log_start);
            }
        }
        files
    }

    /// The lines of partitions that are not among these.
    pub(crate) fn without(&self, partitions: &BTreeSet<&TopicPartition>) -> CheckpointFiles {
        let rest = |from: &OffsetCheckpoint| {
            let mut rest = from.clone();
            rest.offsets.retain(|partition, _| !partitions.contains(partition));
            rest
        };
        CheckpointFiles {
            recovery_points: rest(&self.recovery_points),
            log_starts: rest(&self.log_starts),
            high_watermarks: rest(&self.high_watermarks),
            cleaned: rest(&self.cleaned),
        }
    }

    /// Path and bytes of each file.
    pub(crate) fn encode(&self, dir: &Path) -> [(PathBuf, Vec<u8>); 4] {
        [
            (dir.join(RECOVERY_POINTS), self.recovery_points.encode().into_bytes()),
            (dir.join(LOG_STARTS), self.log_starts.encode().into_bytes()),
            (dir.join(HIGH_WATERMARKS), self.high_watermarks.encode().into_bytes()),
            (dir.join(CLEANER_OFFSETS), self.cleaned.encode().into_bytes()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_base::PartitionIndex;

    #[test]
    fn each_directory_gets_its_own_partitions_and_only_log_starts_that_say_something() {
        let of = |dir, index, log_start: Option<i64>| PartitionOffsets {
            dir,
            partition: TopicPartition::new("t", PartitionIndex::new(index)),
            offsets: Offsets {
                recovery_point: Offset::new(10),
                log_start: log_start.map(Offset::new),
                high_watermark: Offset::new(9),
                cleaned_to: log_start.map(Offset::new),
            },
        };
        let all = [of(0, 0, None), of(1, 1, Some(4)), of(0, 2, None)];
        let [recovery, starts, marks, cleaned] =
            CheckpointFiles::of(0, &all, &CheckpointFiles::default()).encode(Path::new("/d"));
        assert_eq!(
            recovery,
            ("/d/recovery-point-offset-checkpoint".into(), b"0\n2\nt 0 10\nt 2 10\n".to_vec())
        );
        assert_eq!(starts.1, b"0\n0\n");
        assert_eq!(cleaned, ("/d/cleaner-offset-checkpoint".into(), b"0\n0\n".to_vec()));
        assert_eq!(marks.1, b"0\n2\nt 0 9\nt 2 9\n");
        let first = CheckpointFiles::of(0, &all, &CheckpointFiles::default());
        let others = first.without(&BTreeSet::from([&TopicPartition::new("t", PartitionIndex::new(2))]));
        let second = CheckpointFiles::of(1, &all, &others).encode(Path::new("/d"));
        assert_eq!(second[1].1, b"0\n1\nt 1 4\n");
        assert_eq!(second[2].1, b"0\n2\nt 0 9\nt 1 9\n");
    }
}

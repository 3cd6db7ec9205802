//! A partition's directory, a log directory, and which file is printed how.

use std::path::Path;

use highwater_base::Offset;
use highwater_engine::layout::{self, FileKind, FileName, FileState, PartitionDir};

use super::Dumper;
use crate::InspectError;
use crate::files::Entry;
use crate::json::{Line, quoted};
use crate::place::{TopFile, file_name};

impl Dumper<'_> {
    pub(super) fn log_directory(&mut self, dir: &Path) -> Result<(), InspectError> {
        let entries = self.files.list(dir)?;
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            if let Some(kind) = TopFile::of(&entry.name) {
                self.top_file(&entry.path, &entry.name, kind)?;
            }
        }
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            if PartitionDir::parse(&entry.name).is_some() {
                self.partition(&entry.path)?;
            }
        }
        Ok(())
    }

    pub(super) fn partition(&mut self, dir: &Path) -> Result<(), InspectError> {
        let mut entries = self.files.list(dir)?;
        entries.retain(|entry| !entry.is_dir);
        let name = file_name(dir);
        if self.options.json {
            let files = entries.iter().map(|entry| format!("[{},{}]", quoted(&entry.name), entry.len));
            Line::new("partition").string("dir", &name).array("files", files).write(self.out)?;
        } else {
            writeln!(self.out, "partition {name}: {} files", entries.len())?;
        }
        for (i, entry) in entries.iter().enumerate() {
            let Some(name) = FileName::parse(&entry.name) else { continue };
            if self.in_range(&entries[i..], name) {
                self.partition_file(&entry.path, &entry.name, name)?;
            }
        }
        Ok(())
    }

    /// Whether a segment or an index may hold offsets that are asked for: its base lies before their end, and the
    /// next segment does not begin before their start.
    fn in_range(&self, entries: &[Entry], name: FileName) -> bool {
        let Some(asked) = &self.options.offsets else { return true };
        let segment = matches!(
            name.kind,
            FileKind::Log | FileKind::OffsetIndex | FileKind::TimeIndex | FileKind::TxnIndex | FileKind::Seal
        );
        let next = entries
            .iter()
            .filter_map(|entry| FileName::parse(&entry.name))
            .find(|later| later.kind == FileKind::Log && later.offset > name.offset)
            .map_or(Offset::MAX, |later| later.offset);
        !segment || name.offset < asked.end && next > asked.start
    }

    pub(super) fn partition_file(
        &mut self,
        path: &Path,
        shown: &str,
        name: FileName,
    ) -> Result<(), InspectError> {
        if matches!(name.state, FileState::Tmp) {
            return Ok(());
        }
        self.summary.files += 1;
        match name.kind {
            FileKind::Log | FileKind::RaftSnapshot => self.segment(path, shown, name.offset),
            FileKind::OffsetIndex => self.offset_index(path, shown, name.offset),
            FileKind::TimeIndex => self.time_index(path, shown, name.offset),
            FileKind::TxnIndex => self.txn_index(path, shown, name.offset),
            FileKind::Snapshot => self.producer_snapshot(path, shown),
            FileKind::Seal => self.seal(path, shown),
            FileKind::LeaderEpochs => self.leader_epochs(path),
            FileKind::PartitionMetadata => self.partition_metadata(path),
            FileKind::Checkpoint => self.checkpoint(path, shown),
            FileKind::QuorumState => self.quorum_state(path, shown),
            // Zeros that wait to become a segment.
            FileKind::Prepared => Ok(()),
        }
    }

    pub(super) fn top_file(&mut self, path: &Path, shown: &str, kind: TopFile) -> Result<(), InspectError> {
        self.summary.files += 1;
        match kind {
            TopFile::OffsetCheckpoint => self.offset_checkpoint(path, shown),
            TopFile::MetaProperties => self.meta_properties(path),
            TopFile::CleanShutdown => self.clean_shutdown(path),
            TopFile::Catalog => self.catalog(path, shown),
            // Kafka's reader wants a base offset in the name; the records' offsets begin at 0.
            TopFile::BootstrapCheckpoint => {
                let shown = format!("{:020}.{}", 0, layout::BOOTSTRAP_CHECKPOINT);
                self.segment(path, &shown, Offset::ZERO)
            }
        }
    }
}

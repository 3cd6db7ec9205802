//! The small files.

use std::path::Path;

use highwater_base::Offset;
use highwater_control::decode_catalog;
use highwater_engine::Checkpoint;
use highwater_engine::checkpoint_file::{
    MetaProperties, OffsetCheckpoint, decode_clean_shutdown, decode_partition_metadata,
};
use highwater_engine::epochs::EpochCache;
use highwater_engine::producers::Snapshot;

use super::Verifier;
use super::segment::Segment;
use crate::Damage;
use crate::place::TopFile;

impl Verifier<'_> {
    pub(super) fn top_file(&mut self, path: &Path, kind: TopFile) {
        if kind == TopFile::BootstrapCheckpoint {
            let segment = Segment { path, base: Offset::ZERO, next: Offset::MAX, clean: true };
            self.segment(&segment, &mut []);
            return;
        }
        if kind == TopFile::Catalog {
            if let Some(Err(error)) = self.whole(path).map(|bytes| decode_catalog(&bytes)) {
                self.found(path, Some(0), Damage::Catalog(error));
            }
            return;
        }
        let Some(text) = self.text(path) else { return };
        let decoded = match kind {
            TopFile::OffsetCheckpoint => OffsetCheckpoint::decode(&text).map(drop),
            TopFile::MetaProperties => MetaProperties::decode(&text).map(drop),
            TopFile::CleanShutdown => decode_clean_shutdown(&text).map(drop),
            TopFile::BootstrapCheckpoint | TopFile::Catalog => Ok(()),
        };
        if let Err(error) = decoded {
            self.bad_line(path, &text, error.line, Damage::Text(error));
        }
    }

    pub(super) fn leader_epochs(&mut self, path: &Path) {
        let Some(text) = self.text(path) else { return };
        if let Err(error) = EpochCache::decode(&text) {
            self.bad_line(path, &text, error.line, Damage::Epochs(error));
        }
    }

    pub(super) fn partition_metadata(&mut self, path: &Path) {
        let Some(text) = self.text(path) else { return };
        if let Err(error) = decode_partition_metadata(&text) {
            self.bad_line(path, &text, error.line, Damage::Text(error));
        }
    }

    pub(super) fn producer_snapshot(&mut self, path: &Path) {
        let Some(bytes) = self.whole(path) else { return };
        if let Err(error) = Snapshot::new(&bytes).check() {
            self.found(path, Some(0), Damage::Snapshot(error));
        }
    }

    /// Our checkpoint. One slot may be torn: they are written in turn, so the other holds.
    pub(super) fn checkpoint(&mut self, path: &Path) -> Option<Checkpoint> {
        let bytes = self.whole(path)?;
        let newest = Checkpoint::newest(&bytes);
        if newest.is_none() && bytes.iter().any(|&byte| byte != 0) {
            self.found(path, Some(0), Damage::Checkpoint);
        }
        newest
    }
}

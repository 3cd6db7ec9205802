//! Where the log lies: in files that were segments before, and in one data directory or the other.

use std::time::Duration;

use highwater_engine::{Durability, LogSettings, Preallocate};

use super::Runner;

impl Runner {
    /// Goes on as a log that is not compacted, until it has used a deleted segment again, and then does more.
    pub(super) fn recycle(&mut self, more: fn(&mut Runner)) {
        let settings = self.plan.settings;
        // Where appends are not synced one by one, only written space is recycled.
        let preallocate = match settings.durability {
            Durability::Each => settings.preallocate,
            Durability::Interval { .. } | Durability::Os => Preallocate::Written,
        };
        self.rig.update_settings(LogSettings {
            compaction: None,
            segment_bytes: 12 << 10,
            retention_bytes: Some(4 << 10),
            retention_check_ms: 10,
            file_delete_delay_ms: 10,
            preallocate,
            ..settings
        });
        // When retention looks next was decided before.
        self.rig.pass(Duration::from_millis(settings.retention_check_ms));
        let before = self.rig.log.segments_recycled();
        for _ in 0..30 {
            if self.rig.has_failed() || self.rig.log.segments_recycled() > before {
                break;
            }
            self.appends(3);
            self.rig.pass(Duration::from_millis(30));
        }
        self.done.recycled += (self.rig.log.segments_recycled() - before) as usize;
        more(self);
        self.rig.update_settings(settings);
    }

    /// Moves the log to the other data directory.
    pub(super) fn relocate(&mut self) {
        if self.rig.has_failed() {
            return;
        }
        let before = self.rig.moves;
        self.rig.begin_move();
        for _ in 0..5000 {
            if self.rig.moves > before || self.rig.has_failed() {
                break;
            }
            if !self.rig.pump() {
                self.rig.pass(Duration::from_millis(20));
            }
        }
        assert!(
            self.rig.moves > before || self.rig.has_failed(),
            "the log does not move: {:?}",
            self.rig.log
        );
    }
}

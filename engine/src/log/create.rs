//! A new log's directory and first segment.

use highwater_base::{LeaderEpoch, Offset};
use highwater_io::{FileId, OpenHow};

use super::flight::Purpose;
use super::script::{Script, Step, replace_file};
use super::{Log, LogEvent, State};
use crate::checkpoint_file::encode_partition_metadata;
use crate::layout::{FileKind, PARTITION_METADATA};
use crate::segment::{Live, Name, Phase, Segment};
use crate::tail::{Place, Tail};

impl Log {
    /// Begins the creation of the log, once.
    pub(super) fn drive_create(&mut self, now: highwater_base::Now) {
        if !self.segments.is_empty() || self.is_running(&Purpose::Create) {
            return;
        }
        let mut steps = vec![Step::CreateDir { path: self.dir.clone() }];
        if let Some(topic_id) = self.topic_id {
            let text = encode_partition_metadata(topic_id);
            steps.extend(replace_file(self.dir.join(PARTITION_METADATA), text.into_bytes()));
        }
        self.begin_at(now, self.log_start, None, 0);
        steps.extend(self.first_checkpoint_steps());
        let path = self.path(FileKind::Log, self.log_start);
        // A creation that a crash cut short is begun again.
        steps.push(Step::Open { path, how: OpenHow::CreateOrEmpty, direct: self.settings.direct });
        if self.settings.preallocate == crate::Preallocate::Written {
            steps.push(self.first_space(0));
        }
        steps.push(Step::SyncDir { path: self.dir.clone() });
        if let Some(parent) = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            steps.push(Step::SyncDir { path: parent.to_path_buf() });
        }
        self.run(Purpose::Create, steps);
    }

    pub(super) fn created(&mut self, script: &Script) {
        let active = self.segments.back_mut().expect("begun together with the script");
        let live = active.live_mut().expect("a new segment is live");
        live.file = script.file();
        live.prepared = script.prepared();
        live.settled = script.settled();
        live.step = live.prepared;
        live.name = Name::Durable;
        self.settle_checkpoint();
        self.state = State::Open;
        self.events.push_back(LogEvent::Ready);
    }

    /// Forgets all segments; an empty one at `base` is the only one.
    pub(super) fn begin_at(
        &mut self,
        now: highwater_base::Now,
        base: Offset,
        file: Option<FileId>,
        prepared: u64,
    ) {
        let mut live = Live::new(Place::ZERO, base, self.settings.index_interval_bytes, now.wall);
        live.file = file;
        live.prepared = prepared;
        live.step = prepared;
        self.segments.clear();
        self.segments.push_back(Segment::new(base, now.wall.get(), Phase::Live(Box::new(live))));
        self.tail.replace(Tail::new(Place::ZERO, Place::ZERO, &[], &self.settings.limits));
        self.reset_places(Place::ZERO, base);
    }

    /// Everything up to `place`, where the log ends at `end`, is written and durable.
    pub(super) fn reset_places(&mut self, place: Place, end: Offset) {
        self.ends.clear();
        self.writes.clear();
        self.submitted = place;
        self.written = place;
        self.synced = place;
        self.log_end = end;
        self.raw_written_end = end;
        self.written_end = end;
        self.synced_end = end;
        self.wanted_sync = end;
        self.unsynced_since = None;
        self.high_watermark = self.high_watermark.min(end);
    }

    /// The epochs' checkpoint is written anew when they change.
    pub(super) fn drive_epochs(&mut self) {
        if self.epochs_dirty && self.may_write_epochs() && !self.is_running(&Purpose::Epochs) {
            self.epochs_dirty = false;
            let path = self.dir.join(crate::layout::LEADER_EPOCHS);
            let mut steps = replace_file(path, self.epochs.encode().into_bytes());
            steps.push(Step::SyncDir { path: self.dir.clone() });
            self.run(Purpose::Epochs, steps);
        }
    }

    /// The epoch in force at `offset`, or [`LeaderEpoch::NONE`].
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.epochs.epoch_at(offset)
    }
}

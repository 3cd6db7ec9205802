//! Opening a log by its manifest, without reading it; and waking it when it is used for the first time.
//!
//! Such a log is *asleep*: its active segment's file is not open, and the partial last block, with which the next write
//! begins, is not in memory. Whatever needs one of them wakes it. Until it is awake appends are refused as
//! [`Busy::Waking`] and reads wait. A log that is stopped without having been changed leaves its files as they are.

use std::path::Path;

use highwater_base::{BLOCK, FilePos, Mutant, Now, Offset, WallMs};
use highwater_io::{ErrorKind, IoError, OpenHow};

use super::checkpoint::CheckpointState;
use super::flight::Purpose;
use super::script::{Script, Step};
use super::{Log, OpenHint, State};
use crate::epochs::EpochCache;
use crate::index::IndexBuilder;
use crate::layout::FileKind;
use crate::manifest::{Entry, ListedLog, SegmentEntry, StoppedLog};
use crate::producers::Snapshot;
use crate::segment::{Live, Name, Phase, Sealed, Segment};
use crate::tail::{Place, Tail};
use crate::{LogSettings, RecoveryReport};

/// Whether the active segment's file is open, and its last block in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sleep {
    /// Both are.
    Awake,
    /// Neither is; `pristine`: nothing on disk has changed since the clean stop either.
    Asleep { pristine: bool },
    /// They are on their way.
    Waking,
}

impl Log {
    /// Opens a log as a manifest lists it, with no operation at all: nothing of it is read before it is used. `None` if it
    /// has to be opened by [`Log::open`]: it was not stopped cleanly, something was changed since, or the hint or the
    /// settings ask for what the manifest does not know.
    pub fn open_listed(
        now: Now,
        dir: &Path,
        owner: u32,
        settings: LogSettings,
        hint: OpenHint,
        listed: &ListedLog,
    ) -> Option<(Log, RecoveryReport)> {
        let trusted = settings.mutant == Mutant::ManifestTrusted;
        if !(hint.clean_stop && listed.is_unchanged() || trusted) || settings.check().is_err() {
            return None;
        }
        let entry = listed.entry()?;
        let named = dir.file_name().is_some_and(|name| name == entry.name.as_str());
        let (last, checkpoint) = (entry.segments.last()?, entry.checkpoint);
        let ends_there = checkpoint.segment == last.base
            && checkpoint.position.get() == last.size
            && checkpoint.offset == last.end;
        let start = hint.log_start.unwrap_or(Offset::ZERO).max(checkpoint.log_start);
        let start = start.max(entry.segments[0].base);
        let other_topic = hint.topic_id.is_some_and(|id| entry.topic_id.is_some_and(|found| found != id));
        let wants_ages = settings.compaction.is_some_and(|settings| settings.max_lag_ms < u64::MAX);
        let ages = entry.segments.iter().all(|segment| segment.oldest.is_some() || segment.size == 0);
        if !named || !ends_there || start > last.end || other_topic || (wants_ages && !ages) {
            return None;
        }
        let mut log = Log::blank(now, dir, owner, settings, entry.topic_id.or(hint.topic_id), start);
        let expiry = log.settings.producer_expiration_ms.min(i64::MAX as u64) as i64;
        log.producers.load(Snapshot::new(&entry.producers), now.wall, expiry).ok()?;
        let mut report = RecoveryReport { proven_end: Some(checkpoint.offset), ..RecoveryReport::default() };
        report.segments = entry.segments.len();
        report.log_bytes = entry.segments.iter().map(|segment| segment.size).sum();
        log.enter(entry)?;
        log.compaction.cleaned_to = hint.cleaned_to.unwrap_or(Offset::NONE);
        (log.high_watermark, log.announced_start) = (log.log_start, log.log_start);
        (log.state, log.due) = (State::Open, true);
        log.debug_invariants();
        Some((log, report))
    }

    /// Takes in what a manifest says.
    fn enter(&mut self, entry: Entry) -> Option<()> {
        let Entry { checkpoint, epochs, snapshots, mut segments, indexes, .. } = entry;
        let active = segments.pop()?;
        self.segments.reserve_exact(segments.len() + 1);
        for sealed in segments {
            self.segments.push_back(segment_of(sealed, Phase::Sealed(Sealed::default())));
        }
        let interval = self.settings.index_interval_bytes;
        let [offsets, times] = &indexes;
        let mut index = IndexBuilder::resume(active.base, interval, offsets, times);
        if index.offsets().check().is_err() || index.times().check().is_err() {
            return None;
        }
        index.continue_at(active.size);
        index.raise_max_timestamp(active.largest.timestamp, active.largest.offset);
        let place = Place::ZERO.plus(active.size);
        let mut live = Live::new(Place::ZERO, active.base, interval, WallMs::new(active.modified_ms));
        live.name = Name::Durable;
        live.prepared = active.size;
        live.opened_size = active.size;
        (live.synced, live.synced_end) = (place, active.end);
        live.first_timestamp = active.oldest;
        live.seal = live.seal.take().filter(|_| active.size == 0);
        live.index = index;
        live.indexed_on_disk =
            [offsets.len(), times.len(), active.aborted.len() * crate::index::TXN_ENTRY_BYTES];
        let end = active.end;
        self.segments.push_back(segment_of(active, Phase::Live(Box::new(live))));
        self.tail.replace(Tail::without_last_block(Place::ZERO, place, &self.settings.limits));
        self.reset_places(place, end);
        self.checkpoint = CheckpointState::loaded(Some(checkpoint));
        self.snapshots = snapshots;
        self.epochs = EpochCache::of(epochs);
        self.epochs_dirty |= self.epochs.truncate_to(end.plus(1));
        self.epochs_dirty |= self.epochs.trim_to(self.log_start);
        (self.sleep, self.resting) = (Sleep::Asleep { pristine: true }, true);
        Some(())
    }

    /// What a manifest is to say of this log, once it is closed. `None` of one that the next start has to look at: it is not
    /// closed in order, or holds damage.
    pub fn stopped(&self) -> Option<StoppedLog> {
        let name = self.dir.file_name()?.to_str()?.to_owned();
        let checkpoint = self.checkpoint.last?;
        let whole = self.state == State::Closed
            && self.quarantine.is_empty()
            && self.compaction.left_nothing()
            && !self.epochs_dirty;
        let live = self.segments.back()?.live().filter(|_| whole)?;
        Some(StoppedLog(Entry {
            name,
            modified_ms: 0,
            topic_id: self.topic_id,
            checkpoint,
            epochs: self.epochs.entries().to_vec(),
            snapshots: self.snapshots.clone(),
            producers: self.producers.snapshot(),
            segments: self.segments.iter().map(entry_of).collect(),
            indexes: [live.index.offset_bytes().to_vec(), live.index.time_bytes().to_vec()],
        }))
    }

    /// Whether the log can be used at once; readers wait until it can.
    pub(super) fn is_awake(&self) -> bool {
        self.sleep == Sleep::Awake
    }

    /// Whether the log can be used at once. If not, that is on its way.
    pub(super) fn is_awake_or_wakes(&mut self) -> bool {
        if let Sleep::Asleep { .. } = self.sleep {
            self.wake();
        }
        self.is_awake()
    }

    /// Something on disk changes.
    pub(super) fn is_pristine_no_more(&mut self) {
        if let Sleep::Asleep { pristine } = &mut self.sleep {
            *pristine = false;
        }
    }

    fn wake(&mut self) {
        self.sleep = Sleep::Waking;
        let active = self.active();
        let (path, size) = (self.path(FileKind::Log, active.base), active.size);
        let mut steps = vec![Step::Open { path, how: OpenHow::Write, direct: self.settings.direct }];
        let floor = size / BLOCK * BLOCK;
        if size > floor {
            steps.push(Step::Read { at: FilePos::new(floor), len: (size - floor) as usize });
            // The block is written as a whole from now on, and no write extends the file.
            steps.extend([Step::Truncate { len: size.next_multiple_of(BLOCK) }, Step::Sync]);
        }
        self.run(Purpose::Wake, steps);
    }

    /// The file is open and the last block there.
    pub(super) fn woken(&mut self, script: &Script) {
        let limits = self.settings.limits;
        let active = self.segments.back_mut().expect("a log that serves has a segment");
        let (base, size) = (active.base, active.size);
        let live = active.live_mut().expect("the last segment is live");
        live.file = script.file();
        live.prepared = size.next_multiple_of(BLOCK);
        let place = live.place.plus(size);
        let missing = place.since(place.block_floor()) as usize - script.data().len();
        if missing > 0 {
            let file =
                format!("segment {base}, whose last {missing} bytes are gone since the log was opened");
            return self.fail("open", IoError::of(ErrorKind::Other, "read", file));
        }
        self.tail.replace(Tail::new(live.place, place, script.data(), &limits));
        (self.sleep, self.resting) = (Sleep::Awake, false);
        self.readers.idle_from = None;
    }
}

fn segment_of(entry: SegmentEntry, phase: Phase) -> Segment {
    let SegmentEntry { base, end, size, largest, oldest, modified_ms, aborted } = entry;
    Segment { end, size, largest, oldest, aborted, ..Segment::new(base, modified_ms, phase) }
}

fn entry_of(segment: &Segment) -> SegmentEntry {
    let Segment { base, end, size, largest, oldest, modified_ms, ref aborted, .. } = *segment;
    SegmentEntry { base, end, size, largest, oldest, modified_ms, aborted: aborted.clone() }
}

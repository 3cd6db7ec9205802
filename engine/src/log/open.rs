//! Opening a log's directory: what is there, what is proven, what must be read, and making it whole. Blocking, before
//! serving; the only place that cuts.

use std::path::{Path, PathBuf};

use highwater_base::{FilePos, Mutant, Now, Offset, Uuid};
use highwater_io::{EntryKind, ErrorKind, FileId, IoError, Op, OpenHow, Outcome, Park, blocking};

use super::script::{Progress, Script, Step, replace_file};
use super::{Log, State};
use crate::checkpoint_file::{decode_partition_metadata, text_of};
use crate::epochs::EpochCache;
use crate::layout::{CHECKPOINT, FileKind, FileName, FileState, LEADER_EPOCHS, PARTITION_METADATA};
use crate::recovery::{Checkpoint, Triage, triage};
use crate::{LogSettings, OpenError, RecoveryReport};

/// What is known about a log before it is opened.
///
/// ```
/// let hint = highwater_engine::OpenHint::default();
/// assert!(!hint.clean_stop && hint.log_start.is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenHint {
    /// The directory was stopped cleanly: nothing needs scanning but the last batches.
    pub clean_stop: bool,
    /// The log start offset, from Kafka's checkpoint file; `None`: the first segment's base. Where a checkpoint of ours is in the
    /// log's directory, that one's holds.
    pub log_start: Option<Offset>,
    /// Up to where Apache Kafka's checkpoint file says that data was flushed. Ours is in the log's directory.
    pub recovery_point: Option<Offset>,
    /// Up to where the log was compacted, from the checkpoint file; `None`: not known.
    pub cleaned_to: Option<Offset>,
    /// The topic's id; a directory with another one is refused.
    pub topic_id: Option<Uuid>,
    /// Somebody else (Apache Kafka) has written the log since it was last open here: our checkpoint and our seals are
    /// void, and are removed before anything else.
    pub stale: bool,
}

/// A segment's file as it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnDisk {
    pub(super) base: Offset,
    pub(super) len: u64,
    pub(super) modified_ms: i64,
}

impl Log {
    /// Opens a log's directory and makes it whole, waiting for the disk. Before serving only: nothing else may
    /// be in flight on `io`.
    ///
    /// Directories that Apache Kafka wrote open as they are, cleanly stopped or not. What lies behind the last checkpoint
    /// is read and judged: a torn end is cut, rot is kept and refused to readers, everything else is served. The report
    /// says what was found and done. Opening a recovered directory again changes nothing.
    pub fn open(
        io: &mut dyn Park,
        now: Now,
        dir: &Path,
        owner: u32,
        settings: LogSettings,
        hint: OpenHint,
    ) -> Result<(Log, RecoveryReport), OpenError> {
        settings.check().map_err(OpenError::Setting)?;
        let mut report = RecoveryReport::default();
        let mut found = list(io, dir)?;
        let topic_id = read_topic_id(io, dir, &found)?;
        if let (Some(expected), Some(found)) = (hint.topic_id, topic_id)
            && expected != found
        {
            return Err(OpenError::TopicId { dir: dir.to_path_buf(), expected, found });
        }
        if hint.stale {
            remove_void(io, dir, &mut found, &mut report)?;
        }
        settle_names(io, dir, &mut found, &settings, &mut report)?;
        let mut epochs = match found.epochs {
            // Kafka makes it empty: beside records that says nothing.
            true => read_file(io, &dir.join(LEADER_EPOCHS))?
                .filter(|bytes| !bytes.is_empty())
                .and_then(|bytes| EpochCache::decode(text_of(&bytes)).ok()),
            false => None,
        };
        let checkpoint = match found.checkpoint {
            true => read_file(io, &dir.join(CHECKPOINT))?.and_then(|bytes| Checkpoint::newest(&bytes)),
            false => None,
        };
        let kept_from = checkpoint.map_or(Offset::ZERO, |checkpoint| checkpoint.log_start);
        remove_retired(io, dir, &mut found, kept_from, &mut report)?;
        let mut segments = on_disk(io, dir, &found.segments)?;
        if settings.mutant != Mutant::SideSumsIgnored {
            let proven = checkpoint.filter(|checkpoint| is_reached(checkpoint, &segments));
            epochs = epochs.filter(|epochs| proven.is_none_or(|proven| is_as_noted(&proven, epochs)));
        }
        // One that cannot be read, or is not what it was, is as good as none.
        found.epochs = epochs.is_some();
        report.segments = segments.len();
        report.log_bytes = segments.iter().map(|segment| segment.len).sum();
        let topic_id = topic_id.or(hint.topic_id);
        // Kafka's file has no checksum: beside ours, which has one, nothing follows from it.
        let start = checkpoint.map(|checkpoint| checkpoint.log_start).or(hint.log_start);
        let mut log = Log::blank(now, dir, owner, settings, topic_id, start.unwrap_or(Offset::ZERO));
        log.epochs_dirty = epochs.is_none() && segments.iter().any(|segment| segment.len > 0);
        log.epochs = epochs.unwrap_or_default();
        log.snapshots = found.snapshots.clone();
        if !hint.clean_stop {
            log.settle_directory(io, checkpoint.is_none_or(|checkpoint| checkpoint.sequence == 0))?;
        }
        if segments.is_empty() {
            segments.push(log.make_segment(io, now, log.log_start, &mut report)?);
        } else if let Some(end) = log.missing_end(io, &found, &segments, checkpoint)? {
            segments.push(log.make_segment(io, now, end, &mut report)?);
        }
        log.recover(io, now, &found, segments, checkpoint, hint, &mut report)?;
        let first = log.segments[0].base;
        log.log_start = log.log_start.max(first);
        if log.log_end < log.log_start {
            // What the checkpoint files say was kept is gone: begin where the log should (kafka.md 3.5).
            log.drop_everything(io, now, hint, &mut report)?;
        }
        log.epochs_dirty |= log.epochs.truncate_to(log.log_end.plus(1));
        log.epochs_dirty |= log.epochs.trim_to(log.log_start);
        if std::mem::take(&mut log.epochs_dirty) {
            // Here and not by the first step, so that opening it again finds nothing to do.
            let text = log.epochs.encode().into_bytes();
            let mut steps = replace_file(dir.join(LEADER_EPOCHS), text);
            steps.push(Step::SyncDir { path: dir.to_path_buf() });
            run(io, steps)?;
            report.changed = true;
        }
        log.quarantine.trim(log.log_start);
        log.compaction.cleaned_to = hint.cleaned_to.unwrap_or(Offset::NONE);
        log.read_oldest(io)?;
        log.high_watermark = log.log_start;
        log.announced_start = log.log_start;
        log.state = State::Open;
        log.due = true;
        log.debug_invariants();
        Ok((log, report))
    }

    /// The process may have died, and not the machine, with names on their way: what is found here must not be taken
    /// away by the next power cut. A log whose checkpoint is not its first was once ready, so its own name is durable.
    fn settle_directory(&self, io: &mut dyn Park, is_new: bool) -> Result<(), OpenError> {
        let mut steps = vec![Step::SyncDir { path: self.dir.clone() }];
        if let Some(parent) = self.dir.parent().filter(|parent| is_new && !parent.as_os_str().is_empty()) {
            steps.push(Step::SyncDir { path: parent.to_path_buf() });
        }
        run(io, steps)?;
        Ok(())
    }

    /// The times from which `max.compaction.lag.ms` counts, where that is set.
    fn read_oldest(&mut self, io: &mut dyn Park) -> Result<(), OpenError> {
        if self.settings.compaction.is_none_or(|settings| settings.max_lag_ms == u64::MAX) {
            return Ok(());
        }
        for index in 0..self.segments.len() {
            let segment = &self.segments[index];
            if segment.oldest.is_none() && segment.size > 0 {
                let path = self.path(FileKind::Log, segment.base);
                let head = read_at(io, path, 0, crate::batch::HEADER_BYTES)?;
                self.segments[index].oldest =
                    crate::batch::Header::decode(&head).map(|header| header.max_timestamp());
            }
        }
        Ok(())
    }

    /// An empty segment.
    fn make_segment(
        &self,
        io: &mut dyn Park,
        now: Now,
        base: Offset,
        report: &mut RecoveryReport,
    ) -> Result<OnDisk, OpenError> {
        let path = self.path(FileKind::Log, base);
        let how = OpenHow::CreateOrEmpty;
        let direct = self.settings.direct;
        run(io, [Step::Open { path, how, direct }, Step::Close, Step::SyncDir { path: self.dir.clone() }])?;
        report.changed = true;
        Ok(OnDisk { base, len: 0, modified_ms: now.wall.get() })
    }

    fn drop_everything(
        &mut self,
        io: &mut dyn Park,
        now: Now,
        hint: OpenHint,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let sync = || Step::SyncDir { path: self.dir.clone() };
        // The newest first, each durably, so that a crash leaves a log without a hole.
        let mut steps = vec![Step::Unlink { path: self.dir.join(CHECKPOINT) }, sync()];
        for segment in self.segments.drain(..).rev() {
            if let Some(file) = segment.file() {
                steps.extend([Step::Adopt(file), Step::Close]);
            }
            for kind in super::retain::SEGMENT_FILES {
                let path = self.dir.join(FileName::live(kind, segment.base).to_string());
                report.removed.push(path.clone());
                steps.push(Step::Remove { path });
            }
            steps.push(sync());
        }
        run(io, steps)?;
        self.checkpoint = Default::default();
        self.quarantine = Default::default();
        self.epochs.clear();
        self.epochs_dirty = true;
        self.producers.clear();
        let segment = self.make_segment(io, now, self.log_start, report)?;
        let found = list(io, &self.dir)?;
        self.snapshots = found.snapshots.clone();
        self.recover(io, now, &found, vec![segment], None, hint, report)
    }
}

/// Whether a checkpoint's segment is there, and all that it proves of it.
fn is_reached(checkpoint: &Checkpoint, on_disk: &[OnDisk]) -> bool {
    let of_it = on_disk.iter().find(|file| file.base == checkpoint.segment);
    of_it.is_some_and(|file| file.len >= checkpoint.position.get())
}

/// Whether the leader epochs are those that a checkpoint counts on.
pub(super) fn is_as_noted(checkpoint: &Checkpoint, epochs: &EpochCache) -> bool {
    let found = epochs.sum(checkpoint.log_start, checkpoint.offset);
    checkpoint.sums.is_none_or(|sums| sums.epochs == found)
}

/// The files of these segments.
pub(super) fn on_disk(io: &mut dyn Park, dir: &Path, bases: &[Offset]) -> Result<Vec<OnDisk>, OpenError> {
    let mut segments = Vec::with_capacity(bases.len());
    for &base in bases {
        let path = dir.join(FileName::live(FileKind::Log, base).to_string());
        let Outcome::Stat { len, modified_ms, .. } = blocking::run(io, Op::Stat { path })? else {
            unreachable!("a stat answers with facts")
        };
        segments.push(OnDisk { base, len, modified_ms });
    }
    Ok(segments)
}

/// Runs steps to their end. Space or handles that are missing for a moment are waited for.
pub(super) fn run(io: &mut dyn Park, steps: impl IntoIterator<Item = Step>) -> Result<Script, IoError> {
    let mut script = Script::new(steps);
    let mut tries = 0;
    while let Some(op) = script.next_op() {
        match script.complete(blocking::run(io, op)) {
            Progress::Next => {}
            Progress::Retry(_) if tries < RETRIES => {
                tries += 1;
                // Nothing is in flight: this only lets time pass.
                io.park(Some(RETRY_AFTER), &mut Vec::new());
            }
            Progress::Retry(error) | Progress::Failed(error) => {
                if let Some(file) = script.file() {
                    // What went wrong is said already.
                    drop(blocking::run(io, Op::Close { file }));
                }
                return Err(error);
            }
        }
    }
    Ok(script)
}

/// How often, and after how long, a step of an opening is tried again for want of space or handles.
const RETRIES: u32 = 20;
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(50);

/// A whole file, if it is there.
pub(super) fn read_file(io: &mut dyn Park, path: &Path) -> Result<Option<Vec<u8>>, IoError> {
    let script = run(io, [Step::Load { path: path.to_path_buf(), len: i32::MAX as usize }])?;
    Ok(script.loaded(0).map(<[u8]>::to_vec))
}

/// Opens a segment's file.
pub(super) fn open_file(
    io: &mut dyn Park,
    path: PathBuf,
    how: OpenHow,
    direct: bool,
) -> Result<FileId, IoError> {
    let script = run(io, [Step::Open { path, how, direct }])?;
    Ok(script.file().expect("the script leaves it open"))
}

fn list(io: &mut dyn Park, dir: &Path) -> Result<Triage, OpenError> {
    let Outcome::Entries { entries } = blocking::run(io, Op::ReadDir { path: dir.to_path_buf() })? else {
        unreachable!("a directory answers with entries")
    };
    let files = entries.iter().filter(|entry| entry.kind == EntryKind::File);
    Ok(triage(files.filter_map(|entry| entry.name.to_str())))
}

fn read_topic_id(io: &mut dyn Park, dir: &Path, found: &Triage) -> Result<Option<Uuid>, OpenError> {
    if !found.metadata {
        return Ok(None);
    }
    let file = dir.join(PARTITION_METADATA);
    let Some(bytes) = read_file(io, &file)? else { return Ok(None) };
    match decode_partition_metadata(text_of(&bytes)) {
        Ok(id) => Ok(Some(id)),
        Err(error) => Err(OpenError::Unreadable { file, why: error.to_string() }),
    }
}

/// Removes what we said of a log that somebody else has written since. A compacted segment can have the name, and the
/// modification time, of the one that a seal is of.
fn remove_void(
    io: &mut dyn Park,
    dir: &Path,
    found: &mut Triage,
    report: &mut RecoveryReport,
) -> Result<(), OpenError> {
    let seals = found.files.iter().filter(|(_, kind)| *kind == FileKind::Seal);
    let mut void: Vec<PathBuf> =
        seals.map(|(base, kind)| dir.join(FileName::live(*kind, *base).to_string())).collect();
    found.files.retain(|(_, kind)| *kind != FileKind::Seal);
    if std::mem::take(&mut found.checkpoint) {
        void.push(dir.join(CHECKPOINT));
    }
    if void.is_empty() {
        return Ok(());
    }
    let mut steps: Vec<Step> = void.iter().map(|path| Step::Remove { path: path.clone() }).collect();
    steps.push(Step::SyncDir { path: dir.to_path_buf() });
    run(io, steps)?;
    report.removed.append(&mut void);
    report.changed = true;
    Ok(())
}

/// Finishes what an interrupted replacement began, and removes what does not belong.
fn settle_names(
    io: &mut dyn Park,
    dir: &Path,
    found: &mut Triage,
    settings: &LogSettings,
    report: &mut RecoveryReport,
) -> Result<(), OpenError> {
    let sync = || Step::SyncDir { path: dir.to_path_buf() };
    let mut renames = Vec::new();
    let swapped: Vec<Offset> =
        found.swaps.iter().filter(|swap| swap.kind == FileKind::Log).map(|swap| swap.offset).collect();
    if !found.swaps.is_empty() {
        let mut end = Offset::NONE;
        for swap in found.swaps.iter().filter(|swap| swap.kind == FileKind::Log) {
            end = end.max(last_offset(io, &dir.join(swap.to_string()), swap.offset, settings)?.plus(1));
        }
        let start = swapped.first().copied().unwrap_or(Offset::MAX);
        // One without a batch replaces at least the one of its own name.
        let end = end.max(start.plus(i64::from(!swapped.is_empty())));
        renames = found.swap_in(start, end);
    }
    // A crash may come here too, and leave any of the names between two syncs. Replacements that are undone go before
    // what says that they are; what was replaced goes before the replacement gets its name; and batches get theirs
    // before their indexes, since an index beside a replacement could be the old one.
    let (undone, rest): (Vec<String>, Vec<String>) =
        std::mem::take(&mut found.remove).into_iter().partition(|name| has_suffix(name, FileState::Swap));
    let (logs, others): (Vec<_>, Vec<_>) = renames.into_iter().partition(|(_, to)| to.ends_with(".log"));
    let mut steps = Vec::new();
    for names in [undone, rest] {
        let paths: Vec<PathBuf> = names.into_iter().map(|name| dir.join(name)).collect();
        report.removed.extend(paths.iter().cloned());
        let any = !paths.is_empty();
        steps.extend(paths.into_iter().map(|path| Step::Remove { path }));
        steps.extend(any.then(sync));
    }
    for renames in [logs, others] {
        let any = !renames.is_empty();
        steps.extend(
            renames.into_iter().map(|(from, to)| Step::Rename { from: dir.join(from), to: dir.join(to) }),
        );
        steps.extend(any.then(sync));
    }
    if !steps.is_empty() {
        report.changed = true;
        run(io, steps)?;
    }
    Ok(())
}

fn has_suffix(name: &str, state: FileState) -> bool {
    FileName::parse(name).is_some_and(|name| name.state == state)
}

/// Removes the segments that retention had given up before the crash: those wholly below the durable log start. Some
/// of their files may be renamed already, in any order.
fn remove_retired(
    io: &mut dyn Park,
    dir: &Path,
    found: &mut Triage,
    log_start: Offset,
    report: &mut RecoveryReport,
) -> Result<(), OpenError> {
    let keep = found.segments.partition_point(|base| *base <= log_start).saturating_sub(1);
    let mut steps = Vec::new();
    for base in found.segments.drain(..keep) {
        for kind in super::retain::SEGMENT_FILES {
            if found.files.remove(&(base, kind)) {
                let path = dir.join(FileName::live(kind, base).to_string());
                report.removed.push(path.clone());
                steps.push(Step::Remove { path });
            }
        }
        found.snapshots.retain(|snapshot| *snapshot != base);
    }
    if !steps.is_empty() {
        steps.push(Step::SyncDir { path: dir.to_path_buf() });
        report.changed = true;
        run(io, steps)?;
    }
    Ok(())
}

/// The last offset of a complete file, or the one before its base.
fn last_offset(
    io: &mut dyn Park,
    path: &Path,
    base: Offset,
    settings: &LogSettings,
) -> Result<Offset, OpenError> {
    use crate::recovery::{WalkRules, Window, walk};
    let Outcome::Stat { len, .. } = blocking::run(io, Op::Stat { path: path.to_path_buf() })? else {
        unreachable!("a stat answers with facts")
    };
    let file = open_file(io, path.to_path_buf(), OpenHow::Read, settings.direct)?;
    let mut window = Window::new(file, len, settings.limits.read_bytes);
    let mutant = settings.mutant;
    let rules = WalkRules { base, limit: Offset::MAX, epochs: None, mutant, end_offset: None };
    let walked = walk(io, &mut window, (0, base), len, &rules, |_, _, _| {});
    blocking::run(io, Op::Close { file })?;
    Ok(walked?.next.plus(-1))
}

/// Reads part of a file that is there: fewer bytes at its end, none if it is missing.
pub(super) fn read_at(io: &mut dyn Park, path: PathBuf, at: u64, len: usize) -> Result<Vec<u8>, IoError> {
    let steps = [
        Step::Open { path, how: OpenHow::Read, direct: false },
        Step::Read { at: FilePos::new(at), len },
        Step::Close,
    ];
    match run(io, steps) {
        Ok(script) => Ok(script.data().to_vec()),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

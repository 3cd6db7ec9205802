//! Deleted segments used again: one that retention has deleted becomes the log's next segment, on blocks that are written.
//!
//! It is **wiped** first: zeros over all that is kept of it, durable before it is renamed to `next.prepared`. So no file
//! with a segment's name ever holds a byte of another segment, whatever a crash keeps and loses, and recovery has no rule
//! for such bytes. `docs/decisions/0010-recycled-segments-are-wiped.md` says why nothing less will do, and why it is done
//! only where space is written with zeros anyway. Until it is wiped it keeps its `.deleted` name, so that a start removes
//! it. That it cannot be used is never a reason for the log to fail.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use highwater_base::{BLOCK, FilePos, Mutant};
use highwater_io::{Buffer, FileId, Io, OpenHow, Prepared, Slice};

use super::flight::Purpose;
use super::retain::Waiting;
use super::roll::NextFile;
use super::script::{Script, Step, cut_steps};
use super::{Log, State};
use crate::layout::PREPARED;
use crate::segment::{Settled, wants_zeros};

/// The space that recycled segments hold until they are used, together below 1 GiB: one for each data directory, shared by
/// its logs ([`Log::share_recycle_space`]). A clone is the same space.
///
/// ```
/// let space = highwater_engine::RecycleSpace::default();
/// assert_eq!(space.held(), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct RecycleSpace {
    held: Arc<AtomicU64>,
}

/// All recycled segments of a directory hold less than this.
const MOST: u64 = 1 << 30;

impl RecycleSpace {
    /// Bytes that are held now.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Holds as many whole blocks as there are, up to `wanted` bytes; none if that would be fewer than `least`.
    fn hold(&self, wanted: u64, least: u64) -> Option<Held> {
        let part = |held: u64| wanted.min((MOST - 1).saturating_sub(held)) / BLOCK * BLOCK;
        let enough = |held: u64| Some(part(held)).filter(|part| *part >= least.max(BLOCK));
        let before = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| enough(held).map(|part| held + part));
        before.ok().map(|before| Held { bytes: part(before), space: self.clone() })
    }
}

/// A part of a [`RecycleSpace`], given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: u64,
    space: RecycleSpace,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.space.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What is being made of a deleted segment, and how often it came to be used.
#[derive(Debug, Default)]
pub(crate) struct Recycling {
    /// None: this log shares its directory's space with nobody.
    space: Option<RecycleSpace>,
    kept: Option<Box<Kept>>,
    used: u64,
}

/// A deleted segment that is being wiped.
#[derive(Debug)]
struct Kept {
    /// Its name, which says that it is deleted.
    path: PathBuf,
    /// Open for writing, once it is.
    file: Option<FileId>,
    /// How long the file is.
    file_len: u64,
    /// How much of it is wiped, from its beginning.
    wiped: u64,
    /// Where the log ended when it was taken.
    begun: u64,
    /// What will be used of it.
    held: Held,
}

/// Bytes wiped for each byte appended, until the next file is wanted soon: a file is ready by the time that the active
/// segment is half full, and the device is not kept from the appends.
const PACE: u64 = 2;

impl Log {
    /// How many segments of this log began in a recycled file since it was opened.
    pub fn segments_recycled(&self) -> u64 {
        self.recycling.used
    }

    /// The space that this log's recycled segment counts in: all logs of a data directory should share one. Without it each
    /// log has its own.
    pub fn share_recycle_space(&mut self, space: &RecycleSpace) {
        self.recycling.space = Some(space.clone());
    }

    /// Whether deleted segments are used again: where space is written with zeros, while the log is in use, and there is
    /// room. Compaction's segments are of any size and age, and go; a log that moves leaves its files behind.
    fn recycles(&self) -> bool {
        self.state == State::Open
            && wants_zeros(&self.settings)
            && self.settings.compaction.is_none()
            && !self.has_copy()
            && !self.resting
            && self.no_space.is_none()
            && self.room.low().is_none()
    }

    /// Takes a file that is about to be removed, or gives it back.
    pub(super) fn take_deleted(&mut self, waiting: Waiting) -> Option<Waiting> {
        let Some(bytes) = waiting.bytes else { return Some(waiting) };
        let has_one =
            self.recycling.kept.is_some() || self.next.as_ref().is_some_and(|next| next.recycled.is_some());
        let busy = self.is_running(&Purpose::Recycle) || self.is_running(&Purpose::Reuse);
        if has_one || busy || !self.recycles() || !self.compaction_is_quiet() {
            return Some(waiting);
        }
        let most = self.settings.segment_bytes.next_multiple_of(BLOCK);
        let least = self.settings.limits.prepare_min_bytes.min(most);
        let space = self.recycling.space.get_or_insert_default();
        let Some(held) = space.hold(bytes.min(most), least) else { return Some(waiting) };
        // Closed before anything is written: what is in flight on it comes first.
        let file = waiting.file.filter(|_| self.settings.mutant != Mutant::RecycledWhileRead);
        let mut steps: Vec<Step> =
            file.into_iter().flat_map(|file| [Step::Adopt(file), Step::Close]).collect();
        steps.extend([
            Step::Stat { path: waiting.path.clone() },
            Step::Open { path: waiting.path.clone(), how: OpenHow::Write, direct: self.settings.direct },
        ]);
        self.recycling.kept = Some(Box::new(Kept {
            path: waiting.path,
            file: None,
            file_len: bytes,
            wiped: 0,
            begun: self.tail.end().get(),
            held,
        }));
        self.run(Purpose::Recycle, steps);
        None
    }

    /// Wipes the next part if its time has come; names the file once all of it is wiped; lets go of what will not be used.
    pub(super) fn drive_recycling(&mut self, io: &mut dyn Io) {
        if self.state != State::Open || self.is_running(&Purpose::Recycle) || self.is_running(&Purpose::Reuse)
        {
            return;
        }
        if !self.recycles() {
            return self.let_go_recycled();
        }
        let appended = self.tail.end().get();
        let step = self.settings.limits.prepare_max_bytes;
        let (free, soon) = (self.next_name_is_free(), self.rolls_soon());
        let Some(kept) = &mut self.recycling.kept else { return };
        let (Some(file), len) = (kept.file, kept.held.bytes) else { return };
        // A cut begins the count anew.
        kept.begun = kept.begun.min(appended);
        let due = soon || kept.wiped <= (appended - kept.begun).saturating_mul(PACE);
        if kept.wiped < len && due {
            let (at, part) = (FilePos::new(kept.wiped), step.min(len - kept.wiped));
            let mut steps = vec![Step::Adopt(file)];
            if kept.file_len > len {
                steps.extend(cut_steps(kept.file_len, len));
                // For good: what is behind the cut is not wiped, and must not come back.
                steps.push(Step::Sync);
            }
            match self.settings.mutant {
                Mutant::RecycledUnwiped => {}
                Mutant::RecycledUnsynced => {
                    steps.retain(|step| !matches!(step, Step::Sync));
                    steps.push(Step::Write { at, data: zeros(io.buffer(part as usize)) });
                }
                _ => steps.push(Step::Prepare { at, len: part, how: Prepared::Zeroed }),
            }
            self.run(Purpose::Recycle, steps);
        } else if kept.wiped == len && free {
            let (from, to) = (kept.path.clone(), self.dir.join(PREPARED));
            // Durable by itself: the name that it gets at the roll must not meet the one that it had.
            let named = [Step::Rename { from, to }, Step::SyncDir { path: self.dir.clone() }];
            self.run(Purpose::Reuse, [Step::Adopt(file)].into_iter().chain(named));
        }
    }

    /// Whether a file is on its way to become the next.
    pub(super) fn is_recycling(&self) -> bool {
        self.recycling.kept.is_some()
    }

    /// It was opened, or a part of it was wiped.
    pub(super) fn recycled_step(&mut self, script: &Script) {
        let step = self.settings.limits.prepare_max_bytes;
        let Some(kept) = &mut self.recycling.kept else { return };
        if kept.file.is_some() {
            kept.file_len = kept.held.bytes;
            kept.wiped = (kept.wiped + step).min(kept.held.bytes);
            return;
        }
        kept.file = script.file();
        if script.links() > 1 {
            // Somebody keeps it under another name, a backup say: it is theirs.
            self.let_go_recycled();
        }
    }

    /// It has the name of the log's next file.
    pub(super) fn reused(&mut self) {
        let Some(kept) = self.recycling.kept.take() else { return };
        let file = kept.file.expect("it was wiped");
        let (prepared, mut settled) = (kept.held.bytes, Settled::default());
        settled.zeroed(0, prepared);
        self.next = Some(Box::new(NextFile { file, prepared, settled, recycled: Some(kept.held) }));
    }

    /// What could not be made of it: it goes as it would have gone.
    pub(super) fn recycling_failed(&mut self, file: Option<FileId>) {
        if let Some(kept) = &mut self.recycling.kept {
            kept.file = kept.file.or(file);
        }
        self.let_go_recycled();
    }

    /// A new segment begins in `next`.
    pub(super) fn note_recycled(&mut self, next: &NextFile) {
        self.recycling.used += u64::from(next.recycled.is_some());
    }

    /// The log does without: what is kept goes, and of a file that is wiped and waits stays what any log keeps ready.
    fn let_go_recycled(&mut self) {
        if let Some(kept) = self.recycling.kept.take() {
            let mut steps: Vec<Step> =
                kept.file.into_iter().flat_map(|file| [Step::Adopt(file), Step::Close]).collect();
            steps.push(Step::Remove { path: kept.path });
            self.run(Purpose::Remove, steps);
        }
        if let Some(next) = self.next.take_if(|next| next.recycled.is_some()) {
            let len = self.settings.limits.prepare_min_bytes.min(next.prepared) / BLOCK * BLOCK;
            let mut steps = vec![Step::Adopt(next.file)];
            steps.extend(cut_steps(next.prepared, len));
            steps.push(Step::Prepare { at: FilePos::ZERO, len, how: Prepared::Zeroed });
            self.run(Purpose::Next, steps);
        }
    }

    /// The files that it holds open, and what to remove: the log is closed, or its directory goes.
    pub(super) fn take_recycled(&mut self) -> (Option<FileId>, Option<PathBuf>) {
        let kept = self.recycling.kept.take();
        kept.map_or((None, None), |kept| (kept.file, Some(kept.path)))
    }
}

/// A buffer full of zeros.
fn zeros(mut buffer: Buffer) -> Slice {
    let len = buffer.spare_mut().len();
    buffer.spare_mut().fill(0);
    buffer.set_len(len);
    buffer.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_s_logs_hold_less_than_a_gibibyte_together() {
        let space = RecycleSpace::default();
        let first = space.hold(600 << 20, 1 << 20).expect("there is room");
        assert_eq!(first.bytes, 600 << 20);
        let second = space.clone().hold(600 << 20, 1 << 20).expect("there is some room");
        assert_eq!(second.bytes, (424 << 20) - BLOCK);
        assert!(space.held() < MOST);
        assert!(space.hold(1 << 20, 1 << 20).is_none());
        drop(second);
        assert_eq!(space.held(), 600 << 20);
        assert!(space.hold(500 << 20, 425 << 20).is_none(), "less than the least is of no use");
        drop(first);
        assert_eq!(space.held(), 0);
        assert_eq!(space.hold(BLOCK + 1, 0).expect("there is room").bytes, BLOCK);
    }
}

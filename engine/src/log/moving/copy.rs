//! Slices of a move: segments as bytes, then what lies beside them.

use highwater_base::{BLOCK, FilePos, Mutant, Now, Offset, WallMs};
use highwater_io::{ErrorKind, FileId, Io, IoError, OpenHow, Prepared, Slice};

use super::{Log, LogEvent, Stage, State, nearly, pause};
use crate::layout::{FileKind, FileName};
use crate::log::flight::Purpose;
use crate::log::script::{Script, Step, write_file};
use crate::seal::Seal;
use crate::segment::Phase;

/// A segment being copied.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) base: Offset,
    /// Bytes copied; whole blocks until the end.
    pub(super) at: u64,
    /// Bytes being read, or written.
    asked: usize,
    /// Read and not written yet.
    read: Option<Slice>,
    /// Where the segment's file ends, if that was found to be before the segment does: rot, which is copied as it is.
    ends: Option<u64>,
    /// The segment has another content by now.
    pub(super) stale: bool,
    step: Beside,
    modified_ms: i64,
}

/// How far a segment whose bytes are all copied has come.
#[derive(Debug)]
enum Beside {
    /// Bytes may come.
    Open,
    /// Its file is cut to its length and synced.
    Settled,
    /// What lies beside it was read: by kind.
    Read(Vec<(FileKind, Vec<u8>)>),
}

/// What the slice in flight is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doing {
    Nothing,
    Begin,
    OpenSource,
    OpenOutput,
    Read,
    Write,
    Settle,
    ReadBeside,
    WriteBeside,
    /// Of the end of the log: see the switch.
    Finish,
}

/// What a sealed segment has beside its batches.
const BESIDE: [FileKind; 5] =
    [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TxnIndex, FileKind::Snapshot, FileKind::Seal];

impl Copying {
    pub(super) fn of(base: Offset) -> Copying {
        Copying {
            base,
            at: 0,
            asked: 0,
            read: None,
            ends: None,
            stale: false,
            step: Beside::Open,
            modified_ms: 0,
        }
    }
}

impl Log {
    /// Bytes that the copy lacks.
    fn missing_bytes(&self) -> u64 {
        let Some(running) = &self.moving.running else { return u64::MAX };
        let missing = |segment: &&crate::segment::Segment| !running.copied.contains_key(&segment.base);
        let bytes: u64 = self.segments.iter().filter(missing).map(|segment| segment.size).sum();
        bytes - running.copy.as_ref().map_or(0, |copy| copy.at.min(bytes))
    }

    /// Whether the rest can be copied while appends wait: only the active segment is missing, and little of it.
    pub(super) fn is_nearly_copied(&self) -> bool {
        let active = self.active().base;
        let following = |copy: &Copying| copy.base == active && !copy.stale;
        let running = self.moving.running.as_ref();
        running.and_then(|running| running.copy.as_ref()).is_some_and(following)
            && self.missing_bytes() <= nearly(self)
            && running.is_some_and(|running| self.segments.len() == self.copied_now(running) + 1)
    }

    fn copied_now(&self, running: &super::Running) -> usize {
        self.segments.iter().filter(|segment| running.copied.contains_key(&segment.base)).count()
    }

    /// Submits what comes next.
    pub(super) fn next_move_slice(&mut self, now: Now, io: &mut dyn Io) {
        if self.is_nearly_copied() {
            let finish = self.moving.finish;
            if let Some(running) = self.moving.running.as_mut().filter(|running| !running.told) {
                running.told = true;
                self.events.push_back(LogEvent::MoveCaughtUp);
            }
            if finish && self.state == State::Open {
                return self.begin_switch();
            }
        }
        let switching = matches!(self.state, State::Switching(_));
        if self.state == State::Switching(Stage::Draining) && self.is_drained_for_switch() {
            self.state = State::Switching(Stage::Copying);
        }
        let rate = self.moving.rate;
        let Some(running) = self.moving.running.as_mut() else { return };
        if !switching && (rate == 0 || now.mono < running.next_slice) {
            return;
        }
        let known = |base: Offset| self.segments.binary_search_by_key(&base, |segment| segment.base).ok();
        if running.copy.as_ref().is_some_and(|copy| copy.stale || known(copy.base).is_none()) {
            running.copy = None;
            return self.close_and_go_on(io);
        }
        let Some(copy) = &running.copy else {
            let next = self.segments.iter().find(|segment| !running.copied.contains_key(&segment.base));
            let Some(base) = next.map(|segment| segment.base) else { return };
            running.made.insert(base);
            running.copy = Some(Copying::of(base));
            let (path, direct) = (self.path(FileKind::Log, base), self.settings.direct);
            return self.submit_move(
                Doing::OpenSource,
                None,
                [Step::Open { path, how: OpenHow::Read, direct }],
            );
        };
        if running.output.is_none() && matches!(copy.step, Beside::Open) {
            return self.open_copy();
        }
        if let Some(data) = copy.read.clone() {
            let (at, output) = (FilePos::new(copy.at), running.output);
            return self.submit_move(Doing::Write, output, [Step::Write { at, data }]);
        }
        self.read_or_settle(now);
    }

    pub(super) fn close_and_go_on(&mut self, io: &mut dyn Io) {
        self.close_copied_files(io);
        self.due = true;
    }

    pub(super) fn submit_move(
        &mut self,
        doing: Doing,
        file: Option<FileId>,
        steps: impl IntoIterator<Item = Step>,
    ) {
        if let Some(running) = self.moving.running.as_mut() {
            running.doing = doing;
        }
        self.run(Purpose::Move, file.map(Step::Adopt).into_iter().chain(steps));
    }

    fn open_copy(&mut self) {
        let Some(running) = &self.moving.running else { return };
        let Some(copy) = &running.copy else { return };
        let space = self.segment_index(copy.base).map_or(0, |index| self.segments[index].size);
        let path = running.future.join(FileName::live(FileKind::Log, copy.base).to_string());
        let mut steps = vec![Step::Open { path, how: OpenHow::CreateOrEmpty, direct: self.settings.direct }];
        if space > 0 {
            // A device without the space says so before anything is written.
            let len = space.next_multiple_of(BLOCK);
            steps.push(Step::Prepare { at: FilePos::ZERO, len, how: Prepared::Allocated });
        }
        self.submit_move(Doing::OpenOutput, None, steps);
    }

    /// Up to where the segment being copied can be: its whole blocks that are written, or all of it.
    fn copy_limit(&self, index: usize) -> u64 {
        let segment = &self.segments[index];
        match (&segment.phase, self.state) {
            (Phase::Sealed(_), _) => segment.size,
            // Everything is synced.
            (Phase::Live(_), State::Switching(Stage::Copying)) => segment.size,
            (Phase::Live(_), _) => self.readable(index) / BLOCK * BLOCK,
        }
    }

    fn read_or_settle(&mut self, now: Now) {
        let slice = self.slice_bytes();
        let Some(copy) = self.moving.running.as_ref().and_then(|running| running.copy.as_ref()) else {
            return;
        };
        let (base, at) = (copy.base, copy.at);
        let Some(index) = self.segment_index(base) else { return };
        let end = copy.ends.unwrap_or(self.segments[index].size);
        let limit = self.copy_limit(index).min(end);
        let sealed = self.segments[index].live().is_none();
        let rate = self.moving.rate;
        let Some(running) = self.moving.running.as_mut() else { return };
        if at < limit {
            let len = slice.min(limit - at);
            if rate < u64::MAX {
                running.next_slice = running.next_slice.max(now.mono).plus(pause(len, rate));
            }
            if let Some(copy) = &mut running.copy {
                copy.asked = len as usize;
            }
            let read = Step::Read { at: FilePos::new(at), len: len.next_multiple_of(BLOCK) as usize };
            let source = running.source;
            return self.submit_move(Doing::Read, source, [read]);
        }
        if sealed {
            return self.settle_copy(base, end);
        }
        self.switch_on();
    }

    /// All bytes of a sealed segment are copied: its file is settled, then those beside it.
    fn settle_copy(&mut self, base: Offset, len: u64) {
        let Some(running) = self.moving.running.as_mut() else { return };
        let beside = |kind| FileName::live(kind, base).to_string();
        match running.copy.as_mut().map(|copy| &mut copy.step) {
            Some(Beside::Open) => {
                let path = running.future.join(beside(FileKind::Log));
                let mut steps = vec![Step::Truncate { len }];
                steps.extend((self.settings.mutant != Mutant::MoveUnsynced).then_some(Step::Sync));
                steps.extend([Step::Close, Step::Stat { path }]);
                let output = running.output.take();
                self.submit_move(Doing::Settle, output, steps);
            }
            Some(Beside::Settled) => {
                let load = |kind| Step::Load { path: self.dir.join(beside(kind)), len: i32::MAX as usize };
                let stat = Step::Stat { path: self.dir.join(beside(FileKind::Log)) };
                let steps: Vec<Step> = BESIDE.into_iter().map(load).chain([stat]).collect();
                self.submit_move(Doing::ReadBeside, None, steps);
            }
            Some(Beside::Read(files)) => {
                let mut steps = Vec::new();
                for (kind, bytes) in std::mem::take(files) {
                    steps.extend(write_file(running.future.join(beside(kind)), bytes));
                }
                self.submit_move(Doing::WriteBeside, None, steps);
            }
            None => {}
        }
    }

    /// A slice came to its end.
    pub(in crate::log) fn move_slice_done(&mut self, script: &Script, io: &mut dyn Io) {
        let Some(running) = self.moving.running.as_mut() else {
            // Dropped meanwhile, by a failure, which ends everything.
            return script.file().into_iter().for_each(|file| self.close_file(file, io));
        };
        let doing = std::mem::replace(&mut running.doing, Doing::Nothing);
        match doing {
            Doing::Nothing | Doing::Begin => {}
            Doing::OpenSource => running.source = script.file(),
            Doing::OpenOutput => running.output = script.file(),
            Doing::Read => self.take_copied(script.data(), io),
            Doing::Write => {
                if let Some(copy) = &mut running.copy {
                    copy.read = None;
                    copy.at += copy.asked as u64;
                }
            }
            Doing::Settle => {
                if let Some(copy) = &mut running.copy {
                    (copy.step, copy.modified_ms) = (Beside::Settled, script.modified_ms());
                }
                if let Some(file) = running.source.take() {
                    self.close_file(file, io);
                }
            }
            Doing::ReadBeside => self.take_beside(script),
            Doing::WriteBeside => self.copied_one(),
            Doing::Finish => self.went_on_switching(script),
        }
        self.due = true;
    }

    fn take_copied(&mut self, data: &[u8], io: &mut dyn Io) {
        let Some(running) = self.moving.running.as_mut() else { return };
        let Some(copy) = running.copy.as_mut() else { return };
        let sealed = self.segments.iter().any(|s| s.base == copy.base && s.live().is_none());
        let data = &data[..data.len().min(copy.asked)];
        if data.len() < copy.asked {
            if !sealed {
                // Gone, or cut, meanwhile: then it is copied again. Else its file has lost what was written to it.
                let path = self.dir.join(FileName::live(FileKind::Log, copy.base).to_string());
                let what = "read (shorter than what its log had written)";
                return self.move_failed(IoError::of(ErrorKind::Other, what, path.display().to_string()));
            }
            // Rot, which readers are told of, and which is copied as it is.
            copy.ends = Some(copy.at + data.len() as u64);
        }
        if data.is_empty() {
            return;
        }
        // Padded to whole blocks: the file is cut to its length when all of it is there.
        let padded = data.len().next_multiple_of(BLOCK as usize);
        let mut buffer = io.buffer(padded);
        let spare = &mut buffer.spare_mut()[..padded];
        spare[..data.len()].copy_from_slice(data);
        spare[data.len()..].fill(0);
        buffer.set_len(padded);
        copy.read = Some(buffer.freeze());
        copy.asked = data.len();
    }

    /// The seal names the time of its segment's last change: that of the copy is another.
    fn take_beside(&mut self, script: &Script) {
        let Some(copy) = self.moving.running.as_mut().and_then(|running| running.copy.as_mut()) else {
            return;
        };
        let modified = copy.modified_ms;
        let mut files = Vec::new();
        for (number, kind) in BESIDE.into_iter().enumerate() {
            let Some(bytes) = script.loaded(number) else { continue };
            let bytes = match kind {
                // One that binds nothing is not made to.
                FileKind::Seal => match Seal::decode(bytes) {
                    Ok(mut seal) if seal.modified.get() == script.modified_ms() => {
                        seal.modified = WallMs::new(modified);
                        seal.encode()
                    }
                    _ => continue,
                },
                _ => bytes.to_vec(),
            };
            files.push((kind, bytes));
        }
        copy.step = Beside::Read(files);
    }

    /// A sealed segment is copied, with all that lies beside it.
    fn copied_one(&mut self) {
        let Some(running) = self.moving.running.as_mut() else { return };
        let Some(copy) = running.copy.take().filter(|copy| !copy.stale) else { return };
        running.copied.insert(copy.base, (copy.at, copy.modified_ms));
        if self.snapshots.binary_search(&copy.base).is_ok() {
            running.snapshots.push(copy.base);
        }
    }
}

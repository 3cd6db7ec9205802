//! File work that takes several operations, one after the other: making, sealing, cutting, removing.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;

use highwater_base::{BLOCK, FilePos};
use highwater_io::{Buffer, ErrorKind, FileId, IoError, Op, OpenHow, Outcome, Prepared, Slice};

use crate::segment::Settled;

/// One thing to do. "The file" is the one that this script opened last and has not closed.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Open a file; it becomes "the file".
    Open { path: PathBuf, how: OpenHow, direct: bool },
    /// Take a file that is open already.
    Adopt(FileId),
    /// Write all of it to the file.
    Write { at: FilePos, data: Slice },
    /// Prepare space in the file.
    Prepare { at: FilePos, len: u64, how: Prepared },
    /// Read a whole file, up to `len` bytes, if it is there; see [`Script::loaded`].
    Load { path: PathBuf, len: usize },
    /// Read the file from here until `len` bytes or its end; see [`Script::data`].
    Read { at: FilePos, len: usize },
    /// Sync the file, with its times.
    Sync,
    /// Sync the file's bytes and length.
    SyncData,
    /// Cut the file.
    Truncate { len: u64 },
    /// Close the file.
    Close,
    /// Look at a path; see [`Script::modified_ms`] and [`Script::links`].
    Stat { path: PathBuf },
    /// Wait until the shard has nothing else to do.
    Idle,
    /// Rename.
    Rename { from: PathBuf, to: PathBuf },
    /// Rename if it is there.
    RenameIfThere { from: PathBuf, to: PathBuf },
    /// Make a directory.
    CreateDir { path: PathBuf },
    /// Make a directory's names durable.
    SyncDir { path: PathBuf },
    /// Unlink if it is there.
    Unlink { path: PathBuf },
    /// Cut a file in slices, then unlink it: freeing a gibibyte at once holds up everybody's writes.
    Remove { path: PathBuf },
    /// Remove every file of a directory, then the directory itself.
    RemoveTree { path: PathBuf },
    /// Remove an empty directory.
    RemoveDir { path: PathBuf },
}

/// How far a script came with one completion.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The next step can be submitted.
    Next,
    /// It may work later: no space, or out of handles.
    Retry(IoError),
    /// It cannot be done.
    Failed(IoError),
}

/// A queue of steps, at most one of them submitted.
#[derive(Debug, Default)]
pub(crate) struct Script {
    steps: VecDeque<Step>,
    file: Option<FileId>,
    /// Bytes done of the step at the front, where it takes several operations.
    done: usize,
    /// How long the file at the front is, once a [`Step::Remove`] has looked.
    remaining: Option<u64>,
    /// It was cut, and that is not synced.
    cut: bool,
    data: Vec<u8>,
    loaded: Vec<Option<Vec<u8>>>,
    /// The file of a [`Step::Load`] under way.
    loading: Option<FileId>,
    /// It is read to its end.
    load_ended: bool,
    /// How long the file opened last is, if it was opened here.
    opened_len: Option<u64>,
    modified_ms: i64,
    links: u64,
    prepared: u64,
    settled: Settled,
}

/// Cut from a file at once when it is removed: without a journal, a file system mounted with `discard` tells the device of what
/// is freed at once, and a device that is told of a megabyte answers nothing else for a quarter of a millisecond.
const REMOVE_SLICE: u64 = 256 << 10;
/// With a journal it tells of all that was freed at its next commit: a sync each time that so much is.
const REMOVE_SYNC: u64 = 1 << 20;
/// Cut at once from a file that is used again.
const CUT_SLICE: u64 = 64 << 20;
/// Read at once by [`Step::Read`].
const READ_PIECE: usize = 1 << 20;

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Script {
        Script { steps: steps.into_iter().collect(), ..Script::default() }
    }

    /// The file left open, if one is.
    pub(crate) fn file(&self) -> Option<FileId> {
        self.file
    }

    /// What [`Step::Read`] read.
    pub(crate) fn data(&self) -> &[u8] {
        &self.data
    }

    /// What each [`Step::Load`] read, in order; none where there was no file.
    pub(crate) fn loaded(&self, number: usize) -> Option<&[u8]> {
        self.loaded.get(number).and_then(|file| file.as_deref())
    }

    /// The end of the last [`Step::Prepare`].
    pub(crate) fn prepared(&self) -> u64 {
        self.prepared
    }

    /// What [`Step::Prepare`] settled.
    pub(crate) fn settled(&self) -> Settled {
        self.settled
    }

    /// What [`Step::Stat`] saw.
    pub(crate) fn modified_ms(&self) -> i64 {
        self.modified_ms
    }

    /// How many names the file has that [`Step::Stat`] saw.
    pub(crate) fn links(&self) -> u64 {
        self.links
    }

    /// The next operation, or none if the script is done.
    pub(crate) fn next_op(&mut self) -> Option<Op> {
        while let Some(Step::Adopt(file)) = self.steps.front() {
            self.file = Some(*file);
            self.opened_len = None;
            self.steps.pop_front();
        }
        let file = || self.file.expect("a step on a file follows its opening");
        Some(match self.steps.front()? {
            Step::Open { path, how, direct } => Op::Open { path: path.clone(), how: *how, direct: *direct },
            Step::Adopt(_) => unreachable!("taken above"),
            Step::Write { at, data } => Op::Write {
                file: file(),
                at: FilePos::new(at.get() + self.done as u64),
                data: data.range(self.done..data.len()),
                durable: false,
            },
            Step::Prepare { at, len, how } => Op::Prepare { file: file(), at: *at, len: *len, how: *how },
            Step::Read { at, len } => {
                let at = at.get() + self.done as u64;
                let buffer = Buffer::new(self.piece(at, len - self.done));
                Op::Read { file: file(), at: FilePos::new(at), buffer }
            }
            Step::Load { path, len } => match self.loading {
                None => Op::Open { path: path.clone(), how: OpenHow::Read, direct: false },
                Some(file) if self.load_ended => Op::Close { file },
                Some(file) => Op::Read {
                    file,
                    at: FilePos::new(self.done as u64),
                    buffer: Buffer::new(self.piece(self.done as u64, len - self.done)),
                },
            },
            Step::Sync => Op::Sync { file: file(), data_only: false, urgent: false },
            Step::SyncData => Op::Sync { file: file(), data_only: true, urgent: false },
            Step::Truncate { len } => Op::Truncate { file: file(), len: *len },
            Step::Idle => Op::Idle,
            Step::Close => Op::Close { file: file() },
            Step::Stat { path } => Op::Stat { path: path.clone() },
            Step::Rename { from, to } | Step::RenameIfThere { from, to } => {
                Op::Rename { from: from.clone(), to: to.clone() }
            }
            Step::CreateDir { path } => Op::CreateDir { path: path.clone() },
            Step::SyncDir { path } => Op::SyncDir { path: path.clone() },
            Step::Unlink { path } => Op::Unlink { path: path.clone() },
            Step::Remove { path } => match (self.remaining, self.file) {
                (None, _) => Op::Stat { path: path.clone() },
                (Some(_), Some(file)) if self.cut => Op::Sync { file, data_only: false, urgent: false },
                (Some(len), Some(file)) if len > 0 => {
                    Op::Truncate { file, len: len.saturating_sub(REMOVE_SLICE) }
                }
                (Some(len), None) if len > REMOVE_SLICE => {
                    Op::Open { path: path.clone(), how: OpenHow::Write, direct: false }
                }
                (Some(_), Some(file)) => Op::Close { file },
                (Some(_), None) => Op::Unlink { path: path.clone() },
            },
            Step::RemoveTree { path } => Op::ReadDir { path: path.clone() },
            Step::RemoveDir { path } => Op::RemoveDir { path: path.clone() },
        })
    }

    /// Whether the next operation cuts a slice from a file that goes, and the script may rest before it.
    pub(crate) fn may_rest(&self) -> bool {
        let removes = matches!(self.steps.front(), Some(Step::Remove { .. }));
        removes && !self.cut && self.file.is_some() && self.remaining.is_some_and(|len| len > 0)
    }

    /// Takes the completion of what [`Script::next_op`] gave.
    pub(crate) fn complete(&mut self, result: Result<Outcome, IoError>) -> Progress {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => return self.failed(error),
        };
        let front = self.steps.front().expect("a completion belongs to the step at the front");
        match (front, outcome) {
            (Step::Remove { .. }, outcome) => self.removed(outcome),
            (Step::RemoveTree { path }, Outcome::Entries { entries }) => {
                let path = path.clone();
                self.steps.pop_front();
                self.steps.push_front(Step::RemoveDir { path: path.clone() });
                for entry in entries {
                    self.steps.push_front(remove_entry(&path, entry.name, entry.kind));
                }
            }
            (Step::Open { .. }, Outcome::Opened { file, len, .. }) => {
                self.file = Some(file);
                self.opened_len = Some(len);
                self.advance();
            }
            (Step::Write { data, .. }, Outcome::Wrote { len }) => {
                self.done += len;
                if self.done >= data.len() {
                    self.advance();
                }
            }
            (Step::Read { at, len }, Outcome::Read { buffer }) => {
                let end =
                    self.opened_len.map_or(*len, |file| (*len).min(file.saturating_sub(at.get()) as usize));
                let (done, ended) = take(&mut self.data, &buffer, self.done, end, self.opened_len.is_some());
                self.done = done;
                if ended {
                    self.advance();
                }
            }
            (Step::Load { .. }, Outcome::Opened { file, len, .. }) => {
                self.loading = Some(file);
                self.opened_len = Some(len);
                self.load_ended = len == 0;
                self.loaded.push(Some(Vec::new()));
            }
            (Step::Load { len, .. }, Outcome::Read { buffer }) => {
                let end = self.opened_len.map_or(*len, |file| (*len).min(file as usize));
                let into = self.loaded.last_mut().and_then(Option::as_mut).expect("opened before it is read");
                (self.done, self.load_ended) = take(into, &buffer, self.done, end, true);
            }
            (Step::Load { .. }, _) => {
                self.loading = None;
                self.advance();
            }
            (Step::Stat { .. }, Outcome::Stat { modified_ms, links, .. }) => {
                (self.modified_ms, self.links) = (modified_ms, links);
                self.advance();
            }
            (Step::Prepare { at, len, how }, _) => {
                self.prepared = at.get() + len;
                if *how == Prepared::Zeroed {
                    self.settled.zeroed(at.get(), *len);
                }
                self.advance();
            }
            (Step::Close, _) => {
                self.file = None;
                self.advance();
            }
            (_, _) => self.advance(),
        }
        Progress::Next
    }

    /// How much to read at once from `at`, where `left` bytes are wanted: no more than there is.
    fn piece(&self, at: u64, left: usize) -> usize {
        let there = self.opened_len.map_or(u64::MAX, |len| len.saturating_sub(at));
        let left = left.min(usize::try_from(there).unwrap_or(usize::MAX));
        left.clamp(1, READ_PIECE).next_multiple_of(BLOCK as usize)
    }

    fn advance(&mut self) {
        self.steps.pop_front();
        self.done = 0;
    }

    fn removed(&mut self, outcome: Outcome) {
        match (self.remaining, outcome) {
            // What has another name loses this one only.
            (None, Outcome::Stat { links, .. }) if links > 1 => self.remaining = Some(0),
            (None, Outcome::Stat { len, .. }) => self.remaining = Some(len),
            (Some(_), Outcome::Opened { file, .. }) => self.file = Some(file),
            (Some(_), Outcome::Done) if self.cut => self.cut = false,
            (Some(0), Outcome::Done) if self.file.is_some() => self.file = None,
            (Some(len), Outcome::Done) if self.file.is_some() => {
                let left = len.saturating_sub(REMOVE_SLICE);
                (self.remaining, self.cut) = (Some(left), left > 0 && left / REMOVE_SYNC < len / REMOVE_SYNC);
            }
            (_, _) => {
                self.remaining = None;
                self.advance();
            }
        }
    }

    fn failed(&mut self, error: IoError) -> Progress {
        let front = self.steps.front().expect("a completion belongs to the step at the front");
        match (front, error.kind) {
            (Step::Load { .. }, ErrorKind::NotFound) => {
                self.loaded.push(None);
                self.advance();
                Progress::Next
            }
            (
                Step::Unlink { .. }
                | Step::Remove { .. }
                | Step::RemoveTree { .. }
                | Step::RemoveDir { .. }
                | Step::RenameIfThere { .. }
                | Step::Stat { .. },
                ErrorKind::NotFound,
            ) => {
                self.remaining = None;
                self.advance();
                Progress::Next
            }
            // Nobody counts on the sync of a file that goes; what is left of it goes at once.
            (Step::Remove { .. }, _) if self.cut => {
                (self.remaining, self.cut) = (Some(0), false);
                Progress::Next
            }
            // The handle is gone whatever it says; what mattered was synced before.
            (Step::Close, _) => {
                self.file = None;
                self.advance();
                Progress::Next
            }
            (Step::Load { .. }, _) if self.load_ended => {
                (self.loading, self.load_ended) = (None, false);
                self.advance();
                Progress::Next
            }
            // A failed sync is final, whatever it failed for.
            (Step::Sync | Step::SyncData | Step::SyncDir { .. }, _) => Progress::Failed(error),
            (_, ErrorKind::NoSpace | ErrorKind::Exhausted) => Progress::Retry(error),
            (_, _) => Progress::Failed(error),
        }
    }
}

/// Takes what a read of the `done`-th byte onwards brought; says how many bytes are done, and whether that is all up to
/// `end`. A short read is not the end of the file: it is gone on with from the last whole block. Where the file's
/// length is not `known`, less than a block is the end.
fn take(into: &mut Vec<u8>, buffer: &Buffer, done: usize, end: usize, known: bool) -> (usize, bool) {
    let got = buffer.len().min(end.saturating_sub(done));
    into.extend_from_slice(&buffer.filled()[..got]);
    let now = done + got;
    if now >= end || got == 0 {
        return (now, true);
    }
    let whole = now - got % BLOCK as usize;
    if whole == done && !known {
        return (now, true);
    }
    into.truncate(into.len() - (now - whole));
    (whole, false)
}

fn remove_entry(dir: &std::path::Path, name: OsString, kind: highwater_io::EntryKind) -> Step {
    let path = dir.join(name);
    match kind {
        highwater_io::EntryKind::Directory => Step::RemoveTree { path },
        highwater_io::EntryKind::File => Step::Remove { path },
        highwater_io::EntryKind::Other => Step::Unlink { path },
    }
}

/// Cuts the file from `len` bytes to `to`, in slices.
pub(crate) fn cut_steps(len: u64, to: u64) -> impl Iterator<Item = Step> {
    let slices = len.saturating_sub(to).div_ceil(CUT_SLICE);
    (1..=slices).map(move |n| Step::Truncate { len: len.saturating_sub(n * CUT_SLICE).max(to) })
}

/// Writes a whole file in place and syncs it. For files that are rebuilt if a crash tears them.
pub(crate) fn write_file(path: PathBuf, bytes: Vec<u8>) -> Vec<Step> {
    let mut steps = vec![Step::Open { path, how: OpenHow::CreateOrEmpty, direct: false }];
    if !bytes.is_empty() {
        steps.push(Step::Write { at: FilePos::ZERO, data: Slice::from(bytes) });
    }
    steps.extend([Step::Sync, Step::Close]);
    steps
}

/// Writes a whole file under a temporary name, syncs it and renames it: old or new after a crash, never torn.
/// The directory is not synced.
pub(crate) fn replace_file(path: PathBuf, bytes: Vec<u8>) -> Vec<Step> {
    let mut temporary = path.clone().into_os_string();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut steps = write_file(temporary.clone(), bytes);
    steps.push(Step::Rename { from: temporary, to: path });
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_io::{MemoryIo, blocking};

    fn run(io: &mut MemoryIo, script: &mut Script) -> Result<(), IoError> {
        while let Some(op) = script.next_op() {
            match script.complete(blocking::run(io, op)) {
                Progress::Next => {}
                Progress::Retry(error) | Progress::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn make_dir(io: &mut MemoryIo) {
        run(io, &mut Script::new([Step::CreateDir { path: "/d".into() }])).unwrap();
    }

    #[test]
    fn a_replaced_file_reads_back_and_its_temporary_is_gone() {
        let mut io = MemoryIo::new();
        make_dir(&mut io);
        run(&mut io, &mut Script::new(replace_file("/d/f".into(), b"hello".to_vec()))).unwrap();
        let mut read = Script::new([
            Step::Open { path: "/d/f".into(), how: OpenHow::Read, direct: false },
            Step::Read { at: FilePos::ZERO, len: 100 },
            Step::Close,
        ]);
        run(&mut io, &mut read).unwrap();
        assert_eq!(read.data(), b"hello");
        let gone = Step::Open { path: "/d/f.tmp".into(), how: OpenHow::Read, direct: false };
        assert!(run(&mut io, &mut Script::new([gone])).is_err());
    }

    #[test]
    fn each_mebibyte_cut_from_a_file_that_goes_is_synced_and_a_sync_that_fails_ends_only_the_cutting() {
        for fails in [false, true] {
            let mut io = MemoryIo::new();
            make_dir(&mut io);
            let open = Step::Open { path: "/d/f".into(), how: OpenHow::CreateNew, direct: false };
            let len = REMOVE_SYNC + REMOVE_SLICE + 5;
            let mut make = Script::new([open, Step::Truncate { len }, Step::Close]);
            run(&mut io, &mut make).unwrap();
            let mut script = Script::new([Step::Remove { path: "/d/f".into() }]);
            let mut ops = String::new();
            loop {
                let rests = script.may_rest();
                let Some(op) = script.next_op() else { break };
                let (name, sync) = (format!("{op:?}"), matches!(op, Op::Sync { .. }));
                assert_eq!(rests, name.starts_with("Truncate"));
                ops.push(name.chars().next().unwrap());
                let result = match sync && fails {
                    true => Err(IoError::of(ErrorKind::Other, "sync", "/d/f".to_owned())),
                    false => blocking::run(&mut io, op),
                };
                assert!(matches!(script.complete(result), Progress::Next));
            }
            // Stat, Open, then Truncate and, where a mebibyte is full, Sync, Close, Unlink.
            assert_eq!(ops, if fails { "SOTTSCU" } else { "SOTTSTTTTCU" });
            assert!(blocking::run(&mut io, Op::Stat { path: "/d/f".into() }).is_err());
        }
    }

    #[test]
    fn a_tree_goes_with_all_its_files_and_removing_it_twice_is_no_error() {
        let mut io = MemoryIo::new();
        make_dir(&mut io);
        for name in ["a", "b"] {
            run(&mut io, &mut Script::new(write_file(format!("/d/{name}").into(), vec![1; 10]))).unwrap();
        }
        for _ in 0..2 {
            run(&mut io, &mut Script::new([Step::RemoveTree { path: "/d".into() }])).unwrap();
        }
        assert!(blocking::run(&mut io, Op::Stat { path: "/d".into() }).is_err());
    }
}

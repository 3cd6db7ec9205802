//! Replacing a file so that a crash leaves the old one or the new one: a new file, its sync, a rename, a sync of
//! the directory.

use std::path::{Path, PathBuf};

use highwater_base::FilePos;
use highwater_io::{FileId, IoError, Op, OpenHow, Outcome, Park, Slice, blocking};

/// One replacement under way. Submit the operation that [`Replace::start`] gives, hand each result to
/// [`Replace::next`], submit what it gives in turn.
#[derive(Debug)]
pub(crate) struct Replace {
    path: PathBuf,
    bytes: Slice,
    state: State,
    /// Reported once the file is closed.
    error: Option<IoError>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Opening,
    Writing { file: FileId, at: usize },
    Syncing { file: FileId },
    Closing,
    Renaming,
    SyncingDirectory,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    /// This operation.
    Submit(Op),
    /// Nothing: it is done, or has failed and the old file is still there (or the new one, if only the
    /// directory's sync failed).
    Done(Result<(), IoError>),
}

impl Replace {
    /// Begins to put `bytes` at `path`.
    pub(crate) fn start(path: &Path, bytes: Vec<u8>) -> (Replace, Op) {
        let replace =
            Replace { path: path.to_path_buf(), bytes: bytes.into(), state: State::Opening, error: None };
        let op = Op::Open { path: replace.temporary(), how: OpenHow::CreateOrEmpty, direct: false };
        (replace, op)
    }

    fn temporary(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(highwater_engine::layout::TMP);
        name.into()
    }

    /// Takes the result of the last operation.
    pub(crate) fn next(&mut self, result: Result<Outcome, IoError>) -> Step {
        let outcome = match (result, self.state) {
            (Ok(outcome), _) => outcome,
            (Err(error), State::Writing { file, .. } | State::Syncing { file }) => {
                self.error = Some(error);
                return self.close(file);
            }
            (Err(error), State::Closing) => return Step::Done(Err(self.error.take().unwrap_or(error))),
            (Err(error), State::Opening | State::Renaming | State::SyncingDirectory) => {
                return Step::Done(Err(error));
            }
        };
        match self.state {
            State::Opening => match outcome {
                Outcome::Opened { file, .. } => self.write(file, 0),
                other => unreachable!("an open gave {other:?}"),
            },
            State::Writing { file, at } => match outcome {
                Outcome::Wrote { len } => self.write(file, at + len),
                other => unreachable!("a write gave {other:?}"),
            },
            State::Syncing { file } => self.close(file),
            State::Closing => match self.error.take() {
                Some(error) => Step::Done(Err(error)),
                None => {
                    self.state = State::Renaming;
                    Step::Submit(Op::Rename { from: self.temporary(), to: self.path.clone() })
                }
            },
            State::Renaming => {
                self.state = State::SyncingDirectory;
                let directory = self.path.parent().unwrap_or(Path::new(".")).to_path_buf();
                Step::Submit(Op::SyncDir { path: directory })
            }
            State::SyncingDirectory => Step::Done(Ok(())),
        }
    }

    fn write(&mut self, file: FileId, at: usize) -> Step {
        if at == self.bytes.len() {
            self.state = State::Syncing { file };
            return Step::Submit(Op::Sync { file, data_only: false, urgent: false });
        }
        self.state = State::Writing { file, at };
        let data = self.bytes.range(at..self.bytes.len());
        Step::Submit(Op::Write { file, at: FilePos::new(at as u64), data, durable: false })
    }

    fn close(&mut self, file: FileId) -> Step {
        self.state = State::Closing;
        Step::Submit(Op::Close { file })
    }

    /// Replaces a file and waits for it; before and after serving only.
    pub(crate) fn run(io: &mut dyn Park, path: &Path, bytes: Vec<u8>) -> Result<(), IoError> {
        let (mut replace, mut op) = Replace::start(path, bytes);
        loop {
            match replace.next(blocking::run(io, op)) {
                Step::Submit(next) => op = next,
                Step::Done(result) => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::read_file;
    use highwater_io::{ErrorKind, MemoryIo};

    #[test]
    fn the_new_bytes_are_there_and_the_temporary_file_is_not() {
        let mut io = MemoryIo::new();
        blocking::run(&mut io, Op::CreateDir { path: "/d".into() }).unwrap();
        for text in ["first", "second, which is longer", ""] {
            Replace::run(&mut io, Path::new("/d/f"), text.into()).unwrap();
            assert_eq!(read_file(&mut io, Path::new("/d/f")).unwrap().unwrap(), text.as_bytes());
        }
        assert_eq!(read_file(&mut io, Path::new("/d/f.tmp")).unwrap(), None);
    }

    #[test]
    fn a_failed_sync_leaves_the_old_file_and_names_its_cause() {
        let full = IoError::from_errno(28, "sync", "f");
        let (mut replace, _open) = Replace::start(Path::new("/d/f"), b"new".to_vec());
        let opened = Outcome::Opened { file: FileId(1), len: 0, direct: false };
        assert!(matches!(replace.next(Ok(opened)), Step::Submit(Op::Write { .. })));
        assert!(matches!(replace.next(Ok(Outcome::Wrote { len: 3 })), Step::Submit(Op::Sync { .. })));
        assert!(matches!(replace.next(Err(full.clone())), Step::Submit(Op::Close { .. })));
        let Step::Done(Err(error)) = replace.next(Ok(Outcome::Done)) else { panic!("it went on") };
        assert_eq!((error.clone(), error.kind), (full, ErrorKind::NoSpace));
    }
}

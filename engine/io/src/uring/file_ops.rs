//! Files on the ring.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::UringIo;
use super::entry::{AfterSync, InRing, Target};
use crate::files::OpenFile;
use crate::latch::durable_write_latches;
use crate::op::{FileId, Op, Outcome, Token};
use crate::slots::Slots;
use crate::slow::{Opened, Slow, SlowDone};
use crate::slow_lane::Answered;
use crate::{ErrorKind, IoError};

/// How the ring knows an open file.
pub(super) fn target(file: FileId, open: &OpenFile) -> Target {
    if open.fixed {
        Target::Fixed(Slots::<OpenFile>::index(file.0))
    } else {
        Target::Fd(open.handle.as_raw_fd())
    }
}

impl UringIo {
    /// Starts a file operation, or does it; gives back those on sockets.
    pub(super) fn submit_file_op(&mut self, op: Op, token: Token) -> Result<(), Op> {
        let op = match self.files.slow(op) {
            Err(op) => op,
            Ok(Ok((file, slow))) => {
                if let Some(open) = file.and_then(|file| self.files.any(file)) {
                    open.in_flight += 1;
                }
                self.lane.submit(token, file, slow);
                return Ok(());
            }
            Ok(Err(failed)) => {
                self.complete(token, Err(failed));
                return Ok(());
            }
        };
        let started = match op {
            Op::Read { file, at, buffer } => self.files.usable(file, "read").map(|open| {
                open.check_read(at.get(), &buffer);
                open.in_flight += 1;
                Started::InRing(InRing::Read {
                    token,
                    file,
                    target: target(file, open),
                    at: at.get(),
                    buffer,
                })
            }),
            Op::Write { file, at, data, durable } => {
                let checked =
                    self.files.writable(file, "write").map(|open| open.begin_write(at.get(), &data));
                let open = match checked {
                    Ok(()) if durable => self.files.syncable(file),
                    Ok(()) => self.files.writable(file, "write"),
                    Err(failed) => Err(failed),
                };
                open.and_then(|open| {
                    let (target, at) = (target(file, open), at.get());
                    if open.direct {
                        open.in_flight += 1;
                        match durable {
                            true => self.durable_writes += 1,
                            false => {
                                self.flushes.write_begins(&mut open.flushing);
                                self.turns.write_begins();
                            }
                        }
                        let or_return = !durable && !open.always_waits;
                        return Ok(Started::InRing(InRing::Write {
                            token,
                            file,
                            target,
                            at,
                            data,
                            durable,
                            or_return,
                        }));
                    }
                    let len = open.write_now(at, &data)?;
                    if !durable {
                        return Ok(Started::Done(Outcome::Wrote { len }));
                    }
                    open.in_flight += 1;
                    let (writes, then) = (open.writes(), AfterSync::Wrote(len));
                    Ok(Started::InRing(InRing::Sync { token, file, target, data_only: true, writes, then }))
                })
            }
            Op::Sync { file, data_only, .. } => self.files.syncable(file).map(|open| {
                open.in_flight += 1;
                let (target, writes, then) = (target(file, open), open.writes(), AfterSync::Synced);
                Started::InRing(InRing::Sync { token, file, target, data_only, writes, then })
            }),
            Op::Flush { file } => match self.queue_flush(token, file) {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    return self.submit_file_op(Op::Sync { file, data_only: true, urgent: true }, token);
                }
                Err(failed) => Err(failed),
            },
            Op::Close { file } => match self.files.any(file) {
                Some(open) if open.closing.is_none() => {
                    open.closing = Some(token);
                    self.close_if_idle(file);
                    return Ok(());
                }
                _ => Err(IoError::of(ErrorKind::Cancelled, "close", format!("{file:?}"))),
            },
            other => return Err(other),
        };
        match started {
            Ok(Started::InRing(op)) => {
                self.ring.start(op);
            }
            Ok(Started::Done(outcome)) => self.complete(token, Ok(outcome)),
            Err(failed) => self.complete(token, Err(failed)),
        }
        Ok(())
    }

    /// An operation that cannot be started without waiting: a plain write goes to the slow lane, which may be what holds
    /// the file; the others to a worker.
    fn would_block(&mut self, op: InRing) {
        match op {
            InRing::Write { token, file, at, data, or_return: true, .. } => {
                let open = self.files.any(file).expect("a file stays open while it is written");
                let (handle, name) = (Arc::clone(&open.handle), Arc::clone(&open.name));
                self.lane.submit(token, Some(file), Slow::Write { handle, name, at, data });
                // Nobody knows how long that takes.
                self.plain_write_ends(file);
            }
            other => self.ring.start_blocking(other),
        }
    }

    /// The ring has done a file operation, or a part of it.
    pub(super) fn file_op_done(&mut self, op: InRing, result: i32) {
        if result == -libc::EINTR {
            self.ring.start(op);
            return;
        }
        if result == -libc::EAGAIN {
            self.would_block(op);
            return;
        }
        match op {
            InRing::Write { token, file, target, at, data, durable, or_return: true }
                if result == -libc::EOPNOTSUPP || result == -libc::EINVAL =>
            {
                // The file system does not know the flag; if it is something else, that shows without it.
                if let Some(open) = self.files.any(file) {
                    open.always_waits = true;
                }
                let or_return = false;
                self.ring.start(InRing::Write { token, file, target, at, data, durable, or_return });
            }
            InRing::Read { token, file, mut buffer, .. } => {
                let outcome = self.file_result(file, "read", result).map(|len| {
                    buffer.set_len(len);
                    Outcome::Read { buffer }
                });
                self.end(token, file, outcome);
            }
            InRing::Write { token, file, data, durable, .. } => {
                match durable {
                    true => self.durable_writes -= 1,
                    false => self.plain_write_ends(file),
                }
                let result = if result == 0 && !data.is_empty() { -libc::ENOSPC } else { result };
                let wrote = self.file_result(file, "write", result);
                if let Err(failed) = &wrote
                    && durable
                    && durable_write_latches(failed)
                {
                    self.latch(file, failed);
                }
                self.end(token, file, wrote.map(|len| Outcome::Wrote { len }));
            }
            InRing::Sync { token, file, writes, then, .. } => {
                let synced = self.file_result(file, "sync", result);
                if let Err(failed) = &synced {
                    self.latch(file, failed);
                }
                let proven = |open: &mut OpenFile| open.end_sync(writes);
                let synced = synced.and_then(|_| self.files.any(file).map_or(Ok(()), proven));
                let outcome = match then {
                    AfterSync::Synced => Outcome::Done,
                    AfterSync::Wrote(len) => Outcome::Wrote { len },
                };
                self.end(token, file, synced.map(|()| outcome));
            }
            other => unreachable!("not an operation on a file: {other:?}"),
        }
    }

    /// The slow lane has done an operation.
    pub(super) fn slow_op_done(&mut self, Answered { token, file, result }: Answered) {
        let outcome = match result {
            Ok(SlowDone::Opened(opened)) => Ok(self.entered(opened)),
            Ok(SlowDone::Outcome(outcome)) => Ok(outcome),
            Ok(SlowDone::Closed) => Ok(Outcome::Done),
            Err(failed) => Err(failed),
        };
        match file {
            None => self.complete(token, outcome),
            Some(file) => {
                if let Err(failed) = &outcome {
                    self.files.note_slow(file, failed);
                }
                // It may have been a sync: what it proves is what the device says.
                let proven = self.files.any(file).map_or(Ok(()), OpenFile::check);
                self.end(token, file, outcome.and_then(|outcome| proven.map(|()| outcome)));
            }
        }
    }

    /// Enters a file that the slow lane has opened, in the ring's table too.
    fn entered(&mut self, opened: Opened) -> Outcome {
        let outcome = self.files.enter(opened);
        if let Outcome::Opened { file, .. } = outcome
            && let Some(open) = self.files.any(file)
        {
            let slot = Slots::<OpenFile>::index(file.0);
            open.fixed = self.ring.register_file(slot, open.handle.as_raw_fd());
        }
        outcome
    }

    fn file_result(&mut self, file: FileId, what: &'static str, result: i32) -> Result<usize, IoError> {
        usize::try_from(result).map_err(|_| {
            let name = self.files.any(file).map(|open| open.name.to_string());
            IoError::from_errno(-result, what, name.unwrap_or_default())
        })
    }

    fn latch(&mut self, file: FileId, failed: &IoError) {
        if let Some(open) = self.files.any(file) {
            open.latch.note(failed);
        }
    }

    /// Ends an operation that was in flight on `file`.
    pub(super) fn end(&mut self, token: Token, file: FileId, result: Result<Outcome, IoError>) {
        self.complete(token, result);
        if let Some(open) = self.files.any(file) {
            open.in_flight -= 1;
        }
        self.close_if_idle(file);
    }

    /// Closes a file that is to be closed, once nothing is in flight on it.
    fn close_if_idle(&mut self, file: FileId) {
        let Some(open) = self.files.any(file) else { return };
        let (Some(token), 0) = (open.closing, open.in_flight) else { return };
        if open.fixed {
            self.ring.unregister_file(Slots::<OpenFile>::index(file.0));
        }
        if let Some(open) = self.files.remove(file) {
            let handle = open.handle;
            debug_assert_eq!(Arc::strong_count(&handle), 1, "somebody else has it in flight");
            self.lane.submit(token, None, Slow::Close { handle });
        }
    }
}

/// What became of an operation when it was submitted.
enum Started {
    InRing(InRing),
    Done(Outcome),
}

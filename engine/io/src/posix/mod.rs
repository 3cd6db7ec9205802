//! The contract with plain system calls: for kernels and containers without io_uring, and other Unix systems.

mod net;

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::device::Devices;
use crate::event::Event;
use crate::files::Files;
use crate::op::{Completion, Op, Outcome, Token};
use crate::pool::Pool;
use crate::slow::SlowDone;
use crate::{Buffer, Chunk, ErrorKind, Io, IoError, Park, SyncFault, Waker, sys};

/// An [`Io`] that does files at once, when submitted, and sockets as they become ready.
///
/// A slow disk therefore holds its thread up. Where that matters and io_uring exists, use
/// [`production`](crate::production).
///
/// ```
/// use highwater_io::{Op, PosixIo, blocking};
/// let mut io = PosixIo::new()?;
/// assert!(blocking::run(&mut io, Op::Stat { path: "/".into() }).is_ok());
/// # Ok::<(), highwater_io::IoError>(())
/// ```
#[derive(Debug)]
pub struct PosixIo {
    files: Files,
    net: net::Net,
    pool: Pool,
    done: VecDeque<Completion>,
    in_flight: usize,
    event: Event,
    polled: Vec<libc::pollfd>,
}

impl PosixIo {
    /// Makes one; fails if there are no file descriptors left.
    pub fn new() -> Result<PosixIo, IoError> {
        let event = Event::new().map_err(|error| IoError::from_std(&error, "make", "a waker"))?;
        Ok(PosixIo {
            files: Files::default(),
            net: net::Net::default(),
            pool: Pool::default(),
            done: VecDeque::new(),
            in_flight: 0,
            event,
            polled: Vec::new(),
        })
    }

    /// Learns of failed flushes from those who share these devices.
    pub(crate) fn with_devices(mut self, devices: Devices) -> PosixIo {
        self.files.devices = devices;
        self
    }

    /// Makes this instance's syncs fail on demand.
    pub fn sync_fault(&self) -> SyncFault {
        self.files.fault.clone()
    }

    /// Does a file operation; gives back those on sockets.
    fn file_op(&mut self, op: Op) -> Result<Result<Outcome, IoError>, Op> {
        let op = match self.files.slow(op) {
            Err(op) => op,
            Ok(asked) => {
                return Ok(asked.and_then(|(file, slow)| match slow.perform() {
                    Ok(SlowDone::Opened(opened)) => Ok(self.files.enter(opened)),
                    Ok(SlowDone::Outcome(outcome)) => Ok(outcome),
                    Ok(SlowDone::Closed) => Ok(Outcome::Done),
                    Err(failed) => {
                        if let Some(file) = file {
                            self.files.note_slow(file, &failed);
                        }
                        Err(failed)
                    }
                }));
            }
        };
        Ok(match op {
            Op::Read { file, at, mut buffer } => self.files.usable(file, "read").and_then(|open| {
                open.check_read(at.get(), &buffer);
                buffer.set_len(0);
                let len = open.read_now(at.get(), buffer.spare_mut())?;
                buffer.set_len(len);
                Ok(Outcome::Read { buffer })
            }),
            Op::Write { file, at, data, durable: false } => {
                self.files.writable(file, "write").and_then(|open| {
                    open.begin_write(at.get(), &data);
                    open.write_now(at.get(), &data).map(|len| Outcome::Wrote { len })
                })
            }
            Op::Write { file, at, data, durable: true } => self
                .files
                .writable(file, "write")
                .map(|open| open.begin_write(at.get(), &data))
                .and_then(|()| self.files.syncable(file))
                .and_then(|open| open.write_durably_now(at.get(), &data))
                .map(|len| Outcome::Wrote { len }),
            Op::Sync { file, data_only, .. } => {
                self.files.syncable(file).and_then(|open| open.sync_now(data_only)).map(|()| Outcome::Done)
            }
            Op::Flush { file } => {
                self.files.syncable(file).and_then(|open| open.sync_now(true)).map(|()| Outcome::Done)
            }
            Op::Close { file } => match self.files.remove(file) {
                Some(_) => Ok(Outcome::Done),
                None => Err(IoError::of(ErrorKind::Cancelled, "close", format!("{file:?}"))),
            },
            // Writes are done as they are submitted: there is never a crowd.
            Op::Turn | Op::Idle => Ok(Outcome::Done),
            other => return Err(other),
        })
    }

    /// Waits for sockets, at most `timeout`, and serves those that are ready. A wake ends the wait if `parked`,
    /// and otherwise is left for the next park.
    fn poll(&mut self, timeout: Option<Duration>, parked: bool) {
        let mut polled = std::mem::take(&mut self.polled);
        polled.clear();
        // A negative descriptor is not looked at.
        let fd = if parked { self.event.reader.as_raw_fd() } else { -1 };
        polled.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        self.net.interests(&mut polled);
        match sys::poll(&mut polled, timeout) {
            Ok(0) => {}
            Ok(_) => {
                if polled[0].revents != 0 {
                    self.event.read();
                }
                self.net.ready(&polled[1..], &mut self.done);
            }
            // Only for want of memory: come again.
            Err(error) => debug_assert_eq!(error.raw_os_error(), Some(libc::ENOMEM)),
        }
        self.polled = polled;
    }

    fn hand_out(&mut self, out: &mut Vec<Completion>) {
        self.in_flight -= self.done.len();
        out.extend(self.done.drain(..));
    }
}

impl Io for PosixIo {
    fn submit(&mut self, op: Op, token: Token) {
        self.in_flight += 1;
        match self.file_op(op) {
            Ok(result) => self.done.push_back(Completion { token, result }),
            Err(op) => self.net.submit(op, token, &mut self.done),
        }
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        if self.net.is_waiting() {
            self.poll(Some(Duration::ZERO), false);
        }
        self.hand_out(out);
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.pool.buffer(len, |_, _, _| None)
    }

    fn chunk(&mut self, len: usize) -> Chunk {
        self.pool.chunk(len, |_, _, _| None)
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn name(&self) -> &'static str {
        "posix"
    }
}

impl Park for PosixIo {
    fn park(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion>) {
        self.poll(if self.done.is_empty() { timeout } else { Some(Duration::ZERO) }, true);
        self.hand_out(out);
    }

    fn waker(&self) -> Waker {
        self.event.waker()
    }
}

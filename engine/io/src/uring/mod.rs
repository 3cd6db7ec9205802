//! The contract on io_uring.
//!
//! What goes where was measured (ext4, Linux 6.18), not guessed:
//!
//! | operation | done by | because |
//! |---|---|---|
//! | reads; writes to direct files; sockets | the ring | they start at once or wait for readiness, without a worker |
//! | writes to buffered files | `pwrite` at once | ext4 hands them to workers: half the rate, 1.5 times the CPU |
//! | durable writes to direct files | the ring, `RWF_DSYNC` | no worker; those in flight together share the device's flushes, on 16 files three times the rate of write and sync |
//! | syncs that somebody waits for | the ring's one worker | they block; there is no other way |
//! | flushes | the ring's one worker, one at a time for each device | those asked for meanwhile share the next |
//! | plain direct writes that would have to wait for the file's lock | the slow lane | a ring would start a worker |
//! | names, lengths, preparation, other syncs, the last close | the slow lane, three threads | a ring would hand each to a worker of its own |

mod entry;
mod file_ops;
mod flush;
mod net;
mod ring;
mod turns;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use self::entry::InRing;
use self::ring::{Completed, Ring};
use crate::device::Devices;
use crate::event::Event;
use crate::files::Files;
use crate::op::{Completion, Op, Token};
use crate::pool::Pool;
use crate::slow_lane::SlowLane;
use crate::{Buffer, Chunk, Io, IoError, Park, SyncFault, Waker};

/// An [`Io`] on a ring of its own. Stays on the thread that made it.
///
/// ```
/// use highwater_io::{Io, UringIo};
/// match UringIo::new(64) {
///     Ok(io) => assert_eq!(io.name(), "io_uring"),
///     Err(error) => println!("this kernel or container has none: {error}"),
/// }
/// ```
#[derive(Debug)]
pub struct UringIo {
    // Dropped in this order: the lane first, so that nothing goes on behind; the ring before the sockets and
    // files that its operations name.
    lane: SlowLane,
    ring: Ring,
    files: Files,
    flushes: flush::Flushes,
    turns: turns::Turns,
    net: net::Net,
    pool: Pool,
    done: VecDeque<Completion>,
    in_flight: usize,
    /// Durable writes that the ring has.
    durable_writes: usize,
    event: Event,
    /// The ring is reading the event.
    listening: bool,
    /// A wake was read, and no park has ended by it.
    woken: bool,
    /// A ring takes submissions from one thread only.
    stays: PhantomData<*const ()>,
}

impl UringIo {
    /// With a submission queue of `entries` (more may be in flight). Fails where io_uring is missing,
    /// forbidden, or too old (before Linux 5.11).
    pub fn new(entries: u32) -> Result<UringIo, IoError> {
        let event = Event::new().map_err(|error| IoError::from_std(&error, "make", "a waker"))?;
        Ok(UringIo {
            lane: SlowLane::new(event.waker()),
            ring: Ring::new(entries)?,
            files: Files::default(),
            flushes: flush::Flushes::default(),
            turns: turns::Turns::default(),
            net: net::Net::default(),
            pool: Pool::default(),
            done: VecDeque::new(),
            in_flight: 0,
            durable_writes: 0,
            event,
            listening: false,
            woken: false,
            stays: PhantomData,
        })
    }

    /// Learns of failed flushes from those who share these devices, and tells them of its own.
    pub(crate) fn with_devices(mut self, devices: Devices) -> UringIo {
        self.files.devices = devices;
        self
    }

    /// Makes this instance's syncs fail on demand.
    pub fn sync_fault(&self) -> SyncFault {
        self.files.fault.clone()
    }

    /// Takes in what has completed, without a system call.
    fn collect(&mut self) {
        while let Some(Completed { op, key, result, flags }) = self.ring.next() {
            let (ring, to) = (&mut self.ring, &mut self.done);
            match op {
                InRing::Read { .. } | InRing::Write { .. } | InRing::Sync { .. } => {
                    self.file_op_done(op, result);
                }
                InRing::Flush { device, .. } => self.flush_done(device, result),
                InRing::Accept { token, listener, address, .. } => {
                    self.net.accepted((token, listener, key), address, result, ring, to);
                }
                InRing::Connect { token, socket, address } => {
                    self.net.connected(token, socket, address, result, ring, to);
                }
                InRing::Receive { token, conn, buffer, .. } => {
                    self.net.received((token, conn), buffer, (result, flags), ring, to);
                }
                InRing::Send { conn, batch, header, .. } => {
                    self.net.sent(conn, (batch, header), result, ring, to);
                }
                InRing::Wake { .. } => {
                    self.listening = false;
                    self.woken = true;
                    self.event.noticed();
                }
                InRing::Cancel { .. } | InRing::Nothing => {}
            }
        }
        while let Some(answered) = self.lane.take() {
            self.slow_op_done(answered);
        }
    }

    fn hand_out(&mut self, idle: bool, out: &mut Vec<Completion>) {
        self.grant_turns(idle);
        self.turns.handed_out();
        self.in_flight -= self.done.len();
        out.extend(self.done.drain(..));
    }

    fn complete(&mut self, token: Token, result: Result<crate::Outcome, IoError>) {
        self.done.push_back(Completion { token, result });
    }
}

impl Io for UringIo {
    fn submit(&mut self, op: Op, token: Token) {
        self.in_flight += 1;
        match op {
            Op::Turn => return self.turns.ask(token, Instant::now()),
            Op::Idle => return self.turns.ask_idle(token, Instant::now()),
            _ => {}
        }
        if let Err(op) = self.submit_file_op(op, token) {
            self.net.submit(op, token, &mut self.ring, &mut self.done);
        }
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        self.start_flushes();
        self.ring.submit();
        self.collect();
        self.grant_idle(false);
        self.hand_out(false, out);
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.pool.buffer(len, |number, at, size| self.ring.register_buffer(number, at, size))
    }

    fn chunk(&mut self, len: usize) -> Chunk {
        self.pool.chunk(len, |number, at, size| self.ring.register_buffer(number, at, size))
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn is_flushing(&self) -> bool {
        self.durable_writes > 0 || self.flushes.any()
    }

    fn is_crowded(&self) -> bool {
        self.turns.is_crowded()
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }
}

impl Park for UringIo {
    fn park(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion>) {
        self.collect();
        self.start_flushes();
        self.grant_turns(true);
        let nothing = self.done.is_empty() && !self.woken;
        if nothing && self.turns.anyone_idles() {
            self.ring.submit();
            self.collect();
            if self.done.is_empty() {
                self.grant_idle(true);
            }
        } else if nothing {
            if !self.listening {
                let fd = self.event.reader.as_raw_fd();
                self.ring.start(InRing::Wake { fd, count: Box::default() });
                self.listening = true;
            }
            self.ring.wait(timeout);
        } else {
            self.ring.submit();
        }
        self.collect();
        self.woken = false;
        self.hand_out(true, out);
    }

    fn waker(&self) -> Waker {
        self.event.waker()
    }
}

//! The ring itself: set up with what the kernel has, fed, waited for, emptied.

use std::collections::VecDeque;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{io, mem};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, opcode, squeue};

use super::entry::InRing;
use crate::IoError;
use crate::buffer::Registered;
use crate::pool;

/// File table sizes to try: the kernel allows no more than the process may open.
const FILE_TABLES: [u32; 4] = [16_384, 4_096, 1_024, 256];

/// Rounds of waiting, of [`DRAIN_WAIT`] each, for what is in flight when a ring goes.
const DRAIN_ROUNDS: u32 = 100;
const DRAIN_WAIT: Duration = Duration::from_millis(50);

/// Numbers rings, so that none takes another's registered memory for its own.
static RINGS: AtomicU32 = AtomicU32::new(0);

/// A ring and the operations that it has.
pub(super) struct Ring {
    ring: IoUring,
    number: u32,
    /// Entries that the submission queue had no room for.
    backlog: VecDeque<squeue::Entry>,
    /// What is in flight, by the low half of its key.
    slots: Vec<Option<(u32, InRing)>>,
    free: Vec<u32>,
    next_serial: u32,
    enter: EnterFlags,
    /// Slots of the file table; 0 if there is none.
    pub(super) file_slots: u32,
    /// Whether memory can be registered.
    buffers: bool,
    /// Whether a receive may be told to wait first (Linux 5.19).
    pub(super) poll_first: bool,
}

/// One completion.
pub(super) struct Completed {
    pub(super) op: InRing,
    /// The key that it was started with.
    pub(super) key: u64,
    /// A count or descriptor, or a negative error number.
    pub(super) result: i32,
    pub(super) flags: u32,
}

fn setup(error: &io::Error) -> IoError {
    IoError::from_std(error, "set up", "io_uring")
}

impl Ring {
    /// A ring of `entries`, proved to work by an operation that does nothing.
    pub(super) fn new(entries: u32) -> Result<Ring, IoError> {
        let (ring, poll_first) = build(entries).map_err(|error| setup(&error))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(|error| setup(&error))?;
        let needed = [
            opcode::Read::CODE,
            opcode::Write::CODE,
            opcode::Fsync::CODE,
            opcode::Accept::CODE,
            opcode::Connect::CODE,
            opcode::Recv::CODE,
            opcode::Send::CODE,
            opcode::SendMsg::CODE,
            opcode::AsyncCancel::CODE,
        ];
        let params = ring.params();
        if !needed.into_iter().all(|code| probe.is_supported(code))
            || !params.is_feature_ext_arg()
            || !params.is_feature_nodrop()
        {
            return Err(setup(&io::Error::from_raw_os_error(libc::ENOSYS)));
        }
        let enter = if params.is_feature_no_iowait() { EnterFlags::NO_IOWAIT } else { EnterFlags::empty() };
        let file_slots = FILE_TABLES.into_iter().find(|n| ring.submitter().register_files_sparse(*n).is_ok());
        let buffers = ring.submitter().register_buffers_sparse(pool::ARENAS as u32).is_ok();
        // Only syncs need workers; more than one would not make the device flush faster. Older kernels refuse.
        let _ = ring.submitter().register_iowq_max_workers(&mut [1, 1]);
        let mut ring = Ring {
            ring,
            number: RINGS.fetch_add(1, Ordering::Relaxed),
            backlog: VecDeque::new(),
            slots: Vec::new(),
            free: Vec::new(),
            next_serial: 0,
            enter,
            file_slots: file_slots.unwrap_or(0),
            buffers,
            poll_first,
        };
        ring.start(InRing::Nothing);
        ring.enter(1, Some(Duration::from_secs(1))).map_err(|error| setup(&error))?;
        match ring.next() {
            Some(Completed { result: 0, .. }) => Ok(ring),
            _ => Err(setup(&io::Error::from_raw_os_error(libc::ENOSYS))),
        }
    }

    /// Takes an operation; gives the key to cancel it by.
    pub(super) fn start(&mut self, mut op: InRing) -> u64 {
        let entry = op.entry(self.number);
        self.next_serial = self.next_serial.wrapping_add(1);
        let serial = self.next_serial;
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = Some((serial, op));
                index
            }
            None => {
                self.slots.push(Some((serial, op)));
                self.slots.len() as u32 - 1
            }
        };
        let key = u64::from(serial) << 32 | u64::from(index);
        self.push(entry.user_data(key));
        key
    }

    /// Like [`Ring::start`], but leaves the operation to a worker thread: it would block.
    pub(super) fn start_blocking(&mut self, op: InRing) {
        self.start(op);
        let last = self.backlog.pop_back();
        debug_assert!(last.is_some(), "starting appends to the backlog");
        self.backlog.extend(last.map(|entry| entry.flags(squeue::Flags::ASYNC)));
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.backlog.push_back(entry);
    }

    /// Asks the kernel to stop an operation, which then completes in some way.
    pub(super) fn cancel(&mut self, key: u64) {
        self.start(InRing::Cancel { key });
    }

    /// Moves entries to the submission queue while there is room.
    fn fill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.pop_front() {
            // SAFETY: what the entry points to is owned by the operation in `slots`, which stays there
            // until its completion has been taken out (or for ever, see `drop`).
            if unsafe { queue.push(&entry) }.is_err() {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    /// Hands everything to the kernel, without waiting. Without anything to hand over it costs no system call,
    /// unless the kernel says that it has something to deliver.
    pub(super) fn submit(&mut self) {
        let queue = self.ring.submission();
        let asked = queue.taskrun() || queue.cq_overflow();
        let any = !queue.is_empty();
        drop(queue);
        if any || asked || !self.backlog.is_empty() {
            self.submit_but(0, None);
        }
    }

    /// Hands everything to the kernel and waits for a completion, at most `timeout`.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) {
        self.submit_but(1, timeout);
    }

    /// Submits in as many rounds as needed; the last one waits for `want` completions.
    fn submit_but(&mut self, want: usize, timeout: Option<Duration>) {
        loop {
            self.fill();
            let last = self.backlog.is_empty();
            let entered = if last { self.enter(want, timeout) } else { self.enter(0, None) };
            match entered {
                Ok(()) if last => return,
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::ETIME) if last => return,
                    Some(libc::EINTR) => {}
                    // The completion queue is full, or the kernel is out of memory: what is left goes
                    // with the next round, after completions have been taken out.
                    Some(libc::EBUSY | libc::EAGAIN | libc::ENOMEM) => return,
                    _ => panic!("io_uring_enter: {error}"),
                },
            }
        }
    }

    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        self.fill();
        if want == 0 {
            return self.ring.submitter().submit_and_wait(0).map(|_| ());
        }
        let timespec = timeout.map(Timespec::from);
        let args = SubmitArgs::new();
        let args = match &timespec {
            Some(timespec) => args.timespec(timespec),
            None => args,
        };
        self.ring.submitter().submit_with_args_and_flags(want, &args, self.enter).map(|_| ())
    }

    /// Takes one completion, without a system call.
    pub(super) fn next(&mut self) -> Option<Completed> {
        loop {
            let completion = self.ring.completion().next()?;
            let key = completion.user_data();
            let (serial, index) = ((key >> 32) as u32, key as u32);
            let slot = self.slots[index as usize].take();
            let (expected, op) = slot.expect("a completion without its operation");
            assert_eq!(expected, serial, "a completion of another operation");
            self.free.push(index);
            if !matches!(op, InRing::Cancel { .. }) {
                return Some(Completed { op, key, result: completion.result(), flags: completion.flags() });
            }
        }
    }

    /// Makes an open file known by its slot; says whether it is now.
    pub(super) fn register_file(&mut self, slot: u32, fd: RawFd) -> bool {
        slot < self.file_slots && self.ring.submitter().register_files_update(slot, &[fd]).is_ok()
    }

    /// Forgets the file of a slot.
    pub(super) fn unregister_file(&mut self, slot: u32) {
        let forgotten = self.ring.submitter().register_files_update(slot, &[-1]);
        debug_assert!(forgotten.is_ok());
    }

    /// Pins memory that a pool keeps.
    pub(super) fn register_buffer(
        &mut self,
        number: u16,
        at: NonNull<u8>,
        size: usize,
    ) -> Option<Registered> {
        if !self.buffers {
            return None;
        }
        let memory = libc::iovec { iov_base: at.as_ptr().cast(), iov_len: size };
        // SAFETY: the memory is a pool's, which outlives its use by any operation: each holds a buffer
        // or slice of it. What the kernel has pinned after that nobody writes to.
        let registered =
            unsafe { self.ring.submitter().register_buffers_update(u32::from(number), &[memory], None) };
        // Most likely the limit on locked memory: more of it will not be allowed either.
        self.buffers = registered.is_ok();
        registered.ok().map(|()| Registered { ring: self.number, index: number })
    }
}

impl Drop for Ring {
    /// Waits for the kernel to be done with all memory that operations in flight own; what it does not give
    /// back in time is never freed.
    fn drop(&mut self) {
        let keys: Vec<u64> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| {
                let (serial, op) = slot.as_ref()?;
                let kept = matches!(op, InRing::Cancel { .. });
                (!kept).then_some(u64::from(*serial) << 32 | index as u64)
            })
            .collect();
        for key in keys {
            self.cancel(key);
        }
        for _ in 0..DRAIN_ROUNDS {
            while let Some(Completed { op, result, .. }) = self.next() {
                if op.gives_descriptor() && result >= 0 {
                    drop(adopt(result));
                }
            }
            if self.slots.iter().all(Option::is_none) {
                return;
            }
            self.submit_but(1, Some(DRAIN_WAIT));
        }
        mem::forget(mem::take(&mut self.slots));
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let in_flight = self.slots.len() - self.free.len();
        write!(f, "Ring({in_flight} in flight, {} waiting)", self.backlog.len())
    }
}

/// The descriptor that a completion handed over.
pub(super) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel made it for us with the completion that was just taken, once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Sets up a ring with the best flags that this kernel takes; says whether it is Linux 5.19 or later.
fn build(entries: u32) -> io::Result<(IoUring, bool)> {
    let attempt = |flags: fn(&mut io_uring::Builder)| {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(entries.saturating_mul(4)).dontfork();
        flags(&mut builder);
        builder.build(entries)
    };
    // Completions wait until the thread asks for them (Linux 6.1).
    let deferred = attempt(|builder| {
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
    });
    // Completions do not interrupt the thread (Linux 5.19).
    let cooperative = |_| {
        attempt(|builder| {
            builder.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
        })
    };
    let modern = deferred.or_else(cooperative).map(|ring| (ring, true));
    modern.or_else(|_| attempt(|_| ()).map(|ring| (ring, false)))
}

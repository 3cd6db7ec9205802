//! Operations as the kernel gets them: each owns all the memory that its submission entry points to.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use io_uring::{opcode, squeue, types};

use crate::buffer::Registered;
use crate::op::{FileId, Token};
use crate::sys::RawAddress;
use crate::{Buffer, Outgoing, Slice};

/// `IORING_RECVSEND_POLL_FIRST`: do not try first, there is nothing yet.
const POLL_FIRST: u16 = 1;

/// The most bytes of one transfer; a multiple of the block.
const MOST: usize = 1 << 30;

/// What an operation is done to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// A slot of the ring's file table.
    Fixed(u32),
    /// A descriptor, which stays open as long as the operation is in flight.
    Fd(RawFd),
}

/// One operation that the kernel has, or is about to get.
#[derive(Debug)]
pub(super) enum InRing {
    Read {
        token: Token,
        file: FileId,
        target: Target,
        at: u64,
        buffer: Buffer,
    },
    Write {
        token: Token,
        file: FileId,
        target: Target,
        at: u64,
        data: Slice,
        durable: bool,
        /// Rather than have a worker wait, say for the file's lock while it is being prepared, it comes back with `EAGAIN`.
        or_return: bool,
    },
    Sync {
        token: Token,
        file: FileId,
        target: Target,
        data_only: bool,
        /// How many writes of the file were begun before.
        writes: u64,
        then: AfterSync,
    },
    /// A data sync of one file, for its flush of the device.
    Flush {
        /// Which of the ring's devices.
        device: usize,
        target: Target,
    },
    Accept {
        token: Token,
        listener: u32,
        fd: RawFd,
        address: Box<RawAddress>,
    },
    Connect {
        token: Token,
        socket: OwnedFd,
        address: Box<RawAddress>,
    },
    Receive {
        token: Token,
        conn: u32,
        fd: RawFd,
        buffer: Buffer,
        poll_first: bool,
    },
    /// Sends that go out together.
    Send {
        conn: u32,
        fd: RawFd,
        batch: Outgoing,
        header: Box<SendHeader>,
    },
    /// Reads the event counter that wakers write.
    Wake {
        fd: RawFd,
        count: Box<u64>,
    },
    /// Cancels the operation with that key.
    Cancel {
        key: u64,
    },
    Nothing,
}

/// What a sync makes of an operation when it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AfterSync {
    /// It was a sync.
    Synced,
    /// It was a durable write to a buffered file, of that many bytes.
    Wrote(usize),
}

/// The parts of a send, as the kernel wants them. On the heap, since the kernel is given its address.
pub(super) struct SendHeader {
    message: libc::msghdr,
    parts: Vec<libc::iovec>,
}

impl Default for SendHeader {
    fn default() -> SendHeader {
        // SAFETY: all zeros is a valid `msghdr`: no name, no parts, no control data.
        SendHeader { message: unsafe { std::mem::zeroed() }, parts: Vec::new() }
    }
}

impl std::fmt::Debug for SendHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendHeader({} parts)", self.parts.len())
    }
}

/// Builds an entry for a descriptor or a slot of the file table.
macro_rules! to {
    ($target:expr, |$fd:ident| $build:expr) => {
        match $target {
            Target::Fixed(index) => {
                let $fd = types::Fixed(index);
                $build
            }
            Target::Fd(fd) => {
                let $fd = types::Fd(fd);
                $build
            }
        }
    };
}

impl InRing {
    /// The entry for the kernel; `ring` is the number of the ring that it goes to.
    ///
    /// It points into memory on the heap that `self` owns, or counts a share of: moving `self` is fine,
    /// dropping it before the completion is not.
    pub(super) fn entry(&mut self, ring: u32) -> squeue::Entry {
        let mine = |registered: Option<Registered>| registered.filter(|r| r.ring == ring).map(|r| r.index);
        match self {
            InRing::Read { target, at, buffer, .. } => {
                let index = mine(buffer.registered());
                buffer.set_len(0);
                let room = buffer.spare_mut();
                let (memory, len) = (room.as_mut_ptr(), room.len().min(MOST) as u32);
                match index {
                    Some(index) => to!(*target, |fd| {
                        opcode::ReadFixed::new(fd, memory, len, index).offset(*at).build()
                    }),
                    None => to!(*target, |fd| opcode::Read::new(fd, memory, len).offset(*at).build()),
                }
            }
            InRing::Write { target, at, data, durable, or_return, .. } => {
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                let flags = flags | if *or_return { libc::RWF_NOWAIT } else { 0 };
                let (memory, len) = (data.as_ptr(), data.len().min(MOST) as u32);
                match mine(data.registered()) {
                    Some(index) => to!(*target, |fd| {
                        opcode::WriteFixed::new(fd, memory, len, index).offset(*at).rw_flags(flags).build()
                    }),
                    None => to!(*target, |fd| {
                        opcode::Write::new(fd, memory, len).offset(*at).rw_flags(flags).build()
                    }),
                }
            }
            InRing::Sync { target, data_only, .. } => {
                let flags = if *data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
                to!(*target, |fd| opcode::Fsync::new(fd).flags(flags).build())
            }
            InRing::Flush { target, .. } => {
                to!(*target, |fd| opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build())
            }
            InRing::Accept { fd, address, .. } => {
                let (at, len) = (address.as_mut_ptr(), address.len_mut());
                opcode::Accept::new(types::Fd(*fd), at, len).flags(libc::SOCK_CLOEXEC).build()
            }
            InRing::Connect { socket, address, .. } => {
                opcode::Connect::new(types::Fd(socket.as_raw_fd()), address.as_ptr(), address.len()).build()
            }
            InRing::Receive { fd, buffer, poll_first, .. } => {
                let room = buffer.spare_mut();
                let (memory, len) = (room.as_mut_ptr(), room.len().min(MOST) as u32);
                let priority = if *poll_first { POLL_FIRST } else { 0 };
                opcode::Recv::new(types::Fd(*fd), memory, len).ioprio(priority).build()
            }
            InRing::Send { fd, batch, header, .. } => {
                header.parts.clear();
                header.parts.extend(batch.unsent().map(|bytes| libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                }));
                // Wait for all: the kernel goes on by itself when the peer has taken some.
                let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
                if let [only] = header.parts[..] {
                    let (memory, len) = (only.iov_base.cast_const().cast(), only.iov_len.min(MOST) as u32);
                    return opcode::Send::new(types::Fd(*fd), memory, len).flags(flags).build();
                }
                header.message.msg_iov = header.parts.as_mut_ptr();
                header.message.msg_iovlen = header.parts.len();
                opcode::SendMsg::new(types::Fd(*fd), &raw const header.message).flags(flags as u32).build()
            }
            InRing::Wake { fd, count } => {
                opcode::Read::new(types::Fd(*fd), std::ptr::from_mut(&mut **count).cast(), 8).build()
            }
            InRing::Cancel { key } => opcode::AsyncCancel::new(*key).build(),
            InRing::Nothing => opcode::Nop::new().build(),
        }
    }

    /// Whether its completion hands over a new descriptor.
    pub(super) fn gives_descriptor(&self) -> bool {
        matches!(self, InRing::Accept { .. })
    }
}

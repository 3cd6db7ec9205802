//! The I/O seam: files and sockets by submission and completion. **The only Highwater crate with `unsafe`.**
//!
//! Everything above this crate is a function of the order of its inputs. It hands an [`Op`] with a [`Token`]
//! to [`Io::submit`] and later finds a [`Completion`] with that token in [`Io::reap`]. Nothing above it blocks,
//! so the simulator can run the same code.
//!
//! # The contract
//!
//! Every implementation is held to this by one suite (`tests/io_contract.rs` runs it; the module `contract`, behind the feature of that
//! name, holds it).
//!
//! **Order.** Operations run in any order and complete in any order, also those on one file. Who needs an
//! order waits for the completion first. Each submitted operation completes exactly once. Operations on one
//! connection's sending side complete in the order they were submitted, likewise on its receiving side.
//!
//! **Buffers** go into an `Op` by value: a [`Buffer`] comes back in its completion, a [`Slice`] is counted and
//! read-only, so nobody can free or change memory that the kernel is using.
//!
//! **Handles.** Once `Close`, `CloseListener` or `Disconnect` is submitted, later operations on the handle fail with
//! [`ErrorKind::Cancelled`], also when its place has been taken by something newer. A file opened for reading
//! refuses changes with [`ErrorKind::Denied`].
//!
//! **Short transfers happen.** A read returns what it got (nothing at the end of the file), a write says how
//! much it wrote. The caller goes on from there. `EINTR` and `EAGAIN` are handled below the seam.
//!
//! **Visible is not durable.** After a write completes, reads see it. It survives a power cut only once a
//! [`Op::Sync`] of that file, submitted after the write *completed*, has completed without error (or the write
//! itself had `durable` set). A cut before that may keep any of the write's 512-byte sectors and lose the others.
//!
//! **A file's length is a fact of its own.** A write past the end, [`Op::Truncate`] and [`Op::Prepare`]
//! change it at once, and durably with the next completed sync.
//!
//! **Names are durable by their directory.** A file that was made, renamed or removed is so after a power cut
//! only once an [`Op::SyncDir`] of its directory, submitted after that operation completed, has completed.
//! Renaming replaces the target atomically.
//!
//! **A failed sync is final.** After one, what was written since the last good sync may be lost although reads
//! still show it, and the kernel will not say so twice (the "fsyncgate" of 2018). The file is latched: each
//! later operation on it except `Close` fails with the first error ([`ErrorKind::Latched`]). A failed durable write
//! (unless it failed for want of space) and a failed `Prepare` count as failed syncs. The latch belongs to the
//! handle: whoever opens the file anew has to find out what it holds.
//!
//! **Direct files.** Opened with `direct`, positions, lengths and memory must be multiples of
//! [`highwater_base::BLOCK`]; a misaligned operation is a programmer's error and panics. Where the file system
//! refuses `O_DIRECT`, the file is opened without it, the completion says so, and all works the same, slower.
//!
//! **Sockets.** Connections do not delay small sends for acknowledgements (`TCP_NODELAY`); sends that wait may go
//! out together. A send that failed leaves a connection of which nothing but `Disconnect` can be expected. A
//! receive into a full buffer is a programmer's error and panics. After the peer has closed its side, every
//! receive brings nothing.
//!
//! # Example
//!
//! ```
//! use highwater_base::FilePos;
//! use highwater_io::{Io, MemoryIo, Op, OpenHow, Outcome, Slice, Token, blocking};
//!
//! let mut io = MemoryIo::new();
//! blocking::run(&mut io, Op::CreateDir { path: "/logs".into() })?;
//! let opened = blocking::run(&mut io, Op::Open { path: "/logs/a".into(), how: OpenHow::CreateNew, direct: false })?;
//! let Outcome::Opened { file, .. } = opened else { unreachable!() };
//! let hello = Slice::from(b"hello".to_vec());
//! blocking::run(&mut io, Op::Write { file, at: FilePos::ZERO, data: hello, durable: false })?;
//! let Outcome::Read { buffer } =
//!     blocking::run(&mut io, Op::Read { file, at: FilePos::ZERO, buffer: highwater_io::Buffer::new(4096) })?
//! else { unreachable!() };
//! assert_eq!(buffer.filled(), b"hello");
//! # Ok::<(), highwater_io::IoError>(())
//! ```

mod affinity;
mod align;
mod arena;
pub mod blocking;
mod buffer;
#[cfg(feature = "contract")]
pub mod contract;
mod copy;
mod device;
mod error;
mod event;
mod files;
mod latch;
mod lock;
#[cfg(feature = "map")]
mod map;
mod memory;
mod op;
mod outgoing;
mod pool;
mod posix;
mod process;
mod production;
mod read_only;
mod slots;
mod slow;
#[cfg(target_os = "linux")]
mod slow_lane;
mod space;
mod sys;
#[cfg(target_os = "linux")]
mod uring;

pub use affinity::{allowed_cores, pin_to_core};
pub use buffer::{Buffer, Chunk, Slice};
pub use error::{ErrorKind, IoError};
pub use latch::SyncFault;
pub use lock::{FileLock, LockError, is_locked};
#[cfg(feature = "map")]
pub use map::Mapping;
pub use memory::{MemoryDisk, MemoryIo};
pub use op::{
    Completion, ConnId, DirEntry, EntryKind, FileFacts, FileId, ListenerId, Op, OpenHow, Outcome, Prepared,
    Token,
};
pub use posix::PosixIo;
pub use process::{give_back_free_memory, raise_open_file_limit};
pub use production::{IoChoice, production};
pub use read_only::ReadOnly;
pub use space::free_bytes;
#[cfg(target_os = "linux")]
pub use uring::UringIo;

pub(crate) use outgoing::Outgoing;

/// Submission and completion of operations; see the crate's documentation for the contract.
pub trait Io {
    /// Queues an operation. Never blocks. The ring may be full: then the operation waits inside.
    fn submit(&mut self, op: Op, token: Token);

    /// Hands everything queued to the kernel and appends what has completed to `out`. Never blocks.
    fn reap(&mut self, out: &mut Vec<Completion>);

    /// An empty buffer whose capacity is `len`, rounded up to blocks: registered with the ring if one is free.
    /// Such memory is used again and again; what lies behind the filled part is left over from earlier uses.
    fn buffer(&mut self, len: usize) -> Buffer {
        Buffer::new(len)
    }

    /// An empty staging chunk whose capacity is `len`, rounded up to blocks; otherwise like [`Io::buffer`].
    fn chunk(&mut self, len: usize) -> Chunk {
        Chunk::new(len)
    }

    /// How many operations were submitted and have not been reaped.
    fn in_flight(&self) -> usize;

    /// Whether a flush or a durable write is on its way: then a plain write and [`Op::Flush`] cost the device less
    /// than a durable write, because flushes are shared.
    fn is_flushing(&self) -> bool {
        false
    }

    /// Whether so many plain writes are in flight that one more would only wait: then whoever can wait as well asks for its turn
    /// ([`Op::Turn`]).
    fn is_crowded(&self) -> bool {
        false
    }

    /// What this implementation is, for a log line: `io_uring`, `posix`, `memory`, `sim`.
    fn name(&self) -> &'static str;
}

/// The waiting half, which only the thread's loop and [`blocking`] use.
pub trait Park: Io {
    /// Like [`Io::reap`], but if nothing has completed, sleeps until something does, a [`Waker`] of this
    /// instance is used, or `timeout` has passed (`None`: no limit). May return early with nothing.
    fn park(&mut self, timeout: Option<std::time::Duration>, out: &mut Vec<Completion>);

    /// A handle by which another thread ends [`Park::park`].
    fn waker(&self) -> Waker;
}

impl<P: Io + ?Sized> Io for Box<P> {
    fn submit(&mut self, op: Op, token: Token) {
        (**self).submit(op, token);
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        (**self).reap(out);
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        (**self).buffer(len)
    }

    fn chunk(&mut self, len: usize) -> Chunk {
        (**self).chunk(len)
    }

    fn in_flight(&self) -> usize {
        (**self).in_flight()
    }

    fn is_flushing(&self) -> bool {
        (**self).is_flushing()
    }

    fn is_crowded(&self) -> bool {
        (**self).is_crowded()
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }
}

impl<P: Park + ?Sized> Park for Box<P> {
    fn park(&mut self, timeout: Option<std::time::Duration>, out: &mut Vec<Completion>) {
        (**self).park(timeout, out);
    }

    fn waker(&self) -> Waker {
        (**self).waker()
    }
}

/// Ends a [`Park::park`] from any thread; a wake before the park ends that park at once.
///
/// ```
/// use highwater_io::{MemoryIo, Park};
/// let mut io = MemoryIo::new();
/// io.waker().wake();
/// io.park(None, &mut Vec::new()); // returns at once
/// ```
#[derive(Clone)]
pub struct Waker(std::sync::Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Waker {
        Waker(std::sync::Arc::new(wake))
    }

    /// Ends the current park, or the next one.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

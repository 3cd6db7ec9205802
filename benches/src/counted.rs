//! An [`Io`] that counts the reads that it is asked for.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use highwater_io::{Buffer, Chunk, Completion, Io, Op, Park, Token, Waker};

/// How many reads there were; a clone counts with it.
///
/// ```
/// use highwater_benches::counted::{Counted, Reads};
/// use highwater_io::{Io, MemoryIo};
/// let reads = Reads::default();
/// let io = Counted::new(Box::new(MemoryIo::new()), reads.clone());
/// assert_eq!((io.name(), reads.so_far()), ("memory", 0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Reads(Rc<Cell<u64>>);

impl Reads {
    /// How many.
    pub fn so_far(&self) -> u64 {
        self.0.get()
    }
}

/// What does the work, and the count of its reads.
pub struct Counted {
    io: Box<dyn Park>,
    reads: Reads,
}

impl Counted {
    /// Counts the reads of `io` in `reads`.
    pub fn new(io: Box<dyn Park>, reads: Reads) -> Counted {
        Counted { io, reads }
    }
}

impl Io for Counted {
    fn submit(&mut self, op: Op, token: Token) {
        self.reads.0.set(self.reads.0.get() + u64::from(matches!(op, Op::Read { .. })));
        self.io.submit(op, token);
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        self.io.reap(out);
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.io.buffer(len)
    }

    fn chunk(&mut self, len: usize) -> Chunk {
        self.io.chunk(len)
    }

    fn in_flight(&self) -> usize {
        self.io.in_flight()
    }

    fn is_flushing(&self) -> bool {
        self.io.is_flushing()
    }

    fn name(&self) -> &'static str {
        self.io.name()
    }
}

impl Park for Counted {
    fn park(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion>) {
        self.io.park(timeout, out);
    }

    fn waker(&self) -> Waker {
        self.io.waker()
    }
}

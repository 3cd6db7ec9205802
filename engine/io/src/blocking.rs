//! One operation to completion: for opening a log and for tools. A serving shard never calls this.

use crate::{Completion, IoError, Op, Outcome, Park, Token};

/// The owner of tokens made here; no log or connection may use it.
pub const OWNER: u32 = u32::MAX;

/// Submits `op` and waits for it. Panics if other operations are in flight, since their completions
/// would have nowhere to go.
///
/// ```
/// use highwater_io::{MemoryIo, Op, blocking};
/// assert!(blocking::run(&mut MemoryIo::new(), Op::Unlink { path: "/missing".into() }).is_err());
/// ```
pub fn run(io: &mut dyn Park, op: Op) -> Result<Outcome, IoError> {
    assert_eq!(io.in_flight(), 0, "blocking::run: other operations are in flight");
    io.submit(op, Token { owner: OWNER, tag: 0 });
    let mut out: Vec<Completion> = Vec::with_capacity(1);
    while out.is_empty() {
        io.park(None, &mut out);
    }
    out.swap_remove(0).result
}

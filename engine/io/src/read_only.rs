//! An [`Io`] that changes nothing on any disk.

use std::time::Duration;

use crate::op::{Completion, Op, OpenHow, Token};
use crate::{Buffer, Chunk, ErrorKind, Io, IoError, Park, Waker};

/// Refuses every operation that could change a file or a directory, so that code which only looks (a tool, a
/// verdict on a torn tail) can be handed a real directory. Those operations complete with
/// [`ErrorKind::Denied`] and never reach the system.
///
/// ```
/// use highwater_io::{ErrorKind, MemoryDisk, MemoryIo, Op, ReadOnly, blocking};
/// let disk = MemoryDisk::new();
/// disk.put("/log", b"batches");
/// let mut io = ReadOnly::new(MemoryIo::on(disk));
/// assert!(blocking::run(&mut io, Op::Stat { path: "/log".into() }).is_ok());
/// let refused = blocking::run(&mut io, Op::Unlink { path: "/log".into() }).unwrap_err();
/// assert_eq!(refused.kind, ErrorKind::Denied);
/// ```
#[derive(Debug)]
pub struct ReadOnly<P> {
    inner: P,
    refused: Vec<Completion>,
}

impl<P: Park> ReadOnly<P> {
    /// Makes `inner` read-only.
    pub fn new(inner: P) -> ReadOnly<P> {
        ReadOnly { inner, refused: Vec::new() }
    }
}

/// What would be changed and how, if an operation changes anything.
fn change(op: &Op) -> Option<(&'static str, String)> {
    let path = |what, path: &std::path::Path| Some((what, path.display().to_string()));
    match op {
        Op::Open { how: OpenHow::Read, .. }
        | Op::Close { .. }
        | Op::Read { .. }
        | Op::Stat { .. }
        | Op::StatMany { .. }
        | Op::Space { .. }
        | Op::Turn
        | Op::Idle
        | Op::ReadDir { .. }
        | Op::Listen { .. }
        | Op::CloseListener { .. }
        | Op::Accept { .. }
        | Op::Connect { .. }
        | Op::Receive { .. }
        | Op::Send { .. }
        | Op::Disconnect { .. } => None,
        Op::Open { path: at, .. } => path("open for writing", at),
        Op::Rename { from, .. } => path("rename", from),
        Op::Unlink { path: at } => path("unlink", at),
        Op::CreateDir { path: at } => path("create directory", at),
        Op::RemoveDir { path: at } => path("remove directory", at),
        Op::SyncDir { path: at } => path("sync directory", at),
        Op::Write { file, .. } => Some(("write", format!("{file:?}"))),
        Op::Sync { file, .. } | Op::Flush { file } => Some(("sync", format!("{file:?}"))),
        Op::Prepare { file, .. } => Some(("prepare", format!("{file:?}"))),
        Op::Truncate { file, .. } => Some(("truncate", format!("{file:?}"))),
    }
}

impl<P: Park> Io for ReadOnly<P> {
    fn submit(&mut self, op: Op, token: Token) {
        match change(&op) {
            None => self.inner.submit(op, token),
            Some((what, subject)) => {
                let refused = IoError::of(ErrorKind::Denied, what, subject);
                self.refused.push(Completion { token, result: Err(refused) });
            }
        }
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        out.append(&mut self.refused);
        self.inner.reap(out);
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.inner.buffer(len)
    }

    fn chunk(&mut self, len: usize) -> Chunk {
        self.inner.chunk(len)
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.refused.len()
    }

    fn is_flushing(&self) -> bool {
        self.inner.is_flushing()
    }

    fn is_crowded(&self) -> bool {
        self.inner.is_crowded()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}

impl<P: Park> Park for ReadOnly<P> {
    fn park(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion>) {
        let timeout = if self.refused.is_empty() { timeout } else { Some(Duration::ZERO) };
        out.append(&mut self.refused);
        self.inner.park(timeout, out);
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryDisk, MemoryIo, Outcome, blocking};

    #[test]
    fn nothing_changes() {
        let disk = MemoryDisk::new();
        disk.put("/a", b"bytes");
        let mut io = ReadOnly::new(MemoryIo::on(disk.clone()));
        let open = |how| Op::Open { path: "/a".into(), how, direct: false };
        let Ok(Outcome::Opened { file, .. }) = blocking::run(&mut io, open(OpenHow::Read)) else {
            panic!("reading is allowed")
        };
        let changes = [
            open(OpenHow::Write),
            open(OpenHow::CreateOrEmpty),
            Op::Truncate { file, len: 0 },
            Op::Sync { file, data_only: true, urgent: true },
            Op::Rename { from: "/a".into(), to: "/b".into() },
            Op::CreateDir { path: "/d".into() },
        ];
        for op in changes {
            assert_eq!(blocking::run(&mut io, op).unwrap_err().kind, ErrorKind::Denied);
        }
        assert_eq!(disk.contents("/a").unwrap(), b"bytes");
        assert_eq!(disk.paths().len(), 1);
    }
}

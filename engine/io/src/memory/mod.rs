//! Files and sockets in memory, without faults: for doc examples, unit tests and embedders' own tests.

mod disk;
mod net;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

pub use disk::MemoryDisk;

use crate::latch::{Latch, durable_write_latches};
use crate::op::{Completion, FileId, Op, OpenHow, Outcome, Prepared, Token};
use crate::{ErrorKind, Io, IoError, Park, SyncFault, Waker, align};

/// An [`Io`] whose disk is a [`MemoryDisk`] and whose network is itself: `Connect` finds the listeners of the
/// same instance. Operations are done when submitted and complete at the next reap, in that order.
///
/// ```
/// use highwater_io::{MemoryDisk, MemoryIo, Op, OpenHow, blocking};
/// let disk = MemoryDisk::new();
/// let mut io = MemoryIo::on(disk.clone());
/// blocking::run(&mut io, Op::Open { path: "/a".into(), how: OpenHow::CreateNew, direct: true })?;
/// drop(io); // a restart
/// let mut io = MemoryIo::on(disk);
/// assert!(blocking::run(&mut io, Op::Stat { path: "/a".into() }).is_ok());
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub struct MemoryIo {
    disk: MemoryDisk,
    net: net::Net,
    files: BTreeMap<u32, OpenFile>,
    next_file: u32,
    done: VecDeque<Completion>,
    in_flight: usize,
    sync_fault: SyncFault,
    woken: Arc<(Mutex<bool>, Condvar)>,
}

struct OpenFile {
    contents: Arc<Mutex<disk::Contents>>,
    name: String,
    writable: bool,
    direct: bool,
    latch: Latch,
}

impl Default for MemoryIo {
    fn default() -> MemoryIo {
        MemoryIo::on(MemoryDisk::new())
    }
}

impl MemoryIo {
    /// With an empty disk of its own.
    pub fn new() -> MemoryIo {
        MemoryIo::default()
    }

    /// On a disk that may have been written before.
    pub fn on(disk: MemoryDisk) -> MemoryIo {
        MemoryIo {
            disk,
            net: net::Net::default(),
            files: BTreeMap::new(),
            next_file: 0,
            done: VecDeque::new(),
            in_flight: 0,
            sync_fault: SyncFault::default(),
            woken: Arc::default(),
        }
    }

    /// The disk, to look at or to open again.
    pub fn disk(&self) -> MemoryDisk {
        self.disk.clone()
    }

    /// Makes this instance's syncs fail on demand.
    pub fn sync_fault(&self) -> SyncFault {
        self.sync_fault.clone()
    }

    fn open(&mut self, path: &Path, how: OpenHow, direct: bool) -> Result<Outcome, IoError> {
        let name = path.display().to_string();
        let contents =
            self.disk.open(path, how).map_err(|errno| IoError::from_errno(errno, "open", name.clone()))?;
        let len = contents.lock().len();
        let file = FileId(self.next_file);
        self.next_file += 1;
        let writable = how != OpenHow::Read;
        self.files.insert(file.0, OpenFile { contents, name, writable, direct, latch: Latch::default() });
        Ok(Outcome::Opened { file, len, direct })
    }

    fn file(&mut self, file: FileId, what: &'static str) -> Result<&mut OpenFile, IoError> {
        let open = self
            .files
            .get_mut(&file.0)
            .ok_or_else(|| IoError::of(ErrorKind::Cancelled, what, format!("{file:?}")))?;
        open.latch.check()?;
        Ok(open)
    }

    fn writable(&mut self, file: FileId, what: &'static str) -> Result<&mut OpenFile, IoError> {
        let open = self.file(file, what)?;
        if open.writable {
            return Ok(open);
        }
        Err(IoError::of(ErrorKind::Denied, what, format!("{} (opened for reading)", open.name)))
    }

    fn synced(&mut self, file: FileId, outcome: Outcome) -> Result<Outcome, IoError> {
        let fault = self.sync_fault.clone();
        let open = self.file(file, "sync")?;
        match fault.take(&open.name) {
            None => Ok(outcome),
            Some(failed) => {
                open.latch.note(&failed);
                Err(failed)
            }
        }
    }

    /// Does everything but what may have to wait: accepts and receives.
    fn act(&mut self, op: Op) -> Result<Outcome, IoError> {
        let wall_ms = self.disk.wall_ms();
        let on = |path: &Path, what| {
            let subject = path.display().to_string();
            move |errno| IoError::from_errno(errno, what, subject)
        };
        match op {
            Op::Open { path, how, direct } => self.open(&path, how, direct),
            Op::Close { file } => {
                let closed = self.files.remove(&file.0);
                closed
                    .map(|_| Outcome::Done)
                    .ok_or_else(|| IoError::of(ErrorKind::Cancelled, "close", format!("{file:?}")))
            }
            Op::Read { file, at, mut buffer } => {
                let open = self.file(file, "read")?;
                if open.direct {
                    align::check("read", at.get(), buffer.capacity(), buffer.filled().as_ptr());
                }
                buffer.set_len(0);
                let len = open.contents.lock().read(at.get(), buffer.spare_mut());
                buffer.set_len(len);
                Ok(Outcome::Read { buffer })
            }
            Op::Write { file, at, data, durable } => {
                let open = self.writable(file, "write")?;
                if open.direct {
                    align::check("write", at.get(), data.len(), data.as_ptr());
                }
                let mut contents = open.contents.lock();
                contents.write(at.get(), &data);
                contents.touch(wall_ms);
                drop(contents);
                let wrote = Outcome::Wrote { len: data.len() };
                if !durable {
                    return Ok(wrote);
                }
                let result = self.synced(file, wrote);
                debug_assert!(result.as_ref().err().is_none_or(durable_write_latches));
                result
            }
            Op::Sync { file, .. } | Op::Flush { file } => self.synced(file, Outcome::Done),
            Op::Prepare { file, at, len, how } => {
                let open = self.writable(file, "prepare")?;
                if open.direct {
                    align::check("prepare", at.get(), len as usize, std::ptr::null());
                }
                let mut contents = open.contents.lock();
                match how {
                    Prepared::Allocated => contents.extend_to(at.get() + len),
                    Prepared::Zeroed => contents.zero(at.get(), len),
                }
                contents.touch(wall_ms);
                drop(contents);
                self.synced(file, Outcome::Done)
            }
            Op::Truncate { file, len } => {
                let open = self.writable(file, "truncate")?;
                let mut contents = open.contents.lock();
                contents.truncate(len);
                contents.touch(wall_ms);
                Ok(Outcome::Done)
            }
            Op::Stat { path } => self.disk.stat(&path).map_err(on(&path, "stat")),
            Op::StatMany { paths } => {
                let facts = paths.iter().map(|path| self.disk.facts(path).ok()).collect();
                Ok(Outcome::Stats { facts })
            }
            Op::Turn | Op::Idle => Ok(Outcome::Done),
            Op::Space { .. } => Ok(Outcome::Space { total: u64::MAX, free: self.disk.free() }),
            Op::ReadDir { path } => self
                .disk
                .entries(&path)
                .map(|entries| Outcome::Entries { entries })
                .map_err(on(&path, "read directory")),
            Op::Rename { from, to } => {
                self.disk.rename(&from, &to).map(|()| Outcome::Done).map_err(on(&from, "rename"))
            }
            Op::Unlink { path } => {
                self.disk.unlink(&path).map(|()| Outcome::Done).map_err(on(&path, "unlink"))
            }
            Op::CreateDir { path } => {
                self.disk.create_dir(&path).map(|()| Outcome::Done).map_err(on(&path, "create directory"))
            }
            Op::RemoveDir { path } => {
                self.disk.remove_dir(&path).map(|()| Outcome::Done).map_err(on(&path, "remove directory"))
            }
            Op::SyncDir { path } => {
                self.disk.sync_dir(&path).map(|()| Outcome::Done).map_err(on(&path, "sync directory"))
            }
            Op::Listen { address, shared } => self.net.listen(address, shared),
            Op::CloseListener { listener } => self.net.close_listener(listener, &mut self.done),
            Op::Connect { address } => self.net.connect(address, &mut self.done),
            Op::Send { conn, data } => self.net.send(conn, data, &mut self.done),
            Op::Disconnect { conn } => self.net.disconnect(conn, &mut self.done),
            Op::Accept { .. } | Op::Receive { .. } => unreachable!("handled by submit"),
        }
    }
}

impl Io for MemoryIo {
    fn submit(&mut self, op: Op, token: Token) {
        self.in_flight += 1;
        match op {
            Op::Accept { listener } => self.net.accept(listener, token, &mut self.done),
            Op::Receive { conn, buffer } => {
                assert!(buffer.len() < buffer.capacity(), "receive: the buffer has no room");
                self.net.receive(conn, buffer, token, &mut self.done);
            }
            op => {
                let result = self.act(op);
                self.done.push_back(Completion { token, result });
            }
        }
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        self.in_flight -= self.done.len();
        out.extend(self.done.drain(..));
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

impl Park for MemoryIo {
    fn park(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion>) {
        let (woken, signal) = &*self.woken;
        let mut woken = woken.lock();
        if self.done.is_empty() && !*woken {
            match timeout {
                None => signal.wait(&mut woken),
                Some(timeout) => {
                    signal.wait_for(&mut woken, timeout);
                }
            }
        }
        *woken = false;
        drop(woken);
        self.reap(out);
    }

    fn waker(&self) -> Waker {
        let woken = Arc::clone(&self.woken);
        Waker::new(move || {
            *woken.0.lock() = true;
            woken.1.notify_one();
        })
    }
}

impl std::fmt::Debug for MemoryIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryIo({:?}, {} files open)", self.disk, self.files.len())
    }
}

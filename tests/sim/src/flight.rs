//! File operations between submission and completion.

use std::path::PathBuf;

use highwater_base::{BLOCK, FilePos, Mono, Prng};
use highwater_io::{Buffer, ErrorKind, FileFacts, FileId, IoError, Op, OpenHow, Outcome, Slice, Token};

use crate::disk::SimDisk;
use crate::effect::{Applied, Effect};
use crate::errno::{self, Errno};
use crate::fault::FaultKind;
use crate::file::SECTOR;
use crate::names::NodeId;
use crate::sim_io::SimIo;

/// An open file.
pub(crate) struct Handle {
    node: NodeId,
    path: String,
    /// Asked for as a direct file, whether the file system accepted that or not.
    direct: bool,
    /// Opened for reading only.
    read_only: bool,
    /// The first failure of a sync. Everything later fails likewise.
    latch: Option<IoError>,
    /// A close is on its way: nothing new is accepted.
    closing: bool,
}

/// An operation on its way.
pub(crate) struct Flight {
    pub(crate) token: Token,
    pub(crate) name: &'static str,
    pub(crate) task: Task,
    /// Under which the disk knows it, if it changes the disk.
    pub(crate) id: Option<u64>,
    pub(crate) fault: Option<FaultKind>,
}

/// What is to be done.
pub(crate) enum Task {
    Change {
        file: Option<FileId>,
        direct: bool,
        effect: Effect,
        subject: String,
    },
    Read {
        file: FileId,
        at: u64,
        buffer: Buffer,
    },
    Sync {
        file: FileId,
        covers: u64,
        data_only: bool,
    },
    /// A flush of the device, on behalf of this file.
    Flush {
        file: FileId,
        covers: u64,
    },
    Close {
        file: FileId,
    },
    Stat {
        path: PathBuf,
    },
    StatMany {
        paths: Vec<PathBuf>,
    },
    Space {
        path: PathBuf,
    },
    ReadDir {
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
        covers: u64,
    },
}

impl Task {
    fn file(&self) -> Option<FileId> {
        match self {
            Task::Change { file, .. } => *file,
            Task::Read { file, .. } | Task::Sync { file, .. } | Task::Flush { file, .. } => Some(*file),
            Task::Close { file } => Some(*file),
            Task::Stat { .. }
            | Task::StatMany { .. }
            | Task::Space { .. }
            | Task::ReadDir { .. }
            | Task::SyncDir { .. } => None,
        }
    }

    fn change(effect: Effect, direct: bool, subject: &std::path::Path) -> Task {
        Task::Change { file: None, direct, effect, subject: subject.display().to_string() }
    }
}

impl SimDisk {
    /// Notes a change that is on its way.
    pub(crate) fn board(&mut self, task: &Task) -> Option<u64> {
        let Task::Change { effect, .. } = task else { return None };
        self.boarded += 1;
        self.in_flight.insert(self.boarded, effect.clone());
        Some(self.boarded)
    }
}

impl SimIo {
    /// Checks an operation on files and says what is to be done, and not before when.
    pub(crate) fn embark(&mut self, op: Op) -> Result<(Task, Mono), IoError> {
        let covers = self.disk.borrow().seq;
        let on_file = |file, node_effect: Effect| Task::Change {
            file: Some(file),
            direct: false,
            effect: node_effect,
            subject: String::new(),
        };
        let task = match op {
            Op::Open { path, how, direct } => {
                let subject = path.clone();
                Task::change(Effect::Open { path, how }, direct, &subject)
            }
            Op::Close { file } => {
                let Some(handle) = self.handles.get_mut(&file).filter(|handle| !handle.closing) else {
                    return Err(IoError::of(ErrorKind::Cancelled, "close", "a closed file"));
                };
                handle.closing = true;
                // In-flight operations on it finish first.
                let last = self.flights.iter().filter(|(_, flight)| flight.task.file() == Some(file));
                let after = last.map(|((due, _), _)| Mono::from_nanos(due.nanos() + 1)).max();
                return Ok((Task::Close { file }, after.unwrap_or(Mono::ZERO)));
            }
            Op::Read { file, at, buffer } => {
                let handle = self.handle(file, "read")?;
                aligned(handle, "read", at, buffer.capacity(), buffer.filled().as_ptr());
                Task::Read { file, at: at.get(), buffer }
            }
            Op::Write { file, at, data, durable } => {
                let handle = self.writable(file, "write")?;
                aligned(handle, "write", at, data.len(), data.as_ptr());
                on_file(file, Effect::Write { file: handle.node, at: at.get(), data, durable })
            }
            Op::Sync { file, data_only, .. } => {
                self.handle(file, "sync")?;
                Task::Sync { file, covers, data_only }
            }
            Op::Flush { file } => {
                self.handle(file, "sync")?;
                Task::Flush { file, covers }
            }
            Op::Prepare { file, at, len, how } => {
                let handle = self.writable(file, "prepare")?;
                aligned(handle, "prepare", at, len as usize, std::ptr::null());
                let node = handle.node;
                on_file(file, Effect::Prepare { file: node, at: at.get(), len, how })
            }
            Op::Truncate { file, len } => {
                let node = self.writable(file, "truncate")?.node;
                on_file(file, Effect::Truncate { file: node, len })
            }
            Op::Stat { path } => Task::Stat { path },
            Op::StatMany { paths } => Task::StatMany { paths },
            Op::Space { path } => Task::Space { path },
            Op::ReadDir { path } => Task::ReadDir { path },
            Op::Rename { from, to } => {
                let subject = from.clone();
                Task::change(Effect::Rename { from, to }, false, &subject)
            }
            Op::Unlink { path } => {
                let subject = path.clone();
                Task::change(Effect::Unlink { path }, false, &subject)
            }
            Op::CreateDir { path } => {
                let subject = path.clone();
                Task::change(Effect::CreateDir { path }, false, &subject)
            }
            Op::RemoveDir { path } => {
                let subject = path.clone();
                Task::change(Effect::RemoveDir { path }, false, &subject)
            }
            Op::SyncDir { path } => Task::SyncDir { path, covers },
            other => panic!("the simulation does not know {other:?}"),
        };
        Ok((task, Mono::ZERO))
    }

    fn handle(&self, file: FileId, what: &'static str) -> Result<&Handle, IoError> {
        let open = self.handles.get(&file).filter(|handle| !handle.closing);
        let handle = open.ok_or_else(|| IoError::of(ErrorKind::Cancelled, what, "a closed file"))?;
        match &handle.latch {
            Some(first) => Err(IoError { kind: ErrorKind::Latched, ..first.clone() }),
            None => Ok(handle),
        }
    }

    fn writable(&self, file: FileId, what: &'static str) -> Result<&Handle, IoError> {
        let handle = self.handle(file, what)?;
        match handle.read_only {
            true => Err(IoError::of(ErrorKind::Denied, what, &handle.path)),
            false => Ok(handle),
        }
    }

    /// Does what is to be done.
    pub(crate) fn land(&mut self, flight: Flight) -> Result<Outcome, IoError> {
        let Flight { name, task, id, fault, .. } = flight;
        let now_ms = self.clock.now().wall.get();
        let mut disk = self.disk.borrow_mut();
        disk.wall_ms = now_ms;
        disk.names.wall_ms = now_ms;
        if let Some(id) = id {
            disk.in_flight.remove(&id);
        }
        drop(disk);
        let errno = match fault {
            Some(FaultKind::Error(errno)) => Some(errno),
            _ => None,
        };
        let short = fault == Some(FaultKind::Short) || {
            let one_in = self.behaviour.short_one_in;
            one_in > 0 && matches!(name, "read" | "write" | "durable write") && self.prng.one_in(one_in)
        };
        match task {
            Task::Change { file, direct, effect, subject } => {
                let subject = file.map_or(subject, |file| self.handles[&file].path.clone());
                let effect = if short { self.shorten(file, effect) } else { effect };
                self.change(name, file, direct, effect, fault, subject)
            }
            Task::Read { file, at, mut buffer } => {
                let handle = &self.handles[&file];
                if let Some(errno) = errno {
                    return Err(IoError::from_errno(errno, name, &handle.path));
                }
                buffer.set_len(0);
                let want = buffer.capacity();
                let want = if short { part(want, handle.direct, &mut self.prng) } else { want };
                let len = self.disk.borrow().files[&handle.node]
                    .visible()
                    .read(at, &mut buffer.spare_mut()[..want]);
                buffer.set_len(len);
                Ok(Outcome::Read { buffer })
            }
            Task::Sync { file, covers, data_only } => self.sync(file, covers, data_only, fault),
            Task::Flush { file, covers } => self.flush(file, covers, fault),
            Task::Close { file } => {
                let handle = self.handles.remove(&file).expect("closed once");
                if !self.handles.values().any(|other| other.node == handle.node) {
                    self.disk.borrow_mut().forget_unnamed(handle.node);
                }
                match errno {
                    Some(errno) => Err(IoError::from_errno(errno, name, handle.path)),
                    None => Ok(Outcome::Done),
                }
            }
            Task::Stat { path } => self.answer(errno, name, &path, |disk| {
                let (kind, len, modified_ms) = disk.stat(&path)?;
                Ok(Outcome::Stat { kind, len, modified_ms, device: 1, links: 1 })
            }),
            Task::StatMany { paths } => self.answer(errno, name, "/".as_ref(), |disk| {
                let facts = |path: &PathBuf| {
                    let (kind, len, modified_ms) = disk.stat(path).ok()?;
                    Some(FileFacts { kind, len, modified_ms })
                };
                Ok(Outcome::Stats { facts: paths.iter().map(facts).collect() })
            }),
            Task::Space { path } => self.answer(errno, name, &path, |disk| {
                let free = disk.free();
                Ok(Outcome::Space { total: free.saturating_add(disk.used()), free })
            }),
            Task::ReadDir { path } => {
                let mut entries = Vec::new();
                let done = self.answer(errno, name, &path, |disk| {
                    entries = disk.read_dir(&path)?;
                    Ok(Outcome::Done)
                });
                // "In no order."
                for index in (1..entries.len()).rev() {
                    entries.swap(index, self.prng.below(index as u64 + 1) as usize);
                }
                done.map(|_| Outcome::Entries { entries })
            }
            Task::SyncDir { path, covers } => {
                let lying = fault == Some(FaultKind::Lying);
                self.answer(errno, name, &path, |disk| {
                    disk.sync_dir(&path, if lying { 0 } else { covers })?;
                    Ok(Outcome::Done)
                })
            }
        }
    }

    fn answer(
        &self,
        errno: Option<Errno>,
        name: &'static str,
        path: &std::path::Path,
        act: impl FnOnce(&mut SimDisk) -> Result<Outcome, Errno>,
    ) -> Result<Outcome, IoError> {
        let result = match errno {
            Some(errno) => Err(errno),
            None => act(&mut self.disk.borrow_mut()),
        };
        result.map_err(|errno| IoError::from_errno(errno, name, path.display().to_string()))
    }

    fn change(
        &mut self,
        name: &'static str,
        file: Option<FileId>,
        direct: bool,
        effect: Effect,
        fault: Option<FaultKind>,
        subject: String,
    ) -> Result<Outcome, IoError> {
        let mut disk = self.disk.borrow_mut();
        let applied = match fault {
            Some(FaultKind::Error(errno)) => {
                let on_file = matches!(effect, Effect::Write { .. } | Effect::Prepare { .. });
                if errno == errno::EIO && on_file {
                    disk.apply_partly(&effect, &mut self.prng);
                }
                Err(errno)
            }
            Some(FaultKind::Lost) if let Effect::Write { data, .. } = &effect => {
                Ok(Applied::Wrote(data.len()))
            }
            Some(FaultKind::Misdirected) => disk.apply(&misdirected(effect.clone(), &mut self.prng)),
            _ => disk.apply(&effect),
        };
        drop(disk);
        match applied {
            Ok(Applied::Done) => Ok(Outcome::Done),
            Ok(Applied::Wrote(len)) => Ok(Outcome::Wrote { len }),
            Ok(Applied::Opened(node)) => {
                let len = self.disk.borrow().files[&node].visible().len();
                let read_only = matches!(effect, Effect::Open { how: OpenHow::Read, .. });
                let handle = Handle { node, path: subject, direct, read_only, latch: None, closing: false };
                let file = self.new_handle(handle);
                Ok(Outcome::Opened { file, len, direct: direct && self.behaviour.direct })
            }
            Err(errno) => {
                let error = IoError::from_errno(errno, name, subject);
                let synced = matches!(effect, Effect::Write { durable: true, .. } | Effect::Prepare { .. });
                if let Some(file) = file
                    && synced
                    && error.kind != ErrorKind::NoSpace
                {
                    // It was a sync too, and that may have lost what was written before.
                    let mut disk = self.disk.borrow_mut();
                    let seq = disk.seq;
                    disk.failed_sync(self.handles[&file].node, seq, &mut self.prng);
                    drop(disk);
                    self.latch(file, &error);
                }
                Err(error)
            }
        }
    }

    fn sync(
        &mut self,
        file: FileId,
        covers: u64,
        data_only: bool,
        fault: Option<FaultKind>,
    ) -> Result<Outcome, IoError> {
        let handle = &self.handles[&file];
        let (node, path) = (handle.node, handle.path.clone());
        match fault {
            Some(FaultKind::Error(errno)) => {
                self.disk.borrow_mut().failed_sync(node, covers, &mut self.prng);
                let error = IoError::from_errno(errno, "sync", path);
                self.latch(file, &error);
                Err(error)
            }
            Some(FaultKind::Lying) => Ok(Outcome::Done),
            _ => {
                self.disk.borrow_mut().sync(node, covers, data_only);
                Ok(Outcome::Done)
            }
        }
    }

    /// Of the file only what lies in settled blocks: a flush writes no metadata. One that fails may have lost what any file
    /// had not synced.
    fn flush(&mut self, file: FileId, covers: u64, fault: Option<FaultKind>) -> Result<Outcome, IoError> {
        let node = self.handles[&file].node;
        match fault {
            Some(FaultKind::Error(errno)) => {
                let error = IoError::from_errno(errno, "sync", &self.handles[&file].path);
                let dirty = self.disk.borrow_mut().failed_flush(covers, &mut self.prng);
                let hit = |handle: &Handle| dirty.contains(&handle.node) || handle.node == node;
                for handle in self.handles.values_mut().filter(|handle| hit(handle)) {
                    handle.latch.get_or_insert_with(|| error.clone());
                }
                Err(error)
            }
            Some(FaultKind::Lying) => Ok(Outcome::Done),
            _ => {
                self.disk.borrow_mut().flush(node, covers);
                Ok(Outcome::Done)
            }
        }
    }

    fn latch(&mut self, file: FileId, error: &IoError) {
        if let Some(handle) = self.handles.get_mut(&file) {
            handle.latch.get_or_insert_with(|| error.clone());
        }
    }

    fn shorten(&mut self, file: Option<FileId>, effect: Effect) -> Effect {
        match (file, effect) {
            (Some(id), Effect::Write { file, at, data, durable }) => {
                let len = part(data.len(), self.handles[&id].direct, &mut self.prng);
                Effect::Write { file, at, data: data.range(0..len), durable }
            }
            (_, other) => other,
        }
    }
}

/// A part of a transfer: at least one byte, on direct files at least one block and whole blocks. On others one time in
/// two, too, so that who goes on from the last whole block comes to an end where every transfer is short.
fn part(len: usize, direct: bool, prng: &mut Prng) -> usize {
    let unit = if direct || prng.one_in(2) { BLOCK as usize } else { 1 };
    let units = len / unit;
    if units <= 1 { len } else { (1 + prng.below(units as u64 - 1) as usize) * unit }
}

/// The same write some blocks further on.
fn misdirected(effect: Effect, prng: &mut Prng) -> Effect {
    match effect {
        Effect::Write { file, at, data, durable } => {
            let data = Slice::from(data.to_vec());
            Effect::Write { file, at: at + (1 + prng.below(4)) * 8 * SECTOR, data, durable }
        }
        other => other,
    }
}

fn aligned(handle: &Handle, what: &str, at: FilePos, len: usize, memory: *const u8) {
    let aligned = |n: u64| n.is_multiple_of(BLOCK);
    assert!(
        !handle.direct || aligned(at.get()) && aligned(len as u64) && aligned(memory as usize as u64),
        "{what} {}: a direct file needs position, length and memory in multiples of {BLOCK}, not {len} bytes at {at}",
        handle.path,
    );
}

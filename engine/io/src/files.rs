//! Open files of a real file system: what is known of each, and the calls that do not wait for long.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::device::{Device, Devices};
use crate::latch::{Latch, durable_write_latches};
use crate::op::{FileId, Op, OpenHow, Outcome, Token};
use crate::slots::Slots;
use crate::slow::{Opened, Slow};
use crate::{ErrorKind, IoError, Slice, SyncFault, align, sys};

/// One open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) handle: Arc<File>,
    pub(crate) name: Arc<str>,
    /// Opened for writing, too.
    writable: bool,
    /// Asked to be direct: misaligned operations panic, also where the file system refused.
    aligned: bool,
    /// Really direct.
    pub(crate) direct: bool,
    pub(crate) latch: Latch,
    /// Operations on it that the kernel or the slow lane still has.
    pub(crate) in_flight: u32,
    /// Who waits for it to be closed once none is in flight.
    pub(crate) closing: Option<Token>,
    /// Known to the ring by its slot.
    pub(crate) fixed: bool,
    /// The device that holds it, if flushes of that are shared.
    pub(crate) device: Option<Arc<Device>>,
    /// While there are writes that no sync has covered: how often flushes of the device had failed before the first.
    unflushed: Option<u64>,
    /// Counts writes, to know those that came after a sync was asked for.
    writes: u64,
    /// What its ring knows of its flushes.
    pub(crate) flushing: Flushing,
    /// Its file system cannot refuse an operation that would wait (`tmpfs`, `overlayfs`), as was found out.
    pub(crate) always_waits: bool,
}

/// Of a file whose flushes are shared, for the ring to know which flushes will be asked for soon.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flushing {
    /// The ring's number of the device, from the first flush on.
    pub(crate) queue: Option<usize>,
    /// A flush is asked for and has not begun.
    pub(crate) waits: bool,
    /// Plain writes that the kernel has.
    pub(crate) writes: u32,
}

impl Flushing {
    /// A flush is likely to be asked for when a write that is under way has ended.
    pub(crate) fn comes(self) -> bool {
        self.queue.is_some() && !self.waits && self.writes > 0
    }
}

/// All open files of one `Io`.
#[derive(Debug, Default)]
pub(crate) struct Files {
    slots: Slots<OpenFile>,
    /// Whom it shares devices with.
    pub(crate) devices: Devices,
    /// Makes syncs fail, for tests.
    pub(crate) fault: SyncFault,
}

impl Files {
    /// Enters a file and says so to who opened it.
    pub(crate) fn enter(&mut self, opened: Opened) -> Outcome {
        let Opened { handle, name, how, asked_direct, direct, len } = opened;
        let device = if direct && how != OpenHow::Read { self.devices.of(&handle) } else { None };
        let file = OpenFile {
            handle: Arc::new(handle),
            name,
            writable: how != OpenHow::Read,
            aligned: asked_direct,
            direct,
            latch: Latch::default(),
            in_flight: 0,
            closing: None,
            fixed: false,
            device,
            unflushed: None,
            writes: 0,
            flushing: Flushing::default(),
            always_waits: false,
        };
        Outcome::Opened { file: FileId(self.slots.insert(file)), len, direct }
    }

    /// The file, whatever its state; only for bookkeeping.
    pub(crate) fn any(&mut self, file: FileId) -> Option<&mut OpenFile> {
        self.slots.get_mut(file.0)
    }

    pub(crate) fn remove(&mut self, file: FileId) -> Option<OpenFile> {
        self.slots.remove(file.0)
    }

    /// The file, unless it is closed or latched.
    pub(crate) fn usable(&mut self, file: FileId, what: &'static str) -> Result<&mut OpenFile, IoError> {
        match self.slots.get_mut(file.0) {
            Some(open) if open.closing.is_none() => open.check().map(|()| open),
            _ => Err(IoError::of(ErrorKind::Cancelled, what, format!("{file:?}"))),
        }
    }

    /// The file, if it may be written.
    pub(crate) fn writable(&mut self, file: FileId, what: &'static str) -> Result<&mut OpenFile, IoError> {
        let open = self.usable(file, what)?;
        if open.writable {
            return Ok(open);
        }
        Err(IoError::of(ErrorKind::Denied, what, format!("{} (opened for reading)", open.name)))
    }

    /// The file, if it may be synced now; an armed fault makes this the sync that fails.
    pub(crate) fn syncable(&mut self, file: FileId) -> Result<&mut OpenFile, IoError> {
        let fault = self.fault.clone();
        let open = self.usable(file, "sync")?;
        match fault.take(&open.name) {
            None => Ok(open),
            Some(failed) => {
                open.latch.note(&failed);
                Err(failed)
            }
        }
    }

    /// Notes how a slow operation on an open file failed: a failed sync is final, and a preparation ends with one.
    pub(crate) fn note_slow(&mut self, file: FileId, failed: &IoError) {
        let latches = failed.what == "sync" || (failed.what == "prepare" && durable_write_latches(failed));
        if latches && let Some(open) = self.any(file) {
            open.latch.note(failed);
        }
    }

    /// The operation as a slow one, if it is: with the handle in place of the number.
    pub(crate) fn slow(&mut self, op: Op) -> Result<Result<(Option<FileId>, Slow), IoError>, Op> {
        Ok(Ok(match op {
            Op::Open { path, how, direct } => (None, Slow::Open { path, how, direct }),
            Op::Stat { path } => (None, Slow::Stat { path }),
            Op::StatMany { paths } => (None, Slow::StatMany { paths }),
            Op::Space { path } => (None, Slow::Space { path }),
            Op::ReadDir { path } => (None, Slow::ReadDir { path }),
            Op::Rename { from, to } => (None, Slow::Rename { from, to }),
            Op::Unlink { path } => (None, Slow::Unlink { path }),
            Op::CreateDir { path } => (None, Slow::CreateDir { path }),
            Op::RemoveDir { path } => (None, Slow::RemoveDir { path }),
            Op::SyncDir { path } => (None, Slow::SyncDir { path }),
            Op::Truncate { file, len } => {
                let open = match self.writable(file, "truncate") {
                    Ok(open) => open,
                    Err(error) => return Ok(Err(error)),
                };
                let (handle, name) = (Arc::clone(&open.handle), Arc::clone(&open.name));
                (Some(file), Slow::Truncate { handle, name, len })
            }
            Op::Prepare { file, at, len, how } => {
                let checked = self.writable(file, "prepare").map(|open| {
                    if open.aligned {
                        align::check("prepare", at.get(), len as usize, std::ptr::null());
                    }
                });
                let open = match checked.and_then(|()| self.syncable(file)) {
                    Ok(open) => open,
                    Err(error) => return Ok(Err(error)),
                };
                let (handle, name) = (Arc::clone(&open.handle), Arc::clone(&open.name));
                (Some(file), Slow::Prepare { handle, name, direct: open.direct, at: at.get(), len, how })
            }
            Op::Sync { file, data_only, urgent: false } => {
                let open = match self.syncable(file) {
                    Ok(open) => open,
                    Err(error) => return Ok(Err(error)),
                };
                (
                    Some(file),
                    Slow::Sync { handle: Arc::clone(&open.handle), name: Arc::clone(&open.name), data_only },
                )
            }
            other => return Err(other),
        }))
    }
}

impl OpenFile {
    pub(crate) fn check_read(&self, at: u64, buffer: &crate::Buffer) {
        if self.aligned {
            align::check("read", at, buffer.capacity(), buffer.filled().as_ptr());
        }
    }

    /// Checks a write that is about to begin, and remembers that no sync has covered it.
    pub(crate) fn begin_write(&mut self, at: u64, data: &Slice) {
        if self.aligned {
            align::check("write", at, data.len(), data.as_ptr());
        }
        if let Some(device) = &self.device {
            self.writes += 1;
            self.unflushed.get_or_insert_with(|| device.failures());
        }
    }

    /// How many writes were begun.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    /// A sync that covers the first `writes` writes has ended well. It proves nothing if a shared flush of the device has
    /// failed since they were begun.
    pub(crate) fn end_sync(&mut self, writes: u64) -> Result<(), IoError> {
        self.check()?;
        if writes == self.writes {
            self.unflushed = None;
        }
        Ok(())
    }

    /// Whether what was written to it may still be taken for written.
    pub(crate) fn check(&mut self) -> Result<(), IoError> {
        self.note_device();
        self.latch.check()
    }

    /// Latches the file if a flush of its device has failed that should have covered its writes.
    fn note_device(&mut self) {
        if let (Some(device), Some(before)) = (&self.device, self.unflushed)
            && device.failures() != before
        {
            let subject = format!("{} (a flush of its device failed)", self.name);
            self.latch.note(&IoError::from_errno(libc::EIO, "sync", subject));
        }
    }

    pub(crate) fn error(&self, error: &std::io::Error, what: &'static str) -> IoError {
        IoError::from_std(error, what, &*self.name)
    }

    /// Reads now, by the calling thread.
    pub(crate) fn read_now(&self, at: u64, into: &mut [u8]) -> Result<usize, IoError> {
        sys::uninterrupted(|| self.handle.read_at(into, at)).map_err(|error| self.error(&error, "read"))
    }

    /// Writes now, by the calling thread, not durably.
    pub(crate) fn write_now(&self, at: u64, data: &[u8]) -> Result<usize, IoError> {
        sys::uninterrupted(|| self.handle.write_at(data, at)).map_err(|error| self.error(&error, "write"))
    }

    /// Writes now, durably, by the calling thread; latches as a failed sync does.
    pub(crate) fn write_durably_now(&mut self, at: u64, data: &[u8]) -> Result<usize, IoError> {
        let result = match sys::write_durably(&self.handle, data, at) {
            Some(result) => result.map_err(|error| self.error(&error, "write")),
            None => {
                let wrote = self.write_now(at, data)?;
                return self.sync_now(true).map(|()| wrote);
            }
        };
        result.inspect_err(|failed| {
            if durable_write_latches(failed) {
                self.latch.note(failed);
            }
        })
    }

    /// Syncs now, by the calling thread.
    pub(crate) fn sync_now(&mut self, data_only: bool) -> Result<(), IoError> {
        let result = if data_only { self.handle.sync_data() } else { self.handle.sync_all() };
        match result {
            Ok(()) => self.end_sync(self.writes),
            Err(error) => {
                let failed = self.error(&error, "sync");
                self.latch.note(&failed);
                Err(failed)
            }
        }
    }
}

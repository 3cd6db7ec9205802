//! After a failed sync a file answers nothing but its first error.
//!
//! The kernel reports a failed write-back once and then calls the pages clean: the next sync succeeds,
//! although the bytes are lost ("fsyncgate", 2018). So the answer of the first failure is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{ErrorKind, IoError};

/// What an open file remembers of its syncs.
#[derive(Debug, Default)]
pub(crate) struct Latch {
    first: Option<IoError>,
}

impl Latch {
    /// The error that every operation but `Close` gets, once a sync has failed.
    pub(crate) fn check(&self) -> Result<(), IoError> {
        match &self.first {
            None => Ok(()),
            Some(first) => Err(IoError { kind: ErrorKind::Latched, ..first.clone() }),
        }
    }

    /// To be told of the end of each sync, durable write and preparation.
    pub(crate) fn note(&mut self, failed: &IoError) {
        self.first.get_or_insert_with(|| failed.clone());
    }
}

/// Whether a durable write that failed so may have lost bytes that were written before. Running out of
/// space or being interrupted by a close happens before anything is given to the device.
pub(crate) fn durable_write_latches(failed: &IoError) -> bool {
    !matches!(
        failed.kind,
        ErrorKind::NoSpace | ErrorKind::Exhausted | ErrorKind::Cancelled | ErrorKind::Denied
    )
}

/// Makes a sync of one `Io` fail on demand, to test what its user does then.
///
/// ```
/// use highwater_io::{ErrorKind, MemoryIo, Op, OpenHow, Outcome, blocking};
/// let mut io = MemoryIo::new();
/// let fault = io.sync_fault();
/// let open = Op::Open { path: "/a".into(), how: OpenHow::CreateNew, direct: false };
/// let Outcome::Opened { file, .. } = blocking::run(&mut io, open)? else { unreachable!() };
/// fault.arm(1);
/// let failed = blocking::run(&mut io, Op::Sync { file, data_only: true, urgent: true }).unwrap_err();
/// assert_eq!(failed.kind, ErrorKind::Device);
/// let again = blocking::run(&mut io, Op::Sync { file, data_only: true, urgent: true }).unwrap_err();
/// assert_eq!(again.kind, ErrorKind::Latched);
/// # Ok::<(), highwater_io::IoError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SyncFault {
    left: Arc<AtomicU32>,
}

impl SyncFault {
    /// The next `syncs` syncs of files (not of directories) fail with `EIO`.
    pub fn arm(&self, syncs: u32) {
        self.left.store(syncs, Ordering::Release);
    }

    /// The failure that the sync about to start has to suffer.
    pub(crate) fn take(&self, subject: &str) -> Option<IoError> {
        let armed = |left: u32| left.checked_sub(1);
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, armed).ok()?;
        Some(IoError::from_errno(libc::EIO, "sync", subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_stays() {
        let mut latch = Latch::default();
        assert!(latch.check().is_ok());
        latch.note(&IoError::from_errno(libc::EIO, "sync", "a"));
        latch.note(&IoError::from_errno(libc::ENOSPC, "sync", "a"));
        let error = latch.check().unwrap_err();
        assert_eq!((error.kind, error.errno), (ErrorKind::Latched, libc::EIO));
    }

    #[test]
    fn a_full_disk_does_not_latch_a_durable_write() {
        assert!(!durable_write_latches(&IoError::from_errno(libc::ENOSPC, "write", "a")));
        assert!(durable_write_latches(&IoError::from_errno(libc::EIO, "write", "a")));
    }
}

//! Why an operation failed.

use std::fmt;

/// Kinds of failure that callers treat differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing at that path.
    NotFound,
    /// Something is at that path already.
    AlreadyExists,
    /// No space on the device, over quota, or over the file size limit. May pass.
    NoSpace,
    /// Not permitted.
    Denied,
    /// The device failed (`EIO`), or the file system went read-only.
    Device,
    /// An earlier sync of this file failed: what it holds is no longer known.
    Latched,
    /// The handle was closed meanwhile.
    Cancelled,
    /// The peer reset or is gone.
    Disconnected,
    /// The address is in use.
    AddressInUse,
    /// Too many open files, out of kernel memory. May pass.
    Exhausted,
    /// Anything else; see the number.
    Other,
}

/// A failed operation: what was being done, to what, and what the system said.
///
/// ```
/// use highwater_io::{ErrorKind, IoError};
/// let e = IoError::from_errno(28, "write", "00000000000000000000.log");
/// assert_eq!(e.kind, ErrorKind::NoSpace);
/// assert!(e.to_string().contains("write"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IoError {
    /// How to treat it.
    pub kind: ErrorKind,
    /// The system's number, 0 if the failure is not the system's.
    pub errno: i32,
    /// What was being done, as the operation is called.
    pub what: &'static str,
    /// The path or address it was done to.
    pub subject: String,
}

impl IoError {
    /// From the system's error number.
    pub fn from_errno(errno: i32, what: &'static str, subject: impl Into<String>) -> IoError {
        let kind = match errno {
            libc::ENOENT => ErrorKind::NotFound,
            libc::EEXIST => ErrorKind::AlreadyExists,
            libc::ENOSPC | libc::EDQUOT | libc::EFBIG => ErrorKind::NoSpace,
            libc::EACCES | libc::EPERM => ErrorKind::Denied,
            libc::EIO | libc::EROFS | libc::ENXIO | libc::ENODEV => ErrorKind::Device,
            libc::ECANCELED | libc::EBADF => ErrorKind::Cancelled,
            libc::ECONNRESET
            | libc::EPIPE
            | libc::ECONNABORTED
            | libc::ENOTCONN
            | libc::ETIMEDOUT
            | libc::ECONNREFUSED => ErrorKind::Disconnected,
            libc::EADDRINUSE => ErrorKind::AddressInUse,
            libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS => ErrorKind::Exhausted,
            _ => ErrorKind::Other,
        };
        IoError { kind, errno, what, subject: subject.into() }
    }

    /// A failure that is not the system's.
    pub fn of(kind: ErrorKind, what: &'static str, subject: impl Into<String>) -> IoError {
        IoError { kind, errno: 0, what, subject: subject.into() }
    }

    /// From the standard library's error.
    pub fn from_std(error: &std::io::Error, what: &'static str, subject: impl Into<String>) -> IoError {
        match error.raw_os_error() {
            Some(errno) => IoError::from_errno(errno, what, subject),
            None => IoError::of(ErrorKind::Other, what, subject),
        }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.what, self.subject)?;
        if self.kind == ErrorKind::Latched {
            f.write_str("an earlier sync of this file failed, so what it holds is no longer known: ")?;
        }
        if self.errno != 0 {
            return write!(f, "{}", std::io::Error::from_raw_os_error(self.errno));
        }
        f.write_str(match self.kind {
            ErrorKind::Latched => "close it and recover from what was synced before",
            ErrorKind::NotFound => "not found",
            ErrorKind::AlreadyExists => "exists already",
            ErrorKind::NoSpace => "no space left",
            ErrorKind::Denied => "not permitted",
            ErrorKind::Device => "the device failed",
            ErrorKind::Cancelled => "closed meanwhile",
            ErrorKind::Disconnected => "the peer is gone",
            ErrorKind::AddressInUse => "the address is in use",
            ErrorKind::Exhausted => "out of handles or memory",
            ErrorKind::Other => "failed",
        })
    }
}

impl std::error::Error for IoError {}

//! The system's error numbers, as far as the simulation gives them.

/// An error number of Linux.
pub(crate) type Errno = i32;

pub(crate) const ENOENT: Errno = 2;
/// The device failed.
pub const EIO: Errno = 5;
pub(crate) const EEXIST: Errno = 17;
pub(crate) const ENOTDIR: Errno = 20;
pub(crate) const EISDIR: Errno = 21;
/// Over the file size limit.
pub const EFBIG: Errno = 27;
/// No space on the device.
pub const ENOSPC: Errno = 28;
pub(crate) const ENOTEMPTY: Errno = 39;
pub(crate) const EADDRINUSE: Errno = 98;
pub(crate) const ECONNRESET: Errno = 104;
pub(crate) const ETIMEDOUT: Errno = 110;
pub(crate) const ECONNREFUSED: Errno = 111;
/// Over quota.
pub const EDQUOT: Errno = 122;

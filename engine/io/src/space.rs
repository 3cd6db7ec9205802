//! How much room a file system has left.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::{IoError, Outcome};

/// Bytes that this process may still write to the file system that holds `path`.
///
/// ```
/// assert!(highwater_io::free_bytes("/".as_ref())? < u64::MAX);
/// assert!(highwater_io::free_bytes("/no/such/path".as_ref()).is_err());
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub fn free_bytes(path: &Path) -> Result<u64, IoError> {
    match space(path)? {
        Outcome::Space { free, .. } => Ok(free),
        other => unreachable!("a look for space gave {other:?}"),
    }
}

/// [`crate::Op::Space`].
pub(crate) fn space(path: &Path) -> Result<Outcome, IoError> {
    let failed = |errno| IoError::from_errno(errno, "look for space at", path.display().to_string());
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(libc::EINVAL))?;
    // SAFETY: all zeros is a valid `statvfs`.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the name ends with a zero byte, and `facts` is ours to be written.
    if unsafe { libc::statvfs(name.as_ptr(), &raw mut facts) } != 0 {
        let error = std::io::Error::last_os_error();
        return Err(failed(error.raw_os_error().unwrap_or(0)));
    }
    // Their widths differ between systems.
    #[allow(clippy::unnecessary_cast)]
    let (block, all, usable) = (facts.f_frsize as u64, facts.f_blocks as u64, facts.f_bavail as u64);
    Ok(Outcome::Space { total: all.saturating_mul(block), free: usable.saturating_mul(block) })
}

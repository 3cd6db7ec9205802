//! One process at a time in a data directory.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use parking_lot::Mutex;

use crate::IoError;

/// Files that this process has locked: (device, inode). The system's lock is the process's, so it does not
/// exclude the process itself; worse, closing *any* descriptor of the file gives the lock up. So a file
/// that is in here is not even opened.
static HELD: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// A POSIX record lock (`fcntl`) on a whole file, given up when dropped or when the process ends, however it
/// ends. It excludes Apache Kafka, whose `FileChannel.lock` takes the same; `flock` would not.
///
/// Nobody else in the process may open the file meanwhile: closing it again would give the lock up.
///
/// ```
/// use highwater_io::{FileLock, LockError};
/// # let path = std::env::temp_dir().join(format!("highwater-lock-{}", std::process::id()));
/// let lock = FileLock::acquire(&path)?;
/// assert!(matches!(FileLock::acquire(&path), Err(LockError::Held { pid: Some(_) })));
/// drop(lock);
/// assert!(FileLock::acquire(&path).is_ok());
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), LockError>(())
/// ```
#[derive(Debug)]
pub struct FileLock {
    /// Held for its drop, which gives the lock up.
    file: Option<File>,
    id: (u64, u64),
}

/// Why a lock was not had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LockError {
    /// Another process has it, or this one already does.
    Held {
        /// Which process, unless it is on another machine or outside this container.
        pid: Option<u32>,
    },
    /// The file could not be opened or locked.
    Io(IoError),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { pid: Some(pid) } => write!(f, "locked by process {pid}; stop it first"),
            LockError::Held { pid: None } => f.write_str("locked by another process; stop it first"),
            LockError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LockError {}

impl FileLock {
    /// Locks the file at `path`, made if missing, without waiting.
    pub fn acquire(path: &Path) -> Result<FileLock, LockError> {
        let failed =
            |error: io::Error| LockError::Io(IoError::from_std(&error, "lock", path.display().to_string()));
        let ours = || LockError::Held { pid: Some(std::process::id()) };
        let mut held = HELD.lock();
        if let Ok(facts) = std::fs::metadata(path)
            && held.contains(&(facts.dev(), facts.ino()))
        {
            return Err(ours());
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let facts = file.metadata().map_err(failed)?;
        let id = (facts.dev(), facts.ino());
        match try_lock(&file).map_err(failed)? {
            Attempt::Locked => {
                held.insert(id);
                Ok(FileLock { file: Some(file), id })
            }
            Attempt::Held(pid) => Err(LockError::Held { pid }),
        }
    }
}

/// Whether some process holds the lock at `path` (this one too). Makes and changes nothing; a file that is missing
/// is held by nobody.
///
/// ```
/// assert!(!highwater_io::is_locked(std::path::Path::new("/missing/.lock"))?);
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub fn is_locked(path: &Path) -> Result<bool, IoError> {
    let failed = |error: io::Error| IoError::from_std(&error, "lock", path.display().to_string());
    let held = HELD.lock();
    let facts = match std::fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    if held.contains(&(facts.dev(), facts.ino())) {
        return Ok(true);
    }
    let file = File::open(path).map_err(failed)?;
    let mut lock = whole_file();
    // SAFETY: the descriptor is open, and the structure is ours to be written.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) } != 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let mut held = HELD.lock();
        // Closed before another thread may take it for free.
        drop(self.file.take());
        held.remove(&self.id);
    }
}

enum Attempt {
    Locked,
    Held(Option<u32>),
}

fn try_lock(file: &File) -> io::Result<Attempt> {
    loop {
        let mut lock = whole_file();
        // SAFETY: the descriptor is open, and the structure is read only.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) } == 0 {
            return Ok(Attempt::Locked);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => continue,
            Some(libc::EACCES | libc::EAGAIN) => {}
            _ => return Err(error),
        }
        // SAFETY: the descriptor is open, and the structure is ours to be written.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if lock.l_type != libc::F_UNLCK as libc::c_short {
            return Ok(Attempt::Held(u32::try_from(lock.l_pid).ok().filter(|pid| *pid != 0)));
        }
        // Given up between the two calls: it is ours to take.
    }
}

/// A write lock from the first byte to the end, however long the file gets.
fn whole_file() -> libc::flock {
    // SAFETY: all zeros is a valid `flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_named() {
        let path = std::env::temp_dir().join(format!("highwater-io-lock-{}", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        // SAFETY: the child makes system calls only, and leaves without running anything of ours.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above; `ready` and `_exit` are system calls.
            unsafe { hold_until_killed(&path) }
        }
        let mut seen = FileLock::acquire(&path);
        while seen.is_ok() {
            // The child has not come that far: let it run.
            drop(seen);
            std::thread::yield_now();
            seen = FileLock::acquire(&path);
        }
        assert_eq!(seen.unwrap_err(), LockError::Held { pid: u32::try_from(child).ok() });
        assert_eq!(is_locked(&path), Ok(true));
        // SAFETY: a child of ours that has not been waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        assert!(FileLock::acquire(&path).is_ok(), "a dead process holds nothing");
        std::fs::remove_file(&path).unwrap();
    }

    /// # Safety
    /// Only in a child of `fork` that is to do nothing else.
    unsafe fn hold_until_killed(path: &Path) -> ! {
        use std::os::unix::ffi::OsStrExt;
        let mut name = [0u8; 512];
        let bytes = path.as_os_str().as_bytes();
        name[..bytes.len()].copy_from_slice(bytes);
        let lock = whole_file();
        // SAFETY: the name ends with a zero; only system calls are made.
        unsafe {
            #[cfg(target_os = "linux")]
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            let fd = libc::open(name.as_ptr().cast(), libc::O_RDWR);
            while libc::fcntl(fd, libc::F_SETLK, &raw const lock) != 0 {}
            loop {
                libc::pause();
            }
        }
    }
}

//! Which cores this process may use, and pinning a thread to one.

use crate::IoError;

/// The cores that the calling thread may run on, ascending. Empty if the system does not say.
///
/// ```
/// let cores = highwater_io::allowed_cores();
/// assert!(cores.windows(2).all(|pair| pair[0] < pair[1]));
/// ```
#[cfg(target_os = "linux")]
pub fn allowed_cores() -> Vec<usize> {
    // SAFETY: a cpu_set_t is an array of words; all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid for writes of the size given, and the call keeps no pointer to it.
    let failed = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if failed != 0 {
        return Vec::new();
    }
    // SAFETY: every index is below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect()
}

/// Pins the calling thread to `core`.
///
/// ```
/// # let core = highwater_io::allowed_cores()[0];
/// std::thread::spawn(move || highwater_io::pin_to_core(core)).join().unwrap()?;
/// # Ok::<(), highwater_io::IoError>(())
/// ```
#[cfg(target_os = "linux")]
pub fn pin_to_core(core: usize) -> Result<(), IoError> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(IoError::from_errno(libc::EINVAL, "pin to core", core.to_string()));
    }
    // SAFETY: a cpu_set_t is an array of words; all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is valid for reads of the size given, and the call keeps no pointer to it.
    let failed = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if failed != 0 {
        let error = std::io::Error::last_os_error();
        return Err(IoError::from_std(&error, "pin to core", core.to_string()));
    }
    Ok(())
}

/// Elsewhere nothing is said about cores.
#[cfg(not(target_os = "linux"))]
pub fn allowed_cores() -> Vec<usize> {
    Vec::new()
}

/// Elsewhere threads are not pinned.
#[cfg(not(target_os = "linux"))]
pub fn pin_to_core(core: usize) -> Result<(), IoError> {
    Err(IoError::of(crate::ErrorKind::Other, "pin to core", core.to_string()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_its_core_only() {
        let cores = allowed_cores();
        for core in cores {
            let seen =
                std::thread::spawn(move || pin_to_core(core).map(|()| allowed_cores())).join().unwrap();
            assert_eq!(seen, Ok(vec![core]));
        }
    }

    #[test]
    fn a_core_that_cannot_be_is_refused() {
        assert!(pin_to_core(1 << 20).is_err());
    }
}

//! CPU time of this process, kernel threads that work for it included where the kernel counts them.

use std::time::Duration;

/// User and system time of the whole process so far.
///
/// ```
/// assert!(highwater_benches::cpu_time::process().as_nanos() > 0);
/// ```
pub fn process() -> Duration {
    // SAFETY: `rusage` is plain data for which zeros are a value, and getrusage fills what it is given.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0, "getrusage failed");
        usage
    };
    let of = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    of(usage.ru_utime) + of(usage.ru_stime)
}

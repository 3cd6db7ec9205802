//! What this process may use of the system.

/// Raises the number of files and sockets that this process may have open to what the system allows it, and
/// says how many that is. A broker with ten thousand logs needs more than the customary 1,024.
///
/// ```
/// let most = highwater_io::raise_open_file_limit();
/// assert!(most > 0);
/// assert_eq!(highwater_io::raise_open_file_limit(), most);
/// ```
pub fn raise_open_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours to be written.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    if limit.rlim_cur == limit.rlim_max {
        return limit.rlim_cur;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `raised` is only read.
    let refused = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } != 0;
    if refused { limit.rlim_cur } else { raised.rlim_cur }
}

/// Gives the memory that this process has freed back to the system, where the C library's allocator is known to keep it and can
/// be asked: after something that took much for a moment. Costs a look at what is free; does nothing elsewhere.
///
/// ```
/// drop(vec![1; 1 << 20]);
/// highwater_io::give_back_free_memory();
/// ```
pub fn give_back_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a plain call; memory in use is not touched.
    unsafe {
        libc::malloc_trim(0);
    }
}

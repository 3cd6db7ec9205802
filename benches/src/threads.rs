//! Which kernel worker threads a ring has made: a punted operation shows as one.

/// How many `iou-wrk` threads the rings of the calling thread have now. One that has nothing to do stays for some seconds, also when
/// its ring is gone: who wants to count from nothing begins on a new thread.
///
/// ```
/// assert_eq!(highwater_benches::threads::ring_workers(), 0);
/// ```
pub fn ring_workers() -> usize {
    let Ok(mine) = std::fs::read_link("/proc/thread-self") else { return 0 };
    let name = format!("iou-wrk-{}", mine.file_name().unwrap_or_default().display());
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|found| found.trim_end() == name)
        .count()
}

//! Which kernel worker threads a ring has made: a punted operation shows as one.

/// How many `iou-wrk` threads this process has now.
///
/// ```
/// assert_eq!(highwater_benches::threads::ring_workers(), 0);
/// ```
pub fn ring_workers() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with("iou-wrk"))
        .count()
}

//! What a workload did, counted: one that no longer does something must not go on passing.

/// How often a log did each of the things that change what lies on its disk.
///
/// ```
/// use highwater_tests::done::Done;
/// let done = Done { rolls: 7, retired: 2, compactions: 1, truncations: 3, snapshots: 9, ..Done::default() };
/// assert_eq!(done.never(), ["recycled", "moves"]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// Segments that began because an append needed one.
    pub rolls: usize,
    /// Segments that retention, or a raised log start, gave up.
    pub retired: usize,
    /// Segments that began in a file that retention had given up.
    pub recycled: usize,
    /// Passes of compaction.
    pub compactions: usize,
    /// Truncations that cut something.
    pub truncations: usize,
    /// Snapshots of producers, by their names on the disk.
    pub snapshots: usize,
    /// Moves to another data directory.
    pub moves: usize,
}

impl Done {
    /// What never happened.
    pub fn never(&self) -> Vec<&'static str> {
        let Done { rolls, retired, recycled, compactions, truncations, snapshots, moves } = *self;
        let all = [
            ("rolls", rolls),
            ("retired", retired),
            ("recycled", recycled),
            ("compactions", compactions),
            ("truncations", truncations),
            ("snapshots", snapshots),
            ("moves", moves),
        ];
        all.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}

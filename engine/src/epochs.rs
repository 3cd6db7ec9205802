//! Leader epochs and where each began: what lets two replicas find where their logs part.

use std::fmt::{self, Write};

use highwater_base::{LeaderEpoch, Offset};

/// The epochs of one log, ascending, each with the offset at which it began.
///
/// ```
/// use highwater_base::{LeaderEpoch, Offset};
/// use highwater_engine::epochs::EpochCache;
/// let mut epochs = EpochCache::default();
/// assert!(epochs.assign(LeaderEpoch::new(7), Offset::new(0)));
/// assert!(epochs.assign(LeaderEpoch::new(8), Offset::new(9)));
/// assert!(!epochs.assign(LeaderEpoch::new(8), Offset::new(12))); // known already
/// assert_eq!(epochs.encode(), "0\n2\n7 0\n8 9\n");
/// assert_eq!(epochs.end_offset_for(LeaderEpoch::new(7), Offset::new(20)), (LeaderEpoch::new(7), Offset::new(9)));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EpochCache {
    /// Both columns strictly ascending.
    entries: Vec<(LeaderEpoch, Offset)>,
}

/// Why a `leader-epoch-checkpoint` cannot be read.
///
/// ```
/// use highwater_engine::epochs::EpochCache;
/// let error = EpochCache::decode("1\n0\n").unwrap_err();
/// assert_eq!(error.line, 1);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EpochError {
    /// Which line, from 1.
    pub line: usize,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl fmt::Display for EpochError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}, found {:?}", self.line, self.expected, self.found)
    }
}

impl std::error::Error for EpochError {}

impl EpochCache {
    /// With these epochs; those that contradict a later one are left out.
    pub(crate) fn of(entries: Vec<(LeaderEpoch, Offset)>) -> EpochCache {
        let mut cache = EpochCache { entries: Vec::with_capacity(entries.len()) };
        for (epoch, start) in entries {
            cache.assign(epoch, start);
        }
        cache
    }

    /// Notes that `epoch` began at `start`. Entries that contradict it (of the same or a later epoch, or that begin at
    /// or behind `start`) go. An epoch that is already the latest changes nothing. Says whether anything changed.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if !epoch.is_some() || !start.is_some() {
            return false;
        }
        if let Some(&(latest, from)) = self.entries.last()
            && (latest == epoch && from <= start)
        {
            return false;
        }
        while let Some(&(latest, from)) = self.entries.last()
            && (latest >= epoch || from >= start)
        {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
        true
    }

    /// A record at `at` is of `epoch`, which began there if an older one was in force. Where nobody `proved` what is noted, later
    /// epochs that began there or before go: the file may be that of before a cut.
    pub(crate) fn believe(&mut self, epoch: LeaderEpoch, at: Offset, proved: bool) {
        if epoch.is_some() && !proved && self.epoch_at(at) > epoch {
            self.entries.retain(|entry| entry.1 > at || entry.0 <= epoch);
        }
        if self.epoch_at(at) < epoch {
            self.assign(epoch, at);
        }
    }

    /// The latest epoch, or none.
    pub fn latest(&self) -> LeaderEpoch {
        self.entries.last().map_or(LeaderEpoch::NONE, |e| e.0)
    }

    /// All entries, ascending.
    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// The epoch in force at `offset`, or none.
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let n = self.entries.partition_point(|e| e.1 <= offset);
        n.checked_sub(1).map_or(LeaderEpoch::NONE, |i| self.entries[i].0)
    }

    /// The epoch before the one in force at `offset`'s, or none.
    pub fn previous(&self, epoch: LeaderEpoch) -> LeaderEpoch {
        let n = self.entries.partition_point(|e| e.0 < epoch);
        n.checked_sub(1).map_or(LeaderEpoch::NONE, |i| self.entries[i].0)
    }

    /// The largest epoch not above `requested` and the offset at which the next one began (the log's end for the
    /// latest): what `OffsetForLeaderEpoch` answers. None of both if the epoch is not known, or above the latest.
    pub fn end_offset_for(&self, requested: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        if !requested.is_some() || self.entries.is_empty() {
            return (LeaderEpoch::NONE, Offset::NONE);
        }
        if requested == self.latest() {
            return (requested, log_end);
        }
        let above = self.entries.partition_point(|e| e.0 <= requested);
        match (above.checked_sub(1), self.entries.get(above)) {
            (_, None) => (LeaderEpoch::NONE, Offset::NONE),
            // Older than every known epoch: where the first known one began.
            (None, Some(&(_, start))) => (requested, start),
            (Some(floor), Some(&(_, start))) => (self.entries[floor].0, start),
        }
    }

    /// The log was cut at `end`: epochs that began there or behind go. Says whether any did.
    pub fn truncate_to(&mut self, end: Offset) -> bool {
        let keep = self.entries.partition_point(|e| e.1 < end);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// The log now starts at `start`: of the epochs that began before it only the last stays, and begins there. Says
    /// whether anything changed.
    pub fn trim_to(&mut self, start: Offset) -> bool {
        let n = self.entries.partition_point(|e| e.1 <= start);
        let Some(floor) = n.checked_sub(1) else { return false };
        if floor == 0 && self.entries[0].1 == start {
            return false;
        }
        self.entries.drain(..floor);
        self.entries[0].1 = start;
        true
    }

    /// CRC-32 of the epochs in force between `start` and `end`: the same before and after the log is trimmed to `start`, and
    /// whatever begins at `end` or later.
    pub(crate) fn sum(&self, start: Offset, end: Offset) -> u32 {
        let first = self.entries.partition_point(|entry| entry.1 <= start).saturating_sub(1);
        let mut sum = crc32fast::Hasher::new();
        for (epoch, from) in &self.entries[first..] {
            let from = (*from).max(start);
            if from < end {
                sum.update(&epoch.get().to_be_bytes());
                sum.update(&from.get().to_be_bytes());
            }
        }
        sum.finalize()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The file's text.
    pub fn encode(&self) -> String {
        let mut out = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            let _ = writeln!(out, "{epoch} {start}"); // Writing to a String cannot fail.
        }
        out
    }

    /// From the file's text.
    pub fn decode(text: &str) -> Result<EpochCache, EpochError> {
        let lines = || {
            crate::checkpoint_file::counted_lines(text).map_err(|e| EpochError {
                line: e.line,
                expected: e.expected,
                found: e.found,
            })
        };
        let mut last: Option<(LeaderEpoch, Offset)> = None;
        let read = |(number, line): (usize, &str)| {
            let error = |expected: &str| EpochError {
                line: number,
                expected: expected.into(),
                found: line.chars().take(80).collect(),
            };
            let (epoch, start) = line
                .split_once(' ')
                .and_then(|(epoch, start)| Some((epoch.parse::<i32>().ok()?, start.parse::<i64>().ok()?)))
                .filter(|(epoch, start)| *epoch >= 0 && *start >= 0)
                .ok_or_else(|| error("an epoch and a start offset"))?;
            let entry = (LeaderEpoch::new(epoch), Offset::new(start));
            if last.is_some_and(|last| last.0 >= entry.0 || last.1 >= entry.1) {
                return Err(error("epoch and start offset above those of the line before"));
            }
            last = Some(entry);
            Ok(entry)
        };
        // Nothing is kept of a text before all of it was read.
        let count = lines()?.map(read).try_fold(0, |count, entry| entry.map(|_| count + 1))?;
        let mut entries = Vec::with_capacity(count);
        for (_, line) in lines()? {
            let (epoch, start) = line.split_once(' ').unwrap_or_default();
            let (epoch, start) = (epoch.parse().unwrap_or_default(), start.parse().unwrap_or_default());
            entries.push((LeaderEpoch::new(epoch), Offset::new(start)));
        }
        let cache = EpochCache { entries };
        Ok(cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(i32, i64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for &(epoch, start) in entries {
            cache.assign(LeaderEpoch::new(epoch), Offset::new(start));
        }
        cache
    }

    fn pairs(cache: &EpochCache) -> Vec<(i32, i64)> {
        cache.entries().iter().map(|(e, o)| (e.get(), o.get())).collect()
    }

    #[test]
    fn an_assignment_drops_what_contradicts_it() {
        assert_eq!(pairs(&cache(&[(1, 0), (2, 10), (3, 20), (2, 15)])), [(1, 0), (2, 15)]);
        assert_eq!(pairs(&cache(&[(1, 0), (2, 10), (5, 10)])), [(1, 0), (5, 10)]);
        assert_eq!(pairs(&cache(&[(1, 0), (2, 10), (2, 5)])), [(1, 0), (2, 5)]);
        assert_eq!(pairs(&cache(&[(-1, 0), (2, -1)])), []);
    }

    #[test]
    fn a_record_is_believed_before_what_contradicts_it() {
        let told = |entries: &[(i32, i64)], epoch, offset, proved| {
            let mut cache = cache(entries);
            cache.believe(LeaderEpoch::new(epoch), Offset::new(offset), proved);
            pairs(&cache)
        };
        let believed = |entries: &[(i32, i64)], epoch, offset| told(entries, epoch, offset, false);
        assert_eq!(believed(&[(1, 0), (4, 10)], 4, 15), [(1, 0), (4, 10)]);
        assert_eq!(believed(&[(1, 0), (9, 10)], 4, 15), [(1, 0), (4, 15)]);
        assert_eq!(believed(&[(1, 0), (4, 10), (9, 12)], 4, 15), [(1, 0), (4, 10)]);
        assert_eq!(believed(&[(9, 20)], 4, 15), [(4, 15)]);
        assert_eq!(believed(&[(9, 0)], -1, 15), [(9, 0)]);
        assert_eq!(told(&[(1, 0), (9, 10)], 4, 15, true), [(1, 0), (9, 10)]);
        assert_eq!(told(&[(1, 0), (9, 20)], 4, 15, true), [(1, 0), (4, 15)]);
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next_known_one() {
        let cache = cache(&[(2, 5), (4, 10), (7, 30)]);
        let end = |epoch| {
            let (epoch, offset) = cache.end_offset_for(LeaderEpoch::new(epoch), Offset::new(99));
            (epoch.get(), offset.get())
        };
        assert_eq!(end(1), (1, 5));
        assert_eq!(end(2), (2, 10));
        assert_eq!(end(3), (2, 10));
        assert_eq!(end(6), (4, 30));
        assert_eq!(end(7), (7, 99));
        assert_eq!(end(8), (-1, -1));
        assert_eq!(end(-1), (-1, -1));
        assert_eq!(EpochCache::default().end_offset_for(LeaderEpoch::ZERO, Offset::ZERO).1, Offset::NONE);
    }

    #[test]
    fn cuts_on_both_sides_keep_the_epoch_in_force() {
        let mut epochs = cache(&[(2, 5), (4, 10), (7, 30)]);
        assert!(epochs.truncate_to(Offset::new(30)));
        assert_eq!(pairs(&epochs), [(2, 5), (4, 10)]);
        assert!(epochs.trim_to(Offset::new(12)));
        assert_eq!(pairs(&epochs), [(4, 12)]);
        assert!(!epochs.trim_to(Offset::new(12)));
        assert!(!epochs.trim_to(Offset::new(3)));
        assert_eq!(epochs.epoch_at(Offset::new(40)), LeaderEpoch::new(4));
        assert_eq!(epochs.epoch_at(Offset::new(11)), LeaderEpoch::NONE);
    }

    #[test]
    fn damaged_text_is_refused_with_its_line() {
        for (text, line) in [
            ("\n", 1),
            ("1\n0\n", 1),
            ("0\nx\n", 2),
            ("0\n2\n1 0\n", 4),
            ("0\n1\n1\n", 3),
            ("0\n2\n2 5\n1 9\n", 4),
        ] {
            assert_eq!(EpochCache::decode(text).unwrap_err().line, line, "{text:?}");
        }
        let good = cache(&[(2, 5), (4, 10)]);
        assert_eq!(EpochCache::decode(&good.encode()), Ok(good));
    }
}

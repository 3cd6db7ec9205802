//! The time index: 12-byte entries {timestamp i64, relative offset i32}, no header, no checksum.

use highwater_base::{Offset, WallMs};

use super::offset_index::{partition_point, used_slots};
use super::{IndexError, TimeEntry};

/// Bytes of one entry.
pub const TIME_ENTRY_BYTES: usize = 12;

/// The bytes of a segment's time index and the segment's base offset.
///
/// ```
/// use highwater_base::{Offset, WallMs};
/// use highwater_engine::index::TimeIndex;
/// let bytes = [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 5];
/// let index = TimeIndex::new(&bytes, Offset::new(100));
/// assert_eq!(index.lookup(WallMs::new(9)).offset, Offset::new(105));
/// assert_eq!(index.lookup(WallMs::new(8)).offset, Offset::new(100)); // none: the base
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TimeIndex<'a> {
    bytes: &'a [u8],
    base: Offset,
    used: usize,
}

impl<'a> TimeIndex<'a> {
    /// An index whose unused (zero) slots at the end do not count.
    pub fn new(bytes: &'a [u8], base: Offset) -> TimeIndex<'a> {
        let slots = bytes.len() / TIME_ENTRY_BYTES;
        let mut index = TimeIndex { bytes, base, used: slots };
        index.used = used_slots(slots, |i| index.raw(i) == (0, 0));
        // Timestamp 0 at the base offset is a real entry where it can only be one: alone in a file cut to size.
        if index.used == 0 && slots == 1 {
            index.used = 1;
        }
        index
    }

    /// Slots of the file, used or not.
    pub const fn slots(self) -> usize {
        self.bytes.len() / TIME_ENTRY_BYTES
    }

    /// Entries in use.
    pub const fn len(self) -> usize {
        self.used
    }

    /// Whether no entry is in use.
    pub const fn is_empty(self) -> bool {
        self.used == 0
    }

    /// The entry with this number. Panics beyond [`TimeIndex::len`].
    pub fn entry(self, i: usize) -> TimeEntry {
        assert!(i < self.used, "TimeIndex::entry: {i} of {}", self.used);
        let (timestamp, relative) = self.raw(i);
        TimeEntry { timestamp: WallMs::new(timestamp), offset: self.base.plus(i64::from(relative)) }
    }

    /// All entries.
    pub fn entries(self) -> impl Iterator<Item = TimeEntry> + 'a {
        (0..self.used).map(move |i| self.entry(i))
    }

    /// The last entry: its timestamp is the segment's largest, if the index is complete.
    pub fn last(self) -> Option<TimeEntry> {
        self.used.checked_sub(1).map(|i| self.entry(i))
    }

    /// Where to begin looking for the first record of `timestamp` or later: the largest entry with a timestamp not
    /// above it, or no timestamp at the base.
    pub fn lookup(self, timestamp: WallMs) -> TimeEntry {
        let n = partition_point(self.used, |i| self.entry(i).timestamp <= timestamp);
        match n.checked_sub(1) {
            Some(i) => self.entry(i),
            None => TimeEntry { timestamp: WallMs::NONE, offset: self.base },
        }
    }

    /// How many leading entries have an offset below `end`: what a truncation to `end` keeps.
    pub fn len_below(self, end: Offset) -> usize {
        partition_point(self.used, |i| self.entry(i).offset < end)
    }

    /// Whether length, order and base are as they must be.
    pub fn check(self) -> Result<(), IndexError> {
        if !self.bytes.len().is_multiple_of(TIME_ENTRY_BYTES) {
            return Err(IndexError::Length { found: self.bytes.len(), entry: TIME_ENTRY_BYTES });
        }
        let (mut least_time, mut least_offset) = (0i64, 0i64);
        for i in 0..self.used {
            let (timestamp, relative) = self.raw(i);
            if i > 0 && (timestamp, relative) == (0, 0) {
                let entry = (i..self.used).find(|&j| self.raw(j) != (0, 0)).unwrap_or(i);
                return Err(IndexError::Gap { entry });
            }
            if timestamp < least_time {
                return Err(IndexError::Timestamp { entry: i, found: timestamp, expected: least_time });
            }
            if i64::from(relative) < least_offset {
                let base = self.base.get();
                let (found, expected) = (base.wrapping_add(relative.into()), base.wrapping_add(least_offset));
                return Err(IndexError::Offset { entry: i, found, expected });
            }
            (least_time, least_offset) = (timestamp.saturating_add(1), i64::from(relative));
        }
        Ok(())
    }

    fn raw(self, i: usize) -> (i64, i32) {
        let at = i * TIME_ENTRY_BYTES;
        let (timestamp, rest) = self.bytes[at..at + TIME_ENTRY_BYTES].split_at(8);
        (
            i64::from_be_bytes(timestamp.try_into().expect("eight bytes")),
            i32::from_be_bytes(rest.try_into().expect("four bytes")),
        )
    }
}

/// Appends one entry's bytes.
pub(super) fn encode(out: &mut Vec<u8>, timestamp: i64, relative: i32) {
    out.extend_from_slice(&timestamp.to_be_bytes());
    out.extend_from_slice(&relative.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(entries: &[(i64, i32)]) -> Vec<u8> {
        let mut out = Vec::new();
        for &(timestamp, relative) in entries {
            encode(&mut out, timestamp, relative);
        }
        out
    }

    #[test]
    fn a_zero_slot_is_an_entry_only_where_it_stands_alone() {
        assert_eq!(TimeIndex::new(&bytes(&[(0, 0)]), Offset::ZERO).len(), 1);
        assert_eq!(TimeIndex::new(&bytes(&[(0, 0), (0, 0)]), Offset::ZERO).len(), 0);
        assert_eq!(TimeIndex::new(&bytes(&[(0, 0), (5, 3), (0, 0)]), Offset::ZERO).len(), 2);
    }

    #[test]
    fn disorder_is_named_by_entry() {
        let check = |entries: &[(i64, i32)]| TimeIndex::new(&bytes(entries), Offset::new(10)).check();
        assert_eq!(check(&[(5, 1), (6, 1), (9, 4)]), Ok(()));
        assert_eq!(check(&[(5, 1), (5, 3)]), Err(IndexError::Timestamp { entry: 1, found: 5, expected: 6 }));
        assert_eq!(check(&[(5, 3), (7, 2)]), Err(IndexError::Offset { entry: 1, found: 12, expected: 13 }));
        assert_eq!(check(&[(5, 3), (0, 0), (7, 4)]), Err(IndexError::Gap { entry: 2 }));
    }
}

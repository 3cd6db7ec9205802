//! The offset index: 8-byte entries {relative offset i32, position i32}, no header, no checksum.

use highwater_base::{FilePos, Offset};

use super::{IndexError, OffsetEntry};

/// Bytes of one entry.
pub const OFFSET_ENTRY_BYTES: usize = 8;

/// The bytes of a segment's offset index and the segment's base offset.
///
/// ```
/// use highwater_base::{FilePos, Offset};
/// use highwater_engine::index::OffsetIndex;
/// let bytes = [0, 0, 0, 5, 0, 0, 0, 176, 0, 0, 0, 7, 0, 0, 1, 60];
/// let index = OffsetIndex::new(&bytes, Offset::new(100));
/// assert_eq!(index.lookup(Offset::new(106)), FilePos::new(176));
/// assert_eq!(index.lookup(Offset::new(104)), FilePos::ZERO);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OffsetIndex<'a> {
    bytes: &'a [u8],
    base: Offset,
    used: usize,
}

impl<'a> OffsetIndex<'a> {
    /// An index whose unused (zero) slots at the end do not count.
    pub fn new(bytes: &'a [u8], base: Offset) -> OffsetIndex<'a> {
        let slots = bytes.len() / OFFSET_ENTRY_BYTES;
        let mut index = OffsetIndex { bytes, base, used: slots };
        // The first batch never gets an entry, so position 0 (and with it a zero slot) is never a real one.
        index.used = used_slots(slots, |i| index.raw(i) == (0, 0));
        index
    }

    /// Slots of the file, used or not.
    pub const fn slots(self) -> usize {
        self.bytes.len() / OFFSET_ENTRY_BYTES
    }

    /// Entries in use.
    pub const fn len(self) -> usize {
        self.used
    }

    /// Whether no entry is in use.
    pub const fn is_empty(self) -> bool {
        self.used == 0
    }

    /// The entry with this number. Panics beyond [`OffsetIndex::len`].
    pub fn entry(self, i: usize) -> OffsetEntry {
        assert!(i < self.used, "OffsetIndex::entry: {i} of {}", self.used);
        let (relative, position) = self.raw(i);
        OffsetEntry {
            offset: self.base.plus(i64::from(relative)),
            // Positions are 31 bits; a negative one is damage, which `check` names.
            position: FilePos::new(u64::from(position as u32)),
        }
    }

    /// All entries.
    pub fn entries(self) -> impl Iterator<Item = OffsetEntry> + 'a {
        (0..self.used).map(move |i| self.entry(i))
    }

    /// Where to begin scanning for `target`: at the batch of the largest entry not above it, or at the start.
    pub fn lookup(self, target: Offset) -> FilePos {
        self.floor(target).map_or(FilePos::ZERO, |entry| entry.position)
    }

    /// The largest entry whose offset is not above `target`.
    pub fn floor(self, target: Offset) -> Option<OffsetEntry> {
        let n = partition_point(self.used, |i| self.entry(i).offset <= target);
        n.checked_sub(1).map(|i| self.entry(i))
    }

    /// The first entry at a position of `position` or more.
    pub fn first_from(self, position: FilePos) -> Option<OffsetEntry> {
        let n = partition_point(self.used, |i| self.entry(i).position < position);
        (n < self.used).then(|| self.entry(n))
    }

    /// The offset of the last entry at a position of `position` or less; below all offsets if there is none.
    pub fn last_upto(self, position: FilePos) -> Offset {
        let n = partition_point(self.used, |i| self.entry(i).position <= position);
        n.checked_sub(1).map_or(Offset::NONE, |i| self.entry(i).offset)
    }

    /// How many leading entries have an offset below `end`: what a truncation to `end` keeps.
    pub fn len_below(self, end: Offset) -> usize {
        partition_point(self.used, |i| self.entry(i).offset < end)
    }

    /// Whether length, order and base are as they must be.
    pub fn check(self) -> Result<(), IndexError> {
        if !self.bytes.len().is_multiple_of(OFFSET_ENTRY_BYTES) {
            return Err(IndexError::Length { found: self.bytes.len(), entry: OFFSET_ENTRY_BYTES });
        }
        let (mut least_offset, mut least_position) = (0, 1);
        for i in 0..self.used {
            let (relative, position) = self.raw(i);
            if (relative, position) == (0, 0) {
                let entry = (i..self.used).find(|&j| self.raw(j) != (0, 0)).unwrap_or(i);
                return Err(IndexError::Gap { entry });
            }
            if i64::from(relative) < least_offset {
                let base = self.base.get();
                let (found, expected) = (base.wrapping_add(relative.into()), base.wrapping_add(least_offset));
                return Err(IndexError::Offset { entry: i, found, expected });
            }
            if i64::from(position) < least_position {
                let found = i64::from(position);
                return Err(IndexError::Position { entry: i, found, expected: least_position });
            }
            (least_offset, least_position) = (i64::from(relative) + 1, i64::from(position) + 1);
        }
        Ok(())
    }

    fn raw(self, i: usize) -> (i32, i32) {
        let at = i * OFFSET_ENTRY_BYTES;
        let word = |at: usize| i32::from_be_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"));
        (word(at), word(at + 4))
    }
}

/// Appends one entry's bytes.
pub(super) fn encode(out: &mut Vec<u8>, relative: i32, position: i32) {
    out.extend_from_slice(&relative.to_be_bytes());
    out.extend_from_slice(&position.to_be_bytes());
}

/// How many slots there are without the zero ones at the end. Where a zero slot lies between used ones, every
/// slot up to the last used one counts.
pub(super) fn used_slots(slots: usize, is_zero: impl Fn(usize) -> bool) -> usize {
    if slots == 0 || !is_zero(slots - 1) {
        return slots;
    }
    (0..slots).rev().find(|&i| !is_zero(i)).map_or(0, |i| i + 1)
}

/// The first of `0..n` for which `below` is false.
pub(super) fn partition_point(n: usize, below: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(entries: &[(i32, i32)]) -> Vec<u8> {
        let mut out = Vec::new();
        for &(relative, position) in entries {
            encode(&mut out, relative, position);
        }
        out
    }

    #[test]
    fn unused_slots_do_not_count() {
        let bytes = bytes(&[(5, 176), (7, 316), (0, 0), (0, 0)]);
        let index = OffsetIndex::new(&bytes, Offset::ZERO);
        assert_eq!((index.slots(), index.len()), (4, 2));
        assert_eq!(index.check(), Ok(()));
        assert_eq!(index.lookup(Offset::new(i64::MAX)), FilePos::new(316));
        assert_eq!(index.len_below(Offset::new(7)), 1);
    }

    #[test]
    fn disorder_is_named_by_entry() {
        let check = |entries: &[(i32, i32)]| OffsetIndex::new(&bytes(entries), Offset::new(10)).check();
        assert_eq!(
            check(&[(5, 176), (5, 316)]),
            Err(IndexError::Offset { entry: 1, found: 15, expected: 16 })
        );
        assert_eq!(
            check(&[(5, 176), (6, 176)]),
            Err(IndexError::Position { entry: 1, found: 176, expected: 177 })
        );
        assert_eq!(check(&[(-1, 176)]), Err(IndexError::Offset { entry: 0, found: 9, expected: 10 }));
        assert_eq!(check(&[(5, 176), (0, 0), (9, 400)]), Err(IndexError::Gap { entry: 2 }));
    }

    #[test]
    fn lookups_agree_with_a_linear_search() {
        let entries: Vec<(i32, i32)> = (1..200).map(|i| (i * 3, i * 100)).collect();
        let bytes = bytes(&entries);
        let index = OffsetIndex::new(&bytes, Offset::ZERO);
        for target in 0..620 {
            let expected = entries.iter().rev().find(|e| e.0 <= target).map_or(0, |e| e.1 as u64);
            assert_eq!(index.lookup(Offset::new(i64::from(target))).get(), expected);
        }
        for position in 0..20_100u64 {
            let expected = entries.iter().find(|e| e.1 as u64 >= position).map(|e| e.1 as u64);
            assert_eq!(index.first_from(FilePos::new(position)).map(|e| e.position.get()), expected);
        }
    }
}

//! When a batch gets index entries: the one rule, used while appending and while recovering.

use highwater_base::{FilePos, Mutant, Offset, WallMs};

use super::{OffsetIndex, TimeIndex, offset_index, time_index};

/// Builds the offset and the time index of one segment in memory, batch by batch.
///
/// A batch gets an entry in the offset index if more than `interval` bytes were appended since the last entry (or
/// since the segment was opened); the same batch gets one in the time index if the largest timestamp so far is
/// above the last entry's. The first batch of a segment never gets one.
///
/// ```
/// use highwater_base::{FilePos, Offset, WallMs};
/// use highwater_engine::index::IndexBuilder;
/// let mut index = IndexBuilder::new(Offset::ZERO, 100);
/// for (last, position, size, timestamp) in [(2, 0, 97, 5), (4, 97, 79, 6), (5, 176, 70, 7)] {
///     index.push(Offset::new(last), FilePos::new(position), size, WallMs::new(timestamp));
/// }
/// assert_eq!(index.offset_bytes(), [0, 0, 0, 5, 0, 0, 0, 176]);
/// assert_eq!(index.max_timestamp(), WallMs::new(7));
/// ```
#[derive(Clone, Debug)]
pub struct IndexBuilder {
    base: Offset,
    interval: u64,
    since_entry: u64,
    max_timestamp: i64,
    /// The last offset of the batch that brought `max_timestamp`.
    max_offset: Offset,
    last_time_entry: i64,
    mutant: Mutant,
    offsets: Vec<u8>,
    times: Vec<u8>,
}

impl IndexBuilder {
    /// Empty indexes of the segment with this base; `interval` is `index.interval.bytes`.
    pub const fn new(base: Offset, interval: u64) -> IndexBuilder {
        IndexBuilder {
            base,
            interval,
            since_entry: 0,
            max_timestamp: WallMs::NONE.get(),
            max_offset: base,
            last_time_entry: WallMs::NONE.get(),
            mutant: Mutant::None,
            offsets: Vec::new(),
            times: Vec::new(),
        }
    }

    /// With a rule weakened by a test.
    pub(crate) fn weakened(mut self, mutant: Mutant) -> IndexBuilder {
        self.mutant = mutant;
        self
    }

    /// Goes on from the files of a segment that is opened again; unused slots are dropped, and so is a
    /// piece of an entry. The largest timestamp is the time index's last.
    pub fn resume(base: Offset, interval: u64, offsets: &[u8], times: &[u8]) -> IndexBuilder {
        let (offset_index, time_index) = (OffsetIndex::new(offsets, base), TimeIndex::new(times, base));
        let mut builder = IndexBuilder::new(base, interval);
        builder.offsets = offsets[..offset_index.len() * super::OFFSET_ENTRY_BYTES].to_vec();
        builder.times = times[..time_index.len() * super::TIME_ENTRY_BYTES].to_vec();
        builder.reload_times();
        builder
    }

    /// A batch of `size` bytes was appended at `position`; `last` is its last offset, `max_timestamp` its largest
    /// timestamp. Says whether it got an entry in the offset index.
    pub fn push(&mut self, last: Offset, position: FilePos, size: u64, max_timestamp: WallMs) -> bool {
        if max_timestamp.get() > self.max_timestamp {
            self.max_timestamp = max_timestamp.get();
            self.max_offset = last;
        }
        // What cannot be written gets no entry: an index is a hint, and who scans a damaged file judges it.
        let entry = self.relative(last).zip(i32::try_from(position.get()).ok());
        let entry = entry.filter(|_| self.since_entry > self.interval);
        if let Some((relative, position)) = entry {
            offset_index::encode(&mut self.offsets, relative, position);
            if self.mutant == Mutant::TimesUnordered {
                self.last_time_entry = i64::MIN;
                (self.max_timestamp, self.max_offset) = (max_timestamp.get(), last);
            }
            self.push_time();
            self.since_entry = 0;
        }
        self.since_entry += size;
        entry.is_some()
    }

    /// The final entry of the time index, when the segment becomes inactive, is closed or was recovered.
    pub fn finish(&mut self) {
        self.push_time();
    }

    /// Keeps what lies below `end`, after the segment was cut there.
    pub fn truncate(&mut self, end: Offset) {
        let keep = OffsetIndex::new(&self.offsets, self.base).len_below(end);
        self.offsets.truncate(keep * super::OFFSET_ENTRY_BYTES);
        let keep = TimeIndex::new(&self.times, self.base).len_below(end);
        self.times.truncate(keep * super::TIME_ENTRY_BYTES);
        self.since_entry = 0;
        self.reload_times();
    }

    /// A largest timestamp that is known from elsewhere (a checkpoint, a scan of the bytes behind the last
    /// entry), at the batch that ends with `last`.
    pub fn raise_max_timestamp(&mut self, timestamp: WallMs, last: Offset) {
        if timestamp.get() > self.max_timestamp {
            self.max_timestamp = timestamp.get();
            self.max_offset = last;
        }
    }

    /// What was appended since the last entry, of a segment of `size` bytes whose indexes are whole.
    pub(crate) fn continue_at(&mut self, size: u64) {
        let last = self.offsets().entries().last();
        self.since_entry = size - last.map_or(0, |entry| entry.position.get()).min(size);
    }

    /// The offset index as its file has it.
    pub fn offset_bytes(&self) -> &[u8] {
        &self.offsets
    }

    /// The time index as its file has it.
    pub fn time_bytes(&self) -> &[u8] {
        &self.times
    }

    /// The offset index, to look up in.
    pub fn offsets(&self) -> OffsetIndex<'_> {
        OffsetIndex::new(&self.offsets, self.base)
    }

    /// The time index, to look up in.
    pub fn times(&self) -> TimeIndex<'_> {
        TimeIndex::new(&self.times, self.base)
    }

    /// The largest timestamp of the segment, or none.
    pub const fn max_timestamp(&self) -> WallMs {
        WallMs::new(self.max_timestamp)
    }

    /// The last offset of the batch that has it, or the base.
    pub const fn max_timestamp_offset(&self) -> Offset {
        self.max_offset
    }

    /// Whether the segment must be rolled because an index of `capacity` bytes (`segment.index.bytes`) is full.
    pub fn is_full(&self, capacity: usize) -> bool {
        let time_slots = capacity / super::TIME_ENTRY_BYTES;
        self.offsets.len() / super::OFFSET_ENTRY_BYTES >= capacity / super::OFFSET_ENTRY_BYTES
            // One slot is kept for the final entry.
            || self.times.len() / super::TIME_ENTRY_BYTES + 1 >= time_slots.max(1)
    }

    fn push_time(&mut self) {
        if self.max_timestamp > self.last_time_entry
            && let Some(relative) = self.relative(self.max_offset)
        {
            time_index::encode(&mut self.times, self.max_timestamp, relative);
            self.last_time_entry = self.max_timestamp;
        }
    }

    fn reload_times(&mut self) {
        let last = TimeIndex::new(&self.times, self.base).last();
        self.last_time_entry = last.map_or(WallMs::NONE, |e| e.timestamp).get();
        self.max_timestamp = self.last_time_entry;
        self.max_offset = last.map_or(self.base, |e| e.offset);
    }

    fn relative(&self, offset: Offset) -> Option<i32> {
        i32::try_from(offset.since(self.base)).ok().filter(|relative| *relative >= 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(index: &mut IndexBuilder, last: i64, position: u64, size: u64, timestamp: i64) -> bool {
        index.push(Offset::new(last), FilePos::new(position), size, WallMs::new(timestamp))
    }

    #[test]
    fn kafka_s_bytes_come_out() {
        let mut index = IndexBuilder::new(Offset::ZERO, 100);
        for (last, position, size, timestamp) in [
            (2, 0, 97, 0x19b_76da_a805),
            (4, 97, 79, 0x19b_76da_abe8),
            (5, 176, 70, 0x19b_76da_afd0),
            (6, 246, 70, 0x19b_76da_afd0),
            (7, 316, 78, 0x19b_76da_b3b8),
            (8, 394, 78, 0x19b_76da_b3b8),
            (9, 472, 130, 0x19b_76da_b7a0),
        ] {
            push(&mut index, last, position, size, timestamp);
        }
        index.finish();
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(index.offset_bytes()), "00000005000000b0000000070000013c00000009000001d8");
        assert_eq!(
            hex(index.time_bytes()),
            "0000019b76daafd0000000050000019b76dab3b8000000070000019b76dab7a000000009"
        );
    }

    #[test]
    fn resuming_drops_unused_slots_and_truncating_drops_what_is_cut() {
        let mut index = IndexBuilder::new(Offset::new(50), 0);
        for i in 0..10 {
            push(&mut index, 50 + i, i as u64 * 10, 10, 1000 - i);
        }
        let (mut offsets, mut times) = (index.offset_bytes().to_vec(), index.time_bytes().to_vec());
        offsets.resize(4096, 0);
        times.resize(4092, 0);
        let mut again = IndexBuilder::resume(Offset::new(50), 0, &offsets, &times);
        assert_eq!(again.offset_bytes(), index.offset_bytes());
        assert_eq!(again.max_timestamp(), WallMs::new(1000));
        again.truncate(Offset::new(53));
        assert_eq!(again.offsets().len(), 2);
        assert_eq!(again.max_timestamp_offset(), Offset::new(50));
        again.truncate(Offset::new(50));
        assert_eq!((again.offsets().len(), again.max_timestamp()), (0, WallMs::NONE));
    }

    #[test]
    fn an_index_is_full_at_its_capacity() {
        let mut index = IndexBuilder::new(Offset::ZERO, 0);
        let mut n = 0;
        while !index.is_full(96) {
            push(&mut index, n, n as u64 * 10, 10, n);
            n += 1;
        }
        // Eight time slots, one of them kept for the final entry; the first batch has no entry.
        assert_eq!(n, 8);
        index.finish();
        assert!(index.time_bytes().len() <= 96);
    }
}

//! The recent bytes of a log kept in memory: staged for the disk and served to readers at once.

use std::collections::VecDeque;

use highwater_base::{BLOCK, ByteLen, Limits, Offset};
use highwater_io::{Chunk, Io, Slice};

use crate::TailSpace;
pub(crate) use crate::place::Place;

/// Where a batch begins. Kept for one batch in about a block, so that a reader walks few headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    /// Where.
    pub(crate) at: Place,
    /// Its first offset.
    pub(crate) first: Offset,
    /// Where the segment that holds it begins.
    pub(crate) segment: Place,
}

#[derive(Debug)]
struct Piece {
    /// Block-aligned.
    at: Place,
    chunk: Chunk,
}

impl Piece {
    /// With what is staged and not committed.
    fn end(&self) -> Place {
        self.at.plus((self.chunk.len() + self.chunk.staged()) as u64)
    }
}

/// See the module. Pieces are in order; within a segment they are contiguous and all but the last are full.
#[derive(Debug)]
pub(crate) struct Tail {
    pieces: VecDeque<Piece>,
    marks: VecDeque<Mark>,
    /// Empty chunks fetched ahead from the ring's pool.
    spare: VecDeque<Chunk>,
    /// Where the next staged byte goes.
    end: Place,
    /// Where the segment of the last piece begins.
    segment: Place,
    /// Length of the next chunk: small at first, doubling while the log is busy.
    chunk_len: usize,
    small_chunk: usize,
    large_chunk: usize,
    /// Capacity of all pieces.
    held: u64,
    /// What all tails of the shard share, if they do.
    space: Option<TailSpace>,
}

impl Tail {
    /// A tail that goes on at `end` in the segment that begins at `segment`. `prefix` is what the file already holds
    /// of the last, partial block: it will be written again together with what follows.
    pub(crate) fn new(segment: Place, end: Place, prefix: &[u8], limits: &Limits) -> Tail {
        assert_eq!(prefix.len() as u64, end.since(end.block_floor()), "the prefix is the partial last block");
        assert!(segment.is_aligned(), "a segment begins at a block");
        let mut tail = Tail {
            pieces: VecDeque::new(),
            marks: VecDeque::new(),
            spare: VecDeque::new(),
            end: end.block_floor(),
            segment,
            chunk_len: limits.small_chunk_bytes,
            small_chunk: limits.small_chunk_bytes,
            large_chunk: limits.chunk_bytes.max(limits.small_chunk_bytes),
            held: 0,
            space: None,
        };
        if !prefix.is_empty() {
            // Just a block: an idle log should not hold a whole chunk for half a block.
            tail.add(Chunk::new(BLOCK as usize));
            tail.stage(prefix, |_| ());
            tail.commit();
        }
        tail
    }

    /// One that goes on at `end`, and must not before it is replaced by one with the last block.
    pub(crate) fn without_last_block(segment: Place, end: Place, limits: &Limits) -> Tail {
        let mut tail = Tail::new(segment, end.block_floor(), &[], limits);
        tail.end = end;
        tail
    }

    /// Gives up all that it holds for a new tail, in the same space.
    pub(crate) fn replace(&mut self, mut by: Tail) {
        if let Some(space) = self.space.clone() {
            by.share(&space);
        }
        *self = by;
    }

    /// Counts from now on in what all tails of a shard hold.
    pub(crate) fn share(&mut self, space: &TailSpace) {
        if let Some(before) = self.space.replace(space.clone()) {
            before.change(self.held, 0);
        }
        space.change(0, self.held);
    }

    /// What the tails of the shard hold together, if that is full.
    pub(crate) fn full_space(&self) -> Option<&TailSpace> {
        self.space.as_ref().filter(|space| space.is_full())
    }

    fn holds(&mut self, held: u64) {
        if let Some(space) = &self.space {
            space.change(self.held, held);
        }
        self.held = held;
    }

    /// A new last piece; the next staged byte goes there.
    fn add(&mut self, chunk: Chunk) {
        self.holds(self.held + chunk.capacity() as u64);
        self.pieces.push_back(Piece { at: self.end, chunk });
    }

    /// Length of the next chunk: two should fit in this log's share of the space.
    fn next_chunk_len(&self) -> usize {
        let share = self.space.as_ref().map_or(u64::MAX, TailSpace::share) / 2;
        if share >= self.large_chunk as u64 {
            self.chunk_len
        } else if share >= self.small_chunk as u64 {
            self.small_chunk
        } else {
            (self.small_chunk / 4).max(BLOCK as usize)
        }
    }

    fn next_chunk(&mut self) -> Chunk {
        if let Some(chunk) = self.spare.pop_front() {
            return chunk;
        }
        let len = self.next_chunk_len();
        self.space.as_ref().map_or_else(|| Chunk::new(len), |space| space.chunk(len))
    }

    /// Where the next staged byte goes.
    pub(crate) fn end(&self) -> Place {
        self.end
    }

    /// The first place still in memory, if any is.
    pub(crate) fn start(&self) -> Option<Place> {
        self.pieces.front().map(|piece| piece.at)
    }

    /// Whether `bytes` fit without a chunk being allocated here and now.
    fn room(&self) -> usize {
        let current = self.pieces.back().map_or(0, |piece| piece.chunk.spare());
        current + self.spare.iter().map(Chunk::capacity).sum::<usize>()
    }

    /// Whether more can be staged without memory being looked for, here or by others, and the next chunk is there.
    pub(crate) fn has_room(&self) -> bool {
        self.pieces.back().is_some_and(|piece| piece.chunk.spare() > BLOCK as usize)
            && self.space.as_ref().is_none_or(|space| !space.is_low())
            && !self.is_hungry()
    }

    /// Whether [`Tail::provision`] has something to do.
    fn is_hungry(&self) -> bool {
        let len = self.next_chunk_len();
        len > self.small_chunk && self.room() < len
    }

    /// Fetches chunks ahead of need. Fresh memory costs more than the copy, so it comes from the ring's pool; only a
    /// busy log fetches ahead, so that an idle one holds nothing.
    pub(crate) fn provision(&mut self, io: &mut dyn Io) {
        if let Some(space) = &self.space {
            // Larger ones a log fetches for itself, below.
            space.restock(self.next_chunk_len().min(self.small_chunk), io);
        }
        while self.is_hungry() {
            self.spare.push_back(io.chunk(self.next_chunk_len()));
        }
    }

    /// Copies bytes in at the end, and shows them to `see`, in order and in pieces. They count once they are committed.
    pub(crate) fn stage(&mut self, mut bytes: &[u8], mut see: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let contiguous = self.pieces.back().is_some_and(|last| last.end() == self.end);
            let n = match self.pieces.back_mut() {
                Some(last) if contiguous => last.chunk.stage(bytes, &mut see),
                _ => 0,
            };
            if n == 0 {
                let chunk = self.next_chunk();
                self.chunk_len = (self.chunk_len * 2).min(self.large_chunk);
                debug_assert!(self.end.is_aligned(), "a chunk begins at a block");
                self.add(chunk);
            }
            self.end = self.end.plus(n as u64);
            bytes = &bytes[n..];
        }
    }

    /// What was staged counts from now on.
    pub(crate) fn commit(&mut self) {
        for piece in self.pieces.iter_mut().rev().take_while(|piece| piece.chunk.staged() > 0) {
            piece.chunk.commit();
        }
    }

    /// Forgets what was staged since the last commit; `end` is where the tail ended then.
    pub(crate) fn discard(&mut self, end: Place) {
        while let Some(last) = self.pieces.back_mut().filter(|last| last.chunk.staged() > 0) {
            last.chunk.discard();
            if last.at <= end {
                break;
            }
            let piece = self.pieces.pop_back().expect("just looked at");
            self.holds(self.held - piece.chunk.capacity() as u64);
            self.spare.push_front(piece.chunk);
        }
        self.end = end;
    }

    /// Notes that a batch begins at `at`. Marks closer than a block to the last one are left out.
    pub(crate) fn mark(&mut self, at: Place, first: Offset) {
        let wanted =
            self.marks.back().is_none_or(|last| last.segment != self.segment || at.since(last.at) >= BLOCK);
        if wanted {
            self.marks.push_back(Mark { at, first, segment: self.segment });
        }
    }

    /// A new segment begins; its place is the next block. The piece that the old one ends in takes no more.
    pub(crate) fn begin_segment(&mut self) -> Place {
        self.end = self.end.block_ceil();
        self.segment = self.end;
        // A chunk that the old segment half filled and that ends at a block would look contiguous.
        if self.pieces.back().is_some_and(|last| last.end() == self.end && last.chunk.spare() > 0) {
            let chunk = self.next_chunk();
            self.add(chunk);
        }
        self.end
    }

    /// The piece that holds `at`.
    fn piece(&self, at: Place) -> Option<usize> {
        let after = self.pieces.partition_point(|piece| piece.at <= at);
        let index = after.checked_sub(1)?;
        (at < self.pieces[index].end()).then_some(index)
    }

    /// A view of as much of `from..to` as lies in one chunk; none if `from` is not in memory.
    pub(crate) fn slice(&self, from: Place, to: Place) -> Option<Slice> {
        let piece = &self.pieces[self.piece(from)?];
        let start = from.since(piece.at) as usize;
        let end = to.min(piece.end()).since(piece.at) as usize;
        Some(piece.chunk.slice(start..end))
    }

    /// Views of all of `from..to`, which must be in memory and in one segment.
    pub(crate) fn slices(&self, from: Place, to: Place) -> Vec<Slice> {
        let mut slices = Vec::with_capacity(1);
        let mut at = from;
        while at < to {
            let slice = self.slice(at, to).expect("the range is in memory");
            at = at.plus(slice.len() as u64);
            slices.push(slice);
        }
        slices
    }

    /// Copies `at..at + out.len()` out; false if not all of it is in memory.
    pub(crate) fn peek(&self, mut at: Place, mut out: &mut [u8]) -> bool {
        while !out.is_empty() {
            let Some(index) = self.piece(at) else { return false };
            let piece = &self.pieces[index];
            let bytes = &piece.chunk.filled()[at.since(piece.at) as usize..];
            let n = bytes.len().min(out.len());
            out[..n].copy_from_slice(&bytes[..n]);
            out = &mut out[n..];
            at = at.plus(n as u64);
        }
        true
    }

    /// The last mark at or before `from`, if that batch is in memory.
    pub(crate) fn find(&self, from: Offset) -> Option<Mark> {
        let after = self.marks.partition_point(|mark| mark.first <= from);
        after.checked_sub(1).map(|index| self.marks[index])
    }

    /// The first mark of a segment behind that of `mark`.
    pub(crate) fn find_after(&self, mark: Mark) -> Option<Mark> {
        let index = self.marks.partition_point(|other| other.segment <= mark.segment);
        self.marks.get(index).copied()
    }

    /// The last mark in `after.at..=limit` of the same segment whose offset is at most `upto`; `after` if none is.
    pub(crate) fn skip(&self, after: Mark, limit: Place, upto: Offset) -> Mark {
        let index = self.marks.partition_point(|mark| mark.at <= limit && mark.first <= upto);
        match index.checked_sub(1).map(|index| self.marks[index]) {
            Some(mark) if mark.at > after.at && mark.segment == after.segment => mark,
            _ => after,
        }
    }

    /// Where the segment that holds `at` ends in memory.
    pub(crate) fn segment_end(&self, segment: Place) -> Place {
        // Pieces of later segments begin at or behind the next segment's place.
        if segment == self.segment {
            return self.end;
        }
        let next =
            self.marks.iter().find(|mark| mark.segment > segment).map_or(self.segment, |mark| mark.segment);
        let last = self.pieces.partition_point(|piece| piece.at < next);
        last.checked_sub(1).map_or(next, |index| self.pieces[index].end())
    }

    /// Forgets the oldest pieces while more than `keep` bytes, or half its share of the space, would remain; only what is written, block by block, and
    /// only up to a batch whose bytes before it are all on disk, so that each batch can be had from one of the two.
    pub(crate) fn evict(&mut self, written: Place, keep: usize) {
        let settled = written.block_floor();
        // The other half of its share is for what is yet to be written.
        let keep = self.space.as_ref().map_or(u64::MAX, |space| space.share() / 2).min(keep as u64);
        while let Some(front) = self.pieces.front() {
            let len = front.chunk.capacity() as u64;
            let end = front.end();
            if self.held < keep + len || end > settled || self.pieces.len() == 1 {
                return;
            }
            let next = self.marks.partition_point(|mark| mark.at < end);
            if self.marks.get(next).is_none_or(|mark| mark.at > settled) {
                return;
            }
            self.marks.drain(..next);
            self.pieces.pop_front();
            self.holds(self.held - len);
        }
    }

    /// Bytes of memory held, filled or not.
    pub(crate) fn held(&self) -> ByteLen {
        ByteLen::new(self.held)
    }

    /// Everything is written, and the log has been idle or others need the memory: only the partial last block is kept.
    pub(crate) fn rest(&mut self, limits: &Limits) {
        let mut prefix = vec![0; self.end.since(self.end.block_floor()) as usize];
        if !self.peek(self.end.block_floor(), &mut prefix) {
            return;
        }
        self.replace(Tail::new(self.segment, self.end, &prefix, limits));
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.holds(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(place: u64) -> Place {
        Place::ZERO.plus(place)
    }

    fn tail() -> Tail {
        Tail::new(Place::ZERO, Place::ZERO, &[], &Limits::TINY)
    }

    fn stage(tail: &mut Tail, first: i64, bytes: &[u8]) -> Place {
        let at = tail.end();
        tail.mark(at, Offset::new(first));
        tail.stage(bytes, |_| ());
        tail.commit();
        at
    }

    #[test]
    fn what_was_staged_is_read_back_across_chunks() {
        let mut tail = tail();
        let bytes: Vec<u8> = (0..40_000u32).map(|i| i as u8).collect();
        for part in bytes.chunks(999) {
            tail.stage(part, |_| ());
            tail.commit();
        }
        let slices = tail.slices(at(3), at(39_000));
        assert!(slices.len() > 1);
        let read: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        assert_eq!(read, bytes[3..39_000]);
        let mut out = [0; 9000];
        assert!(tail.peek(at(2000), &mut out));
        assert_eq!(out[..], bytes[2000..11_000]);
        assert!(!tail.peek(at(39_999), &mut [0; 2]));
    }

    #[test]
    fn a_new_segment_begins_at_a_block_and_is_never_contiguous_with_the_old() {
        for len in [1usize, 4095, 4096, 4097, 8192] {
            let mut tail = tail();
            stage(&mut tail, 0, &vec![1; len]);
            let place = tail.begin_segment();
            assert!(place.is_aligned() && place.get() >= len as u64);
            stage(&mut tail, 1, b"next");
            assert_eq!(tail.segment_end(Place::ZERO), at(len as u64), "of {len}");
            assert_eq!(tail.segment_end(place), place.plus(4));
            assert_eq!(tail.slices(place, place.plus(4))[0][..], *b"next");
        }
    }

    #[test]
    fn eviction_keeps_every_batch_whole_on_disk_or_whole_in_memory() {
        let mut tail = tail();
        let mut places = Vec::new();
        for i in 0..40 {
            places.push((stage(&mut tail, i, &[7; 3000]), Offset::new(i)));
        }
        let written = at(100_000);
        tail.evict(written, 16 << 10);
        let first = tail.marks[0];
        assert!(first.at <= written.block_floor() && tail.start().unwrap() > Place::ZERO);
        assert_eq!(places[first.first.get() as usize], (first.at, first.first));
    }

    #[test]
    fn the_stock_holds_small_chunks_only_however_busy_a_log_is() {
        let (mut tail, mut io) = (tail(), highwater_io::MemoryIo::new());
        let space = TailSpace::new(1 << 20);
        tail.share(&space);
        for i in 0..40 {
            stage(&mut tail, i, &[7; 3000]);
            tail.provision(&mut io);
        }
        assert_eq!(tail.chunk_len, Limits::TINY.chunk_bytes);
        assert_eq!(space.stocked(), 32 * Limits::TINY.small_chunk_bytes);
    }

    #[test]
    fn a_busy_log_that_goes_without_a_step_needs_no_memory_of_its_own() {
        let (mut tail, mut io) = (tail(), highwater_io::MemoryIo::new());
        stage(&mut tail, 0, &[7; 20_000]);
        let mut without = 0;
        for i in 1..100 {
            if tail.has_room() {
                without += 1;
            } else {
                tail.provision(&mut io);
            }
            assert!(tail.room() >= 5_000, "append {i}");
            stage(&mut tail, i, &[7; 5_000][..if i % 3 == 0 { 5_000 } else { 700 }]);
        }
        assert!(without > 10);
    }

    #[test]
    fn unwritten_bytes_are_never_evicted() {
        let mut tail = tail();
        stage(&mut tail, 0, &[7; 60_000]);
        tail.evict(at(0), 0);
        assert_eq!(tail.start(), Some(Place::ZERO));
    }

    #[test]
    fn a_resting_tail_keeps_the_partial_block_only() {
        let mut tail = tail();
        stage(&mut tail, 0, &[9; 30_000]);
        tail.rest(&Limits::TINY);
        assert_eq!(tail.held().get(), BLOCK);
        let mut out = vec![0; 30_000 % 4096];
        assert!(tail.peek(at(30_000).block_floor(), &mut out));
        assert!(out.iter().all(|&byte| byte == 9));
        tail.stage(b"more", |_| ());
        tail.commit();
        assert_eq!(tail.end(), at(30_004));
    }

    #[test]
    fn what_is_discarded_leaves_no_trace_at_any_size() {
        let (mut tail, mut twin) = (self::tail(), self::tail());
        let bytes: Vec<u8> = (0..60_000u32).map(|i| (i * 7 % 251) as u8).collect();
        for (n, len) in [1, 4095, 4096, 4097, 8192, 20_000, 3, 12_288, 50_000].into_iter().enumerate() {
            let end = tail.end();
            tail.stage(&bytes[..len], |_| ());
            tail.discard(end);
            assert_eq!(tail.end(), end);
            for tail in [&mut tail, &mut twin] {
                stage(tail, n as i64, &bytes[n..n + len / 2 + 1]);
            }
            assert_eq!(tail.end(), twin.end());
            let (mut one, mut two) = (vec![0; tail.end().get() as usize], vec![1; tail.end().get() as usize]);
            assert!(tail.peek(Place::ZERO, &mut one) && twin.peek(Place::ZERO, &mut two));
            assert!(one == two);
        }
    }
}

//! The segment that a group becomes, while it is written.

use highwater_base::{BLOCK, FilePos, Offset, WallMs};
use highwater_io::{Buffer, Slice};

use crate::batch::Batch;
use crate::index::{AbortedTxn, IndexBuilder};
use crate::seal::SealBuilder;
use crate::segment::{Largest, facts_of};

/// See the module.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) base: Offset,
    pub(super) index: IndexBuilder,
    pub(super) seal: SealBuilder,
    pub(super) largest: Largest,
    pub(super) oldest: Option<WallMs>,
    pub(super) aborted: Vec<AbortedTxn>,
    /// Bytes of all batches.
    pub(super) size: u64,
    /// Bytes of the old segments that have not come by; with [`Output::size`] at most `most`.
    left: u64,
    /// The largest that a segment may become: at least as large as the old ones together.
    most: u64,
    /// Batches that are not written yet.
    pending: Vec<u8>,
    /// Bytes written: whole blocks.
    written: u64,
    /// Something of the group went or changed.
    pub(super) changed: bool,
    /// How far finishing has come.
    pub(super) finish: Finish,
}

/// How far a segment that is complete has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finish {
    /// More batches may come.
    Open,
    /// Its file is cut to its length and synced; when it was modified.
    Settled(WallMs),
    /// The files beside it are there.
    Complete,
}

impl Output {
    /// The segment of `left` bytes of old ones, which may become `most` bytes long.
    pub(super) fn new(base: Offset, index_interval: u64, left: u64, most: u64) -> Output {
        Output {
            base,
            index: IndexBuilder::new(base, index_interval),
            seal: SealBuilder::new(),
            largest: Largest::NONE,
            oldest: None,
            aborted: Vec::new(),
            size: 0,
            left,
            most,
            pending: Vec::new(),
            written: 0,
            changed: false,
            finish: Finish::Open,
        }
    }

    /// A batch of the old segments has come by, whatever becomes of it.
    pub(super) fn comes_by(&mut self, batch: Batch<'_>) {
        self.left = self.left.saturating_sub(batch.size() as u64);
    }

    /// Whether a batch fits even if everything that is left of the old segments stays.
    pub(super) fn has_room_for(&self, batch: Batch<'_>) -> bool {
        self.size + batch.size() as u64 + self.left <= self.most
    }

    /// Takes a batch in at the end.
    pub(super) fn push(&mut self, batch: Batch<'_>) {
        let facts = facts_of(batch);
        assert!(self.size + facts.size <= i32::MAX as u64, "positions have 31 bits");
        self.index.push(facts.last, FilePos::new(self.size), facts.size, facts.max_timestamp);
        self.largest.see(facts.max_timestamp, facts.last);
        self.oldest.get_or_insert(facts.max_timestamp);
        let (first, last) = (facts.first, facts.last);
        let bytes = batch.bytes();
        self.seal.batch(bytes, facts.size, first, last, facts.leader_epoch, facts.max_timestamp);
        self.pending.extend_from_slice(batch.bytes());
        self.size += facts.size;
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// The next write, at most `most` bytes of whole blocks; the last one of a segment is padded with zeros. None if less
    /// than a block waits, or nothing of the last.
    pub(super) fn next_write(&mut self, most: usize, last: bool) -> Option<(FilePos, Slice)> {
        let whole = self.pending.len() / BLOCK as usize * BLOCK as usize;
        let take = if last && self.pending.len() <= most { self.pending.len() } else { whole.min(most) };
        if take == 0 {
            return None;
        }
        let padded = take.next_multiple_of(BLOCK as usize);
        let mut buffer = Buffer::new(padded);
        buffer.extend(&self.pending[..take]);
        let padding = padded - take;
        buffer.spare_mut()[..padding].fill(0);
        buffer.set_len(padded);
        let at = FilePos::new(self.written);
        self.pending.drain(..take);
        self.written += padded as u64;
        Some((at, buffer.freeze().range(0..padded)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Batches};

    #[test]
    fn writes_are_whole_blocks_in_order_and_the_last_is_padded() {
        let mut output = Output::new(Offset::ZERO, 4096, 40_000, i32::MAX as u64);
        let mut expected = Vec::new();
        for offset in 0..10 {
            let bytes = BatchBuilder::new()
                .base_offset(Offset::new(offset))
                .record(offset, Some(b"k"), Some(&[offset as u8; 3000]))
                .build();
            output.push(Batches::in_memory(&bytes).next().unwrap().unwrap());
            expected.extend_from_slice(&bytes);
        }
        let mut written = Vec::new();
        for last in [false, true] {
            while let Some((at, data)) = output.next_write(8192, last) {
                assert_eq!(at.get(), written.len() as u64);
                assert!(data.len() <= 8192 && data.len().is_multiple_of(BLOCK as usize));
                written.extend_from_slice(&data);
            }
        }
        assert_eq!(output.size, expected.len() as u64);
        assert_eq!(written[..expected.len()], expected);
        assert!(written[expected.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(output.index.offset_bytes().len() / 8, 4);
    }

    #[test]
    fn a_batch_that_grew_has_room_only_beside_all_that_is_left() {
        let bytes = |len| BatchBuilder::new().record(1, Some(b"k"), Some(&vec![7; len])).build();
        let (old, grown) = (bytes(1000), bytes(1100));
        let batch = |bytes| Batches::in_memory(bytes).next().unwrap().unwrap();
        let all = 3 * old.len() as u64;
        let mut output = Output::new(Offset::ZERO, 4096, all, all + 150);
        let mut room = Vec::new();
        for _ in 0..3 {
            output.comes_by(batch(&old));
            room.push(output.has_room_for(batch(&grown)));
            output.push(batch(if room[room.len() - 1] { &grown } else { &old }));
        }
        assert_eq!(room, [true, false, false]);
        assert!(output.size <= all + 150 && output.left == 0);
    }
}

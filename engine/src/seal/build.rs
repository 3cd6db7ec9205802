//! Making a seal, and comparing with one, as batches go by.

use highwater_base::{ByteLen, LeaderEpoch, Offset, WallMs};

use super::{SEAL_PIECE, Seal, SealedPiece, front};

/// Makes a seal from a segment's batches as they are staged, without reading them back.
///
/// ```
/// use highwater_base::WallMs;
/// let seal = highwater_engine::seal::SealBuilder::new().finish(WallMs::new(0));
/// assert!(seal.pieces().is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct SealBuilder {
    length: u64,
    first_offset: Offset,
    last_offset: Offset,
    first_epoch: LeaderEpoch,
    last_epoch: LeaderEpoch,
    max_timestamp: WallMs,
    next: Offset,
    txn_index: Option<u32>,
    /// Up to the one that the last batch begins in, whose sum is still in the making.
    pieces: Vec<SealedPiece>,
    sum: crc32fast::Hasher,
}

impl Default for SealBuilder {
    fn default() -> SealBuilder {
        SealBuilder::new()
    }
}

impl SealBuilder {
    /// Of an empty segment.
    pub fn new() -> SealBuilder {
        SealBuilder {
            length: 0,
            first_offset: Offset::NONE,
            last_offset: Offset::NONE,
            first_epoch: LeaderEpoch::NONE,
            last_epoch: LeaderEpoch::NONE,
            max_timestamp: WallMs::NONE,
            next: Offset::NONE,
            txn_index: None,
            pieces: Vec::new(),
            sum: crc32fast::Hasher::new(),
        }
    }

    /// The next batch of the segment, `size` bytes that begin with those of `batch`: all, or no more than its header.
    pub fn batch(
        &mut self,
        batch: &[u8],
        size: u64,
        first: Offset,
        last: Offset,
        epoch: LeaderEpoch,
        max_timestamp: WallMs,
    ) {
        self.begins(self.length, batch);
        self.length += size;
        if !self.first_offset.is_some() {
            (self.first_offset, self.first_epoch) = (first, epoch);
        }
        self.last_offset = last;
        self.first_epoch = self.first_epoch.min(epoch);
        self.last_epoch = self.last_epoch.max(epoch);
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }

    /// A batch begins at `position`, which is not before the last one's.
    fn begins(&mut self, position: u64, batch: &[u8]) {
        let (piece, at) = ((position / SEAL_PIECE as u64) as usize, (position % SEAL_PIECE as u64) as u32);
        if self.pieces.len() <= piece {
            self.end_piece();
            self.pieces.resize(piece + 1, SealedPiece::BARE);
            self.pieces[piece].first = Some(at);
        }
        self.sum.update(front(batch));
    }

    fn end_piece(&mut self) {
        let sum = std::mem::take(&mut self.sum).finalize();
        if let Some(last) = self.pieces.last_mut() {
            last.sum = sum;
        }
    }

    /// All pieces of a segment of `length` bytes.
    fn pieces(&self, length: u64) -> Vec<SealedPiece> {
        let mut all = self.clone();
        all.end_piece();
        all.pieces.resize(length.div_ceil(SEAL_PIECE as u64) as usize, SealedPiece::BARE);
        all.pieces
    }

    /// Bytes so far.
    pub const fn length(&self) -> ByteLen {
        ByteLen::new(self.length)
    }

    /// The next segment begins at `next`, and its name is durable ([`Seal::next`]).
    #[must_use]
    pub fn followed_by(self, next: Offset) -> SealBuilder {
        SealBuilder { next, ..self }
    }

    /// The bytes of the transaction index that lies beside the segment, none if it has none ([`Seal::txn_index`]).
    #[must_use]
    pub fn beside(self, txn_index: &[u8]) -> SealBuilder {
        SealBuilder { txn_index: Some(crc32fast::hash(txn_index)), ..self }
    }

    /// The seal of these batches; `modified` is the file's modification time after its last write.
    pub fn finish(&self, modified: WallMs) -> Seal {
        Seal {
            length: ByteLen::new(self.length),
            first_offset: self.first_offset,
            last_offset: self.last_offset,
            first_epoch: self.first_epoch,
            last_epoch: self.last_epoch,
            max_timestamp: self.max_timestamp,
            modified,
            next: self.next,
            txn_index: self.txn_index,
            pieces: self.pieces(self.length),
        }
    }
}

/// Compares a segment with its seal, as its batches go by. Together with each batch's own CRC, which is the caller's to
/// check, this covers every byte.
///
/// ```
/// use highwater_base::{LeaderEpoch, Offset, WallMs};
/// use highwater_engine::batch::BatchBuilder;
/// use highwater_engine::seal::{SealBuilder, SealCheck};
/// let mut batch = BatchBuilder::new().record(5, None, Some(b"v")).build();
/// let size = batch.len() as u64;
/// let mut builder = SealBuilder::new();
/// builder.batch(&batch, size, Offset::new(0), Offset::new(0), LeaderEpoch::new(3), WallMs::new(5));
/// let seal = builder.finish(WallMs::new(0));
/// batch[15] ^= 1; // the epoch, which the batch's CRC does not cover
/// let mut check = SealCheck::new(seal);
/// check.batch(0, &batch);
/// assert_eq!(check.finish(size), [0..size]);
/// ```
#[derive(Clone, Debug)]
pub struct SealCheck {
    seal: Seal,
    found: SealBuilder,
}

impl SealCheck {
    /// Nothing compared yet.
    pub fn new(seal: Seal) -> SealCheck {
        SealCheck { seal, found: SealBuilder::new() }
    }

    /// A batch that begins at `position`, behind those before. Its header is enough.
    pub fn batch(&mut self, position: u64, batch: &[u8]) {
        self.found.begins(position, batch);
    }

    /// The ranges of the file, which is `length` bytes long, that differ from what was sealed, ascending; neighbours are
    /// one range. Bytes that are missing, or more than there were, differ.
    pub fn finish(self, length: u64) -> Vec<std::ops::Range<u64>> {
        let sealed = self.seal.length.get();
        let all = length.max(sealed);
        let found = self.found.pieces(length);
        let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
        let mut add = |start: u64, end: u64| match ranges.last_mut() {
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ => ranges.push(start..end),
        };
        for i in 0..all.div_ceil(SEAL_PIECE as u64) {
            let (start, end) = (i * SEAL_PIECE as u64, ((i + 1) * SEAL_PIECE as u64).min(all));
            if found.get(i as usize) != self.seal.pieces.get(i as usize) {
                add(start, end);
            } else if length != sealed && end > length.min(sealed) {
                add(start.max(length.min(sealed)), end);
            }
        }
        ranges
    }
}

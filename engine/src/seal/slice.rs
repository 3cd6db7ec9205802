//! A slice of a segment against its seal: fronts by the seal, the rest of each batch by its own checksum.

use std::ops::Range;

use super::{SEAL_PIECE, Seal, front};
use crate::batch::{ATTRIBUTES, Batch, Crc32c, Header, MAGIC_PREFIX};

/// Bytes read behind a slice, so that the front of a batch that begins in it is there.
pub(crate) const BEHIND: u64 = 4096;

/// A batch that began in the slice before and goes on in the next.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished {
    bytes: Range<u64>,
    expected: u32,
    sum: Crc32c,
}

/// What a slice came to.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// What differs, ascending; neighbours are one range. A batch may begin before the slice.
    pub(crate) differing: Vec<Range<u64>>,
    /// Message sets of old versions that reach beyond the slice, which nobody has compared.
    pub(crate) open: Vec<Range<u64>>,
    /// For the next slice.
    pub(crate) unfinished: Option<Unfinished>,
}

impl Looked {
    fn differs(&mut self, bytes: Range<u64>) {
        match self.differing.last_mut() {
            Some(last) if last.end >= bytes.start => last.end = last.end.max(bytes.end),
            _ => self.differing.push(bytes),
        }
    }
}

/// Compares `slice`, whole pieces of the segment (the last may be short), with the seal. `data` begins where the slice does and
/// goes on for up to [`BEHIND`] bytes behind it; what is missing of the slice differs.
pub(crate) fn look(seal: &Seal, slice: Range<u64>, data: &[u8], before: Option<Unfinished>) -> Looked {
    let mut looked = Looked::default();
    let there = slice.end.min(slice.start + data.len() as u64);
    let bytes =
        |range: Range<u64>| &data[(range.start - slice.start) as usize..(range.end - slice.start) as usize];
    if let Some(mut batch) = before.filter(|batch| batch.bytes.end > slice.start) {
        batch.sum.update(bytes(slice.start..batch.bytes.end.min(there)));
        if batch.bytes.end > there {
            looked.unfinished = Some(batch);
        } else if batch.sum.finish() != batch.expected {
            looked.differs(batch.bytes);
        }
    }
    for start in (slice.start..there).step_by(SEAL_PIECE) {
        let end = (start + SEAL_PIECE as u64).min(there);
        let number = (start / SEAL_PIECE as u64) as usize;
        let Some(piece) = seal.pieces().get(number) else {
            looked.differs(start..end);
            continue;
        };
        let mut at = piece.first.map_or(end, |first| start + u64::from(first));
        let mut fronts = crc32fast::Hasher::new();
        while at < end {
            let head = &data[(at - slice.start) as usize..];
            let size = head
                .first_chunk::<MAGIC_PREFIX>()
                .and_then(|prefix| Batch::size_from_prefix(prefix, at as usize).ok());
            let Some(size) = size else { break };
            fronts.update(front(head));
            let batch = at..at + size as u64;
            looked.batch(batch.clone(), there, head);
            at = batch.end;
        }
        if at < end || fronts.finalize() != piece.sum {
            looked.differs(start..end);
        }
    }
    if there < slice.end {
        looked.differs(there..slice.end);
        looked.unfinished = None;
    }
    looked
}

impl Looked {
    /// A batch that begins with the bytes of `head`, of which those before `there` may be looked at.
    fn batch(&mut self, batch: Range<u64>, there: u64, head: &[u8]) {
        if batch.end <= there {
            let whole = Batch::at(&head[..(batch.end - batch.start) as usize], 0);
            if !whole.ok().flatten().is_some_and(|batch| batch.crc_matches()) {
                self.differs(batch);
            }
            return;
        }
        let upto = (there - batch.start) as usize;
        match (Header::decode(head), head.get(ATTRIBUTES..upto)) {
            (Some(header), Some(bytes)) => {
                let mut sum = Crc32c::new();
                sum.update(bytes);
                self.unfinished = Some(Unfinished { bytes: batch, expected: header.crc(), sum });
            }
            // Of an old version, or cut inside its front.
            _ => self.open.push(batch),
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_base::{LeaderEpoch, Offset, WallMs};

    use super::*;
    use crate::batch::BatchBuilder;
    use crate::seal::SealBuilder;

    fn segment(sizes: &[usize]) -> (Vec<u8>, Seal) {
        let (mut bytes, mut builder) = (Vec::new(), SealBuilder::new());
        for (i, size) in sizes.iter().enumerate() {
            let batch = BatchBuilder::new().record(7, None, Some(&vec![i as u8; *size])).build();
            let offset = Offset::new(i as i64);
            builder.batch(&batch, batch.len() as u64, offset, offset, LeaderEpoch::ZERO, WallMs::new(7));
            bytes.extend(batch);
        }
        (bytes, builder.finish(WallMs::new(1)))
    }

    /// Slice by slice, each of so many pieces.
    fn differing(seal: &Seal, bytes: &[u8], pieces: u64) -> Vec<Range<u64>> {
        let (mut all, mut unfinished, end) = (Vec::new(), None, seal.length.get());
        let step = pieces * SEAL_PIECE as u64;
        for from in (0..end).step_by(step as usize) {
            let to = (from + step).min(end);
            let there = bytes.len().min((to + BEHIND) as usize);
            let looked =
                look(seal, from..to, bytes.get(from as usize..there).unwrap_or_default(), unfinished);
            all.extend(looked.differing.into_iter().chain(looked.open));
            unfinished = looked.unfinished;
        }
        all
    }

    const SIZES: [usize; 9] = [100, 65_400, 3, 130_000, 20, 300_000, 65_536, 9, 70_000];

    #[test]
    fn what_was_sealed_does_not_differ_however_it_is_sliced() {
        let (bytes, seal) = segment(&SIZES);
        for pieces in 1..12 {
            assert!(differing(&seal, &bytes, pieces).is_empty(), "{pieces} pieces");
        }
    }

    #[test]
    fn a_flip_of_any_byte_is_named() {
        let (bytes, seal) = segment(&SIZES);
        // Bytes of every kind: fronts, headers, records, around the pieces' ends.
        let far = (0..bytes.len()).step_by(997);
        for at in far.chain(0..140).chain(65_400..65_700).chain(131_000..131_100) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            for pieces in [1, 16] {
                let found = differing(&seal, &damaged, pieces);
                assert!(found.iter().any(|range| range.contains(&(at as u64))), "byte {at}: {found:?}");
            }
        }
    }

    #[test]
    fn what_is_missing_differs() {
        let (bytes, seal) = segment(&SIZES);
        for there in [0, 50_000, 65_536, 200_000, bytes.len() - 1] {
            let found = differing(&seal, &bytes[..there], 4);
            assert_eq!(found.last().map(|range| range.end), Some(bytes.len() as u64));
            assert!(found.iter().any(|range| range.contains(&(there as u64))));
        }
    }
}

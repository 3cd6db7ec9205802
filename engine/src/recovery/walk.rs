//! Batch by batch over a segment's file, as far as batches are what they must be.

use highwater_base::{Mutant, Offset};
use highwater_io::{IoError, Park};

use super::Window;
use crate::batch::{Batch, HEADER_BYTES, MAGIC_PREFIX};
use crate::epochs::EpochCache;
use crate::segment::{BatchFacts, judge};

/// How a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// At the asked end, exactly.
    Reached,
    /// A valid batch begins before the asked end and ends behind it.
    Overrun,
    /// No valid batch begins here.
    Bad,
}

/// Where a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Walked {
    /// The end of the last batch.
    pub(crate) position: u64,
    /// The offset after it.
    pub(crate) next: Offset,
    pub(crate) stop: Stop,
}

/// What a walk holds batches against.
pub(crate) struct Rules<'a> {
    pub(crate) base: Offset,
    /// No offset reaches this: the next segment's base.
    pub(crate) limit: Offset,
    /// Epochs on disk, for bytes that they are proven to cover.
    pub(crate) epochs: Option<&'a EpochCache>,
    pub(crate) mutant: Mutant,
    /// The offset that is known to follow the last batch before the walk's end, if one is.
    pub(crate) end_offset: Option<Offset>,
}

/// Walks from `position`, where the offset `next` is expected, to `end`, and shows each batch to `see`.
pub(crate) fn walk(
    io: &mut dyn Park,
    window: &mut Window,
    (mut position, mut next): (u64, Offset),
    end: u64,
    rules: &Rules<'_>,
    mut see: impl FnMut(u64, &BatchFacts, Batch<'_>),
) -> Result<Walked, IoError> {
    loop {
        let stop = |stop| Ok(Walked { position, next, stop });
        if position == end {
            return stop(Stop::Reached);
        }
        if position > end {
            return stop(Stop::Overrun);
        }
        let len = window.len();
        let prefix = window.bytes(io, position, MAGIC_PREFIX)?;
        let Some(prefix) = prefix.first_chunk::<MAGIC_PREFIX>() else { return stop(Stop::Bad) };
        let Ok(size) = Batch::size_from_prefix(prefix, 0) else { return stop(Stop::Bad) };
        if size as u64 > len - position {
            return stop(Stop::Bad);
        }
        // With the next header, which tells a gap from a flipped bit.
        let bytes = window.bytes(io, position, size + HEADER_BYTES)?;
        let Ok(Some(batch)) = Batch::at(bytes, 0) else { return stop(Stop::Bad) };
        let Ok(facts) = judge(batch, rules.base, Some(next), rules.epochs, rules.mutant) else {
            return stop(Stop::Bad);
        };
        if facts.last >= rules.limit {
            return stop(Stop::Bad);
        }
        // The next batch follows what this one would end with if its first offset were the expected one.
        let closed_up = next.plus(facts.last.since(facts.first) + 1);
        let is_last = position + size as u64 == end;
        if facts.first > next && follower(bytes, size, is_last, rules) == Some(closed_up) {
            return stop(Stop::Bad);
        }
        if position + size as u64 > end {
            return stop(Stop::Overrun);
        }
        see(position, &facts, batch);
        position += size as u64;
        next = facts.last.plus(1);
    }
}

/// The first offset of what comes behind a batch of `size` bytes, if that is known.
fn follower(bytes: &[u8], size: usize, is_last: bool, rules: &Rules<'_>) -> Option<Offset> {
    if is_last && rules.end_offset.is_some() {
        return rules.end_offset;
    }
    let header = bytes.get(size..size + MAGIC_PREFIX)?;
    let begun = header[8..].iter().any(|byte| *byte != 0);
    begun.then(|| Offset::new(i64::from_be_bytes(header[..8].try_into().expect("eight bytes"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use highwater_base::{FilePos, LeaderEpoch};
    use highwater_io::{MemoryIo, Op, OpenHow, Outcome, Slice, blocking};

    const SECTOR: usize = 512;

    fn batch(offset: i64, size: usize, filler: u8) -> Vec<u8> {
        let build = |len: usize| {
            let builder =
                BatchBuilder::new().base_offset(Offset::new(offset)).leader_epoch(LeaderEpoch::ZERO);
            builder.record(1, None, Some(&vec![filler; len])).build()
        };
        let found = (0..size).map(build).find(|batch| batch.len() == size);
        found.expect("a batch can have this size")
    }

    fn walked(bytes: Vec<u8>, base: i64) -> (Walked, Vec<Vec<u8>>) {
        let mut io = MemoryIo::new();
        let open = Op::Open { path: "/f".into(), how: OpenHow::CreateNew, direct: false };
        let Outcome::Opened { file, .. } = blocking::run(&mut io, open).unwrap() else { panic!() };
        let len = bytes.len() as u64;
        let write = Op::Write { file, at: FilePos::ZERO, data: Slice::from(bytes), durable: false };
        blocking::run(&mut io, write).unwrap();
        let base = Offset::new(base);
        let rules = Rules { base, limit: Offset::MAX, epochs: None, mutant: Mutant::None, end_offset: None };
        let mut seen = Vec::new();
        let mut window = Window::new(file, len, 8192);
        let walked = walk(&mut io, &mut window, (0, base), len, &rules, |_, _, batch| {
            seen.push(batch.bytes().to_vec());
        });
        (walked.unwrap(), seen)
    }

    /// Why a recycled segment is wiped. Two new batches are written over the file's old ones, of the same size, and the
    /// power goes when the first sector has landed and the second has not. The first sector ends within the second batch's
    /// header, behind its offset and length and before its checksum: the old batch's body behind the new one's offset
    /// is a batch in every respect. Nothing that is in the file tells it from one that was synced.
    #[test]
    fn a_header_torn_between_two_sectors_makes_an_old_record_a_new_one() {
        for split in 1..=30 {
            let size = SECTOR - split;
            let old = [batch(0, size, b'o'), batch(1, size, b'o')].concat();
            let new = [batch(100, size, b'n'), batch(101, size, b'n')].concat();
            let mut torn = old.clone();
            torn[..SECTOR].copy_from_slice(&new[..SECTOR]);
            let (found, seen) = walked(torn, 100);
            let deceived = found.next == Offset::new(102);
            assert_eq!(deceived, (8..=17).contains(&split), "{split} bytes of the header landed");
            assert_eq!(seen[0], new[..size]);
            if deceived {
                assert_eq!(seen[1][21..], old[size + 21..], "the old record");
            }
            // Over zeros the same tear ends the log.
            let mut torn = vec![0; old.len()];
            torn[..SECTOR].copy_from_slice(&new[..SECTOR]);
            assert_eq!(walked(torn, 100).0.next, Offset::new(101), "{split}, over zeros");
        }
    }
}

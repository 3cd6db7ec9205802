//! What lies behind bad bytes: zeros, something, valid batches?

use highwater_base::{Mutant, Offset};
use highwater_io::{IoError, Park};

use super::{Behind, Rest, Window, behind};
use crate::batch::{Batch, HEADER_BYTES, MAGIC_PREFIX};

/// What a search found behind bad bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) rest: Rest,
    pub(crate) behind: Behind,
    /// Where the first valid batch begins and its first offset, if there is one.
    pub(crate) first: Option<(u64, Offset)>,
    /// The end of the last byte that is not zero.
    pub(crate) data_end: u64,
}

/// How to search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    /// No valid batch has an offset below this one.
    pub(crate) least: Offset,
    /// How far behind a batch counts as near.
    pub(crate) reach: u64,
    /// How far the bytes searched lie behind the bad ones already.
    pub(crate) distance: u64,
    pub(crate) mutant: Mutant,
}

const PIECE: usize = 64 << 10;

/// Searches a file from `from` on (the byte behind the first bad one), byte by byte, for zeros' end and for valid batches.
///
/// A valid batch inside another one's values can deceive it. That makes a torn tail look ambiguous, never more: a batch
/// that holds another is not longer than what can be in flight.
pub(crate) fn search(
    io: &mut dyn Park,
    window: &mut Window,
    from: u64,
    how: Search,
) -> Result<Found, IoError> {
    let mut found = Found { rest: Rest::Zeros, behind: Behind::Nothing, first: None, data_end: from };
    let mut at = from;
    let mut skip_to = from;
    while at < window.len() {
        let piece = window.bytes(io, at, PIECE + HEADER_BYTES)?.to_vec();
        let body = piece.len().min(PIECE);
        if let Some(last) = piece[..body].iter().rposition(|byte| *byte != 0) {
            found.rest = Rest::Bytes;
            found.data_end = at + last as u64 + 1;
            let mut index = skip_to.saturating_sub(at) as usize;
            while index < body {
                let position = at + index as u64;
                if let Some(size) = candidate(&piece[index..], how.least, window.len() - position)
                    && let Some(first) = valid(window.bytes(io, position, size)?, how.mutant)
                {
                    found.first.get_or_insert((position, first));
                    found.behind = behind(how.distance + (position - from), how.reach);
                    if found.behind == Behind::Far {
                        return Ok(found);
                    }
                    index += size;
                    continue;
                }
                index += 1;
            }
            skip_to = at + index as u64;
        }
        at += body as u64;
        if body == 0 {
            break;
        }
    }
    Ok(found)
}

/// The size of the batch that could begin here, by its header alone.
fn candidate(bytes: &[u8], least: Offset, left: u64) -> Option<usize> {
    if bytes.get(16) != Some(&2) {
        return None;
    }
    let prefix = bytes.first_chunk::<MAGIC_PREFIX>()?;
    let size = Batch::size_from_prefix(prefix, 0).ok()?;
    let first = i64::from_be_bytes(prefix[..8].try_into().expect("eight bytes"));
    let plausible = first >= least.get() && first - least.get() <= i64::from(i32::MAX);
    (plausible && size as u64 <= left).then_some(size)
}

/// The first offset of a batch with a good checksum.
fn valid(bytes: &[u8], mutant: Mutant) -> Option<Offset> {
    let batch = Batch::at(bytes, 0).ok()??;
    let sound = mutant == Mutant::NoCrc || batch.crc_matches();
    let header = batch.header().filter(|_| sound)?;
    (header.last_offset_delta() >= 0).then(|| header.base_offset())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use highwater_base::FilePos;
    use highwater_io::{MemoryIo, Op, OpenHow, Outcome, Slice, blocking};

    fn batch(offset: i64, len: usize) -> Vec<u8> {
        BatchBuilder::new().base_offset(Offset::new(offset)).record(1, None, Some(&vec![7; len])).build()
    }

    fn searched(bytes: Vec<u8>, from: u64, reach: u64) -> Found {
        let mut io = MemoryIo::new();
        let open = Op::Open { path: "/f".into(), how: OpenHow::CreateNew, direct: false };
        let Outcome::Opened { file, .. } = blocking::run(&mut io, open).unwrap() else { panic!() };
        let len = bytes.len() as u64;
        let write = Op::Write { file, at: FilePos::ZERO, data: Slice::from(bytes), durable: false };
        blocking::run(&mut io, write).unwrap();
        let mut window = Window::new(file, len, 8192);
        let how = Search { least: Offset::new(5), reach, distance: 0, mutant: Mutant::None };
        search(&mut io, &mut window, from, how).unwrap()
    }

    #[test]
    fn zeros_are_nothing_and_other_bytes_are_something() {
        let zeros = searched(vec![0; 300_000], 100, 1000);
        assert_eq!((zeros.rest, zeros.behind), (Rest::Zeros, Behind::Nothing));
        let mut bytes = vec![0; 300_000];
        bytes[200_000] = 1;
        let some = searched(bytes, 100, 1000);
        assert_eq!((some.rest, some.behind, some.data_end), (Rest::Bytes, Behind::Nothing, 200_001));
    }

    #[test]
    fn valid_batches_are_found_at_any_distance_and_older_ones_are_passed_over() {
        let mut bytes = vec![0; 70_000];
        bytes.extend(batch(4, 10)); // older than what is expected: stale
        let near = bytes.len() as u64;
        bytes.extend(batch(6, 10));
        let found = searched(bytes.clone(), 100, 100_000);
        assert_eq!((found.behind, found.first), (Behind::Near, Some((near, Offset::new(6)))));
        assert_eq!(searched(bytes.clone(), 100, 100).behind, Behind::Far);
        bytes.extend(vec![3; 100_000]);
        bytes.extend(batch(9, 10));
        let far = searched(bytes, 100, 100_000);
        assert_eq!((far.behind, far.first), (Behind::Far, Some((near, Offset::new(6)))));
    }
}

//! The seal: a file of ours beside a segment that is complete, with a checksum of every 64 KiB of it.
//!
//! Kafka's CRC leaves out 17 bytes of every batch and says nothing about a batch that is gone; the seal covers every
//! byte. With it a start can skip the segment, and a scrubber can tell rot (the file's modification time is the one
//! noted here, its bytes are not) from a file that somebody else has written (another time: the seal is void).
//!
//! ```
//! use highwater_base::{LeaderEpoch, Offset, WallMs};
//! use highwater_engine::seal::{Seal, SealBuilder};
//! let mut builder = SealBuilder::new();
//! builder.bytes(b"the segment's bytes, in pieces of any size");
//! builder.batch(Offset::new(0), Offset::new(9), LeaderEpoch::new(3), WallMs::new(5));
//! let seal = builder.finish(WallMs::new(1_700_000_000_000));
//! assert_eq!(Seal::decode(&seal.encode()).unwrap(), seal);
//! ```

use std::fmt;

use highwater_base::{ByteLen, LeaderEpoch, Offset, WallMs};

/// Bytes of the segment that one checksum covers; the last one may cover fewer.
pub const SEAL_PIECE: usize = 64 << 10;

const MAGIC: [u8; 8] = *b"HWSEAL\r\n";
const FORMAT_VERSION: u32 = 1;

// Where each field lies, all big-endian. The file is written once, synced and never changed: a crash may leave it
// missing or torn, which its own checksum at the end tells.
const VERSION: usize = MAGIC.len();
const LENGTH: usize = VERSION + 4;
const FIRST_OFFSET: usize = LENGTH + 8;
const LAST_OFFSET: usize = FIRST_OFFSET + 8;
const FIRST_EPOCH: usize = LAST_OFFSET + 8;
const LAST_EPOCH: usize = FIRST_EPOCH + 4;
const MAX_TIMESTAMP: usize = LAST_EPOCH + 4;
const MODIFIED: usize = MAX_TIMESTAMP + 8;
const PIECE: usize = MODIFIED + 8;
const COUNT: usize = PIECE + 4;
/// Bytes before the checksums.
const HEADER: usize = COUNT + 4;

/// What is known of a complete segment.
///
/// ```
/// use highwater_base::WallMs;
/// use highwater_engine::seal::{SealBuilder, SealState};
/// let mut builder = SealBuilder::new();
/// builder.bytes(b"segment");
/// let seal = builder.finish(WallMs::new(9));
/// assert_eq!(seal.state(WallMs::new(9)), SealState::Binding);
/// assert_eq!(seal.state(WallMs::new(10)), SealState::Void);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seal {
    /// Length of the segment, and of its file.
    pub length: ByteLen,
    /// The base offset of its first batch, or none if it is empty.
    pub first_offset: Offset,
    /// The last offset of its last batch, or none if it is empty.
    pub last_offset: Offset,
    /// The smallest leader epoch in it.
    pub first_epoch: LeaderEpoch,
    /// The largest leader epoch in it.
    pub last_epoch: LeaderEpoch,
    /// The largest timestamp in it.
    pub max_timestamp: WallMs,
    /// When its file was last modified.
    pub modified: WallMs,
    /// CRC-32 of every 64 KiB.
    pieces: Vec<u32>,
}

/// What a seal says about the file that is there now.
///
/// ```
/// assert_ne!(highwater_engine::seal::SealState::Binding, highwater_engine::seal::SealState::Void);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SealState {
    /// Same modification time: every byte must be as it was. A difference, also of length, is rot.
    Binding,
    /// Somebody else has written the file: batches are judged by their own CRC, and it is sealed anew.
    Void,
}

impl Seal {
    /// Whether the seal binds a file with this modification time. Its size does not matter: a file of another size
    /// and the same time has lost bytes.
    pub fn state(&self, modified: WallMs) -> SealState {
        if modified == self.modified { SealState::Binding } else { SealState::Void }
    }

    /// The checksums, one for every [`SEAL_PIECE`] bytes.
    pub fn pieces(&self) -> &[u32] {
        &self.pieces
    }

    /// Whether piece number `i` of the segment has its checksum. False beyond the last.
    pub fn piece_matches(&self, i: usize, bytes: &[u8]) -> bool {
        self.pieces.get(i) == Some(&crc32fast::hash(bytes))
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.pieces.len() * 4 + 4);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        out.extend_from_slice(&self.length.get().to_be_bytes());
        out.extend_from_slice(&self.first_offset.get().to_be_bytes());
        out.extend_from_slice(&self.last_offset.get().to_be_bytes());
        out.extend_from_slice(&self.first_epoch.get().to_be_bytes());
        out.extend_from_slice(&self.last_epoch.get().to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.get().to_be_bytes());
        out.extend_from_slice(&self.modified.get().to_be_bytes());
        out.extend_from_slice(&(SEAL_PIECE as u32).to_be_bytes());
        out.extend_from_slice(&(self.pieces.len() as u32).to_be_bytes());
        for piece in &self.pieces {
            out.extend_from_slice(&piece.to_be_bytes());
        }
        let own = crc32fast::hash(&out);
        out.extend_from_slice(&own.to_be_bytes());
        out
    }

    /// From the file's bytes, all of which must be as they were written.
    pub fn decode(bytes: &[u8]) -> Result<Seal, SealError> {
        let found = bytes.len();
        if found < HEADER + 4 {
            return Err(SealError::Length { found, expected: HEADER + 4 });
        }
        if bytes[..VERSION] != MAGIC {
            return Err(SealError::Magic);
        }
        let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let i64_at = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if u32_at(VERSION) != FORMAT_VERSION {
            return Err(SealError::Version { found: u32_at(VERSION) });
        }
        let (stored, computed) = (u32_at(found - 4), crc32fast::hash(&bytes[..found - 4]));
        if stored != computed {
            return Err(SealError::Checksum { expected: stored, found: computed });
        }
        let (length, count) = (i64_at(LENGTH) as u64, u32_at(COUNT) as usize);
        if u32_at(PIECE) as usize != SEAL_PIECE || length.div_ceil(SEAL_PIECE as u64) != count as u64 {
            return Err(SealError::Count { length, found: count });
        }
        let expected = HEADER + count * 4 + 4;
        if found != expected {
            return Err(SealError::Length { found, expected });
        }
        Ok(Seal {
            length: ByteLen::new(length),
            first_offset: Offset::new(i64_at(FIRST_OFFSET)),
            last_offset: Offset::new(i64_at(LAST_OFFSET)),
            first_epoch: LeaderEpoch::new(u32_at(FIRST_EPOCH) as i32),
            last_epoch: LeaderEpoch::new(u32_at(LAST_EPOCH) as i32),
            max_timestamp: WallMs::new(i64_at(MAX_TIMESTAMP)),
            modified: WallMs::new(i64_at(MODIFIED)),
            pieces: (0..count).map(|i| u32_at(HEADER + i * 4)).collect(),
        })
    }
}

/// Why a seal cannot be believed. It is then as if there were none.
///
/// ```
/// use highwater_engine::seal::{Seal, SealError};
/// assert_eq!(Seal::decode(&[0; 100]), Err(SealError::Magic));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SealError {
    /// Another length than its count of checksums needs.
    Length {
        /// How many bytes there are.
        found: usize,
        /// How many there must be (at least, if the header is cut).
        expected: usize,
    },
    /// It does not begin as a seal does.
    Magic,
    /// Of a later version.
    Version {
        /// The version; 1 was expected.
        found: u32,
    },
    /// Its own checksum differs.
    Checksum {
        /// As stored.
        expected: u32,
        /// As the bytes have it.
        found: u32,
    },
    /// Count of checksums and length of the segment disagree.
    Count {
        /// The segment's length.
        length: u64,
        /// The count.
        found: usize,
    },
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SealError::Length { found, expected } => write!(f, "{found} bytes, expected {expected}"),
            SealError::Magic => f.write_str("does not begin as a seal does"),
            SealError::Version { found } => write!(f, "version {found}, expected {FORMAT_VERSION}"),
            SealError::Checksum { expected, found } => {
                write!(f, "says CRC-32 {expected:08x} of itself, its bytes have {found:08x}")
            }
            SealError::Count { length, found } => {
                write!(
                    f,
                    "{found} checksums for a segment of {length} bytes, one for every {SEAL_PIECE} expected"
                )
            }
        }
    }
}

impl std::error::Error for SealError {}

/// Makes a seal from a segment's bytes as they are staged, without reading them back.
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
    pieces: Vec<u32>,
    /// The piece that is not full yet.
    piece: crc32fast::Hasher,
    /// Bytes in it, fewer than [`SEAL_PIECE`].
    filled: usize,
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
            pieces: Vec::new(),
            piece: crc32fast::Hasher::new(),
            filled: 0,
        }
    }

    /// The next bytes of the segment, of any number.
    pub fn bytes(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(SEAL_PIECE - self.filled));
            self.piece.update(piece);
            self.filled += piece.len();
            bytes = rest;
            if self.filled == SEAL_PIECE {
                self.pieces.push(std::mem::take(&mut self.piece).finalize());
                self.filled = 0;
            }
        }
    }

    /// A batch of the segment.
    pub fn batch(&mut self, first: Offset, last: Offset, epoch: LeaderEpoch, max_timestamp: WallMs) {
        if !self.first_offset.is_some() {
            (self.first_offset, self.first_epoch) = (first, epoch);
        }
        self.last_offset = last;
        self.first_epoch = self.first_epoch.min(epoch);
        self.last_epoch = self.last_epoch.max(epoch);
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }

    /// Bytes so far.
    pub const fn length(&self) -> ByteLen {
        ByteLen::new(self.length)
    }

    /// The seal of these bytes; `modified` is the file's modification time after its last write.
    pub fn finish(&self, modified: WallMs) -> Seal {
        let mut pieces = self.pieces.clone();
        if self.filled > 0 {
            pieces.push(self.piece.clone().finalize());
        }
        Seal {
            length: ByteLen::new(self.length),
            first_offset: self.first_offset,
            last_offset: self.last_offset,
            first_epoch: self.first_epoch,
            last_epoch: self.last_epoch,
            max_timestamp: self.max_timestamp,
            modified,
            pieces,
        }
    }
}

/// Compares a segment with its seal, fed in pieces of any size.
///
/// ```
/// use highwater_base::WallMs;
/// use highwater_engine::seal::{SealBuilder, SealCheck};
/// let mut builder = SealBuilder::new();
/// builder.bytes(&[1; 100_000]);
/// let seal = builder.finish(WallMs::new(0));
/// let mut check = SealCheck::new(&seal);
/// check.bytes(&[1; 70_000]);
/// check.bytes(&[2; 30_000]);
/// assert_eq!(check.finish(), [65_536..100_000]); // the second piece is not what it was
/// ```
#[derive(Clone, Debug)]
pub struct SealCheck<'a> {
    seal: &'a Seal,
    found: SealBuilder,
}

impl<'a> SealCheck<'a> {
    /// Nothing compared yet.
    pub fn new(seal: &'a Seal) -> SealCheck<'a> {
        SealCheck { seal, found: SealBuilder::new() }
    }

    /// The next bytes of the file.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.found.bytes(bytes);
    }

    /// The ranges of the file that differ from what was sealed, ascending; neighbours are one range. Bytes that are
    /// missing, or more than there were, differ.
    pub fn finish(self) -> Vec<std::ops::Range<u64>> {
        let found = self.found.finish(self.seal.modified);
        let length = found.length.get().max(self.seal.length.get());
        let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
        for i in 0..length.div_ceil(SEAL_PIECE as u64) {
            let (found, sealed) = (found.pieces.get(i as usize), self.seal.pieces.get(i as usize));
            if found == sealed {
                continue;
            }
            let (start, end) = (i * SEAL_PIECE as u64, ((i + 1) * SEAL_PIECE as u64).min(length));
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(bytes: &[u8]) -> Seal {
        let mut builder = SealBuilder::new();
        builder.bytes(bytes);
        builder.batch(Offset::new(10), Offset::new(19), LeaderEpoch::new(3), WallMs::new(7));
        builder.batch(Offset::new(20), Offset::new(29), LeaderEpoch::new(4), WallMs::new(6));
        builder.finish(WallMs::new(1_700_000_000_000))
    }

    #[test]
    fn version_1_has_these_bytes() {
        let hex: String = sample(b"segment").encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "48575345414c0d0a00000001\
             0000000000000007\
             000000000000000a000000000000001d\
             0000000300000004\
             0000000000000007\
             0000018bcfe56800\
             0001000000000001\
             1881f565\
             771bdcc8"
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_seal_is_noticed() {
        let bytes = sample(&[5; 200_000]).encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Seal::decode(&damaged).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(Seal::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_count_that_lies_is_refused_before_it_is_believed() {
        let mut bytes = sample(b"segment").encode();
        bytes[COUNT..HEADER].copy_from_slice(&u32::MAX.to_be_bytes());
        let end = bytes.len() - 4;
        let own = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&own.to_be_bytes());
        assert_eq!(Seal::decode(&bytes), Err(SealError::Count { length: 7, found: u32::MAX as usize }));
    }

    #[test]
    fn pieces_do_not_depend_on_how_the_bytes_came() {
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i >> 3) as u8).collect();
        let whole = sample(&bytes);
        let mut builder = SealBuilder::new();
        for part in bytes.chunks(7777) {
            builder.bytes(part);
        }
        assert_eq!(builder.finish(WallMs::new(0)).pieces(), whole.pieces());
        for (i, piece) in bytes.chunks(SEAL_PIECE).enumerate() {
            assert!(whole.piece_matches(i, piece));
        }
    }

    #[test]
    fn a_shorter_and_a_longer_file_differ_at_their_ends() {
        let bytes = vec![9; 3 * SEAL_PIECE];
        let seal = sample(&bytes);
        let compare = |bytes: &[u8]| {
            let mut check = SealCheck::new(&seal);
            check.bytes(bytes);
            check.finish()
        };
        let piece = SEAL_PIECE as u64;
        assert_eq!(compare(&bytes), []);
        assert!(compare(&bytes[..SEAL_PIECE + 1]).iter().eq([&(piece..3 * piece)]));
        assert!(compare(&[&bytes[..], b"more"].concat()).iter().eq([&(3 * piece..3 * piece + 4)]));
    }
}

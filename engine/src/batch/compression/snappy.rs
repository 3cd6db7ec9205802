//! Snappy, as snappy-java ("xerial") frames it, or as one raw block.

use super::{Bad, UNCHECKED, make_room};

/// Eight bytes of magic, a version and the least version that can read it.
pub(super) const XERIAL_HEADER: usize = 16;
pub(super) const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];

/// A copy element of three bytes gives at most 64: no block unpacks to more than this times its size.
const MOST_EXPANSION: usize = 22;

pub(super) struct Snappy<'a> {
    blocks: Blocks<'a>,
    unpacked: Vec<u8>,
    given: usize,
    limit: u64,
}

enum Blocks<'a> {
    Xerial(&'a [u8]),
    Raw(&'a [u8]),
    BadVersion(i32),
    End,
}

impl<'a> Snappy<'a> {
    pub(super) fn new(bytes: &'a [u8], limit: u64) -> Snappy<'a> {
        let blocks = match bytes.split_at_checked(XERIAL_HEADER) {
            Some((header, rest)) if header.starts_with(&XERIAL_MAGIC) => {
                match i32::from_be_bytes([header[8], header[9], header[10], header[11]]) {
                    1.. => Blocks::Xerial(rest),
                    version => Blocks::BadVersion(version),
                }
            }
            _ => Blocks::Raw(bytes),
        };
        Snappy { blocks, unpacked: Vec::new(), given: 0, limit }
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, Bad> {
        while self.given == self.unpacked.len() {
            let Some(block) = self.next_block()? else { return Ok(0) };
            self.unpack(block)?;
        }
        let n = out.len().min(self.unpacked.len() - self.given);
        out[..n].copy_from_slice(&self.unpacked[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }

    fn next_block(&mut self) -> Result<Option<&'a [u8]>, String> {
        match self.blocks {
            Blocks::End => Ok(None),
            Blocks::BadVersion(version) => Err(format!("xerial version {version}, expected 1 or more")),
            Blocks::Raw(bytes) => {
                self.blocks = Blocks::End;
                Ok(Some(bytes))
            }
            Blocks::Xerial([]) => Ok(None),
            Blocks::Xerial(bytes) => {
                let (size, rest) = bytes.split_first_chunk::<4>().ok_or("ends inside a block's size")?;
                let size = i32::from_be_bytes(*size);
                let (block, rest) =
                    usize::try_from(size)
                        .ok()
                        .and_then(|size| rest.split_at_checked(size))
                        .ok_or_else(|| format!("a block of {size} bytes, {} are left", rest.len()))?;
                self.blocks = Blocks::Xerial(rest);
                Ok(Some(block))
            }
        }
    }

    fn unpack(&mut self, block: &[u8]) -> Result<(), Bad> {
        let len = snap::raw::decompress_len(block).map_err(|e| e.to_string())?;
        if len > block.len() * MOST_EXPANSION {
            return Err(format!("a block of {} bytes claims to unpack to {len}", block.len()).into());
        }
        if len > UNCHECKED.max(2 * block.len()) {
            if unpacked_len(block) != Some(len) {
                return Err(format!("a block does not unpack to {len} bytes, as it claims").into());
            }
            if len as u64 > self.limit {
                return Err(Bad::Limit);
            }
        }
        self.given = 0;
        make_room(&mut self.unpacked, len);
        let found =
            snap::raw::Decoder::new().decompress(block, &mut self.unpacked).map_err(|e| e.to_string())?;
        self.unpacked.truncate(found);
        Ok(())
    }
}

/// How many bytes a block unpacks to: walked through, without writing any. None if it cannot be unpacked.
fn unpacked_len(block: &[u8]) -> Option<usize> {
    let mut at = block.iter().position(|byte| *byte < 0x80)? + 1;
    let mut len = 0usize;
    let number = |at: usize, width: usize| {
        let bytes = block.get(at..at + width)?;
        Some(bytes.iter().rev().fold(0usize, |number, byte| number << 8 | usize::from(*byte)))
    };
    while at < block.len() {
        let tag = block[at];
        let upper = usize::from(tag >> 2);
        at += 1;
        if tag & 3 == 0 {
            let width = upper.saturating_sub(59);
            let literals = if width == 0 { upper } else { number(at, width)? } + 1;
            at += width + literals;
            len += literals;
            continue;
        }
        let (width, copied) = match tag & 3 {
            1 => (1, 4 + (upper & 7)),
            2 => (2, upper + 1),
            _ => (4, upper + 1),
        };
        let high = if width == 1 { usize::from(tag >> 5) << 8 } else { 0 };
        let offset = high | number(at, width)?;
        if offset == 0 || offset > len {
            return None;
        }
        at += width;
        len += copied;
    }
    (at == block.len()).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrupt(bad: Bad) -> String {
        match bad {
            Bad::Corrupt(what) => what,
            Bad::Limit => "the limit".into(),
        }
    }

    fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut snappy = Snappy::new(bytes, 1 << 20);
        let mut out = vec![0; 1000];
        let mut len = 0;
        loop {
            match snappy.read(&mut out[len..]).map_err(corrupt)? {
                0 => return Ok(out[..len].to_vec()),
                n => len += n,
            }
        }
    }

    #[test]
    fn a_walk_finds_the_length_that_unpacking_finds() {
        let mut prng = highwater_base::Prng::new(4);
        let (mut right, mut none) = (0, 0);
        for number in 0..3000usize {
            let mut plain = vec![0; prng.below(90_000) as usize >> (number % 9)];
            prng.fill(&mut plain);
            plain.iter_mut().for_each(|byte| *byte %= 1 << (number % 8));
            let mut block = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
            assert_eq!(unpacked_len(&block), Some(plain.len()));
            let at = prng.below(block.len() as u64) as usize;
            block[at] = prng.next_u64() as u8;
            let claimed = snap::raw::decompress_len(&block).unwrap_or(usize::MAX);
            match (unpacked_len(&block), snap::raw::Decoder::new().decompress_vec(&block)) {
                (Some(len), Ok(found)) => {
                    assert_eq!((len, len), (found.len(), claimed));
                    right += 1;
                }
                (Some(len), Err(_)) => assert_ne!(len, claimed),
                (None, Err(_)) => none += 1,
                (None, Ok(found)) => panic!("{} bytes come out", found.len()),
            }
        }
        assert!(right > 500 && none > 100, "{right} right, {none} none");
    }

    #[test]
    fn one_raw_block_is_read() {
        let raw = snap::raw::Encoder::new().compress_vec(b"raw block of a plug-in").unwrap();
        assert_eq!(unpack(&raw).unwrap(), b"raw block of a plug-in");
    }

    #[test]
    fn sizes_that_are_not_there_are_refused() {
        let mut bytes = XERIAL_MAGIC.to_vec();
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        for size in [-1i32, i32::MIN, i32::MAX, 5] {
            let mut bytes = bytes.clone();
            bytes.extend(size.to_be_bytes());
            bytes.extend([1, 0]);
            assert!(unpack(&bytes).is_err(), "{size}");
        }
        // A block that claims 2^32 - 1 bytes.
        let mut claim = bytes.clone();
        claim.extend([0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
        assert!(unpack(&claim).unwrap_err().contains("claims"));
        bytes[11] = 0;
        assert!(unpack(&bytes).unwrap_err().contains("version 0"));
    }
}

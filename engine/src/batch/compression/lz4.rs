//! LZ4 frames by the rules of Kafka's reader, which are narrower than the format's.

use twox_hash::XxHash32;

use super::{Bad, UNCHECKED, make_room};

pub(super) const FRAME_MAGIC: u32 = 0x184d_2204;
/// Version 1, independent blocks, nothing else: what Kafka writes.
pub(super) const FLG: u8 = 0x60;
/// Blocks of 64 KiB: what Kafka writes.
pub(super) const BD: u8 = 0x40;
/// Set in a block's size: the block is stored as it is.
pub(super) const STORED: u32 = 0x8000_0000;

const FLG_BLOCK_CHECKSUM: u8 = 0x10;
const FLG_CONTENT_SIZE: u8 = 0x08;
const FLG_CONTENT_CHECKSUM: u8 = 0x04;
/// The dictionary bit too: Kafka takes it for a reserved one.
const FLG_RESERVED: u8 = 0x03;
const BD_RESERVED: u8 = 0x8f;

/// No LZ4 block unpacks to more than this times its size (a length byte of 255 stands for 255 bytes).
const MOST_EXPANSION: usize = 255;

pub(super) struct Lz4<'a> {
    rest: &'a [u8],
    state: State,
    unpacked: Vec<u8>,
    given: usize,
    limit: u64,
}

#[derive(Clone, Copy)]
enum State {
    Header { check: bool },
    Blocks { most: usize, checksums: bool },
    End,
}

impl<'a> Lz4<'a> {
    pub(super) fn new(bytes: &'a [u8], check_header: bool, limit: u64) -> Lz4<'a> {
        let state = State::Header { check: check_header };
        Lz4 { rest: bytes, state, unpacked: Vec::new(), given: 0, limit }
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, Bad> {
        while self.given == self.unpacked.len() {
            match self.state {
                State::Header { check } => self.state = self.header(check)?,
                State::Blocks { most, checksums } => self.block(most, checksums)?,
                State::End => return Ok(0),
            }
        }
        let n = out.len().min(self.unpacked.len() - self.given);
        out[..n].copy_from_slice(&self.unpacked[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }

    fn header(&mut self, check: bool) -> Result<State, String> {
        let magic = self.word("the frame's magic")?;
        if magic != FRAME_MAGIC {
            return Err(format!("frame magic {magic:08x}, expected {FRAME_MAGIC:08x}"));
        }
        let descriptor = self.rest;
        let [flg, bd] = *self.take(2, "the frame descriptor")? else { unreachable!("two bytes were taken") };
        if flg >> 6 != 1 {
            return Err(format!("frame version {}, expected 1", flg >> 6));
        }
        if flg & 0x20 == 0 {
            return Err("blocks depend on each other, which Kafka's frames never do".into());
        }
        if flg & FLG_RESERVED != 0 || bd & BD_RESERVED != 0 {
            return Err(format!("reserved bits are set (FLG {flg:02x}, BD {bd:02x})"));
        }
        let size_code = bd >> 4;
        if size_code < 4 {
            return Err(format!("block size code {size_code}, expected 4 to 7"));
        }
        let mut len = 2;
        if flg & FLG_CONTENT_SIZE != 0 {
            self.take(8, "the content size")?;
            len += 8;
        }
        let found = self.take(1, "the header checksum")?[0];
        let expected = (XxHash32::oneshot(0, &descriptor[..len]) >> 8) as u8;
        if check && found != expected {
            return Err(format!("header checksum {found:02x}, expected {expected:02x}"));
        }
        // The trailing content checksum is not verified: Kafka's reader does not, and the batch has a CRC.
        let _ = flg & FLG_CONTENT_CHECKSUM;
        Ok(State::Blocks { most: 1 << (2 * size_code + 8), checksums: flg & FLG_BLOCK_CHECKSUM != 0 })
    }

    fn block(&mut self, most: usize, checksums: bool) -> Result<(), Bad> {
        let word = self.word("a block's size")?;
        if word == 0 {
            self.state = State::End;
            return Ok(());
        }
        let size = (word & !STORED) as usize;
        if size > most {
            return Err(format!("a block of {size} bytes, the frame allows {most}").into());
        }
        let block = self.take(size, "a block")?;
        if checksums {
            let found = self.word("a block's checksum")?;
            let expected = XxHash32::oneshot(0, block);
            if found != expected {
                return Err(format!("block checksum {found:08x}, expected {expected:08x}").into());
            }
        }
        self.given = 0;
        self.unpacked.clear();
        if word & STORED != 0 {
            self.unpacked.extend_from_slice(block);
            return Ok(());
        }
        let mut room = most.min(size * MOST_EXPANSION + 64);
        if room > UNCHECKED.max(2 * size) {
            room = unpacked_len(block).ok_or_else(|| "a block that cannot be unpacked".to_owned())?;
            if room > most {
                return Err(format!("a block unpacks to {room} bytes, the frame allows {most}").into());
            }
            if room as u64 > self.limit {
                return Err(Bad::Limit);
            }
        }
        make_room(&mut self.unpacked, room);
        let n = lz4_flex::block::decompress_into(block, &mut self.unpacked).map_err(|e| e.to_string())?;
        self.unpacked.truncate(n);
        Ok(())
    }

    fn word(&mut self, what: &str) -> Result<u32, String> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")))
    }

    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or_else(|| format!("ends inside {what}"))?;
        self.rest = rest;
        Ok(taken)
    }
}

/// How many bytes a block unpacks to: walked through, without writing any. None if it cannot be unpacked.
fn unpacked_len(block: &[u8]) -> Option<usize> {
    let length = |at: &mut usize, nibble: u8| {
        let mut length = usize::from(nibble);
        let mut more = nibble == 15;
        while more {
            let byte = *block.get(*at)?;
            *at += 1;
            length += usize::from(byte);
            more = byte == 255;
        }
        Some(length)
    };
    let (mut at, mut len) = (0, 0);
    loop {
        let token = *block.get(at)?;
        at += 1;
        let literals = length(&mut at, token >> 4)?;
        at += literals;
        len += literals;
        if at >= block.len() {
            return (at == block.len()).then_some(len);
        }
        let offset = u16::from_le_bytes(*block.get(at..)?.first_chunk()?);
        at += 2;
        if offset == 0 || usize::from(offset) > len {
            return None;
        }
        len += length(&mut at, token & 15)? + 4;
    }
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

    fn unpack(bytes: &[u8], check: bool) -> Result<Vec<u8>, String> {
        let mut lz4 = Lz4::new(bytes, check, 1 << 20);
        let mut out = vec![0; 1000];
        let mut len = 0;
        loop {
            match lz4.read(&mut out[len..]).map_err(corrupt)? {
                0 => return Ok(out[..len].to_vec()),
                n => len += n,
            }
        }
    }

    /// A frame with one stored block, and what its descriptor says.
    fn frame(flg: u8, bd: u8, extra: &[u8], block: &[u8], block_checksum: bool) -> Vec<u8> {
        let mut bytes = FRAME_MAGIC.to_le_bytes().to_vec();
        bytes.extend([flg, bd]);
        bytes.extend(extra);
        bytes.push((XxHash32::oneshot(0, &bytes[4..]) >> 8) as u8);
        bytes.extend((block.len() as u32 | STORED).to_le_bytes());
        bytes.extend(block);
        if block_checksum {
            bytes.extend(XxHash32::oneshot(0, block).to_le_bytes());
        }
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn frames_of_other_writers_are_read() {
        assert_eq!(unpack(&frame(0x60, 0x70, &[], b"4 MiB blocks", false), true).unwrap(), b"4 MiB blocks");
        assert_eq!(unpack(&frame(0x70, 0x40, &[], b"checked", true), true).unwrap(), b"checked");
        // A content size that lies is skipped, like every content size.
        assert_eq!(unpack(&frame(0x68, 0x40, &[0xff; 8], b"sized", false), true).unwrap(), b"sized");
    }

    #[test]
    fn what_kafka_s_reader_refuses_is_refused() {
        for (flg, bd) in [(0x20, 0x40), (0x40, 0x40), (0x61, 0x40), (0x62, 0x40), (0x60, 0x30), (0x60, 0x41)]
        {
            assert!(unpack(&frame(flg, bd, &[], b"x", false), true).is_err(), "{flg:02x} {bd:02x}");
        }
        let mut wrong = frame(0x60, 0x40, &[], b"x", false);
        wrong[6] ^= 1;
        assert!(unpack(&wrong, true).unwrap_err().contains("header checksum"));
        assert_eq!(unpack(&wrong, false).unwrap(), b"x");
        let mut wrong = frame(0x70, 0x40, &[], b"x", true);
        let at = wrong.len() - 5;
        wrong[at] ^= 1;
        assert!(unpack(&wrong, true).unwrap_err().contains("block checksum"));
    }

    #[test]
    fn a_walk_finds_the_length_that_unpacking_finds() {
        let mut prng = highwater_base::Prng::new(4);
        let (mut right, mut none) = (0, 0);
        for number in 0..3000usize {
            let mut plain = vec![0; prng.below(3000) as usize];
            prng.fill(&mut plain);
            plain.iter_mut().for_each(|byte| *byte %= 1 << (number % 8));
            let mut block = lz4_flex::block::compress(&plain);
            assert_eq!(unpacked_len(&block), Some(plain.len()));
            if let Some(byte) = block.len().checked_sub(1).map(|last| prng.below(last as u64 + 1) as usize) {
                block[byte] = prng.next_u64() as u8;
            }
            let mut out = vec![0; block.len() * MOST_EXPANSION + 64];
            // The walk may refuse what a decoder takes, as the offset 0, and never the other way round.
            match (unpacked_len(&block), lz4_flex::block::decompress_into(&block, &mut out)) {
                (Some(len), Ok(found)) => {
                    assert_eq!(len, found);
                    right += 1;
                }
                (Some(len), Err(error)) => panic!("{len} bytes, {error}"),
                (None, _) => none += 1,
            }
        }
        assert!(right > 500 && none > 100, "{right} right, {none} none");
    }

    #[test]
    fn a_block_above_the_declared_size_is_refused() {
        let mut bytes = frame(0x60, 0x40, &[], b"x", false);
        bytes[7..11].copy_from_slice(&(65_537u32 | STORED).to_le_bytes());
        assert!(unpack(&bytes, true).unwrap_err().contains("65537"));
    }
}

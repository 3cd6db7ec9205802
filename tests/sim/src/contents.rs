//! The bytes of a file: sparse, shared between snapshots, copied where they change.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_base::BLOCK;

const BLOCK_LEN: usize = BLOCK as usize;

/// A block that has space on the device.
#[derive(Clone)]
enum Block {
    /// Reserved: reads as zeros, and the first write into it changes metadata.
    Reserved,
    /// Written with zeros only.
    Zero,
    /// Written. Shared with every snapshot that has not changed it since.
    Data(Arc<[u8; BLOCK_LEN]>),
}

/// A length, and the blocks that exist. Bytes in no block, and all bytes behind the length, are zero.
#[derive(Clone, Default)]
pub(crate) struct Contents {
    len: u64,
    blocks: BTreeMap<u64, Block>,
}

impl Contents {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// How many bytes of the device the blocks take.
    pub(crate) fn used(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK
    }

    /// How many of the blocks that `at..at + len` touches have no space yet.
    pub(crate) fn missing_blocks(&self, at: u64, len: u64) -> u64 {
        if len == 0 {
            return 0;
        }
        let (first, end) = (at / BLOCK, (at + len).div_ceil(BLOCK));
        (end - first) - self.blocks.range(first..end).count() as u64
    }

    /// Copies what lies at `at`, also behind the length (zeros there).
    pub(crate) fn copy_at(&self, at: u64, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let pos = at + done as u64;
            let within = (pos % BLOCK) as usize;
            let n = (BLOCK_LEN - within).min(out.len() - done);
            let target = &mut out[done..done + n];
            match self.blocks.get(&(pos / BLOCK)) {
                Some(Block::Data(bytes)) => target.copy_from_slice(&bytes[within..within + n]),
                Some(Block::Zero | Block::Reserved) | None => target.fill(0),
            }
            done += n;
        }
    }

    /// Reads as a file is read: nothing at the end. Says how much it was.
    pub(crate) fn read(&self, at: u64, out: &mut [u8]) -> usize {
        let n = (self.len.saturating_sub(at)).min(out.len() as u64) as usize;
        self.copy_at(at, &mut out[..n]);
        n
    }

    /// Puts bytes in place without a change of the length.
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let pos = at + done as u64;
            let within = (pos % BLOCK) as usize;
            let n = (BLOCK_LEN - within).min(bytes.len() - done);
            let block = self.blocks.entry(pos / BLOCK).or_insert(Block::Zero);
            if let Block::Zero | Block::Reserved = block {
                *block = Block::Data(Arc::new([0; BLOCK_LEN]));
            }
            let Block::Data(data) = block else { unreachable!("made above") };
            Arc::make_mut(data)[within..within + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
    }

    /// Gives the blocks of a range space without a change of their bytes.
    pub(crate) fn allocate(&mut self, at: u64, len: u64) {
        if len > 0 {
            for block in at / BLOCK..(at + len).div_ceil(BLOCK) {
                self.blocks.entry(block).or_insert(Block::Reserved);
            }
        }
    }

    /// Whether every block of a range was written, within the length.
    pub(crate) fn is_settled(&self, at: u64, len: u64) -> bool {
        let written = |block| matches!(self.blocks.get(&block), Some(Block::Zero | Block::Data(_)));
        at + len <= self.len && (at / BLOCK..(at + len).div_ceil(BLOCK)).all(written)
    }

    /// Makes the bytes of a range zero.
    pub(crate) fn zero(&mut self, at: u64, len: u64) {
        self.allocate(at, len);
        let mut pos = at;
        while pos < at + len {
            let within = (pos % BLOCK) as usize;
            let n = (BLOCK - pos % BLOCK).min(at + len - pos);
            let block = self.blocks.entry(pos / BLOCK).or_insert(Block::Zero);
            if n == BLOCK || matches!(block, Block::Reserved) {
                *block = Block::Zero;
            } else if let Block::Data(data) = block {
                Arc::make_mut(data)[within..within + n as usize].fill(0);
            }
            pos += n;
        }
    }

    /// Makes the file at least `len` long.
    pub(crate) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Sets the length; bytes behind it are gone for good.
    pub(crate) fn set_len(&mut self, len: u64) {
        if len < self.len || !self.blocks.is_empty() {
            self.blocks.split_off(&len.div_ceil(BLOCK));
            if let Some(Block::Data(data)) = self.blocks.get_mut(&(len / BLOCK)) {
                let within = (len % BLOCK) as usize;
                if data[within..].iter().any(|byte| *byte != 0) {
                    Arc::make_mut(data)[within..].fill(0);
                }
            }
        }
        self.len = len;
    }

    /// Everything up to the length.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; usize::try_from(self.len).expect("a simulated file larger than memory")];
        self.copy_at(0, &mut all);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_a_cut_are_zero_when_the_file_grows_again() {
        let mut c = Contents::default();
        c.put(4000, &[7; 200]);
        c.extend(4200);
        c.set_len(4090);
        c.set_len(4200);
        let all = c.to_vec();
        assert_eq!(all[4089], 7);
        assert!(all[4090..].iter().all(|b| *b == 0));
    }

    #[test]
    fn a_snapshot_does_not_see_later_changes() {
        let mut c = Contents::default();
        c.put(0, b"old");
        c.extend(3);
        let snapshot = c.clone();
        c.put(0, b"new");
        assert_eq!(snapshot.to_vec(), b"old");
        assert_eq!(c.to_vec(), b"new");
    }

    #[test]
    fn space_is_counted_in_blocks() {
        let mut c = Contents::default();
        assert_eq!(c.missing_blocks(100, 8192), 3);
        c.allocate(0, 4096);
        assert_eq!(c.missing_blocks(100, 8192), 2);
        assert_eq!(c.used(), 4096);
        c.zero(0, 10_000);
        assert_eq!(c.used(), 3 * 4096);
        c.set_len(1);
        assert_eq!(c.used(), 4096);
    }
}

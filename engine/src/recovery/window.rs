//! A file read forward in large aligned pieces while a log is opened.

use highwater_base::{BLOCK, FilePos};
use highwater_io::{FileId, IoError, Op, Outcome, Park, blocking};

/// A moving view of a file.
pub(crate) struct Window {
    file: FileId,
    len: u64,
    /// Where `bytes` begins, a block.
    at: u64,
    bytes: Vec<u8>,
    piece: usize,
    /// Bytes read from the file so far.
    pub(crate) read: u64,
}

impl Window {
    /// Over a file of `len` bytes.
    pub(crate) fn new(file: FileId, len: u64, piece: usize) -> Window {
        Window { file, len, at: 0, bytes: Vec::new(), piece, read: 0 }
    }

    /// `len` bytes from `at`, fewer at the end of the file.
    pub(crate) fn bytes(&mut self, io: &mut dyn Park, at: u64, len: usize) -> Result<&[u8], IoError> {
        let len = len.min(self.len.saturating_sub(at) as usize);
        if at < self.at || at > self.at + self.bytes.len() as u64 {
            self.bytes.clear();
            self.at = at / BLOCK * BLOCK;
        }
        while self.at + (self.bytes.len() as u64) < at + len as u64 {
            // What lies before is not needed again.
            let keep = ((at - self.at) / BLOCK * BLOCK).min(self.bytes.len() as u64);
            if keep > 0 && keep as usize >= self.piece.min(self.bytes.len()) {
                self.bytes.drain(..keep as usize);
                self.at += keep;
            }
            let next = self.at + self.bytes.len() as u64;
            let wanted = (self.len - next).min(self.piece as u64).next_multiple_of(BLOCK) as usize;
            let buffer = io.buffer(wanted);
            let op = Op::Read { file: self.file, at: FilePos::new(next), buffer };
            let Outcome::Read { buffer } = blocking::run(io, op)? else {
                unreachable!("a read answers with its buffer")
            };
            let got = buffer.len().min((self.len - next) as usize);
            self.read += got as u64;
            self.bytes.extend_from_slice(&buffer.filled()[..got]);
            let whole = got.is_multiple_of(BLOCK as usize) || next + got as u64 == self.len;
            if got == 0 {
                // The file is shorter than it was.
                self.len = next;
                break;
            }
            if !whole {
                // A short read: go on from a block.
                let keep = self.bytes.len() / BLOCK as usize * BLOCK as usize;
                self.bytes.truncate(keep);
            }
        }
        let start = (at - self.at) as usize;
        let end = (start + len).min(self.bytes.len());
        Ok(&self.bytes[start.min(end)..end])
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_io::{MemoryIo, OpenHow, Slice};

    #[test]
    fn every_range_of_a_file_comes_out_whatever_the_piece() {
        let mut io = MemoryIo::new();
        let bytes: Vec<u8> = (0..20_001u32).map(|i| (i % 251) as u8).collect();
        let open = Op::Open { path: "/f".into(), how: OpenHow::CreateNew, direct: false };
        let Outcome::Opened { file, .. } = blocking::run(&mut io, open).unwrap() else { panic!() };
        let data = Slice::from(bytes.clone());
        blocking::run(&mut io, Op::Write { file, at: FilePos::ZERO, data, durable: false }).unwrap();
        for piece in [4096, 8192, 1 << 20] {
            let mut window = Window::new(file, bytes.len() as u64, piece);
            for (at, len) in [(0, 17), (10, 9000), (9000, 1), (15_000, 9999), (3, 5), (20_001, 4)] {
                let end = (at + len).min(bytes.len());
                assert_eq!(window.bytes(&mut io, at as u64, len).unwrap(), &bytes[at..end]);
            }
        }
    }
}

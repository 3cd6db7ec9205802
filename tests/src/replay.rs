//! Records of a disk's writes and flushes (dm-log-writes), and what a power cut at a place in one leaves.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use highwater_base::Prng;

/// What a write is made of.
pub const SECTOR: usize = 512;

/// One entry of a record.
///
/// ```
/// use highwater_tests::replay::Recorded;
/// let flush = Recorded { sector: 0, data: 1024..1024, is_flush: true, is_forced: false, end: 1024 };
/// assert!(flush.data.is_empty());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Where it writes.
    pub sector: u64,
    /// Which bytes of the record; none for a mere flush.
    pub data: std::ops::Range<usize>,
    /// Whether everything before it is durable.
    pub is_flush: bool,
    /// Whether it is durable itself.
    pub is_forced: bool,
    /// Where it ends in the record.
    pub end: usize,
}

/// A record of everything that a disk was told.
///
/// ```
/// assert!(highwater_tests::replay::Record::parse(vec![0; 512]).is_err());
/// ```
pub struct Record {
    bytes: Vec<u8>,
    entries: Vec<Recorded>,
}

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FORCED: u64 = 2;
const DISCARD: u64 = 4;

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().expect("eight bytes")))
}

impl Record {
    /// Reads a record; a last entry that is not whole is not there.
    pub fn read(path: &Path) -> io::Result<Record> {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        Record::parse(bytes)
    }

    /// Takes a record apart.
    pub fn parse(bytes: Vec<u8>) -> io::Result<Record> {
        if number(&bytes, 0) != Some(MAGIC) {
            return Err(io::Error::other("not a record of writes: its magic is missing"));
        }
        let (mut entries, mut at) = (Vec::new(), SECTOR);
        while let (Some(sector), Some(sectors), Some(flags)) =
            (number(&bytes, at), number(&bytes, at + 8), number(&bytes, at + 16))
        {
            let data = at + SECTOR;
            let len = if flags & DISCARD == 0 { sectors as usize * SECTOR } else { 0 };
            let end = data + len;
            if end > bytes.len() || (sectors == 0 && flags & FLUSH == 0) {
                break;
            }
            let (is_flush, is_forced) = (flags & FLUSH != 0, flags & FORCED != 0);
            entries.push(Recorded { sector, data: data..end, is_flush, is_forced, end });
            at = end;
        }
        Ok(Record { bytes, entries })
    }

    /// Its entries.
    pub fn entries(&self) -> &[Recorded] {
        &self.entries
    }

    /// What a power cut after the first `count` entries leaves of the disk `base`, in a new file `image`: all writes up
    /// to the last flush, and of the later ones a random subset of their sectors.
    pub fn cut(&self, count: usize, base: &Path, image: &Path, prng: &mut Prng) -> io::Result<()> {
        fs::copy(base, image)?;
        let disk = File::options().write(true).open(image)?;
        let before = &self.entries[..count];
        let flushed = before.iter().rposition(|entry| entry.is_flush).map_or(0, |last| last + 1);
        for entry in &before[..flushed] {
            disk.write_all_at(&self.bytes[entry.data.clone()], entry.sector * SECTOR as u64)?;
        }
        for entry in &before[flushed..] {
            for (sector, data) in (entry.sector..).zip(self.bytes[entry.data.clone()].chunks(SECTOR)) {
                if entry.is_forced || prng.one_in(2) {
                    disk.write_all_at(data, sector * SECTOR as u64)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sector: u64, flags: u64, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; SECTOR];
        for (at, value) in [(0, sector), (8, (data.len() / SECTOR) as u64), (16, flags)] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        [&bytes[..], data].concat()
    }

    #[test]
    fn what_was_flushed_stays_and_the_rest_is_drawn_by_sector() {
        let head = [&MAGIC.to_le_bytes()[..], &[0; SECTOR - 8]].concat();
        let parts = [
            head,
            entry(1, 0, &[1; SECTOR]),
            entry(0, FLUSH, &[]),
            entry(3, FORCED, &[3; SECTOR]),
            entry(4, 0, &[4; 20 * SECTOR]),
            entry(9, 0, &[9; SECTOR])[..700].to_vec(),
        ];
        let record = Record::parse(parts.concat()).unwrap();
        assert_eq!(record.entries().len(), 4, "the last one is not whole");
        let dir = crate::loop_disk::Scratch::new(&std::env::temp_dir(), "replay").unwrap();
        let (base, image) = (dir.path().join("base"), dir.path().join("image"));
        fs::write(&base, [7; 24 * SECTOR]).unwrap();
        record.cut(4, &base, &image, &mut Prng::new(1)).unwrap();
        let image = fs::read(&image).unwrap();
        let sectors: Vec<u8> = image.chunks(SECTOR).map(|sector| sector[0]).collect();
        assert_eq!(sectors[..4], [7, 1, 7, 3]);
        assert!(sectors[4..].contains(&4) && sectors[4..].contains(&7), "{sectors:?}");
        assert!(image.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
    }
}

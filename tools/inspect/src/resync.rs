//! The next valid batch behind damage.

use highwater_base::Offset;
use highwater_engine::batch::{Batch, HEADER_BYTES, Header};

use crate::source::Source;

/// How many bytes may be checksummed while searching, so that bytes made to look like many headers cannot
/// make the search endless.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: u64,
}

impl Budget {
    pub(crate) const fn new(file_len: u64) -> Budget {
        Budget { bytes: file_len.saturating_mul(8).saturating_add(64 << 20) }
    }

    fn spend(&mut self, bytes: usize) -> bool {
        match self.bytes.checked_sub(bytes as u64) {
            Some(left) => {
                self.bytes = left;
                true
            }
            None => false,
        }
    }
}

const PIECE: usize = 1 << 20;
/// Where the magic lies in a batch.
const MAGIC: u64 = 16;

/// The first position at `from` or behind where a magic 2 batch begins that is whole, has its checksum, and whose
/// offsets are `least` or above. Legacy batches are not searched for: their headers say too little.
pub(crate) fn next_batch(
    source: &mut Source<'_>,
    from: u64,
    least: Offset,
    budget: &mut Budget,
) -> Option<u64> {
    let mut at = from;
    while at + (HEADER_BYTES as u64) <= source.len() {
        let piece = source.at(at + MAGIC, PIECE);
        let Some(found) = piece.iter().position(|&byte| byte == 2) else {
            at += piece.len() as u64;
            continue;
        };
        at += found as u64;
        if let Some(size) = plausible_size(source, at, least) {
            if !budget.spend(size) {
                return None;
            }
            let bytes = source.at(at, size);
            if matches!(Batch::at(bytes, 0), Ok(Some(batch)) if batch.crc_matches()) {
                return Some(at);
            }
        }
        at += 1;
    }
    None
}

/// The size of the batch whose header may lie here.
fn plausible_size(source: &mut Source<'_>, at: u64, least: Offset) -> Option<usize> {
    let left = source.len() - at;
    let header = Header::decode(source.at(at, HEADER_BYTES))?;
    let attributes = header.attributes();
    let size = header.size().filter(|size| *size as u64 <= left)?;
    let plausible = attributes.codec().is_some()
        && attributes.bits() & !0x7f == 0
        && header.last_offset_delta() >= 0
        && header.record_count() >= 0
        && header.base_offset() >= least
        && header.base_offset().since(least) < 1 << 31;
    plausible.then_some(size)
}

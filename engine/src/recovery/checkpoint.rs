//! `highwater.checkpoint`: the proven synced end of a log, in two slots written in turn.
//!
//! Each slot is a block of its own with a checksum, so a crash while one is written leaves the other.

use highwater_base::{BLOCK, FilePos, LeaderEpoch, Offset, WallMs};

/// What is proven: everything before `position` of the segment with this base, and all of the segments before
/// it, was synced, and so were index entries, epochs and the producer snapshot up to there.
///
/// ```
/// use highwater_base::{FilePos, Offset, WallMs};
/// use highwater_engine::Checkpoint;
/// let checkpoint = Checkpoint { offset: Offset::new(9), ..Checkpoint::default() };
/// assert_eq!(Checkpoint::decode(&checkpoint.encode()), Some(checkpoint));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Counts checkpoints; the larger of two valid slots holds.
    pub sequence: u64,
    /// The segment's base offset.
    pub segment: Offset,
    /// The proven end in its file.
    pub position: FilePos,
    /// The offset of the batch that begins there, or will.
    pub offset: Offset,
    /// The log start offset.
    pub log_start: Offset,
    /// The end of the producer snapshot that goes with it; [`Offset::NONE`]: no producer was known.
    pub snapshot: Offset,
    /// Bytes behind the synced end that can have been in flight at once; 0: no limit was kept. A valid batch
    /// further than that behind bad bytes proves that the bad ones had been synced.
    pub reach: u64,
    /// The segment's largest timestamp up to `position`.
    pub max_timestamp: WallMs,
    /// The last offset of the batch that has it.
    pub max_timestamp_offset: Offset,
    /// The largest timestamp of the segment's first batch.
    pub first_timestamp: WallMs,
    /// The latest leader epoch.
    pub epoch: LeaderEpoch,
    /// Of files that have no checksum of their own; `None` in checkpoints of version 1.
    pub sums: Option<SideSums>,
}

/// CRC-32 of what a checkpoint counts on and Kafka's formats have no checksum of.
///
/// ```
/// use highwater_engine::recovery::SideSums;
/// let sums = SideSums { txn_index: 0, txn_index_bytes: 0, epochs: 7 };
/// assert_eq!(sums, sums.clone());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SideSums {
    /// Of the first [`SideSums::txn_index_bytes`] of the segment's transaction index.
    pub txn_index: u32,
    /// Bytes of it that were there, 0 if there was none. More may follow by now.
    pub txn_index_bytes: u32,
    /// Of the leader epochs that began between the log start and the checkpoint's offset: each epoch (4 bytes) and its start
    /// (8), big-endian, the first one's not below the log start.
    pub epochs: u32,
}

impl Default for Checkpoint {
    fn default() -> Checkpoint {
        Checkpoint {
            sequence: 0,
            segment: Offset::ZERO,
            position: FilePos::ZERO,
            offset: Offset::ZERO,
            log_start: Offset::ZERO,
            snapshot: Offset::NONE,
            reach: 0,
            max_timestamp: WallMs::NONE,
            max_timestamp_offset: Offset::NONE,
            first_timestamp: WallMs::NONE,
            epoch: LeaderEpoch::NONE,
            sums: None,
        }
    }
}

// Every field's end is the next one's start.
const MAGIC: usize = 0;
const VERSION: usize = MAGIC + 8;
const SEQUENCE: usize = VERSION + 4;
const SEGMENT: usize = SEQUENCE + 8;
const POSITION: usize = SEGMENT + 8;
const OFFSET: usize = POSITION + 8;
const LOG_START: usize = OFFSET + 8;
const SNAPSHOT: usize = LOG_START + 8;
const REACH: usize = SNAPSHOT + 8;
const MAX_TIMESTAMP: usize = REACH + 8;
const MAX_TIMESTAMP_OFFSET: usize = MAX_TIMESTAMP + 8;
const FIRST_TIMESTAMP: usize = MAX_TIMESTAMP_OFFSET + 8;
const EPOCH: usize = FIRST_TIMESTAMP + 8;
const SUMS: usize = EPOCH + 4;
const TXN_INDEX: usize = SUMS + 4;
const TXN_INDEX_BYTES: usize = TXN_INDEX + 4;
const EPOCHS: usize = TXN_INDEX_BYTES + 4;
const CRC: usize = EPOCHS + 4;
const END: usize = CRC + 4;
/// Where version 1, which has no sums, ends with its CRC.
const CRC_1: usize = SUMS;

/// Bytes of a slot that say something.
pub(crate) const CHECKPOINT_BYTES: usize = END;

/// Bytes of one slot.
pub const SLOT_BYTES: usize = BLOCK as usize;

const MAGIC_BYTES: &[u8; 8] = b"HWCHECKP";
const FORMAT: u32 = 2;
const FORMAT_1: u32 = 1;

impl Checkpoint {
    /// A slot's bytes. A sector holds all that matters, so a tear leaves the old slot or none.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SLOT_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(MAGIC, MAGIC_BYTES);
        put(VERSION, &FORMAT.to_be_bytes());
        put(SEQUENCE, &self.sequence.to_be_bytes());
        put(SEGMENT, &self.segment.get().to_be_bytes());
        put(POSITION, &self.position.get().to_be_bytes());
        put(OFFSET, &self.offset.get().to_be_bytes());
        put(LOG_START, &self.log_start.get().to_be_bytes());
        put(SNAPSHOT, &self.snapshot.get().to_be_bytes());
        put(REACH, &self.reach.to_be_bytes());
        put(MAX_TIMESTAMP, &self.max_timestamp.get().to_be_bytes());
        put(MAX_TIMESTAMP_OFFSET, &self.max_timestamp_offset.get().to_be_bytes());
        put(FIRST_TIMESTAMP, &self.first_timestamp.get().to_be_bytes());
        put(EPOCH, &self.epoch.get().to_be_bytes());
        if let Some(sums) = self.sums {
            put(SUMS, &1u32.to_be_bytes());
            put(TXN_INDEX, &sums.txn_index.to_be_bytes());
            put(TXN_INDEX_BYTES, &sums.txn_index_bytes.to_be_bytes());
            put(EPOCHS, &sums.epochs.to_be_bytes());
        }
        let crc = crc32fast::hash(&out[..CRC]);
        out[CRC..END].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// From a slot's bytes; none if they are not a whole one. Versions 1 and 2 are read.
    pub fn decode(slot: &[u8]) -> Option<Checkpoint> {
        let slot = slot.get(..END)?;
        let word = |at: usize| u64::from_be_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
        let half = |at: usize| u32::from_be_bytes(slot[at..at + 4].try_into().expect("four bytes"));
        let crc = match half(VERSION) {
            FORMAT => CRC,
            FORMAT_1 => CRC_1,
            _ => return None,
        };
        if slot[MAGIC..VERSION] != *MAGIC_BYTES || half(crc) != crc32fast::hash(&slot[..crc]) {
            return None;
        }
        let offset = |at: usize| Offset::new(word(at) as i64);
        let time = |at: usize| WallMs::new(word(at) as i64);
        Some(Checkpoint {
            sequence: word(SEQUENCE),
            segment: offset(SEGMENT),
            position: FilePos::new(word(POSITION)),
            offset: offset(OFFSET),
            log_start: offset(LOG_START),
            snapshot: offset(SNAPSHOT),
            reach: word(REACH),
            max_timestamp: time(MAX_TIMESTAMP),
            max_timestamp_offset: offset(MAX_TIMESTAMP_OFFSET),
            first_timestamp: time(FIRST_TIMESTAMP),
            epoch: LeaderEpoch::new(half(EPOCH) as i32),
            sums: (crc == CRC && half(SUMS) == 1).then(|| SideSums {
                txn_index: half(TXN_INDEX),
                txn_index_bytes: half(TXN_INDEX_BYTES),
                epochs: half(EPOCHS),
            }),
        })
    }

    /// The checkpoint that holds, of a file's bytes: the newer of its valid slots.
    pub fn newest(file: &[u8]) -> Option<Checkpoint> {
        file.chunks(SLOT_BYTES).take(2).filter_map(Checkpoint::decode).max_by_key(|slot| slot.sequence)
    }

    /// Where its slot lies in the file.
    pub(crate) fn slot(&self) -> FilePos {
        FilePos::new(self.sequence % 2 * SLOT_BYTES as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_slot_is_noticed() {
        let sums = Some(SideSums { txn_index: 1, txn_index_bytes: 34, epochs: 2 });
        let slot =
            Checkpoint { sequence: 7, offset: Offset::new(99), sums, ..Checkpoint::default() }.encode();
        assert_eq!(Checkpoint::decode(&slot).and_then(|read| read.sums), sums);
        for bit in 0..END * 8 {
            let mut flipped = slot.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Checkpoint::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn version_1_is_read_and_has_no_sums() {
        let sums = Some(SideSums { txn_index: 1, txn_index_bytes: 34, epochs: 2 });
        let new = Checkpoint { sequence: 7, offset: Offset::new(99), sums, ..Checkpoint::default() };
        let mut slot = new.encode();
        slot[VERSION..SEQUENCE].copy_from_slice(&FORMAT_1.to_be_bytes());
        slot[CRC_1..].fill(0);
        let crc = crc32fast::hash(&slot[..CRC_1]);
        slot[CRC_1..CRC_1 + 4].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(Checkpoint::decode(&slot), Some(Checkpoint { sums: None, ..new }));
    }

    #[test]
    fn a_torn_slot_leaves_the_other() {
        let older = Checkpoint { sequence: 4, ..Checkpoint::default() };
        let newer = Checkpoint { sequence: 5, offset: Offset::new(3), ..older };
        let mut file = vec![0; 2 * SLOT_BYTES];
        for checkpoint in [older, newer] {
            let at = checkpoint.slot().get() as usize;
            file[at..at + SLOT_BYTES].copy_from_slice(&checkpoint.encode());
        }
        assert_eq!(Checkpoint::newest(&file), Some(newer));
        file[SLOT_BYTES + 20] ^= 1;
        assert_eq!(Checkpoint::newest(&file), Some(older));
        assert_eq!(Checkpoint::newest(&[]), None);
    }
}

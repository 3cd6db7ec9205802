//! Kafka's producer snapshot, version 1: a header of 10 bytes, then 46 for each producer.

use std::fmt;

use highwater_base::{Offset, ProducerEpoch, ProducerId, WallMs};

use crate::batch::crc32c;

const VERSION: usize = 0;
const CRC: usize = VERSION + 2;
const COUNT: usize = CRC + 4;
/// Bytes before the first entry.
pub const SNAPSHOT_HEADER_BYTES: usize = COUNT + 4;

const PRODUCER_ID: usize = 0;
const EPOCH: usize = PRODUCER_ID + 8;
const LAST_SEQUENCE: usize = EPOCH + 2;
const LAST_OFFSET: usize = LAST_SEQUENCE + 4;
const OFFSET_DELTA: usize = LAST_OFFSET + 8;
const TIMESTAMP: usize = OFFSET_DELTA + 4;
const COORDINATOR_EPOCH: usize = TIMESTAMP + 8;
const OPEN_TRANSACTION: usize = COORDINATOR_EPOCH + 4;
/// Bytes of one entry.
pub const SNAPSHOT_ENTRY_BYTES: usize = OPEN_TRANSACTION + 8;

const _: () = assert!(SNAPSHOT_HEADER_BYTES == 10 && SNAPSHOT_ENTRY_BYTES == 46);

const SNAPSHOT_VERSION: i16 = 1;

/// One producer in a snapshot, with the last batch of those that were remembered.
///
/// ```
/// use highwater_engine::producers::{Producers, Snapshot};
/// assert_eq!(Snapshot::new(&Producers::new(1).snapshot()).entries().count(), 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotEntry {
    /// Who.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Its last sequence, or -1.
    pub last_sequence: i32,
    /// Its last data offset, or none.
    pub last_offset: Offset,
    /// Last offset of its last batch minus the first.
    pub offset_delta: i32,
    /// The timestamp of its last batch or marker.
    pub timestamp: WallMs,
    /// The epoch of its last marker's coordinator, or -1.
    pub coordinator_epoch: i32,
    /// Where its open transaction began, or none.
    pub open_transaction: Offset,
}

/// Why a snapshot cannot be believed.
///
/// ```
/// use highwater_engine::producers::{Snapshot, SnapshotError};
/// assert_eq!(Snapshot::new(&[0, 2]).check(), Err(SnapshotError::Short { found: 2, expected: 10 }));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotError {
    /// Fewer bytes than its header, or than its count of entries needs.
    Short {
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// More bytes than its count of entries needs.
    Long {
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// Another version.
    Version {
        /// The version; 1 was expected.
        found: i16,
    },
    /// A negative count.
    Count {
        /// The count.
        found: i32,
    },
    /// The checksum differs.
    Checksum {
        /// As stored.
        expected: u32,
        /// As the bytes have it.
        found: u32,
    },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Short { found, expected } | SnapshotError::Long { found, expected } => {
                write!(f, "{found} bytes, expected {expected}")
            }
            SnapshotError::Version { found } => write!(f, "version {found}, expected {SNAPSHOT_VERSION}"),
            SnapshotError::Count { found } => write!(f, "a count of {found} entries"),
            SnapshotError::Checksum { expected, found } => {
                write!(f, "says CRC-32C {expected:08x}, its bytes have {found:08x}")
            }
        }
    }
}

impl std::error::Error for SnapshotError {}

/// The bytes of a snapshot file.
///
/// ```
/// use highwater_engine::producers::{Producers, Snapshot};
/// let bytes = Producers::new(1).snapshot();
/// assert_eq!(bytes, [0, 1, 0x48, 0x67, 0x4b, 0xc7, 0, 0, 0, 0]);
/// assert_eq!(Snapshot::new(&bytes).check(), Ok(()));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    bytes: &'a [u8],
}

impl<'a> Snapshot<'a> {
    /// These bytes, unchecked.
    pub const fn new(bytes: &'a [u8]) -> Snapshot<'a> {
        Snapshot { bytes }
    }

    /// The version, if there are bytes for it.
    pub fn version(self) -> Option<i16> {
        self.bytes.first_chunk().map(|b| i16::from_be_bytes(*b))
    }

    /// The checksum as stored, if there are bytes for it.
    pub fn crc(self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes.get(CRC..COUNT)?.try_into().ok()?))
    }

    /// Whether all of it can be believed.
    pub fn check(self) -> Result<(), SnapshotError> {
        let found = self.bytes.len();
        let Some(header) = self.bytes.first_chunk::<SNAPSHOT_HEADER_BYTES>() else {
            return Err(SnapshotError::Short { found, expected: SNAPSHOT_HEADER_BYTES });
        };
        let version = i16::from_be_bytes([header[VERSION], header[VERSION + 1]]);
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version { found: version });
        }
        let (stored, computed) = (self.crc().unwrap_or_default(), crc32c(&self.bytes[COUNT..]));
        if stored != computed {
            return Err(SnapshotError::Checksum { expected: stored, found: computed });
        }
        let count = self.count();
        let entries = usize::try_from(count).map_err(|_| SnapshotError::Count { found: count })?;
        let expected = SNAPSHOT_HEADER_BYTES + entries * SNAPSHOT_ENTRY_BYTES;
        match found {
            _ if found < expected => Err(SnapshotError::Short { found, expected }),
            _ if found > expected => Err(SnapshotError::Long { found, expected }),
            _ => Ok(()),
        }
    }

    /// The entries that are there, in file order, believed or not; never more than the header counts.
    pub fn entries(self) -> impl Iterator<Item = SnapshotEntry> + 'a {
        let count = usize::try_from(self.count()).unwrap_or(0);
        let bytes = self.bytes.get(SNAPSHOT_HEADER_BYTES..).unwrap_or_default();
        bytes.chunks_exact(SNAPSHOT_ENTRY_BYTES).take(count).map(decode_entry)
    }

    fn count(self) -> i32 {
        self.bytes
            .get(COUNT..SNAPSHOT_HEADER_BYTES)
            .and_then(|b| b.try_into().ok())
            .map_or(0, i32::from_be_bytes)
    }
}

fn decode_entry(entry: &[u8]) -> SnapshotEntry {
    let i32_at = |at: usize| i32::from_be_bytes(entry[at..at + 4].try_into().expect("four bytes"));
    let i64_at = |at: usize| i64::from_be_bytes(entry[at..at + 8].try_into().expect("eight bytes"));
    SnapshotEntry {
        producer_id: ProducerId::new(i64_at(PRODUCER_ID)),
        epoch: ProducerEpoch::new(i16::from_be_bytes([entry[EPOCH], entry[EPOCH + 1]])),
        last_sequence: i32_at(LAST_SEQUENCE),
        last_offset: Offset::new(i64_at(LAST_OFFSET)),
        offset_delta: i32_at(OFFSET_DELTA),
        timestamp: WallMs::new(i64_at(TIMESTAMP)),
        coordinator_epoch: i32_at(COORDINATOR_EPOCH),
        open_transaction: Offset::new(i64_at(OPEN_TRANSACTION)),
    }
}

/// The file of `count` entries.
pub(super) fn encode(entries: impl Iterator<Item = SnapshotEntry>, count: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(SNAPSHOT_HEADER_BYTES + count * SNAPSHOT_ENTRY_BYTES);
    out.extend_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(count as i32).to_be_bytes());
    for entry in entries {
        out.extend_from_slice(&entry.producer_id.get().to_be_bytes());
        out.extend_from_slice(&entry.epoch.get().to_be_bytes());
        out.extend_from_slice(&entry.last_sequence.to_be_bytes());
        out.extend_from_slice(&entry.last_offset.get().to_be_bytes());
        out.extend_from_slice(&entry.offset_delta.to_be_bytes());
        out.extend_from_slice(&entry.timestamp.get().to_be_bytes());
        out.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
        out.extend_from_slice(&entry.open_transaction.get().to_be_bytes());
    }
    let crc = crc32c(&out[COUNT..]);
    out[CRC..COUNT].copy_from_slice(&crc.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: i64) -> SnapshotEntry {
        SnapshotEntry {
            producer_id: ProducerId::new(id),
            epoch: ProducerEpoch::new(1),
            last_sequence: 2,
            last_offset: Offset::new(3),
            offset_delta: 4,
            timestamp: WallMs::new(5),
            coordinator_epoch: 6,
            open_transaction: Offset::new(7),
        }
    }

    #[test]
    fn entries_survive_the_round_trip() {
        let bytes = encode([entry(1), entry(2)].into_iter(), 2);
        assert_eq!(Snapshot::new(&bytes).check(), Ok(()));
        assert_eq!(Snapshot::new(&bytes).entries().collect::<Vec<_>>(), [entry(1), entry(2)]);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode([entry(1), entry(2)].into_iter(), 2);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Snapshot::new(&damaged).check().is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(Snapshot::new(&bytes[..cut]).check().is_err(), "cut at {cut}");
        }
    }
}

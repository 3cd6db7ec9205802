//! What a manifest says of one log.

use highwater_base::{LeaderEpoch, Offset, Uuid, WallMs};

use crate::index::{AbortedTxn, TXN_ENTRY_BYTES, TxnIndex};
use crate::recovery::{CHECKPOINT_BYTES, Checkpoint};
use crate::segment::Largest;

/// A log as a clean stop left it: what opening it would read, but for its records.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Entry {
    /// The name of its directory.
    pub(crate) name: String,
    /// When a name in its directory changed last.
    pub(crate) modified_ms: i64,
    pub(crate) topic_id: Option<Uuid>,
    /// The checkpoint that holds: it ends where the log does.
    pub(crate) checkpoint: Checkpoint,
    /// Leader epochs and where each began.
    pub(crate) epochs: Vec<(LeaderEpoch, Offset)>,
    /// Snapshots on disk, ascending.
    pub(crate) snapshots: Vec<Offset>,
    /// The producers, as in a snapshot's file.
    pub(crate) producers: Vec<u8>,
    /// In order; at least one. The last is the active one.
    pub(crate) segments: Vec<SegmentEntry>,
    /// The active segment's offset index and time index, as in their files.
    pub(crate) indexes: [Vec<u8>; 2],
}

/// What a manifest says of one segment. Its checksums are in its seal.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SegmentEntry {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    /// Bytes, which is the file's length too.
    pub(crate) size: u64,
    pub(crate) largest: Largest,
    /// The largest timestamp of its first batch, if that is known.
    pub(crate) oldest: Option<WallMs>,
    /// When its file was changed last.
    pub(crate) modified_ms: i64,
    pub(crate) aborted: Vec<AbortedTxn>,
}

/// Stands for a time that is not known.
const UNKNOWN: i64 = i64::MIN;

impl Entry {
    /// Adds its bytes, with their length before them.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; 4]);
        put_bytes(out, self.name.as_bytes());
        put(out, self.modified_ms);
        out.extend(self.topic_id.unwrap_or(Uuid::ZERO).bytes());
        out.extend(&self.checkpoint.encode()[..CHECKPOINT_BYTES]);
        put_count(out, self.epochs.len());
        for (epoch, start) in &self.epochs {
            out.extend(epoch.get().to_be_bytes());
            put(out, start.get());
        }
        put_count(out, self.snapshots.len());
        self.snapshots.iter().for_each(|snapshot| put(out, snapshot.get()));
        put_bytes(out, &self.producers);
        put_count(out, self.segments.len());
        for segment in &self.segments {
            segment.encode(out);
        }
        self.indexes.iter().for_each(|index| put_bytes(out, index));
        let len = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }

    /// From an entry's bytes, without their length; none if they are not exactly one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Entry> {
        let mut left = Bytes(bytes);
        let entry = Entry {
            name: std::str::from_utf8(left.bytes()?).ok()?.to_owned(),
            modified_ms: left.word()?,
            topic_id: left.id()?,
            checkpoint: Checkpoint::decode(left.take(CHECKPOINT_BYTES)?)?,
            epochs: left.many(12, |left| Some((LeaderEpoch::new(left.half()? as i32), left.offset()?)))?,
            snapshots: left.many(8, Bytes::offset)?,
            producers: left.bytes()?.to_vec(),
            segments: left.many(60, SegmentEntry::decode)?,
            indexes: [left.bytes()?.to_vec(), left.bytes()?.to_vec()],
        };
        let sound = left.0.is_empty() && entry.segments.is_sorted_by(|a, b| a.end <= b.base);
        (sound && !entry.segments.is_empty()).then_some(entry)
    }

    /// The name of an entry, from its bytes.
    pub(crate) fn name_of(bytes: &[u8]) -> Option<&str> {
        std::str::from_utf8(Bytes(bytes).bytes()?).ok()
    }
}

impl SegmentEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        for word in [
            self.base.get(),
            self.end.get(),
            self.size as i64,
            self.largest.timestamp.get(),
            self.largest.offset.get(),
            self.oldest.map_or(UNKNOWN, WallMs::get),
            self.modified_ms,
        ] {
            put(out, word);
        }
        put_count(out, self.aborted.len() * TXN_ENTRY_BYTES);
        self.aborted.iter().for_each(|aborted| out.extend(aborted.encode()));
    }

    fn decode(left: &mut Bytes<'_>) -> Option<SegmentEntry> {
        let (base, end, size) = (left.offset()?, left.offset()?, left.word()? as u64);
        let largest = Largest { timestamp: WallMs::new(left.word()?), offset: left.offset()? };
        let oldest = Some(left.word()?).filter(|time| *time != UNKNOWN).map(WallMs::new);
        let modified_ms = left.word()?;
        let index = TxnIndex::new(left.bytes()?);
        index.check(base).ok()?;
        let aborted = index.entries().map(|(_, aborted)| aborted).collect();
        Some(SegmentEntry { base, end, size, largest, oldest, modified_ms, aborted })
    }
}

fn put(out: &mut Vec<u8>, word: i64) {
    out.extend(word.to_be_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend((count as u32).to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend(bytes);
}

/// What is left of an entry's bytes.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(len)?;
        self.0 = left;
        Some(taken)
    }

    fn half(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn word(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn offset(&mut self) -> Option<Offset> {
        self.word().map(Offset::new)
    }

    /// An id, if it is not zero.
    fn id(&mut self) -> Option<Option<Uuid>> {
        let id = Uuid::from_bytes(self.take(16)?.try_into().ok()?);
        Some((id != Uuid::ZERO).then_some(id))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.half()? as usize;
        self.take(len)
    }

    /// As many as a count says, each of `least` bytes at least: no more is allocated than the bytes can hold.
    fn many<T>(&mut self, least: usize, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.half()? as usize;
        if count > self.0.len() / least {
            return None;
        }
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(read(self)?);
        }
        Some(all)
    }
}

//! Records as an embedder writes and reads them: owned, one value each.

use std::collections::BTreeSet;

use highwater_base::{Limits, Offset, WallMs};

use crate::Fetched;
use crate::batch::{Batch, BatchBuilder, BatchError, Batches, RecordStream};

/// A record to be appended. Whatever is not given is null, or the time of the append.
///
/// ```
/// use highwater_engine::{NewRecord, WallMs};
/// let paid = NewRecord::new().key("order-7").value("paid").header("trace", "4bf92f");
/// let late = NewRecord::new().value("a reading").timestamp(WallMs::new(1_700_000_000_000));
/// assert_ne!(paid, late);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewRecord {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp: Option<WallMs>,
}

impl NewRecord {
    /// Null key, null value (a tombstone, to a compacted log), no headers, no timestamp of its own.
    pub fn new() -> NewRecord {
        NewRecord::default()
    }

    /// What the record is about: a compacted log keeps the latest record of each key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> NewRecord {
        self.key = Some(key.into());
        self
    }

    /// What it says.
    #[must_use]
    pub fn value(mut self, value: impl Into<Vec<u8>>) -> NewRecord {
        self.value = Some(value.into());
        self
    }

    /// One more header. Names may repeat.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> NewRecord {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// When it happened. Default: when it is packed.
    #[must_use]
    pub fn timestamp(mut self, at: WallMs) -> NewRecord {
        self.timestamp = Some(at);
        self
    }
}

/// One batch of these records, in this order; `now` for those without a timestamp.
pub(super) fn pack(records: impl IntoIterator<Item = NewRecord>, now: WallMs) -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    for record in records {
        let headers: Vec<(&str, Option<&[u8]>)> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let at = record.timestamp.unwrap_or(now).get();
        batch.push(at, record.key.as_deref(), record.value.as_deref(), &headers);
    }
    batch.build()
}

/// A record as a log holds it.
///
/// ```
/// use highwater_engine::{Engine, EngineConfig, MemoryDisk, NewRecord, Offset};
/// let engine = Engine::open(EngineConfig::at("data").in_memory(MemoryDisk::new()))?;
/// let log = engine.log("orders")?;
/// log.append_records([NewRecord::new().key("7").value("paid").header("by", "card")])?;
/// let record = &log.records(Offset::ZERO, 1 << 20)?[0];
/// assert_eq!((record.offset, record.key(), record.value()), (Offset::ZERO, &b"7"[..], &b"paid"[..]));
/// assert_eq!(record.header("by"), Some(&b"card"[..]));
/// # Ok::<(), highwater_engine::EngineError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StoredRecord {
    /// Its place in the log. Ascending; a compacted log has gaps.
    pub offset: Offset,
    /// When it happened, or was appended under `LogAppendTime`.
    pub timestamp: WallMs,
    /// The key, or null.
    pub key: Option<Vec<u8>>,
    /// The value, or null.
    pub value: Option<Vec<u8>>,
    /// Names (UTF-8 by convention, not checked) and values, in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl StoredRecord {
    /// The key, empty if null.
    pub fn key(&self) -> &[u8] {
        self.key.as_deref().unwrap_or_default()
    }

    /// The value, empty if null.
    pub fn value(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    /// The value of the last header of this name, if there is one and it is not null.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().rev().find(|(found, _)| found == name.as_bytes())?;
        found.1.as_deref()
    }
}

impl Fetched {
    /// The records at or after `from` (a first batch may begin before it), owned. Markers of transactions are left
    /// out, and so are the records of those that [`Fetched::aborted`] names. Fails on a codec that is not compiled in, and on batches that an
    /// embedder appended with [`RecordCheck::Header`](crate::RecordCheck) and that hold something else.
    pub fn records(&self, from: Offset) -> Result<Vec<StoredRecord>, BatchError> {
        let bytes = self.to_vec();
        let mut records = Vec::new();
        let mut ahead = self.aborted.clone();
        ahead.sort_unstable_by_key(|aborted| std::cmp::Reverse(aborted.first));
        let mut aborting = BTreeSet::new();
        for batch in Batches::in_memory(&bytes) {
            let batch = batch.map_err(BatchError::Frame)?;
            // As Kafka's consumers do it: a transaction is aborted from its first record to its marker.
            while let Some(aborted) = ahead.pop_if(|aborted| aborted.first <= batch.last_offset()) {
                aborting.insert(aborted.producer);
            }
            if let Some(header) = batch.header() {
                if header.attributes().is_control() {
                    aborting.remove(&header.producer_id());
                    continue;
                }
                if header.attributes().is_transactional() && aborting.contains(&header.producer_id()) {
                    continue;
                }
            }
            unpack(batch, from, &mut records)?;
        }
        Ok(records)
    }
}

fn unpack(batch: Batch<'_>, from: Offset, records: &mut Vec<StoredRecord>) -> Result<(), BatchError> {
    let Some(header) = batch.header() else { return Err(BatchError::Magic { found: batch.magic() }) };
    let mut stream = RecordStream::new(batch.bytes(), Limits::PRODUCTION.decompressed_bytes)?;
    while let Some(record) = stream.next()? {
        let offset = record.offset(header);
        if offset >= from {
            records.push(StoredRecord {
                offset,
                timestamp: record.timestamp(header),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers
                    .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
                    .collect(),
            });
        }
    }
    Ok(())
}

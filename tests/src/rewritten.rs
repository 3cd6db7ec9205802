//! What compaction may make of records: judged by what was appended.

use std::collections::BTreeMap;

use highwater_engine::batch::{Header, RecordStream};

/// One record.
///
/// ```
/// use highwater_engine::batch::BatchBuilder;
/// use highwater_tests::rewritten::records;
/// let bytes = BatchBuilder::new().record(1, Some(b"k"), Some(b"v")).record(2, Some(b"k"), None).build();
/// let found = records(&bytes)?;
/// assert_eq!(found[&0].value.as_deref(), Some(&b"v"[..]));
/// assert_eq!((found[&1].timestamp, found[&1].value.is_none()), (2, true));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Its timestamp.
    pub timestamp: i64,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; a tombstone has none.
    pub value: Option<Vec<u8>>,
}

/// The records of a batch, by offset.
pub fn records(batch: &[u8]) -> Result<BTreeMap<i64, Kept>, String> {
    let header = Header::decode(batch).ok_or("no header")?;
    let mut stream = RecordStream::new(batch, 1 << 20).map_err(|error| error.to_string())?;
    let mut found = BTreeMap::new();
    while let Some(record) = stream.next().map_err(|error| error.to_string())? {
        let kept = Kept {
            timestamp: record.timestamp(header).get(),
            key: record.key.unwrap_or_default().to_vec(),
            value: record.value.map(<[u8]>::to_vec),
        };
        found.insert(record.offset(header).get(), kept);
    }
    Ok(found)
}

/// The offset of the value that each key has after these records.
///
/// ```
/// use highwater_engine::batch::BatchBuilder;
/// use highwater_tests::rewritten::{records, state};
/// let of = |value: Option<&[u8]>| BatchBuilder::new().record(1, Some(b"k"), Some(b"v")).record(2, Some(b"k"), value).build();
/// let (valued, tombstone) = (records(&of(Some(b"w")))?, records(&of(None))?);
/// assert_eq!(state(&valued)[&b"k"[..]], 1);
/// assert!(state(&tombstone).is_empty());
/// # Ok::<(), String>(())
/// ```
pub fn state(records: &BTreeMap<i64, Kept>) -> BTreeMap<&[u8], i64> {
    let mut state = BTreeMap::new();
    for (offset, record) in records {
        match record.value {
            Some(_) => state.insert(&record.key[..], *offset),
            None => state.remove(&record.key[..]),
        };
    }
    state
}

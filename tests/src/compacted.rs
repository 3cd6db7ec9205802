//! A log that is compacted on the stage of a scenario: passes, and what is read of it.

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::Mutant;
use highwater_engine::batch::{BatchBuilder, Batches, RecordStream};
use highwater_engine::compact::CompactionSettings;
use highwater_engine::{LogEvent, LogSettings};

use crate::scenario::{Judged, Stage, ensure, small};

/// Room for every key.
pub const MEMORY: usize = 1 << 20;

/// Settings with small segments that are compacted whenever somebody asks.
pub fn settings(mutant: Mutant, delete_retention_ms: u64) -> LogSettings {
    let compaction =
        CompactionSettings { min_dirty_ratio: 0.0, delete_retention_ms, ..CompactionSettings::default() };
    LogSettings { compaction: Some(compaction), checkpoint_ms: 10, ..small(mutant) }
}

/// A batch of one record with a key.
pub fn keyed(key: &str, value: Option<&[u8]>, time: i64) -> Vec<u8> {
    BatchBuilder::new().record(time, Some(key.as_bytes()), value).build()
}

/// Rolls the active segment and lets the checkpoint follow, so that everything before may be compacted.
pub fn roll(stage: &mut Stage) {
    let segments = stage.log.segment_count();
    while stage.log.segment_count() < segments + 2 {
        stage.keep(&keyed("fill", Some(&[b'f'; 1500]), stage.time()));
    }
    stage.pass(200);
}

/// A pass of compaction with so much memory, to its end. False if there is nothing to do.
pub fn one_pass(stage: &mut Stage, memory: usize) -> bool {
    let before = stage.events.len();
    let now = stage.now();
    if !stage.log.compact(now, memory, u64::MAX) {
        return false;
    }
    let is_done = |event: &LogEvent| matches!(event, LogEvent::Compacted { .. });
    stage.until(|stage| stage.events[before..].iter().any(is_done));
    stage.pass(200);
    true
}

/// A pass over everything that may be compacted.
pub fn compact(stage: &mut Stage) -> Judged {
    let now = stage.now();
    let upto = stage.log.dirty(now).map(|dirty| dirty.upto).ok_or("no pass can begin")?;
    ensure(one_pass(stage, MEMORY), || "there is nothing to compact".into())?;
    ensure(stage.log.cleaned_to() == upto, || format!("it came to {}, not {upto}", stage.log.cleaned_to()))
}

/// One record, as somebody who reads only what is committed sees it.
///
/// ```
/// use highwater_base::Mutant;
/// use highwater_tests::compacted::{keyed, records, settings};
/// let mut stage = highwater_tests::scenario::Stage::new(settings(Mutant::None, 0));
/// stage.keep(&keyed("key", None, stage.time()));
/// let seen = &records(&mut stage).unwrap()[0];
/// assert_eq!((seen.offset, seen.key.as_deref(), seen.value.is_none()), (0, Some("key"), true));
/// ```
#[derive(Debug)]
pub struct Seen {
    /// Its offset.
    pub offset: i64,
    /// Its key, if it has one.
    pub key: Option<String>,
    /// Its value; a tombstone has none.
    pub value: Option<Vec<u8>>,
}

/// Every record that is committed: control batches and aborted records are passed over, as a consumer does it.
pub fn records(stage: &mut Stage) -> Result<Vec<Seen>, String> {
    let (start, end) = (stage.log.log_start(), stage.log.log_end());
    let mut ahead = stage.log.aborted_in(start, end);
    ahead.sort_by_key(|aborted| std::cmp::Reverse(aborted.first));
    let (mut aborting, mut found) = (BTreeSet::new(), Vec::new());
    for (_, bytes) in stage.batches(start.get())? {
        let batch =
            Batches::in_memory(&bytes).next().ok_or("no batch")?.map_err(|error| error.to_string())?;
        let header = batch.header().ok_or("magic 2")?;
        while let Some(next) = ahead.pop_if(|next| next.first <= header.last_offset()) {
            aborting.insert(next.producer);
        }
        let (id, attributes) = (header.producer_id(), header.attributes());
        if attributes.is_control() {
            aborting.remove(&id);
            continue;
        }
        if attributes.is_transactional() && aborting.contains(&id) {
            continue;
        }
        let mut stream = RecordStream::new(&bytes, 1 << 20).map_err(|error| error.to_string())?;
        while let Some(record) = stream.next().map_err(|error| error.to_string())? {
            found.push(Seen {
                offset: record.offset(header).get(),
                key: record.key.map(|key| String::from_utf8_lossy(key).into_owned()),
                value: record.value.map(<[u8]>::to_vec),
            });
        }
    }
    Ok(found)
}

/// The values of a key, tombstones too.
pub fn values(stage: &mut Stage, key: &str) -> Result<Vec<Option<Vec<u8>>>, String> {
    let of_key = records(stage)?.into_iter().filter(|seen| seen.key.as_deref() == Some(key));
    Ok(of_key.map(|seen| seen.value).collect())
}

/// What each key has in the end.
pub fn latest(stage: &mut Stage) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut state = BTreeMap::new();
    for Seen { key, value, .. } in records(stage)? {
        let key = key.unwrap_or_default();
        match value {
            Some(value) => state.insert(key, value),
            None => state.remove(&key),
        };
    }
    Ok(state)
}

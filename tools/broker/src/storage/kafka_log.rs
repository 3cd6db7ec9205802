//! Reading Apache Kafka's metadata log, `__cluster_metadata-0`: the newest snapshot, then the log from its end on.
//!
//! The log's end may be torn, if Kafka was killed: it is read up to the first batch that is not whole. Damage before the
//! last segment is an error, as is a gap.

use std::path::{Path, PathBuf};

use highwater_base::Offset;
use highwater_control::KafkaMetadata;
use highwater_engine::batch::{Batch, Batches, RecordStream};
use highwater_engine::layout::{CLUSTER_METADATA, FileKind, FileName, FileState};
use highwater_io::Park;

use super::look::entries;
use super::{StorageError, read_file};

/// Kafka's metadata, and where its log ends.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct KafkaLog {
    pub(crate) metadata: KafkaMetadata,
    /// The offset behind the last record.
    pub(crate) end: u64,
}

/// A metadata batch unpacks to no more than this.
const UNPACKED_BYTES: u64 = 1 << 28;

/// The control record that ends a complete snapshot.
const SNAPSHOT_FOOTER: i16 = 4;

impl KafkaLog {
    /// Reads the metadata log of a data directory.
    pub(crate) fn read(io: &mut dyn Park, data_dir: &Path) -> Result<KafkaLog, StorageError> {
        let dir = data_dir.join(CLUSTER_METADATA);
        let names = entries(io, &dir)?;
        let mut files: Vec<FileName> = names
            .iter()
            .filter_map(|entry| FileName::parse(entry.name.to_str()?))
            .filter(|file| file.state == FileState::Live)
            .collect();
        files.sort_by_key(|file| (file.offset, file.epoch));
        let of_kind = |kind| files.iter().copied().filter(move |file| file.kind == kind);
        let logs: Vec<FileName> = of_kind(FileKind::Log).collect();
        let mut why = None;
        for snapshot in of_kind(FileKind::RaftSnapshot).map(Some).rev().chain([None]) {
            match KafkaLog::from(io, &dir, snapshot, &logs) {
                Ok(read) => return Ok(read),
                // An older snapshot will do if the log goes back to it; if none does, the newest one's fault is told.
                Err(StorageError::Unreadable { file, why: fault }) => _ = why.get_or_insert((file, fault)),
                Err(other) => return Err(other),
            }
        }
        let (file, why) = why.expect("a log without any snapshot was tried last");
        Err(StorageError::Unreadable { file, why })
    }

    fn from(
        io: &mut dyn Park,
        dir: &Path,
        snapshot: Option<FileName>,
        logs: &[FileName],
    ) -> Result<KafkaLog, StorageError> {
        let mut metadata = KafkaMetadata::new();
        let mut next = Offset::ZERO;
        if let Some(snapshot) = snapshot {
            let path = dir.join(snapshot.to_string());
            read_snapshot(io, &path, &mut metadata)?;
            next = snapshot.offset;
        }
        let first = logs.partition_point(|log| log.offset <= next).saturating_sub(1);
        for (at, log) in logs.iter().enumerate().skip(first) {
            let path = dir.join(log.to_string());
            if log.offset > next {
                return Err(fault(&path, format!("expected a segment or a snapshot from offset {next} on")));
            }
            let bytes = read_file(io, &path)?.unwrap_or_default();
            let (end, whole) = read_segment(&path, &bytes, (log.offset, next), &mut metadata)?;
            next = end.max(next);
            if !whole && at + 1 < logs.len() {
                return Err(fault(
                    &path,
                    format!("damaged behind offset {next}, and another segment follows"),
                ));
            }
        }
        Ok(KafkaLog { metadata, end: u64::try_from(next.get()).unwrap_or(0) })
    }
}

fn fault(path: &Path, why: String) -> StorageError {
    StorageError::Unreadable { file: PathBuf::from(path), why }
}

fn read_snapshot(io: &mut dyn Park, path: &Path, metadata: &mut KafkaMetadata) -> Result<(), StorageError> {
    let bytes = read_file(io, path)?.unwrap_or_default();
    let mut last_control = None;
    let mut batches = Batches::in_memory(&bytes);
    for batch in batches.by_ref() {
        let batch = batch.map_err(|error| fault(path, error.to_string()))?;
        if !batch.crc_matches() {
            return Err(fault(path, format!("the batch at byte {} is damaged", batch.position())));
        }
        last_control = control_type(batch);
        take(path, batch, Offset::ZERO, metadata)?;
    }
    if last_control != Some(SNAPSHOT_FOOTER) || batches.position() != bytes.len() {
        return Err(fault(path, "expected a snapshot that is complete".to_owned()));
    }
    Ok(())
}

/// The kind of a control batch's record.
fn control_type(batch: Batch<'_>) -> Option<i16> {
    if !batch.attributes().is_control() {
        return None;
    }
    let mut records = RecordStream::new(batch.bytes(), UNPACKED_BYTES).ok()?;
    let key = records.next().ok()??.key?;
    Some(i16::from_be_bytes(key.get(2..4)?.try_into().ok()?))
}

/// Takes a segment's records from `from` on. Gives the offset behind its last whole batch, and whether that ends the file.
fn read_segment(
    path: &Path,
    bytes: &[u8],
    (base, from): (Offset, Offset),
    metadata: &mut KafkaMetadata,
) -> Result<(Offset, bool), StorageError> {
    let mut next = base;
    let mut end = 0;
    for batch in Batches::in_memory(bytes) {
        let Ok(batch) = batch else { break };
        if !batch.crc_matches() {
            break;
        }
        if batch.stored_offset() != next || batch.magic() != 2 {
            return Err(fault(
                path,
                format!("expected offset {next} at byte {end}, found {}", batch.stored_offset()),
            ));
        }
        take(path, batch, from, metadata)?;
        next = batch.last_offset().plus(1);
        end = batch.end();
    }
    // Kafka prepares no space in this log, so bytes behind the last batch are a torn one.
    Ok((next, end == bytes.len()))
}

/// Takes the records of a batch that have at least this offset.
fn take(
    path: &Path,
    batch: Batch<'_>,
    from: Offset,
    metadata: &mut KafkaMetadata,
) -> Result<(), StorageError> {
    let Some(header) = batch.header().filter(|_| !batch.attributes().is_control()) else { return Ok(()) };
    let wrong =
        |offset: Offset, error: &dyn std::fmt::Display| fault(path, format!("offset {offset}: {error}"));
    let mut records = RecordStream::new(batch.bytes(), UNPACKED_BYTES)
        .map_err(|error| wrong(header.base_offset(), &error))?;
    loop {
        let record = records.next().map_err(|error| wrong(header.base_offset(), &error))?;
        let Some(record) = record else { return Ok(()) };
        let offset = record.offset(header);
        if offset >= from {
            let value = record.value.unwrap_or_default();
            metadata.apply(value).map_err(|error| wrong(offset, &error))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_base::LeaderEpoch;
    use highwater_engine::batch::{BatchBuilder, set_base_offset, set_leader_epoch};
    use highwater_io::{MemoryDisk, MemoryIo};

    /// FEATURE_LEVEL_RECORD version 0: the feature `f` has this level.
    fn feature(level: u8) -> Vec<u8> {
        vec![1, 12, 0, 2, b'f', 0, level, 0]
    }

    fn batch(offset: i64, levels: &[u8]) -> Vec<u8> {
        let values: Vec<Vec<u8>> = levels.iter().map(|level| feature(*level)).collect();
        let mut builder = BatchBuilder::new();
        for value in &values {
            builder = builder.record(1, None, Some(value));
        }
        let mut bytes = builder.build();
        set_base_offset(&mut bytes, Offset::new(offset));
        set_leader_epoch(&mut bytes, LeaderEpoch::new(1));
        bytes
    }

    fn read(files: &[(&str, Vec<u8>)]) -> Result<(Option<i16>, u64), String> {
        let disk = MemoryDisk::new();
        for (name, bytes) in files {
            disk.put(format!("/d/{CLUSTER_METADATA}/{name}"), bytes);
        }
        let read =
            KafkaLog::read(&mut MemoryIo::on(disk), Path::new("/d")).map_err(|error| error.to_string())?;
        Ok((read.metadata.features().next().map(|(_, level)| level), read.end))
    }

    const FIRST: &str = "00000000000000000000.log";
    const SECOND: &str = "00000000000000000003.log";

    #[test]
    fn a_torn_end_is_passed_over_and_damage_before_the_last_segment_is_not() {
        let whole = [batch(0, &[1]), batch(1, &[2, 3])].concat();
        assert_eq!(read(&[(FIRST, whole.clone())]), Ok((Some(3), 3)));
        for cut in [whole.len() - 1, whole.len() - 30, whole.len() - 80] {
            assert_eq!(read(&[(FIRST, whole[..cut].to_vec())]), Ok((Some(1), 1)), "{cut}");
        }
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(read(&[(FIRST, flipped.clone())]), Ok((Some(1), 1)));
        assert_eq!(read(&[(FIRST, whole.clone()), (SECOND, batch(3, &[7]))]), Ok((Some(7), 4)));
        let error = read(&[(FIRST, flipped), (SECOND, batch(3, &[7]))]).unwrap_err();
        assert!(error.contains("another segment follows"), "{error}");
        let error = read(&[(FIRST, whole), (SECOND, batch(4, &[7]))]).unwrap_err();
        assert!(error.contains("expected offset 3"), "{error}");
    }

    #[test]
    fn a_log_that_does_not_reach_back_needs_its_snapshot() {
        let error = read(&[(SECOND, batch(3, &[7]))]).unwrap_err();
        assert!(error.contains("from offset 0 on"), "{error}");
        let no_footer = ("00000000000000000003-0000000001.checkpoint", batch(0, &[5]));
        let error = read(&[no_footer, (SECOND, batch(3, &[7]))]).unwrap_err();
        assert!(error.contains("expected a snapshot that is complete"), "{error}");
    }
}

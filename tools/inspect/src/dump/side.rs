//! The small files beside the segments and at the top.

use std::path::Path;

use highwater_control::decode_catalog;
use highwater_engine::Checkpoint;
use highwater_engine::checkpoint_file::{
    MetaProperties, OffsetCheckpoint, TextError, decode_clean_shutdown, decode_partition_metadata, properties,
};
use highwater_engine::epochs::EpochCache;
use highwater_engine::producers::{BatchMeta, Snapshot, SnapshotEntry};
use highwater_engine::seal::Seal;

use super::Dumper;
use crate::InspectError;
use crate::damage::{Damage, line_start, not_utf8};
use crate::json::Line;

impl Dumper<'_> {
    pub(super) fn producer_snapshot(&mut self, path: &Path, shown: &str) -> Result<(), InspectError> {
        let Some(bytes) = self.whole(path)? else { return Ok(()) };
        let snapshot = Snapshot::new(&bytes);
        if self.options.json {
            let mut line = Line::new("producer_snapshot");
            line.string("file", shown)
                .optional("version", snapshot.version())
                .optional("crc", snapshot.crc());
            line.array("entries", snapshot.entries().map(|entry| snapshot_json(&entry))).write(self.out)?;
        } else {
            writeln!(self.out, "producer snapshot {shown}")?;
            for entry in snapshot.entries() {
                writeln!(self.out, "  {}", snapshot_text(&entry))?;
            }
        }
        match snapshot.check() {
            Ok(()) => Ok(()),
            Err(error) => self.damaged(path, Some(0), Damage::Snapshot(error)),
        }
    }

    pub(super) fn seal(&mut self, path: &Path, shown: &str) -> Result<(), InspectError> {
        let Some(bytes) = self.whole(path)? else { return Ok(()) };
        let seal = match Seal::decode(&bytes) {
            Ok(seal) => seal,
            Err(error) => return self.damaged(path, Some(0), Damage::Seal(error)),
        };
        if self.options.json {
            let mut line = Line::new("seal");
            line.string("file", shown).plain("length", seal.length).plain("first_offset", seal.first_offset);
            line.plain("last_offset", seal.last_offset).plain("first_epoch", seal.first_epoch);
            line.plain("last_epoch", seal.last_epoch).plain("max_timestamp", seal.max_timestamp.get());
            line.plain("modified_ms", seal.modified.get()).plain("next", seal.next);
            let pieces = seal.pieces().iter().map(|piece| match piece.first {
                Some(first) => format!("{{\"first\":{first},\"crc\":{}}}", piece.sum),
                None => "null".to_owned(),
            });
            line.array("pieces", pieces).write(self.out)?;
        } else {
            writeln!(
                self.out,
                "seal {shown}: {} bytes, offsets {} to {}, epochs {} to {}, largest time {}, sealed file of {} ms, \
                 next segment at {}, \
                 {} pieces of 64 KiB",
                seal.length,
                seal.first_offset,
                seal.last_offset,
                seal.first_epoch,
                seal.last_epoch,
                seal.max_timestamp.get(),
                seal.modified.get(),
                seal.next,
                seal.pieces().len()
            )?;
        }
        Ok(())
    }

    pub(super) fn checkpoint(&mut self, path: &Path, shown: &str) -> Result<(), InspectError> {
        let Some(bytes) = self.whole(path)? else { return Ok(()) };
        let Some(checkpoint) = Checkpoint::newest(&bytes) else {
            return if bytes.iter().all(|&byte| byte == 0) {
                Ok(())
            } else {
                self.damaged(path, Some(0), Damage::Checkpoint)
            };
        };
        if self.options.json {
            let mut line = Line::new("checkpoint");
            line.string("file", shown).plain("sequence", checkpoint.sequence);
            line.plain("segment", checkpoint.segment).plain("position", checkpoint.position);
            line.plain("offset", checkpoint.offset).plain("log_start_offset", checkpoint.log_start);
            line.plain("epoch", checkpoint.epoch).plain("max_timestamp", checkpoint.max_timestamp.get());
            line.write(self.out)?;
        } else {
            writeln!(
                self.out,
                "checkpoint {shown}: number {}, synced to byte {} of segment {} (offset {}), log start {}, epoch {}",
                checkpoint.sequence,
                checkpoint.position,
                checkpoint.segment,
                checkpoint.offset,
                checkpoint.log_start,
                checkpoint.epoch
            )?;
        }
        Ok(())
    }

    pub(super) fn leader_epochs(&mut self, path: &Path) -> Result<(), InspectError> {
        let Some(text) = self.text(path)? else { return Ok(()) };
        let epochs = match EpochCache::decode(&text) {
            Ok(epochs) => epochs,
            Err(error) => {
                let position = line_start(&text, error.line);
                return self.damaged(path, Some(position), Damage::Epochs(error));
            }
        };
        if self.options.json {
            let entries = epochs.entries().iter().map(|(epoch, start)| format!("[{epoch},{start}]"));
            Line::new("leader_epochs").array("entries", entries).write(self.out)?;
        } else {
            writeln!(self.out, "leader epochs")?;
            for (epoch, start) in epochs.entries() {
                writeln!(self.out, "  epoch {epoch} from offset {start}")?;
            }
        }
        Ok(())
    }

    pub(super) fn partition_metadata(&mut self, path: &Path) -> Result<(), InspectError> {
        let Some(text) = self.text(path)? else { return Ok(()) };
        match decode_partition_metadata(&text) {
            Ok(id) if self.options.json => {
                Line::new("partition_metadata").string("topic_id", &id.to_string()).write(self.out)?;
            }
            Ok(id) => writeln!(self.out, "topic id {id}")?,
            Err(error) => return self.bad_text(path, &text, error),
        }
        Ok(())
    }

    pub(super) fn quorum_state(&mut self, path: &Path, shown: &str) -> Result<(), InspectError> {
        let Some(text) = self.text(path)? else { return Ok(()) };
        if !self.options.json {
            writeln!(self.out, "{shown} {}", text.trim())?;
        }
        Ok(())
    }

    pub(super) fn offset_checkpoint(&mut self, path: &Path, shown: &str) -> Result<(), InspectError> {
        let Some(text) = self.text(path)? else { return Ok(()) };
        let checkpoint = match OffsetCheckpoint::decode(&text) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return self.bad_text(path, &text, error),
        };
        if !self.options.json {
            writeln!(self.out, "{shown}")?;
        }
        for (partition, offset) in &checkpoint.offsets {
            if self.options.json {
                let mut line = Line::new("offset_checkpoint");
                line.string("file", shown).string("topic", &partition.topic);
                line.plain("partition", partition.partition).plain("offset", offset).write(self.out)?;
            } else {
                writeln!(self.out, "  {partition} {offset}")?;
            }
        }
        Ok(())
    }

    pub(super) fn meta_properties(&mut self, path: &Path) -> Result<(), InspectError> {
        let Some(text) = self.text(path)? else { return Ok(()) };
        let mut pairs: Vec<_> = properties(&text).map(|(_, _, key, value)| (key, value)).collect();
        pairs.sort();
        if self.options.json {
            let mut line = Line::new("meta_properties");
            for (key, value) in &pairs {
                line.string(&key.replace('.', "_"), value);
            }
            line.write(self.out)?;
        } else {
            writeln!(self.out, "meta.properties")?;
            for (key, value) in &pairs {
                writeln!(self.out, "  {key} = {value}")?;
            }
        }
        match MetaProperties::decode(&text) {
            Ok(_) => Ok(()),
            Err(error) => self.bad_text(path, &text, error),
        }
    }

    pub(super) fn clean_shutdown(&mut self, path: &Path) -> Result<(), InspectError> {
        let Some(text) = self.text(path)? else { return Ok(()) };
        match decode_clean_shutdown(&text) {
            Ok(epoch) if self.options.json => {
                Line::new("clean_shutdown").plain("broker_epoch", epoch).write(self.out)?;
            }
            Ok(epoch) => writeln!(self.out, "stopped in order, broker epoch {epoch}")?,
            Err(error) => return self.bad_text(path, &text, error),
        }
        Ok(())
    }

    pub(super) fn catalog(&mut self, path: &Path, shown: &str) -> Result<(), InspectError> {
        let Some(bytes) = self.whole(path)? else { return Ok(()) };
        let image = match decode_catalog(&bytes) {
            Ok(image) => image,
            Err(error) => return self.damaged(path, Some(0), Damage::Catalog(error)),
        };
        if self.options.json {
            let topics = image.topics().map(|topic| {
                let mut line = Line::nested();
                line.string("name", &topic.name).string("topic_id", &topic.id.to_string());
                line.plain("partitions", topic.partitions.len()).finish()
            });
            let mut line = Line::new("catalog");
            line.string("file", shown).string("cluster_id", image.cluster_id());
            line.plain("version", image.version()).plain("next_producer_id", image.next_producer_id());
            line.array("topics", topics).write(self.out)?;
        } else {
            writeln!(
                self.out,
                "catalog {shown}: cluster {}, version {}, next producer id {}",
                image.cluster_id(),
                image.version(),
                image.next_producer_id()
            )?;
            for topic in image.topics() {
                writeln!(
                    self.out,
                    "  {} {} with {} partitions",
                    topic.name,
                    topic.id,
                    topic.partitions.len()
                )?;
            }
        }
        Ok(())
    }

    /// A text file; what is no UTF-8 is damage, and is shown as well as it can be.
    fn text(&mut self, path: &Path) -> Result<Option<String>, InspectError> {
        let Some(bytes) = self.whole(path)? else { return Ok(None) };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(error) => {
                let (position, damage) = not_utf8(&error);
                self.damaged(path, Some(position), damage)?;
                Ok(None)
            }
        }
    }

    fn bad_text(&mut self, path: &Path, text: &str, error: TextError) -> Result<(), InspectError> {
        self.damaged(path, Some(line_start(text, error.line)), Damage::Text(error))
    }
}

fn last_batch(entry: &SnapshotEntry) -> Option<BatchMeta> {
    entry.last_offset.is_some().then_some(BatchMeta {
        last_sequence: entry.last_sequence,
        last_offset: entry.last_offset,
        offset_delta: entry.offset_delta,
        timestamp: entry.timestamp,
    })
}

fn snapshot_json(entry: &SnapshotEntry) -> String {
    let mut line = Line::nested();
    line.plain("producer_id", entry.producer_id).plain("producer_epoch", entry.epoch);
    line.plain("coordinator_epoch", entry.coordinator_epoch);
    line.plain("current_txn_first_offset", entry.open_transaction);
    line.plain("last_timestamp", entry.timestamp.get());
    if let Some(batch) = last_batch(entry) {
        line.plain("first_sequence", batch.first_sequence()).plain("last_sequence", batch.last_sequence);
        line.plain("last_offset", batch.last_offset).plain("offset_delta", batch.offset_delta);
    }
    line.finish()
}

fn snapshot_text(entry: &SnapshotEntry) -> String {
    let mut text = format!("producer {} epoch {}", entry.producer_id, entry.epoch);
    if let Some(batch) = last_batch(entry) {
        text += &format!(
            ", sequences {} to {} at offsets {} to {}",
            batch.first_sequence(),
            batch.last_sequence,
            batch.first_offset(),
            batch.last_offset
        );
    }
    if entry.open_transaction.is_some() {
        text += &format!(", transaction open since offset {}", entry.open_transaction);
    }
    format!("{text}, last time {}, coordinator epoch {}", entry.timestamp.get(), entry.coordinator_epoch)
}

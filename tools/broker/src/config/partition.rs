//! A topic's settings as its partitions are told them.

use highwater_control::{DurabilitySetting, Image, TimestampType, effective};
use highwater_engine::batch::Codec;
use highwater_engine::compact::CompactionSettings;
use highwater_engine::{CleanerSettings, Durability, LogSettings, Preallocate};
use highwater_isr::ReplicaSettings;
use highwater_replication::PartitionSettings;

use super::Settings;

/// Bytes that `interval` durability may lose besides what `flush.messages` and `flush.ms` bound.
const INTERVAL_BYTES: u64 = 64 << 20;

impl Settings {
    /// What holds for the partitions of a topic.
    pub(crate) fn of_partitions(&self, image: &Image, topic: &str) -> (LogSettings, PartitionSettings) {
        let topic = effective(image, self.topic_defaults(), Some(topic));
        let log = LogSettings {
            durability: match topic.durability {
                DurabilitySetting::Each => Durability::Each,
                DurabilitySetting::Os => Durability::Os,
                DurabilitySetting::Interval { messages, ms } => Durability::Interval {
                    bytes: INTERVAL_BYTES,
                    messages: messages.unwrap_or(u64::MAX),
                    ms: ms.unwrap_or(u64::MAX),
                },
            },
            segment_bytes: topic.segment_bytes.into(),
            segment_ms: topic.segment_ms,
            index_interval_bytes: topic.index_interval_bytes.into(),
            // Kafka allows as few as 4, and then rolls at every batch; so does this.
            index_bytes: u64::from(topic.segment_index_bytes).max(36),
            retention_ms: topic.retention_ms.filter(|_| topic.delete),
            retention_bytes: topic.retention_bytes.filter(|_| topic.delete),
            compaction: topic.compact.then_some(CompactionSettings {
                min_dirty_ratio: topic.min_cleanable_dirty_ratio,
                min_lag_ms: topic.min_compaction_lag_ms,
                max_lag_ms: topic.max_compaction_lag_ms.unwrap_or(u64::MAX),
                delete_retention_ms: topic.delete_retention_ms,
            }),
            compression: topic.compression.as_deref().map(|name| Codec::named(name).unwrap_or(Codec::None)),
            retention_check_ms: self.number("log.retention.check.interval.ms"),
            file_delete_delay_ms: topic.file_delete_delay_ms,
            max_message_bytes: topic.max_message_bytes as usize,
            timestamps: match topic.timestamp_type {
                TimestampType::CreateTime => highwater_engine::batch::TimestampType::Create,
                TimestampType::LogAppendTime => highwater_engine::batch::TimestampType::LogAppend,
            },
            timestamp_before_max_ms: topic.timestamp_before_max_ms,
            timestamp_after_max_ms: topic.timestamp_after_max_ms,
            min_free_bytes: self.number("highwater.min.free.bytes"),
            scrub_bytes_a_day: self.number("highwater.scrub.bytes.per.day"),
            producer_expiration_ms: self.number("producer.id.expiration.ms"),
            // `os` leaves when to write to the operating system: a record is acknowledged once the page cache has it,
            // without a turn of the device (`docs/decisions/0004` has the latencies).
            direct: topic.durability != DurabilitySetting::Os,
            preallocate: if topic.preallocate { Preallocate::Written } else { Preallocate::Ahead },
            ..LogSettings::default()
        };
        let replica = ReplicaSettings { min_insync: topic.min_insync_replicas, ..ReplicaSettings::default() };
        (log, PartitionSettings { replica, deletable: topic.delete, ..PartitionSettings::default() })
    }

    /// Bytes that one of `shards` shards copies a second for partitions that move; `u64::MAX`: no limit.
    pub(crate) fn move_rate(&self, shards: usize) -> u64 {
        match self.number::<u64>("replica.alter.log.dirs.io.max.bytes.per.second") {
            rate if rate >= i64::MAX as u64 => u64::MAX,
            rate => (rate / shards as u64).max(1),
        }
    }

    /// What compaction may take of one of `shards` shards.
    pub(crate) fn cleaner(&self, shards: usize) -> CleanerSettings {
        let rate: f64 = self.number("log.cleaner.io.max.bytes.per.second");
        let memory: u64 = self.number("log.cleaner.dedupe.buffer.size");
        CleanerSettings {
            enabled: self.flag("log.cleaner.enable"),
            memory_bytes: usize::try_from(memory).unwrap_or(usize::MAX) / shards,
            // Above 2^64 it is no limit: a float that is too large becomes the largest integer.
            bytes_per_second: match rate as u64 {
                u64::MAX => u64::MAX,
                rate => (rate / shards as u64).max(1),
            },
            backoff: std::time::Duration::from_millis(self.number("log.cleaner.backoff.ms")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    #[test]
    fn defaults_are_those_of_the_engine() {
        let (log, partition) = Settings::default().of_partitions(&Image::new("c"), "t");
        // An embedder's log keeps everything; a broker's a week, as Kafka's.
        assert_eq!(log, LogSettings { retention_ms: Some(7 * 24 * 3_600_000), ..LogSettings::default() });
        assert_eq!(partition, PartitionSettings::default());
    }

    #[test]
    fn compaction_is_shared_out_to_the_shards_and_asked_for_by_topics() {
        let settings = Settings::default();
        assert_eq!(settings.cleaner(1), CleanerSettings::default());
        let given = [
            (Source::File, "log.cleanup.policy".into(), "compact".into()),
            (Source::File, "log.cleaner.min.cleanable.ratio".into(), "0.25".into()),
            (Source::File, "log.cleaner.max.compaction.lag.ms".into(), "77".into()),
            (Source::File, "log.cleaner.io.max.bytes.per.second".into(), "1000".into()),
            (Source::File, "log.cleaner.dedupe.buffer.size".into(), "4096".into()),
        ];
        let settings = Settings::from_sources(&given).unwrap();
        let (log, partition) = settings.of_partitions(&Image::new("c"), "t");
        let expected =
            CompactionSettings { min_dirty_ratio: 0.25, max_lag_ms: 77, ..CompactionSettings::default() };
        assert_eq!(log.compaction, Some(expected));
        assert_eq!((log.retention_ms, partition.deletable), (None, false));
        let shared = settings.cleaner(4);
        assert_eq!((shared.memory_bytes, shared.bytes_per_second), (1024, 250));
    }

    #[test]
    fn the_brokers_settings_reach_the_log() {
        let given = [
            (Source::File, "log.retention.hours".into(), "1".into()),
            (Source::File, "log.cleanup.policy".into(), "".into()),
            (Source::File, "durability".into(), "interval".into()),
            (Source::File, "compression.type".into(), "lz4".into()),
            (Source::File, "highwater.min.free.bytes".into(), "4096".into()),
        ];
        let (log, partition) = Settings::from_sources(&given).unwrap().of_partitions(&Image::new("c"), "t");
        assert_eq!((log.retention_ms, log.min_free_bytes, log.compression), (None, 4096, Some(Codec::Lz4)));
        assert!(!partition.deletable);
        assert_eq!(
            log.durability,
            Durability::Interval { bytes: INTERVAL_BYTES, messages: u64::MAX, ms: 1000 }
        );
    }
}

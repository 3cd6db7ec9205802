//! The table of all topic settings: Kafka's, with its names, units and defaults, and ours.

use super::definition::{Bounds, ConfigClass, ConfigKind, Scale, TopicConfigDefinition};

use Bounds::{Any, AtLeast, Between, Fraction, OneOf, Subset, ThrottledReplicas};
use ConfigClass::{InEffect, Refused, WithoutEffect};
use ConfigKind::{Boolean, Double, Int, List, Long, String};
use Scale::{Hours, Minutes, One};

/// All topic settings, sorted by name.
///
/// ```
/// assert!(highwater_control::topic_configs().iter().any(|d| d.name == "durability"));
/// ```
pub fn topic_configs() -> &'static [TopicConfigDefinition] {
    &TABLE
}

/// The topic setting of this name.
///
/// ```
/// assert!(highwater_control::topic_config("segment.bytes").is_some());
/// assert!(highwater_control::topic_config("segment.byte").is_none());
/// ```
pub fn topic_config(name: &str) -> Option<&'static TopicConfigDefinition> {
    TABLE.binary_search_by(|d| d.name.cmp(name)).ok().map(|at| &TABLE[at])
}

/// The topic setting whose default this broker setting is, if it is one.
///
/// ```
/// assert_eq!(highwater_control::topic_config_of_broker("log.retention.hours").unwrap().name, "retention.ms");
/// ```
pub fn topic_config_of_broker(name: &str) -> Option<&'static TopicConfigDefinition> {
    TABLE.iter().find(|d| d.broker_names().any(|broker| broker == name))
}

const fn row(
    name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    bounds: Bounds,
    class: ConfigClass,
    broker: &'static [(&'static str, Scale)],
    doc: &'static str,
) -> TopicConfigDefinition {
    TopicConfigDefinition { name, kind, default, class, doc, bounds, broker }
}

const FOREVER: &str = "9223372036854775807";
const CODECS: &[&str] = &["uncompressed", "gzip", "snappy", "lz4", "zstd", "producer"];

#[rustfmt::skip]
static TABLE: [TopicConfigDefinition; 34] = [
    row("cleanup.policy", List, "delete", Subset(&["delete", "compact"]), InEffect, &[("log.cleanup.policy", One)],
        "What happens to old segments: they are deleted, or compacted: of each key the latest record stays; empty keeps them all."),
    row("compression.gzip.level", Int, "-1", Between { min: 1, max: 9, or: -1 }, WithoutEffect, &[("compression.gzip.level", One)],
        "Level for compression.type=gzip."),
    row("compression.lz4.level", Int, "9", Between { min: 1, max: 17, or: 9 }, WithoutEffect, &[("compression.lz4.level", One)],
        "Level for compression.type=lz4."),
    row("compression.type", String, "producer", OneOf(CODECS), InEffect, &[("compression.type", One)],
        "Codec to store batches with: producer keeps each as it was sent; with another, batches that came otherwise are packed anew."),
    row("compression.zstd.level", Int, "3", Between { min: -131_072, max: 22, or: 3 }, WithoutEffect, &[("compression.zstd.level", One)],
        "Level for compression.type=zstd."),
    row("delete.retention.ms", Long, "86400000", AtLeast(0), InEffect, &[("log.cleaner.delete.retention.ms", One)],
        "Milliseconds that tombstones stay in a compacted topic."),
    row("durability", String, "each", OneOf(&["each", "interval", "os"]), InEffect, &[("durability", One)],
        "What an acknowledgement promises of a power cut: each acknowledged record is synced; at most the bounds of flush.messages and flush.ms are lost; or nothing is promised."),
    row("file.delete.delay.ms", Long, "60000", AtLeast(0), InEffect, &[("log.segment.delete.delay.ms", One)],
        "Milliseconds between a file's renaming to .deleted and its removal."),
    row("flush.messages", Long, FOREVER, AtLeast(1), InEffect, &[("log.flush.interval.messages", One)],
        "Records between syncs; 1 means durability=each, larger values bound durability=interval."),
    row("flush.ms", Long, FOREVER, AtLeast(0), InEffect, &[("log.flush.interval.ms", One)],
        "Milliseconds between syncs; a bound of durability=interval."),
    row("follower.replication.throttled.replicas", List, "", ThrottledReplicas, WithoutEffect, &[],
        "Replicas whose fetching is throttled."),
    row("index.interval.bytes", Int, "4096", AtLeast(0), InEffect, &[("log.index.interval.bytes", One)],
        "Bytes of a segment between two entries of its offset index."),
    row("leader.replication.throttled.replicas", List, "", ThrottledReplicas, WithoutEffect, &[],
        "Replicas whose serving is throttled."),
    row("local.retention.bytes", Long, "-2", AtLeast(-2), WithoutEffect, &[("log.local.retention.bytes", One)],
        "Bytes kept locally of a tiered topic."),
    row("local.retention.ms", Long, "-2", AtLeast(-2), WithoutEffect, &[("log.local.retention.ms", One)],
        "Milliseconds kept locally of a tiered topic."),
    row("max.compaction.lag.ms", Long, FOREVER, AtLeast(1), InEffect, &[("log.cleaner.max.compaction.lag.ms", One)],
        "Longest time in milliseconds that a record stays uncompacted."),
    row("max.message.bytes", Int, "1048588", AtLeast(0), InEffect, &[("message.max.bytes", One)],
        "Bytes of the largest batch that is accepted."),
    row("message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), InEffect, &[("log.message.timestamp.after.max.ms", One)],
        "Milliseconds that a record's timestamp may lie in the future."),
    row("message.timestamp.before.max.ms", Long, FOREVER, AtLeast(0), InEffect, &[("log.message.timestamp.before.max.ms", One)],
        "Milliseconds that a record's timestamp may lie in the past."),
    row("message.timestamp.type", String, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), InEffect, &[("log.message.timestamp.type", One)],
        "Whose clock a record's timestamp is."),
    row("min.cleanable.dirty.ratio", Double, "0.5", Fraction, InEffect, &[("log.cleaner.min.cleanable.ratio", One)],
        "Dirty fraction from which a log is compacted."),
    row("min.compaction.lag.ms", Long, "0", AtLeast(0), InEffect, &[("log.cleaner.min.compaction.lag.ms", One)],
        "Shortest time in milliseconds that a record stays uncompacted."),
    row("min.insync.replicas", Int, "1", AtLeast(1), InEffect, &[("min.insync.replicas", One)],
        "Replicas that must be in sync for acks=all, and for the high watermark to move."),
    row("preallocate", Boolean, "false", Any, InEffect, &[("log.preallocate", One)],
        "Prepare a whole segment at once, as written blocks. Else space is prepared ahead in steps."),
    row("remote.log.copy.disable", Boolean, "false", Any, WithoutEffect, &[],
        "Stop copying a tiered topic."),
    row("remote.log.delete.on.disable", Boolean, "false", Any, WithoutEffect, &[],
        "Delete the remote part of a topic that stops being tiered."),
    row("remote.storage.enable", Boolean, "false", Any, Refused, &[],
        "Tiered storage, which is not offered."),
    row("retention.bytes", Long, "-1", Any, InEffect, &[("log.retention.bytes", One)],
        "Bytes of a partition beyond which its oldest segments go; negative for no limit."),
    row("retention.ms", Long, "604800000", AtLeast(-1), InEffect,
        &[("log.retention.ms", One), ("log.retention.minutes", Minutes), ("log.retention.hours", Hours)],
        "Milliseconds after which a segment goes; -1 for no limit."),
    row("segment.bytes", Int, "1073741824", AtLeast(1_048_576), InEffect, &[("log.segment.bytes", One)],
        "Bytes of a segment."),
    row("segment.index.bytes", Int, "10485760", AtLeast(4), InEffect, &[("log.index.size.max.bytes", One)],
        "Bytes of a segment's index; a full one ends the segment."),
    row("segment.jitter.ms", Long, "0", AtLeast(0), WithoutEffect,
        &[("log.roll.jitter.ms", One), ("log.roll.jitter.hours", Hours)],
        "Milliseconds by which segment.ms is shortened at random."),
    row("segment.ms", Long, "604800000", AtLeast(1), InEffect, &[("log.roll.ms", One), ("log.roll.hours", Hours)],
        "Milliseconds after which a segment is ended although it is not full."),
    row("unclean.leader.election.enable", Boolean, "false", Any, InEffect, &[("unclean.leader.election.enable", One)],
        "Elect a replica that may lack committed records when no other is left."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_default_passes_its_own_bounds() {
        assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
        for definition in topic_configs() {
            let checked = crate::check_topic_config(definition.name, definition.default);
            assert!(checked.is_ok(), "{}: {checked:?}", definition.name);
            assert!(!definition.doc.is_empty(), "{}", definition.name);
        }
    }
}

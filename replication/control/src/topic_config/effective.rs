//! Which value of a setting holds for a topic, and where it comes from: topic, then broker, then default.

use std::collections::BTreeMap;

use highwater_base::BrokerId;

use super::check::{items, parse_bool};
use super::definition::{Scale, TopicConfigDefinition};
use super::table::topic_config;
use crate::{ConfigError, Configs, Image};

/// Where a value comes from, strongest first.
///
/// ```
/// use highwater_control::ConfigSource;
/// assert_eq!(ConfigSource::DynamicTopic.kafka_code(), 1);
/// assert!(ConfigSource::DynamicTopic < ConfigSource::Default);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConfigSource {
    /// Set on the topic.
    DynamicTopic,
    /// Set on this broker while it ran.
    DynamicBroker,
    /// Set on all brokers while they ran.
    DynamicDefaultBroker,
    /// Given to this broker when it was started.
    StaticBroker,
    /// Nobody set it.
    Default,
}

impl ConfigSource {
    /// The number of this source in the protocol.
    pub const fn kafka_code(self) -> i8 {
        match self {
            ConfigSource::DynamicTopic => 1,
            ConfigSource::DynamicBroker => 2,
            ConfigSource::DynamicDefaultBroker => 3,
            ConfigSource::StaticBroker => 4,
            ConfigSource::Default => 5,
        }
    }
}

/// What a broker was started with, as far as it decides topic settings.
///
/// ```
/// use highwater_base::BrokerId;
/// use highwater_control::NodeDefaults;
/// let node = NodeDefaults::new(BrokerId::new(1), [("log.retention.hours", "1")]).unwrap();
/// assert_eq!(node.broker(), BrokerId::new(1));
/// assert!(NodeDefaults::new(BrokerId::new(1), [("log.retention.hours", "soon")]).is_err());
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct NodeDefaults {
    broker: BrokerId,
    settings: BTreeMap<String, String>,
}

impl NodeDefaults {
    /// From broker settings in Kafka's names. Those that decide no topic setting are passed over.
    pub fn new<N: Into<String>, V: Into<String>>(
        broker: BrokerId,
        settings: impl IntoIterator<Item = (N, V)>,
    ) -> Result<NodeDefaults, ConfigError> {
        let mut kept = BTreeMap::new();
        for (name, value) in settings {
            let (name, value) = (name.into(), value.into());
            if let Some(definition) = super::topic_config_of_broker(&name) {
                definition.check(&scaled(definition, &name, &value))?;
                kept.insert(name, value);
            }
        }
        Ok(NodeDefaults { broker, settings: kept })
    }

    /// Nothing set.
    pub fn none(broker: BrokerId) -> NodeDefaults {
        NodeDefaults { broker, settings: BTreeMap::new() }
    }

    /// Whose they are.
    pub fn broker(&self) -> BrokerId {
        self.broker
    }
}

/// One setting of a topic as it holds, with everything that stands behind it.
///
/// ```
/// use highwater_base::BrokerId;
/// use highwater_control::{ConfigSource, Image, NodeDefaults, resolve_topic_config, topic_config};
/// let r = resolve_topic_config(
///     &Image::new("c"), &NodeDefaults::none(BrokerId::new(1)), None, topic_config("segment.ms").unwrap());
/// assert_eq!((r.value.as_str(), r.source), ("604800000", ConfigSource::Default));
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct ResolvedConfig {
    /// Its value, in the topic setting's unit.
    pub value: String,
    /// Where that comes from.
    pub source: ConfigSource,
    /// All values on the way, strongest first, each under the name it was set by; the first one holds.
    pub synonyms: Vec<(&'static str, String, ConfigSource)>,
}

/// Which value of `definition` holds for `topic` (for a topic with no settings of its own, with `None`).
///
/// ```
/// use highwater_base::BrokerId;
/// use highwater_control::*;
/// let node = NodeDefaults::new(BrokerId::new(1), [("log.retention.hours", "2")]).unwrap();
/// let r = resolve_topic_config(&Image::new("c"), &node, None, topic_config("retention.ms").unwrap());
/// assert_eq!((r.value.as_str(), r.source), ("7200000", ConfigSource::StaticBroker));
/// ```
pub fn resolve_topic_config(
    image: &Image,
    node: &NodeDefaults,
    topic: Option<&str>,
    definition: &'static TopicConfigDefinition,
) -> ResolvedConfig {
    let mut synonyms = Vec::new();
    if let Some(value) = topic.and_then(|name| image.topic(name)?.configs.get(definition.name)) {
        synonyms.push((definition.name, value.clone(), ConfigSource::DynamicTopic));
    }
    let mut level = |configs: Option<&Configs>, source| {
        for name in definition.broker_names() {
            if let Some(value) = configs.and_then(|configs| configs.get(name)) {
                synonyms.push((name, scaled(definition, name, value), source));
            }
        }
    };
    level(image.broker_configs(node.broker), ConfigSource::DynamicBroker);
    level(image.broker_configs(BrokerId::NONE), ConfigSource::DynamicDefaultBroker);
    level(Some(&node.settings), ConfigSource::StaticBroker);
    let name = definition.broker_name().unwrap_or(definition.name);
    synonyms.push((name, definition.default.to_owned(), ConfigSource::Default));
    let (_, value, source) = synonyms[0].clone();
    ResolvedConfig { value, source, synonyms }
}

/// A broker setting's value in the topic setting's unit; a value that is no number stays, to be refused.
pub(crate) fn scaled(definition: &TopicConfigDefinition, name: &str, value: &str) -> String {
    let scale = definition.broker.iter().find(|(broker, _)| *broker == name).map_or(Scale::One, |(_, s)| *s);
    let factor = match scale {
        Scale::One => return value.to_owned(),
        Scale::Minutes => 60_000,
        Scale::Hours => 3_600_000,
    };
    match value.trim().parse::<i64>() {
        Ok(number) if number >= 0 => number.saturating_mul(factor).to_string(),
        _ => value.to_owned(),
    }
}

/// What an acknowledgement promises of a power cut.
///
/// ```
/// use highwater_control::DurabilitySetting;
/// assert_ne!(DurabilitySetting::Each, DurabilitySetting::Os);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DurabilitySetting {
    /// Every acknowledged record is synced.
    Each,
    /// Bounded loss: synced at the latest after so many records, or so many milliseconds, whichever is first.
    Interval {
        /// The bound in records, if there is one.
        messages: Option<u64>,
        /// The bound in milliseconds, if there is one.
        ms: Option<u64>,
    },
    /// The operating system writes back when it likes.
    Os,
}

/// Whose clock a record's timestamp is.
///
/// ```
/// assert_ne!(highwater_control::TimestampType::CreateTime, highwater_control::TimestampType::LogAppendTime);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, at the append.
    LogAppendTime,
}

/// All settings of a topic that are in effect, as values. No limit is `None`.
///
/// ```
/// use highwater_base::BrokerId;
/// use highwater_control::{DurabilitySetting, Image, NodeDefaults, effective};
/// let config = effective(&Image::new("c"), &NodeDefaults::none(BrokerId::new(1)), None);
/// assert_eq!(config.durability, DurabilitySetting::Each);
/// assert_eq!(config.retention_ms, Some(7 * 24 * 3600 * 1000));
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct TopicConfig {
    /// `cleanup.policy` contains `delete`. Default true.
    pub delete: bool,
    /// `cleanup.policy` contains `compact`. Default false.
    pub compact: bool,
    /// The codec that batches are stored with (`compression.type`): `gzip`, `snappy`, `lz4`, `zstd`, or `uncompressed`; `None` as
    /// the producer sent them. Default none.
    pub compression: Option<String>,
    /// `delete.retention.ms`. Default a day.
    pub delete_retention_ms: u64,
    /// `max.compaction.lag.ms`. Default none.
    pub max_compaction_lag_ms: Option<u64>,
    /// `min.cleanable.dirty.ratio`. Default 0.5.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`. Default 0.
    pub min_compaction_lag_ms: u64,
    /// `durability`, `flush.messages` and `flush.ms` together. Default [`DurabilitySetting::Each`].
    pub durability: DurabilitySetting,
    /// `file.delete.delay.ms`. Default 60,000.
    pub file_delete_delay_ms: u64,
    /// `index.interval.bytes`. Default 4,096.
    pub index_interval_bytes: u32,
    /// `max.message.bytes`. Default 1,048,588.
    pub max_message_bytes: u32,
    /// `message.timestamp.after.max.ms`. Default 3,600,000.
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`. Default 2^63-1.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.type`. Default `CreateTime`.
    pub timestamp_type: TimestampType,
    /// `min.insync.replicas`. Default 1.
    pub min_insync_replicas: usize,
    /// `preallocate`. Default false.
    pub preallocate: bool,
    /// `retention.bytes`. Default none.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`. Default seven days.
    pub retention_ms: Option<u64>,
    /// `segment.bytes`. Default 1 GiB.
    pub segment_bytes: u32,
    /// `segment.index.bytes`. Default 10 MiB.
    pub segment_index_bytes: u32,
    /// `segment.ms`. Default seven days.
    pub segment_ms: u64,
    /// `unclean.leader.election.enable`. Default false.
    pub unclean_leader_election: bool,
}

/// A default bound for `durability=interval` where neither `flush.messages` nor `flush.ms` sets one.
const DEFAULT_INTERVAL_MS: u64 = 1000;

/// The values that hold for a topic, one by one.
pub(crate) struct Held<'a> {
    pub(crate) image: &'a Image,
    pub(crate) node: &'a NodeDefaults,
    pub(crate) topic: Option<&'a str>,
}

impl Held<'_> {
    fn resolve(&self, name: &str) -> ResolvedConfig {
        let definition = topic_config(name).expect("a name of the table");
        let resolved = resolve_topic_config(self.image, self.node, self.topic, definition);
        // What is stored was checked when it was set; a file of a later version may hold what this one refuses.
        let ok = definition.check(&resolved.value).is_ok();
        if ok { resolved } else { ResolvedConfig { value: definition.default.to_owned(), ..resolved } }
    }

    fn number(&self, name: &str) -> i64 {
        self.resolve(name).value.trim().parse().unwrap_or(0)
    }

    fn flag(&self, name: &str) -> bool {
        parse_bool(self.resolve(name).value.trim()).unwrap_or(false)
    }

    /// `min.insync.replicas`.
    pub(crate) fn min_insync_replicas(&self) -> usize {
        usize::try_from(self.number("min.insync.replicas")).unwrap_or(1).max(1)
    }

    /// `unclean.leader.election.enable`.
    pub(crate) fn unclean_leader_election(&self) -> bool {
        self.flag("unclean.leader.election.enable")
    }
}

/// What holds for a topic (for one with no settings of its own, with `None`).
///
/// ```
/// use highwater_base::BrokerId;
/// use highwater_control::{DurabilitySetting, Image, NodeDefaults, effective};
/// let node = NodeDefaults::new(BrokerId::new(1), [("durability", "os")]).unwrap();
/// assert_eq!(effective(&Image::new("c"), &node, None).durability, DurabilitySetting::Os);
/// ```
pub fn effective(image: &Image, node: &NodeDefaults, topic: Option<&str>) -> TopicConfig {
    let held = Held { image, node, topic };
    let resolve = |name: &str| held.resolve(name);
    let number = |name: &str| held.number(name);
    let size = |name: &str| u32::try_from(held.number(name)).unwrap_or(u32::MAX);
    let limit = |name: &str| u64::try_from(held.number(name)).ok();
    let policy = resolve("cleanup.policy").value;
    TopicConfig {
        delete: items(&policy).any(|item| item == "delete"),
        compact: items(&policy).any(|item| item == "compact"),
        compression: Some(resolve("compression.type").value.trim().to_owned())
            .filter(|name| name != "producer"),
        delete_retention_ms: limit("delete.retention.ms").unwrap_or(0),
        max_compaction_lag_ms: limit("max.compaction.lag.ms").filter(|lag| *lag < i64::MAX as u64),
        min_cleanable_dirty_ratio: resolve("min.cleanable.dirty.ratio").value.trim().parse().unwrap_or(0.5),
        min_compaction_lag_ms: limit("min.compaction.lag.ms").unwrap_or(0),
        durability: durability(&resolve("durability"), &resolve("flush.messages"), &resolve("flush.ms")),
        file_delete_delay_ms: limit("file.delete.delay.ms").unwrap_or(0),
        index_interval_bytes: size("index.interval.bytes"),
        max_message_bytes: size("max.message.bytes"),
        timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
        timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
        timestamp_type: match resolve("message.timestamp.type").value.trim() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        },
        min_insync_replicas: held.min_insync_replicas(),
        preallocate: held.flag("preallocate"),
        retention_bytes: limit("retention.bytes"),
        retention_ms: limit("retention.ms"),
        segment_bytes: size("segment.bytes"),
        segment_index_bytes: size("segment.index.bytes"),
        segment_ms: limit("segment.ms").unwrap_or(u64::MAX),
        unclean_leader_election: held.unclean_leader_election(),
    }
}

/// The mode is what was said most specifically: `durability`, or by Kafka's names (`flush.messages=1` is
/// `each`, anything else set there is `interval`). At the same level, `durability` wins.
fn durability(mode: &ResolvedConfig, messages: &ResolvedConfig, ms: &ResolvedConfig) -> DurabilitySetting {
    let bound = |resolved: &ResolvedConfig| match resolved.value.trim().parse::<i64>() {
        Ok(value) if resolved.source != ConfigSource::Default && value < i64::MAX => {
            u64::try_from(value).ok()
        }
        _ => None,
    };
    let (by_messages, by_ms) = (bound(messages), bound(ms));
    let flush_source = [(by_messages, messages.source), (by_ms, ms.source)]
        .into_iter()
        .filter(|(value, _)| value.is_some())
        .map(|(_, source)| source)
        .min();
    let by_flush = match flush_source {
        Some(source) if source < mode.source => {
            Some(if by_messages == Some(1) { "each" } else { "interval" })
        }
        _ => None,
    };
    match by_flush.unwrap_or_else(|| mode.value.trim()) {
        "os" => DurabilitySetting::Os,
        "interval" => DurabilitySetting::Interval {
            messages: by_messages,
            ms: by_ms.or(if by_messages.is_none() { Some(DEFAULT_INTERVAL_MS) } else { None }),
        },
        _ => DurabilitySetting::Each,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic_configs;
    use crate::{Command, ConfigOp, NewTopic, Registration, apply};
    use highwater_base::Uuid;

    fn image(topic: &[(&str, &str)], all_brokers: &[(&str, &str)]) -> Image {
        let me = BrokerId::new(1);
        let mut image = Image::new("c");
        let mut new = NewTopic::named("t", Uuid::from_halves(1, 1));
        new.configs = topic.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let ops = all_brokers.iter().map(|(k, v)| ConfigOp::Set((*k).into(), (*v).into())).collect();
        for command in [
            Command::RegisterBroker(Registration::new(me, "h", 1)),
            Command::UnfenceBroker { broker: me, epoch: highwater_base::BrokerEpoch::new(1) },
            Command::AlterBrokerConfig { broker: BrokerId::NONE, ops },
            Command::CreateTopic(new),
        ] {
            image = apply(&image, &command).unwrap_or_else(|e| panic!("{command:?}: {e}")).0;
        }
        image
    }

    fn mode(topic: &[(&str, &str)], node: &[(&str, &str)]) -> DurabilitySetting {
        let node = NodeDefaults::new(BrokerId::new(1), node.iter().copied()).unwrap();
        effective(&image(topic, &[]), &node, Some("t")).durability
    }

    #[test]
    fn the_topic_wins_over_all_brokers_wins_over_the_node_wins_over_the_default() {
        let definition = topic_config("retention.ms").unwrap();
        let node = NodeDefaults::new(BrokerId::new(1), [("log.retention.minutes", "3")]).unwrap();
        let with = image(&[("retention.ms", "1")], &[("log.retention.ms", "2")]);
        let resolved = resolve_topic_config(&with, &node, Some("t"), definition);
        let seen: Vec<_> = resolved.synonyms.iter().map(|(n, v, s)| (*n, v.as_str(), *s)).collect();
        assert_eq!(
            seen,
            [
                ("retention.ms", "1", ConfigSource::DynamicTopic),
                ("log.retention.ms", "2", ConfigSource::DynamicDefaultBroker),
                ("log.retention.minutes", "180000", ConfigSource::StaticBroker),
                ("log.retention.ms", "604800000", ConfigSource::Default),
            ]
        );
        assert_eq!((resolved.value.as_str(), resolved.source), ("1", ConfigSource::DynamicTopic));
    }

    #[test]
    fn milliseconds_win_over_minutes_win_over_hours() {
        let names = [("log.retention.hours", "1"), ("log.retention.minutes", "1"), ("log.retention.ms", "7")];
        for (take, expected) in [(1, 3_600_000), (2, 60_000), (3, 7)] {
            let node = NodeDefaults::new(BrokerId::new(1), names[..take].iter().copied()).unwrap();
            assert_eq!(effective(&Image::new("c"), &node, None).retention_ms, Some(expected));
        }
        let node = NodeDefaults::new(BrokerId::new(1), [("log.retention.hours", "-1")]).unwrap();
        assert_eq!(effective(&Image::new("c"), &node, None).retention_ms, None);
    }

    #[test]
    fn durability_is_what_was_said_most_specifically() {
        use DurabilitySetting::{Each, Interval, Os};
        assert_eq!(mode(&[], &[]), Each);
        assert_eq!(mode(&[("durability", "os")], &[("durability", "interval")]), Os);
        assert_eq!(mode(&[("flush.messages", "1")], &[("durability", "os")]), Each);
        assert_eq!(mode(&[("flush.messages", "10")], &[]), Interval { messages: Some(10), ms: None });
        assert_eq!(mode(&[("flush.ms", "50")], &[]), Interval { messages: None, ms: Some(50) });
        assert_eq!(mode(&[("durability", "interval")], &[]), Interval { messages: None, ms: Some(1000) });
        assert_eq!(
            mode(&[("durability", "interval"), ("flush.ms", "9")], &[("log.flush.interval.messages", "5")]),
            Interval { messages: Some(5), ms: Some(9) }
        );
        assert_eq!(mode(&[("durability", "each")], &[("log.flush.interval.messages", "5")]), Each);
        assert_eq!(mode(&[], &[("log.flush.interval.messages", "1"), ("durability", "os")]), Os);
    }

    #[test]
    fn every_topic_setting_resolves() {
        for definition in topic_configs() {
            let resolved = resolve_topic_config(
                &Image::new("c"),
                &NodeDefaults::none(BrokerId::new(1)),
                None,
                definition,
            );
            assert_eq!(resolved.value, definition.default);
            assert_eq!(resolved.source, ConfigSource::Default);
        }
    }
}

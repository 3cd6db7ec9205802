//! The broker's settings: where each came from, and the checked values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use highwater_base::BrokerId;
use highwater_control::NodeDefaults;
use highwater_io::IoChoice;

use super::broker_table::{BROKER, broker_setting, has_no_effect};
use super::definition::{Class, list, nearest};
use super::listener::client_listener;
use super::{ConfigError, HostPort};

/// Where a setting came from. A later one wins over an earlier one.
///
/// ```
/// use highwater_broker::Source;
/// assert!(Source::Flag > Source::Config && Source::Config > Source::File);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// `--config-file`.
    File,
    /// `--config NAME=VALUE`.
    Config,
    /// A flag of its own, such as `--listen`.
    Flag,
}

/// The settings of one broker, checked.
///
/// ```
/// use highwater_broker::{Settings, Source};
/// let settings = Settings::from_sources(&[
///     (Source::File, "num.partitions".into(), "3".into()),
///     (Source::Flag, "node.id".into(), "7".into()),
///     (Source::Config, "num.io.threads".into(), "4".into()),
/// ])?;
/// assert_eq!(settings.node_id().get(), 7);
/// assert_eq!(settings.without_effect(), ["num.io.threads"]);
/// # Ok::<(), highwater_broker::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// What was given, by name, winners only.
    given: BTreeMap<String, String>,
    listener: String,
    listen: HostPort,
    advertise: Option<HostPort>,
    node_id: BrokerId,
    topic_defaults: NodeDefaults,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::from_sources(&[]).expect("a test checks that every default fits")
    }
}

impl Settings {
    /// Checks what was given. Of one name the latest source wins, and within a source the last one given.
    pub fn from_sources(given: &[(Source, String, String)]) -> Result<Settings, ConfigError> {
        let mut winners: BTreeMap<String, (Source, String)> = BTreeMap::new();
        for (source, name, value) in given {
            let value = checked(name, value)?;
            match winners.get_mut(name) {
                Some(winner) if winner.0 <= *source => *winner = (*source, value),
                Some(_) => {}
                None => _ = winners.insert(name.clone(), (*source, value)),
            }
        }
        let given: BTreeMap<String, String> =
            winners.into_iter().map(|(name, (_, value))| (name, value)).collect();
        let value = |name: &str| {
            given.get(name).map(String::as_str).or_else(|| broker_setting(name).and_then(|d| d.default))
        };
        let controllers = value("controller.listener.names");
        let protocols = value("listener.security.protocol.map").unwrap_or("");
        let (listener, listen) =
            client_listener("listeners", value("listeners").unwrap_or(""), controllers, protocols)?;
        let advertise = match value("advertised.listeners") {
            Some(text) => Some(client_listener("advertised.listeners", text, controllers, protocols)?.1),
            None => None,
        };
        let node_id = match (given.get("node.id"), given.get("broker.id").filter(|id| *id != "-1")) {
            (Some(node), Some(broker)) if node != broker => {
                let why = "node.id is given too, and is another; remove broker.id, its older name";
                return Err(ConfigError::Unsupported {
                    name: "broker.id".into(),
                    found: broker.clone(),
                    why,
                });
            }
            (Some(id), _) | (None, Some(id)) => id.as_str(),
            (None, None) => "1",
        };
        let node_id = BrokerId::new(node_id.parse().expect("checked as a 32-bit integer"));
        let topic_defaults = NodeDefaults::new(node_id, given.clone()).map_err(ConfigError::Topic)?;
        Ok(Settings { given, listener, listen, advertise, node_id, topic_defaults })
    }

    /// Names of settings that were given and have no effect here.
    pub fn without_effect(&self) -> Vec<&str> {
        let no_effect = |name: &str| broker_setting(name).is_none_or(|d| d.class == Class::NoEffect);
        self.given.keys().map(String::as_str).filter(|name| no_effect(name)).collect()
    }

    /// The given value of a setting, or its default; `None` for Kafka's null and for unknown names.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.given(name).or_else(|| broker_setting(name).and_then(|definition| definition.default))
    }

    /// The value that was given for a setting.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// What these settings say of topics that have none of their own.
    pub(crate) fn topic_defaults(&self) -> &NodeDefaults {
        &self.topic_defaults
    }

    /// `node.id`.
    pub fn node_id(&self) -> BrokerId {
        self.node_id
    }

    /// Whether a node id was given, not defaulted.
    pub(crate) fn node_id_is_given(&self) -> bool {
        self.given("node.id").is_some() || self.given("broker.id").is_some_and(|id| id != "-1")
    }

    /// Name of the listener for clients.
    pub(crate) fn listener(&self) -> &str {
        &self.listener
    }

    /// Where to listen.
    pub fn listen(&self) -> &HostPort {
        &self.listen
    }

    /// Where clients are told to connect, if that is another place.
    pub fn advertise(&self) -> Option<&HostPort> {
        self.advertise.as_ref()
    }

    /// The data directories: `log.dirs`, or `log.dir`.
    pub fn data_dirs(&self) -> Vec<PathBuf> {
        let value = self.value("log.dirs").or_else(|| self.value("log.dir")).unwrap_or("highwater-data");
        let mut dirs: Vec<PathBuf> = Vec::new();
        for dir in list(value).map(PathBuf::from) {
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
        dirs
    }

    /// `highwater.shards`: threads that serve, 0 for one a core except one, which is left to the network and the disk.
    pub fn shards(&self) -> usize {
        self.number("highwater.shards")
    }

    /// `highwater.io`.
    pub fn io(&self) -> IoChoice {
        self.value("highwater.io").and_then(|choice| choice.parse().ok()).unwrap_or_default()
    }

    /// `broker.rack`.
    pub(crate) fn rack(&self) -> Option<&str> {
        self.value("broker.rack")
    }

    /// `auto.create.topics.enable`.
    pub(crate) fn auto_create_topics(&self) -> bool {
        self.flag("auto.create.topics.enable")
    }

    /// `delete.topic.enable`.
    pub(crate) fn delete_topics(&self) -> bool {
        self.flag("delete.topic.enable")
    }

    /// `num.partitions`.
    pub(crate) fn default_partitions(&self) -> i32 {
        self.number("num.partitions")
    }

    /// `default.replication.factor`.
    pub(crate) fn default_replication_factor(&self) -> i32 {
        self.number("default.replication.factor")
    }

    /// `fetch.max.bytes`: the most that one Fetch answer carries.
    pub(crate) fn fetch_max_bytes(&self) -> i32 {
        self.number("fetch.max.bytes")
    }

    /// `max.incremental.fetch.session.cache.slots`: fetch sessions of all shards; 0 for none.
    pub(crate) fn fetch_session_slots(&self) -> usize {
        self.number("max.incremental.fetch.session.cache.slots")
    }

    /// `socket.request.max.bytes`: the largest frame.
    pub(crate) fn request_max_bytes(&self) -> usize {
        self.number("socket.request.max.bytes")
    }

    /// `highwater.request.memory.bytes`: memory of all shards for requests and answers.
    pub(crate) fn request_memory_bytes(&self) -> usize {
        self.number("highwater.request.memory.bytes")
    }

    /// `max.connections`.
    pub(crate) fn max_connections(&self) -> usize {
        self.number("max.connections")
    }

    /// `connections.max.idle.ms`; `None` never closes.
    pub(crate) fn max_idle(&self) -> Option<Duration> {
        let ms: i64 = self.number("connections.max.idle.ms");
        u64::try_from(ms).ok().map(Duration::from_millis)
    }

    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub(crate) fn high_watermark_checkpoint(&self) -> Duration {
        self.millis("replica.high.watermark.checkpoint.interval.ms")
    }

    /// `log.flush.offset.checkpoint.interval.ms`, or that of the log start if it is shorter.
    pub(crate) fn offset_checkpoint(&self) -> Duration {
        let recovery = self.millis("log.flush.offset.checkpoint.interval.ms");
        recovery.min(self.millis("log.flush.start.offset.checkpoint.interval.ms"))
    }

    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A numeric setting that has a default. Its bounds make it fit the type asked for.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> N {
        let value = self.value(name).and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("setting {name} is no number of the type it is read as"))
    }
}

/// Checks one broker setting.
fn checked(name: &str, value: &str) -> Result<String, ConfigError> {
    match broker_setting(name) {
        Some(definition) => definition.check(value).map(str::to_owned),
        None if has_no_effect(name) => Ok(value.trim().to_owned()),
        None => Err(ConfigError::Unknown {
            name: name.chars().take(256).collect(),
            nearest: nearest(name, BROKER.iter().map(|definition| definition.name)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(Source, &str, &str)]) -> Result<Settings, ConfigError> {
        let owned: Vec<_> = pairs.iter().map(|(s, n, v)| (*s, (*n).to_owned(), (*v).to_owned())).collect();
        Settings::from_sources(&owned)
    }

    #[test]
    fn every_default_can_be_read_and_says_what_kafka_says() {
        let settings = Settings::default();
        assert_eq!(settings.node_id(), BrokerId::new(1));
        assert_eq!(settings.listen().to_string(), "127.0.0.1:9092");
        assert_eq!(settings.data_dirs(), [PathBuf::from("highwater-data")]);
        assert!(settings.auto_create_topics() && settings.delete_topics());
        assert_eq!((settings.default_partitions(), settings.default_replication_factor()), (1, 1));
        assert_eq!(settings.fetch_max_bytes(), 57_671_680);
        assert_eq!(settings.request_max_bytes(), 104_857_600);
        assert_eq!(settings.max_connections(), 2_147_483_647);
        assert_eq!(settings.request_memory_bytes(), 512 << 20);
        assert_eq!(settings.max_idle(), Some(Duration::from_secs(600)));
        assert_eq!(settings.high_watermark_checkpoint(), Duration::from_secs(5));
        assert_eq!(settings.offset_checkpoint(), Duration::from_secs(60));
        assert_eq!(settings.shards(), 0);
        assert!(settings.without_effect().is_empty());
    }

    #[test]
    fn a_later_source_wins_whatever_the_order_given() {
        let settings = of(&[
            (Source::Flag, "node.id", "3"),
            (Source::Config, "node.id", "2"),
            (Source::File, "num.partitions", "5"),
            (Source::File, "node.id", "1"),
            (Source::File, "num.partitions", "6"),
        ])
        .unwrap();
        assert_eq!(settings.node_id(), BrokerId::new(3));
        assert_eq!(settings.default_partitions(), 6);
    }

    #[test]
    fn unknown_impossible_and_contradicting_settings_are_refused() {
        let unknown = of(&[(Source::File, "log.retension.ms", "1")]).unwrap_err();
        assert!(matches!(unknown, ConfigError::Unknown { nearest: "log.retention.ms", .. }), "{unknown}");
        assert!(of(&[(Source::File, "zookeeper.connect", "a:2181")]).is_err());
        assert!(of(&[(Source::File, "authorizer.class.name", "X")]).is_err());
        assert!(of(&[(Source::File, "log.cleanup.policy", "shrink")]).is_err());
        assert!(of(&[(Source::File, "node.id", "1"), (Source::File, "broker.id", "2")]).is_err());
        assert!(of(&[(Source::File, "listeners", "SSL://:9092")]).is_err());
    }

    #[test]
    fn kafkas_settings_without_effect_are_taken_and_named() {
        let settings = of(&[
            (Source::File, "ssl.cipher.suites", "x"),
            (Source::File, "num.network.threads", "3"),
            (Source::File, "num.partitions", "2"),
        ])
        .unwrap();
        assert_eq!(settings.without_effect(), ["num.network.threads", "ssl.cipher.suites"]);
    }

    #[test]
    fn several_data_directories_are_kept_in_order_and_once() {
        let settings = of(&[(Source::Flag, "log.dirs", "/b, /a,/b")]).unwrap();
        assert_eq!(settings.data_dirs(), [PathBuf::from("/b"), PathBuf::from("/a")]);
    }
}

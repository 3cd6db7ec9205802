//! What DescribeConfigs tells of a broker's settings. (A topic's are resolved by `highwater-control`.)

use highwater_control::ConfigSource;

use super::Settings;
use super::broker_table::BROKER;
use super::definition::{Definition, Kind, WireType};

/// One setting, its value in force, and where that came from.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Described {
    /// Its name.
    pub(crate) name: &'static str,
    /// The value; `None` if it has none, or is secret.
    pub(crate) value: Option<String>,
    /// Where the value came from.
    pub(crate) origin: ConfigSource,
    /// Its type.
    pub(crate) wire_type: WireType,
    /// It cannot be changed while the broker runs.
    pub(crate) read_only: bool,
    /// Its value is never shown.
    pub(crate) sensitive: bool,
    /// Every place that gives it a value, the one in force first.
    pub(crate) synonyms: Vec<(&'static str, Option<String>, ConfigSource)>,
    /// Type and bounds, for people.
    pub(crate) documentation: String,
}

impl Settings {
    /// The broker's settings, by name.
    pub(crate) fn describe_broker(&self) -> Vec<Described> {
        let describe = |definition: &Definition| {
            let sensitive = matches!(definition.kind, Kind::Secret);
            let shown = |value: Option<&str>| value.filter(|_| !sensitive).map(str::to_owned);
            let mut synonyms = Vec::new();
            if let Some(given) = self.given(definition.name) {
                synonyms.push((definition.name, shown(Some(given)), ConfigSource::StaticBroker));
            }
            synonyms.push((definition.name, shown(definition.default), ConfigSource::Default));
            let (_, value, origin) = synonyms[0].clone();
            Described {
                name: definition.name,
                value,
                origin,
                wire_type: definition.wire_type(),
                read_only: true,
                sensitive,
                synonyms,
                documentation: definition.expected(),
            }
        };
        let mut described: Vec<Described> = BROKER.iter().map(describe).collect();
        described.sort_by_key(|setting| setting.name);
        described
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let given = [(Source::File, "ssl.key.password".into(), "hush".into())];
        let described = Settings::from_sources(&given).unwrap().describe_broker();
        let secret = described.iter().find(|setting| setting.name == "ssl.key.password").unwrap();
        assert!(secret.sensitive && secret.value.is_none());
        assert!(secret.synonyms.iter().all(|(_, value, _)| value.is_none()));
    }
}

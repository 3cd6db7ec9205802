//! Settings of topics and brokers: each request is applied whole or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_base::BrokerId;

use crate::topic_config::{items, scaled};
use crate::{
    Applied, ConfigError, ConfigKind, ConfigOp, Configs, ControlError, Image, TopicConfigDefinition,
    check_topic_config, nearest, topic_config, topic_config_of_broker, topic_configs,
};

impl Image {
    pub(super) fn alter_topic_config(
        &mut self,
        name: &str,
        ops: &[ConfigOp],
    ) -> Result<Applied, ControlError> {
        let topic = self.topic(name).ok_or_else(|| ControlError::UnknownTopic { name: name.to_owned() })?;
        let known = |name: &str| {
            topic_config(name).ok_or_else(|| ConfigError::Unknown {
                level: "topic",
                name: name.chars().take(128).collect(),
                nearest: nearest(name, topic_configs().iter().map(|d| d.name)),
            })
        };
        let check = |definition: &TopicConfigDefinition, _: &str, value: &str| definition.check(value);
        let configs = altered(&topic.configs, ops, known, check)?;
        if configs == topic.configs {
            return Ok(Applied::Unchanged);
        }
        self.topic_mut(name).configs = configs;
        Ok(Applied::Done)
    }

    pub(super) fn alter_broker_config(
        &mut self,
        broker: BrokerId,
        ops: &[ConfigOp],
    ) -> Result<Applied, ControlError> {
        if broker.is_some() && self.broker(broker).is_none() {
            return Err(ControlError::BrokerNotRegistered { broker });
        }
        let known = |name: &str| {
            let Some(definition) = topic_config_of_broker(name) else {
                return Err(ConfigError::Unknown {
                    level: "broker",
                    name: name.chars().take(128).collect(),
                    nearest: nearest(name, topic_configs().iter().filter_map(|d| d.broker_name())),
                });
            };
            // Minutes and hours exist for the file a broker is started with; while it runs, only milliseconds.
            if definition.broker_name() == Some(name) {
                Ok(definition)
            } else {
                Err(ConfigError::NotDynamic { name: name.to_owned() })
            }
        };
        let check = |definition: &TopicConfigDefinition, name: &str, value: &str| {
            definition.check(&scaled(definition, name, value))
        };
        let empty = Configs::new();
        let before = self.broker_configs(broker).unwrap_or(&empty);
        let configs = altered(before, ops, known, check)?;
        if configs == *before {
            return Ok(Applied::Unchanged);
        }
        let all = Arc::make_mut(&mut self.broker_configs);
        if configs.is_empty() {
            all.remove(&broker);
        } else {
            all.insert(broker, configs);
        }
        Ok(Applied::Done)
    }
}

/// Checks a new topic's settings.
pub(super) fn check_new(configs: &Configs) -> Result<(), ControlError> {
    for (name, value) in configs {
        check_topic_config(name, value)?;
    }
    Ok(())
}

fn altered(
    before: &Configs,
    ops: &[ConfigOp],
    known: impl Fn(&str) -> Result<&'static TopicConfigDefinition, ConfigError>,
    check: impl Fn(&TopicConfigDefinition, &str, &str) -> Result<(), ConfigError>,
) -> Result<Configs, ConfigError> {
    let mut seen = BTreeSet::new();
    let mut configs = before.clone();
    for op in ops {
        let name = op.name();
        if !seen.insert(name) {
            return Err(ConfigError::Twice { name: name.chars().take(128).collect() });
        }
        let value = match op {
            // What an older version stored and this one does not know can still be removed.
            ConfigOp::Delete(name) if configs.contains_key(name) => None,
            ConfigOp::Delete(name) => known(name).map(|_| None)?,
            ConfigOp::Set(name, value) => known(name).map(|_| Some(value.trim().to_owned()))?,
            ConfigOp::Append(name, value) => {
                let mut list = list(known(name)?, &configs, name, "APPEND")?;
                for item in items(value) {
                    if !list.iter().any(|have| have == item) {
                        list.push(item.to_owned());
                    }
                }
                Some(list.join(","))
            }
            ConfigOp::Subtract(name, value) => {
                let mut list = list(known(name)?, &configs, name, "SUBTRACT")?;
                list.retain(|have| !items(value).any(|item| item == have));
                Some(list.join(","))
            }
        };
        match value {
            Some(value) => {
                check(known(name)?, name, &value)?;
                configs.insert(name.to_owned(), value);
            }
            None => {
                configs.remove(name);
            }
        }
    }
    Ok(configs)
}

/// A list's items as they are now.
fn list(
    definition: &'static TopicConfigDefinition,
    configs: &Configs,
    name: &str,
    operation: &'static str,
) -> Result<Vec<String>, ConfigError> {
    if definition.kind != ConfigKind::List {
        return Err(ConfigError::NotAList { name: definition.name, operation });
    }
    let now = configs.get(name).map_or(definition.default, String::as_str);
    Ok(items(now).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::apply::apply;
    use crate::apply::topics::tests::one_broker_and_topic;

    fn alter(image: &Image, ops: &[ConfigOp]) -> Result<(Image, Applied), ControlError> {
        apply(image, &Command::AlterTopicConfig { topic: "t".into(), ops: ops.to_vec() })
    }

    fn set(name: &str, value: &str) -> ConfigOp {
        ConfigOp::Set(name.into(), value.into())
    }

    #[test]
    fn a_request_with_one_bad_setting_changes_nothing() {
        let image = one_broker_and_topic();
        let error = alter(&image, &[set("retention.ms", "5"), set("retention.sm", "5")]).unwrap_err();
        assert_eq!(error.kafka_code(), 40);
        assert_eq!(error.to_string(), "Unknown topic config name: retention.sm; did you mean retention.ms?");
        assert!(image.topic("t").unwrap().configs.is_empty());
    }

    #[test]
    fn set_then_delete_ends_where_it_began() {
        let image = one_broker_and_topic();
        let (set, _) = alter(&image, &[set("retention.ms", " 5 ")]).unwrap();
        assert_eq!(set.topic("t").unwrap().configs["retention.ms"], "5");
        let (back, _) = alter(&set, &[ConfigOp::Delete("retention.ms".into())]).unwrap();
        assert_eq!(back.topic("t"), image.topic("t"));
        let delete_again = [ConfigOp::Delete("retention.ms".into())];
        assert_eq!(alter(&back, &delete_again).unwrap().1, Applied::Unchanged);
    }

    #[test]
    fn lists_grow_and_shrink_by_items_and_only_lists_do() {
        let image = one_broker_and_topic();
        let name = "leader.replication.throttled.replicas";
        let (image, _) = alter(&image, &[ConfigOp::Append(name.into(), "0:1, 1:1,0:1".into())]).unwrap();
        assert_eq!(image.topic("t").unwrap().configs[name], "0:1,1:1");
        let (image, _) = alter(&image, &[ConfigOp::Subtract(name.into(), "0:1".into())]).unwrap();
        assert_eq!(image.topic("t").unwrap().configs[name], "1:1");
        let error = alter(&image, &[ConfigOp::Append("retention.ms".into(), "5".into())]).unwrap_err();
        assert_eq!(error.to_string(), "Can't APPEND to key retention.ms because its type is not LIST.");
        let compact = ConfigOp::Append("cleanup.policy".into(), "compact".into());
        let (image, _) = alter(&image, &[compact]).unwrap();
        assert_eq!(image.topic("t").unwrap().configs["cleanup.policy"], "delete,compact");
        let other = ConfigOp::Append("cleanup.policy".into(), "shrink".into());
        assert_eq!(alter(&image, &[other]).unwrap_err().kafka_code(), 40);
    }

    #[test]
    fn a_setting_twice_in_one_request_is_refused() {
        let error = alter(&one_broker_and_topic(), &[set("retention.ms", "5"), set("retention.ms", "6")])
            .unwrap_err();
        assert!(error.to_string().contains("duplicate"), "{error}");
    }

    #[test]
    fn broker_settings_change_while_running_in_milliseconds_only() {
        let image = one_broker_and_topic();
        let alter = |op| apply(&image, &Command::AlterBrokerConfig { broker: BrokerId::NONE, ops: vec![op] });
        let (next, _) = alter(set("log.retention.ms", "9")).unwrap();
        assert_eq!(next.broker_configs(BrokerId::NONE).unwrap()["log.retention.ms"], "9");
        assert!(alter(set("log.retention.hours", "9")).unwrap_err().to_string().contains("dynamically"));
        assert!(
            alter(set("log.retentoin.ms", "9"))
                .unwrap_err()
                .to_string()
                .contains("did you mean log.retention.ms")
        );
        let stranger = Command::AlterBrokerConfig { broker: BrokerId::new(9), ops: vec![] };
        assert!(apply(&image, &stranger).is_err());
    }
}

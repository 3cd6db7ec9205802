//! DescribeConfigs: settings of topics and brokers, with where each value comes from.

use std::collections::BTreeSet;

use highwater_base::BrokerId;
use highwater_control::{
    ConfigSource, ResolvedConfig, check_topic_name, resolve_topic_config, topic_config_of_broker,
    topic_configs,
};
use highwater_wire::ErrorCode;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::Ctx;
use super::codec::{outcome, text};
use super::gather::answer;
use super::lookup::topic_by_name;
use crate::errors::Refusal;
use crate::pending::Handled;

/// The resource types of the protocol that have settings here.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

pub(super) fn handle(ctx: &dyn Ctx, version: i16, request: &DescribeConfigsRequest) -> Handled {
    let mut response = DescribeConfigsResponse::default();
    let mut room = MOST_SETTINGS;
    for resource in &request.resources {
        let mut entry = DescribeConfigsResult::default().with_resource_type(resource.resource_type);
        entry.resource_name = resource.resource_name.clone();
        let described = if room > 0 { describe(ctx, resource) } else { too_long() };
        (entry.error_code, entry.error_message) = outcome(&described);
        let wanted = wanted(resource);
        for mut config in described.unwrap_or_default() {
            if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&*config.name)) {
                continue;
            }
            if !request.include_synonyms {
                config.synonyms.clear();
            }
            if version < 3 {
                config.config_type = 0;
            }
            if version < 3 || !request.include_documentation {
                config.documentation = None;
            }
            entry.configs.push(config);
            room = room.saturating_sub(1);
        }
        response.results.push(entry);
    }
    answer(response)
}

/// Settings that one answer tells at most, but for the last resource: an answer is a thousand times as long as
/// its question.
const MOST_SETTINGS: usize = 500_000;

fn too_long<T>() -> Result<T, Refusal> {
    let message = format!("More than {MOST_SETTINGS} settings in one answer: ask in several requests.");
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

/// The settings asked for by name; null, and an empty list too, mean all.
fn wanted(resource: &DescribeConfigsResource) -> Option<BTreeSet<&str>> {
    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty())?;
    Some(keys.iter().map(|key| &**key).collect())
}

fn describe(
    ctx: &dyn Ctx,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name = &*resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            check_topic_name(name)?;
            topic_by_name(ctx, name)?;
            Ok(topic(ctx, name))
        }
        BROKER => match broker_named(ctx, name)? {
            Some(id) => Ok(broker(ctx, id)),
            None => Ok(all_brokers(ctx)),
        },
        // There are no loggers whose level could be set.
        BROKER_LOGGER => broker_named(ctx, name).map(|_| Vec::new()),
        other => {
            let message = format!("Unsupported resource type {other}: use 2 for topics or 4 for brokers");
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
    }
}

/// The broker that a resource names: this one, or none for what holds for every broker.
pub(super) fn broker_named(ctx: &dyn Ctx, name: &str) -> Result<Option<BrokerId>, Refusal> {
    let own = ctx.node().id;
    if name.is_empty() {
        return Ok(None);
    }
    let name: String = name.chars().take(64).collect();
    match name.parse::<i32>() {
        Ok(id) if id == own.get() => Ok(Some(own)),
        Ok(id) => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("Unexpected broker id, expected {own} or empty string, but received {id}"),
        )),
        Err(_) => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("Broker id must be an integer, but it is: {name}"),
        )),
    }
}

fn topic(ctx: &dyn Ctx, name: &str) -> Vec<DescribeConfigsResourceResult> {
    let describe = |definition| {
        let resolved =
            resolve_topic_config(ctx.image(), ctx.settings().topic_defaults(), Some(name), definition);
        let ResolvedConfig { value, source, synonyms } = resolved;
        let entry = DescribeConfigsResourceResult::default().with_name(text(definition.name));
        let entry = entry.with_value(Some(text(value))).with_config_source(source.kafka_code());
        let synonyms =
            synonyms.into_iter().map(|(name, value, source)| synonym(name, Some(value), source)).collect();
        let entry = entry.with_synonyms(synonyms).with_config_type(definition.kind.kafka_code());
        entry.with_documentation(Some(text(definition.doc)))
    };
    topic_configs().iter().map(describe).collect()
}

fn synonym(name: &str, value: Option<String>, source: ConfigSource) -> DescribeConfigsSynonym {
    let synonym = DescribeConfigsSynonym::default().with_name(text(name));
    synonym.with_value(value.map(text)).with_source(source.kafka_code())
}

/// What this broker was started with, under what was set while it runs.
fn broker(ctx: &dyn Ctx, id: BrokerId) -> Vec<DescribeConfigsResourceResult> {
    let levels = [(id, ConfigSource::DynamicBroker), (BrokerId::NONE, ConfigSource::DynamicDefaultBroker)];
    let describe = |described: crate::config::Described| {
        let mut entry = DescribeConfigsResourceResult::default()
            .with_name(text(described.name))
            .with_value(described.value.map(text))
            .with_config_source(described.origin.kafka_code())
            .with_is_sensitive(described.sensitive)
            .with_config_type(described.wire_type as i8)
            .with_documentation(Some(text(described.documentation)))
            .with_read_only(described.read_only && !is_dynamic(described.name));
        let changed = levels.iter().filter_map(|(broker, source)| {
            let value = ctx.image().broker_configs(*broker)?.get(described.name)?;
            Some(synonym(described.name, Some(value.clone()), *source))
        });
        entry.synonyms = changed.collect();
        if let Some(strongest) = entry.synonyms.first() {
            entry.value = strongest.value.clone();
            entry.config_source = strongest.source;
        }
        let started =
            described.synonyms.into_iter().map(|(name, value, source)| synonym(name, value, source));
        entry.synonyms.extend(started);
        entry
    };
    ctx.settings().describe_broker().into_iter().map(describe).collect()
}

/// What was set for every broker while they run.
fn all_brokers(ctx: &dyn Ctx) -> Vec<DescribeConfigsResourceResult> {
    let source = ConfigSource::DynamicDefaultBroker;
    let describe = |(name, value): (&String, &String)| {
        let definition = topic_config_of_broker(name);
        let entry = DescribeConfigsResourceResult::default().with_name(text(&**name));
        let entry = entry.with_value(Some(text(&**value))).with_config_source(source.kafka_code());
        let entry = entry.with_synonyms(vec![synonym(name, Some(value.clone()), source)]);
        let entry = entry.with_config_type(definition.map_or(0, |definition| definition.kind.kafka_code()));
        entry.with_documentation(definition.map(|definition| text(definition.doc)))
    };
    ctx.image().broker_configs(BrokerId::NONE).into_iter().flatten().map(describe).collect()
}

/// Whether a broker setting can be changed while it runs: those that are a topic setting's default.
pub(super) fn is_dynamic(name: &str) -> bool {
    topic_config_of_broker(name).is_some_and(|definition| definition.broker_name() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, body, header};
    use super::*;
    use highwater_control::{Command, ConfigOp};
    use highwater_wire::Api;
    use kafka_protocol::messages::ResponseKind;

    fn ask(
        fake: &mut Fake,
        version: i16,
        kind: i8,
        name: &'static str,
        keys: Option<&[&'static str]>,
    ) -> DescribeConfigsResult {
        let resource =
            DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(name.into());
        let keys = keys.map(|keys| keys.iter().map(|key| (*key).into()).collect());
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource.with_configuration_keys(keys)])
            .with_include_synonyms(true)
            .with_include_documentation(version >= 3);
        let handled = fake.handle(&header(Api::DescribeConfigs, version), request.into());
        let ResponseKind::DescribeConfigs(response) = body(handled) else { panic!("another response") };
        response.results.into_iter().next().unwrap()
    }

    #[test]
    fn a_topic_s_settings_name_their_source_and_what_stands_behind() {
        let mut fake = Fake::with_settings(&[("log.retention.hours", "1")]);
        fake.create("t", 1);
        let ops = vec![ConfigOp::Set("retention.ms".into(), "9".into())];
        fake.apply(&Command::AlterTopicConfig { topic: "t".into(), ops });
        let result = ask(&mut fake, 4, TOPIC, "t", Some(&["retention.ms"]));
        assert_eq!((result.error_code, result.configs.len()), (0, 1));
        let config = &result.configs[0];
        assert_eq!((config.value.as_deref(), config.config_source, config.config_type), (Some("9"), 1, 5));
        assert!(!config.read_only && config.documentation.is_some());
        let synonyms: Vec<_> =
            config.synonyms.iter().map(|s| (&*s.name, s.value.as_deref().unwrap(), s.source)).collect();
        assert_eq!(
            synonyms,
            [
                ("retention.ms", "9", 1),
                ("log.retention.hours", "3600000", 4),
                ("log.retention.ms", "604800000", 5)
            ]
        );
    }

    #[test]
    fn null_and_no_keys_mean_all_and_unknown_ones_nothing() {
        let mut fake = Fake::with_topic("t", 1);
        let all = topic_configs().len();
        assert_eq!(ask(&mut fake, 1, TOPIC, "t", None).configs.len(), all);
        assert_eq!(ask(&mut fake, 1, TOPIC, "t", Some(&[])).configs.len(), all);
        assert_eq!(ask(&mut fake, 1, TOPIC, "t", Some(&["no.such"])).configs.len(), 0);
        assert!(
            ask(&mut fake, 1, TOPIC, "t", None).configs.iter().all(|config| config.documentation.is_none())
        );
    }

    #[test]
    fn a_broker_s_settings_show_what_was_set_while_it_runs() {
        let mut fake = Fake::with_settings(&[("log.retention.ms", "4")]);
        let ops = vec![ConfigOp::Set("log.retention.ms".into(), "5".into())];
        fake.apply(&Command::AlterBrokerConfig { broker: BrokerId::NONE, ops });
        let result = ask(&mut fake, 4, BROKER, "1", Some(&["log.retention.ms", "node.id"]));
        let found: Vec<_> = result
            .configs
            .iter()
            .map(|c| (&*c.name, c.value.as_deref(), c.config_source, c.read_only))
            .collect();
        assert_eq!(found[0], ("log.retention.ms", Some("5"), 3, false));
        assert!(found.iter().any(|(name, _, _, read_only)| *name == "node.id" && *read_only));
        let all = ask(&mut fake, 4, BROKER, "", None);
        assert_eq!((all.configs.len(), &*all.configs[0].name), (1, "log.retention.ms"));
    }

    #[test]
    fn an_answer_that_would_be_too_long_ends_in_refusals() {
        let mut fake = Fake::with_topic("t", 1);
        let all = topic_configs().len();
        let whole = MOST_SETTINGS.div_ceil(all);
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name("t".into())
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource; whole + 1]);
        let handled = fake.handle(&header(Api::DescribeConfigs, 4), request.into());
        let ResponseKind::DescribeConfigs(response) = body(handled) else { panic!("another response") };
        assert!(response.results[..whole].iter().all(|result| result.configs.len() == all));
        assert_eq!((response.results[whole].error_code, response.results[whole].configs.len()), (42, 0));
    }

    #[test]
    fn what_has_no_settings_is_refused() {
        let mut fake = Fake::with_topic("t", 1);
        for (kind, name, code) in [
            (TOPIC, "u", 3),
            (TOPIC, "a b", 17),
            (BROKER, "2", 42),
            (BROKER, "x", 42),
            (16, "m", 42),
            (0, "", 42),
        ] {
            assert_eq!(ask(&mut fake, 4, kind, name, None).error_code, code, "{kind} {name}");
        }
        let loggers = ask(&mut fake, 4, BROKER_LOGGER, "1", None);
        assert_eq!((loggers.error_code, loggers.configs.len()), (0, 0));
    }
}

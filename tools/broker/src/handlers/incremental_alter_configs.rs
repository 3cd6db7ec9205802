//! IncrementalAlterConfigs: settings of topics and brokers, one by one; a resource's all or none.

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::BrokerId;
use highwater_control::{Command, ConfigOp, apply, check_topic_name, topic_config};
use highwater_wire::ErrorCode;
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::Ctx;
use super::codec::outcome;
use super::describe_configs::{BROKER, TOPIC, broker_named, is_dynamic};
use super::gather::{Entry, Gather, Response, answer};
use crate::errors::Refusal;
use crate::pending::{Handled, Reply};

pub(super) fn handle(ctx: &mut dyn Ctx, request: IncrementalAlterConfigsRequest) -> Handled {
    let mut altered = Altered(IncrementalAlterConfigsResponse::default());
    let mut waiting = BTreeMap::new();
    let key = |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<_> =
        request.resources.iter().map(key).filter(|key| !seen.insert(key.clone())).collect();
    for (r, resource) in request.resources.iter().enumerate() {
        let entry = AlterConfigsResourceResponse::default().with_resource_type(resource.resource_type);
        altered.0.responses.push(entry.with_resource_name(resource.resource_name.clone()));
        let command = if twice.contains(&key(resource)) {
            invalid("Each resource must appear at most once.")
        } else {
            command(ctx, resource)
        };
        match command {
            Ok(command) if request.validate_only => {
                altered.enter(r, apply(ctx.image(), &command).map(drop).map_err(Refusal::from));
            }
            Ok(command) => {
                waiting.insert(ctx.control(command), (r, 0));
            }
            Err(refusal) => altered.enter(r, Err(refusal)),
        }
    }
    Gather::start(ctx, altered, waiting)
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

fn command(ctx: &dyn Ctx, resource: &AlterConfigsResource) -> Result<Command, Refusal> {
    let mut ops = Vec::with_capacity(resource.configs.len());
    let mut seen = BTreeSet::new();
    for config in &resource.configs {
        let (name, operation) = (&*config.name, config.config_operation);
        if !seen.insert(name) {
            return invalid(format!("Error due to duplicate config keys: {name}"));
        }
        if !(0..=3).contains(&operation) {
            return invalid(format!(
                "Unknown operation type {operation} for {name}: use 0 (set) to 3 (subtract)"
            ));
        }
        if resource.resource_type == TOPIC
            && operation == DELETE
            && !is_set_or_known(ctx, &resource.resource_name, name)
        {
            // Taking away what was never there is no error.
            continue;
        }
        match ConfigOp::from_kafka(operation, name, config.value.as_deref()) {
            Some(op) => ops.push(op),
            None => return invalid(format!("Null value not supported for : {name}")),
        }
    }
    match resource.resource_type {
        TOPIC => {
            check_topic_name(&resource.resource_name)?;
            Ok(Command::AlterTopicConfig { topic: resource.resource_name.to_string(), ops })
        }
        BROKER => {
            let broker = broker_named(ctx, &resource.resource_name)?.unwrap_or(BrokerId::NONE);
            let known = ctx.settings().describe_broker();
            let fixed = |op: &&ConfigOp| known.iter().any(|d| d.name == op.name()) && !is_dynamic(op.name());
            if let Some(op) = ops.iter().find(fixed) {
                return invalid(format!(
                    "Cannot update these configs dynamically: [{}]; set it where the broker is started",
                    op.name()
                ));
            }
            Ok(Command::AlterBrokerConfig { broker, ops })
        }
        other => invalid(format!("Unknown resource type {other}: use 2 for topics or 4 for brokers")),
    }
}

const DELETE: i8 = 1;

fn is_set_or_known(ctx: &dyn Ctx, topic: &str, name: &str) -> bool {
    topic_config(name).is_some()
        || ctx.image().topic(topic).is_some_and(|topic| topic.configs.contains_key(name))
}

struct Altered(IncrementalAlterConfigsResponse);

impl Altered {
    fn enter(&mut self, r: usize, result: Result<(), Refusal>) {
        let (code, message) = outcome(&result);
        self.0.responses[r].error_code = code;
        self.0.responses[r].error_message = message;
    }
}

impl Response for Altered {
    fn fill(&mut self, _: &dyn Ctx, (r, _): Entry, reply: Result<Reply, Refusal>) {
        self.enter(
            r,
            match reply {
                Ok(Reply::Control(result)) => result.map(drop).map_err(Refusal::from),
                Ok(_) => Err(Refusal::unexpected("IncrementalAlterConfigs")),
                Err(refusal) => Err(refusal),
            },
        );
    }

    fn finish(self: Box<Self>, _: &dyn Ctx) -> Handled {
        answer(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, body, header};
    use super::*;
    use highwater_wire::Api;
    use kafka_protocol::messages::ResponseKind;
    use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;

    type Op = (&'static str, i8, Option<&'static str>);

    fn resource(kind: i8, name: &'static str, ops: &[Op]) -> AlterConfigsResource {
        let config = |(name, op, value): &Op| {
            let config = AlterableConfig::default().with_name((*name).into()).with_config_operation(*op);
            config.with_value(value.map(Into::into))
        };
        let resource =
            AlterConfigsResource::default().with_resource_type(kind).with_resource_name(name.into());
        resource.with_configs(ops.iter().map(config).collect())
    }

    fn alter(fake: &mut Fake, resources: Vec<AlterConfigsResource>, validate_only: bool) -> Vec<i16> {
        let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
        let request = request.with_validate_only(validate_only);
        let handled = fake.handle(&header(Api::IncrementalAlterConfigs, 1), request.into());
        let ResponseKind::IncrementalAlterConfigs(response) = body(fake.settle(handled)) else {
            panic!("another response")
        };
        response.responses.iter().map(|entry| entry.error_code).collect()
    }

    #[test]
    fn set_append_subtract_and_delete_change_a_topic() {
        let mut fake = Fake::with_topic("t", 1);
        let throttled = "leader.replication.throttled.replicas";
        let steps: [(Op, Option<&str>); 4] = [
            ((throttled, 0, Some("0:1")), Some("0:1")),
            ((throttled, 2, Some("1:1,2:1")), Some("0:1,1:1,2:1")),
            ((throttled, 3, Some("1:1")), Some("0:1,2:1")),
            ((throttled, 1, None), None),
        ];
        for (op, expected) in steps {
            assert_eq!(alter(&mut fake, vec![resource(TOPIC, "t", &[op])], true), [0]);
            assert_eq!(alter(&mut fake, vec![resource(TOPIC, "t", &[op])], false), [0], "{op:?}");
            let topic = fake.image().topic("t").unwrap();
            assert_eq!(topic.configs.get(throttled).map(String::as_str), expected, "{op:?}");
        }
    }

    #[test]
    fn a_resource_is_changed_whole_or_not_at_all() {
        let mut fake = Fake::with_topic("t", 1);
        let ops: [Op; 2] = [("segment.ms", 0, Some("7")), ("retention.ms", 0, Some("soon"))];
        assert_eq!(alter(&mut fake, vec![resource(TOPIC, "t", &ops)], false), [40]);
        assert!(fake.image().topic("t").unwrap().configs.is_empty());
    }

    #[test]
    fn brokers_are_named_by_their_id_or_not_at_all_for_every_broker() {
        let mut fake = Fake::new();
        let op = [("log.retention.ms", 0, Some("5"))];
        let codes = alter(&mut fake, vec![resource(BROKER, "1", &op), resource(BROKER, "", &op)], false);
        assert_eq!(codes, [0, 0]);
        for broker in [BrokerId::new(1), BrokerId::NONE] {
            assert_eq!(fake.image().broker_configs(broker).unwrap()["log.retention.ms"], "5");
        }
        assert_eq!(
            alter(&mut fake, vec![resource(BROKER, "2", &op), resource(BROKER, "x", &op)], false),
            [42, 42]
        );
    }

    #[test]
    fn requests_that_contradict_themselves_are_refused() {
        let mut fake = Fake::with_topic("t", 1);
        let set = ("segment.ms", 0, Some("7"));
        let cases: [(AlterConfigsResource, i16); 11] = [
            (resource(TOPIC, "t", &[("segment.mss", 0, Some("7"))]), 40),
            (resource(TOPIC, "t", &[("segment.mss", 1, None)]), 0),
            (resource(TOPIC, "a b", &[set]), 17),
            (resource(BROKER, "1", &[("num.partitions", 0, Some("7"))]), 42),
            (resource(BROKER, "1", &[("log.retention.hours", 0, Some("7"))]), 42),
            (resource(TOPIC, "t", &[set, set]), 42),
            (resource(TOPIC, "t", &[("segment.ms", 0, None)]), 42),
            (resource(TOPIC, "t", &[("segment.ms", 4, Some("7"))]), 42),
            (resource(TOPIC, "t", &[("segment.ms", 2, Some("7"))]), 40),
            (resource(9, "t", &[set]), 42),
            (resource(TOPIC, "u", &[set]), 3),
        ];
        for (resource, code) in cases {
            assert_eq!(alter(&mut fake, vec![resource.clone()], false), [code], "{resource:?}");
        }
        assert_eq!(
            alter(&mut fake, vec![resource(TOPIC, "t", &[set]), resource(TOPIC, "t", &[set])], false),
            [42, 42]
        );
    }
}

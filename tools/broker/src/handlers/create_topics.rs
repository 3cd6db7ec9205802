//! CreateTopics: each topic whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::PartitionIndex;
use highwater_control::{
    Applied, Command, Configs, MAX_PARTITIONS_PER_COMMAND, NewTopic, Topic, apply, resolve_topic_config,
    topic_configs,
};
use highwater_wire::ErrorCode;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use super::Ctx;
use super::codec::{from_broker_ids, text, uuid};
use super::gather::{Entry, Gather, Response, answer};
use super::lookup::deadline;
use crate::errors::Refusal;
use crate::pending::{Handled, Reply};

pub(super) fn handle(ctx: &mut dyn Ctx, version: i16, request: CreateTopicsRequest) -> Handled {
    let mut created = Created { version, response: CreateTopicsResponse::default() };
    let mut waiting = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<_> = request
        .topics
        .iter()
        .filter(|topic| !seen.insert(&topic.name))
        .map(|topic| topic.name.clone())
        .collect();
    let mut answered = BTreeSet::new();
    let too_many = too_many(ctx, &request);
    for topic in request.topics {
        let repeated = twice.contains(&topic.name);
        if repeated && !answered.insert(topic.name.clone()) {
            continue;
        }
        let t = created.response.topics.len();
        let entry = CreatableTopicResult::default().with_name(topic.name.clone());
        created.response.topics.push(entry.with_error_message(None));
        let new = if repeated {
            Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else if let Some(refusal) = &too_many {
            Err(refusal.clone())
        } else {
            new_topic(ctx, &topic)
        };
        match new {
            Ok(new) if request.validate_only => match apply(ctx.image(), &Command::CreateTopic(new)) {
                Ok((_, applied)) => created.enter(ctx, t, &applied),
                Err(error) => created.refuse(t, error.into()),
            },
            Ok(new) => {
                waiting.insert(ctx.control(Command::CreateTopic(new)), (t, 0));
            }
            Err(refusal) => created.refuse(t, refusal),
        }
    }
    if !waiting.is_empty() {
        let deadline = deadline(ctx, request.timeout_ms);
        ctx.set_deadline(deadline);
    }
    Gather::start(ctx, created, waiting)
}

/// A request that asks for more partitions than may be made at once is refused whole.
fn too_many(ctx: &dyn Ctx, request: &CreateTopicsRequest) -> Option<Refusal> {
    let partitions = |topic: &CreatableTopic| match topic.num_partitions {
        -1 if topic.assignments.is_empty() => i64::from(ctx.settings().default_partitions()),
        -1 => topic.assignments.len() as i64,
        count => i64::from(count.max(0)),
    };
    let total: i64 = request.topics.iter().map(partitions).sum();
    (total > i64::from(MAX_PARTITIONS_PER_COMMAND)).then(|| {
        let message = format!(
            "Excessively large number of partitions per request: {total}; at most {MAX_PARTITIONS_PER_COMMAND} are made at once."
        );
        Refusal::new(ErrorCode::PolicyViolation, message)
    })
}

/// What the request asks for, with this broker's defaults beside it.
fn new_topic(ctx: &mut dyn Ctx, topic: &CreatableTopic) -> Result<NewTopic, Refusal> {
    if &*topic.name == "__cluster_metadata" {
        let message = "Creation of internal topic __cluster_metadata is prohibited.";
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let mut configs = Configs::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!("Null value not supported for topic configs: {}", &*config.name);
            return Err(Refusal::new(ErrorCode::InvalidConfig, message));
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    let mut assignments = Vec::with_capacity(topic.assignments.len());
    for assignment in &topic.assignments {
        assignments
            .push((PartitionIndex::new(assignment.partition_index), from_broker_ids(&assignment.broker_ids)));
    }
    Ok(NewTopic {
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments,
        configs,
        ..named(ctx, &topic.name)
    })
}

/// A topic of this name with this broker's defaults for everything.
pub(super) fn named(ctx: &mut dyn Ctx, name: &str) -> NewTopic {
    let id = ctx.new_topic_id();
    let settings = ctx.settings();
    NewTopic {
        default_partitions: settings.default_partitions(),
        default_replication_factor: i16::try_from(settings.default_replication_factor()).unwrap_or(i16::MAX),
        ..NewTopic::named(name, id)
    }
}

struct Created {
    version: i16,
    response: CreateTopicsResponse,
}

impl Created {
    fn enter(&mut self, ctx: &dyn Ctx, t: usize, applied: &Applied) {
        let Applied::TopicCreated(topic) = applied else {
            return self.refuse(t, Refusal::unexpected("CreateTopics"));
        };
        let entry = &mut self.response.topics[t];
        if self.version >= 7 {
            entry.topic_id = uuid(topic.id);
        }
        if self.version >= 5 {
            entry.num_partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            entry.replication_factor = topic.replication_factor();
            entry.configs = Some(configs(ctx, topic));
        }
    }

    fn refuse(&mut self, t: usize, refusal: Refusal) {
        let entry = &mut self.response.topics[t];
        entry.error_code = refusal.code.code();
        entry.error_message = refusal.message.map(text);
    }
}

/// Every setting of a new topic, as it holds. (A topic that is only validated is in no image: its own settings
/// are laid over what holds for topics without any.)
fn configs(ctx: &dyn Ctx, topic: &Topic) -> Vec<CreatableTopicConfigs> {
    let describe = |definition| {
        let resolved = resolve_topic_config(ctx.image(), ctx.settings().topic_defaults(), None, definition);
        let own = topic.configs.get(definition.name);
        let source = if own.is_some() { 1 } else { resolved.source.kafka_code() };
        let described =
            CreatableTopicConfigs::default().with_name(text(definition.name)).with_config_source(source);
        described.with_value(Some(text(own.cloned().unwrap_or(resolved.value))))
    };
    topic_configs().iter().map(describe).collect()
}

impl Response for Created {
    fn fill(&mut self, ctx: &dyn Ctx, (t, _): Entry, reply: Result<Reply, Refusal>) {
        match reply {
            Ok(Reply::Control(Ok(applied))) => self.enter(ctx, t, &applied),
            Ok(Reply::Control(Err(error))) => self.refuse(t, error.into()),
            Ok(_) => self.refuse(t, Refusal::unexpected("CreateTopics")),
            Err(refusal) => self.refuse(t, refusal),
        }
    }

    fn finish(self: Box<Self>, _: &dyn Ctx) -> Handled {
        answer(self.response)
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::topic_name;
    use super::super::fake::{Fake, body, header};
    use super::*;
    use highwater_wire::Api;
    use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
    use kafka_protocol::messages::{BrokerId, ResponseKind};

    fn topic(name: &str) -> CreatableTopic {
        CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
    }

    fn create(
        fake: &mut Fake,
        topics: Vec<CreatableTopic>,
        validate_only: bool,
    ) -> Vec<CreatableTopicResult> {
        let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(1000);
        let handled =
            fake.handle(&header(Api::CreateTopics, 7), request.with_validate_only(validate_only).into());
        let ResponseKind::CreateTopics(response) = body(fake.settle(handled)) else {
            panic!("another response")
        };
        response.topics
    }

    fn config(name: &'static str, value: Option<&'static str>) -> CreatableTopicConfig {
        CreatableTopicConfig::default().with_name(name.into()).with_value(value.map(Into::into))
    }

    #[test]
    fn minus_one_is_what_the_broker_says_and_settings_are_told_with_their_source() {
        let mut fake = Fake::with_settings(&[("num.partitions", "3"), ("log.retention.hours", "1")]);
        let asked = topic("t").with_configs(vec![config("segment.ms", Some("7"))]);
        let results = create(&mut fake, vec![asked], false);
        let created = &results[0];
        assert_eq!((created.error_code, created.num_partitions, created.replication_factor), (0, 3, 1));
        assert_eq!(created.topic_id, uuid(fake.image().topic("t").unwrap().id));
        let configs = created.configs.as_ref().unwrap();
        let found = |name: &str| {
            let config = configs.iter().find(|config| &*config.name == name).unwrap();
            (config.value.as_deref().unwrap().to_owned(), config.config_source)
        };
        assert_eq!(found("segment.ms"), ("7".into(), 1));
        assert_eq!(found("retention.ms"), ("3600000".into(), 4));
        assert_eq!(found("max.message.bytes"), ("1048588".into(), 5));
    }

    #[test]
    fn what_is_only_validated_is_not_there_afterwards() {
        let mut fake = Fake::new();
        let results = create(&mut fake, vec![topic("t").with_num_partitions(4), topic("a b")], true);
        assert_eq!((results[0].error_code, results[0].num_partitions), (0, 4));
        assert_eq!(results[1].error_code, 17);
        assert_eq!(fake.image().topic_count(), 0);
    }

    #[test]
    fn each_topic_is_refused_by_itself_with_a_message() {
        let mut fake = Fake::with_topic("there", 1);
        let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
        let topics = vec![
            topic("there"),
            topic("d"),
            topic("d"),
            topic("p").with_num_partitions(0),
            topic("r").with_replication_factor(2),
            topic("c").with_configs(vec![config("cleanup.policy", Some("shrink"))]),
            topic("n").with_configs(vec![config("segment.ms", None)]),
            topic("u").with_configs(vec![config("segment.mss", Some("1"))]),
            topic("m").with_assignments(vec![assignment.clone()]).with_num_partitions(2),
            topic("__cluster_metadata"),
            topic("good").with_assignments(vec![assignment]),
        ];
        let results = create(&mut fake, topics, false);
        let codes: Vec<_> = results.iter().map(|r| (r.name.to_string(), r.error_code)).collect();
        let expected = [
            ("there", 36),
            ("d", 42),
            ("p", 37),
            ("r", 38),
            ("c", 40),
            ("n", 40),
            ("u", 40),
            ("m", 42),
            ("__cluster_metadata", 42),
            ("good", 0),
        ];
        assert_eq!(codes, expected.map(|(name, code)| (name.to_owned(), code)));
        assert!(results.iter().all(|r| (r.error_code == 0) == r.error_message.is_none()));
        let hint = results[6].error_message.as_deref().unwrap();
        assert!(hint.contains("segment.ms?"), "{hint}");
    }

    #[test]
    fn more_partitions_than_may_be_made_at_once_are_refused_whole() {
        let mut fake = Fake::new();
        let topics = vec![topic("a").with_num_partitions(5000), topic("b").with_num_partitions(5001)];
        let results = create(&mut fake, topics, false);
        assert_eq!(results.iter().map(|result| result.error_code).collect::<Vec<_>>(), [44, 44]);
        assert_eq!(fake.image().topic_count(), 0);
    }

    #[test]
    fn a_deadline_that_passes_first_is_said() {
        let mut fake = Fake::new();
        let request = CreateTopicsRequest::default().with_topics(vec![topic("t")]).with_timeout_ms(50);
        let handled = fake.handle(&header(Api::CreateTopics, 4), request.into());
        assert_eq!(fake.deadline_ms(), Some(50));
        let ResponseKind::CreateTopics(response) = body(fake.expire(handled)) else {
            panic!("another response")
        };
        assert_eq!(response.topics[0].error_code, 7);
    }
}

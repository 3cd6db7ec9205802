//! Metadata: brokers, topics and partitions; topics that are asked for and are not there may be created.

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::{BrokerId, PartitionIndex, Uuid};
use highwater_control::{Command, ControlError, PartitionState, Topic, check_topic_name, is_internal};
use highwater_wire::ErrorCode;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};

use super::Ctx;
use super::codec::{
    CLUSTER_OPERATIONS, TOPIC_OPERATIONS, broker_id, broker_ids, from_uuid, text, topic_name, uuid,
};
use super::create_topics::named;
use super::gather::{Entry, Gather, Response, answer};
use super::lookup::serving_brokers;
use crate::errors::Refusal;
use crate::pending::{Handled, Reply};

/// Topics that one request creates at most. Those beyond are told to be retried, and are made then.
const CREATED_AT_ONCE: usize = 64;

pub(super) fn handle(ctx: &mut dyn Ctx, version: i16, request: MetadataRequest) -> Handled {
    let mut asked = Asked {
        version,
        topics: Wanted::of(version, &request),
        cluster_operations: request.include_cluster_authorized_operations,
        topic_operations: request.include_topic_authorized_operations,
        refused: BTreeMap::new(),
        creating: Vec::new(),
    };
    let may_create =
        (version < 4 || request.allow_auto_topic_creation) && ctx.settings().auto_create_topics();
    let mut waiting = BTreeMap::new();
    if may_create && let Wanted::Names(names) = &asked.topics {
        for name in names {
            // Topics of the broker's own are made by those that use them.
            if ctx.image().topic(name).is_some() || is_internal(name) || check_topic_name(name).is_err() {
                continue;
            }
            if asked.creating.len() == CREATED_AT_ONCE {
                asked.refused.insert(name.clone(), ErrorCode::LeaderNotAvailable);
            } else {
                let new = named(ctx, name);
                waiting.insert(ctx.control(Command::CreateTopic(new)), (asked.creating.len(), 0));
                asked.creating.push(name.clone());
            }
        }
    }
    Gather::start(ctx, asked, waiting)
}

/// Which topics a request asks for.
enum Wanted {
    All,
    Names(BTreeSet<String>),
    Ids(BTreeSet<Uuid>),
    /// It names topics in a way that its version has not: nothing is looked up.
    Malformed(Vec<String>),
}

impl Wanted {
    fn of(version: i16, request: &MetadataRequest) -> Wanted {
        let Some(topics) = &request.topics else { return Wanted::All };
        if topics.is_empty() && version == 0 {
            return Wanted::All;
        }
        let name = |name: &Option<_>| {
            name.as_ref().map(|name: &kafka_protocol::messages::TopicName| name.to_string())
        };
        let by_id = topics.iter().any(|topic| !topic.topic_id.is_nil());
        let unnamed = topics.iter().any(|topic| topic.name.is_none());
        let new_only = by_id || unnamed;
        if (new_only && version < 12) || (unnamed && !by_id) {
            return Wanted::Malformed(
                topics.iter().map(|topic| name(&topic.name).unwrap_or_default()).collect(),
            );
        }
        if by_id {
            return Wanted::Ids(topics.iter().map(|topic| from_uuid(topic.topic_id)).collect());
        }
        Wanted::Names(topics.iter().filter_map(|topic| name(&topic.name)).collect())
    }
}

struct Asked {
    version: i16,
    topics: Wanted,
    cluster_operations: bool,
    topic_operations: bool,
    /// Topics that could not be created, and why.
    refused: BTreeMap<String, ErrorCode>,
    /// Topics that are being created, in the order of the commands.
    creating: Vec<String>,
}

impl Response for Asked {
    fn fill(&mut self, _: &dyn Ctx, (at, _): Entry, reply: Result<Reply, Refusal>) {
        let code = match reply {
            // Somebody else may have made it meanwhile.
            Ok(Reply::Control(Ok(_) | Err(ControlError::TopicExists { .. }))) => return,
            Ok(Reply::Control(Err(error))) => Refusal::from(error).code,
            Ok(_) => ErrorCode::UnknownServerError,
            Err(refusal) => refusal.code,
        };
        self.refused.insert(self.creating[at].clone(), code);
    }

    fn finish(self: Box<Self>, ctx: &dyn Ctx) -> Handled {
        let mut response = MetadataResponse::default()
            .with_cluster_id(Some(text(&*ctx.node().cluster_id)))
            .with_controller_id(broker_id(ctx.node().id));
        for broker in serving_brokers(ctx) {
            let entry = MetadataResponseBroker::default().with_node_id(broker_id(broker.id));
            let entry = entry.with_host(text(&*broker.host)).with_port(broker.port.into());
            response.brokers.push(entry.with_rack(broker.rack.clone().map(text)));
        }
        response.topics = match &self.topics {
            Wanted::All => ctx.image().topics().map(|topic| self.describe(ctx, topic)).collect(),
            Wanted::Names(names) => names.iter().map(|name| self.by_name(ctx, name)).collect(),
            Wanted::Ids(ids) => ids.iter().map(|id| self.by_id(ctx, *id)).collect(),
            Wanted::Malformed(names) => {
                let entry =
                    |name: &String| failed(ErrorCode::InvalidRequest).with_name(Some(topic_name(name)));
                names.iter().map(entry).collect()
            }
        };
        if (8..=10).contains(&self.version) && self.cluster_operations {
            response.cluster_authorized_operations = CLUSTER_OPERATIONS;
        }
        answer(response)
    }
}

fn failed(code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(code.code())
}

impl Asked {
    fn by_name(&self, ctx: &dyn Ctx, name: &str) -> MetadataResponseTopic {
        if let Some(topic) = ctx.image().topic(name) {
            return self.describe(ctx, topic);
        }
        let code = match (self.refused.get(name), check_topic_name(name)) {
            (Some(code), _) => *code,
            (None, Err(error)) => Refusal::from(error).code,
            (None, Ok(())) => ErrorCode::UnknownTopicOrPartition,
        };
        failed(code).with_name(Some(topic_name(name))).with_is_internal(is_internal(name))
    }

    fn by_id(&self, ctx: &dyn Ctx, id: Uuid) -> MetadataResponseTopic {
        match ctx.image().topic_by_id(id) {
            Some(topic) => self.describe(ctx, topic),
            None => failed(ErrorCode::UnknownTopicId).with_name(None).with_topic_id(uuid(id)),
        }
    }

    fn describe(&self, ctx: &dyn Ctx, topic: &Topic) -> MetadataResponseTopic {
        let partitions = (0..).zip(&topic.partitions).map(|(index, state)| self.partition(ctx, index, state));
        let mut entry = MetadataResponseTopic::default()
            .with_name(Some(topic_name(&topic.name)))
            .with_topic_id(uuid(topic.id))
            .with_is_internal(is_internal(&topic.name))
            .with_partitions(partitions.collect());
        if self.version >= 8 && self.topic_operations {
            entry.topic_authorized_operations = TOPIC_OPERATIONS;
        }
        entry
    }

    fn partition(&self, ctx: &dyn Ctx, index: i32, state: &PartitionState) -> MetadataResponsePartition {
        let serves = |id: BrokerId| serving_brokers(ctx).any(|broker| broker.id == id);
        let offline: Vec<BrokerId> = state.replicas.iter().copied().filter(|id| !serves(*id)).collect();
        let (code, leader) = if serves(state.leader) {
            (ErrorCode::None, state.leader)
        } else {
            (ErrorCode::LeaderNotAvailable, BrokerId::NONE)
        };
        let index = PartitionIndex::new(index);
        let mut entry = MetadataResponsePartition::default()
            .with_error_code(code.code())
            .with_partition_index(index.get())
            .with_leader_id(broker_id(leader))
            .with_replica_nodes(broker_ids(&state.replicas))
            .with_isr_nodes(broker_ids(&state.isr));
        if self.version >= 5 {
            entry.offline_replicas = broker_ids(&offline);
        }
        if self.version >= 7 {
            entry.leader_epoch = state.leader_epoch.get();
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, body, header};
    use super::*;
    use highwater_wire::{Api, encode_response};
    use kafka_protocol::messages::ResponseKind;
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;

    fn names(names: &[&str]) -> MetadataRequest {
        let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        MetadataRequest::default().with_topics(Some(names.iter().map(topic).collect()))
    }

    fn ask(fake: &mut Fake, version: i16, request: MetadataRequest) -> MetadataResponse {
        let header = header(Api::Metadata, version);
        let handled = fake.handle(&header, request.into());
        let body = body(fake.settle(handled));
        encode_response(&header, &body).unwrap();
        let ResponseKind::Metadata(response) = body else { panic!("another response") };
        response
    }

    fn codes(response: &MetadataResponse) -> Vec<(&str, i16)> {
        response
            .topics
            .iter()
            .map(|t| (t.name.as_ref().map_or("", |name| name.0.as_str()), t.error_code))
            .collect()
    }

    #[test]
    fn every_version_names_a_controller_that_is_a_broker_of_the_answer() {
        let mut fake = Fake::with_topic("t", 3);
        for version in 0..=13 {
            let response = ask(&mut fake, version, names(&["t"]));
            assert_eq!(response.brokers.len(), 1);
            assert_eq!(response.controller_id, response.brokers[0].node_id);
            assert_eq!((&*response.brokers[0].host, response.brokers[0].port), ("here", 9092));
            let topic = &response.topics[0];
            assert!(!topic.topic_id.is_nil() && topic.partitions.len() == 3);
            assert!(
                topic
                    .partitions
                    .iter()
                    .all(|p| p.error_code == 0 && p.leader_id.0 == 1 && p.isr_nodes.len() == 1)
            );
        }
    }

    #[test]
    fn no_topics_mean_all_in_version_0_and_none_later_and_null_means_all() {
        let mut fake = Fake::with_topic("t", 1);
        assert_eq!(ask(&mut fake, 0, names(&[])).topics.len(), 1);
        assert_eq!(ask(&mut fake, 1, names(&[])).topics.len(), 0);
        assert_eq!(ask(&mut fake, 1, MetadataRequest::default().with_topics(None)).topics.len(), 1);
    }

    #[test]
    fn a_topic_is_created_only_where_request_and_broker_allow_it() {
        let mut fake = Fake::new();
        let response = ask(&mut fake, 4, names(&["t"]).with_allow_auto_topic_creation(false));
        assert_eq!(codes(&response), [("t", 3)]);
        let response = ask(
            &mut fake,
            4,
            names(&["t", "a b", "__consumer_offsets"]).with_allow_auto_topic_creation(true),
        );
        assert_eq!(codes(&response), [("__consumer_offsets", 3), ("a b", 17), ("t", 0)]);
        assert_eq!(response.topics[2].partitions.len(), 1);
        assert_eq!(
            codes(&ask(&mut fake, 3, names(&["u"]))),
            [("u", 0)],
            "before version 4 nobody can forbid it"
        );

        let mut strict = Fake::with_settings(&[("auto.create.topics.enable", "false")]);
        assert_eq!(codes(&ask(&mut strict, 3, names(&["t"]))), [("t", 3)]);
        let mut poor = Fake::with_settings(&[("default.replication.factor", "3")]);
        assert_eq!(codes(&ask(&mut poor, 3, names(&["t"]))), [("t", 38)]);
    }

    #[test]
    fn many_new_topics_are_created_over_several_requests() {
        let mut fake = Fake::new();
        let many: Vec<String> = (0..100).map(|i| format!("t{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let later = |fake: &mut Fake| {
            let response = ask(fake, 3, names(&many));
            response.topics.iter().filter(|topic| topic.error_code == 5).count()
        };
        assert_eq!((later(&mut fake), later(&mut fake)), (100 - CREATED_AT_ONCE, 0));
        assert_eq!(fake.image().topic_count(), 100);
    }

    #[test]
    fn ids_are_looked_up_from_version_12_on() {
        let mut fake = Fake::with_topic("t", 1);
        let id = uuid(fake.image().topic("t").unwrap().id);
        let by = |id| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        let ask_ids = |fake: &mut Fake, version| {
            let topics = vec![by(id), by(uuid(Uuid::from_halves(8, 8)))];
            let response = ask(fake, version, MetadataRequest::default().with_topics(Some(topics)));
            let mut codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
            codes.sort_unstable();
            codes
        };
        assert_eq!(ask_ids(&mut fake, 12), [0, 100]);
        assert_eq!(ask_ids(&mut fake, 11), [42, 42]);
        assert_eq!(ask_ids(&mut fake, 10), [42, 42]);
        let neither = MetadataRequest::default().with_topics(Some(vec![by(uuid(Uuid::ZERO))]));
        assert_eq!(ask(&mut fake, 12, neither).topics[0].error_code, 42);
    }

    #[test]
    fn operations_are_told_only_when_asked_for() {
        let mut fake = Fake::with_topic("t", 1);
        let asked = names(&["t"])
            .with_include_cluster_authorized_operations(true)
            .with_include_topic_authorized_operations(true);
        let response = ask(&mut fake, 8, asked);
        assert_eq!(response.cluster_authorized_operations, CLUSTER_OPERATIONS);
        assert_eq!(response.topics[0].topic_authorized_operations, TOPIC_OPERATIONS);
        let response = ask(&mut fake, 8, names(&["t"]));
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
        assert_eq!(response.topics[0].topic_authorized_operations, i32::MIN);
    }
}

//! CreatePartitions: a topic's partitions only grow.

use std::collections::{BTreeMap, BTreeSet};

use highwater_control::{Command, apply};
use highwater_wire::ErrorCode;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::Ctx;
use super::codec::{from_broker_ids, outcome};
use super::gather::{Entry, Gather, Response, answer};
use super::lookup::deadline;
use crate::errors::Refusal;
use crate::pending::{Handled, Reply};

pub(super) fn handle(ctx: &mut dyn Ctx, request: CreatePartitionsRequest) -> Handled {
    let mut grown = Grown(CreatePartitionsResponse::default());
    let mut waiting = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<_> = request
        .topics
        .iter()
        .filter(|topic| !seen.insert(&topic.name))
        .map(|topic| topic.name.clone())
        .collect();
    let mut answered = BTreeSet::new();
    for topic in request.topics {
        let repeated = twice.contains(&topic.name);
        if repeated && !answered.insert(topic.name.clone()) {
            continue;
        }
        let t = grown.0.results.len();
        grown.0.results.push(CreatePartitionsTopicResult::default().with_name(topic.name.clone()));
        if repeated {
            grown.enter(t, Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.")));
            continue;
        }
        let assignments =
            topic.assignments.map(|all| all.iter().map(|one| from_broker_ids(&one.broker_ids)).collect());
        let command =
            Command::CreatePartitions { topic: topic.name.to_string(), total: topic.count, assignments };
        if request.validate_only {
            grown.enter(t, apply(ctx.image(), &command).map(drop).map_err(Refusal::from));
        } else {
            waiting.insert(ctx.control(command), (t, 0));
        }
    }
    if !waiting.is_empty() {
        let deadline = deadline(ctx, request.timeout_ms);
        ctx.set_deadline(deadline);
    }
    Gather::start(ctx, grown, waiting)
}

struct Grown(CreatePartitionsResponse);

impl Grown {
    fn enter(&mut self, t: usize, result: Result<(), Refusal>) {
        let (code, message) = outcome(&result);
        self.0.results[t].error_code = code;
        self.0.results[t].error_message = message;
    }
}

impl Response for Grown {
    fn fill(&mut self, _: &dyn Ctx, (t, _): Entry, reply: Result<Reply, Refusal>) {
        self.enter(
            t,
            match reply {
                Ok(Reply::Control(result)) => result.map(drop).map_err(Refusal::from),
                Ok(_) => Err(Refusal::unexpected("CreatePartitions")),
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
    use super::super::codec::topic_name;
    use super::super::fake::{Fake, body, header};
    use super::*;
    use highwater_wire::Api;
    use kafka_protocol::messages::ResponseKind;
    use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;

    fn grow(
        fake: &mut Fake,
        topics: &[(&str, i32)],
        validate_only: bool,
    ) -> Vec<CreatePartitionsTopicResult> {
        let topic = |(name, count): &(&str, i32)| {
            CreatePartitionsTopic::default()
                .with_name(topic_name(name))
                .with_count(*count)
                .with_assignments(None)
        };
        let request = CreatePartitionsRequest::default().with_topics(topics.iter().map(topic).collect());
        let request = request.with_timeout_ms(1000).with_validate_only(validate_only);
        let handled = fake.handle(&header(Api::CreatePartitions, 3), request.into());
        let ResponseKind::CreatePartitions(response) = body(fake.settle(handled)) else {
            panic!("another response")
        };
        response.results
    }

    #[test]
    fn a_shrink_is_refused_with_both_numbers() {
        let mut fake = Fake::with_topic("t", 5);
        let results = grow(&mut fake, &[("t", 3)], false);
        assert_eq!(results[0].error_code, 37);
        let message = results[0].error_message.as_deref().unwrap();
        assert!(message.contains('5') && message.contains('3'), "{message}");
        assert_eq!(grow(&mut fake, &[("t", 5)], false)[0].error_code, 37);
        assert_eq!(fake.image().topic("t").unwrap().partitions.len(), 5);
    }

    #[test]
    fn partitions_grow_unless_only_validated() {
        let mut fake = Fake::with_topic("t", 1);
        assert_eq!(grow(&mut fake, &[("t", 3)], true)[0].error_code, 0);
        assert_eq!(fake.image().topic("t").unwrap().partitions.len(), 1);
        let results = grow(&mut fake, &[("t", 3), ("u", 2), ("u", 3)], false);
        let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 42]);
        assert_eq!(fake.image().topic("t").unwrap().partitions.len(), 3);
        assert_eq!(grow(&mut fake, &[("u", 2)], false)[0].error_code, 3);
    }
}

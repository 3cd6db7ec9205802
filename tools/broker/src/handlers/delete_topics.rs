//! DeleteTopics: by name, or by id from version 6 on.

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::Uuid;
use highwater_control::{Applied, Command, TopicRef};
use highwater_wire::ErrorCode;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::Ctx;
use super::codec::{from_uuid, text, topic_name, uuid};
use super::gather::{Entry, Gather, Response, answer};
use super::lookup::deadline;
use crate::errors::Refusal;
use crate::pending::{Handled, Reply};

pub(super) fn handle(ctx: &mut dyn Ctx, version: i16, request: DeleteTopicsRequest) -> Handled {
    let named = |name| DeleteTopicState::default().with_name(Some(name));
    let topics = if version >= 6 {
        request.topics
    } else {
        request.topic_names.into_iter().map(named).collect::<Vec<_>>()
    };
    let mut deleted = Deleted { version, response: DeleteTopicsResponse::default() };
    let mut waiting = BTreeMap::new();
    let mut named = BTreeMap::new();
    for id in topics.iter().filter_map(|topic| known(ctx, topic)) {
        *named.entry(id).or_insert(0) += 1;
    }
    let mut repeated: BTreeSet<Uuid> =
        named.into_iter().filter(|(_, times)| *times > 1).map(|(id, _)| id).collect();
    let twice = repeated.clone();
    for topic in topics {
        let id = known(ctx, &topic);
        if id.is_some_and(|id| twice.contains(&id) && !repeated.remove(&id)) {
            // Its one answer is there already.
            continue;
        }
        let t = deleted.response.responses.len();
        let entry =
            DeletableTopicResult::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        deleted.response.responses.push(entry);
        let repeated = id.is_some_and(|id| twice.contains(&id));
        match reference(ctx, version, &topic, repeated) {
            Ok(reference) => {
                waiting.insert(ctx.control(Command::DeleteTopic(reference)), (t, 0));
            }
            Err(refusal) => deleted.refuse(t, refusal),
        }
    }
    if !waiting.is_empty() {
        let deadline = deadline(ctx, request.timeout_ms);
        ctx.set_deadline(deadline);
    }
    Gather::start(ctx, deleted, waiting)
}

/// The id of a topic that is named, if there is one.
fn known(ctx: &dyn Ctx, topic: &DeleteTopicState) -> Option<Uuid> {
    let id = from_uuid(topic.topic_id);
    let known = match &topic.name {
        Some(name) => ctx.image().topic(name),
        None => ctx.image().topic_by_id(id),
    };
    known.map(|topic| topic.id)
}

fn reference(
    ctx: &dyn Ctx,
    version: i16,
    topic: &DeleteTopicState,
    repeated: bool,
) -> Result<TopicRef, Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    if !ctx.settings().delete_topics() {
        // Version 3 brought the code for it.
        let code = if version < 3 { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
        return Err(Refusal::new(code, "Topic deletion is disabled: delete.topic.enable is false."));
    }
    match (&topic.name, from_uuid(topic.topic_id)) {
        (Some(_), id) if id != Uuid::ZERO => invalid("You may not specify both topic name and topic id."),
        (None, Uuid::ZERO) => invalid("Neither topic name nor id were specified."),
        _ if repeated => invalid("Duplicate topic name or id."),
        (Some(name), _) => Ok(TopicRef::Name(name.to_string())),
        (None, id) => Ok(TopicRef::Id(id)),
    }
}

struct Deleted {
    version: i16,
    response: DeleteTopicsResponse,
}

impl Deleted {
    fn refuse(&mut self, t: usize, refusal: Refusal) {
        let entry = &mut self.response.responses[t];
        entry.error_code = refusal.code.code();
        if self.version >= 5 {
            entry.error_message = refusal.message.map(text);
        }
    }
}

impl Response for Deleted {
    fn fill(&mut self, _: &dyn Ctx, (t, _): Entry, reply: Result<Reply, Refusal>) {
        match reply {
            Ok(Reply::Control(Ok(applied))) => {
                if let Applied::TopicDeleted(topic) = applied
                    && self.version >= 6
                {
                    let entry = &mut self.response.responses[t];
                    entry.name = Some(topic_name(&topic.name));
                    entry.topic_id = uuid(topic.id);
                }
            }
            Ok(Reply::Control(Err(error))) => self.refuse(t, error.into()),
            Ok(_) => self.refuse(t, Refusal::unexpected("DeleteTopics")),
            Err(refusal) => self.refuse(t, refusal),
        }
    }

    fn finish(self: Box<Self>, _: &dyn Ctx) -> Handled {
        answer(self.response)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, body, header};
    use super::*;
    use highwater_wire::Api;
    use kafka_protocol::messages::ResponseKind;

    fn delete(fake: &mut Fake, version: i16, request: DeleteTopicsRequest) -> Vec<DeletableTopicResult> {
        let handled = fake.handle(&header(Api::DeleteTopics, version), request.with_timeout_ms(1000).into());
        let ResponseKind::DeleteTopics(response) = body(fake.settle(handled)) else {
            panic!("another response")
        };
        response.responses
    }

    fn by_name(names: &[&str]) -> DeleteTopicsRequest {
        DeleteTopicsRequest::default().with_topic_names(names.iter().map(|name| topic_name(name)).collect())
    }

    #[test]
    fn a_topic_goes_once_and_is_unknown_afterwards() {
        let mut fake = Fake::with_topic("t", 1);
        let codes =
            |results: Vec<DeletableTopicResult>| results.iter().map(|r| r.error_code).collect::<Vec<_>>();
        assert_eq!(codes(delete(&mut fake, 1, by_name(&["t", "t", "u"]))), [42, 3]);
        assert!(fake.image().topic("t").is_some(), "who says it twice may have meant another");
        assert_eq!(codes(delete(&mut fake, 1, by_name(&["t"]))), [0]);
        assert!(fake.image().topic("t").is_none());
        assert_eq!(codes(delete(&mut fake, 5, by_name(&["t"]))), [3]);
    }

    #[test]
    fn an_id_names_a_topic_and_both_or_neither_are_refused() {
        let mut fake = Fake::with_topic("t", 1);
        let id = uuid(fake.image().topic("t").unwrap().id);
        let state = DeleteTopicState::default().with_name(None);
        let topics = vec![
            state.clone(),
            state.clone().with_name(Some(topic_name("t"))).with_topic_id(id),
            state.clone().with_topic_id(uuid(Uuid::from_halves(5, 5))),
        ];
        let results = delete(&mut fake, 6, DeleteTopicsRequest::default().with_topics(topics));
        assert_eq!(results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [42, 42, 100]);
        let topics = vec![state.with_topic_id(id)];
        let results = delete(&mut fake, 6, DeleteTopicsRequest::default().with_topics(topics));
        assert_eq!((results[0].error_code, results[0].topic_id), (0, id));
        assert_eq!(results[0].name.as_ref().map(|name| &***name), Some("t"));
    }

    #[test]
    fn nothing_is_deleted_where_deletion_is_disabled() {
        let mut fake = Fake::with_settings(&[("delete.topic.enable", "false")]);
        fake.create("t", 1);
        assert_eq!(delete(&mut fake, 2, by_name(&["t"]))[0].error_code, 42);
        assert_eq!(delete(&mut fake, 4, by_name(&["t"]))[0].error_code, 73);
        assert!(fake.image().topic("t").is_some());
    }
}

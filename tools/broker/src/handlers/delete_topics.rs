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
    let mut seen = BTreeSet::new();
    for (t, topic) in topics.into_iter().enumerate() {
        let entry =
            DeletableTopicResult::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        deleted.response.responses.push(entry);
        match reference(ctx, version, &topic, &mut seen) {
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

fn reference(
    ctx: &dyn Ctx,
    version: i16,
    topic: &DeleteTopicState,
    seen: &mut BTreeSet<Uuid>,
) -> Result<TopicRef, Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    if !ctx.settings().delete_topics() {
        // Version 3 brought the code for it.
        let code = if version < 3 { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
        return Err(Refusal::new(code, "Topic deletion is disabled: delete.topic.enable is false."));
    }
    let id = from_uuid(topic.topic_id);
    let (reference, known) = match (&topic.name, id) {
        (Some(_), id) if id != Uuid::ZERO => {
            return invalid("You may not specify both topic name and topic id.");
        }
        (None, Uuid::ZERO) => return invalid("Neither topic name nor id were specified."),
        (Some(name), _) => (TopicRef::Name(name.to_string()), ctx.image().topic(name)),
        (None, id) => (TopicRef::Id(id), ctx.image().topic_by_id(id)),
    };
    if let Some(known) = known
        && !seen.insert(known.id)
    {
        return invalid("Duplicate topic: it is named twice in one request.");
    }
    Ok(reference)
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
        assert_eq!(codes(delete(&mut fake, 1, by_name(&["t", "t", "u"]))), [0, 42, 3]);
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
            state.with_topic_id(id),
        ];
        let results = delete(&mut fake, 6, DeleteTopicsRequest::default().with_topics(topics));
        assert_eq!(results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [42, 42, 100, 0]);
        assert_eq!(results[3].name.as_ref().map(|name| &***name), Some("t"));
        assert_eq!(results[3].topic_id, id);
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

//! The answer of a fetch whose reads are in.

use highwater_base::BrokerId;
use highwater_io::Slice;
use highwater_replication::Isolation;
use highwater_wire::{ErrorCode, FetchAnswer, FetchPartition, FetchTopic};

use super::super::Ctx;
use super::super::lookup::{endpoints, leader_hint};
use super::poll::{Poll, SessionUse, Slot, State, is_expected};
use crate::fetch_sessions::{Told, TopicName};
use crate::pending::{Answer, Handled};

/// Takes the records out of `poll`.
pub(super) fn answer(ctx: &mut dyn Ctx, poll: &mut Poll) -> Handled {
    let (version, isolation) = (poll.version, poll.isolation);
    let said: Vec<_> = poll.slots.iter_mut().map(|slot| partition(ctx, version, isolation, slot)).collect();
    let mut said: Vec<_> = poll.slots.iter().zip(said).collect();
    let mut fetch = FetchAnswer::default();
    let now = ctx.now().mono;
    match poll.session {
        SessionUse::None => {}
        SessionUse::Opens(request) => {
            let all = said.iter().map(|(slot, (said, _))| (slot.name.clone(), slot.wanted, told(said)));
            fetch.session_id = ctx.fetch_sessions().grant(now, request, all);
        }
        SessionUse::Continues(request) => {
            fetch.session_id = request.id;
            let all = said.iter().map(|(slot, (said, _))| (&slot.name, told(said)));
            match ctx.fetch_sessions().prune(request, all) {
                Ok(keep) => {
                    let mut keep = keep.into_iter();
                    said.retain(|_| keep.next() == Some(true));
                }
                Err(error) => {
                    fetch.error = Some(error);
                    said.clear();
                }
            }
        }
    }
    let mut records = Vec::with_capacity(said.len());
    let mut last: Option<&TopicName> = None;
    for (slot, (partition, data)) in said {
        let topic = &slot.name.0;
        if last != Some(topic) {
            fetch.topics.push(named(topic));
            last = Some(topic);
        }
        fetch.topics.last_mut().expect("one was just pushed").partitions.push(partition);
        records.push(data);
    }
    if version >= 16 {
        let named = fetch.topics.iter().flat_map(|topic| &topic.partitions).filter_map(|p| p.current_leader);
        fetch.node_endpoints = endpoints(ctx, named.map(|(leader, _)| leader));
    }
    Handled::Answer(Answer::Fetch { fetch, records })
}

fn named(topic: &TopicName) -> FetchTopic {
    match topic {
        TopicName::Name(name) => FetchTopic { name: name.to_string(), ..FetchTopic::default() },
        TopicName::Id(id) => FetchTopic { id: *id, ..FetchTopic::default() },
    }
}

/// What a session has to know of it.
fn told(partition: &FetchPartition) -> Told {
    Told {
        has_records: partition.records_len > 0,
        high_watermark: partition.high_watermark,
        log_start: partition.log_start,
        is_error: partition.error != ErrorCode::None,
        is_directed: partition.diverging.is_some() || partition.preferred_replica != BrokerId::NONE,
    }
}

/// What is said of one partition, and its records.
fn partition(
    ctx: &dyn Ctx,
    version: i16,
    isolation: Isolation,
    slot: &mut Slot,
) -> (FetchPartition, Vec<Slice>) {
    let index = slot.name.1;
    let mut partition = FetchPartition { index, ..FetchPartition::default() };
    let read = match &mut slot.state {
        State::Read(read) => read,
        State::Refused(refusal) => {
            partition.error =
                if is_expected(refusal.code) { refusal.code } else { ErrorCode::UnknownServerError };
            if version >= 16 {
                partition.current_leader =
                    slot.topic.and_then(|topic| leader_hint(ctx, refusal.code, topic, index));
            }
            return (partition, Vec::new());
        }
        State::Unread => {
            partition.error = ErrorCode::UnknownServerError;
            return (partition, Vec::new());
        }
    };
    let data = std::mem::take(&mut read.data);
    partition.high_watermark = read.high_watermark;
    partition.last_stable = read.last_stable;
    partition.log_start = read.log_start;
    partition.diverging = read.diverging.map(|known| (known.epoch, known.end));
    partition.records_len = data.iter().map(Slice::len).sum();
    if isolation == Isolation::ReadCommitted {
        partition.aborted =
            Some(read.aborted.iter().map(|aborted| (aborted.producer, aborted.first)).collect());
    }
    (partition, data)
}

//! Fetch: read what is there, and if that is too little, wait for more (a long poll over partitions and shards).
//!
//! Which partitions it is about, the session says ([`crate::fetch_sessions`]). They are read in its order, as many at
//! once as the answer has room for; which of what they gave fits is decided afterwards, in that order ([`budget`]). If
//! all of it is less than `min_bytes`, every partition is asked to say when there is more, and the one that does is read
//! again.

mod answer;
mod budget;
mod poll;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use highwater_base::{LeaderEpoch, Offset, PartitionIndex};
use highwater_replication::Isolation;
use highwater_wire::{ErrorCode, FetchAnswer};
use kafka_protocol::messages::{FetchRequest, TopicName as WireName};

use self::poll::{Poll, SessionUse, Slot};
use super::Ctx;
use super::codec::from_uuid;
use super::lookup::{deadline, isolation, led_here, topic_by_id, topic_by_name};
use crate::errors::Refusal;
use crate::fetch_sessions::{Begun, PartitionName, SessionRequest, TopicName, Wanted};
use crate::pending::{Answer, Handled};

pub(super) fn handle(ctx: &mut dyn Ctx, version: i16, request: FetchRequest) -> Handled {
    let replica = if version >= 15 { request.replica_state.replica_id.0 } else { request.replica_id.0 };
    let isolation = isolation(request.isolation_level);
    let broker_max = ctx.settings().fetch_max_bytes();
    let max_bytes = request.max_bytes.clamp(0, broker_max) as usize;
    let min_bytes = request.min_bytes.clamp(0, max_bytes as i32) as usize;
    let asked = SessionRequest {
        id: request.session_id,
        epoch: request.session_epoch,
        by_id: version >= 13,
        privileged: replica >= 0,
    };
    let deadline = deadline(ctx, request.max_wait_ms);
    let (listed, forgotten) = partitions(version, request);
    let now = ctx.now().mono;
    let (wanted, session) = match ctx.fetch_sessions().begin(now, asked, &listed, &forgotten) {
        Ok(Begun::Alone) => (listed, SessionUse::None),
        Ok(Begun::Opens) => (listed, SessionUse::Opens(asked)),
        Ok(Begun::Continues(partitions)) => (partitions, SessionUse::Continues(asked)),
        Err(error) => {
            let fetch = FetchAnswer { error: Some(error), ..FetchAnswer::default() };
            return Handled::Answer(Answer::Fetch { fetch, records: Vec::new() });
        }
    };
    let refused = if replica >= 0 {
        // Only brokers of the cluster may read as replicas do, and there are no followers yet.
        Some(Refusal::code(ErrorCode::ClusterAuthorizationFailed))
    } else {
        isolation.as_ref().err().cloned()
    };
    let slots = slots(ctx, wanted, refused.as_ref());
    let isolation = isolation.unwrap_or(Isolation::ReadUncommitted);
    Poll::start(ctx, Poll::new(version, isolation, min_bytes, max_bytes, deadline, session, slots))
}

/// What a request lists, and what it forgets.
fn partitions(version: i16, request: FetchRequest) -> (Vec<(PartitionName, Wanted)>, Vec<PartitionName>) {
    let named = |name: &WireName, id: uuid::Uuid| {
        if version >= 13 { TopicName::Id(from_uuid(id)) } else { TopicName::Name(Arc::from(name.as_str())) }
    };
    let mut listed = Vec::new();
    for topic in request.topics {
        let name = named(&topic.topic, topic.topic_id);
        for partition in topic.partitions {
            let wanted = Wanted {
                from: Offset::new(partition.fetch_offset),
                max_bytes: partition.partition_max_bytes,
                current: LeaderEpoch::new(if version >= 9 { partition.current_leader_epoch } else { -1 }),
                last_fetched: LeaderEpoch::new(if version >= 12 { partition.last_fetched_epoch } else { -1 }),
            };
            listed.push(((name.clone(), PartitionIndex::new(partition.partition)), wanted));
        }
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        let name = named(&topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.iter().map(|at| (name.clone(), PartitionIndex::new(*at))));
    }
    (listed, forgotten)
}

/// The partitions to read; those that cannot be come last, as in Kafka's answers. `refused`: none of them can be.
fn slots(ctx: &dyn Ctx, wanted: Vec<(PartitionName, Wanted)>, refused: Option<&Refusal>) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::with_capacity(wanted.len());
    let mut unreadable = Vec::new();
    let mut last = None;
    for ((name, index), wanted) in wanted {
        // Partitions of one topic mostly come in a row.
        let known = match last.take() {
            Some((last, known)) if last == name => known,
            _ => match &name {
                TopicName::Name(name) => topic_by_name(ctx, name),
                TopicName::Id(id) => topic_by_id(ctx, *id),
            },
        };
        let target = match (refused, &known) {
            (Some(refusal), _) | (None, Err(refusal)) => Err(refusal.clone()),
            (None, Ok(topic)) => led_here(ctx, topic, index.get()),
        };
        let topic = known.as_ref().map(|known| known.id).ok();
        let into = if target.is_ok() { &mut slots } else { &mut unreadable };
        into.push(Slot::new((name.clone(), index), topic, target, wanted));
        last = Some((name, known));
    }
    slots.append(&mut unreadable);
    slots
}

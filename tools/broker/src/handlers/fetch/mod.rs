//! Fetch: read what is there, and if that is too little, wait for more (a long poll over partitions and shards).
//!
//! Partitions are read in the order of the request, as many at once as the answer has room for; which of what they
//! gave fits is decided afterwards, in that order ([`budget`]). If all of it is less than `min_bytes`, every
//! partition is asked to say when there is more, and the one that does is read again.

mod answer;
mod budget;
mod poll;
#[cfg(test)]
mod tests;

use highwater_base::{LeaderEpoch, Offset};
use highwater_replication::Isolation;
use highwater_wire::{ErrorCode, FetchAnswer};
use kafka_protocol::messages::FetchRequest;

use self::poll::{Poll, Slot, Topic};
use super::Ctx;
use super::codec::from_uuid;
use super::lookup::{deadline, isolation, led_here, topic_by_id, topic_by_name};
use crate::errors::Refusal;
use crate::pending::{Answer, Handled};

pub(super) fn handle(ctx: &mut dyn Ctx, version: i16, request: FetchRequest) -> Handled {
    // Every fetch is a full one, and no session is ever given (KIP-227): an incremental fetch is of somebody else's.
    if version >= 7 && !matches!(request.session_epoch, 0 | -1) {
        let fetch = FetchAnswer { error: Some(ErrorCode::FetchSessionIdNotFound), ..FetchAnswer::default() };
        return Handled::Answer(Answer::Fetch { fetch, records: Vec::new() });
    }
    let replica = if version >= 15 { request.replica_state.replica_id.0 } else { request.replica_id.0 };
    let isolation = isolation(request.isolation_level);
    let broker_max = ctx.settings().fetch_max_bytes();
    let max_bytes = request.max_bytes.clamp(0, broker_max) as usize;
    let min_bytes = request.min_bytes.clamp(0, max_bytes as i32) as usize;
    let mut slots = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let known = if version >= 13 {
            topic_by_id(ctx, from_uuid(topic.topic_id))
        } else {
            topic_by_name(ctx, &topic.topic)
        };
        for partition in &topic.partitions {
            let target = if replica >= 0 {
                // Only brokers of the cluster may read as replicas do, and there are no followers yet.
                Err(Refusal::code(ErrorCode::ClusterAuthorizationFailed))
            } else {
                isolation
                    .clone()
                    .and(known.clone())
                    .and_then(|known| led_here(ctx, &known, partition.partition))
            };
            slots.push(Slot::new(
                partition.partition,
                known.as_ref().map(|known| known.id).ok(),
                target,
                Offset::new(partition.fetch_offset),
                usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                LeaderEpoch::new(if version >= 9 { partition.current_leader_epoch } else { -1 }),
                LeaderEpoch::new(if version >= 12 { partition.last_fetched_epoch } else { -1 }),
            ));
        }
        topics.push(Topic {
            name: topic.topic.to_string(),
            id: from_uuid(topic.topic_id),
            partitions: topic.partitions.len(),
        });
    }
    let deadline = deadline(ctx, request.max_wait_ms);
    let isolation = isolation.unwrap_or(Isolation::ReadUncommitted);
    Poll::start(ctx, Poll::new(version, isolation, min_bytes, max_bytes, deadline, topics, slots))
}

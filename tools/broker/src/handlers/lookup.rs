//! Topics and partitions, as requests name them.

use std::sync::Arc;
use std::time::Duration;

use highwater_base::{BrokerId, LeaderEpoch, Mono, PartitionIndex, Uuid};
use highwater_control::{Broker, BrokerState, Topic};
use highwater_replication::Isolation;
use highwater_wire::{ErrorCode, NodeEndpoint};

use super::Ctx;
use crate::errors::Refusal;

/// A topic's id and a partition's number.
pub(super) type Target = (Uuid, PartitionIndex);

/// The topic of this name.
pub(super) fn topic_by_name(ctx: &dyn Ctx, name: &str) -> Result<Arc<Topic>, Refusal> {
    ctx.image().topic(name).cloned().ok_or_else(|| Refusal::code(ErrorCode::UnknownTopicOrPartition))
}

/// The topic of this id.
pub(super) fn topic_by_id(ctx: &dyn Ctx, id: Uuid) -> Result<Arc<Topic>, Refusal> {
    ctx.image().topic_by_id(id).cloned().ok_or_else(|| Refusal::code(ErrorCode::UnknownTopicId))
}

/// A partition that this node leads. (The shard that owns it checks again: it knows of a change first.)
pub(super) fn led_here(ctx: &dyn Ctx, topic: &Topic, index: i32) -> Result<Target, Refusal> {
    let index = PartitionIndex::new(index);
    let state = topic.partition(index).ok_or_else(|| Refusal::code(ErrorCode::UnknownTopicOrPartition))?;
    if state.leader != ctx.node().id {
        return Err(Refusal::code(ErrorCode::NotLeaderOrFollower));
    }
    Ok((topic.id, index))
}

/// The leader to name beside an error that says that the client knows another one.
pub(super) fn leader_hint(
    ctx: &dyn Ctx,
    error: ErrorCode,
    topic: Uuid,
    index: PartitionIndex,
) -> Option<(BrokerId, LeaderEpoch)> {
    if !matches!(error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch) {
        return None;
    }
    let topic = ctx.image().topic_by_id(topic)?;
    let state = topic.partition(index)?;
    Some((state.leader, state.leader_epoch))
}

/// Where the brokers of these hints listen.
pub(super) fn endpoints(ctx: &dyn Ctx, hints: impl Iterator<Item = BrokerId>) -> Vec<NodeEndpoint> {
    let mut endpoints: Vec<NodeEndpoint> = Vec::new();
    for broker in hints.filter_map(|id| ctx.image().broker(id)) {
        if endpoints.iter().all(|known| known.id != broker.id) {
            let Broker { id, host, port, rack, .. } = broker.clone();
            endpoints.push(NodeEndpoint { id, host, port, rack });
        }
    }
    endpoints
}

/// The brokers that clients may be told of.
pub(super) fn serving_brokers(ctx: &dyn Ctx) -> impl Iterator<Item = &Broker> {
    ctx.image().brokers().filter(|broker| broker.state != BrokerState::Fenced)
}

/// The isolation level of this number.
pub(super) fn isolation(level: i8) -> Result<Isolation, Refusal> {
    match level {
        0 => Ok(Isolation::ReadUncommitted),
        1 => Ok(Isolation::ReadCommitted),
        other => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("expected isolation level 0 (read uncommitted) or 1 (read committed), found {other}"),
        )),
    }
}

/// So many milliseconds from now; at once if they are negative.
pub(super) fn deadline(ctx: &dyn Ctx, timeout_ms: i32) -> Mono {
    ctx.now().mono.plus(Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)))
}

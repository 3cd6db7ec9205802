//! The answer of a fetch whose reads are in.

use highwater_io::Slice;
use highwater_replication::Isolation;
use highwater_wire::{ErrorCode, FetchAnswer, FetchPartition, FetchTopic};

use super::super::Ctx;
use super::super::lookup::{endpoints, leader_hint};
use super::poll::{Poll, Slot, State, is_expected};
use crate::pending::{Answer, Handled};

/// Takes the records out of `poll`.
pub(super) fn answer(ctx: &dyn Ctx, poll: &mut Poll) -> Handled {
    let mut records = Vec::with_capacity(poll.slots.len());
    let mut fetch = FetchAnswer::default();
    let (version, isolation) = (poll.version, poll.isolation);
    let mut slots = poll.slots.iter_mut();
    for topic in &mut poll.topics {
        let mut partitions = Vec::with_capacity(topic.partitions);
        for slot in slots.by_ref().take(topic.partitions) {
            let (partition, data) = partition(ctx, version, isolation, slot);
            partitions.push(partition);
            records.push(data);
        }
        fetch.topics.push(FetchTopic { name: std::mem::take(&mut topic.name), id: topic.id, partitions });
    }
    if version >= 16 {
        let named = fetch.topics.iter().flat_map(|topic| &topic.partitions).filter_map(|p| p.current_leader);
        fetch.node_endpoints = endpoints(ctx, named.map(|(leader, _)| leader));
    }
    Handled::Answer(Answer::Fetch { fetch, records })
}

fn partition(
    ctx: &dyn Ctx,
    version: i16,
    isolation: Isolation,
    slot: &mut Slot,
) -> (FetchPartition, Vec<Slice>) {
    let mut partition = FetchPartition { index: slot.index, ..FetchPartition::default() };
    let read = match &mut slot.state {
        State::Read(read) => read,
        State::Refused(refusal) => {
            partition.error =
                if is_expected(refusal.code) { refusal.code } else { ErrorCode::UnknownServerError };
            if version >= 16 {
                partition.current_leader =
                    slot.topic.and_then(|topic| leader_hint(ctx, refusal.code, topic, slot.index));
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

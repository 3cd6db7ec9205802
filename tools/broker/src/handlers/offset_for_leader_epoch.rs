//! OffsetForLeaderEpoch: where a leader epoch ends, for clients that look for truncation.

use std::collections::BTreeMap;

use highwater_base::LeaderEpoch;
use highwater_wire::ErrorCode;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::Ctx;
use super::gather::{Entry, Gather, Response, answer};
use super::lookup::{led_here, topic_by_name};
use crate::call::{PartitionCall, PartitionReply};
use crate::errors::Refusal;
use crate::pending::{Handled, Reply};

pub(super) fn handle(ctx: &mut dyn Ctx, request: OffsetForLeaderEpochRequest) -> Handled {
    let mut response = OffsetForLeaderEpochResponse::default();
    let mut waiting = BTreeMap::new();
    for (t, topic) in request.topics.into_iter().enumerate() {
        let known = topic_by_name(ctx, &topic.topic);
        response.topics.push(OffsetForLeaderTopicResult::default().with_topic(topic.topic));
        for (p, partition) in topic.partitions.into_iter().enumerate() {
            let mut entry = EpochEndOffset::default().with_partition(partition.partition);
            match known.clone().and_then(|known| led_here(ctx, &known, partition.partition)) {
                Ok(at) => {
                    let epoch = LeaderEpoch::new(partition.leader_epoch);
                    let current = LeaderEpoch::new(partition.current_leader_epoch);
                    let call = ctx.call(at, PartitionCall::EpochEnd { epoch, current });
                    waiting.insert(call, (t, p));
                }
                Err(refusal) => entry.error_code = refusal.code.code(),
            }
            response.topics[t].partitions.push(entry);
        }
    }
    Gather::start(ctx, Found(response), waiting)
}

struct Found(OffsetForLeaderEpochResponse);

impl Response for Found {
    fn fill(&mut self, _: &dyn Ctx, (t, p): Entry, reply: Result<Reply, Refusal>) {
        let entry = &mut self.0.topics[t].partitions[p];
        match reply {
            Ok(Reply::Partition(PartitionReply::EpochEnd { epoch, end })) => {
                entry.leader_epoch = epoch.get();
                entry.end_offset = end.get();
            }
            Ok(Reply::Partition(PartitionReply::Refused(refusal))) | Err(refusal) => {
                entry.error_code = refusal.code.code();
            }
            Ok(_) => entry.error_code = ErrorCode::UnknownServerError.code(),
        }
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
    use highwater_base::Offset;
    use highwater_wire::Api;
    use kafka_protocol::messages::ResponseKind;
    use kafka_protocol::messages::offset_for_leader_epoch_request::{
        OffsetForLeaderPartition, OffsetForLeaderTopic,
    };

    #[test]
    fn the_end_of_an_epoch_and_an_unknown_partition_are_told() {
        let mut fake = Fake::with_topic("t", 1);
        let partition =
            OffsetForLeaderPartition::default().with_leader_epoch(4).with_current_leader_epoch(-1);
        let partitions = vec![partition.clone(), partition.with_partition(1)];
        let topic = OffsetForLeaderTopic::default().with_topic(topic_name("t")).with_partitions(partitions);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let handled = fake.handle(&header(Api::OffsetForLeaderEpoch, 4), request.into());
        let calls = fake.take_calls();
        let PartitionCall::EpochEnd { epoch, current } = calls[0].call else { panic!("another call") };
        assert_eq!((epoch, current), (LeaderEpoch::new(4), LeaderEpoch::NONE));
        let reply = PartitionReply::EpochEnd { epoch: LeaderEpoch::new(2), end: Offset::new(70) };
        let ResponseKind::OffsetForLeaderEpoch(response) = body(fake.reply(handled, calls[0].index, reply))
        else {
            panic!("another response")
        };
        let found = &response.topics[0].partitions;
        assert_eq!((found[0].error_code, found[0].leader_epoch, found[0].end_offset), (0, 2, 70));
        assert_eq!((found[1].error_code, found[1].leader_epoch, found[1].end_offset), (3, -1, -1));
    }
}

//! ListOffsets: offsets by time.

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::{LeaderEpoch, WallMs};
use highwater_replication::{ListedOffset, OffsetTarget};
use highwater_wire::ErrorCode;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::Ctx;
use super::gather::{Entry, Gather, Response, answer};
use super::lookup::{isolation, led_here, topic_by_name};
use crate::call::{PartitionCall, PartitionReply};
use crate::errors::Refusal;
use crate::pending::{Handled, Reply};

pub(super) fn handle(ctx: &mut dyn Ctx, version: i16, request: ListOffsetsRequest) -> Handled {
    let isolation = isolation(if version >= 2 { request.isolation_level } else { 0 });
    let mut response = ListOffsetsResponse::default();
    let mut waiting = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            *seen.entry((topic.name.clone(), partition.partition_index)).or_insert(0) += 1;
        }
    }
    let twice: BTreeSet<_> = seen.into_iter().filter(|(_, times)| *times > 1).map(|(key, _)| key).collect();
    for (t, topic) in request.topics.into_iter().enumerate() {
        response.topics.push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()));
        let known = topic_by_name(ctx, &topic.name);
        for (p, partition) in topic.partitions.into_iter().enumerate() {
            let index = partition.partition_index;
            let mut entry = ListOffsetsPartitionResponse::default().with_partition_index(index);
            let checked = if twice.contains(&(topic.name.clone(), index)) {
                Err(Refusal::code(ErrorCode::InvalidRequest))
            } else {
                target(version, partition.timestamp).and_then(|target| {
                    let isolation = isolation.clone()?;
                    let known = known.clone()?;
                    Ok((led_here(ctx, &known, index)?, target, isolation))
                })
            };
            match checked {
                Ok((_, Target::Nothing, _)) => {}
                Ok((at, Target::Find(target), isolation)) => {
                    let current =
                        LeaderEpoch::new(if version >= 4 { partition.current_leader_epoch } else { -1 });
                    let call = ctx.call(at, PartitionCall::ListOffset { target, isolation, current });
                    waiting.insert(call, (t, p));
                }
                Err(refusal) => entry.error_code = refusal.code.code(),
            }
            response.topics[t].partitions.push(entry);
        }
    }
    Gather::start(ctx, Listed { version, response }, waiting)
}

#[derive(PartialEq, Debug)]
enum Target {
    Find(OffsetTarget),
    /// What only tiered storage could have.
    Nothing,
}

/// What a timestamp means; the special ones came with versions, and are refused in earlier ones.
fn target(version: i16, timestamp: i64) -> Result<Target, Refusal> {
    let (since, target) = match timestamp {
        0.. => (1, Target::Find(OffsetTarget::Time(WallMs::new(timestamp)))),
        -1 => (1, Target::Find(OffsetTarget::Latest)),
        -2 => (1, Target::Find(OffsetTarget::Earliest)),
        -3 => (7, Target::Find(OffsetTarget::MaxTimestamp)),
        -4 => (8, Target::Find(OffsetTarget::EarliestLocal)),
        -5 => (9, Target::Nothing),
        -6 => (11, Target::Nothing),
        _ => (i16::MAX, Target::Nothing),
    };
    if version >= since { Ok(target) } else { Err(Refusal::code(ErrorCode::UnsupportedVersion)) }
}

struct Listed {
    version: i16,
    response: ListOffsetsResponse,
}

impl Response for Listed {
    fn fill(&mut self, _: &dyn Ctx, (t, p): Entry, reply: Result<Reply, Refusal>) {
        let entry = &mut self.response.topics[t].partitions[p];
        match reply {
            Ok(Reply::Partition(PartitionReply::Offset(ListedOffset { offset, timestamp, epoch }))) => {
                entry.offset = offset.get();
                entry.timestamp = timestamp.get();
                if self.version >= 4 {
                    entry.leader_epoch = epoch.get();
                }
            }
            Ok(Reply::Partition(PartitionReply::Refused(refusal))) | Err(refusal) => {
                // A new leader that is not caught up yet (KIP-207): old clients know another code for it.
                let early = refusal.code == ErrorCode::OffsetNotAvailable && self.version < 5;
                let code = if early { ErrorCode::LeaderNotAvailable } else { refusal.code };
                entry.error_code = code.code();
            }
            Ok(_) => entry.error_code = ErrorCode::UnknownServerError.code(),
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
    use highwater_base::Offset;
    use highwater_wire::Api;
    use kafka_protocol::messages::ResponseKind;
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};

    fn request(topic: &'static str, partitions: &[(i32, i64)]) -> ListOffsetsRequest {
        let partition = |(index, timestamp): &(i32, i64)| {
            let partition =
                ListOffsetsPartition::default().with_partition_index(*index).with_timestamp(*timestamp);
            partition.with_current_leader_epoch(0)
        };
        let topic = ListOffsetsTopic::default().with_name(super::super::codec::topic_name(topic));
        ListOffsetsRequest::default()
            .with_topics(vec![topic.with_partitions(partitions.iter().map(partition).collect())])
    }

    fn listed(handled: Handled) -> Vec<ListOffsetsPartitionResponse> {
        let ResponseKind::ListOffsets(response) = body(handled) else { panic!("another response") };
        response.topics.into_iter().next().unwrap().partitions
    }

    #[test]
    fn each_special_timestamp_is_known_from_its_version_on() {
        for (timestamp, since) in
            [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11), (0, 1), (i64::MAX, 1)]
        {
            for version in 1..=11 {
                assert_eq!(target(version, timestamp).is_ok(), version >= since, "{timestamp} in {version}");
            }
        }
        for timestamp in [-7, i64::MIN] {
            assert_eq!(target(11, timestamp).unwrap_err().code, ErrorCode::UnsupportedVersion);
        }
    }

    #[test]
    fn a_found_offset_is_told_with_its_time_and_epoch() {
        let mut fake = Fake::with_topic("t", 2);
        let handled = fake.handle(&header(Api::ListOffsets, 11), request("t", &[(0, -1), (1, -6)]).into());
        let calls = fake.take_calls();
        assert_eq!(calls.len(), 1, "tiered storage is not asked for");
        let reply = PartitionReply::Offset(ListedOffset {
            offset: Offset::new(9),
            timestamp: WallMs::NONE,
            epoch: LeaderEpoch::new(3),
        });
        let listed = listed(fake.reply(handled, calls[0].index, reply));
        assert_eq!((listed[0].offset, listed[0].timestamp, listed[0].leader_epoch), (9, -1, 3));
        assert_eq!((listed[1].error_code, listed[1].offset), (0, -1));
    }

    #[test]
    fn unknown_and_repeated_partitions_are_told_apart() {
        let mut fake = Fake::with_topic("t", 1);
        let ask = |fake: &mut Fake, topic, partitions: &[(i32, i64)]| {
            let handled = fake.handle(&header(Api::ListOffsets, 5), request(topic, partitions).into());
            listed(handled).iter().map(|p| p.error_code).collect::<Vec<_>>()
        };
        assert_eq!(ask(&mut fake, "u", &[(0, -1)]), [3]);
        assert_eq!(ask(&mut fake, "t", &[(1, -1), (-1, -1)]), [3, 3]);
        assert_eq!(ask(&mut fake, "t", &[(0, -1), (0, -2)]), [42, 42]);
    }

    #[test]
    fn a_leader_that_is_not_caught_up_is_named_as_each_version_knows_it() {
        for (version, code) in [(4, 5), (5, 78)] {
            let mut fake = Fake::with_topic("t", 1);
            let handled = fake.handle(&header(Api::ListOffsets, version), request("t", &[(0, -1)]).into());
            let index = fake.take_calls()[0].index;
            let refused = PartitionReply::Refused(Refusal::code(ErrorCode::OffsetNotAvailable));
            assert_eq!(listed(fake.reply(handled, index, refused))[0].error_code, code);
        }
    }
}

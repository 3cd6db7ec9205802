//! DeleteRecords: forgets records below an offset, and answers when every live replica has.

use std::collections::BTreeMap;

use highwater_base::Offset;
use highwater_control::{effective, is_internal};
use highwater_wire::ErrorCode;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::Ctx;
use super::gather::{Entry, Gather, Response, answer};
use super::lookup::{Target, deadline, led_here, topic_by_name};
use crate::call::{PartitionCall, PartitionReply};
use crate::errors::Refusal;
use crate::pending::{Handled, Reply};

pub(super) fn handle(ctx: &mut dyn Ctx, request: DeleteRecordsRequest) -> Handled {
    let deadline = deadline(ctx, request.timeout_ms);
    let mut response = DeleteRecordsResponse::default();
    let mut waiting = BTreeMap::new();
    for (t, topic) in request.topics.into_iter().enumerate() {
        response.topics.push(DeleteRecordsTopicResult::default().with_name(topic.name.clone()));
        for (p, partition) in topic.partitions.into_iter().enumerate() {
            let index = partition.partition_index;
            let mut entry =
                DeleteRecordsPartitionResult::default().with_partition_index(index).with_low_watermark(-1);
            match target(ctx, &topic.name, index, partition.offset) {
                Ok((at, to)) => {
                    let call = ctx.call(at, PartitionCall::DeleteRecords { to, deadline });
                    waiting.insert(call, (t, p));
                }
                Err(refusal) => entry.error_code = refusal.code.code(),
            }
            response.topics[t].partitions.push(entry);
        }
    }
    Gather::start(ctx, Trimmed(response), waiting)
}

fn target(ctx: &dyn Ctx, name: &str, index: i32, offset: i64) -> Result<(Target, Offset), Refusal> {
    if is_internal(name) {
        return Err(Refusal::code(ErrorCode::InvalidTopicException));
    }
    let topic = topic_by_name(ctx, name)?;
    let at = led_here(ctx, &topic, index)?;
    let config = effective(ctx.image(), ctx.settings().topic_defaults(), Some(name));
    if config.compact && !config.delete {
        return Err(Refusal::code(ErrorCode::PolicyViolation));
    }
    match offset {
        -1 => Ok((at, Offset::NONE)),
        0.. => Ok((at, Offset::new(offset))),
        _ => Err(Refusal::code(ErrorCode::OffsetOutOfRange)),
    }
}

struct Trimmed(DeleteRecordsResponse);

impl Response for Trimmed {
    fn fill(&mut self, _: &dyn Ctx, (t, p): Entry, reply: Result<Reply, Refusal>) {
        let entry = &mut self.0.topics[t].partitions[p];
        match reply {
            Ok(Reply::Partition(PartitionReply::Trimmed { low_watermark })) => {
                entry.low_watermark = low_watermark.get();
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
    use highwater_wire::Api;
    use kafka_protocol::messages::ResponseKind;
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

    #[test]
    fn the_high_watermark_is_minus_one_and_anything_below_is_out_of_range() {
        let mut fake = Fake::with_topic("t", 3);
        let partition =
            |index, offset| DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset);
        let partitions = vec![partition(0, -1), partition(1, 5), partition(2, -2), partition(3, 0)];
        let topic = DeleteRecordsTopic::default().with_name(topic_name("t")).with_partitions(partitions);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
        let handled = fake.handle(&header(Api::DeleteRecords, 2), request.into());
        let calls = fake.take_calls();
        let to: Vec<_> = calls
            .iter()
            .map(|call| match call.call {
                PartitionCall::DeleteRecords { to, .. } => to,
                _ => panic!("another call"),
            })
            .collect();
        assert_eq!(to, [Offset::NONE, Offset::new(5)]);
        let handled =
            fake.reply(handled, calls[1].index, PartitionReply::Trimmed { low_watermark: Offset::new(5) });
        let late = PartitionReply::Refused(Refusal::code(ErrorCode::RequestTimedOut));
        let ResponseKind::DeleteRecords(response) = body(fake.reply(handled, calls[0].index, late)) else {
            panic!("another response")
        };
        let found: Vec<_> =
            response.topics[0].partitions.iter().map(|p| (p.error_code, p.low_watermark)).collect();
        assert_eq!(found, [(7, -1), (0, 5), (1, -1), (3, -1)]);
    }
}

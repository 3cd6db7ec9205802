//! Produce: one record batch for each partition, in the order of kafka.md 4.1.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_base::{BrokerId, LeaderEpoch, Offset, PartitionIndex};
use highwater_control::is_internal;
use highwater_engine::batch::{Codec, Header, MAGIC_PREFIX};
use highwater_replication::Acks;
use highwater_wire::{ErrorCode, RequestHeader};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::Ctx;
use super::codec::{broker_id, from_uuid, text};
use super::gather::{Entry, Gather, Response, answer};
use super::lookup::{Target, deadline, endpoints, leader_hint, led_here, topic_by_id, topic_by_name};
use crate::call::{PartitionCall, PartitionReply};
use crate::errors::Refusal;
use crate::pending::{Handled, Reply};

pub(super) fn handle(ctx: &mut dyn Ctx, header: &RequestHeader, request: ProduceRequest) -> Handled {
    let (version, acks) = (header.version, request.acks);
    let exempt = header.client_id.as_deref() == Some("__admin_client");
    let deadline = deadline(ctx, request.timeout_ms);
    // Who writes transactionally must say in whose name.
    let nameless = request.transactional_id.is_none() && is_transactional(&request);
    let mut answer = Produced { version, acks, response: ProduceResponse::default(), leaders: Vec::new() };
    let mut waiting = BTreeMap::new();
    for (t, data) in request.topic_data.into_iter().enumerate() {
        let topic = if version >= 13 {
            topic_by_id(ctx, from_uuid(data.topic_id))
        } else {
            topic_by_name(ctx, &data.name)
        };
        let entry = TopicProduceResponse::default().with_name(data.name).with_topic_id(data.topic_id);
        answer.response.responses.push(entry);
        for (p, partition) in data.partition_data.into_iter().enumerate() {
            let index = partition.index;
            let entry = PartitionProduceResponse::default().with_index(index);
            answer.response.responses[t].partition_responses.push(entry);
            let checked = topic.clone().and_then(|topic| {
                if nameless {
                    return Err(Refusal::code(ErrorCode::TransactionalIdAuthorizationFailed));
                }
                let records = one_batch(version, partition.records)?;
                let acks = acks_of(acks)?;
                if is_internal(&topic.name) && !exempt {
                    return Err(Refusal::code(ErrorCode::InvalidTopicException));
                }
                Ok((led_here(ctx, &topic, index), (records, acks), topic.id))
            });
            match checked {
                Ok((Ok(target), (records, acks), _)) => {
                    let call = ctx.call(target, PartitionCall::Produce { records, acks, deadline });
                    waiting.insert(call, (t, p));
                }
                Ok((Err(refusal), _, id)) => {
                    answer.refuse(ctx, (t, p), refusal, Some((id, PartitionIndex::new(index))));
                }
                Err(refusal) => answer.refuse(ctx, (t, p), refusal, None),
            }
        }
    }
    Gather::start(ctx, answer, waiting)
}

fn acks_of(acks: i16) -> Result<Acks, Refusal> {
    Acks::from_kafka(acks).ok_or_else(|| {
        Refusal::new(
            ErrorCode::InvalidRequiredAcks,
            format!("expected acks of 0, 1 or -1 (all), found {acks}"),
        )
    })
}

/// What Kafka checks of the records before it looks at the partition: exactly one batch, of magic 2. Everything
/// else is checked by the partition's log.
fn one_batch(version: i16, records: Option<Bytes>) -> Result<Bytes, Refusal> {
    let refuse = |what: &str| {
        Err(Refusal::new(ErrorCode::InvalidRecord, format!("Produce requests with version {version} {what}")))
    };
    let Some(mut records) = records.filter(|records| !records.is_empty()) else {
        return refuse("must have at least one record batch per partition");
    };
    if records.len() >= MAGIC_PREFIX && records[MAGIC_PREFIX - 1] != 2 {
        return refuse("are only allowed to contain record batches with magic version 2");
    }
    let Some(header) = Header::decode(&records) else {
        return refuse("must have at least one whole record batch per partition");
    };
    let (codec, transactional) = (header.attributes().codec(), header.attributes().is_transactional());
    match header.size() {
        Some(size) if size == records.len() => {}
        // Less than a batch may follow, and is passed over; so does Kafka.
        Some(size) if size < records.len() && holds_batch(&records[size..]) => {
            return refuse("are only allowed to contain exactly one record batch per partition");
        }
        Some(size) if size < records.len() => records.truncate(size),
        Some(_) => return refuse("must have at least one whole record batch per partition"),
        None => {
            let message = "the batch's length field is below that of its own header";
            return Err(Refusal::new(ErrorCode::CorruptMessage, message));
        }
    }
    if version < 7 && codec == Some(Codec::Zstd) {
        let message =
            format!("Produce requests with version {version} are not allowed to use ZStandard compression");
        return Err(Refusal::new(ErrorCode::UnsupportedCompressionType, message));
    }
    if transactional {
        let message =
            "a transactional batch, and no transaction is known: there is no transaction coordinator yet";
        return Err(Refusal::new(ErrorCode::InvalidTxnState, message));
    }
    Ok(records)
}

/// Whether these bytes begin with a whole batch.
fn holds_batch(bytes: &[u8]) -> bool {
    let length = bytes.get(8..12).and_then(|field| field.try_into().ok()).map(i32::from_be_bytes);
    length.and_then(|length| usize::try_from(length).ok()).is_some_and(|length| length <= bytes.len() - 12)
}

/// Whether any batch is transactional.
fn is_transactional(request: &ProduceRequest) -> bool {
    let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let mut headers = partitions.filter_map(|partition| Header::decode(partition.records.as_ref()?));
    headers.any(|header| header.attributes().is_transactional())
}

struct Produced {
    version: i16,
    acks: i16,
    response: ProduceResponse,
    /// Leaders that were named, for their addresses.
    leaders: Vec<BrokerId>,
}

impl Produced {
    fn refuse(&mut self, ctx: &dyn Ctx, (t, p): Entry, refusal: Refusal, partition: Option<Target>) {
        let hint = partition.and_then(|(id, index)| leader_hint(ctx, refusal.code, id, index));
        let entry = &mut self.response.responses[t].partition_responses[p];
        entry.error_code = refusal.code.code();
        entry.base_offset = Offset::NONE.get();
        if let Some(log_start) = refusal.log_start.filter(|_| self.version >= 5) {
            entry.log_start_offset = log_start.get();
        }
        if self.version >= 8 {
            entry.error_message = refusal.message.map(text);
            let record = |(index, message): (i32, String)| {
                let record = BatchIndexAndErrorMessage::default().with_batch_index(index);
                record.with_batch_index_error_message(Some(text(message)))
            };
            entry.record_errors = refusal.records.into_iter().map(record).collect();
        }
        if let Some((leader, epoch)) = hint.filter(|_| self.version >= 10) {
            entry.current_leader = named(leader, epoch);
            self.leaders.push(leader);
        }
    }

    /// The partition that an entry answers for.
    fn target(&self, ctx: &dyn Ctx, (t, p): Entry) -> Option<Target> {
        let topic = &self.response.responses[t];
        let index = PartitionIndex::new(topic.partition_responses[p].index);
        let known = if self.version >= 13 {
            ctx.image().topic_by_id(from_uuid(topic.topic_id))
        } else {
            ctx.image().topic(&topic.name)
        };
        known.map(|topic| (topic.id, index))
    }
}

fn named(leader: BrokerId, epoch: LeaderEpoch) -> LeaderIdAndEpoch {
    LeaderIdAndEpoch::default().with_leader_id(broker_id(leader)).with_leader_epoch(epoch.get())
}

impl Response for Produced {
    fn fill(&mut self, ctx: &dyn Ctx, entry: Entry, reply: Result<Reply, Refusal>) {
        let refusal = match reply {
            Ok(Reply::Partition(PartitionReply::Produced(done))) => {
                let partition = &mut self.response.responses[entry.0].partition_responses[entry.1];
                partition.base_offset = done.first.get();
                partition.log_append_time_ms = done.append_time.get();
                if self.version >= 5 {
                    partition.log_start_offset = done.log_start.get();
                }
                return;
            }
            Ok(Reply::Partition(PartitionReply::Refused(refusal))) | Err(refusal) => refusal,
            Ok(_) => Refusal::unexpected("Produce"),
        };
        let target = self.target(ctx, entry);
        self.refuse(ctx, entry, refusal, target);
    }

    fn finish(mut self: Box<Self>, ctx: &dyn Ctx) -> Handled {
        if self.acks == 0 {
            // Nobody reads an answer; a closed connection is all that tells the producer of an error.
            let mut failed = self.response.responses.iter().flat_map(|topic| {
                topic
                    .partition_responses
                    .iter()
                    .filter(|partition| partition.error_code != 0)
                    .map(move |p| (topic, p))
            });
            return match failed.next() {
                None => Handled::NoAnswer,
                Some((topic, partition)) => {
                    let code =
                        ErrorCode::from_code(partition.error_code).unwrap_or(ErrorCode::UnknownServerError);
                    let message = partition.error_message.as_deref().unwrap_or("no more is known");
                    let (name, index) = (&*topic.name, partition.index);
                    Handled::Close(format!(
                        "Produce with acks=0 to {name}-{index} failed with {code}: {message}"
                    ))
                }
            };
        }
        if self.version >= 10 {
            let nodes = endpoints(ctx, self.leaders.iter().copied());
            self.response.node_endpoints = nodes
                .into_iter()
                .map(|node| {
                    let endpoint =
                        NodeEndpoint::default().with_node_id(broker_id(node.id)).with_host(text(node.host));
                    endpoint.with_port(node.port.into()).with_rack(node.rack.map(text))
                })
                .collect();
        }
        answer(self.response)
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::{topic_name, uuid};
    use super::super::fake::{Fake, body, header};
    use super::*;
    use highwater_base::Uuid;
    use highwater_replication::ProduceDone;
    use highwater_wire::{Api, encode_response};
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{ResponseKind, TransactionalId};

    /// The header of a batch and as many bytes as it claims; its records are for the log to look at.
    fn batch(attributes: i16) -> Vec<u8> {
        let mut batch = vec![0; 70];
        batch[8..12].copy_from_slice(&58_i32.to_be_bytes());
        batch[16] = 2;
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        batch
    }

    fn request(acks: i16, topic: &str, records: &[(i32, Option<Vec<u8>>)]) -> ProduceRequest {
        let partition = |(index, records): &(i32, Option<Vec<u8>>)| {
            PartitionProduceData::default().with_index(*index).with_records(records.clone().map(Bytes::from))
        };
        let topic = TopicProduceData::default().with_name(topic_name(topic));
        let topic = topic.with_partition_data(records.iter().map(partition).collect());
        ProduceRequest::default()
            .with_transactional_id(None::<TransactionalId>)
            .with_acks(acks)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic])
    }

    fn produced(version: i16, handled: Handled) -> Vec<PartitionProduceResponse> {
        let body = body(handled);
        encode_response(&header(Api::Produce, version), &body).unwrap();
        let ResponseKind::Produce(response) = body else { panic!("another response") };
        response.responses.into_iter().next().unwrap().partition_responses
    }

    fn codes(version: i16, handled: Handled) -> Vec<i16> {
        produced(version, handled).iter().map(|partition| partition.error_code).collect()
    }

    fn stored(base: i64) -> PartitionReply {
        PartitionReply::Produced(ProduceDone {
            first: Offset::new(base),
            last: Offset::new(base),
            append_time: highwater_base::WallMs::NONE,
            log_start: Offset::ZERO,
            duplicate: false,
        })
    }

    #[test]
    fn each_partition_gets_its_batch_and_tells_its_own_offset_in_every_version() {
        for version in 3..=12 {
            let mut fake = Fake::with_topic("t", 2);
            let records = [(0, Some(batch(0))), (1, Some(batch(0))), (2, Some(batch(0)))];
            let handled = fake.handle(&header(Api::Produce, version), request(-1, "t", &records).into());
            let calls = fake.take_calls();
            assert_eq!(calls.len(), 2);
            let PartitionCall::Produce { records, acks, deadline } = &calls[0].call else {
                panic!("another call")
            };
            assert_eq!((records.len(), *acks, deadline.nanos()), (70, Acks::All, 30_000_000_000));
            let handled = fake.reply(handled, calls[1].index, stored(9));
            let handled = fake.reply(handled, calls[0].index, stored(4));
            let produced = produced(version, handled);
            let found: Vec<_> =
                produced.iter().map(|p| (p.error_code, p.base_offset, p.log_append_time_ms)).collect();
            assert_eq!(found, [(0, 4, -1), (0, 9, -1), (3, -1, -1)]);
        }
    }

    #[test]
    fn topics_are_named_by_id_from_version_13_on() {
        let mut fake = Fake::with_topic("t", 1);
        let id = uuid(super::super::Ctx::image(&fake).topic("t").unwrap().id);
        for (id, code) in [(id, None), (uuid(Uuid::from_halves(9, 9)), Some(100))] {
            let mut asked = request(1, "", &[(0, Some(batch(0)))]);
            asked.topic_data[0].topic_id = id;
            let mut handled = fake.handle(&header(Api::Produce, 13), asked.into());
            for call in fake.take_calls() {
                handled = fake.reply(handled, call.index, stored(0));
            }
            assert_eq!(codes(13, handled), [code.unwrap_or(0)]);
        }
    }

    #[test]
    fn records_are_exactly_one_batch_of_magic_2() {
        let mut fake = Fake::with_topic("t", 1);
        let mut old = batch(0);
        old[16] = 1;
        let mut negative = batch(0);
        negative[8..12].copy_from_slice(&(-5_i32).to_be_bytes());
        let cases = [
            (None, 87),
            (Some(vec![]), 87),
            (Some(old), 87),
            (Some(batch(0)[..60].to_vec()), 87),
            (Some(batch(0)[..69].to_vec()), 87),
            (Some([batch(0), batch(0)].concat()), 87),
            (Some(negative), 2),
        ];
        for (records, code) in cases {
            let handled =
                fake.handle(&header(Api::Produce, 8), request(1, "t", &[(0, records.clone())]).into());
            let produced = produced(8, handled);
            assert_eq!((produced[0].error_code, produced[0].base_offset), (code, -1), "{records:x?}");
            assert!(produced[0].error_message.is_some());
        }
        let mut more = Vec::new();
        for trailing in [vec![0; 3], batch(0)[..40].to_vec()] {
            let records = [batch(0), trailing].concat();
            assert!(matches!(
                fake.handle(&header(Api::Produce, 8), request(1, "t", &[(0, Some(records))]).into()),
                Handled::Pending(_)
            ));
            more.append(&mut fake.take_calls());
        }
        for call in more {
            let PartitionCall::Produce { records, .. } = call.call else { panic!("another call") };
            assert_eq!(records.len(), 70, "less than a batch behind it is passed over");
        }
        let zstd = [(0, Some(batch(4)))];
        let handled = fake.handle(&header(Api::Produce, 6), request(1, "t", &zstd).into());
        assert_eq!(codes(6, handled), [76]);
        assert!(fake.take_calls().is_empty());
        assert!(matches!(
            fake.handle(&header(Api::Produce, 7), request(1, "t", &zstd).into()),
            Handled::Pending(_)
        ));
    }

    #[test]
    fn a_transactional_batch_needs_a_name_and_a_transaction() {
        let mut fake = Fake::with_topic("t", 2);
        let records = [(0, Some(batch(0x10))), (1, Some(batch(0)))];
        let asked = request(-1, "t", &records);
        let handled = fake.handle(&header(Api::Produce, 9), asked.clone().into());
        assert_eq!(codes(9, handled), [53, 53]);
        let asked = asked.with_transactional_id(Some(TransactionalId("tx".into())));
        let handled = fake.handle(&header(Api::Produce, 9), asked.into());
        let call = fake.take_calls().remove(0);
        assert_eq!(codes(9, fake.reply(handled, call.index, stored(0))), [48, 0]);
    }

    #[test]
    fn an_unknown_topic_comes_before_bad_records_before_bad_acks_before_an_internal_topic() {
        let mut fake = Fake::with_topic("t", 1);
        fake.create("__consumer_offsets", 1);
        let mut ask = |acks, topic, records| {
            let handled = fake.handle(&header(Api::Produce, 9), request(acks, topic, &[(0, records)]).into());
            codes(9, handled)[0]
        };
        assert_eq!(ask(7, "u", None), 3);
        assert_eq!(ask(7, "__consumer_offsets", None), 87);
        assert_eq!(ask(7, "__consumer_offsets", Some(batch(0))), 21);
        assert_eq!(ask(1, "__consumer_offsets", Some(batch(0))), 17);
        assert_eq!(ask(-2, "t", Some(batch(0))), 21);
    }

    #[test]
    fn acks_0_has_no_answer_and_an_error_closes_the_connection() {
        let mut fake = Fake::with_topic("t", 1);
        let ask = |fake: &mut Fake, reply| {
            let handled =
                fake.handle(&header(Api::Produce, 9), request(0, "t", &[(0, Some(batch(0)))]).into());
            let index = fake.take_calls()[0].index;
            fake.reply(handled, index, reply)
        };
        assert!(matches!(ask(&mut fake, stored(0)), Handled::NoAnswer));
        let refused = PartitionReply::Refused(Refusal::new(ErrorCode::CorruptMessage, "crc"));
        let Handled::Close(reason) = ask(&mut fake, refused) else { panic!("not closed") };
        assert!(
            reason.contains("CORRUPT_MESSAGE") && reason.contains("t-0") && reason.contains("crc"),
            "{reason}"
        );
        let unknown = fake.handle(&header(Api::Produce, 9), request(0, "u", &[(0, Some(batch(0)))]).into());
        assert!(matches!(unknown, Handled::Close(_)));
    }

    #[test]
    fn offending_records_are_listed_from_version_8_and_another_leader_from_version_10() {
        for version in [7, 8, 10] {
            let mut fake = Fake::with_topic("t", 2);
            let records = [(0, Some(batch(0))), (1, Some(batch(0)))];
            let handled = fake.handle(&header(Api::Produce, version), request(1, "t", &records).into());
            let calls = fake.take_calls();
            let mut invalid = Refusal::new(ErrorCode::InvalidRecord, "two records");
            invalid.records = vec![(1, "no key".into())];
            let handled = fake.reply(handled, calls[0].index, PartitionReply::Refused(invalid));
            let moved = PartitionReply::Refused(Refusal::code(ErrorCode::NotLeaderOrFollower));
            let produced = produced(version, fake.reply(handled, calls[1].index, moved));
            assert_eq!(produced[0].record_errors.len(), usize::from(version >= 8));
            assert_eq!(produced[1].current_leader.leader_id.0, if version >= 10 { 1 } else { -1 });
        }
    }
}

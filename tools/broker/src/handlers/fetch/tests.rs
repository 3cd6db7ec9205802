//! Fetch, on a fake shard.

use highwater_base::{LeaderEpoch, Offset, ProducerId};
use highwater_engine::AbortedTransaction;
use highwater_io::Slice;
use highwater_isr::EpochEnd;
use highwater_replication::{Isolation, ReadDone, ReadRequest};
use highwater_wire::{Api, ErrorCode, FetchAnswer, Piece, encode_fetch};
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use super::super::codec::{topic_name, uuid};
use super::super::fake::{Call, Fake, header};
use crate::call::{PartitionCall, PartitionReply};
use crate::errors::Refusal;
use crate::pending::{Answer, Handled};

/// A fetch of the first partitions of topic `t`, from offset 0, of at least one byte, waiting half a second.
fn request(partitions: i32) -> FetchRequest {
    let partition = |index| {
        let partition = FetchPartition::default().with_partition(index).with_partition_max_bytes(1000);
        partition.with_current_leader_epoch(-1).with_last_fetched_epoch(-1)
    };
    let topic = FetchTopic::default().with_topic(topic_name("t"));
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(10_000)
        .with_session_epoch(-1)
        .with_topics(vec![topic.with_partitions((0..partitions).map(partition).collect())])
}

/// A read that gave batches of these lengths, and left nothing.
fn read(lengths: &[usize]) -> ReadDone {
    let mut bytes = Vec::new();
    for length in lengths {
        let mut batch = vec![0; *length];
        batch[8..12].copy_from_slice(&((length - 12) as i32).to_be_bytes());
        bytes.extend(batch);
    }
    let end = Offset::new(lengths.len() as i64);
    let data = if bytes.is_empty() { Vec::new() } else { vec![Slice::from(bytes)] };
    ReadDone {
        high_watermark: end,
        last_stable: end,
        log_start: Offset::ZERO,
        data,
        next: end,
        aborted: Vec::new(),
        diverging: None,
    }
}

fn gave(lengths: &[usize]) -> PartitionReply {
    PartitionReply::Read(read(lengths))
}

fn ask(fake: &mut Fake, request: FetchRequest) -> Handled {
    fake.handle(&header(Api::Fetch, 12), request.into())
}

fn answered(handled: Handled) -> (FetchAnswer, Vec<Vec<Slice>>) {
    match handled {
        Handled::Answer(Answer::Fetch { fetch, records }) => (fetch, records),
        Handled::Pending(_) => panic!("still pending"),
        _ => panic!("another answer"),
    }
}

fn lengths(handled: Handled) -> Vec<usize> {
    let (fetch, records) = answered(handled);
    let partitions: Vec<_> = fetch.topics.iter().flat_map(|topic| &topic.partitions).collect();
    assert_eq!(partitions.len(), records.len());
    for (partition, data) in partitions.iter().zip(&records) {
        assert_eq!(partition.records_len, data.iter().map(Slice::len).sum::<usize>());
    }
    partitions.iter().map(|partition| partition.records_len).collect()
}

fn max_bytes(call: &Call) -> usize {
    match call.call {
        PartitionCall::Read(ReadRequest { max_bytes, .. }) => max_bytes,
        _ => panic!("no read: {call:?}"),
    }
}

#[test]
fn enough_is_answered_at_once_and_its_pieces_name_the_partitions() {
    let mut fake = Fake::with_topic("t", 2);
    let handled = ask(&mut fake, request(2));
    let calls = fake.take_calls();
    let handled = fake.reply(handled, calls[1].index, gave(&[80]));
    let handled = fake.reply(handled, calls[0].index, gave(&[]));
    let (fetch, records) = answered(handled);
    let pieces = encode_fetch(&header(Api::Fetch, 12), &fetch).unwrap();
    assert!(matches!(pieces[..], [Piece::Owned(_), Piece::Records(1), Piece::Owned(_)]), "{pieces:?}");
    assert_eq!((records[0].len(), records[1][0].len()), (0, 80));
    assert_eq!(fetch.topics[0].partitions[1].high_watermark, Offset::new(1));
    assert_eq!(fetch.topics[0].partitions[1].aborted, None);
}

#[test]
fn too_little_waits_for_more_on_every_partition_and_reads_only_that_one_again() {
    let mut fake = Fake::with_topic("t", 2);
    let mut handled = ask(&mut fake, request(2));
    for call in fake.take_calls() {
        handled = fake.reply(handled, call.index, gave(&[]));
    }
    let waits = fake.take_calls();
    assert_eq!(waits.len(), 2);
    for wait in &waits {
        let PartitionCall::AwaitReadable { beyond, isolation, deadline } = wait.call else {
            panic!("{wait:?}")
        };
        assert_eq!(
            (beyond, isolation, deadline.nanos()),
            (Offset::ZERO, Isolation::ReadUncommitted, 500_000_000)
        );
    }
    assert_eq!(fake.deadline_ms(), Some(500));
    let handled = fake.reply(handled, waits[1].index, PartitionReply::Readable);
    let again = fake.take_calls();
    assert_eq!((again.len(), again[0].partition.get()), (1, 1));
    assert_eq!(lengths(fake.reply(handled, again[0].index, gave(&[90]))), [0, 90]);
    assert_eq!(fake.forgotten, [waits[0].index], "what is parked elsewhere is given up");
}

#[test]
fn min_bytes_are_gathered_over_partitions_and_wakings() {
    let mut fake = Fake::with_topic("t", 2);
    let mut handled = ask(&mut fake, request(2).with_min_bytes(150));
    for call in fake.take_calls() {
        handled = fake.reply(handled, call.index, gave(if call.partition.get() == 0 { &[60] } else { &[] }));
    }
    let waits = fake.take_calls();
    handled = fake.reply(handled, waits[1].index, PartitionReply::Readable);
    let again = fake.take_calls();
    handled = fake.reply(handled, again[0].index, gave(&[50]));
    let rewait = fake.take_calls();
    assert_eq!(rewait.len(), 1, "only the one that was woken is asked anew");
    handled = fake.reply(handled, waits[0].index, PartitionReply::Readable);
    let again = fake.take_calls();
    assert_eq!(lengths(fake.reply(handled, again[0].index, gave(&[60, 60]))), [120, 50]);
}

#[test]
fn a_deadline_gives_what_there_is_and_waits_for_a_read_under_way() {
    let mut fake = Fake::with_topic("t", 1);
    let handled = ask(&mut fake, request(1));
    let call = fake.take_calls().remove(0);
    let handled = fake.reply(handled, call.index, gave(&[]));
    let wait = fake.take_calls().remove(0);
    let handled = fake.reply(handled, wait.index, PartitionReply::Readable);
    let again = fake.take_calls().remove(0);
    let handled = fake.expire(handled);
    assert_eq!(lengths(fake.reply(handled, again.index, gave(&[]))), [0]);

    let handled = ask(&mut fake, request(1));
    let call = fake.take_calls().remove(0);
    let handled = fake.reply(handled, call.index, gave(&[]));
    assert_eq!(lengths(fake.expire(handled)), [0]);
}

#[test]
fn a_partition_where_too_many_wait_is_not_waited_for_and_not_an_error() {
    let mut fake = Fake::with_topic("t", 2);
    let mut handled = ask(&mut fake, request(2).with_min_bytes(100));
    for call in fake.take_calls() {
        handled = fake.reply(handled, call.index, gave(if call.partition.get() == 0 { &[60] } else { &[] }));
    }
    let waits = fake.take_calls();
    let full = PartitionReply::Refused(Refusal::code(ErrorCode::RequestTimedOut));
    let handled = fake.reply(handled, waits[0].index, full);
    assert!(fake.take_calls().is_empty());
    let (fetch, records) = answered(fake.expire(handled));
    assert_eq!((fetch.topics[0].partitions[0].error, records[0].len()), (ErrorCode::None, 1));
}

#[test]
fn an_error_that_readers_do_not_know_is_told_as_one_that_they_do() {
    let mut fake = Fake::with_topic("t", 1);
    for (code, told) in [(7, -1), (2, 2), (56, 56), (74, 74), (19, -1)] {
        let handled = ask(&mut fake, request(1));
        let call = fake.take_calls().remove(0);
        let refused = PartitionReply::Refused(Refusal::code(ErrorCode::from_code(code).unwrap()));
        let (fetch, _) = answered(fake.reply(handled, call.index, refused));
        assert_eq!(fetch.topics[0].partitions[0].error.code(), told);
    }
}

#[test]
fn nothing_waits_without_time_without_bytes_to_wait_for_or_without_partitions() {
    let mut fake = Fake::with_topic("t", 1);
    for request in
        [request(1).with_max_wait_ms(0), request(1).with_min_bytes(0), request(1).with_max_wait_ms(-5)]
    {
        let handled = ask(&mut fake, request);
        let call = fake.take_calls().remove(0);
        assert_eq!(lengths(fake.reply(handled, call.index, gave(&[]))), [0]);
    }
    assert_eq!(lengths(ask(&mut fake, request(0))).len(), 0);
}

#[test]
fn an_error_or_a_divergence_is_told_at_once() {
    let mut fake = Fake::with_topic("t", 2);
    let refused = PartitionReply::Refused(Refusal::code(ErrorCode::OffsetOutOfRange));
    let diverged = ReadDone {
        diverging: Some(EpochEnd { epoch: LeaderEpoch::new(1), end: Offset::new(4) }),
        ..read(&[])
    };
    for reply in [refused, PartitionReply::Read(diverged)] {
        let handled = ask(&mut fake, request(2));
        let calls = fake.take_calls();
        let handled = fake.reply(handled, calls[0].index, gave(&[]));
        let (fetch, _) = answered(fake.reply(handled, calls[1].index, reply));
        let second = &fetch.topics[0].partitions[1];
        assert!(second.error == ErrorCode::OffsetOutOfRange || second.diverging.is_some());
    }
}

#[test]
fn partitions_are_read_in_waves_as_large_as_the_room_that_is_left() {
    let mut fake = Fake::with_topic("t", 4);
    let handled = ask(&mut fake, request(4).with_max_bytes(1500));
    let first = fake.take_calls();
    assert_eq!(first.iter().map(max_bytes).collect::<Vec<_>>(), [1000, 500]);
    let handled = fake.reply(handled, first[0].index, gave(&[100]));
    // A log gives at least one batch, although this one is larger than it was asked for and than the room left.
    let handled = fake.reply(handled, first[1].index, gave(&[1450]));
    let second = fake.take_calls();
    assert_eq!(second.iter().map(max_bytes).collect::<Vec<_>>(), [1000, 400]);
    let handled = fake.reply(handled, second[0].index, gave(&[700, 200]));
    let handled = fake.reply(handled, second[1].index, gave(&[300, 300]));
    assert_eq!(lengths(handled), [100, 0, 900, 300]);
}

#[test]
fn no_more_than_256_partitions_are_read_at_once() {
    let mut fake = Fake::with_topic("t", 300);
    let mut asked = request(300);
    for partition in &mut asked.topics[0].partitions {
        partition.partition_max_bytes = 1;
    }
    let mut handled = ask(&mut fake, asked);
    for expected in [256, 44] {
        let calls = fake.take_calls();
        assert_eq!(calls.len(), expected);
        for call in calls {
            handled = fake.reply(handled, call.index, gave(&[]));
        }
    }
    assert_eq!(fake.take_calls().len(), 300, "every partition is waited for");
}

#[test]
fn a_full_answer_still_tells_the_offsets_of_the_rest() {
    let mut fake = Fake::with_topic("t", 2);
    let handled = ask(&mut fake, request(2).with_max_bytes(500));
    let first = fake.take_calls();
    assert_eq!(first.len(), 1);
    let handled = fake.reply(handled, first[0].index, gave(&[2000]));
    let second = fake.take_calls();
    assert_eq!(max_bytes(&second[0]), 0);
    assert_eq!(lengths(fake.reply(handled, second[0].index, gave(&[]))), [2000, 0]);
}

#[test]
fn what_a_limit_keeps_back_is_not_waited_for() {
    let mut fake = Fake::with_topic("t", 1);
    let handled = ask(&mut fake, request(1).with_max_bytes(100).with_min_bytes(100));
    let call = fake.take_calls().remove(0);
    let more = ReadDone { high_watermark: Offset::new(9), last_stable: Offset::new(9), ..read(&[60]) };
    assert_eq!(lengths(fake.reply(handled, call.index, PartitionReply::Read(more))), [60]);
}

#[test]
fn committed_readers_are_told_of_aborted_transactions() {
    let mut fake = Fake::with_topic("t", 1);
    let handled = ask(&mut fake, request(1).with_isolation_level(1));
    let call = fake.take_calls().remove(0);
    assert!(matches!(
        call.call,
        PartitionCall::Read(ReadRequest { isolation: Isolation::ReadCommitted, .. })
    ));
    let (producer, first) = (ProducerId::new(7), Offset::ZERO);
    let reply = ReadDone { aborted: vec![AbortedTransaction { producer, first }], ..read(&[70]) };
    let (fetch, _) = answered(fake.reply(handled, call.index, PartitionReply::Read(reply)));
    assert_eq!(fetch.topics[0].partitions[0].aborted, Some(vec![(producer, first)]));
}

#[test]
fn what_cannot_be_read_is_refused_without_a_call() {
    let mut fake = Fake::with_topic("t", 1);
    let code = |handled: Handled| answered(handled).0.topics[0].partitions[0].error;
    let elsewhere = |topic| {
        let mut asked = request(2);
        asked.topics[0].topic = topic_name(topic);
        asked.topics[0].partitions.remove(0);
        asked
    };
    assert_eq!(code(ask(&mut fake, elsewhere("u"))), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(ask(&mut fake, elsewhere("t"))), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(ask(&mut fake, request(1).with_isolation_level(2))), ErrorCode::UnknownServerError);
    assert_eq!(
        code(ask(&mut fake, request(1).with_replica_id(3.into()))),
        ErrorCode::ClusterAuthorizationFailed
    );
    let by_id = fake.handle(&header(Api::Fetch, 13), request(1).into());
    assert_eq!(code(by_id), ErrorCode::UnknownTopicId);
    assert!(fake.take_calls().is_empty());
}

#[test]
fn topic_ids_name_topics_and_the_debugging_replica_reads_like_a_consumer() {
    let mut fake = Fake::with_topic("t", 1);
    let mut asked = request(1);
    asked.topics[0].topic_id = uuid(super::super::Ctx::image(&fake).topic("t").unwrap().id);
    asked.replica_state.replica_id = (-2).into();
    let handled = fake.handle(&header(Api::Fetch, 18), asked.into());
    let call = fake.take_calls().remove(0);
    assert_eq!(lengths(fake.reply(handled, call.index, gave(&[64]))), [64]);
}

#[test]
fn a_session_is_opened_continued_with_what_is_new_and_closed() {
    let mut fake = Fake::with_topic("t", 2);
    let in_session = |request: FetchRequest, id, epoch| {
        request.with_session_id(id).with_session_epoch(epoch).with_max_wait_ms(0)
    };
    let mut answer = |request, lengths: &[&[usize]]| {
        let mut handled = ask(&mut fake, request);
        for call in fake.take_calls() {
            handled = fake.reply(handled, call.index, gave(lengths[call.partition.get() as usize]));
        }
        let (fetch, records) = answered(handled);
        let told: Vec<_> = fetch.topics.iter().flat_map(|t| &t.partitions).map(|p| p.index.get()).collect();
        assert_eq!(records.len(), told.len());
        (fetch.error, fetch.session_id, told)
    };
    let (error, id, told) = answer(in_session(request(2), 0, 0), &[&[], &[80]]);
    assert_eq!((error, told), (None, vec![0, 1]));
    assert_ne!(id, 0);
    assert_eq!(answer(in_session(request(0), id, 1), &[&[70], &[]]), (None, id, vec![0, 1]));
    assert_eq!(answer(in_session(request(0), id, 2), &[&[70], &[]]), (None, id, vec![0]));
    let invalid = Some(ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(answer(in_session(request(0), id, 2), &[]), (invalid, 0, vec![]));
    assert_eq!(answer(in_session(request(1), id, -1), &[&[], &[]]), (None, 0, vec![0]));
    let gone = Some(ErrorCode::FetchSessionIdNotFound);
    assert_eq!(answer(in_session(request(0), id, 3), &[]), (gone, 0, vec![]));
    assert_eq!(answer(in_session(request(1), 5, -1), &[&[], &[]]), (None, 0, vec![0]));
}

#[test]
fn the_answer_to_a_request_that_its_reader_gave_up_is_an_error() {
    let mut fake = Fake::with_topic("t", 1);
    let handled = ask(&mut fake, request(1).with_session_epoch(0).with_max_wait_ms(0));
    let call = fake.take_calls().remove(0);
    let (fetch, _) = answered(fake.reply(handled, call.index, gave(&[])));
    let id = fetch.session_id;
    let first = ask(&mut fake, request(0).with_session_id(id).with_session_epoch(1));
    let call = fake.take_calls().remove(0);
    let _second = ask(&mut fake, request(0).with_session_id(id).with_session_epoch(2));
    let (fetch, records) = answered(fake.reply(first, call.index, gave(&[80])));
    assert_eq!((fetch.error, fetch.session_id), (Some(ErrorCode::InvalidFetchSessionEpoch), id));
    assert!(fetch.topics.is_empty() && records.is_empty());
}

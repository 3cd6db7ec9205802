//! Fetch answers, encoded by us, decoded by the codec crate.

use bytes::Bytes;
use highwater_base::{BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId, Uuid};
use highwater_wire::{
    Api, ErrorCode, FetchAnswer, FetchPartition, FetchTopic, NodeEndpoint, Piece, RequestHeader, encode_fetch,
};
use kafka_protocol::messages::{FetchResponse, ResponseHeader};
use kafka_protocol::protocol::Decodable;

const RECORDS: [&[u8]; 4] = [b"first", b"", &[7; 200], b"last"];

fn answer() -> FetchAnswer {
    let partition = |index: usize| FetchPartition {
        index: PartitionIndex::new(index as i32),
        high_watermark: Offset::new(20),
        last_stable: Offset::new(19),
        log_start: Offset::new(3),
        records_len: RECORDS[index].len(),
        ..FetchPartition::default()
    };
    let committed = FetchPartition {
        aborted: Some(vec![(ProducerId::new(9), Offset::new(4)), (ProducerId::new(10), Offset::new(5))]),
        ..partition(0)
    };
    let fenced = FetchPartition {
        error: ErrorCode::NotLeaderOrFollower,
        current_leader: Some((BrokerId::new(2), LeaderEpoch::new(8))),
        diverging: Some((LeaderEpoch::new(6), Offset::new(9))),
        ..partition(1)
    };
    let first =
        FetchTopic { name: "a".into(), id: Uuid::from_halves(1, 2), partitions: vec![committed, fenced] };
    let second = FetchTopic {
        name: "b".into(),
        id: Uuid::from_halves(3, 4),
        partitions: vec![partition(2), partition(3)],
    };
    let node = NodeEndpoint { id: BrokerId::new(2), host: "there".into(), port: 9093, rack: None };
    FetchAnswer { error: None, session_id: 77, topics: vec![first, second], node_endpoints: vec![node] }
}

fn sent(version: i16, answer: &FetchAnswer) -> Vec<u8> {
    let request = RequestHeader { api: Api::Fetch, version, correlation_id: 7, client_id: None };
    let pieces = encode_fetch(&request, answer).unwrap();
    let bytes = pieces.iter().map(|piece| match piece {
        Piece::Owned(bytes) => &bytes[..],
        Piece::Records(number) => RECORDS[*number],
    });
    bytes.collect::<Vec<_>>().concat()
}

#[test]
fn every_version_is_read_back_as_it_was_meant() {
    for version in 4..=18 {
        let frame = sent(version, &answer());
        assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes(), "{version}");
        let mut rest = Bytes::from(frame).slice(4..);
        let header = ResponseHeader::decode(&mut rest, if version >= 12 { 1 } else { 0 }).unwrap();
        assert_eq!(header.correlation_id, 7);
        let read = FetchResponse::decode(&mut rest, version).unwrap();
        assert!(rest.is_empty(), "{version}: {} bytes too many", rest.len());
        assert_eq!((read.session_id, read.error_code), (if version >= 7 { 77 } else { 0 }, 0));
        for (t, topic) in read.responses.iter().enumerate() {
            if version >= 13 {
                assert_eq!(topic.topic_id.as_bytes(), &answer().topics[t].id.bytes());
            } else {
                assert_eq!(topic.topic.as_str(), answer().topics[t].name);
            }
            for (p, partition) in topic.partitions.iter().enumerate() {
                let number = 2 * t + p;
                assert_eq!(partition.partition_index, number as i32);
                assert_eq!(partition.records.as_deref(), Some(RECORDS[number]), "{version}");
                assert_eq!((partition.high_watermark, partition.last_stable_offset), (20, 19));
                assert_eq!(partition.log_start_offset, if version >= 5 { 3 } else { -1 });
                assert_eq!(partition.preferred_read_replica.0, -1);
                assert_eq!(partition.error_code, if number == 1 { 6 } else { 0 });
            }
        }
        let aborted = read.responses[0].partitions[0].aborted_transactions.as_ref().unwrap();
        assert_eq!((aborted.len(), aborted[1].producer_id.0, aborted[1].first_offset), (2, 10, 5));
        assert_eq!(read.responses[1].partitions[0].aborted_transactions, None);
        let fenced = &read.responses[0].partitions[1];
        if version >= 12 {
            assert_eq!((fenced.diverging_epoch.epoch, fenced.diverging_epoch.end_offset), (6, 9));
            assert_eq!((fenced.current_leader.leader_id.0, fenced.current_leader.leader_epoch), (2, 8));
        }
        let nodes = if version >= 16 { 1 } else { 0 };
        assert_eq!(read.node_endpoints.len(), nodes);
        assert!(
            read.node_endpoints
                .iter()
                .all(|n| n.host.as_str() == "there" && n.port == 9093 && n.rack.is_none())
        );
    }
}

#[test]
fn a_divergence_is_what_kafka_writes() {
    // kafka.md 10.6, "Fetch v12 body, divergence".
    let partition = FetchPartition {
        high_watermark: Offset::new(20),
        last_stable: Offset::new(20),
        log_start: Offset::ZERO,
        diverging: Some((LeaderEpoch::new(6), Offset::new(9))),
        ..FetchPartition::default()
    };
    let topic = FetchTopic { name: "t".into(), id: Uuid::ZERO, partitions: vec![partition] };
    let frame = sent(12, &FetchAnswer { topics: vec![topic], ..FetchAnswer::default() });
    let expected = [
        "00000000 0000 00000000 02 02 74 02 00000000 0000 0000000000000014 0000000000000014 0000000000000000",
        "00 ffffffff 01  01 00 0d 00000006 0000000000000009 00  00  00",
    ];
    let expected = expected.concat().replace(' ', "");
    let found: String = frame[9..].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, expected);
}

#[test]
fn an_answer_without_records_is_one_piece() {
    let request = RequestHeader { api: Api::Fetch, version: 11, correlation_id: 1, client_id: None };
    assert_eq!(encode_fetch(&request, &FetchAnswer::default()).unwrap().len(), 1);
}

#[test]
fn an_answer_longer_than_a_frame_is_refused() {
    let request = RequestHeader { api: Api::Fetch, version: 11, correlation_id: 1, client_id: None };
    let partition = FetchPartition { records_len: i32::MAX as usize - 10, ..FetchPartition::default() };
    let topic = FetchTopic { partitions: vec![partition], ..FetchTopic::default() };
    assert!(encode_fetch(&request, &FetchAnswer { topics: vec![topic], ..FetchAnswer::default() }).is_err());
}

//! Bytes that Apache Kafka's storage layer wrote, read and written here.

use highwater_base::{FilePos, LeaderEpoch, Offset, ProducerEpoch, ProducerId, WallMs};
use highwater_engine::batch::{
    Attributes, BatchBuilder, Batches, Codec, Header, Marker, RecordStream, TimestampType, marker_batch,
    set_base_offset, set_leader_epoch,
};
use highwater_engine::index::IndexBuilder;
use highwater_engine::producers::{ProducerBatch, Producers};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .map(|b| (b as char).to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A segment up to its roll: records with headers, a null key and a null value; an idempotent producer; two
/// transactions, one aborted and one committed.
const SEGMENT: [&str; 6] = [
    "0000000000000000 00000055 00000007 02 1c219e3c 0000 00000002 0000019b76daa800 0000019b76daa805 ffffffffffffffff \
     ffff ffffffff 00000003 14000000046b31047631 00 1e000a02010476320402680278026e01 10000604046b330100",
    "0000000000000003 00000043 00000007 02 0ffc9a6e 0000 00000001 0000019b76daabe8 0000019b76daabe8 00000000000003e8 \
     0000 00000000 00000002 1000000002610231 00 1000000202620232 00",
    "0000000000000005 0000003a 00000007 02 300c9e97 0010 00000000 0000019b76daafd0 0000019b76daafd0 00000000000007d0 \
     0003 00000000 00000001 1000000002740231 00",
    "0000000000000006 0000003a 00000007 02 f97ccf68 0010 00000000 0000019b76daafd0 0000019b76daafd0 00000000000007d1 \
     0005 00000000 00000001 1000000002750231 00",
    "0000000000000007 00000042 00000007 02 066e357d 0030 00000000 0000019b76dab3b8 0000019b76dab3b8 00000000000007d0 \
     0004 ffffffff 00000001 20000000 08 0000 0000 0c 0000 0000000b 00",
    "0000000000000008 00000042 00000007 02 0b18601f 0030 00000000 0000019b76dab3b8 0000019b76dab3b8 00000000000007d1 \
     0006 ffffffff 00000001 20000000 08 0000 0001 0c 0000 0000000b 00",
];

const T: i64 = 0x19b_76da_a800;

fn stamped(mut batch: Vec<u8>, offset: i64) -> Vec<u8> {
    set_base_offset(&mut batch, Offset::new(offset));
    set_leader_epoch(&mut batch, LeaderEpoch::new(7));
    batch
}

#[test]
fn the_same_records_give_the_same_bytes() {
    let producer = |id, epoch| (ProducerId::new(id), ProducerEpoch::new(epoch));
    let plain = BatchBuilder::new()
        .record(T, Some(b"k1"), Some(b"v1"))
        .record_with_headers(T + 5, None, Some(b"v2"), &[("h", Some(b"x")), ("n", None)])
        .record(T + 3, Some(b"k3"), None)
        .build();
    let (id, epoch) = producer(1000, 0);
    let idempotent = BatchBuilder::new()
        .producer(id, epoch, 0)
        .record(T + 1000, Some(b"a"), Some(b"1"))
        .record(T + 1000, Some(b"b"), Some(b"2"))
        .build();
    let transactional = |id, epoch, key: &[u8]| {
        let (id, epoch) = producer(id, epoch);
        let builder = BatchBuilder::new().producer(id, epoch, 0).transactional();
        builder.record(T + 2000, Some(key), Some(b"1")).build()
    };
    let marker = |marker, id, epoch| {
        let (id, epoch) = producer(id, epoch);
        marker_batch(marker, id, epoch, 11, WallMs::new(T + 3000))
    };
    let made = [
        stamped(plain, 0),
        stamped(idempotent, 3),
        stamped(transactional(2000, 3, b"t"), 5),
        stamped(transactional(2001, 5, b"u"), 6),
        stamped(marker(Marker::Abort, 2000, 4), 7),
        stamped(marker(Marker::Commit, 2001, 6), 8),
    ];
    for (made, kafka) in made.iter().zip(SEGMENT) {
        assert_eq!(*made, bytes(kafka));
    }
}

#[test]
fn the_segment_gives_kafka_s_indexes_and_producers() {
    let mut segment: Vec<u8> = SEGMENT.iter().flat_map(|batch| bytes(batch)).collect();
    let last = BatchBuilder::new()
        .base_offset(Offset::new(9))
        .leader_epoch(LeaderEpoch::new(8))
        .producer(ProducerId::new(1000), ProducerEpoch::ZERO, 2)
        .record(T + 4000, Some(b"z"), Some(&[0; 60]))
        .build();
    assert_eq!(last.len(), 130);
    assert_eq!(Header::decode(&last).unwrap().crc(), 0xb7f5_1646);
    segment.extend(last);
    let (mut index, mut producers, mut aborted) =
        (IndexBuilder::new(Offset::ZERO, 100), Producers::new(10), Vec::new());
    for batch in Batches::in_file(&segment) {
        let batch = batch.unwrap();
        assert!(batch.crc_matches());
        let position = FilePos::new(batch.position() as u64);
        index.push(batch.last_offset(), position, batch.size() as u64, batch.max_timestamp());
        aborted.extend(ProducerBatch::of(batch).and_then(|batch| producers.apply(&batch)));
    }
    index.finish();
    assert_eq!(index.offset_bytes(), bytes("00000005000000b0 000000070000013c 00000009000001d8"));
    assert_eq!(
        index.time_bytes(),
        bytes("0000019b76daafd000000005 0000019b76dab3b800000007 0000019b76dab7a000000009")
    );
    let [aborted] = aborted[..] else { panic!("{aborted:?}") };
    assert_eq!(
        aborted.encode()[..],
        bytes("0000 00000000000007d0 0000000000000005 0000000000000007 0000000000000006")
    );
    // Kafka's order of producers is its hash map's; ours is by id.
    let mut entries: Vec<Vec<u8>> = producers.snapshot()[10..].chunks(46).map(<[u8]>::to_vec).collect();
    entries.rotate_left(1);
    let kafka = bytes(
        "00000000000007d0 0004 ffffffff ffffffffffffffff 00000000 0000019b76dab3b8 0000000b ffffffffffffffff
         00000000000007d1 0006 ffffffff ffffffffffffffff 00000000 0000019b76dab3b8 0000000b ffffffffffffffff
         00000000000003e8 0000 00000002 0000000000000009 00000000 0000019b76dab7a0 ffffffff ffffffffffffffff",
    );
    assert_eq!(entries.concat(), kafka);
    // The file's checksum, over Kafka's order.
    assert_eq!(highwater_engine::batch::crc32c(&[&[0, 0, 0, 3][..], &kafka].concat()), 0x22d1_42a7);
}

#[test]
fn what_compaction_left_is_read() {
    let horizon = bytes(
        "0000000000000004 00000048 00000001 02 2d3255f3 0040 00000001 0000019b7c0107e8 0000019b76daa802 \
         ffffffffffffffff ffff ffffffff 00000002 14 00 cdffb252 00 02 62 01 00 16 00 cbffb252 02 02 63 02 39 00",
    );
    let batch = Batches::in_file(&horizon).next().unwrap().unwrap();
    assert!(batch.crc_matches());
    let header = batch.header().unwrap();
    assert_eq!(header.delete_horizon(), Some(WallMs::new(0x19b_7c01_07e8)));
    let mut records = RecordStream::new(&horizon, 1000).unwrap();
    let tombstone = records.next().unwrap().unwrap();
    assert_eq!((tombstone.key, tombstone.value), (Some(&b"b"[..]), None));
    assert_eq!(tombstone.timestamp(header), WallMs::new(T + 1));
    assert_eq!(records.next().unwrap().unwrap().timestamp(header), WallMs::new(T + 2));
    assert_eq!(records.next().unwrap(), None);

    let empty = bytes(
        "0000000000000003 00000031 00000001 02 4be47add 0000 00000000 ffffffffffffffff 0000019b76daa800 \
         00000000000003e8 0000 00000000 00000000",
    );
    let batch = Batches::in_file(&empty).next().unwrap().unwrap();
    assert!(batch.crc_matches());
    assert_eq!((batch.last_offset(), batch.max_timestamp()), (Offset::new(3), WallMs::new(T)));
    assert_eq!(RecordStream::new(&empty, 0).unwrap().next().unwrap(), None);
    assert_eq!(ProducerBatch::of(batch).map(|batch| batch.last_sequence), Some(0));
}

#[test]
fn a_batch_stamped_with_the_append_time_says_so_for_every_record() {
    let bytes = BatchBuilder::new()
        .codec(Codec::Lz4)
        .timestamp_type(TimestampType::LogAppend)
        .record(T - 5000, None, Some(b"a"))
        .record(T - 4000, None, Some(b"b"))
        .build();
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.attributes(), Attributes::new(0x000b));
    let mut records = RecordStream::new(&bytes, 1000).unwrap();
    while let Some(record) = records.next().unwrap() {
        assert_eq!(record.timestamp(header), header.max_timestamp());
    }
}

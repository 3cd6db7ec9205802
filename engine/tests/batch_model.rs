//! Batches and records against a naive model: built, checked on arrival, packed anew, read back, damaged.

use highwater_base::{LeaderEpoch, Offset, Prng, ProducerEpoch, ProducerId, WallMs};
use highwater_engine::batch::{
    Batch, BatchBuilder, BatchError, Batches, Codec, Header, RecordStream, Records, Rules, TimestampType,
    arrival, recompress, stamp, unpacked_records,
};

/// A record as plain values.
#[derive(Clone, PartialEq, Debug)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn bytes(prng: &mut Prng, most: u64) -> Option<Vec<u8>> {
    if prng.one_in(6) {
        return None;
    }
    let mut bytes = vec![0; prng.below(most) as usize];
    if prng.one_in(2) {
        prng.fill(&mut bytes);
    }
    Some(bytes)
}

fn records(prng: &mut Prng) -> Vec<Plain> {
    let base = 1_700_000_000_000 + prng.below(1 << 20) as i64;
    (0..1 + prng.below(30))
        .map(|_| {
            let most = if prng.one_in(20) { 70_000 } else { 200 };
            Plain {
                timestamp: base + prng.below(1 << 12) as i64 - 2000,
                key: bytes(prng, 30),
                value: bytes(prng, most),
                headers: (0..prng.below(4)).map(|i| (format!("h{}", i % 2), bytes(prng, 20))).collect(),
            }
        })
        .collect()
}

fn build(records: &[Plain], codec: Codec, prng: &mut Prng) -> Vec<u8> {
    let mut builder = BatchBuilder::new().codec(codec);
    if prng.one_in(2) {
        builder = builder.producer(ProducerId::new(7), ProducerEpoch::new(1), 30);
    }
    for record in records {
        let headers: Vec<_> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
    }
    builder.build()
}

fn read(batch: &[u8]) -> Result<Vec<Plain>, BatchError> {
    let header = Header::decode(batch).expect("a whole header");
    let mut stream = RecordStream::new(batch, 64 << 20)?;
    let mut records = Vec::new();
    while let Some(record) = stream.next()? {
        assert_eq!(record.offset_delta, records.len() as i32);
        records.push(Plain {
            timestamp: record.timestamp(header).get(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .map(|(name, value)| {
                    (String::from_utf8(name.to_vec()).expect("UTF-8"), value.map(<[u8]>::to_vec))
                })
                .collect(),
        });
    }
    Ok(records)
}

fn rules() -> Rules {
    Rules { max_message_bytes: 64 << 20, ..Rules::default() }
}

const NOW: WallMs = WallMs::new(1_700_000_100_000);

#[test]
fn what_is_built_is_accepted_and_read_back_by_every_codec() {
    let mut prng = Prng::new(1);
    for round in 0..400 {
        let records = records(&mut prng);
        let codec = Codec::ALL[round % 5];
        let batch = build(&records, codec, &mut prng);
        let facts = arrival(&batch, &rules(), NOW).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(facts.record_count as usize, records.len());
        assert_eq!(facts.max_timestamp.get(), records.iter().map(|r| r.timestamp).max().expect("some"));
        assert!(facts.consecutive);
        assert_eq!(read(&batch).expect("readable"), records);
        let plain = unpacked_records(&batch, 64 << 20).expect("unpacks");
        assert_eq!(Records::new(&plain, facts.record_count).filter(Result::is_ok).count(), records.len());
        let other = Codec::ALL[prng.below(5) as usize];
        let packed = recompress(&batch, other, 64 << 20).expect("packs");
        assert_eq!(read(&packed).expect("readable"), records, "{codec:?} to {other:?}");
        assert!(arrival(&packed, &rules(), NOW).is_ok());
    }
}

#[test]
fn a_stamped_batch_keeps_its_checksum_true() {
    let mut prng = Prng::new(2);
    for round in 0..300 {
        let records = records(&mut prng);
        let mut batch = build(&records, Codec::ALL[round % 5], &mut prng);
        let append_time = prng.one_in(2);
        let timestamp_type = if append_time { TimestampType::LogAppend } else { TimestampType::Create };
        let rules = Rules { timestamp_type, ..rules() };
        let facts = arrival(&batch, &rules, NOW).expect("accepted");
        let offset = Offset::new(prng.below(1 << 40) as i64);
        let changed = stamp(&mut batch, &facts, offset, LeaderEpoch::new(9), timestamp_type);
        assert_eq!(changed, append_time, "only the append time costs a checksum");
        let found = Batches::in_memory(&batch).next().expect("a batch").expect("framed");
        assert!(found.crc_matches());
        let header = found.header().expect("magic 2");
        assert_eq!((header.base_offset(), header.leader_epoch().get()), (offset, 9));
        let largest = records.iter().map(|r| r.timestamp).max().expect("some");
        assert_eq!(header.max_timestamp().get(), if append_time { NOW.get() } else { largest });
        let times: Vec<i64> = read(&batch).expect("readable").iter().map(|r| r.timestamp).collect();
        let expected: Vec<i64> =
            records.iter().map(|r| if append_time { NOW.get() } else { r.timestamp }).collect();
        assert_eq!(times, expected);
    }
}

#[test]
fn a_wrong_largest_timestamp_is_corrected() {
    let mut prng = Prng::new(3);
    let records = records(&mut prng);
    let mut batch = build(&records, Codec::Zstd, &mut prng);
    batch[35..43].copy_from_slice(&5i64.to_be_bytes());
    let crc = highwater_engine::batch::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let facts = arrival(&batch, &rules(), NOW).expect("accepted");
    assert!(stamp(&mut batch, &facts, Offset::ZERO, LeaderEpoch::ZERO, TimestampType::Create));
    let header = Header::decode(&batch).expect("magic 2");
    assert_eq!(header.max_timestamp().get(), records.iter().map(|r| r.timestamp).max().expect("some"));
}

/// Bytes that a peer may send, with a checksum that is right: the deeper checks must hold by themselves.
fn resealed(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = highwater_engine::batch::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[test]
fn damaged_batches_are_refused_or_read_within_their_bounds() {
    let mut prng = Prng::new(4);
    let rules = Rules { decompressed_bytes: 1 << 20, ..rules() };
    let mut refused = 0;
    for round in 0..6000 {
        let mut batch = build(&records(&mut prng), Codec::ALL[round % 5], &mut prng);
        for _ in 0..=prng.below(3) {
            let at = 21 + prng.below(batch.len() as u64 - 21) as usize;
            batch[at] ^= 1 << prng.below(8);
        }
        let batch = resealed(batch);
        match arrival(&batch, &rules, NOW) {
            Err(error) => {
                refused += 1;
                assert!(error.kafka_code() > 0, "{error}");
            }
            // What is accepted can be read by everybody, and its records lie inside it.
            Ok(facts) => {
                let mut stream = RecordStream::new(&batch, 1 << 20).expect("accepted");
                let mut count = 0;
                while let Some(record) = stream.next().expect("accepted") {
                    assert!((0..=facts.last_offset_delta).contains(&record.offset_delta));
                    count += 1;
                }
                assert_eq!(count, facts.record_count);
            }
        }
    }
    assert!(refused > 1000, "{refused} refused");
}

#[test]
fn any_bytes_frame_without_a_panic_and_never_beyond_their_end() {
    let mut prng = Prng::new(5);
    for _ in 0..20_000 {
        let mut junk = vec![0; prng.below(200) as usize];
        prng.fill(&mut junk);
        if junk.len() > 17 && prng.one_in(2) {
            junk[8..12].copy_from_slice(&(prng.below(220) as i32 - 10).to_be_bytes());
            junk[16] = prng.below(4) as u8;
        }
        for batch in Batches::in_file(&junk).chain(Batches::in_memory(&junk)).flatten() {
            assert!(batch.end() <= junk.len());
            let _ = (batch.crc_matches(), batch.last_offset(), batch.attributes(), batch.max_timestamp());
        }
        let _ = arrival(&junk, &rules(), NOW);
        let _ = Batch::at(&junk, junk.len() + 5);
    }
}

#[test]
fn every_rule_of_arrival_refuses_what_it_is_for() {
    let batch = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = BatchBuilder::new()
            .producer(ProducerId::new(7), ProducerEpoch::ZERO, 0)
            .record(NOW.get(), None, Some(b"a"))
            .record(NOW.get() + 1, Some(b"k"), Some(b"b"))
            .build();
        change(&mut bytes);
        resealed(bytes)
    };
    let code = |bytes: &[u8], rules: &Rules| arrival(bytes, rules, NOW).map_err(|error| error.kafka_code());
    let rules = rules();
    let put = |at: usize, with: &'static [u8]| {
        batch(&move |bytes| bytes[at..at + with.len()].copy_from_slice(with))
    };
    assert!(code(&batch(&|_| ()), &rules).is_ok());
    let refusals: [(&str, Vec<u8>, i16); 11] = [
        ("a base offset", put(0, &[0, 0, 0, 0, 0, 0, 0, 1]), 87),
        ("magic 1", put(16, &[1]), 87),
        ("magic 3", put(16, &[3]), 2),
        ("codec 5", put(21, &[0, 5]), 87),
        ("a control batch", put(21, &[0, 0x20]), 87),
        (
            "LogAppendTime without a time",
            put(21, &[0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]),
            32,
        ),
        ("a range that is not the count", put(23, &[0, 0, 0, 2]), 87),
        ("a negative range", put(23, &[255, 255, 255, 255]), 87),
        ("a negative sequence", put(53, &[255, 255, 255, 255]), 87),
        ("a count of 3", put(57, &[0, 0, 0, 3]), 87),
        ("two batches", [batch(&|_| ()), batch(&|_| ())].concat(), 87),
    ];
    for (what, bytes, expected) in refusals {
        assert_eq!(code(&bytes, &rules).map(|_| ()), Err(expected), "{what}");
    }
    let good = batch(&|_| ());
    assert_eq!(code(&good, &Rules { max_message_bytes: good.len() - 1, ..rules }).map(|_| ()), Err(10));
    assert_eq!(code(&good, &Rules { segment_bytes: good.len() - 1, ..rules }).map(|_| ()), Err(18));
    assert_eq!(code(&good, &Rules { compacted: true, ..rules }).map(|_| ()), Err(87));
    assert_eq!(code(&good, &Rules { timestamp_after_max_ms: 0, ..rules }).map(|_| ()), Err(32));
    let late = Rules { timestamp_before_max_ms: 10, ..rules };
    assert_eq!(
        arrival(&good, &late, WallMs::new(NOW.get() + 11)).map_err(|e| e.faults().to_vec()),
        Err(vec![(0, NOW.get())])
    );
    let mut flipped = good.clone();
    flipped[70] ^= 1;
    assert_eq!(code(&flipped, &rules).map(|_| ()), Err(2));
    assert_eq!(code(&good[..good.len() - 1], &rules).map(|_| ()), Err(2));
    // kafkajs: no producer, but epoch 0 and sequence 0.
    let kafkajs = batch(&|bytes| {
        bytes[43..51].fill(255);
        bytes[51..57].fill(0);
    });
    assert!(code(&kafkajs, &rules).is_ok());
}

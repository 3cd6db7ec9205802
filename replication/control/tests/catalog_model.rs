//! The catalog file against the images it holds: every image survives, every damage is seen.

use highwater_base::{BrokerEpoch, BrokerId, PartitionIndex, Prng, ProducerId, Uuid};
use highwater_control::{
    CatalogError, Command, ConfigOp, Image, NewTopic, Registration, TopicRef, apply, decode_catalog,
    encode_catalog,
};

/// A fixed small image, whose bytes below are the format's golden ones.
fn golden_image() -> Image {
    let me = BrokerId::new(7);
    let mut registration = Registration::new(me, "h", 9092);
    registration.rack = Some("r".into());
    registration.directories = vec![Uuid::from_halves(0xd1, 0xd2)];
    let mut new = NewTopic::named("t", Uuid::from_halves(0x11, 0x22));
    new.configs.insert("retention.ms".into(), "5".into());
    let mut image = Image::new("cl");
    for command in [
        Command::RegisterBroker(registration),
        Command::UnfenceBroker { broker: me, epoch: BrokerEpoch::new(1) },
        Command::AlterBrokerConfig {
            broker: BrokerId::NONE,
            ops: vec![ConfigOp::Set("durability".into(), "os".into())],
        },
        Command::CreateTopic(new),
        Command::AllocateProducerIds,
    ] {
        image = apply(&image, &command).unwrap().0;
    }
    image
}

#[rustfmt::skip]
const GOLDEN: &str = concat!(
    "48574341544c4f47", "0001", "0000", "00000000000000d3", "d115cf89", // magic, version, zero, length, CRC
    "00000002", "636c", "0000000000000005", "00000000000003e8", // cluster id, version, next producer id
    "00000001", "00000007", "0000000000000001", "01", "2384", // one broker: id, epoch, active, port
    "00000001", "68", "01", "00000001", "72", // host, rack
    "00000001", "00000000000000d100000000000000d2", // directories
    "00000001", "ffffffff", "00000001", "0000000a", "6475726162696c697479", "00000002", "6f73", // all brokers' settings
    "00000001", "00000001", "74", "00000000000000110000000000000022", // one topic: name, id
    "00000001", "0000000c", "726574656e74696f6e2e6d73", "00000001", "35", // its settings
    "00000001", "00000001", "00000007", "00000000000000d100000000000000d2", // one partition: one replica
    "00000001", "00000007", "00000000", "00000007", "00000007", // ISR, ELR, last known leader, leader
    "00000000", "00000000", "00", // epochs, recovered
);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn version_1_has_these_bytes_for_ever() {
    let image = golden_image();
    assert_eq!(hex(&encode_catalog(&image)), GOLDEN);
    let bytes: Vec<u8> = (0..GOLDEN.len() / 2)
        .map(|at| u8::from_str_radix(&GOLDEN[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    assert_eq!(decode_catalog(&bytes).unwrap(), image);
}

#[test]
fn every_flipped_bit_and_every_cut_is_an_error_and_none_is_a_panic() {
    let good = encode_catalog(&golden_image());
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            assert!(decode_catalog(&bytes).is_err(), "bit {bit} of byte {at}");
        }
        assert!(decode_catalog(&good[..at]).is_err(), "cut at {at}");
    }
    let longer: Vec<u8> = good.iter().copied().chain([0]).collect();
    assert!(matches!(decode_catalog(&longer), Err(CatalogError::Short { .. })));
}

#[test]
fn a_false_body_under_a_true_checksum_is_an_error_and_allocates_nothing_it_claims() {
    let good = encode_catalog(&golden_image());
    let mut prng = Prng::new(11);
    for round in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=round % 4 {
            let at = 24 + prng.below(bytes.len() as u64 - 24) as usize;
            bytes[at] = if prng.one_in(3) { 0xff } else { prng.next_u64() as u8 };
        }
        if prng.one_in(4) {
            bytes.truncate(24 + prng.below(bytes.len() as u64 - 24) as usize);
            let length = bytes.len() as u64 - 24;
            bytes[12..20].copy_from_slice(&length.to_be_bytes());
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..20]);
        crc.update(&bytes[24..]);
        bytes[20..24].copy_from_slice(&crc.finalize().to_be_bytes());
        // Either it is refused, or it is an image whose rules hold and which encodes to what was read, save for
        // keys that were out of order.
        if let Ok(image) = decode_catalog(&bytes) {
            image.invariants();
            assert_eq!(decode_catalog(&encode_catalog(&image)).unwrap(), image);
        }
    }
}

#[test]
fn an_image_of_many_commands_survives_its_file() {
    let mut prng = Prng::new(3);
    let mut image = golden_image();
    let mut made = 0u64;
    for _ in 0..500 {
        let name = |prng: &mut Prng| format!("topic-{}", prng.below(40));
        let command = match prng.below(8) {
            0 | 1 => {
                made += 1;
                let new = NewTopic::named(name(&mut prng), Uuid::from_halves(5, made));
                Command::CreateTopic(NewTopic { partitions: 1 + prng.below(5) as i32, ..new })
            }
            2 => Command::DeleteTopic(TopicRef::Name(name(&mut prng))),
            3 => Command::CreatePartitions {
                topic: name(&mut prng),
                total: 1 + prng.below(9) as i32,
                assignments: None,
            },
            4 => {
                let op = ConfigOp::Set("segment.ms".into(), (1 + prng.below(99)).to_string());
                Command::AlterTopicConfig { topic: name(&mut prng), ops: vec![op] }
            }
            5 => Command::AllocateProducerIds,
            6 => Command::ReserveProducerIds { up_to: ProducerId::new(prng.below(1 << 40) as i64) },
            _ => Command::RaiseLeaderEpochs { broker: BrokerId::new(7) },
        };
        if let Ok((next, _)) = apply(&image, &command) {
            assert!(next.version() >= image.version());
            assert!(next.next_producer_id() >= image.next_producer_id());
            image = next;
        }
        assert_eq!(decode_catalog(&encode_catalog(&image)).unwrap(), image);
    }
    assert!(image.topic_count() > 5);
    assert!(image.topics().all(|topic| topic.partition(PartitionIndex::new(0)).is_some()));
}

use highwater_base::{FilePos, LeaderEpoch, ProducerId, Uuid, WallMs};

use super::*;
use crate::index::AbortedTxn;
use crate::recovery::Checkpoint;
use crate::segment::Largest;

fn entry(name: &str) -> Entry {
    let aborted = AbortedTxn {
        producer_id: ProducerId::new(7),
        first_offset: Offset::new(1),
        last_offset: Offset::new(4),
        last_stable_offset: Offset::new(5),
    };
    let segment = |base, end, size, aborted| SegmentEntry {
        base: Offset::new(base),
        end: Offset::new(end),
        size,
        largest: Largest { timestamp: WallMs::new(9), offset: Offset::new(end - 1) },
        oldest: (base > 0).then_some(WallMs::new(8)),
        modified_ms: 70 + base,
        aborted,
    };
    Entry {
        name: name.to_owned(),
        modified_ms: 60,
        topic_id: Some(Uuid::from_halves(1, 2)),
        checkpoint: Checkpoint {
            sequence: 5,
            segment: Offset::new(10),
            position: FilePos::new(99),
            offset: Offset::new(12),
            ..Checkpoint::default()
        },
        epochs: vec![(LeaderEpoch::new(0), Offset::ZERO), (LeaderEpoch::new(3), Offset::new(11))],
        snapshots: vec![Offset::new(10), Offset::new(12)],
        producers: vec![0, 1, 2],
        segments: vec![segment(0, 10, 500, vec![aborted]), segment(10, 12, 99, Vec::new())],
        indexes: [vec![1; 8], vec![2; 12]],
    }
}

fn manifest(names: &[&str]) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &VERSION.to_be_bytes(), &(names.len() as u32).to_be_bytes()].concat();
    names.iter().for_each(|name| entry(name).encode(&mut bytes));
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_be_bytes());
    bytes
}

#[test]
fn every_log_is_found_by_its_name_with_all_that_was_noted() {
    let names = ["a-0", "b-0", "b-1", "zebra-0"];
    let manifest = Manifest::decode(manifest(&names)).unwrap();
    for name in names {
        assert_eq!(manifest.log(name).unwrap().entry(), Some(entry(name)));
        assert!(!manifest.log(name).unwrap().is_unchanged(), "nobody has looked yet");
    }
    assert!(manifest.log("b-2").is_none() && manifest.log("").is_none());
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let good = manifest(&["a-0", "b-0"]);
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Manifest::decode(flipped).is_err(), "bit {bit}");
    }
    for len in 0..good.len() {
        assert!(Manifest::decode(good[..len].to_vec()).is_err(), "cut to {len}");
    }
}

#[test]
fn names_out_of_order_or_twice_are_refused() {
    for names in [["b-0", "a-0"], ["a-0", "a-0"]] {
        let error = Manifest::decode(manifest(&names)).unwrap_err();
        assert!(error.contains("in order"), "{error}");
    }
}

#[test]
fn any_other_length_time_or_kind_is_a_change() {
    let entry = entry("a-0");
    let file = |len, modified_ms| Some(FileFacts { kind: EntryKind::File, len, modified_ms });
    let dir = Some(FileFacts { kind: EntryKind::Directory, len: 4096, modified_ms: 60 });
    assert!(is_as_listed(&entry, &[dir, file(500, 70), file(99, 80)]));
    let other_dir = dir.map(|dir| FileFacts { modified_ms: 61, ..dir });
    for changed in [
        [other_dir, file(500, 70), file(99, 80)],
        [None, file(500, 70), file(99, 80)],
        [dir, file(501, 70), file(99, 80)],
        [dir, file(500, 71), file(99, 80)],
        [dir, file(500, 70), file(98, 80)],
        [dir, file(500, 70), file(99, 81)],
        [dir, file(500, 70), None],
        [dir, file(500, 70), dir],
    ] {
        assert!(!is_as_listed(&entry, &changed), "{changed:?}");
    }
    assert!(!is_as_listed(&entry, &[dir, file(500, 70)]));
}

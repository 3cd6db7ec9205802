//! Compaction against a naive model: of each key the latest record stays, nothing moves, nothing aborted is left,
//! tombstones and markers stay as long as they must, and producers are known afterwards as before.

use std::collections::BTreeMap;

use highwater_base::{Offset, Prng, ProducerEpoch, ProducerId, WallMs};
use highwater_engine::batch::{Batch, BatchBuilder, Batches, Codec, Marker, RecordStream, marker_batch};
use highwater_engine::compact::{KEY_SLOT_BYTES, KeyMap, Pass, PassRules, Rewrite};
use highwater_engine::index::AbortedTxn;
use highwater_engine::producers::{ProducerBatch, Producers};

const KEYS: u64 = 12;
const DELETE_RETENTION_MS: u64 = 1_000;

/// What is known of a record that was appended.
#[derive(Clone, Debug)]
struct Known {
    key: Option<u64>,
    tombstone: bool,
    timestamp: i64,
    aborted: bool,
    /// The first pass that kept it as a tombstone, or as an idle marker.
    met: Option<i64>,
}

/// A log as batches in order, and all that was ever in it.
struct Case {
    rng: Prng,
    batches: Vec<Vec<u8>>,
    records: BTreeMap<i64, Known>,
    /// Markers by offset: first and last data offset of their transaction, aborted or not, when first met idle.
    markers: BTreeMap<i64, (Vec<i64>, bool, Option<i64>)>,
    open: BTreeMap<i64, Vec<i64>>,
    sequences: BTreeMap<i64, i32>,
    producers: Producers,
    aborted: Vec<AbortedTxn>,
    end: i64,
    now: i64,
}

impl Case {
    fn new(seed: u64) -> Case {
        Case {
            rng: Prng::new(seed),
            batches: Vec::new(),
            records: BTreeMap::new(),
            markers: BTreeMap::new(),
            open: BTreeMap::new(),
            sequences: BTreeMap::new(),
            producers: Producers::new(1000),
            aborted: Vec::new(),
            end: 0,
            now: 1_000_000,
        }
    }

    fn push(&mut self, mut bytes: Vec<u8>) {
        highwater_engine::batch::set_base_offset(&mut bytes, Offset::new(self.end));
        let batch = whole(&bytes);
        if let Some(facts) = ProducerBatch::of(batch) {
            self.aborted.extend(self.producers.apply(&facts));
        }
        self.end = batch.last_offset().get() + 1;
        self.batches.push(bytes);
    }

    /// One more batch: plain, idempotent or transactional, or the end of a transaction.
    fn append(&mut self) {
        let producer = self.rng.below(4) as i64;
        let transactional = producer >= 2;
        if transactional && self.open.contains_key(&producer) && self.rng.one_in(2) {
            return self.end_transaction(producer);
        }
        let mut builder = BatchBuilder::new().codec(Codec::ALL[self.rng.below(5) as usize]);
        let count = 1 + self.rng.below(4) as i64;
        if producer > 0 {
            let sequence = self.sequences.entry(producer).or_default();
            let id = ProducerId::new(producer);
            builder = builder.producer(id, ProducerEpoch::new(0), *sequence);
            *sequence += count as i32;
        }
        if transactional {
            builder = builder.transactional();
        }
        for number in 0..count {
            let key = (!self.rng.one_in(20)).then(|| self.rng.below(KEYS));
            let tombstone = key.is_some() && self.rng.one_in(4);
            let timestamp = self.now + number - self.rng.below(20) as i64;
            let offset = self.end + number;
            let (name, value) = (key.map(|key| format!("key-{key}")), format!("value-{offset}"));
            let value = (!tombstone).then_some(value.as_bytes());
            builder.push(timestamp, name.as_ref().map(|name| name.as_bytes()), value, &[("h", Some(b"x"))]);
            self.records.insert(offset, Known { key, tombstone, timestamp, aborted: false, met: None });
            if transactional {
                self.open.entry(producer).or_default().push(offset);
            }
        }
        let bytes = builder.build();
        self.push(bytes);
    }

    fn end_transaction(&mut self, producer: i64) {
        let Some(data) = self.open.remove(&producer) else { return };
        let abort = self.rng.one_in(2);
        for offset in &data {
            self.records.get_mut(offset).unwrap().aborted = abort;
        }
        self.markers.insert(self.end, (data, abort, None));
        let marker = if abort { Marker::Abort } else { Marker::Commit };
        let (id, epoch) = (ProducerId::new(producer), ProducerEpoch::new(0));
        self.push(marker_batch(marker, id, epoch, 3, WallMs::new(self.now)));
    }

    /// The first offset that a pass may not look at.
    fn stable(&self) -> i64 {
        self.open.values().map(|data| data[0]).min().unwrap_or(self.end)
    }

    /// One pass below `upto` with a map of `slots`; says how far it came.
    fn compact(&mut self, first_dirty: i64, upto: i64, slots: usize) -> i64 {
        let rules = PassRules {
            first_dirty: Offset::new(first_dirty),
            upto: Offset::new(upto),
            now: WallMs::new(self.now),
            delete_retention_ms: DELETE_RETENTION_MS,
            keep_deletes: false,
        };
        let map = KeyMap::new(slots * KEY_SLOT_BYTES, [self.rng.next_u64(), 1]);
        let mut pass = Pass::new(rules, map, self.aborted.iter().copied());
        let below = |batch: &&Vec<u8>| whole(batch).last_offset() < Offset::new(upto);
        for batch in self.batches.iter().take_while(below) {
            if whole(batch).last_offset().get() >= first_dirty && !pass.map(whole(batch)).unwrap() {
                break;
            }
        }
        assert!(pass.keys().bytes() <= (slots * KEY_SLOT_BYTES).max(2 * KEY_SLOT_BYTES));
        let mut after = Vec::new();
        let mut entries = Vec::new();
        for batch in &self.batches {
            if whole(batch).last_offset() >= pass.end().max(Offset::new(upto)) {
                after.push(batch.clone());
                continue;
            }
            match pass.rewrite(whole(batch), &self.producers, true).unwrap() {
                Rewrite::Drop => {}
                Rewrite::Keep => after.push(batch.clone()),
                Rewrite::Replace(bytes) => {
                    assert_eq!(whole(&bytes).last_offset(), whole(batch).last_offset());
                    assert_eq!(whole(&bytes).stored_offset(), whole(batch).stored_offset());
                    assert!(whole(&bytes).crc_matches());
                    after.push(bytes);
                }
            }
            entries.extend(pass.take_aborted());
        }
        let reached = pass.end().get();
        self.check(&after, &entries, first_dirty, reached, upto);
        self.aborted.retain(|aborted| aborted.last_offset.get() >= upto || entries.contains(aborted));
        self.batches = after;
        reached
    }

    /// What was kept is what had to be.
    fn check(
        &mut self,
        after: &[Vec<u8>],
        entries: &[AbortedTxn],
        first_dirty: i64,
        reached: i64,
        upto: i64,
    ) {
        assert!(reached > first_dirty, "no progress at {first_dirty}");
        let (before, now) = (contents(&self.batches), contents(after));
        let mut last = -1;
        for batch in after {
            assert!(whole(batch).stored_offset().get() > last, "out of order");
            last = whole(batch).last_offset().get();
        }
        assert!(after.iter().any(|batch| whole(batch).last_offset().get() + 1 == upto), "the end is gone");
        for (offset, record) in &now {
            assert_eq!(before.get(offset), Some(record), "record {offset} changed");
        }
        for (offset, known) in &self.records {
            let (was, is) = (before.contains_key(offset), now.contains_key(offset));
            if *offset >= upto || !was {
                assert_eq!(was, is, "record {offset}");
            } else if known.aborted {
                assert!(!is, "aborted record {offset} stayed");
            }
        }
        self.check_keys(&now, reached, upto);
        self.check_tombstones(&before, &now, upto);
        self.check_markers(&before, &now, entries, upto);
        let mut rebuilt = Producers::new(1000);
        for batch in after {
            if let Some(facts) = ProducerBatch::of(whole(batch)) {
                rebuilt.apply(&facts);
            }
        }
        for (id, entry) in self.producers.iter() {
            let found = rebuilt.get(id).unwrap_or_else(|| panic!("producer {id:?} is forgotten"));
            assert_eq!((found.epoch(), found.last_sequence()), (entry.epoch(), entry.last_sequence()));
            assert_eq!(found.open_transaction(), entry.open_transaction());
        }
    }

    /// Of each key the latest stays, and below what was mapped no other.
    fn check_keys(&self, now: &BTreeMap<i64, Vec<u8>>, reached: i64, upto: i64) {
        for key in 0..KEYS {
            let counts = |(offset, known): &(&i64, &Known)| {
                known.key == Some(key) && !known.aborted && **offset < upto
            };
            let latest = self.records.iter().rfind(counts);
            if let Some((offset, known)) = latest
                && !known.tombstone
            {
                assert!(now.contains_key(offset), "the latest of key {key}, {offset}, is gone");
            }
            let left = self
                .records
                .iter()
                .filter(counts)
                .filter(|(offset, _)| **offset < reached && now.contains_key(offset));
            assert!(left.count() <= 1, "key {key} is there twice below {reached}");
        }
    }

    fn check_tombstones(&mut self, before: &BTreeMap<i64, Vec<u8>>, now: &BTreeMap<i64, Vec<u8>>, upto: i64) {
        let records = self.records.clone();
        let below =
            |(offset, known): &(&i64, &mut Known)| known.tombstone && !known.aborted && **offset < upto;
        for (offset, known) in self.records.iter_mut().filter(below) {
            let shadowed =
                records.range(offset + 1..upto).any(|(_, other)| other.key == known.key && !other.aborted);
            if now.contains_key(offset) {
                known.met.get_or_insert(self.now);
            } else if before.contains_key(offset) && !shadowed {
                let met = known.met.unwrap_or_else(|| panic!("tombstone {offset} went at once"));
                assert!(self.now >= met + DELETE_RETENTION_MS as i64, "tombstone {offset} went early");
            }
        }
    }

    fn check_markers(
        &mut self,
        before: &BTreeMap<i64, Vec<u8>>,
        now: &BTreeMap<i64, Vec<u8>>,
        entries: &[AbortedTxn],
        upto: i64,
    ) {
        let batches = &self.batches;
        let held = |offset: i64| {
            batches.iter().any(|batch| {
                (whole(batch).stored_offset().get()..=whole(batch).last_offset().get()).contains(&offset)
            })
        };
        for (offset, (data, abort, met)) in self.markers.iter_mut().filter(|(offset, _)| **offset < upto) {
            let needed = data.iter().any(|data| held(*data));
            let stays = if needed {
                true
            } else {
                self.now < *met.get_or_insert(self.now) + DELETE_RETENTION_MS as i64
            };
            assert!(
                !before.contains_key(offset) || !stays || now.contains_key(offset),
                "marker {offset} went early"
            );
            let entry = entries.iter().any(|entry| entry.last_offset.get() == *offset);
            // As with Kafka, the entry goes before the marker does: at the pass that meets none of its data.
            assert_eq!(entry, *abort && needed && now.contains_key(offset), "index entry of marker {offset}");
        }
    }
}

fn whole(bytes: &[u8]) -> Batch<'_> {
    Batches::in_memory(bytes).next().unwrap().unwrap()
}

/// Every record by its offset: its time, key, value and headers.
fn contents(batches: &[Vec<u8>]) -> BTreeMap<i64, Vec<u8>> {
    let mut all = BTreeMap::new();
    for bytes in batches {
        let header = whole(bytes).header().unwrap();
        let mut records = RecordStream::new(bytes, 1 << 20).unwrap();
        while let Some(record) = records.next().unwrap() {
            let text = format!(
                "{:?} {:?} {:?} {:?}",
                record.timestamp(header),
                record.key,
                record.value,
                record.headers.collect::<Vec<_>>()
            );
            all.insert(record.offset(header).get(), text.into_bytes());
        }
    }
    all
}

#[test]
fn the_latest_of_each_key_stays_whatever_the_history_and_the_memory() {
    let mut passes = 0;
    for seed in 0..300 {
        let mut case = Case::new(seed);
        let mut clean = 0;
        for _ in 0..6 {
            for _ in 0..1 + case.rng.below(25) {
                case.append();
            }
            case.now += case.rng.below(900) as i64;
            // Passes end at a batch, as they do at a segment.
            let upto = case
                .batches
                .iter()
                .map(|batch| whole(batch).last_offset().get() + 1)
                .take_while(|end| *end <= case.stable())
                .last()
                .unwrap_or(0);
            let slots = if case.rng.one_in(3) { 7 } else { 100 };
            while clean < upto {
                clean = case.compact(clean, upto, slots);
                passes += 1;
            }
        }
        assert!(case.records.values().all(|known| known.timestamp > 0));
    }
    println!("compacted {passes} times");
}

#[test]
fn a_tombstone_goes_once_its_horizon_has_passed() {
    let mut case = Case::new(1);
    let at = |timestamp: i64, key: &[u8], value: Option<&[u8]>| {
        BatchBuilder::new().record(timestamp, Some(key), value).build()
    };
    case.push(at(1, b"a", Some(b"1")));
    case.push(at(2, b"a", None));
    case.push(at(3, b"b", Some(b"2")));
    let mut left = Vec::new();
    for (upto, now) in [(3, 1_000_000), (4, 1_000_999), (5, 1_001_000)] {
        case.now = now;
        let clean = upto - if upto == 3 { 3 } else { 1 };
        case.compact(clean, upto, 100);
        left.push(contents(&case.batches).into_keys().collect::<Vec<_>>());
        case.push(at(4, b"c", Some(b"3")));
    }
    assert_eq!(left, [vec![1, 2], vec![1, 2, 3], vec![2, 4]]);
}

//! Indexes, leader epochs, producers, checkpoints and seals against naive models.

use highwater_base::{
    FilePos, LeaderEpoch, Offset, PartitionIndex, Prng, ProducerEpoch, ProducerId, TopicPartition, WallMs,
};
use highwater_engine::batch::{BatchBuilder, Writer, add_sequence};
use highwater_engine::checkpoint_file::OffsetCheckpoint;
use highwater_engine::epochs::EpochCache;
use highwater_engine::index::IndexBuilder;
use highwater_engine::producers::{Admission, ProducerBatch, Producers, Snapshot};
use highwater_engine::seal::{SEAL_PIECE, SealBuilder, SealCheck};

#[test]
fn both_indexes_follow_the_one_rule() {
    let mut prng = Prng::new(1);
    for _ in 0..200 {
        let base = prng.below(1 << 40) as i64;
        let interval = prng.below(600);
        let mut index = IndexBuilder::new(Offset::new(base), interval);
        let (mut offsets, mut times) = (Vec::new(), Vec::new());
        let (mut end, mut position, mut since, mut largest) = (base, 0, 0, (-1, base));
        for _ in 0..prng.below(60) {
            let last = end + prng.below(5) as i64;
            let (size, time) = (61 + prng.below(300), prng.below(1000) as i64 - 1);
            if time > largest.0 {
                largest = (time, last);
            }
            if since > interval {
                offsets.push((last, position));
                if times.last().is_none_or(|(known, _)| largest.0 > *known) && largest.0 >= 0 {
                    times.push(largest);
                }
                since = 0;
            }
            index.push(Offset::new(last), FilePos::new(position), size, WallMs::new(time));
            since += size;
            position += size;
            end = last + 1;
        }
        if prng.one_in(2) {
            index.finish();
            if largest.0 > times.last().map_or(-1, |(known, _)| *known) {
                times.push(largest);
            }
        }
        if prng.one_in(3) && end > base {
            let cut = base + prng.below((end - base) as u64) as i64;
            index.truncate(Offset::new(cut));
            offsets.retain(|(offset, _)| *offset < cut);
            times.retain(|(_, offset)| *offset < cut);
        }
        let found: Vec<_> = index.offsets().entries().map(|e| (e.offset.get(), e.position.get())).collect();
        assert_eq!(found, offsets);
        let found: Vec<_> = index.times().entries().map(|e| (e.timestamp.get(), e.offset.get())).collect();
        assert_eq!(found, times);
        assert_eq!((index.offsets().check(), index.times().check()), (Ok(()), Ok(())));
        for _ in 0..20 {
            let target = base + prng.below(300) as i64;
            let floor = offsets.iter().rev().find(|(offset, _)| *offset <= target);
            assert_eq!(index.offsets().lookup(Offset::new(target)).get(), floor.map_or(0, |entry| entry.1));
            let time = prng.below(1000) as i64;
            let floor = times.iter().rev().find(|(known, _)| *known <= time).copied().unwrap_or((-1, base));
            let found = index.times().lookup(WallMs::new(time));
            assert_eq!((found.timestamp.get(), found.offset.get()), floor);
        }
        let again =
            IndexBuilder::resume(Offset::new(base), interval, index.offset_bytes(), index.time_bytes());
        assert_eq!(again.offset_bytes(), index.offset_bytes());
        assert_eq!(again.time_bytes(), index.time_bytes());
    }
}

/// A log as the epoch of each of its records.
#[derive(Default)]
struct EpochModel {
    start: i64,
    epochs: Vec<i32>,
}

impl EpochModel {
    fn end(&self) -> i64 {
        self.start + self.epochs.len() as i64
    }

    fn end_offset_for(&self, requested: i32) -> (i32, i64) {
        let latest = self.epochs.last().copied();
        if latest == Some(requested) {
            return (requested, self.end());
        }
        let above = self.epochs.iter().position(|epoch| *epoch > requested);
        match above {
            None => (-1, -1),
            Some(0) => (requested, self.start),
            Some(i) => (self.epochs[i - 1], self.start + i as i64),
        }
    }
}

#[test]
fn epochs_know_where_each_ended_after_any_cuts() {
    let mut prng = Prng::new(2);
    for _ in 0..300 {
        let (mut cache, mut model) = (EpochCache::default(), EpochModel::default());
        for _ in 0..40 {
            match prng.below(6) {
                0 => {
                    let to = model.start + prng.below(model.epochs.len() as u64 + 1) as i64;
                    model.epochs.truncate((to - model.start) as usize);
                    cache.truncate_to(Offset::new(to));
                }
                1 if model.epochs.len() > 1 => {
                    let by = prng.below(model.epochs.len() as u64) as usize;
                    model.epochs.drain(..by);
                    model.start += by as i64;
                    cache.trim_to(Offset::new(model.start));
                }
                _ => {
                    let latest = model.epochs.last().copied().unwrap_or(0);
                    let epoch = latest + prng.below(3) as i32;
                    cache.assign(LeaderEpoch::new(epoch), Offset::new(model.end()));
                    model.epochs.extend((0..1 + prng.below(4)).map(|_| epoch));
                }
            }
            for requested in 0..model.epochs.last().map_or(3, |latest| latest + 3) {
                let found = cache.end_offset_for(LeaderEpoch::new(requested), Offset::new(model.end()));
                assert_eq!((found.0.get(), found.1.get()), model.end_offset_for(requested));
            }
            for (i, epoch) in model.epochs.iter().enumerate() {
                assert_eq!(cache.epoch_at(Offset::new(model.start + i as i64)).get(), *epoch);
            }
            assert_eq!(EpochCache::decode(&cache.encode()).as_ref(), Ok(&cache));
        }
    }
}

/// A producer as its epoch and everything it wrote in it: first and last sequence, first offset.
#[derive(Clone, Debug, Default)]
struct ProducerModel {
    epoch: Option<i16>,
    written: Vec<(i32, i32, i64)>,
}

fn batch(producer: i64, epoch: i16, first: i32, count: i32, offset: i64) -> ProducerBatch {
    ProducerBatch {
        producer_id: ProducerId::new(producer),
        epoch: ProducerEpoch::new(epoch),
        base_sequence: first,
        last_sequence: add_sequence(first, count - 1),
        first_offset: Offset::new(offset),
        last_offset: Offset::new(offset + i64::from(count) - 1),
        timestamp: WallMs::new(offset),
        transactional: false,
        marker: None,
    }
}

#[test]
fn producers_are_judged_as_a_full_history_would_judge_them() {
    let mut prng = Prng::new(3);
    for _ in 0..100 {
        let mut producers = Producers::new(1000);
        let mut models = vec![ProducerModel::default(); 3];
        let mut end = 0;
        for _ in 0..200 {
            let id = prng.below(3) as usize;
            let model = &mut models[id];
            let (epoch, count) = (model.epoch.unwrap_or(5), 1 + prng.below(3) as i32);
            let next = model.written.last().map_or(0, |(_, last, _)| add_sequence(*last, 1));
            let (epoch, first, count) = match prng.below(8) {
                // One of its earlier batches again.
                0 | 1 if !model.written.is_empty() => {
                    let (first, last, _) = model.written[prng.below(model.written.len() as u64) as usize];
                    (epoch, first, last - first + 1)
                }
                2 => (epoch, add_sequence(next, 1 + prng.below(3) as i32), count),
                3 => (epoch.saturating_sub(1), next, count),
                4 => (epoch + 1, prng.below(2) as i32, count),
                _ => (epoch, next, count),
            };
            let offered = batch(id as i64, epoch, first, count, end);
            let recent = model.written.iter().rev().take(5);
            let known = recent
                .filter(|_| model.epoch == Some(epoch))
                .find(|(a, b, _)| (*a, *b) == (first, first + count - 1));
            let expected = match (model.epoch, known) {
                (_, Some((_, _, offset))) => Ok(Some(*offset)),
                (None, _) => Ok(None),
                (Some(known), _) if epoch < known => Err(47),
                (Some(known), _) if epoch > known => {
                    if first == 0 {
                        Ok(None)
                    } else {
                        Err(45)
                    }
                }
                _ => {
                    if first == next {
                        Ok(None)
                    } else {
                        Err(45)
                    }
                }
            };
            let found = producers.check(&offered, Writer::Client).map_err(|error| error.kafka_code());
            let found = found.map(|admission| match admission {
                Admission::Append => None,
                Admission::Duplicate { first_offset, .. } => Some(first_offset.get()),
            });
            assert_eq!(found, expected, "{offered:?} {model:?}");
            if expected == Ok(None) {
                producers.apply(&offered);
                if model.epoch != Some(epoch) {
                    model.written.clear();
                }
                model.epoch = Some(epoch);
                model.written.push((first, first + count - 1, end));
                end += i64::from(count);
            }
            if prng.one_in(20) {
                // A restart: of each producer one batch is remembered.
                let bytes = producers.snapshot();
                producers = Producers::new(1000);
                producers.load(Snapshot::new(&bytes), WallMs::new(end), i64::MAX).expect("our own snapshot");
                for model in &mut models {
                    model.written.drain(..model.written.len().saturating_sub(1));
                }
            }
        }
    }
}

#[test]
fn checkpoints_survive_their_text() {
    let mut prng = Prng::new(4);
    for _ in 0..200 {
        let mut checkpoint = OffsetCheckpoint::default();
        for _ in 0..prng.below(20) {
            let topic = format!("t.{}-{}", prng.below(5), prng.below(3));
            let partition = TopicPartition::new(topic, PartitionIndex::new(prng.below(100) as i32));
            checkpoint.offsets.insert(partition, Offset::new(prng.next_u64() as i64 >> 1));
        }
        let text = checkpoint.encode();
        assert_eq!(OffsetCheckpoint::decode(&text).as_ref(), Ok(&checkpoint));
        let mut bytes = text.into_bytes();
        let at = prng.below(bytes.len() as u64) as usize;
        bytes[at] = prng.next_u64() as u8;
        // Whatever it says now, reading it does not panic.
        let _ = OffsetCheckpoint::decode(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_seal_names_every_piece_with_a_changed_front_and_no_other() {
    let mut prng = Prng::new(5);
    for _ in 0..60 {
        let mut batches: Vec<Vec<u8>> = (0..1 + prng.below(12))
            .map(|_| {
                BatchBuilder::new().record(5, None, Some(&vec![7; prng.below(100_000) as usize])).build()
            })
            .collect();
        let mut builder = SealBuilder::new();
        let mut starts = Vec::new();
        for (i, batch) in batches.iter().enumerate() {
            starts.push(builder.length().get());
            let offset = Offset::new(i as i64);
            builder.batch(batch, batch.len() as u64, offset, offset, LeaderEpoch::ZERO, WallMs::new(5));
        }
        let seal = builder.finish(WallMs::new(1));
        let piece = SEAL_PIECE as u64;
        let mut touched = Vec::new();
        for _ in 0..prng.below(3) {
            let (batch, bit) = (prng.below(batches.len() as u64) as usize, prng.below(21 * 8) as usize);
            batches[batch][bit / 8] ^= 1 << (bit % 8);
            touched.push(starts[batch] / piece);
        }
        let length = seal.length.get();
        let mut check = SealCheck::new(seal);
        for (start, batch) in starts.iter().zip(&batches) {
            check.batch(*start, batch);
        }
        let found: Vec<u64> = check
            .finish(length)
            .iter()
            .flat_map(|range| range.start / piece..range.end.div_ceil(piece))
            .collect();
        // Two flips of one bit cancel out: a piece may be whole again, but never damaged without a touch.
        assert!(found.iter().all(|piece| touched.contains(piece)));
        if touched.len() == 1 {
            assert_eq!(found, touched);
        }
    }
}

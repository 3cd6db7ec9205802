//! Compaction in the history of Kafka: each scenario holds by today's rules, and its old rule is caught. `docs/FAULTS.md`
//! says which is which.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use highwater_base::{Mutant, Offset, Prng, ProducerEpoch, ProducerId};
use highwater_engine::batch::{BatchBuilder, Marker, computed_crc, set_base_offset, set_leader_epoch};
use highwater_engine::{LogSettings, Read};
use highwater_sim::{Loss, SimDisk};
use highwater_tests::compacted::{MEMORY, compact, keyed, latest, one_pass, records, roll, settings, values};
use highwater_tests::points::each;
use highwater_tests::scenario::{EPOCH, Judged, Stage, ensure, files, holds_and_catches, marker, value};

/// A transactional batch of one record of producer `id`.
fn in_transaction(id: i64, sequence: i32, key: &str, value: &[u8], time: i64) -> Vec<u8> {
    let batch = BatchBuilder::new().producer(ProducerId::new(id), ProducerEpoch::new(0), sequence);
    batch.transactional().record(time, Some(key.as_bytes()), Some(value)).build()
}

fn end_transaction(stage: &mut Stage, what: Marker, id: i64) -> Judged {
    let marker = marker(what, id, 0, stage.time());
    stage.coordinator(&marker).map_err(|error| error.to_string())?;
    stage.commit();
    Ok(())
}

/// The same batch, its records packed as hard as zstd can: anew at the usual level they are larger.
fn packed_harder(mut plain: Vec<u8>) -> Vec<u8> {
    let packed = zstd::bulk::compress(&plain[61..], 19).expect("it packs");
    plain.splice(61.., packed);
    let len = i32::try_from(plain.len() - 12).expect("it is short");
    plain[8..12].copy_from_slice(&len.to_be_bytes());
    plain[21..23].copy_from_slice(&4i16.to_be_bytes());
    let crc = computed_crc(&plain);
    plain[17..21].copy_from_slice(&crc.to_be_bytes());
    plain
}

/// A batch of texts, of which only the first record is superseded by others.
fn texts(prng: &mut Prng, number: i64, time: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new().record(time, Some(b"again"), Some(b"x"));
    for record in 0..60 {
        let word = |prng: &mut Prng| {
            let below = 1 + prng.below(300);
            format!("w{} ", prng.below(below) * 7919 % 1000)
        };
        let text: String = (0..30).map(|_| word(prng)).collect();
        builder.push(time, Some(format!("{number}/{record}").as_bytes()), Some(text.as_bytes()), &[]);
    }
    builder.build()
}

/// KAFKA-20036, 5316, 6834, 5431: what a pass writes may be larger than what it read: another level of compression, a
/// horizon in each batch of tombstones; batches may be larger than the settings allow by now; and no space that was
/// prepared for a segment is left behind it.
#[test]
fn r54_a_segment_that_grows_takes_its_place_like_any_other() {
    holds_and_catches(Mutant::CompactionMustShrink, |mutant| {
        for tombstones in [false, true] {
            let settings = settings(mutant, 86_400_000);
            let mut stage = Stage::new(settings);
            let mut prng = Prng::new(7);
            let mut number = 0;
            while stage.log.segment_count() < 4 {
                let time = stage.time();
                let batch = if tombstones {
                    let mut builder = BatchBuilder::new();
                    for record in 0..100 {
                        builder.push(time, Some(format!("{number}/{record}").as_bytes()), None, &[]);
                    }
                    builder.build()
                } else {
                    packed_harder(texts(&mut prng, number, time))
                };
                stage.keep(&batch);
                number += 1;
            }
            stage.pass(200);
            let (before, size) = (latest(&mut stage)?, stage.log.size_bytes());
            stage.log.update_settings(LogSettings { max_message_bytes: 300, ..settings });
            compact(&mut stage)?;
            let grown = stage.log.size_bytes();
            ensure(grown > size, || format!("{size} bytes became {grown}: that is no test"))?;
            for clean in [true, false] {
                let size = stage.log.size_bytes();
                stage = if clean { stage.reopened() } else { stage.killed() };
                stage.commit();
                ensure(stage.log.size_bytes() == size, || format!("{size} is {}", stage.log.size_bytes()))?;
                ensure(latest(&mut stage)? == before, || "other records after a restart".into())?;
            }
        }
        Ok(())
    });
}

/// A log to compact: so many segments for each of so many new ones, with an idempotent producer in it.
fn to_swap(mutant: Mutant, inputs: usize, outputs: usize) -> (Stage, LogSettings) {
    let settings = LogSettings { segment_bytes: 4096, ..settings(mutant, 60_000) };
    let mut stage = Stage::new(settings);
    let mut number = 0;
    while stage.log.segment_count() <= inputs * outputs {
        let key = if number % 2 == 0 { format!("key-{number}") } else { "again".into() };
        let producer = (ProducerId::new(7), ProducerEpoch::new(1));
        let batch = BatchBuilder::new().producer(producer.0, producer.1, number);
        stage.keep(&batch.record(stage.time(), Some(key.as_bytes()), Some(&[b's'; 900])).build());
        number += 1;
    }
    stage.pass(200);
    stage.log.update_settings(LogSettings { segment_bytes: 4096 * inputs as u64, ..settings });
    (stage, settings)
}

/// A pass, before and after.
struct Swap {
    old: Vec<(i64, Vec<u8>)>,
    new: Vec<(i64, Vec<u8>)>,
    producers: Vec<u8>,
    /// The first offsets of the old segments.
    bases: Vec<i64>,
    /// How many of them become one.
    inputs: usize,
}

impl Swap {
    /// What is left in the middle of it: each new segment, or what it replaces, and nothing between.
    fn judge(&self, left: SimDisk, rules: LogSettings) -> Judged {
        let (mut stage, _) = Stage::open(left, rules, false).map_err(|error| error.to_string())?;
        let image = stage.io.disk().image();
        let found = stage.batches(0)?;
        let firsts: Vec<i64> = self.bases.iter().step_by(self.inputs).copied().collect();
        for (number, first) in firsts.iter().enumerate() {
            let group = *first..firsts.get(number + 1).copied().unwrap_or(i64::MAX);
            let of = |all: &[(i64, Vec<u8>)]| -> Vec<(i64, Vec<u8>)> {
                all.iter().filter(|(first, _)| group.contains(first)).cloned().collect()
            };
            let found = of(&found);
            ensure(found == of(&self.old) || found == of(&self.new), || {
                format!("{} batches in {group:?}, neither the old nor the new", found.len())
            })?;
        }
        ensure(stage.log.producers().snapshot() == self.producers, || "other producers".into())?;
        let left = image.keys().map(|path| path.to_string_lossy());
        let left = left.into_iter().find(|name| name.ends_with(".cleaned") || name.ends_with(".swap"));
        ensure(left.is_none(), || format!("{left:?} is left"))?;
        let disk = stage.io.disk().clone();
        let (again, _) = Stage::open(disk, rules, false).map_err(|error| error.to_string())?;
        let same = again.io.disk().image() == image;
        ensure(same, || "changed by a second opening".into())
    }
}

/// KAFKA-12520: the power goes, or the process, at each operation of a pass whose new segments take the place of one to
/// three old ones each: each of them is exactly the old or exactly the new, producers stay as they are, and opening once
/// more changes nothing.
#[test]
fn r67_a_swap_cut_off_anywhere_leaves_the_old_or_the_new() {
    holds_and_catches(Mutant::SwapUnsynced, |mutant| {
        for (inputs, outputs) in (1..=3).flat_map(|inputs| (1..=3).map(move |outputs| (inputs, outputs))) {
            let (mut stage, settings) = to_swap(mutant, inputs, outputs);
            let rules = LogSettings { mutant: Mutant::None, ..settings };
            let producers = stage.log.producers().snapshot();
            let old = stage.batches(0)?;
            let names = files(&stage.io.disk()).into_iter().map(|(name, _)| name);
            let bases: Vec<i64> = names.filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect();
            let kept: Rc<RefCell<Vec<SimDisk>>> = Rc::default();
            let seen = Rc::clone(&kept);
            stage.io.watch(move |disk, _| seen.borrow_mut().push(disk.clone()));
            compact(&mut stage)?;
            stage.io.watch(|_, _| {});
            ensure(stage.log.segment_count() == outputs + 1, || {
                format!("{inputs} to one, {outputs} times: {} segments", stage.log.segment_count())
            })?;
            // As they are on the disk: a log that is open may have the old ones in memory.
            let opened = Stage::open(stage.io.disk().clone(), rules, false);
            let new = opened.map_err(|error| error.to_string())?.0.batches(0)?;
            ensure(new.len() < old.len(), || "nothing went".into())?;
            let disks = kept.take();
            ensure(disks.len() > 20 * outputs, || format!("only {} operations", disks.len()))?;
            let swap = Swap { old, new, producers, bases, inputs };
            each(&disks, |index, disk| {
                [
                    Loss::Kill,
                    Loss::Unsynced,
                    Loss::RandomSectors,
                    Loss::EarlierWrites,
                    Loss::SomeFiles,
                    Loss::LengthsAndNames,
                ]
                .into_iter()
                .try_for_each(|loss| {
                    swap.judge(disk.power_cut(loss, index as u64), rules).map_err(|what| {
                        format!("{inputs} to one, {outputs} times, operation {index}, {loss:?}: {what}")
                    })
                })
            })?;
        }
        Ok(())
    });
}

/// KAFKA-4529, 8522 (KIP-534): a tombstone stays for `delete.retention.ms` from the first pass that met it, and goes with
/// the first pass after that.
#[test]
fn r89_a_tombstone_stays_as_long_as_promised_and_then_goes() {
    holds_and_catches(Mutant::TombstonesGoAtOnce, |mutant| {
        let mut stage = Stage::new(settings(mutant, 60_000));
        stage.keep(&keyed("gone", Some(b"value"), stage.time()));
        stage.keep(&keyed("gone", None, stage.time()));
        for ms in [0, 0, 25_000, 25_000] {
            stage.pass(ms);
            roll(&mut stage);
            compact(&mut stage)?;
            let left = values(&mut stage, "gone")?;
            ensure(left == [None], || format!("{} values: the tombstone went before its time", left.len()))?;
        }
        stage.pass(11_000);
        roll(&mut stage);
        compact(&mut stage)?;
        ensure(values(&mut stage, "gone")?.is_empty(), || "the tombstone never goes".into())
    });
}

/// KAFKA-8351: a transaction lies in several groups and passes: what was aborted never comes to light and supersedes
/// nothing, what was committed stays, whatever the memory of a pass, until the markers are gone too.
#[test]
fn r90_what_was_aborted_stays_unseen_through_every_pass() {
    holds_and_catches(Mutant::AbortsUnknownToCleaner, |mutant| {
        for slots in [2, 5, 1000] {
            let mut stage = Stage::new(settings(mutant, 0));
            stage.keep(&keyed("account", Some(b"committed"), stage.time()));
            let ends = [(8, 0, Marker::Abort), (9, 0, Marker::Commit), (8, 2, Marker::Abort)];
            for (id, sequence, what) in ends {
                let text = format!("{what:?} {id} {sequence}");
                // Its first half lies in one segment, the second and the marker in another.
                stage.keep(&in_transaction(id, sequence, "account", text.as_bytes(), stage.time()));
                roll(&mut stage);
                stage.keep(&in_transaction(id, sequence + 1, "other", text.as_bytes(), stage.time()));
                roll(&mut stage);
                end_transaction(&mut stage, what, id)?;
            }
            for pass in 0..4 {
                roll(&mut stage);
                let expected = latest(&mut stage)?;
                let mut passes = 0;
                while passes < 500 && one_pass(&mut stage, slots * 24) {
                    passes += 1;
                }
                ensure(passes < 500, || "it never ends".into())?;
                let found = latest(&mut stage)?;
                ensure(found == expected, || {
                    let keys = |state: &BTreeMap<String, Vec<u8>>| {
                        let text = |value: &[u8]| {
                            String::from_utf8_lossy(&value[..value.len().min(20)]).into_owned()
                        };
                        state.iter().map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>()
                    };
                    format!("{slots} slots, round {pass}: {:?} became {:?}", keys(&expected), keys(&found))
                })?;
            }
        }
        Ok(())
    });
}

/// KAFKA-5490, 8335, 7385, 6854: a producer whose records were all superseded is known by an empty batch: its retry is a
/// duplicate, a gap is refused, its next sequence is taken, also by a start without any snapshot; and the empty batch
/// goes when the producer has gone on.
#[test]
fn r91_a_producers_last_sequence_outlives_its_records() {
    holds_and_catches(Mutant::CleanerForgetsProducers, |mutant| {
        let settings = settings(mutant, 0);
        let mut stage = Stage::new(settings);
        let time = stage.time();
        let batch = |sequence, value: &[u8]| {
            let batch = BatchBuilder::new().producer(ProducerId::new(7), ProducerEpoch::new(3), sequence);
            batch.record(time, Some(b"account"), Some(value)).build()
        };
        stage.keep(&batch(0, b"first"));
        stage.keep(&batch(1, b"second"));
        stage.keep(&keyed("account", Some(b"of somebody else"), time));
        roll(&mut stage);
        compact(&mut stage)?;
        let kept = values(&mut stage, "account")?;
        ensure(kept == [Some(b"of somebody else".to_vec())], || format!("{} values", kept.len()))?;
        let disk = stage.die(Loss::Kill);
        let mut bare = SimDisk::new();
        for (name, bytes) in files(&disk) {
            if !name.ends_with(".snapshot") && name != "highwater.checkpoint" {
                bare.put(Stage::path(&name), &bytes);
            }
        }
        let (mut stage, _) = Stage::open(bare, settings, false).map_err(|error| error.to_string())?;
        stage.commit();
        let again = stage.client(&batch(1, b"second")).map_err(|error| error.to_string())?;
        ensure(again.duplicate && again.first.get() == 1, || format!("its last batch again: {again:?}"))?;
        let gap = stage.client(&batch(5, b"fifth"));
        ensure(gap.is_err(), || format!("a gap: {gap:?}"))?;
        stage.keep(&batch(2, b"third"));
        for round in 0..2 {
            roll(&mut stage);
            compact(&mut stage)?;
            let empty = stage.batches(0)?.iter().filter(|(_, bytes)| bytes.len() == 61).count();
            ensure(empty == 0, || {
                format!("round {round}: {empty} empty batches of a producer that went on")
            })?;
        }
        Ok(())
    });
}

/// KAFKA-13194: what is not committed supersedes nothing: it may be cut away again.
#[test]
fn r92_what_is_not_committed_supersedes_nothing() {
    holds_and_catches(Mutant::CompactsUncommitted, |mutant| {
        let mut stage = Stage::new(settings(mutant, 0));
        stage.keep(&keyed("account", Some(b"committed"), stage.time()));
        roll(&mut stage);
        let committed = stage.log.log_end();
        let mut uncommitted = keyed("account", Some(b"not committed"), stage.time());
        for _ in 0..25 {
            stage.client(&uncommitted).map_err(|error| error.to_string())?;
            stage.settle();
            uncommitted = keyed("other", Some(&[b'f'; 1500]), stage.time());
        }
        stage.pass(200);
        compact(&mut stage)?;
        ensure(stage.log.cleaned_to() <= committed, || format!("it came to {}", stage.log.cleaned_to()))?;
        stage.log.truncate(committed);
        stage.until(|stage| stage.log.is_ready());
        let kept = values(&mut stage, "account")?;
        ensure(kept == [Some(b"committed".to_vec())], || format!("{} values of the account", kept.len()))
    });
}

/// KAFKA-8764, 3894, 3587: gaps in the offsets, within a segment and at its end, as a compacted leader leaves them: a
/// pass comes to its end and the next has nothing to do; with memory for one key at a time too.
#[test]
fn r93_gaps_in_the_offsets_end_a_pass_like_any_other() {
    holds_and_catches(Mutant::GapsStayDirty, |mutant| {
        for memory in [24, MEMORY] {
            let mut stage = Stage::new(settings(mutant, 0));
            let far = 1i64 << 32;
            let offsets = (0..25).map(|step| step * 1000).chain([far, far + 1]);
            for offset in offsets.clone() {
                let mut batch = keyed(&format!("key-{}", offset % 3), Some(&[b'f'; 1500]), stage.time());
                set_base_offset(&mut batch, Offset::new(offset));
                set_leader_epoch(&mut batch, EPOCH);
                stage.replica(&batch).map_err(|error| error.to_string())?;
                stage.commit();
            }
            stage.pass(200);
            let mut passes = 0;
            while passes < 100 && one_pass(&mut stage, memory) {
                passes += 1;
            }
            ensure(passes < 100, || "compacted over and over".into())?;
            ensure(stage.log.cleaned_to().get() == far, || format!("it came to {}", stage.log.cleaned_to()))?;
            let left: Vec<i64> = records(&mut stage)?.into_iter().map(|seen| seen.offset).collect();
            ensure(left == [22_000, 23_000, 24_000, far, far + 1], || format!("{left:?} are left"))?;
        }
        Ok(())
    });
}

/// KAFKA-3330, 3123, 7441: the log is cut below what was compacted: the mark goes back with it, and what is appended then
/// is compacted too.
#[test]
fn r94_a_cut_below_what_was_compacted_takes_the_mark_back() {
    holds_and_catches(Mutant::CleanedMarkStays, |mutant| {
        let mut stage = Stage::new(settings(mutant, 0));
        roll(&mut stage);
        roll(&mut stage);
        compact(&mut stage)?;
        let mark = stage.log.cleaned_to();
        stage.log.truncate(Offset::new(3));
        stage.until(|stage| stage.log.is_ready());
        for value in [b"old", b"new"] {
            stage.keep(&keyed("account", Some(value), stage.time()));
        }
        while stage.log.log_end() < mark {
            stage.keep(&keyed("fill", Some(&[b'f'; 1500]), stage.time()));
        }
        roll(&mut stage);
        compact(&mut stage)?;
        let left = values(&mut stage, "account")?;
        ensure(left == [Some(b"new".to_vec())], || {
            format!("{} values below the old mark: it was never compacted again", left.len())
        })
    });
}

/// Reads up to `upto`, as somebody does who may see no more.
fn reads_to(stage: &mut Stage, upto: Offset) -> Judged {
    let mut next = stage.log.log_start();
    while next < upto {
        let now = stage.now();
        let fetched = match stage.log.read(now, next, upto, 3000).map_err(|error| error.to_string())? {
            Read::Ready(fetched) => fetched,
            Read::Pending(id) => stage.wait(id).map_err(|error| error.to_string())?,
        };
        ensure(fetched.next > next, || format!("whoever reads up to {upto} stays at {next} for ever"))?;
        next = fetched.next;
    }
    ensure(next == upto, || format!("a reader up to {upto} came to {next}"))
}

/// Redpanda 13639: the last batch before what may be read is dropped by a pass, and whoever reads up to there never
/// comes to the end. Records without a key are what a log holds that was not always compacted.
#[test]
fn r95_a_reader_of_a_compacted_log_comes_to_its_end() {
    holds_and_catches(Mutant::LastBatchMayGo, |mutant| {
        let settings = settings(mutant, 0);
        let mut stage = Stage::new(LogSettings { compaction: None, ..settings });
        while stage.log.segment_count() < 4 {
            stage.client(&value(stage.time(), 1500)).map_err(|error| error.to_string())?;
            stage.settle();
        }
        let names = files(&stage.io.disk()).into_iter().rev();
        let active = names.filter_map(|(name, _)| name.strip_suffix(".log")?.parse().ok()).next();
        let committed = Offset::new(active.ok_or("no segment")?);
        stage.log.set_high_watermark(committed);
        stage.pass(200);
        stage.log.update_settings(settings);
        compact(&mut stage)?;
        ensure(stage.log.cleaned_to() == committed, || format!("it came to {}", stage.log.cleaned_to()))?;
        for clean in [true, false] {
            reads_to(&mut stage, committed)?;
            stage = if clean { stage.reopened() } else { stage.killed() };
            stage.log.update_settings(settings);
            stage.log.set_high_watermark(committed);
        }
        // With transactions of which nothing but markers is left, too.
        for round in 0..3 {
            stage.keep(&in_transaction(8, round, "account", b"aborted", stage.time()));
            roll(&mut stage);
            end_transaction(&mut stage, Marker::Abort, 8)?;
            roll(&mut stage);
            compact(&mut stage)?;
            let (mark, end) = (stage.log.cleaned_to(), stage.log.log_end());
            reads_to(&mut stage, mark)?;
            reads_to(&mut stage, end)?;
        }
        Ok(())
    });
}

/// KAFKA-19862: somebody loads a log, slowly, while it is compacted: what was removed is told, for as long as
/// `delete.retention.ms` says.
#[test]
fn r95_whoever_loads_a_log_while_it_is_compacted_misses_no_removal() {
    holds_and_catches(Mutant::TombstonesGoAtOnce, |mutant| {
        let mut stage = Stage::new(settings(mutant, 60_000));
        for key in ["gone", "kept"] {
            stage.keep(&keyed(key, Some(b"value"), stage.time()));
        }
        let first = stage.read(0, 1).map_err(|error| error.to_string())?;
        ensure(first.next == Offset::new(1), || format!("one batch, up to {}", first.next))?;
        stage.keep(&keyed("gone", None, stage.time()));
        for _ in 0..3 {
            roll(&mut stage);
            compact(&mut stage)?;
            stage.pass(15_000);
        }
        // It has seen the first record; now it reads on.
        let rest = records(&mut stage)?.into_iter().filter(|seen| seen.offset >= first.next.get());
        let told: Vec<bool> = rest
            .filter(|seen| seen.key.as_deref() == Some("gone"))
            .map(|seen| seen.value.is_none())
            .collect();
        ensure(told.last() == Some(&true), || "nobody tells it of the removal".into())
    });
}

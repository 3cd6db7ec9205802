//! Segments and their indexes in the history of Kafka: each scenario holds by today's rules, and its old rule is caught.
//! `docs/FAULTS.md` says which is which.

use std::cell::RefCell;
use std::rc::Rc;

use highwater_base::{FilePos, Mutant, Offset, WallMs};
use highwater_engine::batch::{BatchBuilder, Codec, Marker, set_base_offset, set_leader_epoch};
use highwater_engine::index::{IndexBuilder, OffsetIndex, TimeIndex};
use highwater_engine::{AppendError, LogSettings};
use highwater_io::{Op, blocking};
use highwater_sim::{Fault, FaultKind, Loss, SimDisk, SimIo};
use highwater_tests::points::each;
use highwater_tests::scenario::{
    EPOCH, Stage, ensure, files, holds_and_catches, marker, small, transactional, value,
};

/// A batch as a leader of ours sends it.
fn copied(base: i64, time: i64, len: usize) -> Vec<u8> {
    let mut batch = value(time, len);
    set_base_offset(&mut batch, Offset::new(base));
    set_leader_epoch(&mut batch, EPOCH);
    batch
}

fn firsts(stage: &mut Stage, from: i64) -> Result<Vec<i64>, String> {
    Ok(stage.batches(from)?.into_iter().map(|(first, _)| first).collect())
}

/// KAFKA-4451, 5413, 6264: a follower's append with a gap of more than 2^31 offsets must roll, because an index entry
/// counts from the base in 31 bits.
#[test]
fn r53_a_gap_wider_than_an_index_reaches_rolls() {
    holds_and_catches(Mutant::OffsetsUnbounded, |mutant| {
        let mut stage = Stage::new(small(mutant));
        let far = (1i64 << 31) + 5;
        for base in [0, 1, far, far + 1] {
            stage.replica(&copied(base, stage.time(), 700)).map_err(|error| error.to_string())?;
            stage.commit();
        }
        ensure(stage.log.segment_count() == 2, || format!("{} segments", stage.log.segment_count()))?;
        for round in 0..2 {
            ensure(firsts(&mut stage, 0)? == [0, 1, far, far + 1], || format!("round {round}"))?;
            ensure(firsts(&mut stage, 2)? == [far, far + 1], || "read from within the gap".into())?;
            stage = if round == 0 { stage.reopened() } else { stage.killed() };
        }
        ensure(stage.log.log_end().get() == far + 2, || format!("ends at {}", stage.log.log_end()))
    });
}

/// Such a gap in what no seal speaks of yet is no missing segment: whatever crash comes, what was synced behind it stays.
#[test]
fn r53_what_lies_behind_a_wide_gap_survives_any_crash() {
    holds_and_catches(Mutant::GapsAreHoles, |mutant| {
        let mut stage = Stage::new(small(mutant));
        let kept: Rc<RefCell<Vec<SimDisk>>> = Rc::default();
        let seen = Rc::clone(&kept);
        stage.io.watch(move |disk, _| seen.borrow_mut().push(disk.clone()));
        let far = (1i64 << 31) + 5;
        let bases = [0, 1, far, far + 1, 2 * far];
        let mut synced = vec![(0, 0)];
        for base in bases {
            stage.replica(&copied(base, stage.time(), 700)).map_err(|error| error.to_string())?;
            stage.until(|stage| stage.log.synced_end().get() > base);
            synced.push((kept.borrow().len(), base + 1));
        }
        stage.io.watch(|_, _| {});
        let disks = kept.take();
        ensure(disks.len() > 20, || format!("only {} operations", disks.len()))?;
        each(&disks, |index, disk| {
            let least = synced.iter().rev().find(|(from, _)| *from <= index).map_or(0, |(_, end)| *end);
            [Loss::Kill, Loss::Unsynced, Loss::RandomSectors].into_iter().try_for_each(|loss| {
                let opened = Stage::open(disk.power_cut(loss, index as u64), small(mutant), false);
                let (mut stage, report) = opened.map_err(|error| error.to_string())?;
                let end = stage.log.log_end().get();
                let at = |what: String| format!("operation {index}, {loss:?}: {what}");
                ensure(end >= least, || at(format!("ends at {end}, not {least}: {:?}", report.findings)))?;
                bases.into_iter().filter(|base| *base < end).try_for_each(|base| {
                    let read = stage.read(base, 1).map_err(|error| at(error.to_string()))?;
                    ensure(read.next.get() == base + 1, || at(format!("{base} is not read")))
                })
            })
        })
    });
}

/// KAFKA-6264: a file that an old Kafka filled beyond the reach of its index is split at a start, after a clean stop and
/// after a crash, as the last segment and as one in between; a crash at any operation of that leaves nothing out.
#[test]
fn r53_a_file_beyond_the_reach_of_its_index_is_split_at_a_start() {
    let far = (1i64 << 31) + 5;
    let all = [0, 1, far, far + 1, 2 * far, 2 * far + 1, 3 * far, 3 * far + 1];
    let log = |base: i64| Stage::path(&format!("{base:020}.log"));
    let file = |bases: &[i64]| -> Vec<u8> { bases.iter().flat_map(|base| copied(*base, 7, 700)).collect() };
    holds_and_catches(Mutant::OffsetsNotSplit, |mutant| {
        for (clean, rolled) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut disk = SimDisk::new();
            disk.put(Stage::path("leader-epoch-checkpoint"), b"0\n1\n3 0\n");
            disk.put(log(0), &file(&all[..6]));
            if rolled {
                disk.put(log(3 * far), &file(&all[6..]));
                let mut index = IndexBuilder::new(Offset::ZERO, 100);
                let size = copied(0, 7, 700).len() as u64;
                for number in 0..2 {
                    index.push(Offset::new(number), FilePos::new(number as u64 * size), size, WallMs::new(7));
                }
                disk.put(Stage::path("00000000000000000000.index"), index.offset_bytes());
                disk.put(Stage::path("00000000000000000000.timeindex"), index.time_bytes());
            }
            let all = if rolled { &all[..] } else { &all[..6] };
            let kept: Rc<RefCell<Vec<SimDisk>>> = Rc::default();
            let seen = Rc::clone(&kept);
            let mut io = SimIo::new(disk, 2);
            io.watch(move |disk, _| seen.borrow_mut().push(disk.clone()));
            let opened = Stage::open_on(io, small(mutant), clean);
            let (mut stage, report) = opened.map_err(|error| error.to_string())?;
            let at = |what: String| format!("clean {clean}, rolled {rolled}: {what}");
            ensure(report.is_clean() && report.changed, || at(format!("{report:?}")))?;
            ensure(stage.log.segment_count() == 3 + usize::from(rolled), || {
                at(format!("{} segments", stage.log.segment_count()))
            })?;
            ensure(firsts(&mut stage, 0)? == all, || at("other batches".into()))?;
            let disks = kept.take();
            ensure(disks.len() > 40, || format!("only {} operations", disks.len()))?;
            each(&disks, |index, disk| {
                [Loss::Kill, Loss::Unsynced, Loss::RandomSectors].into_iter().try_for_each(|loss| {
                    let left = disk.power_cut(loss, index as u64);
                    let at = |what: String| at(format!("operation {index}, {loss:?}: {what}"));
                    let opened = Stage::open(left, small(mutant), false);
                    let (mut stage, report) = opened.map_err(|error| at(error.to_string()))?;
                    ensure(report.is_clean(), || at(format!("{:?}", report.findings)))?;
                    ensure(firsts(&mut stage, 0)? == all, || at("other batches".into()))
                })
            })?;
        }
        Ok(())
    });
}

/// An offset is outside its batch's checksum: a flipped bit of it is no reason to split.
#[test]
fn r53_a_flipped_bit_of_an_offset_splits_nothing() {
    for (bit, clean) in (31..63).flat_map(|bit| [(bit, true), (bit, false)]) {
        let mut disk = SimDisk::new();
        let bytes: Vec<u8> =
            (0..3).flat_map(|base| copied(base | i64::from(base == 1) << bit, 7, 700)).collect();
        disk.put(Stage::path("00000000000000000000.log"), &bytes);
        let (stage, report) = Stage::open(disk, small(Mutant::None), clean).expect("it opens");
        assert_eq!((stage.log.segment_count(), report.is_clean()), (1, false), "bit {bit}, {clean}");
    }
}

/// KAFKA-6492, 6292: a segment cut to nothing must not keep a full index: the roll that follows would make a segment of
/// the same name.
#[test]
fn r55_a_segment_cut_to_nothing_does_not_roll_onto_itself() {
    holds_and_catches(Mutant::IndexStaysFull, |mutant| {
        // Three entries fill the time index but for its last one.
        let settings = LogSettings { index_bytes: 48, index_interval_bytes: 100, ..small(mutant) };
        let mut stage = Stage::new(settings);
        for number in 0..4 {
            stage.keep(&value(stage.time() + number, 200));
        }
        let base = stage.log.log_end().get() - 4;
        stage.log.truncate(Offset::new(base));
        stage.until(|stage| stage.log.is_ready());
        ensure(stage.log.log_end().get() == base, || format!("cut to {}", stage.log.log_end()))?;
        stage.client(&value(stage.time(), 200)).map_err(|error| error.to_string())?;
        stage.commit();
        ensure(stage.log.segment_count() == 1, || format!("{} segments", stage.log.segment_count()))?;
        ensure(firsts(&mut stage, 0)? == [0], || "the batch after the cut".into())
    });
}

/// KAFKA-6292: no segment grows beyond 2^31 - 1 bytes, whatever the settings: positions have 31 bits.
#[test]
fn r55_positions_stay_within_31_bits() {
    let most = LogSettings { segment_bytes: i32::MAX as u64 + 1, ..LogSettings::default() };
    assert_eq!(most.check().unwrap_err().setting, "segment_bytes");
    LogSettings { segment_bytes: i32::MAX as u64, ..LogSettings::default() }.check().unwrap();
}

/// KAFKA-13603: after a clean stop an empty last segment without its index is nothing to recover from.
#[test]
fn r56_an_empty_last_segment_needs_no_index() {
    holds_and_catches(Mutant::EmptySegmentNeedsIndex, |mutant| {
        let settings = small(mutant);
        let mut stage = Stage::new(settings);
        stage.fill(3);
        let sealed = stage.log.size_bytes();
        let base = stage.log.log_end();
        stage.log.truncate(base);
        let mut disk = stage.stop();
        // As Kafka leaves it: rolled, stopped, and nothing of ours beside it.
        let mut bare = SimDisk::new();
        for (name, bytes) in files(&disk) {
            let ours = name.starts_with("highwater") || name.ends_with(".seal");
            let last = disk.contents(Stage::path(&name)).is_some_and(|b| b.is_empty());
            if !ours && !last {
                bare.put(Stage::path(&name), &bytes);
            }
        }
        let empty = format!("{:020}.log", base.get());
        bare.put(Stage::path(&empty), b"");
        disk = bare;
        let (mut stage, report) = Stage::open(disk, settings, true).map_err(|error| error.to_string())?;
        ensure(report.is_clean(), || format!("{report:?}"))?;
        ensure(report.scanned_bytes < sealed / 2, || {
            format!("{} of {sealed} bytes were read again", report.scanned_bytes)
        })?;
        ensure(firsts(&mut stage, 0)?.len() as i64 == base.get(), || "batches are missing".into())
    });
}

/// What somebody may find in the index of a segment, besides what belongs there.
fn damaged_indexes(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let entry = |bytes: &[u8], i: usize| <[u8; 8]>::try_from(&bytes[i * 8..i * 8 + 8]).expect("eight bytes");
    let with = |at: usize, new: &[u8]| {
        let mut bytes = good.to_vec();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let mut swapped = with(0, &entry(good, 1));
    swapped[8..16].copy_from_slice(&entry(good, 0));
    let position = |i: usize| u32::from_be_bytes(good[i * 8 + 4..i * 8 + 8].try_into().expect("four bytes"));
    vec![
        ("no entry", Vec::new()),
        ("the last offset at the base", with(good.len() - 8, &[0; 4])),
        ("half an entry at the end", good[..good.len() - 3].to_vec()),
        ("entries that decrease", swapped),
        ("an entry beyond the file", with(good.len() - 4, &[0x7f, 0, 0, 0])),
        ("a tail of zeros", [good, &[0; 800]].concat()),
        ("an entry into the middle of a batch", with(12, &(position(1) + 7).to_be_bytes())),
        ("an entry of a later batch", with(4, &position(2).to_be_bytes())),
        ("an entry of an earlier batch", with(12, &position(0).to_be_bytes())),
        ("random bytes", good.iter().map(|byte| byte.wrapping_mul(101).wrapping_add(57)).collect()),
    ]
}

/// An index is a hint: whatever it says, reads give what the segment holds.
#[test]
fn r57_a_damaged_index_never_gives_a_wrong_answer() {
    holds_and_catches(Mutant::IndexTrusted, |mutant| {
        let settings = small(mutant);
        let mut stage = Stage::new(settings);
        stage.fill(3);
        let expected = stage.batches(0)?;
        let disk = stage.stop();
        let name = "00000000000000000000.index";
        let good = disk.contents(Stage::path(name)).expect("the first segment is sealed");
        ensure(good.len() >= 32, || format!("only {} bytes of index", good.len()))?;
        for (what, bytes) in damaged_indexes(&good) {
            let mut damaged = disk.clone();
            damaged.put(Stage::path(name), &bytes);
            for clean in [true, false] {
                let opened = Stage::open(damaged.clone(), settings, clean);
                let (mut stage, _) = opened.map_err(|error| error.to_string())?;
                // Backwards, so that no reader goes on where the last one left off.
                for (first, batch) in expected.iter().rev() {
                    let fetched =
                        stage.read(*first, 1).map_err(|error| format!("{what}, {first}: {error}"))?;
                    ensure(fetched.to_vec() == *batch, || format!("{what}: reading at {first}"))?;
                }
            }
        }
        Ok(())
    });
}

/// KAFKA-4734, 12981, 19407: times that run backwards give an index that does not, sealed to its true length, and no
/// append fails because of them.
#[test]
fn r58_the_time_index_grows_in_both_fields_whatever_the_times() {
    holds_and_catches(Mutant::TimesUnordered, |mutant| {
        let settings = small(mutant);
        let mut stage = Stage::new(settings);
        let start = stage.time();
        for number in 0i64.. {
            let time = start - (number * 7919) % 1000;
            stage.client(&value(time, 600)).map_err(|error| error.to_string())?;
            stage.commit();
            if stage.log.segment_count() == 4 {
                break;
            }
        }
        stage.pass(200);
        let bytes = |stage: &Stage, wanted: &str| {
            let files = stage.files().into_iter().filter(|(name, _)| name.ends_with(wanted));
            files.collect::<Vec<(String, Vec<u8>)>>()
        };
        let times = bytes(&stage, ".timeindex");
        ensure(times.len() >= 3, || format!("{} time indexes", times.len()))?;
        for (name, bytes) in times {
            let base = Offset::new(name[..20].parse().expect("a base offset"));
            let index = TimeIndex::new(&bytes, base);
            index.check().map_err(|error| format!("{name}: {error}"))?;
            ensure(index.len() == index.slots() && !index.is_empty(), || format!("{name} is not trimmed"))?;
        }
        let found = stage.find_time(start).map(|found| found.offset.get());
        ensure(found == Some(0), || format!("the time of the first record is found at {found:?}"))
    });
}

/// KAFKA-2903: a read that begins within a segment and asks for more than is left gives exactly what is left.
#[test]
fn r70_a_read_from_the_middle_gives_the_whole_rest() {
    holds_and_catches(Mutant::ReadsEndEarly, |mutant| {
        let mut stage = Stage::new(small(mutant));
        stage.fill(4);
        let batches = stage.batches(0)?;
        for (index, (first, batch)) in batches.iter().enumerate() {
            for max_bytes in [1, 1600, 5000, 1 << 20] {
                let fetched = stage.read(*first, max_bytes).map_err(|error| error.to_string())?;
                let bytes = fetched.to_vec();
                let expected: Vec<u8> = batches[index..].iter().flat_map(|(_, b)| b.clone()).collect();
                ensure(bytes.len() >= batch.len() && expected.starts_with(&bytes), || {
                    format!("{} bytes at {first}, {max_bytes} wanted", bytes.len())
                })?;
                let (mut end, mut whole) = (*first, 0);
                for (_, batch) in &batches[index..] {
                    if whole < bytes.len() {
                        (end, whole) = (end + 1, whole + batch.len());
                    }
                }
                ensure(whole == bytes.len() && fetched.next.get() == end, || {
                    format!("torn at {first}: {} bytes, then {}", bytes.len(), fetched.next)
                })?;
            }
        }
        Ok(())
    });
}

/// The transaction index of a segment that was not sealed in time: the log's end moved with the append, and what was
/// aborted is known from the batches, also of those before a checkpoint.
#[test]
fn r64_a_lost_transaction_index_is_made_again_and_the_end_stays() {
    holds_and_catches(Mutant::TxnIndexNotRebuilt, |mutant| {
        for (idle_ms, clean) in [(0, false), (500, false), (0, true), (500, true)] {
            let what = format!("{idle_ms} ms idle, clean stop {clean}");
            let mut stage = Stage::new(small(mutant));
            for sequence in 0..3 {
                stage.keep(&transactional(7, 0, sequence, stage.time()));
            }
            stage
                .coordinator(&marker(Marker::Abort, 7, 0, stage.time()))
                .map_err(|error| error.to_string())?;
            stage.commit();
            let end = stage.log.log_end();
            for round in 0..3 {
                stage.pass(idle_ms);
                stage = if clean { stage.reopened() } else { stage.killed() };
                ensure(stage.log.log_end() == end, || {
                    format!("{what}: {end} became {}", stage.log.log_end())
                })?;
                let aborted = stage.log.aborted_in(Offset::ZERO, end);
                ensure(aborted.len() == 1 && aborted[0].first == Offset::ZERO, || {
                    format!("{what}, start {round}: aborted: {aborted:?}")
                })?;
            }
            // Sealed by what follows, and read from its file.
            stage.fill(3);
            for clean in [false, true] {
                stage = if clean { stage.reopened() } else { stage.killed() };
                let aborted = stage.log.aborted_in(Offset::ZERO, end);
                ensure(aborted.len() == 1, || format!("{what}, sealed: aborted: {aborted:?}"))?;
            }
        }
        Ok(())
    });
}

/// KAFKA-7866: whatever fails while a segment is sealed, no offset is given twice, and the aborted stay known.
#[test]
fn r64_a_transaction_index_that_cannot_be_written_reuses_no_offset() {
    let run = |fault: Option<Fault>| {
        let mut stage = Stage::new(small(Mutant::None));
        if let Some(fault) = fault {
            stage.io.inject(fault);
        }
        stage.client(&transactional(7, 0, 0, stage.time())).unwrap();
        stage.coordinator(&marker(Marker::Abort, 7, 0, stage.time())).unwrap();
        let mut given = vec![0, 1];
        while stage.log.segment_count() < 2 {
            stage.settle();
            match stage.client(&value(stage.time(), 1500)) {
                Ok(appended) => given.push(appended.first.get()),
                Err(AppendError::Failed(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        stage.pass(100);
        (stage, given)
    };
    let (stage, _) = run(None);
    let writes = stage.operations();
    assert!(stage.files().iter().any(|(name, _)| name.ends_with(".txnindex")));
    let mut failures = 0;
    for (at, name) in writes.iter().enumerate().skip(10) {
        if !matches!(*name, "open" | "write" | "durable write" | "sync") {
            continue;
        }
        let kind = FaultKind::Error(highwater_sim::EIO);
        let (stage, given) = run(Some(Fault { at: at as u64, kind, lasting: false }));
        assert!(given.is_sorted_by(|a, b| a < b), "operation {at} ({name}): {given:?}");
        failures += usize::from(stage.log.failure().is_some());
        let synced = stage.log.synced_end();
        let (mut stage, _) = Stage::open(stage.die(Loss::Kill), small(Mutant::None), false).unwrap();
        assert!(stage.log.log_end() >= synced, "operation {at} ({name})");
        if stage.log.log_end().get() >= 2 {
            let end = stage.log.log_end();
            assert_eq!(stage.log.aborted_in(Offset::ZERO, end).len(), 1, "operation {at} ({name})");
        }
        firsts(&mut stage, 0).unwrap();
    }
    assert!(failures > 5, "only {failures} of them met the log");
}

/// KAFKA-19571, 15391: a file of a deleted segment that somebody else removed first is no failure of the disk.
#[test]
fn r65_a_deleted_segments_file_that_is_gone_already_fails_nothing() {
    holds_and_catches(Mutant::MissingFileFails, |mutant| {
        let settings = LogSettings { file_delete_delay_ms: 5000, ..small(mutant) };
        for wanted in [".timeindex", ".seal", ".deleted"] {
            let mut stage = Stage::new(settings);
            stage.fill(4);
            let mut removed = 0;
            let mut remove = |stage: &mut Stage, wanted: &str| {
                stage.settle();
                for (name, _) in stage.files().iter().filter(|(name, _)| name.ends_with(wanted)) {
                    blocking::run(&mut stage.io, Op::Unlink { path: Stage::path(name) }).unwrap();
                    removed += 1;
                }
            };
            if wanted != ".deleted" {
                remove(&mut stage, wanted);
            }
            stage.log.trim(stage.log.log_end());
            stage.pass(2000);
            if wanted == ".deleted" {
                remove(&mut stage, wanted);
            }
            stage.pass(6000);
            ensure(removed >= 3, || format!("{removed} files {wanted} were there to be removed"))?;
            ensure(stage.log.failure().is_none(), || format!("{wanted}: {:?}", stage.log.failure()))?;
            stage.keep(&value(stage.time(), 100));
        }
        Ok(())
    });
}

/// The rule for entries, by itself: offsets and positions of batches of every codec only grow.
#[test]
fn r57_an_index_that_is_built_is_one_that_passes_its_check() {
    let mut index = IndexBuilder::new(Offset::new(1000), 0);
    let mut position = 0;
    for (number, codec) in Codec::ALL.into_iter().cycle().take(50).enumerate() {
        let batch = BatchBuilder::new().codec(codec).record(number as i64 % 7, None, Some(b"v")).build();
        let last = Offset::new(1000 + number as i64 * 3);
        let time = highwater_base::WallMs::new(number as i64 % 7);
        index.push(last, highwater_base::FilePos::new(position), batch.len() as u64, time);
        position += batch.len() as u64;
    }
    index.finish();
    OffsetIndex::new(index.offset_bytes(), Offset::new(1000)).check().unwrap();
    TimeIndex::new(index.time_bytes(), Offset::new(1000)).check().unwrap();
}

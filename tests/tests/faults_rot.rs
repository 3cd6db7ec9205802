//! Bytes that rot: flipped bits, damaged sectors, damaged side files. `docs/FAULTS.md` says which fault is which.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_base::{LeaderEpoch, Mono, Mutant, Now, Offset, WallMs};
use highwater_engine::batch::Marker;
use highwater_engine::{Log, LogSettings, OpenHint, Origin, ReadError, Verdict};
use highwater_sim::{Loss, SimDisk, SimIo};
use highwater_tests::points::each;
use highwater_tests::scenario::{
    Judged, Stage, ensure, files, holds_and_catches, marker, produced, small, transactional, value,
};

const SECTOR: usize = 512;

/// What a log that was opened serves, by first offset, and whether anything was refused or reported.
fn served(stage: &mut Stage, mut noticed: bool) -> Result<(BTreeMap<i64, Vec<u8>>, bool), String> {
    let (mut batches, mut next) = (BTreeMap::new(), stage.log.log_start().get());
    while next < stage.log.log_end().get() {
        match stage.read(next, 4000) {
            Ok(fetched) => {
                let bytes = fetched.to_vec();
                for frame in highwater_tests::model::frames(&bytes)? {
                    batches.insert(frame.first, frame.bytes.to_vec());
                }
                ensure(fetched.next.get() > next, || format!("a read at {next} does not move on"))?;
                next = fetched.next.get();
            }
            Err(ReadError::Damaged { until, .. }) => {
                noticed = true;
                next = until.get().max(next + 1);
            }
            Err(error) => return Err(format!("reading at {next}: {error}")),
        }
    }
    Ok((batches, noticed))
}

/// A log of three segments with producers and transactions, stopped in order, and what it holds.
struct Written {
    disk: SimDisk,
    batches: BTreeMap<i64, Vec<u8>>,
    settings: LogSettings,
    state: State,
}

/// What a log knows besides its records.
#[derive(Clone, PartialEq, Debug)]
struct State {
    producers: Vec<u8>,
    aborted: Vec<Offset>,
    epochs: Vec<(highwater_base::LeaderEpoch, Offset)>,
    max_time: Option<Offset>,
}

fn state(stage: &mut Stage) -> State {
    let end = stage.log.log_end();
    State {
        producers: stage.log.producers().snapshot(),
        aborted: stage.log.aborted_in(Offset::ZERO, end).iter().map(|aborted| aborted.first).collect(),
        epochs: stage.log.epochs().to_vec(),
        max_time: stage.find_max_time().map(|found| found.offset),
    }
}

fn written(mutant: Mutant, len: usize) -> Written {
    let settings = small(mutant);
    let mut stage = Stage::new(settings);
    let mut sequence = 0;
    while stage.log.segment_count() < 3 {
        let leader_epoch = LeaderEpoch::new(sequence / 4);
        let now = stage.now();
        for batch in [
            value(stage.time(), len),
            produced(7, 0, sequence, stage.time(), len),
            transactional(8, 0, sequence, stage.time()),
            marker(Marker::Abort, 8, 0, stage.time()),
        ] {
            stage.log.append(now, &batch, Origin::Coordinator { leader_epoch }).expect("it is taken");
        }
        stage.commit();
        sequence += 1;
    }
    stage.pass(200);
    let batches = stage.batches(0).expect("it is sound").into_iter().collect();
    let state = state(&mut stage);
    Written { disk: stage.stop(), batches, settings, state }
}

/// Opens a damaged disk: nothing wrong is served, and what is missing is noticed.
fn damage_is_noticed(damaged: SimDisk, written: &Written, clean: bool) -> Judged {
    let Ok((mut stage, report)) = Stage::open(damaged, written.settings, clean) else {
        return Ok(()); // Refused, with its reason.
    };
    let (batches, noticed) = served(&mut stage, !report.is_clean())?;
    for (first, batch) in &batches {
        let right = written.batches.get(first) == Some(batch);
        ensure(right, || format!("offset {first} is not what was written"))?;
    }
    ensure(noticed || batches.len() == written.batches.len(), || {
        format!("{} of {} batches, and nobody noticed", batches.len(), written.batches.len())
    })
}

/// `flip_every_bit` flips each; this one only so many that a reader without checksums is caught.
#[test]
fn f08_a_flipped_bit_is_never_served() {
    holds_and_catches(Mutant::NoCrc, |mutant| {
        let written = written(mutant, 900);
        let name = "00000000000000000000.log";
        let good = written.disk.contents(Stage::path(name)).expect("the first segment");
        let places: Vec<usize> = (0..good.len()).step_by(41).collect();
        each(&places, |bit, at| {
            let mut damaged = written.disk.clone();
            damaged.rot(Stage::path(name), *at as u64, &[good[*at] ^ (1 << (bit % 8))]);
            damage_is_noticed(damaged, &written, bit % 2 == 0).map_err(|what| format!("byte {at}: {what}"))
        })
    });
}

/// As Apache Kafka leaves a directory: stopped in order, so that all of it had been synced, and nothing of ours beside
/// it. A bad last batch is no torn end: it stays, its offset is nobody else's, and what is appended behind it stays too.
#[test]
fn f08_a_bad_last_batch_after_a_clean_stop_stays_and_so_does_what_follows_it() {
    let written = written(Mutant::None, 900);
    let end = written.batches.len() as i64;
    let mut bare = SimDisk::new();
    for (name, bytes) in files(&written.disk) {
        if !name.starts_with("highwater.") && !name.ends_with(".seal") {
            bare.put(Stage::path(&name), &bytes);
        }
    }
    let last = files(&bare).into_iter().rfind(|(name, _)| name.ends_with(".log")).expect("a segment");
    bare.rot(Stage::path(&last.0), last.1.len() as u64 - 1, &[last.1[last.1.len() - 1] ^ 1]);
    let (mut stage, report) = Stage::open(bare, written.settings, true).unwrap();
    let verdicts: Vec<Verdict> = report.findings.iter().map(|finding| finding.verdict).collect();
    assert_eq!((verdicts, report.cut_bytes), (vec![Verdict::Rot], 0));
    let mut expected = written.batches.clone();
    expected.remove(&(end - 1)).expect("the last batch");
    assert_eq!(served(&mut stage, false).unwrap(), (expected.clone(), true));
    for number in 0..3 {
        let batch = value(stage.time(), 300);
        assert_eq!(stage.keep(&batch).get(), end + number + 1);
        let (bytes, _) = served(&mut stage, false).unwrap();
        expected.insert(end + number, bytes[&(end + number)].clone());
        stage = stage.killed();
        stage.commit();
        assert_eq!(served(&mut stage, false).unwrap(), (expected.clone(), true), "after kill {number}");
    }
}

/// Every sector of a sealed and of the last segment: zeros, noise, another sector, what it held before, what another
/// log holds there.
#[test]
fn f09_a_damaged_sector_is_noticed_and_never_served() {
    holds_and_catches(Mutant::NoCrc, |mutant| {
        let ours = written(mutant, 900);
        let other = written(mutant, 905);
        let last =
            files(&ours.disk).into_iter().rfind(|(name, _)| name.ends_with(".log")).expect("a segment").0;
        let mut cases = Vec::new();
        for name in ["00000000000000000000.log", &last] {
            let good = ours.disk.contents(Stage::path(name)).expect("it is there");
            let others = other.disk.contents(Stage::path("00000000000000000000.log")).expect("it is there");
            let sectors = good.len().div_ceil(SECTOR);
            for sector in 0..sectors {
                let at = sector * SECTOR;
                let here = &good[at..good.len().min(at + SECTOR)];
                let swap = (sector + sectors / 2) % sectors * SECTOR;
                let noise: Vec<u8> = here.iter().enumerate().map(|(i, b)| b ^ (i as u8 | 1)).collect();
                // A write that never landed: prepared space, or the block as it was when its last batch was not there.
                let older = [&here[..here.len() / 2], &vec![0; here.len() - here.len() / 2]].concat();
                for (what, bytes) in [
                    ("zeros", vec![0; here.len()]),
                    ("noise", noise),
                    ("another sector", good[swap..good.len().min(swap + here.len())].to_vec()),
                    ("older content", older),
                    ("another log's", others.get(at..at + here.len()).unwrap_or_default().to_vec()),
                ] {
                    cases.push((name.to_owned(), at, what, bytes));
                }
            }
        }
        each(&cases, |_, (name, at, what, bytes)| {
            [true, false].into_iter().try_for_each(|clean| {
                let mut damaged = ours.disk.clone();
                damaged.rot(Stage::path(name), *at as u64, bytes);
                damage_is_noticed(damaged, &ours, clean).map_err(|e| format!("{name} at {at}, {what}: {e}"))
            })
        })
    });
}

/// Every byte of the files beside the segments: the same records, producers, aborted transactions
/// and epochs come out, or the log is refused with a reason.
#[test]
fn f10_damaged_side_files_never_change_an_answer() {
    let written = written(Mutant::None, 900);
    let mut cases = Vec::new();
    for (name, bytes) in files(&written.disk) {
        let judged =
            [".snapshot", ".index", ".timeindex", ".seal", "highwater.checkpoint", "partition.metadata"];
        if judged.iter().any(|ending| name.ends_with(ending)) {
            let step = if bytes.len() > 2000 { 17 } else { 1 };
            cases.extend((0..bytes.len()).step_by(step).map(|at| (name.clone(), at, bytes[at])));
        }
    }
    assert!(cases.len() > 500, "only {} bytes", cases.len());
    let judged = each(&cases, |number, (name, at, byte)| {
        let mut damaged = written.disk.clone();
        damaged.rot(Stage::path(name), *at as u64, &[byte ^ 0x55]);
        let clean = number % 2 == 0;
        let Ok((mut stage, report)) = Stage::open(damaged, written.settings, clean) else { return Ok(()) };
        let at = |what: String| format!("{name} byte {at}, clean {clean}: {what}");
        let (batches, noticed) = served(&mut stage, !report.is_clean()).map_err(at)?;
        ensure(noticed || batches == written.batches, || at("other records".into()))?;
        let found = state(&mut stage);
        ensure(found.producers == written.state.producers, || at("other producers".into()))?;
        ensure(found.aborted == written.state.aborted, || at(format!("aborted {:?}", found.aborted)))?;
        ensure(found.epochs == written.state.epochs, || at(format!("epochs {:?}", found.epochs)))
    });
    judged.unwrap_or_else(|what| panic!("{what}"));
}

/// Kafka's format has no checksum of a transaction index and of the epoch checkpoint: every bit of them, and their loss. What was
/// made of a bad one lasts: the next start finds nothing wrong.
#[test]
fn f10_a_flipped_bit_that_leaves_a_side_file_in_order_is_noticed_by_our_sums() {
    holds_and_catches(Mutant::SideSumsIgnored, |mutant| {
        let written = written(mutant, 900);
        ensure(written.state.epochs.len() > 2, || "the epochs are too few to be told apart".into())?;
        let mut cases = Vec::new();
        for (name, bytes) in files(&written.disk) {
            if name.ends_with(".txnindex") || name == "leader-epoch-checkpoint" {
                cases.push((name.clone(), None));
                cases.extend((0..bytes.len() * 8).map(|bit| {
                    let flipped = bytes[bit / 8] ^ (1 << (bit % 8));
                    (name.clone(), Some((bit / 8, flipped)))
                }));
            }
        }
        let indexes = files(&written.disk).iter().filter(|(name, _)| name.ends_with(".txnindex")).count();
        ensure(indexes == 3 && cases.len() > 1000, || format!("{indexes} indexes, {} bits", cases.len()))?;
        each(&cases, |number, (name, flip)| {
            let clean = number % 2 == 0;
            let mut disk = written.disk.clone();
            match flip {
                Some((at, byte)) => disk.rot(Stage::path(name), *at as u64, &[*byte]),
                None => {
                    let mut io = SimIo::new(disk, 1);
                    let unlink = highwater_io::Op::Unlink { path: Stage::path(name) };
                    highwater_io::blocking::run(&mut io, unlink).expect("it was there");
                    disk = io.disk().clone();
                    disk.settle();
                }
            }
            for start in ["first", "second"] {
                let what = |what: String| format!("{name}, {flip:?}, clean {clean}, {start} start: {what}");
                let clean = clean && start == "first";
                let (mut stage, report) = Stage::open(disk, written.settings, clean).expect("it opens");
                let (batches, noticed) = served(&mut stage, !report.is_clean()).map_err(what)?;
                ensure(!noticed && batches == written.batches, || what("other records".into()))?;
                let found = state(&mut stage);
                ensure(found == written.state, || what(format!("{:?}, {:?}", found.aborted, found.epochs)))?;
                ensure(start == "first" || !report.changed, || what("something is changed again".into()))?;
                disk = stage.io.disk().power_cut(Loss::Unsynced, 1);
            }
            Ok(())
        })
    });
}

/// A flipped digit of the data directory's `log-start-offset-checkpoint`, which has no checksum: where our own checkpoint says where
/// the log starts, no record goes, above all not the whole log because it ends before.
#[test]
fn f10_a_log_start_that_nobody_set_takes_no_record_away() {
    let written = written(Mutant::None, 900);
    for (log_start, clean_stop) in [(3, true), (3, false), (900_000, true), (900_000, false)] {
        let mut io = SimIo::new(written.disk.clone(), 1);
        let hint = OpenHint { log_start: Some(Offset::new(log_start)), clean_stop, ..OpenHint::default() };
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_767_225_600_000) };
        let dir = Stage::path("");
        let (log, report) = Log::open(&mut io, now, &dir, 7, written.settings, hint).expect("it opens");
        let found = (log.log_start(), log.log_end().get(), report.removed.len());
        assert_eq!(found, (Offset::ZERO, written.batches.len() as i64, 0), "{log_start}, clean {clean_stop}");
    }
}

/// A transaction index or an epoch checkpoint that is cut short, out of order or no text is made again.
#[test]
fn f10_a_damaged_transaction_index_or_epoch_file_is_made_again() {
    let written = written(Mutant::None, 900);
    assert!(written.state.aborted.len() > 5);
    let mut tried = 0;
    for (name, bytes) in files(&written.disk) {
        let damages: Vec<Vec<u8>> = match () {
            () if name.ends_with(".txnindex") => vec![
                bytes[..bytes.len() - 5].to_vec(),
                [&bytes[bytes.len() - 34..], &bytes[..bytes.len() - 34], &bytes[..34]].concat(),
                [&[9], &bytes[1..]].concat(),
                vec![0xff; bytes.len()],
            ],
            () if name == "leader-epoch-checkpoint" => {
                vec![Vec::new(), b"garbage".to_vec(), b"0\n2\n3 0\n".to_vec(), vec![0; bytes.len()]]
            }
            () => continue,
        };
        for (number, damage) in damages.into_iter().enumerate() {
            for clean in [true, false] {
                let mut damaged = written.disk.clone();
                damaged.put(Stage::path(&name), &damage);
                let (mut stage, _) = Stage::open(damaged, written.settings, clean).unwrap();
                let (batches, _) = served(&mut stage, false).unwrap();
                assert_eq!(batches, written.batches, "{name}, damage {number}, clean {clean}");
                assert_eq!(state(&mut stage), written.state, "{name}, damage {number}, clean {clean}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 24, "only {tried}");
}

/// A crash can leave the epochs of before a cut, later ones that began where the log no longer goes, or before where it
/// now begins, beside what was appended since. The records say which epochs there are, at the first recovery already.
#[test]
fn epochs_of_before_a_cut_give_way_to_those_of_the_records() {
    let written = written(Mutant::None, 900);
    for stale in ["0\n1\n99 900000\n", "0\n1\n99 0\n", "0\n2\n99 3\n100 5\n"] {
        let mut disk = written.disk.clone();
        disk.put(Stage::path("highwater.checkpoint"), b"");
        disk.put(Stage::path("leader-epoch-checkpoint"), stale.as_bytes());
        for recovery in 1..=2 {
            let (mut stage, report) = Stage::open(disk, written.settings, false).expect("it opens");
            assert!(report.findings.is_empty(), "{stale:?}, recovery {recovery}: {report:?}");
            assert_eq!(state(&mut stage).epochs, written.state.epochs, "{stale:?}, recovery {recovery}");
            disk = stage.io.disk().power_cut(Loss::Unsynced, 1);
        }
    }
}

/// A recovery that reads a sealed segment leaves its file alone. Were it only cut to the length that it has, its time would
/// be another and its seal void, and the next recovery would take rot for what somebody else wrote.
#[test]
fn what_a_seal_proves_is_as_proven_after_a_recovery() {
    let written = written(Mutant::None, 900);
    let mut disk = written.disk.clone();
    // Without a checkpoint everything is read.
    disk.put(Stage::path("highwater.checkpoint"), b"");
    let seal = Stage::path("00000000000000000000.seal");
    let good = disk.contents(&seal).expect("a seal");
    let later = |disk: SimDisk, minutes: u64| {
        let io = SimIo::new(disk, 2);
        io.clock().advance_to(Mono::ZERO.plus(Duration::from_secs(60 * minutes)));
        Stage::open_on(io, written.settings, false).expect("it opens")
    };
    let recovered = later(disk, 1).0.io.disk().clone();
    assert!(recovered.contents(&seal) == Some(good));

    let mut rotten = recovered;
    let segment = Stage::path("00000000000000000000.log");
    let byte = rotten.contents(&segment).expect("a segment")[700];
    rotten.rot(segment, 700, &[byte ^ 1]);
    for start in 2..=4 {
        rotten.put(Stage::path("highwater.checkpoint"), b"");
        let (mut stage, report) = later(rotten, start);
        let verdicts: Vec<_> = report.findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::Rot], "start {start}");
        let (batches, _) = served(&mut stage, false).expect("the rest is served");
        assert_eq!(batches.len(), written.batches.len() - 1, "start {start}");
        rotten = stage.io.disk().clone();
    }
}

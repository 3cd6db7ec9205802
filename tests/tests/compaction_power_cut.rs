//! The power goes after every I/O operation of passes of compaction, under every loss policy: what is found is a log
//! whose every key has the value that it had, in which nothing aborted is seen, which a second opening does not change,
//! and which is compacted and written to as before.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use highwater_base::{Offset, Prng, ProducerEpoch, ProducerId, WallMs};
use highwater_engine::batch::{BatchBuilder, Codec, Marker, RecordStream, marker_batch};
use highwater_engine::compact::CompactionSettings;
use highwater_engine::{Durability, Log, LogSettings, OpenHint, Verdict};
use highwater_sim::{Behaviour, EIO, ENOSPC, Fault, FaultKind, Loss, SimDisk, SimIo};
use highwater_tests::model::frames;
use highwater_tests::rig::{DIR, Point, Rig, topic_id};
use highwater_tests::workload::tiny;

const KEYS: u64 = 25;
/// One point in so many goes on after its recovery: another pass, more appends.
const DEEP_ONE_IN: usize = 6;
/// Of one point in so many, the power goes again during the recovery.
const NESTED_ONE_IN: usize = 150;

fn settings(durability: Durability) -> LogSettings {
    LogSettings {
        segment_bytes: 12 << 10,
        retention_bytes: None,
        compaction: Some(CompactionSettings {
            min_dirty_ratio: 0.0,
            delete_retention_ms: 300,
            ..CompactionSettings::default()
        }),
        ..tiny(durability)
    }
}

/// What was ever appended: of each offset the key, whether it has a value, and whether it was aborted.
#[derive(Clone, Default)]
struct History {
    records: BTreeMap<i64, (u64, bool)>,
    /// Aborted ones, and where the marker is that says so.
    aborted: BTreeMap<i64, i64>,
}

impl History {
    /// Whether a log that ends at `end` says that the record at `offset` was aborted.
    fn is_aborted(&self, offset: i64, end: i64) -> bool {
        self.aborted.get(&offset).is_some_and(|marker| *marker < end)
    }

    /// The last offset of each key below `end` that has a value.
    fn state(&self, end: i64) -> BTreeMap<u64, i64> {
        let kept = self.records.range(..end).filter(|(offset, _)| !self.is_aborted(**offset, end));
        replay(kept.map(|(offset, (key, value))| (*offset, *key, *value)))
    }
}

fn replay(records: impl Iterator<Item = (i64, u64, bool)>) -> BTreeMap<u64, i64> {
    let mut state = BTreeMap::new();
    for (offset, key, value) in records {
        match value {
            true => state.insert(key, offset),
            false => state.remove(&key),
        };
    }
    state
}

struct Workload {
    rig: Rig,
    rng: Prng,
    history: History,
    /// Offsets of the open transaction.
    open: Vec<i64>,
    sequence: i32,
}

impl Workload {
    fn append(&mut self) {
        let producer = ProducerId::new(5);
        let (transactional, codec) = (self.rng.one_in(4), Codec::ALL[self.rng.below(5) as usize]);
        let mut builder = BatchBuilder::new().codec(codec);
        if transactional {
            builder = builder.transactional().producer(producer, ProducerEpoch::new(0), self.sequence);
        }
        let first = self.rig.log.log_end().get();
        let count = 1 + self.rng.below(3) as i64;
        for offset in first..first + count {
            let (key, value) = (self.rng.below(KEYS), !self.rng.one_in(5));
            let bytes: Vec<u8> = (0..self.rng.below(900)).map(|_| self.rng.next_u64() as u8).collect();
            let name = format!("key-{key}");
            builder.push(1_767_225_600_000 + offset, Some(name.as_bytes()), value.then_some(&bytes), &[]);
            self.history.records.insert(offset, (key, value));
        }
        self.rig.append(&builder.build()).expect("a calm disk takes it");
        if transactional {
            self.open.extend(first..first + count);
            self.sequence += count as i32;
        }
        self.rig.settle();
        if self.open.len() > 5 {
            let abort = self.rng.one_in(2);
            let marker = if abort { Marker::Abort } else { Marker::Commit };
            let at = WallMs::new(1_767_225_600_000);
            let marked = self
                .rig
                .mark(&marker_batch(marker, producer, ProducerEpoch::new(0), 1, at))
                .expect("a marker");
            let open = std::mem::take(&mut self.open);
            let marker = marked.first.get();
            self.history.aborted.extend(open.into_iter().filter(|_| abort).map(|offset| (offset, marker)));
            self.rig.settle();
        }
    }

    fn compact(&mut self, slots: usize) -> bool {
        compact(&mut self.rig, slots)
    }
}

/// Everything is durable, sealed and behind a checkpoint.
fn rest(rig: &mut Rig) {
    let end = rig.log.log_end();
    rig.log.want_synced(end);
    assert!(rig.run_until(|rig| rig.log.synced_end() == end), "a sync comes");
    rig.log.set_high_watermark(end);
    rig.pass(Duration::from_millis(300));
}

/// One pass, to its end; whether there was something to do.
fn compact(rig: &mut Rig, slots: usize) -> bool {
    rest(rig);
    let now = rig.io.clock().now();
    if !rig.log.compact(now, slots * 24, u64::MAX) {
        return false;
    }
    assert!(rig.run_until(|rig| !rig.log.is_compacting()), "a pass ends");
    rig.settle();
    true
}

/// Points of a workload with passes in it, and all that was appended.
fn recorded(settings: LogSettings, seed: u64, behaviour: Behaviour) -> (Vec<Point>, History, usize) {
    let mut disk = SimDisk::new();
    disk.put("/data/meta.properties", b"");
    let rig = Rig::create(SimIo::new(disk, seed).behaving(behaviour), settings, true);
    let history = History::default();
    let mut work = Workload { rig, rng: Prng::new(seed), history, open: Vec::new(), sequence: 0 };
    let mut points = Vec::new();
    let mut passes = 0;
    for round in 0..3 {
        for _ in 0..35 {
            work.append();
        }
        // Only what passes do is looked at: the rest is `power_cut_every_op`'s.
        work.rig.take_points();
        work.rig.keep_points();
        let before = work.rig.log.size_bytes();
        let slots = if round == 1 { 12 } else { 1000 };
        while passes < 100 && work.compact(slots) {
            passes += 1;
            let cleaned = work.rig.log.cleaned_to();
            assert!(cleaned > Offset::ZERO, "a pass without an error says how far it came");
            if slots > 12 {
                break;
            }
        }
        assert!(work.rig.log.size_bytes() < before, "round {round}: nothing went of {before} bytes");
        points.extend(work.rig.take_points());
    }
    assert!(!work.rig.has_failed(), "{:?}", work.rig.log.failure());
    let end = work.rig.log.log_end().get();
    look(&mut work.rig, &work.history, end).expect("what was compacted and never cut");
    (points, work.history, passes)
}

/// Reads everything: each record is what was appended there, and each key has its last value.
fn look(rig: &mut Rig, history: &History, end: i64) -> Result<(), String> {
    let start = rig.log.log_start().get();
    let bytes = rig.read_all(start, end).map_err(|violation| violation.to_string())?;
    let hidden = rig.log.aborted_in(Offset::new(start), Offset::new(end));
    let (mut last, mut seen) = (start - 1, Vec::new());
    for frame in frames(&bytes)? {
        if frame.first <= last {
            return Err(format!("a batch at {} behind {last}", frame.first));
        }
        last = frame.end - 1;
        let header = highwater_engine::batch::Header::decode(frame.bytes).ok_or("no header")?;
        if header.attributes().is_control() {
            continue;
        }
        let mut records = RecordStream::new(frame.bytes, 1 << 20).map_err(|error| error.to_string())?;
        while let Some(record) = records.next().map_err(|error| error.to_string())? {
            let offset = record.offset(header).get();
            let key = format!("{}", String::from_utf8_lossy(record.key.unwrap_or_default()));
            let Some((expected, value)) = history.records.get(&offset) else {
                return Err(format!("nothing was appended at {offset}"));
            };
            if key != format!("key-{expected}") || record.value.is_some() != *value {
                return Err(format!("the record at {offset} is not what was appended"));
            }
            if history.is_aborted(offset, end) {
                if hidden.iter().all(|aborted| aborted.first.get() > offset) {
                    return Err(format!(
                        "the aborted record at {offset} of {start}..{end} is seen, hidden {hidden:?}, aborted {:?}",
                        history.aborted
                    ));
                }
                continue;
            }
            seen.push((offset, *expected, *value));
        }
    }
    let offsets: Vec<i64> = seen.iter().map(|(offset, _, _)| *offset).collect();
    let (found, expected) = (replay(seen.into_iter()), history.state(end));
    if found != expected {
        return Err(format!("{start}..{end} {offsets:?} keys have {found:?}, expected {expected:?}"));
    }
    Ok(())
}

/// Opens what `loss` left of a point and looks at all of it.
fn check(
    point: &Point,
    history: &History,
    settings: LogSettings,
    loss: Loss,
    seed: u64,
    deep: bool,
) -> Result<(), String> {
    let disk = point.disk.power_cut(loss, seed);
    let open = |disk: SimDisk, seed| {
        Rig::open(SimIo::new(disk, seed), settings, point.model.clone()).map_err(|error| error.to_string())
    };
    let (mut rig, report) = open(disk, seed)?;
    let end = rig.log.log_end().get();
    if end < point.model.required(loss == Loss::Kill) {
        return Err(format!("lost: the log ends at {end}"));
    }
    if let Some(rot) = report.findings.iter().find(|finding| finding.verdict == Verdict::Rot) {
        return Err(format!("a crash was taken for rot: {rot:?}"));
    }
    let image = rig.io.disk().image();
    look(&mut rig, history, end)?;
    let disk = rig.io.disk().clone();
    let (mut again, _) = open(disk, seed + 1)?;
    let image_again = again.io.disk().image();
    if image != image_again {
        let changed =
            image.keys().chain(image_again.keys()).find(|path| image.get(*path) != image_again.get(*path));
        return Err(format!("changed by a second recovery: {changed:?}"));
    }
    let left = image.keys().find(|path| {
        path.to_string_lossy().ends_with(".cleaned") || path.to_string_lossy().ends_with(".swap")
    });
    if let Some(left) = left {
        return Err(format!("{left:?} is left"));
    }
    if deep {
        for value in 0..6 {
            let batch =
                BatchBuilder::new().record(1_767_225_600_000, Some(b"other"), Some(&[value; 3000])).build();
            again.append(&batch).map_err(|error| error.to_string())?;
            again.settle();
        }
        compact(&mut again, 1000);
        if again.has_failed() {
            return Err(format!("the next pass failed: {:?}", again.log.failure()));
        }
        look(&mut again, history, end)?;
    }
    Ok(())
}

/// The disk after every operation of opening what `loss` left of a point.
fn recovering(point: &Point, settings: LogSettings, loss: Loss, seed: u64) -> Vec<SimDisk> {
    let disks = Rc::new(RefCell::new(Vec::new()));
    let mut io = SimIo::new(point.disk.power_cut(loss, seed), seed);
    let kept = Rc::clone(&disks);
    io.watch(move |disk, _| kept.borrow_mut().push(disk.clone()));
    let now = io.clock().now();
    let hint = OpenHint { topic_id: Some(topic_id()), ..OpenHint::default() };
    Log::open(&mut io, now, DIR.as_ref(), 7, settings, hint).expect("it opens, as before");
    disks.take()
}

/// The power goes once more, while the log is opened.
fn check_nested(
    point: &Point,
    history: &History,
    settings: LogSettings,
    loss: Loss,
    seed: u64,
) -> Result<usize, String> {
    let disks = recovering(point, settings, loss, seed);
    for (number, disk) in disks.iter().enumerate() {
        let again = Loss::POWER_CUTS[(seed as usize + number) % Loss::POWER_CUTS.len()];
        let point = Point { disk: disk.clone(), ..point.clone() };
        check(&point, history, settings, again, seed + number as u64, false)
            .map_err(|what| format!("again at operation {number} of the recovery, {again:?}: {what}"))?;
    }
    Ok(disks.len())
}

#[test]
fn compaction_power_cut() {
    let (points_checked, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let runs = [(Durability::Each, Behaviour::CALM), (Durability::Os, Behaviour::ROUGH)];
    for (seed, (durability, behaviour)) in (1..).zip(runs) {
        let settings = settings(durability);
        let (points, history, passes) = recorded(settings, seed, behaviour);
        println!("{durability:?}: {passes} passes, {} points", points.len());
        assert!(passes >= 5 && points.len() > 200, "too little was compacted");
        let next = AtomicUsize::new(0);
        // The smaller form takes every third point.
        let full = std::env::var_os("HIGHWATER_TEST_FULL").is_some();
        let points: Vec<Point> = points.into_iter().step_by(if full { 1 } else { 3 }).collect();
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let index = next.fetch_add(1, Ordering::Relaxed)
                        && let Some(point) = points.get(index)
                    {
                        for (policy, loss) in Loss::POWER_CUTS.into_iter().chain([Loss::Kill]).enumerate() {
                            let deep = (index + policy).is_multiple_of(DEEP_ONE_IN);
                            points_checked.fetch_add(1, Ordering::Relaxed);
                            let seed = (index * 16 + policy) as u64;
                            let mut checked = check(point, &history, settings, loss, seed, deep);
                            if checked.is_ok() && (index + policy).is_multiple_of(NESTED_ONE_IN) {
                                checked = check_nested(point, &history, settings, loss, seed).map(|nested| {
                                    points_checked.fetch_add(nested, Ordering::Relaxed);
                                });
                            }
                            if let Err(what) = checked
                                && wrong.fetch_add(1, Ordering::Relaxed) < 5
                            {
                                println!("{} (point {index}), {loss:?}: {what}", point.at);
                            }
                        }
                    }
                });
            }
        });
    }
    let (points, wrong) = (points_checked.into_inner(), wrong.into_inner());
    let full = if std::env::var_os("HIGHWATER_TEST_FULL").is_some() { "yes" } else { "no" };
    println!("figure: compaction_power_cut points={points} wrong={wrong} full={full}");
    assert_eq!(wrong, 0);
}

/// A log with enough to compact, on a calm disk; the number of the next operation is the same every time.
fn filled(settings: LogSettings) -> Workload {
    let mut disk = SimDisk::new();
    disk.put("/data/meta.properties", b"");
    let rig = Rig::create(SimIo::new(disk, 3), settings, false);
    let history = History::default();
    let mut work = Workload { rig, rng: Prng::new(3), history, open: Vec::new(), sequence: 0 };
    for _ in 0..35 {
        work.append();
    }
    rest(&mut work.rig);
    work
}

#[test]
fn every_operation_of_a_pass_may_fail() {
    // What a pass replaced goes later, by what retention does.
    let settings = LogSettings { file_delete_delay_ms: 60_000, ..settings(Durability::Each) };
    let mut calm = filled(settings);
    let first = calm.rig.io.operations();
    assert!(calm.compact(1000));
    let names: Vec<&'static str> = calm.rig.operations()[first as usize..].to_vec();
    let (mut cases, mut failed) = (0, 0);
    for (number, name) in names.iter().enumerate() {
        for kind in [FaultKind::Error(EIO), FaultKind::Error(ENOSPC), FaultKind::Short] {
            cases += 1;
            let mut work = filled(settings);
            work.rig.io.inject(Fault { at: first + number as u64, kind, lasting: false });
            work.compact(1000);
            let case = format!("operation {number}, {name}, {kind:?}");
            if work.rig.has_failed() {
                // A name of which nobody knows whether it is durable, or whether it is there.
                assert!(["rename", "syncdir"].contains(name), "{case}: {:?}", work.rig.log.failure());
                failed += 1;
            } else {
                let end = work.rig.log.log_end().get();
                look(&mut work.rig, &work.history, end).unwrap_or_else(|what| panic!("{case}: {what}"));
                let left = |rig: &Rig| {
                    let image = rig.io.disk().image();
                    image.keys().any(|path| path.to_string_lossy().ends_with(".cleaned"))
                };
                work.append();
                work.rig.pass(Duration::from_secs(70));
                compact(&mut work.rig, 1000);
                assert!(
                    !work.rig.has_failed() && work.rig.log.dirty(work.rig.io.clock().now()).is_some(),
                    "{case}"
                );
                assert!(!left(&work.rig), "{case}: a .cleaned file is left");
            }
            for (seed, loss) in [(1, Loss::Kill), (2, Loss::Unsynced), (3, Loss::RandomSectors)] {
                let point =
                    Point { at: case.clone(), disk: work.rig.io.disk().clone(), model: work.rig.model() };
                check(&point, &work.history, settings, loss, seed, false)
                    .unwrap_or_else(|what| panic!("{case}, then {loss:?}: {what}"));
            }
        }
    }
    println!("{cases} cases, {failed} of them ended the log");
    assert!(cases > 200 && failed < cases / 2);
}

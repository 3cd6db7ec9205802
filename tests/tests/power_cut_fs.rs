//! Power cuts on real file systems, on loop devices (needs root): what a writer was told is durable is there after the
//! next mount, without a hole, and a second recovery changes nothing.
//!
//! * ext4 and XFS, cut off from their disks by the shutdown call: what they had not forced out is lost. 50 cuts each.
//! * That keeps direct writes into written blocks, so an ext4's disk is recorded as well, by qemu: everything up to the
//!   last flush, and a random half of the later sectors, is put on a new disk. 50 of these.
//!
//! 250 cuts each and 500 replays with `HIGHWATER_TEST_FULL=1`. A writer that claims syncs and does none is found out.

use std::ops::Range;
use std::path::Path;
use std::thread;

use highwater_base::Prng;
use highwater_tests::aftermath::recover;
use highwater_tests::ledger::{Entry, Ledger, settings};
use highwater_tests::loop_disk::{CutOff, Kind, Mounted, RecordedDisk, Scratch, has, run};
use highwater_tests::model::Violation;
use highwater_tests::replay::Record;
use highwater_tests::writer::Writer;

const WRITER: &str = env!("CARGO_BIN_EXE_ledger_writer");

/// So many cuts in one directory; each directory has settings of its own.
const CUTS_EACH: u64 = 5;
/// So many cuts of one record.
const REPLAYS_EACH: u64 = 10;
/// The smallest disk on which XFS is made, and enough for either.
const DISK_BYTES: u64 = 320 << 20;
const RECORDED_BYTES: u64 = 48 << 20;

fn scratch(name: &str) -> Scratch {
    Scratch::new(Path::new(env!("CARGO_TARGET_TMPDIR")), name).expect("a directory for disks")
}

#[derive(Default)]
struct Tally {
    cuts: u64,
    lost: u64,
    acked: u64,
}

impl Tally {
    fn judge(&mut self, what: &str, judged: Result<(), Violation>) {
        if let Err(violation) = judged {
            println!("{what}: {violation}");
            self.lost += 1;
        }
    }
}

/// Cuts a file system of this kind off, over and over.
fn cut_off(kind: Kind, cuts: u64) -> Tally {
    let dir = scratch(&format!("power_cut_fs-{kind:?}"));
    let (image, at) = (dir.path().join("disk"), dir.path().join("mounted"));
    kind.make(&image, DISK_BYTES).expect("a file system");
    let (mut tally, mut prng) = (Tally::default(), Prng::new(kind as u64));
    for seed in 0..cuts / CUTS_EACH {
        let mut ledger = Ledger::default();
        for run in 1..=CUTS_EACH as i64 {
            let mounted = Mounted::new(&image, &at).expect("it is mounted");
            let data = mounted.path().join(format!("data-{seed}"));
            let mut writer = Writer::start(WRITER, &data, seed, run, "none").expect("it starts");
            let count = if prng.one_in(8) { 0 } else { prng.below(400) };
            let worked = writer.acknowledges(count, &mut ledger, |_| {});
            assert!(worked, "{kind:?}, seed {seed}, run {run}: it ended by itself");
            mounted
                .cut(if prng.one_in(3) { CutOff::LogKept } else { CutOff::LogLost })
                .expect("it is cut off");
            writer.kill(&mut ledger).expect("it is killed");
            mounted.unmount().expect("it is unmounted");

            let mounted = Mounted::new(&image, &at).expect("it is mounted again");
            let judged = recover(&data, settings(seed), &mut ledger);
            let failed = judged.is_err();
            tally.judge(&format!("{kind:?}, seed {seed}, run {run}"), judged);
            tally.cuts += 1;
            if failed || run == CUTS_EACH as i64 {
                std::fs::remove_dir_all(&data).expect("it is removed");
            }
            mounted.unmount().expect("it is unmounted");
            if failed {
                break;
            }
        }
        tally.acked += ledger.acked();
    }
    tally
}

/// What a writer said, each line with how long the record was when it was heard: what was said to be durable was
/// so by then.
type Heard = Vec<(usize, Entry)>;

/// Records one writer's work on a disk.
fn record(dir: &Path, seed: u64, mutant: &str) -> (Record, Heard) {
    let (disk, log) = (dir.join("disk"), dir.join("record"));
    std::fs::copy(dir.join("base"), &disk).expect("a copy of the disk");
    let served = RecordedDisk::serve(&disk, &log, dir).expect("qemu-storage-daemon serves the disk");
    let mounted = Mounted::new(served.device(), &dir.join("mounted")).expect("it is mounted");
    let mut heard = Heard::new();
    let mut ledger = Ledger::default();
    let mut writer = Writer::start(WRITER, &mounted.path().join("data"), seed, 1, mutant).expect("it starts");
    let worked = writer.acknowledges(300, &mut ledger, |entry| {
        let len = std::fs::metadata(&log).expect("the record is there").len() as usize;
        heard.push((len, entry.clone()));
    });
    assert!(worked, "seed {seed}: it ended by itself");
    writer.kill(&mut ledger).expect("it is killed");
    mounted.unmount().expect("it is unmounted");
    drop(served);
    (Record::read(&log).expect("a record"), heard)
}

/// Cuts records of a writer's work at random places: one record and [`REPLAYS_EACH`] cuts for each seed.
fn replay(seeds: Range<u64>, mutant: &str) -> Tally {
    let dir = scratch(&format!("power_cut_fs-replay-{mutant}"));
    let (base, image) = (dir.path().join("base"), dir.path().join("image"));
    Kind::Ext4.make(&base, RECORDED_BYTES).expect("a file system");
    let (mut tally, mut prng) = (Tally::default(), Prng::new(seeds.start));
    for seed in seeds {
        let (record, heard) = record(dir.path(), seed, mutant);
        let first = heard.first().expect("it has said something").0;
        let last = heard.last().expect("it has said something").0;
        let within = |at: usize| record.entries().iter().filter(|entry| entry.end <= at).count();
        let (first, last) = (within(first), within(last));
        for _ in 0..REPLAYS_EACH {
            let count = first + prng.below((last - first) as u64) as usize;
            let end = record.entries()[..count].last().map_or(0, |entry| entry.end);
            let mut ledger = Ledger::default();
            for (at, entry) in &heard {
                // What was only begun may be there before we heard of it.
                if *at <= end || matches!(entry, Entry::Sent { .. } | Entry::Trimmed { .. }) {
                    ledger.enter(entry.clone());
                }
            }
            tally.acked += ledger.acked();
            record.cut(count, &base, &image, &mut prng).expect("a disk");
            let mounted = Mounted::new(&image, &dir.path().join("mounted")).expect("it is mounted");
            let judged = recover(&mounted.path().join("data"), settings(seed), &mut ledger);
            let entries = record.entries().len();
            tally.judge(&format!("{mutant}, seed {seed}, after {count} of {entries} entries"), judged);
            tally.cuts += 1;
            mounted.unmount().expect("it is unmounted");
        }
    }
    tally
}

/// What keeps this test from running here.
fn lacks() -> Option<&'static str> {
    if run("id", &["-u"]).map_or(true, |id| id != "0") {
        return Some("root");
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("loop devices");
    }
    ["mount", "umount", "losetup", "perl", "mkfs.ext4"].into_iter().find(|program| !has(program))
}

fn lacks_recorder() -> Option<&'static str> {
    match (has("qemu-storage-daemon"), Path::new("/dev/fuse").exists()) {
        (true, true) => None,
        (false, _) => Some("qemu-storage-daemon"),
        (true, false) => Some("FUSE"),
    }
}

#[test]
fn power_cut_fs() {
    if let Some(what) = lacks() {
        println!("skipped: no {what}");
        return;
    }
    let full = std::env::var("HIGHWATER_TEST_FULL").is_ok_and(|full| full == "1");
    let (cuts, replays) = if full { (250, 500) } else { (50, 50) };
    let without_xfs = (!has(Kind::Xfs.maker())).then(|| Kind::Xfs.maker());
    let without_replay = lacks_recorder();
    for what in [without_xfs, without_replay].into_iter().flatten() {
        println!("skipped: no {what}");
    }
    // They wait for the disk most of the time.
    let (ext4, xfs, replayed) = thread::scope(|scope| {
        let ext4 = scope.spawn(|| cut_off(Kind::Ext4, cuts));
        let xfs = without_xfs.is_none().then(|| scope.spawn(|| cut_off(Kind::Xfs, cuts)));
        let replayed =
            without_replay.is_none().then(|| scope.spawn(|| replay(0..replays / REPLAYS_EACH, "none")));
        let tally = |done: Option<thread::ScopedJoinHandle<'_, Tally>>| {
            done.map_or(Tally::default(), |done| done.join().expect("it does not panic"))
        };
        (tally(Some(ext4)), tally(xfs), tally(replayed))
    });
    let lost = ext4.lost + xfs.lost + replayed.lost;
    println!(
        "batches acknowledged: {} on ext4, {} on XFS, {} replayed",
        ext4.acked, xfs.acked, replayed.acked
    );
    println!(
        "figure: power_cut_fs ext4={} xfs={} replayed={} lost={lost} full={}",
        ext4.cuts,
        xfs.cuts,
        replayed.cuts,
        if full { "yes" } else { "no" }
    );
    assert_eq!(lost, 0);
    assert!(ext4.acked > 50 * ext4.cuts, "it was cut off before anything was written");
}

#[test]
fn a_writer_that_claims_syncs_is_found_out_by_replay() {
    if let Some(what) = lacks().or_else(lacks_recorder) {
        println!("skipped: no {what}");
        return;
    }
    // The file system's own flushes save most of it, so this goes on until a cut falls between them.
    let found = (0..20).map(|seed| replay(seed..seed + 1, "no_sync")).find(|found| found.lost > 0);
    let found = found.expect("without syncs, something is lost");
    println!("without syncs, {} of {} cuts lost something", found.lost, found.cuts);
}

//! A directory after a bad day: what `verify` says of it is what a start makes of it; `verify --deep` holds its files
//! against each other.

use std::os::unix::fs::FileExt;
use std::path::Path;

use highwater_base::{LeaderEpoch, Mono, Now, Offset, ProducerEpoch, ProducerId, WallMs};
use highwater_engine::batch::Batches;
use highwater_engine::producers::{ProducerBatch, Producers};
use highwater_engine::seal::Seal;
use highwater_engine::{Checkpoint, Log, OpenHint, Verdict};
use highwater_inspect::{Damage, verify, verify_deep};
use highwater_io::PosixIo;
use highwater_tests::ours::{Ours, flip};

/// Position and size of every batch of a segment.
fn batches(path: &Path) -> Vec<(u64, u64)> {
    let bytes = std::fs::read(path).expect("a segment");
    let mut found = Vec::new();
    for batch in Batches::in_memory(&bytes).map_while(Result::ok) {
        found.push((batch.position() as u64, batch.size() as u64));
    }
    found
}

/// The first verdict on a segment and where it begins: of `verify`, then of a start.
fn both(ours: &Ours, hint: OpenHint) -> [Option<(u64, Verdict)>; 2] {
    let report = verify(&ours.dir).expect("readable");
    let said = report.findings.iter().find_map(|finding| Some((finding.position?, finding.verdict?)));
    let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_767_225_700_000) };
    let mut io = PosixIo::new().expect("descriptors");
    let opened = Log::open(&mut io, now, &ours.partition(), 7, Ours::settings(), hint);
    let (_, report) = opened.expect("a log");
    let made = report.findings.first().map(|finding| (finding.position.get(), finding.verdict));
    [said, made]
}

fn zero(path: &Path, at: u64, len: u64) {
    let file = std::fs::File::options().write(true).open(path).expect("a segment");
    file.write_all_at(&vec![0; len as usize], at).expect("written");
}

#[test]
fn verify_says_what_a_start_will_do() {
    /// Damages the active segment, whose batches are given; gives where.
    type Damage = fn(&Path, &[(u64, u64)]) -> u64;
    let last: Damage = |path, batches| {
        let (at, size) = batches[batches.len() - 1];
        flip(path, at + size - 1, true);
        at
    };
    let last_but_one: Damage = |path, batches| {
        let (at, size) = batches[batches.len() - 2];
        flip(path, at + size - 1, true);
        at
    };
    let third: Damage = |path, batches| {
        let (at, size) = batches[2];
        flip(path, at + size - 1, true);
        at
    };
    let cut_short: Damage = |path, batches| {
        let (at, size) = batches[batches.len() - 1];
        let file = std::fs::File::options().write(true).open(path).expect("a segment");
        file.set_len(at + size - 3).expect("cut");
        at
    };
    let lost_write: Damage = |path, batches| {
        let (at, size) = batches[batches.len() - 2];
        zero(path, at, size);
        at
    };
    // Proven up to batch, bytes in flight at once, damage, verdict.
    let cases: [(usize, u64, Damage, Verdict); 9] = [
        (2, 16 << 10, last, Verdict::Torn),
        (2, 0, last, Verdict::Torn),
        (2, 16 << 10, cut_short, Verdict::Torn),
        (2, 16 << 10, last_but_one, Verdict::Ambiguous),
        (2, 16 << 10, lost_write, Verdict::Ambiguous),
        (2, 0, third, Verdict::Ambiguous),
        (2, 16 << 10, third, Verdict::Ambiguous),
        (2, 600, third, Verdict::Rot),
        (3, 16 << 10, third, Verdict::Rot),
    ];
    for (case, (proven, reach, damage, verdict)) in cases.into_iter().enumerate() {
        let ours = Ours::new(&format!("verdicts-{case}"));
        let segments = ours.segments();
        let active = &segments[segments.len() - 1];
        let found = batches(active);
        assert!(found.len() >= 8, "case {case} needs batches, found {}", found.len());
        ours.prove(segments.len() - 1, proven, reach);
        let at = damage(active, &found);
        assert_eq!(both(&ours, OpenHint::default()), [Some((at, verdict)); 2], "case {case}");
    }
}

#[test]
fn a_seal_proves_its_segment_also_behind_the_checkpoint() {
    let ours = Ours::new("verdicts-seal");
    let segments = ours.segments();
    ours.prove(0, 2, 16 << 10);
    let found = batches(&segments[1]);
    let (at, size) = found[found.len() - 1];
    flip(&segments[1], at + size - 1, true);
    assert_eq!(both(&ours, OpenHint::default()), [Some((at, Verdict::Rot)); 2]);
    assert_eq!(ours.segments(), segments);
}

/// Nothing of ours says how far a directory of Apache Kafka's was synced; but what was stopped in order was.
#[test]
fn after_a_clean_stop_everything_is_proven_without_our_files_too() {
    for short in [false, true] {
        let mut ours = Ours::new(&format!("verdicts-clean-{short}"));
        ours.stop();
        for entry in std::fs::read_dir(ours.partition()).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if name.starts_with("highwater.") || name.ends_with(".seal") {
                std::fs::remove_file(path).expect("removed");
            }
        }
        let segments = ours.segments();
        let active = &segments[segments.len() - 1];
        let found = batches(active);
        let (at, size) = found[found.len() - 1];
        if short {
            let file = std::fs::File::options().write(true).open(active).expect("a segment");
            file.set_len(at + size - 3).expect("cut");
        } else {
            flip(active, at + size - 1, true);
        }
        let hint = OpenHint { clean_stop: true, ..OpenHint::default() };
        assert_eq!(both(&ours, hint), [Some((at, Verdict::Rot)); 2], "short {short}");
        assert_eq!(ours.segments(), segments);
    }
}

#[test]
fn a_missing_segment_is_rot_to_both() {
    for (name, from_the_end) in [("verdicts-missing", 1), ("verdicts-missing-end", 0)] {
        let ours = Ours::new(name);
        let segments = ours.segments();
        let missing = segments.len() - 1 - from_the_end;
        let length = std::fs::metadata(&segments[missing - 1]).expect("a segment").len();
        std::fs::remove_file(&segments[missing]).expect("removed");
        assert_eq!(both(&ours, OpenHint::default()), [Some((length, Verdict::Rot)); 2], "{name}");
    }
}

/// What `verify --deep` alone finds: each as file, position, what is expected and what was found.
fn contradictions(dir: &Path) -> Vec<(String, Option<u64>, String, String)> {
    assert_eq!(verify(dir).expect("readable").findings, [], "a file by itself");
    let report = verify_deep(dir).expect("readable");
    let found = report.findings.iter().map(|finding| {
        let Damage::Contradicts { expected, found } = &finding.damage else { panic!("{finding}") };
        let name = finding.path.file_name().expect("a file").to_string_lossy().into_owned();
        (name, finding.position, expected.clone(), found.clone())
    });
    found.collect()
}

#[test]
fn verify_deep_holds_the_files_against_the_batches() {
    let mut ours = Ours::new("deep");
    assert_eq!(contradictions(&ours.dir), []);
    ours.stop();
    assert_eq!(contradictions(&ours.dir), []);
    // An epoch that began later: batch 50 is of epoch 1.
    let epochs = ours.partition().join("leader-epoch-checkpoint");
    let good = std::fs::read_to_string(&epochs).expect("a checkpoint");
    std::fs::write(&epochs, good.replace("1 50\n", "1 60\n")).expect("written");
    let found = contradictions(&ours.dir);
    let expected = "epoch 1 at offset 50, as the batch there says".to_owned();
    let line = "0\n5\n".len() as u64;
    assert_eq!(found, [("leader-epoch-checkpoint".into(), Some(line), expected, "epoch 0".into())]);
    std::fs::write(&epochs, good).expect("written");
    // A snapshot of another sequence, whole by itself.
    let snapshots: Vec<_> = std::fs::read_dir(ours.partition())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "snapshot"))
        .collect();
    let path = snapshots.iter().min().expect("a snapshot");
    let good = std::fs::read(path).expect("a snapshot");
    let end: i64 = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).expect("an offset");
    let mut producers = Producers::new(10);
    producers.apply(&ProducerBatch {
        producer_id: ProducerId::new(5),
        epoch: ProducerEpoch::ZERO,
        base_sequence: 7,
        last_sequence: 7,
        first_offset: Offset::new(end - 1),
        last_offset: Offset::new(end - 1),
        timestamp: WallMs::new(1),
        transactional: false,
        marker: None,
    });
    std::fs::write(path, producers.snapshot()).expect("written");
    let found = contradictions(&ours.dir);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0.ends_with(".snapshot") && found[0].1 == Some(10), "{found:?}");
    assert!(found[0].2.contains(&format!("last sequence {} at offset {}", end - 1, end - 1)), "{found:?}");
    assert!(found[0].3.contains("last sequence 7 "), "{found:?}");
    std::fs::write(path, good).expect("written");
    // A seal with other facts than its batches', whole by itself.
    let path = ours.segment().with_extension("seal");
    let good = std::fs::read(&path).expect("a seal");
    let mut seal = Seal::decode(&good).expect("a seal");
    seal.last_epoch = LeaderEpoch::new(77);
    std::fs::write(&path, seal.encode()).expect("written");
    let found = contradictions(&ours.dir);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].3.contains("to 77") && !found[0].2.contains("to 77"), "{found:?}");
    std::fs::write(&path, good).expect("written");
    // A proven end with another offset.
    ours.prove(0, 5, 0);
    assert_eq!(contradictions(&ours.dir), []);
    let path = ours.partition().join("highwater.checkpoint");
    let newest = Checkpoint::newest(&std::fs::read(&path).expect("a checkpoint")).expect("a valid slot");
    std::fs::write(&path, Checkpoint { offset: Offset::new(6), ..newest }.encode()).expect("written");
    let found = contradictions(&ours.dir);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].2.contains("offset 5 follows") && found[0].3.contains("offset 6"), "{found:?}");
}

//! `repair`: a plan that changes nothing, an act that loses no byte, and a second plan that is empty.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_base::{Mono, Now, WallMs};
use highwater_engine::batch::Batches;
use highwater_engine::{Log, OpenHint};
use highwater_inspect::{RepairAction, RepairError, RepairPlan, plan_repair, repair, verify_deep};
use highwater_io::{FileLock, PosixIo};
use highwater_tests::ours::{Ours, flip};

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).expect("a file"));
        }
    }
    all
}

/// Repairs, and checks that no byte is lost, that nothing is left to do, and that the log opens whole.
fn repaired(ours: &Ours) -> RepairPlan {
    let before = files(&ours.dir);
    let plan = plan_repair(&ours.dir).expect("a plan");
    assert_eq!(files(&ours.dir), before, "a plan changes nothing");
    let done = repair(&ours.dir).expect("repaired");
    assert_eq!(done, plan, "what was planned was done");
    let after = files(&ours.dir);
    for (path, bytes) in &before {
        let whole = after.values().any(|kept| kept == bytes);
        let cut = after.get(path).is_some_and(|kept| {
            bytes.strip_prefix(&kept[..]).is_some_and(|rest| after.values().any(|kept| kept == rest))
        });
        assert!(whole || cut, "{} is lost", path.display());
    }
    let again = plan_repair(&ours.dir).expect("a plan");
    assert_eq!(again.steps, [], "the second plan");
    assert_eq!(again.left, done.left);
    assert_eq!(verify_deep(&ours.dir).expect("readable").findings, done.left);
    done
}

fn open(ours: &Ours) -> i64 {
    let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_767_225_700_000) };
    let mut io = PosixIo::new().expect("descriptors");
    let opened = Log::open(&mut io, now, &ours.partition(), 7, Ours::settings(), OpenHint::default());
    let (log, report) = opened.expect("a log");
    assert!(report.is_clean(), "{report:?}");
    log.log_end().get()
}

fn last_batch(path: &Path) -> (u64, u64) {
    let bytes = std::fs::read(path).expect("a segment");
    let batch = Batches::in_memory(&bytes).map_while(Result::ok).last().expect("a batch");
    (batch.position() as u64, batch.size() as u64)
}

#[test]
fn everything_that_can_be_made_whole_is_and_nothing_is_thrown_away() {
    let ours = Ours::new("repair");
    let dir = ours.partition();
    let segments = ours.segments();
    let active = &segments[segments.len() - 1];
    // A torn tail.
    ours.prove(segments.len() - 1, 1, 16 << 10);
    let (at, size) = last_batch(active);
    flip(active, at + size - 1, true);
    // An index entry that points nowhere, and an index that is none.
    let mut index = std::fs::read(segments[0].with_extension("index")).expect("an index");
    index[7] ^= 4;
    std::fs::write(segments[0].with_extension("index"), index).expect("written");
    std::fs::write(segments[1].with_extension("timeindex"), [7; 13]).expect("written");
    // A seal of a segment that somebody touched.
    let file = File::options().write(true).open(&segments[1]).expect("a segment");
    let time = file.metadata().and_then(|facts| facts.modified()).expect("a time") + Duration::from_secs(9);
    file.set_times(FileTimes::new().set_modified(time)).expect("a time");
    // Remains.
    for name in [
        "00000000000000000003.log.cleaned",
        "00000000000000000004.log.deleted",
        "leader-epoch-checkpoint.tmp",
    ] {
        std::fs::write(dir.join(name), name).expect("written");
    }
    std::fs::write(dir.join("00000000000000000005.index"), [0; 8]).expect("written");
    // An epoch that began elsewhere, and a snapshot with a flipped bit.
    let epochs = std::fs::read_to_string(dir.join("leader-epoch-checkpoint")).expect("a checkpoint");
    std::fs::write(dir.join("leader-epoch-checkpoint"), epochs.replace("1 50\n", "1 60\n")).expect("written");
    let first_snapshot = segments[1].with_extension("snapshot");
    flip(&first_snapshot, 30, true);

    let done = repaired(&ours);
    assert_eq!(done.left, []);
    let text: String = done.steps.iter().map(|step| format!("{step}\n")).collect();
    for name in ["log.cleaned", "log.deleted", "checkpoint.tmp", "05.index", ".seal", ".snapshot"] {
        assert!(text.contains(name), "{name} in\n{text}");
    }
    let cut = done.steps.iter().find_map(|step| match &step.action {
        RepairAction::Cut { path, position, aside, .. } => Some((path.clone(), *position, aside.clone())),
        _ => None,
    });
    let (path, position, aside) = cut.expect("a cut");
    assert_eq!((&path, position), (active, at));
    assert!(std::fs::metadata(aside).expect("kept").len() >= size);
    assert_eq!(std::fs::read_to_string(dir.join("leader-epoch-checkpoint")).expect("made anew"), epochs);
    assert_eq!(open(&ours), ours.batches as i64 - 1);
}

/// What a crash left of before a cut: nothing proves it, and the batches contradict it.
#[test]
fn epochs_that_the_batches_contradict_become_what_a_start_makes_of_them() {
    let ours = Ours::new("repair-epochs");
    let path = ours.partition().join("leader-epoch-checkpoint");
    let epochs = std::fs::read_to_string(&path).expect("a checkpoint");
    for stale in ["0\n1\n99 0\n", "0\n2\n0 0\n99 20\n", "0\n3\n0 0\n1 20\n99 900\n"] {
        let _ = std::fs::remove_file(ours.partition().join("highwater.checkpoint"));
        std::fs::write(&path, stale).expect("written");
        assert!(!repaired(&ours).steps.is_empty(), "{stale:?}");
        assert_eq!(std::fs::read_to_string(&path).expect("made anew"), epochs, "{stale:?}, repaired");
        std::fs::write(&path, stale).expect("written");
        assert_eq!(open(&ours), ours.batches as i64);
        assert_eq!(std::fs::read_to_string(&path).expect("made anew"), epochs, "{stale:?}, opened");
    }
}

#[test]
fn rot_in_proven_data_is_left_as_it_is_and_convicts_no_other_file() {
    let ours = Ours::new("repair-rot");
    // A leader epoch in a sealed segment: the batch's own checksum does not cover it, and it contradicts the checkpoint.
    flip(&ours.segment(), 15, true);
    let before = files(&ours.dir);
    let done = repair(&ours.dir).expect("looked at");
    assert_eq!(done.steps, []);
    assert!(!done.left.is_empty());
    let mut after = files(&ours.dir);
    after.retain(|path, _| !path.ends_with(".lock"));
    assert_eq!(after, before);
}

#[test]
fn valid_batches_behind_a_hole_are_kept_aside() {
    let ours = Ours::new("repair-hole");
    let segments = ours.segments();
    let active = &segments[segments.len() - 1];
    // Nothing is proven without a checkpoint.
    std::fs::remove_file(ours.partition().join("highwater.checkpoint")).expect("removed");
    let bytes = std::fs::read(active).expect("a segment");
    let batches: Vec<_> = Batches::in_memory(&bytes).map_while(Result::ok).collect();
    let hole = &batches[batches.len() - 3];
    let offset = hole.header().expect("magic 2").base_offset().get();
    flip(active, hole.position() as u64 + 40, true);
    let done = repaired(&ours);
    assert!(done.steps.iter().any(|step| step.why.starts_with("ambiguous")), "{:?}", done.steps);
    assert_eq!(open(&ours), offset);
}

#[test]
fn a_complete_replacement_is_finished() {
    let ours = Ours::new("repair-swap");
    let segment = ours.segment();
    std::fs::copy(&segment, segment.with_extension("log.swap")).expect("copied");
    let done = repaired(&ours);
    assert!(
        done.steps
            .iter()
            .any(|step| matches!(&step.action, RepairAction::Rename { to, .. } if *to == segment))
    );
    assert_eq!(open(&ours), ours.batches as i64);
}

#[test]
fn a_directory_that_somebody_holds_is_refused() {
    let ours = Ours::new("repair-held");
    let _lock = FileLock::acquire(&ours.dir.join(".lock")).expect("free");
    assert!(matches!(plan_repair(&ours.dir), Err(RepairError::Held { .. })));
    assert!(matches!(repair(&ours.dir), Err(RepairError::Held { .. })));
    assert!(matches!(plan_repair(&ours.partition()), Err(RepairError::Held { .. })));
}

#[test]
fn a_whole_directory_needs_nothing_whether_stopped_or_not() {
    let mut ours = Ours::new("repair-whole");
    assert_eq!(plan_repair(&ours.dir).expect("a plan"), RepairPlan::default());
    ours.stop();
    assert_eq!(plan_repair(&ours.dir).expect("a plan"), RepairPlan::default());
}

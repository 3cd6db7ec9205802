//! What must hold when a log is opened after a crash.

use highwater_base::{Mutant, Offset, Prng, ProducerEpoch, ProducerId};
use highwater_engine::batch::{BatchBuilder, set_base_offset};
use highwater_engine::{AppendError, LogSettings, Verdict};
use highwater_sim::{Loss, SimDisk, SimIo};

use crate::model::{Model, Violation, producer};
use crate::rig::{DIR, Rig};

/// Opens the log on `disk`, which `loss` left of a disk with this model, and checks all of it: its ends, every byte,
/// that opening it again changes nothing, and, if `deep`, that it works: duplicates are known, appends go on and last.
pub fn check(
    disk: &SimDisk,
    model: &Model,
    settings: LogSettings,
    loss: Loss,
    seed: u64,
    deep: bool,
) -> Result<(), Violation> {
    if !model.ready && disk.image().keys().all(|path| !path.starts_with(DIR)) {
        return Ok(()); // Its directory was not promised yet.
    }
    let kill = loss == Loss::Kill;
    let (rig, image) = open_and_read(disk.clone(), model, settings, kill, seed)?;
    let (start, end) = (rig.log.log_start(), rig.log.log_end());
    let disk = rig.io.disk().clone();
    drop(rig);

    // Whoever opens a directory takes the marker of a clean stop away.
    let model = &Model { closed: false, ..model.clone() };
    let (again, image_again) = open_and_read(disk.clone(), model, settings, kill, seed + 1)?;
    if (again.log.log_start(), again.log.log_end()) != (start, end) {
        let (s, e) = (again.log.log_start(), again.log.log_end());
        return Err(Violation::Changed(format!("the log was {start} to {end}, now it is {s} to {e}")));
    }
    if let Some(path) = difference(&image, &image_again) {
        return Err(Violation::Changed(path));
    }
    if deep {
        goes_on(again, settings, seed)?;
        // What recovery found is promised by now, so the next crash must not take it away.
        let mut found = model.clone();
        if found.cut.is_none() {
            found.synced = found.synced.max(end.get().min(found.log_end));
            found.log_start = found.log_start.max(start.get());
            found.set_end(end.get());
            let after = disk.power_cut(Loss::Unsynced, seed);
            open_and_read(after, &found, settings, false, seed + 2)
                .map_err(|v| Violation::Lost(format!("by a power cut right after recovery: {v}")))?;
        }
    }
    Ok(())
}

type Image = std::collections::BTreeMap<std::path::PathBuf, highwater_sim::Thing>;

fn open_and_read(
    disk: SimDisk,
    model: &Model,
    settings: LogSettings,
    kill: bool,
    seed: u64,
) -> Result<(Rig, Image), Violation> {
    // Whoever opens it after the crash has rules that hold.
    let settings = LogSettings { mutant: Mutant::None, ..settings };
    let (mut rig, report) = Rig::open(SimIo::new(disk, seed), settings, model.clone())
        .map_err(|error| Violation::Lost(format!("the log cannot be opened: {error}")))?;
    let image = rig.io.disk().image();
    let (start, end) = (rig.log.log_start().get(), rig.log.log_end().get());
    model.judge_ends(start, end, kill)?;
    if let Some(rot) = report.findings.iter().find(|finding| finding.verdict == Verdict::Rot) {
        return Err(Violation::Bad(format!("a crash was taken for rot: {rot:?}")));
    }
    let bytes = rig.read_all(start, end)?;
    model.judge_bytes(start, end, &bytes)?;
    model.judge_keys(start, end, &bytes)?;
    Ok((rig, image))
}

/// The first path whose contents differ.
fn difference(before: &Image, after: &Image) -> Option<String> {
    let paths = before.keys().chain(after.keys());
    let path = paths.into_iter().find(|path| before.get(*path) != after.get(*path))?;
    let describe = |image: &Image| match image.get(path) {
        None => "not there".to_owned(),
        Some(highwater_sim::Thing::Directory) => "a directory".to_owned(),
        Some(highwater_sim::Thing::File(bytes)) => format!("a file of {} bytes", bytes.len()),
    };
    Some(format!("{}: {}, then {}", path.display(), describe(before), describe(after)))
}

/// The recovered log knows its producers, takes appends, and keeps them through the next power cut.
fn goes_on(mut rig: Rig, settings: LogSettings, seed: u64) -> Result<(), Violation> {
    let bad = |what: String| Err(Violation::Bad(what));
    let mut prng = Prng::new(seed);
    let model = rig.model();
    let mut last = std::collections::BTreeMap::new();
    for (first, (end, bytes)) in &model.batches {
        let (id, epoch, sequence) = producer(bytes);
        if id >= 0 && *first >= model.log_start {
            last.insert(id, (*first, *end, epoch, sequence, bytes.clone()));
        }
    }
    // Of what a restart has half dropped compaction may have taken a producer's last batch: it was not the last then.
    last.retain(|_, (first, ..)| !model.half_dropped || *first >= model.compacted);
    for (id, (first, end, epoch, sequence, bytes)) in last {
        let mut bytes = bytes.to_vec();
        // A client does not know the offset.
        set_base_offset(&mut bytes, Offset::ZERO);
        match rig.append(&bytes) {
            Ok(appended) if appended.duplicate && appended.first.get() == first => {}
            other => {
                return bad(format!(
                    "the last batch of producer {id}, at {first}, was appended again: {other:?}"
                ));
            }
        }
        let next = sequence + (end - first) as i32;
        let batch = |sequence| {
            BatchBuilder::new()
                .producer(ProducerId::new(id), ProducerEpoch::new(epoch), sequence)
                .record(rig_time(), Some(b"after"), Some(b"the crash"))
                .build()
        };
        if let Ok(appended) = rig.append(&batch(next + 3)) {
            return bad(format!("producer {id} skipped three sequence numbers: {appended:?}"));
        }
        if let Err(error) = rig.append(&batch(next))
            && !matches!(error, AppendError::Backpressure { .. })
        {
            return bad(format!("the next batch of producer {id} was refused: {error}"));
        }
        rig.settle();
    }
    let value = vec![prng.next_u64() as u8; 3000];
    for _ in 0..4 {
        let batch = BatchBuilder::new().record(rig_time(), Some(b"k"), Some(&value)).build();
        if let Err(error) = rig.append(&batch) {
            return bad(format!("a recovered log refused an append: {error}"));
        }
        rig.settle();
    }
    let end = rig.log.log_end();
    rig.log.want_synced(end);
    if !rig.run_until(|rig| rig.log.synced_end() == end || rig.has_failed()) || rig.has_failed() {
        return bad(format!("a recovered log did not sync: {:?}", rig.log.failure()));
    }
    let (model, disk) = (rig.model(), rig.io.disk().power_cut(Loss::Unsynced, seed));
    open_and_read(disk, &model, settings, false, seed + 3)
        .map(|_| ())
        .map_err(|v| Violation::Lost(format!("by the power cut after the next appends: {v}")))
}

/// A timestamp near the start of simulated time.
fn rig_time() -> i64 {
    1_767_225_600_000
}

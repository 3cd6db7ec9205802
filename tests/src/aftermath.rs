//! What must hold of a directory of real files whose writer died.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use highwater_base::{Mono, Now, Offset, ProducerEpoch, ProducerId, WallMs};
use highwater_engine::batch::{BatchBuilder, set_base_offset};
use highwater_engine::{DataDirectory, Engine, EngineConfig, LogHandle, LogSettings, Verdict};
use highwater_io::{IoChoice, Park, production};

use crate::ledger::{Entry, LOGS, Ledger, crc_of};
use crate::model::{Violation, frames, producer};
use crate::writer::wall_ms;

/// Every file below a directory.
type Image = BTreeMap<PathBuf, Vec<u8>>;

/// Recovers the directory twice, which must change nothing the second time; then opens it as an embedder does, judges
/// everything by the ledger, and appends. What was found and appended is promised from then on.
pub fn recover(dir: &Path, settings: LogSettings, ledger: &mut Ledger) -> Result<(), Violation> {
    let lost = |error: &dyn std::fmt::Display| Violation::Lost(format!("it cannot be opened: {error}"));
    let (mut io, _slower) = production(IoChoice::Auto, 64).map_err(|error| lost(&error))?;
    let first = recovered(&mut *io, dir, settings)?;
    let second = recovered(&mut *io, dir, settings)?;
    if let Some(path) = difference(&first, &second) {
        return Err(Violation::Changed(path.display().to_string()));
    }
    drop(io);
    // Nothing goes while it is read.
    let settings = LogSettings { retention_bytes: None, ..settings };
    let engine = Engine::open(EngineConfig::at(dir).settings(settings)).map_err(|error| lost(&error))?;
    let names = engine.names();
    if let Some(name) = LOGS.iter().find(|name| ledger.must_exist(name) && !names.iter().any(|n| n == *name))
    {
        return Err(Violation::Lost(format!("the log {name} is not there")));
    }
    for name in names {
        let log = engine.log(&name).map_err(|error| lost(&error))?;
        let bytes = judged(&log, ledger)?;
        ledger.adopt(&name, &bytes);
        goes_on(&log, &bytes, ledger)?;
    }
    Ok(()) // Dropped without a stop: the next to open it finds a crash again.
}

/// Opens each log of the directory, which makes it whole, and says what is on disk then.
fn recovered(io: &mut dyn Park, dir: &Path, settings: LogSettings) -> Result<Image, Violation> {
    let lost = |error: &dyn std::fmt::Display| Violation::Lost(format!("it cannot be recovered: {error}"));
    let directory = DataDirectory::open(io, dir).map_err(|error| lost(&error))?;
    let now = Now { mono: Mono::ZERO, wall: WallMs::new(wall_ms()) };
    for partition in directory.current() {
        let (at, hint) = (directory.log_dir(partition), directory.hint(partition));
        let (_log, report) =
            highwater_engine::Log::open(io, now, &at, 1, settings, hint).map_err(|error| lost(&error))?;
        if let Some(rot) = report.findings.iter().find(|finding| finding.verdict == Verdict::Rot) {
            return Err(Violation::Bad(format!("a crash was taken for rot: {rot:?}")));
        }
    }
    let mut image = Image::new();
    read_all(dir, &mut image).map_err(|error| lost(&error))?;
    Ok(image)
}

fn read_all(dir: &Path, image: &mut Image) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, image)?;
        } else {
            image.insert(path.clone(), fs::read(&path)?);
        }
    }
    Ok(())
}

/// The first path whose contents differ.
fn difference(before: &Image, after: &Image) -> Option<PathBuf> {
    let mut paths = before.keys().chain(after.keys());
    paths.find(|path| before.get(*path) != after.get(*path)).cloned()
}

/// Reads all of a log and has it judged.
fn judged(log: &LogHandle, ledger: &Ledger) -> Result<Vec<u8>, Violation> {
    let lost = |error| Violation::Lost(format!("{}: {error}", log.name()));
    let facts = log.facts().map_err(lost)?;
    let (mut from, mut bytes) = (facts.start, Vec::new());
    while from < facts.end {
        let fetched = log.read(from, 1 << 20).map_err(lost)?;
        if fetched.next <= from {
            return Err(Violation::Hole(format!("{}: nothing at {from}", log.name())));
        }
        bytes.extend(fetched.to_vec());
        from = fetched.next;
    }
    ledger.judge(log.name(), facts.start.get(), facts.end.get(), &bytes)?;
    Ok(bytes)
}

/// The last batch of an idempotent producer is known as a duplicate, and its next one is taken.
fn goes_on(log: &LogHandle, bytes: &[u8], ledger: &mut Ledger) -> Result<(), Violation> {
    let found = frames(bytes).map_err(Violation::Bad)?;
    let last = found.iter().rev().find(|frame| producer(frame.bytes).0 >= 0);
    let mut next = BatchBuilder::new();
    if let Some(last) = last {
        let mut again = last.bytes.to_vec();
        set_base_offset(&mut again, Offset::ZERO);
        match log.append(again) {
            Ok(appended) if appended.duplicate && appended.first.get() == last.first => {}
            other => {
                let what = format!("{}: its last batch at {} sent again: {other:?}", log.name(), last.first);
                return Err(Violation::Bad(what));
            }
        }
        let (id, epoch, sequence) = producer(last.bytes);
        let sequence = sequence + (last.end - last.first) as i32;
        next = next.producer(ProducerId::new(id), ProducerEpoch::new(epoch), sequence);
    }
    let unique = ledger.acked().to_string();
    let batch = next.record(wall_ms(), Some(unique.as_bytes()), Some(b"after the crash")).build();
    let (name, crc) = (log.name().to_owned(), crc_of(&batch));
    ledger.enter(Entry::Sent { log: name.clone(), crc });
    let appended = log
        .append(batch)
        .map_err(|error| Violation::Bad(format!("{name}: a recovered log refused an append: {error}")))?;
    ledger.enter(Entry::Acked { log: name, first: appended.first.get(), end: appended.end.get(), crc });
    Ok(())
}

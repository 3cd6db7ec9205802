//! Carries out a plan: the only code of this crate that changes a disk. Every step is durable before the next begins.

use std::path::Path;

use highwater_base::FilePos;
use highwater_engine::replace_file;
use highwater_io::{Buffer, FileId, IoError, Op, OpenHow, Outcome, Park, PosixIo, blocking};

use super::{RepairAction, RepairStep};

/// Does the steps, in order.
pub(super) fn act(steps: &[RepairStep]) -> Result<(), IoError> {
    let mut io = PosixIo::new()?;
    for step in steps {
        match &step.action {
            RepairAction::SetAside { path, aside } => rename(&mut io, path, aside)?,
            RepairAction::Rename { from, to } => rename(&mut io, from, to)?,
            RepairAction::Cut { path, position, aside, .. } => cut(&mut io, path, *position, aside)?,
            RepairAction::Rebuild { path, bytes, aside } => {
                match rename(&mut io, path, aside) {
                    // One that is missing is made all the same.
                    Err(error) if error.kind == highwater_io::ErrorKind::NotFound => {}
                    other => other?,
                }
                replace_file(&mut io, path, bytes.clone())?;
            }
        }
    }
    Ok(())
}

fn rename(io: &mut dyn Park, from: &Path, to: &Path) -> Result<(), IoError> {
    blocking::run(io, Op::Rename { from: from.into(), to: to.into() })?;
    sync_dir_of(io, to)
}

fn sync_dir_of(io: &mut dyn Park, path: &Path) -> Result<(), IoError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    blocking::run(io, Op::SyncDir { path: dir.into() }).map(drop)
}

/// Copies what lies from `position` on, makes the copy durable, then cuts.
fn cut(io: &mut dyn Park, path: &Path, position: u64, aside: &Path) -> Result<(), IoError> {
    let (segment, _) = open(io, path, OpenHow::Write)?;
    let (copy, _) = open(io, aside, OpenHow::CreateNew)?;
    let mut done = 0;
    loop {
        let read = Op::Read { file: segment, at: FilePos::new(position + done), buffer: Buffer::new(PIECE) };
        let Outcome::Read { buffer } = blocking::run(io, read)? else { break };
        if buffer.is_empty() {
            break;
        }
        let data = buffer.freeze();
        let mut written = 0;
        while written < data.len() {
            let rest = data.range(written..data.len());
            let at = FilePos::new(done + written as u64);
            match blocking::run(io, Op::Write { file: copy, at, data: rest, durable: false })? {
                Outcome::Wrote { len } => written += len,
                other => unreachable!("a write gave {other:?}"),
            }
        }
        done += data.len() as u64;
    }
    for op in [sync(copy), Op::Close { file: copy }] {
        blocking::run(io, op)?;
    }
    sync_dir_of(io, aside)?;
    for op in [Op::Truncate { file: segment, len: position }, sync(segment), Op::Close { file: segment }] {
        blocking::run(io, op)?;
    }
    Ok(())
}

fn sync(file: FileId) -> Op {
    Op::Sync { file, data_only: false, urgent: false }
}

fn open(io: &mut dyn Park, path: &Path, how: OpenHow) -> Result<(FileId, u64), IoError> {
    match blocking::run(io, Op::Open { path: path.into(), how, direct: false })? {
        Outcome::Opened { file, len, .. } => Ok((file, len)),
        other => unreachable!("an open gave {other:?}"),
    }
}

/// One read.
const PIECE: usize = 1 << 20;

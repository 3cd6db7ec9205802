//! Shard 0 writes Kafka's checkpoint files from time to time, with what every shard tells it.

use std::path::PathBuf;

use highwater_base::Now;
use highwater_io::{Completion, Io, Token};

use super::directories::condemns;
use crate::log::{Level, Log};
use crate::mail::Mail;
use crate::message::Message;
use crate::storage::{CheckpointFiles, PartitionOffsets, Replace, Step};

/// The writer of the checkpoint files.
pub(super) struct Checkpoints {
    owner: u32,
    /// Each directory, and the lines of partitions that are none of ours; none of one that is offline.
    dirs: Vec<Option<(PathBuf, CheckpointFiles)>>,
    /// What was last written, by directory: a file that would say the same is not written again.
    written: Vec<CheckpointFiles>,
    state: State,
}

enum State {
    Idle,
    /// Shards are asked; this many have not answered.
    Gathering {
        missing: usize,
        offsets: Vec<PartitionOffsets>,
    },
    /// These files are to be written, the last one first; the first of them is under way.
    Writing {
        replace: Replace,
        dir: usize,
        rest: Vec<Replacement>,
    },
}

/// A file to be written: in the directory of this number, at this path, with these bytes.
type Replacement = (usize, PathBuf, Vec<u8>);

impl Checkpoints {
    pub(super) fn new(owner: u32, dirs: Vec<(PathBuf, CheckpointFiles)>) -> Checkpoints {
        let written = dirs.iter().map(|_| CheckpointFiles::default()).collect();
        let dirs = dirs.into_iter().map(Some).collect();
        Checkpoints { owner, dirs, written, state: State::Idle }
    }

    /// Asks every shard for its offsets, unless that is under way.
    pub(super) fn begin(&mut self, mail: &mut Mail) {
        if let State::Idle = self.state {
            let mut missing = 0;
            for shard in mail.shards() {
                mail.send(shard, Message::TellOffsets);
                missing += 1;
            }
            self.state = State::Gathering { missing, offsets: Vec::new() };
        }
    }

    /// Nothing is written any more in a data directory that is offline.
    pub(super) fn give_up(&mut self, dir: usize) {
        self.dirs[dir] = None;
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// A shard's offsets.
    pub(super) fn told(&mut self, mut told: Vec<PartitionOffsets>, io: &mut dyn Io) {
        let State::Gathering { missing, offsets } = &mut self.state else { return };
        offsets.append(&mut told);
        *missing -= 1;
        if *missing > 0 {
            return;
        }
        let offsets = std::mem::take(offsets);
        let mut files = Vec::new();
        for (at, dir) in self.dirs.iter().enumerate() {
            let Some((dir, others)) = dir else { continue };
            let new = CheckpointFiles::of(at, &offsets, others);
            let old = std::mem::replace(&mut self.written[at], new);
            let changed =
                old.encode(dir).into_iter().zip(self.written[at].encode(dir)).filter(|(old, new)| old != new);
            files.extend(changed.map(|(_, (path, bytes))| (at, path, bytes)));
        }
        self.write(files, io);
    }

    /// Takes a completion of a file's writing.
    pub(super) fn complete(
        &mut self,
        completion: Completion,
        now: Now,
        log: &mut Log,
        mail: &mut Mail,
        io: &mut dyn Io,
    ) {
        let State::Writing { replace, dir, rest } = &mut self.state else {
            unreachable!("only a write submits operations")
        };
        match replace.next(completion.result) {
            Step::Submit(op) => io.submit(op, Token { owner: self.owner, tag: 0 }),
            Step::Done(result) => {
                if let Err(error) = result {
                    // Recovery looks at more without it; the next round tries again.
                    if condemns(&error) {
                        mail.send(0, Message::Suspect { dir: *dir });
                    } else {
                        let line = format_args!("a checkpoint file could not be written: {error}");
                        log.repeated(now, Level::Warn, "checkpoint", line);
                    }
                    self.written.iter_mut().for_each(|written| *written = CheckpointFiles::default());
                }
                let rest = std::mem::take(rest);
                self.write(rest, io);
            }
        }
    }

    fn write(&mut self, mut files: Vec<Replacement>, io: &mut dyn Io) {
        files.retain(|(dir, ..)| self.dirs[*dir].is_some());
        self.state = match files.pop() {
            None => State::Idle,
            Some((dir, path, bytes)) => {
                let (replace, op) = Replace::start(&path, bytes);
                io.submit(op, Token { owner: self.owner, tag: 0 });
                State::Writing { replace, dir, rest: files }
            }
        };
    }
}

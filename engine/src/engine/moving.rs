//! Who waits for a log's move, and what it leaves behind.

use std::path::{Path, PathBuf};

use highwater_base::Uuid;

use super::EngineError;
use super::shard::Reply;
use crate::{Log, LogEvent};

/// What the owner of a log keeps of its move.
#[derive(Debug)]
pub(super) struct Moves {
    waiting: Option<Reply<()>>,
    /// Directories that are to be removed.
    discarded: Vec<PathBuf>,
}

impl Moves {
    /// None.
    pub(super) const NEW: Moves = Moves { waiting: None, discarded: Vec::new() };

    /// Whether nobody waits, and nothing is to be removed.
    pub(super) fn is_nobody(&self) -> bool {
        self.waiting.is_none() && self.discarded.is_empty()
    }

    /// Begins a move, in the place of one under way.
    pub(super) fn begin(&mut self, log: &mut Log, directory: &Path, bytes_per_second: u64, reply: Reply<()>) {
        self.over(Err(EngineError::MoveReplaced));
        log.move_to(directory, Uuid::ZERO, bytes_per_second);
        if log.moving().is_some() {
            self.waiting = Some(reply);
        } else {
            // It is there.
            reply.answer(Ok(()));
        }
    }

    /// What the log says of its move.
    pub(super) fn heard(&mut self, log: &mut Log, event: LogEvent) {
        match event {
            LogEvent::MoveCaughtUp => log.finish_move(),
            LogEvent::Moved { .. } => self.over(Ok(())),
            LogEvent::MoveFailed(error) => self.over(Err(error.into())),
            LogEvent::Discarded { dir } => self.discarded.push(dir),
            _ => {}
        }
    }

    /// The move is over: whoever waits is told.
    pub(super) fn over(&mut self, result: Result<(), EngineError>) {
        if let Some(reply) = self.waiting.take() {
            reply.answer(result);
        }
    }

    /// The next directory that is to be removed.
    pub(super) fn poll_discarded(&mut self) -> Option<PathBuf> {
        self.discarded.pop()
    }
}

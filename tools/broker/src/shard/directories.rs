//! Shard 0 watches the data directories: whether each still takes writes, and how large it is.
//!
//! A log that fails need not mean that its directory has: one bad block is one partition's trouble. So a directory that
//! somebody suspects is probed, by making a small file durable in it, and goes offline only if that fails too. It stays
//! so until the broker starts again, as with Apache Kafka.

use std::path::PathBuf;
use std::sync::Arc;

use highwater_io::{Completion, ErrorKind, Io, IoError, Op, Outcome, Token};

use crate::ctx::DirSpace;
use crate::mail::Mail;
use crate::message::{Message, ReplyTo};
use crate::storage::{Replace, Step};

/// The file that a probe makes.
const PROBE: &str = "highwater.probe";

/// What a probe has shown.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The directory takes writes.
    Sound(usize),
    /// It does not.
    Offline(usize, IoError),
}

/// The watch over the data directories.
pub(super) struct Directories {
    owner: u32,
    /// In the order of their numbers.
    dirs: Vec<(PathBuf, State)>,
    /// Those that were broken at the start.
    broken: Arc<Vec<PathBuf>>,
    looking: Option<Look>,
    /// Who waits for the next look.
    asked: Vec<ReplyTo>,
}

enum State {
    Online,
    Probing(Replace),
    Offline,
}

/// A look at how large the directories are, under way.
struct Look {
    to: Vec<ReplyTo>,
    missing: usize,
    found: Vec<Option<(u64, u64)>>,
}

impl Directories {
    pub(super) fn new(owner: u32, paths: Vec<PathBuf>, broken: Arc<Vec<PathBuf>>) -> Directories {
        let dirs = paths.into_iter().map(|path| (path, State::Online)).collect();
        Directories { owner, dirs, broken, looking: None, asked: Vec::new() }
    }

    /// Something in a directory has failed.
    pub(super) fn suspect(&mut self, at: usize, io: &mut dyn Io) {
        let (path, state) = &mut self.dirs[at];
        if matches!(state, State::Online) {
            let (replace, op) = Replace::start(&path.join(PROBE), Vec::new());
            *state = State::Probing(replace);
            io.submit(op, Token { owner: self.owner, tag: 2 * at as u32 });
        }
    }

    /// Which directories are not offline.
    pub(super) fn online(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.dirs.len()).filter(|at| !matches!(self.dirs[*at].1, State::Offline))
    }

    /// Somebody asks how large the directories are.
    pub(super) fn describe(&mut self, to: ReplyTo, mail: &mut Mail, io: &mut dyn Io) {
        self.asked.push(to);
        self.look(mail, io);
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.looking.is_none() && !self.dirs.iter().any(|(_, state)| matches!(state, State::Probing(_)))
    }

    /// Takes a completion.
    pub(super) fn complete(
        &mut self,
        completion: Completion,
        mail: &mut Mail,
        io: &mut dyn Io,
    ) -> Option<Verdict> {
        let Completion { token, result } = completion;
        let at = token.tag as usize / 2;
        if token.tag % 2 == 1 {
            self.looked_at(at, result, mail, io);
            return None;
        }
        let state = &mut self.dirs[at].1;
        let State::Probing(replace) = state else {
            unreachable!("only a probe submits operations of this tag")
        };
        let result = match replace.next(result) {
            Step::Submit(op) => {
                io.submit(op, token);
                return None;
            }
            Step::Done(result) => result,
        };
        Some(match result {
            Err(error) if condemns(&error) => {
                *state = State::Offline;
                Verdict::Offline(at, error)
            }
            _ => {
                *state = State::Online;
                Verdict::Sound(at)
            }
        })
    }

    fn look(&mut self, mail: &mut Mail, io: &mut dyn Io) {
        if self.looking.is_some() || self.asked.is_empty() {
            return;
        }
        let to = std::mem::take(&mut self.asked);
        let online: Vec<usize> = self.online().collect();
        self.looking = Some(Look { to, missing: online.len(), found: vec![None; self.dirs.len()] });
        for at in online.iter().copied() {
            let op = Op::Space { path: self.dirs[at].0.clone() };
            io.submit(op, Token { owner: self.owner, tag: 2 * at as u32 + 1 });
        }
        if online.is_empty() {
            self.tell(mail, io);
        }
    }

    fn looked_at(&mut self, at: usize, result: Result<Outcome, IoError>, mail: &mut Mail, io: &mut dyn Io) {
        if let Err(error) = &result
            && condemns(error)
        {
            self.suspect(at, io);
        }
        let look = self.looking.as_mut().expect("only a look submits operations of this tag");
        look.missing -= 1;
        look.found[at] = match result {
            Ok(Outcome::Space { total, free }) => Some((total, free)),
            _ => None,
        };
        if look.missing == 0 {
            self.tell(mail, io);
        }
    }

    fn tell(&mut self, mail: &mut Mail, io: &mut dyn Io) {
        let Some(Look { to, found, .. }) = self.looking.take() else { return };
        let online =
            self.dirs.iter().zip(found).map(|((path, _), space)| DirSpace { path: path.clone(), space });
        let broken = self.broken.iter().map(|path| DirSpace { path: path.clone(), space: None });
        let dirs: Arc<Vec<DirSpace>> = Arc::new(online.chain(broken).collect());
        for to in to {
            mail.send(to.shard, Message::Directories { to, dirs: Arc::clone(&dirs) });
        }
        self.look(mail, io);
    }
}

/// Whether an error says that a directory is of no use. Running out of space or of handles passes.
pub(super) fn condemns(error: &IoError) -> bool {
    !matches!(error.kind, ErrorKind::NoSpace | ErrorKind::Exhausted | ErrorKind::Cancelled)
}

//! Shard 0's other work: the metadata is changed, stored and told to every shard, in this order, before a change is
//! answered.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_base::Now;
use highwater_control::{CATALOG_FILE, Command, Image, encode_catalog};
use highwater_io::{Completion, Io, IoError, Token};
use highwater_replication::{Authority, Decision, LocalAuthority};

use super::directories::condemns;
use crate::log::{Level, Log};
use crate::mail::Mail;
use crate::message::{Message, ReplyTo, ShardId};
use crate::slots::Slots;
use crate::storage::{Replace, Step};

/// The metadata's keeper: an authority, its catalog file, and who waits for what.
pub(super) struct Controller {
    owner: u32,
    /// Its file in each data directory; none of one that is offline.
    paths: Vec<Option<PathBuf>>,
    authority: LocalAuthority,
    saving: Option<Saving>,
    /// Who asked, by the key that the authority gives back.
    asked: Slots<ReplyTo>,
    /// Decided, not yet answered: every shard must first have made the logs that the image of this version asks for.
    /// By version, ascending.
    decided: VecDeque<(u64, Decision)>,
    /// Up to which version each shard has made its logs.
    caught: Vec<u64>,
}

/// A catalog that is being written, in one directory after the other: each that is left alone must hold the newest.
struct Saving {
    version: u64,
    bytes: Vec<u8>,
    replace: Replace,
    /// The number of the directory that is being written to.
    dir: usize,
    /// Whether it is in any directory yet.
    stored: bool,
    /// Why it is not in the last one that failed.
    error: Option<IoError>,
}

impl Controller {
    pub(super) fn new(owner: u32, dirs: &[PathBuf], image: Image, shards: usize) -> Controller {
        Controller {
            owner,
            paths: dirs.iter().map(|dir| Some(dir.join(CATALOG_FILE))).collect(),
            authority: LocalAuthority::new(image),
            saving: None,
            asked: Slots::new(),
            decided: VecDeque::new(),
            caught: vec![0; shards],
        }
    }

    /// Whether everything asked is stored and answered.
    pub(super) fn is_settled(&self) -> bool {
        self.saving.is_none() && self.asked.len() == 0
    }

    /// Takes a command.
    pub(super) fn command(&mut self, to: ReplyTo, command: Command) {
        let key = self.asked.insert(to);
        self.authority.propose(key, command);
    }

    /// A shard has made its logs.
    pub(super) fn caught(&mut self, shard: ShardId, version: u64) {
        let caught = &mut self.caught[usize::from(shard)];
        *caught = version.max(*caught);
    }

    /// Stores what is due, answers what can be.
    pub(super) fn step(&mut self, mail: &mut Mail, io: &mut dyn Io) {
        if let Some(image) = self.authority.poll_store() {
            self.save(image.version(), encode_catalog(&image), io);
        }
        let committed = self.authority.image().version();
        while let Some(decision) = self.authority.poll_decision() {
            match decision.result {
                Ok(_) => self.decided.push_back((committed, decision)),
                Err(_) => self.answer(decision, mail),
            }
        }
        let everywhere = self.caught.iter().copied().min().unwrap_or(0);
        while self.decided.front().is_some_and(|(version, _)| *version <= everywhere) {
            let (_, decision) = self.decided.pop_front().expect("it was there a line before");
            self.answer(decision, mail);
        }
    }

    /// Takes a completion of the catalog's writing.
    pub(super) fn complete(
        &mut self,
        completion: Completion,
        now: Now,
        log: &mut Log,
        mail: &mut Mail,
        io: &mut dyn Io,
    ) {
        let mut saving = self.saving.take().expect("only a save submits operations");
        match saving.replace.next(completion.result) {
            Step::Submit(op) => {
                self.saving = Some(saving);
                return io.submit(op, self.token());
            }
            Step::Done(Ok(())) => saving.stored = true,
            Step::Done(Err(error)) => {
                if condemns(&error) {
                    mail.send(0, Message::Suspect { dir: saving.dir });
                }
                saving.error = Some(error);
            }
        }
        if let Some((dir, path)) = self.next_path(saving.dir + 1) {
            let (replace, op) = Replace::start(path, saving.bytes.clone());
            self.saving = Some(Saving { replace, dir, ..saving });
            return io.submit(op, self.token());
        }
        if saving.stored {
            self.authority.stored(saving.version);
            for shard in mail.shards() {
                mail.send(shard, Message::Image(Arc::clone(self.authority.image())));
            }
            return;
        }
        let why =
            saving.error.map_or_else(|| "no data directory is left".to_owned(), |error| error.to_string());
        let line = format_args!("the metadata was not stored: {why}");
        log.repeated(now, Level::Error, "catalog", line);
        self.authority.not_stored(&why);
    }

    /// Nothing is stored any more in a data directory that is offline.
    pub(super) fn give_up(&mut self, dir: usize) {
        self.paths[dir] = None;
    }

    fn save(&mut self, version: u64, bytes: Vec<u8>, io: &mut dyn Io) {
        let Some((dir, path)) = self.next_path(0) else {
            return self.authority.not_stored("no data directory is left");
        };
        let (replace, op) = Replace::start(path, bytes.clone());
        self.saving = Some(Saving { version, bytes, replace, dir, stored: false, error: None });
        io.submit(op, self.token());
    }

    /// The next directory to store in, from this number on.
    fn next_path(&self, from: usize) -> Option<(usize, &Path)> {
        let rest = self.paths.iter().enumerate().skip(from);
        rest.filter_map(|(dir, path)| Some((dir, path.as_deref()?))).next()
    }

    fn answer(&mut self, decision: Decision, mail: &mut Mail) {
        let to = self.asked.remove(decision.key).expect("each command is decided once");
        mail.send(to.shard, Message::ControlReply { to, result: Box::new(decision.result) });
    }

    fn token(&self) -> Token {
        Token { owner: self.owner, tag: 0 }
    }
}

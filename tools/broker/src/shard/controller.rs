//! Shard 0's other work: the metadata is changed, stored and told to every shard, in this order, before a change is
//! answered.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_base::Now;
use highwater_control::{CATALOG_FILE, Command, Image, encode_catalog};
use highwater_io::{Completion, Io, Token};
use highwater_replication::{Authority, Decision, LocalAuthority};

use crate::log::{Level, Log};
use crate::mail::Mail;
use crate::message::{Message, ReplyTo, ShardId};
use crate::slots::Slots;
use crate::storage::{Replace, Step};

/// The metadata's keeper: an authority, its catalog file, and who waits for what.
pub(super) struct Controller {
    owner: u32,
    path: PathBuf,
    authority: LocalAuthority,
    /// The catalog being written, and the version of its image.
    saving: Option<(Replace, u64)>,
    /// Who asked, by the key that the authority gives back.
    asked: Slots<ReplyTo>,
    /// Decided, not yet answered: every shard must first have made the logs that the image of this version asks for.
    /// By version, ascending.
    decided: VecDeque<(u64, Decision)>,
    /// Up to which version each shard has made its logs.
    caught: Vec<u64>,
}

impl Controller {
    pub(super) fn new(owner: u32, dir: &Path, image: Image, shards: usize) -> Controller {
        Controller {
            owner,
            path: dir.join(CATALOG_FILE),
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
            let (replace, op) = Replace::start(&self.path, encode_catalog(&image));
            self.saving = Some((replace, image.version()));
            io.submit(op, self.token());
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
        let (mut replace, version) = self.saving.take().expect("only a save submits operations");
        match replace.next(completion.result) {
            Step::Submit(op) => {
                self.saving = Some((replace, version));
                io.submit(op, self.token());
            }
            Step::Done(Ok(())) => {
                self.authority.stored(version);
                for shard in mail.shards() {
                    mail.send(shard, Message::Image(Arc::clone(self.authority.image())));
                }
            }
            Step::Done(Err(error)) => {
                log.repeated(
                    now,
                    Level::Error,
                    "catalog",
                    format_args!("the metadata was not stored: {error}"),
                );
                self.authority.not_stored(&error.to_string());
            }
        }
    }

    fn answer(&mut self, decision: Decision, mail: &mut Mail) {
        let to = self.asked.remove(decision.key).expect("each command is decided once");
        mail.send(to.shard, Message::ControlReply { to, result: Box::new(decision.result) });
    }

    fn token(&self) -> Token {
        Token { owner: self.owner, tag: 0 }
    }
}

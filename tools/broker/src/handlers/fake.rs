//! A shard for the unit tests of handlers: it applies commands at once, and gives calls to the test to reply to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use highwater_base::{BrokerEpoch, BrokerId, Mono, Now, PartitionIndex, Prng, ProducerId, Uuid, WallMs};
use highwater_control::{Command, Image, NewTopic, Registration, apply};
use highwater_wire::{Api, RequestHeader};
use kafka_protocol::messages::{RequestKind, ResponseKind};

use super::{Ctx, handle};
use crate::call::{PartitionCall, PartitionReply};
use crate::config::{Settings, Source};
use crate::ctx::NodeFacts;
use crate::fetch_sessions::FetchSessions;
use crate::pending::{Answer, Handled, Reply};
use crate::session::Session;

/// A call that a handler made.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) index: u32,
    pub(super) partition: PartitionIndex,
    pub(super) call: PartitionCall,
}

pub(super) struct Fake {
    pub(super) now: Now,
    image: Arc<Image>,
    settings: Settings,
    node: NodeFacts,
    next_index: u32,
    next_id: u64,
    next_producer: i64,
    calls: Vec<Call>,
    commands: VecDeque<(u32, Command)>,
    producers: VecDeque<u32>,
    describing: Option<u32>,
    pub(super) forgotten: Vec<u32>,
    deadline: Option<Mono>,
    fetch_sessions: FetchSessions,
}

const ME: BrokerId = BrokerId::new(1);

impl Fake {
    pub(super) fn new() -> Fake {
        Fake::with_settings(&[])
    }

    pub(super) fn with_settings(given: &[(&str, &str)]) -> Fake {
        let given: Vec<_> =
            given.iter().map(|(n, v)| (Source::Config, (*n).to_owned(), (*v).to_owned())).collect();
        let mut fake = Fake {
            now: Now { mono: Mono::ZERO, wall: WallMs::new(1_000_000) },
            image: Arc::new(Image::new("cluster")),
            settings: Settings::from_sources(&given).unwrap(),
            node: NodeFacts {
                id: ME,
                host: "here".into(),
                port: 9092,
                cluster_id: "cluster".into(),
                rack: None,
            },
            next_index: 0,
            next_id: 1,
            next_producer: 0,
            calls: Vec::new(),
            commands: VecDeque::new(),
            producers: VecDeque::new(),
            describing: None,
            forgotten: Vec::new(),
            deadline: None,
            fetch_sessions: FetchSessions::new(2, 100, Prng::new(1)),
        };
        fake.apply(&Command::RegisterBroker(Registration::new(ME, "here", 9092)));
        let epoch: BrokerEpoch = fake.image.broker(ME).unwrap().epoch;
        fake.apply(&Command::UnfenceBroker { broker: ME, epoch });
        fake
    }

    pub(super) fn with_topic(name: &str, partitions: i32) -> Fake {
        let mut fake = Fake::new();
        fake.create(name, partitions);
        fake
    }

    pub(super) fn create(&mut self, name: &str, partitions: i32) {
        let id = self.new_topic_id();
        self.apply(&Command::CreateTopic(NewTopic { partitions, ..NewTopic::named(name, id) }));
    }

    pub(super) fn apply(&mut self, command: &Command) {
        let (image, _) = apply(&self.image, command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        self.image = Arc::new(image);
    }

    pub(super) fn handle(&mut self, header: &RequestHeader, body: RequestKind) -> Handled {
        handle(self, &Session::anonymous("PLAINTEXT"), header, body)
    }

    /// Carries out every command and allocation that waits.
    pub(super) fn settle(&mut self, mut handled: Handled) -> Handled {
        while let Some((index, command)) = self.commands.pop_front() {
            let result = apply(&self.image, &command).map(|(image, applied)| {
                self.image = Arc::new(image);
                applied
            });
            handled = self.deliver(handled, index, Reply::Control(result));
        }
        while let Some(index) = self.producers.pop_front() {
            let id = ProducerId::new(self.next_producer);
            self.next_producer += 1;
            handled = self.deliver(handled, index, Reply::ProducerId(Ok(id)));
        }
        handled
    }

    /// Replies to one call.
    pub(super) fn reply(&mut self, handled: Handled, index: u32, reply: PartitionReply) -> Handled {
        self.deliver(handled, index, Reply::Partition(reply))
    }

    fn deliver(&mut self, handled: Handled, index: u32, reply: Reply) -> Handled {
        let Handled::Pending(mut pending) = handled else { panic!("a reply after the answer") };
        pending.on_reply(self, index, reply).unwrap_or(Handled::Pending(pending))
    }

    /// Replies to the one who asked for the directories.
    pub(super) fn directories(&mut self, handled: Handled, reply: Reply) -> Handled {
        let index = self.describing.take().expect("somebody asked for the directories");
        self.deliver(handled, index, reply)
    }

    /// Lets the deadline pass.
    pub(super) fn expire(&mut self, handled: Handled) -> Handled {
        let Handled::Pending(mut pending) = handled else { panic!("a deadline after the answer") };
        self.now.mono = self.deadline.expect("a deadline was set");
        pending.on_deadline(self).unwrap_or(Handled::Pending(pending))
    }

    pub(super) fn take_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    /// When the deadline is, in milliseconds from the start.
    pub(super) fn deadline_ms(&self) -> Option<u128> {
        self.deadline.map(|at| at.since(Mono::ZERO)).as_ref().map(Duration::as_millis)
    }
}

impl Ctx for Fake {
    fn now(&self) -> Now {
        self.now
    }

    fn image(&self) -> &Arc<Image> {
        &self.image
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn node(&self) -> &NodeFacts {
        &self.node
    }

    fn call(&mut self, (_, partition): (Uuid, PartitionIndex), call: PartitionCall) -> u32 {
        let index = self.next_index;
        self.next_index += 1;
        self.calls.push(Call { index, partition, call });
        index
    }

    fn forget(&mut self, _: (Uuid, PartitionIndex), index: u32) {
        self.forgotten.push(index);
    }

    fn control(&mut self, command: Command) -> u32 {
        let index = self.next_index;
        self.next_index += 1;
        self.commands.push_back((index, command));
        index
    }

    fn allocate_producer_id(&mut self) -> u32 {
        let index = self.next_index;
        self.next_index += 1;
        self.producers.push_back(index);
        index
    }

    fn describe_directories(&mut self) -> u32 {
        let index = self.next_index;
        self.next_index += 1;
        self.describing = Some(index);
        index
    }

    fn new_topic_id(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid::from_halves(7, self.next_id)
    }

    fn fetch_sessions(&mut self) -> &mut FetchSessions {
        &mut self.fetch_sessions
    }

    fn set_deadline(&mut self, at: Mono) {
        self.deadline = Some(at);
    }
}

/// The header of a request.
pub(super) fn header(api: Api, version: i16) -> RequestHeader {
    RequestHeader { api, version, correlation_id: 1, client_id: None }
}

/// The answer that was given.
pub(super) fn body(handled: Handled) -> ResponseKind {
    match handled {
        Handled::Answer(Answer::Message(body)) => *body,
        Handled::Answer(Answer::Fetch { .. }) => panic!("a Fetch answer"),
        Handled::Pending(_) => panic!("still pending"),
        Handled::NoAnswer => panic!("no answer"),
        Handled::Close(reason) => panic!("closed: {reason}"),
    }
}

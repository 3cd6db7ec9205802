//! Requests being worked on, and what their handlers see of the shard.

use std::sync::Arc;

use highwater_base::{Limits, Mono, Now, PartitionIndex, Prng, ProducerId, Uuid};
use highwater_control::{Applied, Command, Image, PRODUCER_ID_BLOCK};
use highwater_runtime::Timers;
use highwater_wire::RequestHeader;

use crate::call::PartitionCall;
use crate::config::Settings;
use crate::ctx::{Ctx, NodeFacts};
use crate::errors::Refusal;
use crate::fetch_sessions::FetchSessions;
use crate::mail::Mail;
use crate::message::{Message, ReplyTo, RequestKey};
use crate::pending::{Pending, Reply};
use crate::slots::Slots;

/// A request that was taken and is not answered yet.
pub(crate) struct Request {
    /// The connection it came over.
    pub(crate) connection: u64,
    /// Its number there.
    pub(crate) number: u64,
    /// Its header, which its answer needs.
    pub(crate) header: RequestHeader,
    /// What waits for replies; `None` while a handler works on it.
    pub(crate) waits: Option<Box<dyn Pending>>,
    /// The index of its next call.
    next_call: u32,
}

/// The part of a shard that handlers work with.
pub(crate) struct Desk {
    pub(crate) settings: Arc<Settings>,
    pub(crate) node: Arc<NodeFacts>,
    pub(crate) image: Arc<Image>,
    pub(crate) mail: Mail,
    pub(crate) requests: Slots<Request>,
    pub(crate) deadlines: Timers,
    /// Replies that were known at once; they reach their request as any other.
    pub(crate) replies: Vec<(RequestKey, u32, Reply)>,
    fetch_sessions: FetchSessions,
    prng: Prng,
    ids: ProducerIds,
}

/// Producer ids that this shard may give out, and who waits for more.
#[derive(Debug, Default)]
struct ProducerIds {
    next: i64,
    left: i64,
    waiting: Vec<(RequestKey, u32)>,
    asked: bool,
}

/// The request under which a shard asks for producer ids; no slot has this key.
const OWN_REQUEST: RequestKey = u64::MAX;

impl Desk {
    pub(crate) fn new(
        settings: Arc<Settings>,
        node: NodeFacts,
        image: Arc<Image>,
        mail: Mail,
        mut prng: Prng,
        limits: &Limits,
    ) -> Desk {
        let slots = settings.fetch_session_slots().div_ceil(mail.shards().count());
        let sessions_prng = Prng::new(prng.next_u64());
        let fetch_sessions = FetchSessions::new(slots, limits.fetch_session_partitions, sessions_prng);
        Desk {
            settings,
            node: Arc::new(node),
            image,
            mail,
            requests: Slots::new(),
            deadlines: Timers::new(),
            replies: Vec::new(),
            fetch_sessions,
            prng,
            ids: ProducerIds::default(),
        }
    }

    /// Opens a request.
    pub(crate) fn open(&mut self, connection: u64, number: u64, header: RequestHeader) -> RequestKey {
        self.requests.insert(Request { connection, number, header, waits: None, next_call: 0 })
    }

    /// Ends a request: late replies find nothing.
    pub(crate) fn end(&mut self, request: RequestKey) -> Option<Request> {
        self.deadlines.cancel(request);
        self.requests.remove(request)
    }

    /// What a handler sees while it works on a request.
    pub(crate) fn ctx(&mut self, request: RequestKey, now: Now) -> RequestCtx<'_> {
        RequestCtx { desk: self, request, now }
    }

    /// A reply to a command of this shard's own: a block of producer ids. Says whether it was one.
    pub(crate) fn take_producer_ids(
        &mut self,
        to: ReplyTo,
        result: &Result<Applied, highwater_control::ControlError>,
    ) -> bool {
        if to.request != OWN_REQUEST {
            return false;
        }
        self.ids.asked = false;
        let waiting = std::mem::take(&mut self.ids.waiting);
        match result {
            Ok(Applied::ProducerIds { first, count }) => {
                (self.ids.next, self.ids.left) = (first.get(), *count);
                for (request, index) in waiting {
                    self.give_producer_id(request, index);
                }
            }
            Ok(_) => unreachable!("the answer to another command than the one that was sent"),
            Err(error) => {
                let refusal = Refusal::from(error.clone());
                let replies =
                    waiting.into_iter().map(|(r, i)| (r, i, Reply::ProducerId(Err(refusal.clone()))));
                self.replies.extend(replies);
            }
        }
        true
    }

    fn give_producer_id(&mut self, request: RequestKey, index: u32) {
        if self.ids.left > 0 {
            let id = ProducerId::new(self.ids.next);
            self.ids.next += 1;
            self.ids.left -= 1;
            return self.replies.push((request, index, Reply::ProducerId(Ok(id))));
        }
        self.ids.waiting.push((request, index));
        if !self.ids.asked {
            self.ids.asked = true;
            let to = ReplyTo { shard: self.mail.me(), request: OWN_REQUEST, index: 0 };
            self.mail.send(0, Message::Control { to, command: Box::new(Command::AllocateProducerIds) });
        }
    }
}

const _: () = assert!(PRODUCER_ID_BLOCK > 0);

/// [`Ctx`] for one request.
pub(crate) struct RequestCtx<'d> {
    desk: &'d mut Desk,
    request: RequestKey,
    now: Now,
}

impl RequestCtx<'_> {
    /// The address of the reply to the next call.
    fn next_reply(&mut self) -> ReplyTo {
        let shard = self.desk.mail.me();
        let request = self.desk.requests.get_mut(self.request).expect("a handler works on an open request");
        let index = request.next_call;
        request.next_call += 1;
        ReplyTo { shard, request: self.request, index }
    }
}

impl Ctx for RequestCtx<'_> {
    fn now(&self) -> Now {
        self.now
    }

    fn image(&self) -> &Arc<Image> {
        &self.desk.image
    }

    fn settings(&self) -> &Settings {
        &self.desk.settings
    }

    fn node(&self) -> &NodeFacts {
        &self.desk.node
    }

    fn call(&mut self, partition: (Uuid, PartitionIndex), call: PartitionCall) -> u32 {
        let to = self.next_reply();
        let owner = self.desk.mail.owner(partition);
        self.desk.mail.send(owner, Message::Call { to, partition, call });
        to.index
    }

    fn forget(&mut self, partition: (Uuid, PartitionIndex), index: u32) {
        let call = ReplyTo { shard: self.desk.mail.me(), request: self.request, index };
        let owner = self.desk.mail.owner(partition);
        self.desk.mail.send(owner, Message::Forget { call, partition });
    }

    fn control(&mut self, command: Command) -> u32 {
        let to = self.next_reply();
        self.desk.mail.send(0, Message::Control { to, command: Box::new(command) });
        to.index
    }

    fn allocate_producer_id(&mut self) -> u32 {
        let to = self.next_reply();
        self.desk.give_producer_id(self.request, to.index);
        to.index
    }

    fn describe_directories(&mut self) -> u32 {
        let to = self.next_reply();
        self.desk.mail.send(0, Message::DescribeDirectories { to });
        to.index
    }

    fn new_topic_id(&mut self) -> Uuid {
        Uuid::random(&mut self.desk.prng)
    }

    fn fetch_sessions(&mut self) -> &mut FetchSessions {
        &mut self.desk.fetch_sessions
    }

    fn set_deadline(&mut self, at: Mono) {
        self.desk.deadlines.set(self.request, at);
    }
}

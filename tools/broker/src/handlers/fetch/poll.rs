//! One fetch, from its first reads to its answer.

use std::collections::BTreeMap;

use highwater_base::{Mono, Uuid};
use highwater_replication::{Isolation, ReadDone, ReadRequest};
use highwater_wire::ErrorCode;

use super::super::Ctx;
use super::super::lookup::Target;
use super::budget::Budget;
use crate::call::{PartitionCall, PartitionReply};
use crate::errors::Refusal;
use crate::fetch_sessions::{PartitionName, SessionRequest, Wanted};
use crate::pending::{Handled, Pending, Reply};

/// What the answer has to do with a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SessionUse {
    /// Nothing.
    None,
    /// It opens one.
    Opens(SessionRequest),
    /// It says what is new to one.
    Continues(SessionRequest),
}

/// A partition to read.
pub(super) struct Slot {
    pub(super) name: PartitionName,
    pub(super) wanted: Wanted,
    /// The topic's id, if the topic is known.
    pub(super) topic: Option<Uuid>,
    target: Option<Target>,
    /// It was asked to say when there is more, and has not yet.
    awaited: bool,
    pub(super) state: State,
}

/// How far a partition is.
pub(super) enum State {
    /// Not asked, or asked and not answered yet.
    Unread,
    /// What the last read gave, already cut to what fits.
    Read(ReadDone),
    /// It cannot be read.
    Refused(Refusal),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Read,
    Await,
}

/// Partitions read at once at most. Each gives a batch at least, however little it is asked for; what does not fit
/// is dropped afterwards, and must not be much.
const WAVE: usize = 256;

/// Whether a reader expects this error of a partition. The Java consumer fails for good at any that it does not
/// know; the last one is for those that say they are replicas.
pub(super) fn is_expected(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownServerError
            | ErrorCode::OffsetOutOfRange
            | ErrorCode::CorruptMessage
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::ReplicaNotAvailable
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::KafkaStorageError
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::OffsetNotAvailable
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
            | ErrorCode::ClusterAuthorizationFailed
    )
}

/// A fetch under way.
pub(super) struct Poll {
    pub(super) version: i16,
    pub(super) isolation: Isolation,
    min_bytes: usize,
    deadline: Mono,
    pub(super) session: SessionUse,
    pub(super) slots: Vec<Slot>,
    max_bytes: usize,
    /// Room left by the slots before `next`.
    budget: Budget,
    /// First slot of the wave that is being read; those before it are settled.
    wave: usize,
    /// First slot that was not asked yet.
    next: usize,
    /// What is awaited, by the number of the call: which slot.
    asked: BTreeMap<u32, (usize, Asked)>,
    /// Reads among `asked`.
    reading: usize,
}

impl Slot {
    pub(super) fn new(
        name: PartitionName,
        topic: Option<Uuid>,
        target: Result<Target, Refusal>,
        wanted: Wanted,
    ) -> Slot {
        let (target, state) = match target {
            Ok(target) => (Some(target), State::Unread),
            Err(refusal) => (None, State::Refused(refusal)),
        };
        Slot { name, wanted, topic, target, awaited: false, state }
    }

    fn max_bytes(&self) -> usize {
        usize::try_from(self.wanted.max_bytes).unwrap_or(0)
    }

    fn len(&self) -> usize {
        match &self.state {
            State::Read(read) => read.data.iter().map(|slice| slice.len()).sum(),
            State::Unread | State::Refused(_) => 0,
        }
    }

    /// Whether it must be told at once: an error, a divergence, or a limit that kept back what could be read (the
    /// next read would give the same again).
    fn is_urgent(&self, isolation: Isolation) -> bool {
        match &self.state {
            State::Read(read) => {
                let bound = match isolation {
                    Isolation::ReadUncommitted => read.high_watermark,
                    Isolation::ReadCommitted => read.last_stable,
                };
                read.diverging.is_some() || read.next < bound
            }
            State::Refused(_) => true,
            State::Unread => false,
        }
    }
}

impl Poll {
    pub(super) fn new(
        version: i16,
        isolation: Isolation,
        min_bytes: usize,
        max_bytes: usize,
        deadline: Mono,
        session: SessionUse,
        slots: Vec<Slot>,
    ) -> Poll {
        Poll {
            version,
            isolation,
            min_bytes,
            deadline,
            session,
            slots,
            max_bytes,
            budget: Budget::new(max_bytes),
            wave: 0,
            next: 0,
            asked: BTreeMap::new(),
            reading: 0,
        }
    }

    pub(super) fn start(ctx: &mut dyn Ctx, mut poll: Poll) -> Handled {
        poll.read_wave(ctx);
        match poll.proceed(ctx) {
            Some(handled) => handled,
            None => Handled::Pending(Box::new(poll)),
        }
    }

    /// Reads the next partitions: as many as could fill the room that is left. Those after wait to see how much
    /// of it was used.
    fn read_wave(&mut self, ctx: &mut dyn Ctx) {
        self.wave = self.next;
        let mut planned = 0;
        let end = self.slots.len().min(self.wave + WAVE);
        while self.next < end && (planned < self.budget.left() || self.budget.left() == 0) {
            let slot = &self.slots[self.next];
            let max_bytes = slot.max_bytes().min(self.budget.left() - planned);
            if slot.target.is_some() {
                planned += max_bytes;
                // A full answer still tells of the other partitions' offsets.
                let any = max_bytes > 0 || self.budget.is_empty();
                self.read(ctx, self.next, if any { max_bytes.max(1) } else { 0 });
            }
            self.next += 1;
        }
    }

    fn read(&mut self, ctx: &mut dyn Ctx, at: usize, max_bytes: usize) {
        let slot = &self.slots[at];
        let Some(target) = slot.target else { return };
        let call = PartitionCall::Read(ReadRequest {
            from: slot.wanted.from,
            isolation: self.isolation,
            max_bytes,
            current_epoch: slot.wanted.current,
            last_fetched_epoch: slot.wanted.last_fetched,
        });
        self.asked.insert(ctx.call(target, call), (at, Asked::Read));
        self.reading += 1;
    }

    /// No read is under way: settles the wave, and goes on to the next one, the answer, or the wait.
    fn proceed(&mut self, ctx: &mut dyn Ctx) -> Option<Handled> {
        while self.reading == 0 {
            self.settle();
            if self.next == self.slots.len() {
                break;
            }
            self.read_wave(ctx);
        }
        if self.reading > 0 {
            return None;
        }
        let bytes: usize = self.slots.iter().map(Slot::len).sum();
        let done = bytes >= self.min_bytes
            || self.slots.is_empty()
            || ctx.now().mono >= self.deadline
            || self.slots.iter().any(|slot| slot.is_urgent(self.isolation));
        if done {
            return Some(self.finish(ctx));
        }
        self.wait(ctx);
        None
    }

    /// Cuts what the wave gave to what fits, in the order of the request.
    fn settle(&mut self) {
        for slot in &mut self.slots[self.wave..self.next] {
            let max_bytes = slot.max_bytes();
            let State::Read(read) = &mut slot.state else { continue };
            let before: usize = read.data.iter().map(|slice| slice.len()).sum();
            self.budget.take(&mut read.data, max_bytes);
            if read.data.iter().map(|slice| slice.len()).sum::<usize>() < before {
                // Something was kept back; where that begins is not known without reading the batches.
                read.next = slot.wanted.from;
            }
        }
        self.wave = self.next;
    }

    /// Asks every partition that is not asked already to say when there is more.
    fn wait(&mut self, ctx: &mut dyn Ctx) {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let (Some(target), State::Read(read), false) = (slot.target, &slot.state, slot.awaited) else {
                continue;
            };
            let beyond = read.next;
            let call =
                PartitionCall::AwaitReadable { beyond, isolation: self.isolation, deadline: self.deadline };
            self.asked.insert(ctx.call(target, call), (at, Asked::Await));
            slot.awaited = true;
        }
        ctx.set_deadline(self.deadline);
    }

    /// Reads a partition again, which has more now, into the room that the others leave.
    fn read_again(&mut self, ctx: &mut dyn Ctx, at: usize) {
        let others: usize =
            self.slots.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, slot)| slot.len()).sum();
        let room = self.max_bytes.saturating_sub(others).min(self.slots[at].max_bytes());
        self.read(ctx, at, room.max(1));
    }

    fn on_read(&mut self, at: usize, reply: Reply) {
        self.reading -= 1;
        let again = at < self.wave;
        let slot = &mut self.slots[at];
        slot.state = match reply {
            Reply::Partition(PartitionReply::Read(read)) => State::Read(read),
            Reply::Partition(PartitionReply::Refused(refusal)) => State::Refused(refusal),
            _ => State::Refused(Refusal::unexpected("Fetch")),
        };
        if again {
            let others: usize =
                self.slots.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, slot)| slot.len()).sum();
            let mut budget = Budget::after(self.max_bytes, others);
            let slot = &mut self.slots[at];
            let max_bytes = slot.max_bytes();
            if let State::Read(read) = &mut slot.state {
                budget.take(&mut read.data, max_bytes);
            }
        }
    }

    /// Takes the answer; gives up what is still awaited.
    fn finish(&mut self, ctx: &mut dyn Ctx) -> Handled {
        for (index, (at, asked)) in std::mem::take(&mut self.asked) {
            if let (Asked::Await, Some(target)) = (asked, self.slots[at].target) {
                ctx.forget(target, index);
            }
        }
        super::answer::answer(ctx, self)
    }
}

impl Pending for Poll {
    fn on_reply(&mut self, ctx: &mut dyn Ctx, index: u32, reply: Reply) -> Option<Handled> {
        let (at, asked) = self.asked.remove(&index)?;
        self.slots[at].awaited &= asked != Asked::Await;
        match (asked, reply) {
            (Asked::Read, reply) => self.on_read(at, reply),
            (Asked::Await, Reply::Partition(PartitionReply::Refused(refusal))) => {
                if is_expected(refusal.code) {
                    self.slots[at].state = State::Refused(refusal);
                } else {
                    // Too many wait there already. What was read stays good; the deadline ends the wait.
                    self.slots[at].awaited = true;
                }
            }
            (Asked::Await, _) => self.read_again(ctx, at),
        }
        self.proceed(ctx)
    }

    fn on_deadline(&mut self, ctx: &mut dyn Ctx) -> Option<Handled> {
        // Reads under way are waited for: `proceed` answers when they are in.
        self.proceed(ctx)
    }
}

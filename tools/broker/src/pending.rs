//! What a handler says about a request, and what waits where it could not answer at once.

use std::sync::Arc;

use highwater_base::ProducerId;
use highwater_control::{Applied, ControlError};
use highwater_io::Slice;
use highwater_wire::FetchAnswer;
use kafka_protocol::messages::ResponseKind;

use crate::call::PartitionReply;
use crate::ctx::{Ctx, DirSpace};
use crate::errors::Refusal;

/// What becomes of a request.
///
/// A connection's answers leave in the order of its requests: whoever holds a later answer keeps it back.
pub(crate) enum Handled {
    /// The answer is here.
    Answer(Answer),
    /// The answer needs replies. `on_reply` and `on_deadline` are called until one of them returns `Some`.
    Pending(Box<dyn Pending>),
    /// There is no answer: a Produce with acks=0 that went well.
    NoAnswer,
    /// The connection is closed, without an answer, after those before it have left. Holds the reason, for one
    /// line of the log.
    Close(String),
}

/// A response body that is ready to be encoded in the version of its request.
pub(crate) enum Answer {
    /// One that the codec crate encodes.
    Message(Box<ResponseKind>),
    /// A Fetch answer, whose record bytes are sent from where they lie. `records` has one entry for each
    /// partition of `fetch`, in its order; `highwater_wire::encode_fetch` names them by that number.
    Fetch {
        /// Everything but the record bytes.
        fetch: FetchAnswer,
        /// The record bytes of each partition, in order; empty for none.
        records: Vec<Vec<Slice>>,
    },
}

/// A reply to one thing that a handler asked for through its [`Ctx`].
#[derive(Debug)]
pub(crate) enum Reply {
    /// To [`Ctx::call`].
    Partition(PartitionReply),
    /// To [`Ctx::control`].
    Control(Result<Applied, ControlError>),
    /// To [`Ctx::describe_directories`]: by their numbers, those that were broken at the start last.
    Directories(Arc<Vec<DirSpace>>),
    /// To [`Ctx::allocate_producer_id`].
    ProducerId(Result<ProducerId, Refusal>),
}

/// A request that waits for replies.
///
/// Calling order: the handler made its calls before it returned [`Handled::Pending`]. Each of their replies is
/// handed to `on_reply` once, in any order; the request's deadline, if one was set, to `on_deadline` once it has
/// passed (it may be set anew). After either returned `Some` the value is dropped and late replies with it;
/// `Some(Handled::Pending(next))` lets `next` wait in its place.
pub(crate) trait Pending {
    /// The reply to the call that was numbered `index`.
    fn on_reply(&mut self, ctx: &mut dyn Ctx, index: u32, reply: Reply) -> Option<Handled>;

    /// The deadline has passed.
    fn on_deadline(&mut self, ctx: &mut dyn Ctx) -> Option<Handled>;
}

impl Handled {
    /// An answer that the codec crate encodes.
    pub(crate) fn message(body: ResponseKind) -> Handled {
        Handled::Answer(Answer::Message(Box::new(body)))
    }
}

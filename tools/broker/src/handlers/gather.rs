//! Waits for all replies to the calls of a request, and then answers.

use std::collections::BTreeMap;

use highwater_wire::ErrorCode;
use kafka_protocol::messages::ResponseKind;

use super::Ctx;
use crate::errors::Refusal;
use crate::pending::{Handled, Pending, Reply};

/// Which entry of a response a reply belongs to, for example topic and partition.
pub(super) type Entry = (usize, usize);

/// A response under construction.
pub(super) trait Response: 'static {
    /// Enters a reply.
    fn fill(&mut self, ctx: &dyn Ctx, entry: Entry, reply: Result<Reply, Refusal>);

    /// Every reply is in.
    fn finish(self: Box<Self>, ctx: &dyn Ctx) -> Handled;
}

/// A request that is answered when every call has been replied to, or when its deadline has passed, which enters
/// REQUEST_TIMED_OUT for those that were not.
pub(super) struct Gather {
    response: Option<Box<dyn Response>>,
    waiting: BTreeMap<u32, Entry>,
}

impl Gather {
    /// Answers at once if nothing is awaited.
    pub(super) fn start(ctx: &dyn Ctx, response: impl Response, waiting: BTreeMap<u32, Entry>) -> Handled {
        if waiting.is_empty() {
            return Box::new(response).finish(ctx);
        }
        Handled::Pending(Box::new(Gather { response: Some(Box::new(response)), waiting }))
    }
}

impl Pending for Gather {
    fn on_reply(&mut self, ctx: &mut dyn Ctx, index: u32, reply: Reply) -> Option<Handled> {
        let entry = self.waiting.remove(&index)?;
        self.response.as_mut()?.fill(ctx, entry, Ok(reply));
        if self.waiting.is_empty() { Some(self.response.take()?.finish(ctx)) } else { None }
    }

    fn on_deadline(&mut self, ctx: &mut dyn Ctx) -> Option<Handled> {
        let mut response = self.response.take()?;
        for entry in std::mem::take(&mut self.waiting).into_values() {
            response.fill(ctx, entry, Err(Refusal::code(ErrorCode::RequestTimedOut)));
        }
        Some(response.finish(ctx))
    }
}

/// The answer that is a codec crate's response and nothing else.
pub(super) fn answer(response: impl Into<ResponseKind>) -> Handled {
    Handled::message(response.into())
}

//! InitProducerId: an id for an idempotent producer. There is no transaction coordinator yet.

use std::collections::BTreeMap;

use highwater_base::ProducerId;
use highwater_wire::ErrorCode;
use kafka_protocol::messages::{self, InitProducerIdRequest, InitProducerIdResponse};

use super::Ctx;
use super::gather::{Entry, Gather, Response, answer};
use crate::errors::Refusal;
use crate::pending::{Handled, Reply};

pub(super) fn handle(ctx: &mut dyn Ctx, request: &InitProducerIdRequest) -> Handled {
    // A transactional client asks FindCoordinator first, which is not listed, and gives up there. One that comes
    // here all the same gets an error that none retries.
    let transactional = request.transactional_id.is_some();
    let half_known = (request.producer_id.0 == -1) != (request.producer_epoch == -1);
    if transactional || half_known {
        return answer(respond(Err(Refusal::code(ErrorCode::InvalidRequest))));
    }
    // Who has an id already gets a fresh one too, as from Kafka: a producer without transactions raises its epoch
    // by itself, and asks only when that is used up.
    let index = ctx.allocate_producer_id();
    Gather::start(ctx, Allocation(None), BTreeMap::from([(index, (0, 0))]))
}

struct Allocation(Option<Result<ProducerId, Refusal>>);

impl Response for Allocation {
    fn fill(&mut self, _: &dyn Ctx, _: Entry, reply: Result<Reply, Refusal>) {
        self.0 = Some(match reply {
            Ok(Reply::ProducerId(result)) => result,
            Ok(_) => Err(Refusal::unexpected("InitProducerId")),
            Err(refusal) => Err(refusal),
        });
    }

    fn finish(self: Box<Self>, _: &dyn Ctx) -> Handled {
        answer(respond(self.0.unwrap_or_else(|| Err(Refusal::unexpected("InitProducerId")))))
    }
}

fn respond(result: Result<ProducerId, Refusal>) -> InitProducerIdResponse {
    let (code, id, epoch) = match result {
        Ok(id) => (ErrorCode::None, id, 0),
        Err(refusal) => (refusal.code, ProducerId::NONE, -1),
    };
    let response = InitProducerIdResponse::default().with_error_code(code.code());
    response.with_producer_id(messages::ProducerId(id.get())).with_producer_epoch(epoch)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, body, header};
    use super::*;
    use highwater_wire::Api;
    use kafka_protocol::messages::{ResponseKind, TransactionalId};

    fn ask(fake: &mut Fake, request: InitProducerIdRequest) -> InitProducerIdResponse {
        let handled = fake.handle(&header(Api::InitProducerId, 4), request.into());
        let ResponseKind::InitProducerId(response) = body(fake.settle(handled)) else {
            panic!("another response")
        };
        response
    }

    fn anew() -> InitProducerIdRequest {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        request.with_producer_id((-1).into()).with_producer_epoch(-1)
    }

    #[test]
    fn every_producer_gets_an_id_of_its_own_and_epoch_0() {
        let mut fake = Fake::new();
        let known = anew().with_producer_id(0.into()).with_producer_epoch(3);
        let responses = [anew(), known, anew()].map(|request| ask(&mut fake, request));
        for (id, response) in responses.iter().enumerate() {
            assert_eq!(
                (response.error_code, response.producer_id.0, response.producer_epoch),
                (0, id as i64, 0)
            );
        }
    }

    #[test]
    fn an_id_without_an_epoch_and_a_transactional_id_are_refused() {
        let half = anew().with_producer_id(7.into());
        let transactional = anew().with_transactional_id(Some(TransactionalId("tx".into())));
        for request in [half, transactional] {
            let response = ask(&mut Fake::new(), request);
            assert_eq!((response.error_code, response.producer_id.0, response.producer_epoch), (42, -1, -1));
        }
    }
}

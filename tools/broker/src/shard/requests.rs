//! Requests taken, handled, answered.

use bytes::Bytes;
use highwater_base::Now;
use highwater_io::Slice;
use highwater_wire::{Piece, Request, RequestHeader, encode_fetch, encode_response};

use super::BrokerShard;
use crate::connection::Connection;
use crate::handlers;
use crate::log::Level;
use crate::message::RequestKey;
use crate::pending::{Answer, Handled, Reply};

impl BrokerShard {
    /// Takes the requests of a connection that may be taken, in order.
    pub(super) fn take_requests(&mut self, key: u64, now: Now) {
        let allowance = self.front.allowance();
        while let Some((number, frame)) =
            self.front.with(key, |connection| connection.next_request(allowance)).flatten()
        {
            self.handle(key, number, frame, now);
        }
        let broken =
            self.front.get(key).and_then(|connection| Some((connection.frame_error()?, connection.peer())));
        if let Some((error, peer)) = broken {
            self.front.with(key, Connection::finish);
            let line = format_args!("{peer}: {error}; the connection is closed");
            self.log.repeated(now, Level::Warn, "frame", line);
        }
    }

    fn handle(&mut self, key: u64, number: u64, frame: Bytes, now: Now) {
        let Some(connection) = self.front.get(key) else { return };
        let request = match Request::decode(frame) {
            Ok(request) => request,
            Err(error) => {
                let line = format_args!("{}: {error}; the connection is closed", connection.peer());
                self.log.repeated(now, Level::Warn, "frame", line);
                self.front.with(key, |connection| connection.close_after(number));
                return;
            }
        };
        let session = connection.session().clone();
        let open = self.desk.open(key, number, request.header.clone());
        self.front.with(key, |connection| connection.works_on(number, open));
        let handled = {
            let mut ctx = self.desk.ctx(open, now);
            handlers::handle(&mut ctx, &session, &request.header, request.body)
        };
        self.settle(open, handled, now);
    }

    /// Hands a reply to the request that waits for it.
    pub(super) fn reply(&mut self, request: RequestKey, index: u32, reply: Reply, now: Now) {
        let Some(mut waits) = self.desk.requests.get_mut(request).and_then(|open| open.waits.take()) else {
            return;
        };
        match waits.on_reply(&mut self.desk.ctx(request, now), index, reply) {
            Some(handled) => self.settle(request, handled, now),
            None => self.wait_on(request, waits),
        }
    }

    /// Tells requests that their deadline has passed.
    pub(super) fn expire_requests(&mut self, now: Now) {
        while let Some(request) = self.desk.deadlines.pop_due(now.mono) {
            let Some(mut waits) = self.desk.requests.get_mut(request).and_then(|open| open.waits.take())
            else {
                continue;
            };
            match waits.on_deadline(&mut self.desk.ctx(request, now)) {
                Some(handled) => self.settle(request, handled, now),
                None => self.wait_on(request, waits),
            }
        }
    }

    fn wait_on(&mut self, request: RequestKey, waits: Box<dyn crate::pending::Pending>) {
        if let Some(open) = self.desk.requests.get_mut(request) {
            open.waits = Some(waits);
        }
    }

    fn settle(&mut self, request: RequestKey, handled: Handled, now: Now) {
        let answer = match handled {
            Handled::Pending(waits) => return self.wait_on(request, waits),
            other => other,
        };
        let Some(open) = self.desk.end(request) else { return };
        let (key, number) = (open.connection, open.number);
        let data = match answer {
            Handled::Answer(answer) => encode(&open.header, answer),
            Handled::NoAnswer => Ok(Vec::new()),
            Handled::Close(why) => Err(why),
            Handled::Pending(_) => unreachable!("returned above"),
        };
        match data {
            Ok(data) => _ = self.front.with(key, |connection| connection.answer(number, data)),
            Err(why) => {
                if let Some(peer) = self.front.get(key).map(Connection::peer) {
                    let line = format_args!("{peer}: {why}; the connection is closed");
                    self.log.repeated(now, Level::Warn, "request", line);
                }
                self.front.with(key, |connection| connection.close_after(number));
            }
        }
        self.front.touch(key);
    }

    /// Drops what connections that have ended still wait for.
    pub(super) fn drop_requests_of_ended(&mut self) {
        for key in std::mem::take(&mut self.front.ended) {
            let Some(connection) = self.front.get(key) else { continue };
            let open: Vec<RequestKey> = connection.open_requests().collect();
            for request in open {
                self.desk.end(request);
            }
            // Nobody is left to be answered.
            self.front.with(key, Connection::close);
            self.front.touch(key);
        }
    }
}

/// The bytes of an answer; record bytes are sent from where they lie.
fn encode(header: &RequestHeader, answer: Answer) -> Result<Vec<Slice>, String> {
    match answer {
        Answer::Message(body) => encode_response(header, &body)
            .map(|frame| vec![Slice::from(frame)])
            .map_err(|error| error.to_string()),
        Answer::Fetch { fetch, mut records } => {
            let pieces = encode_fetch(header, &fetch).map_err(|error| error.to_string())?;
            let mut data = Vec::with_capacity(pieces.len());
            for piece in pieces {
                match piece {
                    Piece::Owned(bytes) => data.push(Slice::from(bytes)),
                    Piece::Records(at) => data.append(&mut records[at]),
                }
            }
            Ok(data)
        }
    }
}

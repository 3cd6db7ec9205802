//! One connection: requests come in in order, answers leave in the order of their requests.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use highwater_base::{ByteLen, Mono};
use highwater_io::{Buffer, ConnId, Io, IoError, Op, Slice, Token};
use highwater_wire::FrameError;

use crate::message::RequestKey;
use crate::receive::Receiver;
use crate::session::Session;

/// What the tag of a connection's token says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Tag {
    /// A receive.
    Receive = 1,
    /// A send.
    Send = 2,
    /// The disconnect.
    Disconnect = 3,
}

/// A client's connection.
///
/// Inputs: [`Connection::received`], [`Connection::sent`], [`Connection::disconnected`] with each completion.
/// Commands: [`Connection::answer`], [`Connection::close`]. Outputs: [`Connection::next_request`] and, after any
/// change, [`Connection::step`], which submits what can be.
#[derive(Debug)]
pub(crate) struct Connection {
    conn: ConnId,
    owner: u32,
    peer: SocketAddr,
    session: Session,
    receiver: Receiver,
    /// One for each request that was taken and not yet sent an answer, in order.
    answers: VecDeque<Answered>,
    /// The number of the request that `answers` begins with.
    first: u64,
    /// Answers in the send that is in flight, and their bytes.
    sending: Option<Sending>,
    receiving: bool,
    state: State,
    /// Bytes of frames taken and not answered, and of answers not sent.
    held: usize,
    /// When something last came or went.
    active: Mono,
}

#[derive(Debug)]
struct Answered {
    /// `None` while the request is worked on.
    data: Option<Vec<Slice>>,
    /// The request's key in its shard, while it is worked on.
    request: Option<RequestKey>,
    /// Bytes of the request, while it is worked on; then of the answer.
    held: usize,
    /// The connection ends with this one, which has no answer itself.
    last: bool,
}

#[derive(Debug)]
struct Sending {
    held: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Requests are taken.
    Open,
    /// No more requests are taken; what is answered is still sent.
    Ending,
    /// The disconnect is in flight.
    Disconnecting,
    /// Gone, as soon as nothing is in flight.
    Gone,
}

/// Answers are gathered into one send up to this many bytes.
const SEND_BYTES: usize = 4 << 20;

/// How much a connection may do beyond what it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// Requests taken and not yet answered, at most.
    pub(crate) requests: usize,
    /// Whether the shard's memory allows more to be received.
    pub(crate) may_receive: bool,
}

impl Connection {
    pub(crate) fn new(
        conn: ConnId,
        owner: u32,
        peer: SocketAddr,
        session: Session,
        limit: ByteLen,
        now: Mono,
    ) -> Connection {
        Connection {
            conn,
            owner,
            peer,
            session,
            receiver: Receiver::new(limit),
            answers: VecDeque::new(),
            first: 0,
            sending: None,
            receiving: false,
            state: State::Open,
            held: 0,
            active: now,
        }
    }

    /// From where.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Who.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Bytes that it holds of the shard's memory for requests.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// When something last came or went.
    pub(crate) fn active(&self) -> Mono {
        self.active
    }

    /// Whether nothing is being worked on or sent.
    pub(crate) fn is_quiet(&self) -> bool {
        self.answers.is_empty() && self.sending.is_none()
    }

    /// Whether it can be forgotten: it is closed and nothing is in flight.
    pub(crate) fn is_gone(&self) -> bool {
        self.state == State::Gone && !self.receiving && self.sending.is_none()
    }

    /// Whether a receive waits for memory.
    pub(crate) fn wants_memory(&self) -> bool {
        self.state == State::Open && !self.receiving
    }

    /// Why the bytes that came are no frames, once all before them were taken.
    pub(crate) fn frame_error(&self) -> Option<FrameError> {
        self.receiver.error().filter(|_| self.state == State::Open)
    }

    /// A receive has completed. Says whether the connection ends here: the peer is done, or gone.
    pub(crate) fn received(
        &mut self,
        result: Result<(Buffer, usize), IoError>,
        now: Mono,
        io: &mut dyn Io,
    ) -> bool {
        self.receiving = false;
        match result {
            Ok((buffer, len)) if len > 0 => {
                self.active = now;
                self.receiver.received(buffer, io);
                false
            }
            // A peer that has closed its sending side has left, as Kafka sees it: nobody reads an answer.
            Ok(_) | Err(_) => true,
        }
    }

    /// The next request's frame and its number, if it may be taken.
    pub(crate) fn next_request(&mut self, allowance: Allowance) -> Option<(u64, Bytes)> {
        if self.state != State::Open || self.answers.len() >= allowance.requests {
            return None;
        }
        let frame = self.receiver.next_frame()?;
        let number = self.first + self.answers.len() as u64;
        self.held += frame.len();
        self.answers.push_back(Answered { data: None, request: None, held: frame.len(), last: false });
        Some((number, frame))
    }

    /// Says under which key a request is worked on.
    pub(crate) fn works_on(&mut self, number: u64, request: RequestKey) {
        if let Some(answered) = self.answered(number) {
            answered.request = Some(request);
        }
    }

    /// The requests that are worked on; their answers would go nowhere once the connection is gone.
    pub(crate) fn open_requests(&self) -> impl Iterator<Item = RequestKey> {
        self.answers.iter().filter(|answered| answered.data.is_none()).filter_map(|answered| answered.request)
    }

    fn answered(&mut self, number: u64) -> Option<&mut Answered> {
        self.answers.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The answer to a request; nothing, for a request that has none.
    pub(crate) fn answer(&mut self, number: u64, data: Vec<Slice>) {
        let Some(answered) = self.answered(number) else { return };
        let len: usize = data.iter().map(Slice::len).sum();
        let before = std::mem::replace(&mut answered.held, len);
        answered.data = Some(data);
        self.held = self.held - before + len;
    }

    /// The connection ends in the place of this request's answer.
    pub(crate) fn close_after(&mut self, number: u64) {
        self.answer(number, Vec::new());
        if let Some(answered) = self.answered(number) {
            answered.last = true;
        }
        if self.state == State::Open {
            self.state = State::Ending;
        }
    }

    /// Ends it now; what is not sent is lost.
    pub(crate) fn close(&mut self) {
        if matches!(self.state, State::Open | State::Ending) {
            self.state = State::Ending;
            self.held -= self.answers.iter().map(|answered| answered.held).sum::<usize>();
            self.first += self.answers.len() as u64;
            self.answers.clear();
        }
    }

    /// Takes no more requests, and ends once those taken are answered.
    pub(crate) fn finish(&mut self) {
        if self.state == State::Open {
            self.state = State::Ending;
        }
    }

    /// A send has completed.
    pub(crate) fn sent(&mut self, result: Result<(), IoError>, now: Mono) {
        let sending = self.sending.take().expect("a send completed that was not in flight");
        self.held -= sending.held;
        self.active = now;
        if result.is_err() {
            self.close();
        }
    }

    /// The disconnect has completed.
    pub(crate) fn disconnected(&mut self) {
        self.state = State::Gone;
    }

    /// Submits what can be: a send of what is answered, a receive, the disconnect.
    pub(crate) fn step(&mut self, allowance: Allowance, io: &mut dyn Io) {
        self.send(io);
        match self.state {
            State::Open => self.receive(allowance, io),
            State::Ending if self.is_quiet() => {
                self.state = State::Disconnecting;
                io.submit(Op::Disconnect { conn: self.conn }, self.token(Tag::Disconnect));
            }
            State::Ending | State::Disconnecting | State::Gone => {}
        }
    }

    fn send(&mut self, io: &mut dyn Io) {
        if self.sending.is_some() || self.state == State::Disconnecting || self.state == State::Gone {
            return;
        }
        let (mut data, mut held, mut last) = (Vec::new(), 0, false);
        while held < SEND_BYTES && !last {
            let Some(Answered { data: Some(_), .. }) = self.answers.front() else { break };
            let answered = self.answers.pop_front().expect("it was there a line before");
            self.first += 1;
            held += answered.held;
            last = answered.last;
            data.extend(answered.data.unwrap_or_default().into_iter().filter(|slice| !slice.is_empty()));
        }
        if last {
            self.close();
        }
        if data.is_empty() {
            return;
        }
        self.sending = Some(Sending { held });
        io.submit(Op::Send { conn: self.conn, data }, self.token(Tag::Send));
    }

    fn receive(&mut self, allowance: Allowance, io: &mut dyn Io) {
        let full = self.answers.len() >= allowance.requests || self.receiver.has_frames();
        if self.receiving || full || self.receiver.error().is_some() {
            return;
        }
        // A connection that is silent holds little; one in the middle of a frame waits for memory.
        if !allowance.may_receive && (self.receiver.in_frame() || !self.is_quiet()) {
            return;
        }
        let buffer = self.receiver.buffer(io);
        self.receiving = true;
        io.submit(Op::Receive { conn: self.conn, buffer }, self.token(Tag::Receive));
    }

    fn token(&self, tag: Tag) -> Token {
        Token { owner: self.owner, tag: tag as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_io::{Completion, MemoryIo, Outcome, blocking};

    const ALLOWED: Allowance = Allowance { requests: 3, may_receive: true };

    /// A connection over memory, and the client's end of it.
    fn connected(io: &mut MemoryIo) -> (Connection, ConnId) {
        let listen = Op::Listen { address: "127.0.0.1:0".parse().unwrap(), shared: false };
        let Ok(Outcome::Listening { listener, address }) = blocking::run(io, listen) else {
            panic!("no listener")
        };
        io.submit(Op::Connect { address }, Token { owner: 1, tag: 1 });
        io.submit(Op::Accept { listener }, Token { owner: 1, tag: 2 });
        let (mut client, mut server) = (None, None);
        while client.is_none() || server.is_none() {
            for completion in reaped(io) {
                match completion.result.unwrap() {
                    Outcome::Connected { conn } => client = Some(conn),
                    Outcome::Accepted { conn, peer } => server = Some((conn, peer)),
                    other => panic!("{other:?}"),
                }
            }
        }
        let (conn, peer) = server.unwrap();
        let session = Session::anonymous("PLAINTEXT");
        (Connection::new(conn, 7, peer, session, ByteLen::new(1 << 20), Mono::ZERO), client.unwrap())
    }

    fn reaped(io: &mut MemoryIo) -> Vec<Completion> {
        let mut out = Vec::new();
        io.reap(&mut out);
        out
    }

    /// Steps until nothing more happens.
    fn run(connection: &mut Connection, io: &mut MemoryIo) {
        loop {
            connection.step(ALLOWED, io);
            let mine: Vec<Completion> = reaped(io).into_iter().filter(|done| done.token.owner == 7).collect();
            if mine.is_empty() {
                return;
            }
            for done in mine {
                match done.token.tag {
                    1 => {
                        let received = done.result.map(|outcome| match outcome {
                            Outcome::Received { buffer, len } => (buffer, len),
                            other => panic!("{other:?}"),
                        });
                        connection.received(received, Mono::ZERO, io);
                    }
                    2 => connection.sent(done.result.map(|_| ()), Mono::ZERO),
                    _ => connection.disconnected(),
                }
            }
        }
    }

    fn send(io: &mut MemoryIo, client: ConnId, bodies: &[&[u8]]) {
        let bytes: Vec<u8> =
            bodies.iter().flat_map(|body| [&(body.len() as u32).to_be_bytes()[..], body].concat()).collect();
        io.submit(Op::Send { conn: client, data: vec![Slice::from(bytes)] }, Token { owner: 1, tag: 3 });
    }

    fn received(io: &mut MemoryIo, client: ConnId) -> Vec<u8> {
        io.submit(Op::Receive { conn: client, buffer: Buffer::new(4096) }, Token { owner: 1, tag: 4 });
        let done = reaped(io).into_iter().find(|done| done.token.tag == 4);
        match done.map(|done| done.result) {
            Some(Ok(Outcome::Received { buffer, .. })) => buffer.filled().to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn answer(text: &str) -> Vec<Slice> {
        vec![Slice::from(text.as_bytes().to_vec())]
    }

    #[test]
    fn answers_leave_in_the_order_of_their_requests() {
        let mut io = MemoryIo::new();
        let (mut connection, client) = connected(&mut io);
        send(&mut io, client, &[b"a", b"b", b"c"]);
        run(&mut connection, &mut io);
        let numbers: Vec<u64> =
            std::iter::from_fn(|| connection.next_request(ALLOWED)).map(|(number, _)| number).collect();
        assert_eq!((numbers, connection.held()), (vec![0, 1, 2], 3));
        connection.answer(2, answer("third "));
        connection.answer(1, Vec::new()); // one that has no answer
        run(&mut connection, &mut io);
        connection.answer(0, answer("first "));
        run(&mut connection, &mut io);
        assert_eq!(received(&mut io, client), b"first third ");
        assert_eq!((connection.held(), connection.is_quiet()), (0, true));
    }

    #[test]
    fn no_more_requests_are_taken_than_allowed_until_some_are_answered() {
        let mut io = MemoryIo::new();
        let (mut connection, client) = connected(&mut io);
        send(&mut io, client, &[b"a", b"b", b"c", b"d"]);
        run(&mut connection, &mut io);
        for _ in 0..3 {
            assert!(connection.next_request(ALLOWED).is_some());
        }
        assert!(connection.next_request(ALLOWED).is_none());
        connection.answer(0, answer("x"));
        run(&mut connection, &mut io);
        assert_eq!(connection.next_request(ALLOWED).unwrap().0, 3);
    }

    #[test]
    fn a_connection_that_is_to_close_sends_the_answers_before_and_none_after() {
        let mut io = MemoryIo::new();
        let (mut connection, client) = connected(&mut io);
        send(&mut io, client, &[b"a", b"b", b"c"]);
        run(&mut connection, &mut io);
        while connection.next_request(ALLOWED).is_some() {}
        connection.answer(2, answer("never"));
        connection.close_after(1);
        connection.answer(0, answer("last"));
        run(&mut connection, &mut io);
        assert_eq!(received(&mut io, client), b"last");
        assert!(connection.is_gone());
        assert_eq!(connection.held(), 0);
    }
}

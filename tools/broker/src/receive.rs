//! Bytes as they arrive become frames. What a frame claims to be long never decides what is allocated.

use std::collections::VecDeque;

use bytes::Bytes;
use highwater_base::ByteLen;
use highwater_io::{Buffer, Io};
use highwater_wire::{Frame, FrameError};

/// The receiving side of one connection.
///
/// Inputs: [`Receiver::received`] with each buffer that comes back. Outputs: [`Receiver::next_frame`] until it
/// gives `None`, then [`Receiver::buffer`] for the next receive, unless [`Receiver::error`] says that there is
/// none.
///
/// Small frames are copied out, so that their buffer serves again. As soon as [`COPY_LIMIT`] bytes of whole frames
/// are there, the buffer itself is given away and the frames are parts of it: record bytes are not copied.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// `None` while it is out to receive.
    buffer: Option<Buffer>,
    frames: VecDeque<Bytes>,
    error: Option<FrameError>,
    /// `socket.request.max.bytes`.
    limit: ByteLen,
    /// The largest frame that this connection completed, at most [`TRUSTED_MAX`]: what has arrived once may be
    /// made room for at once.
    trusted: u64,
    /// The frame being received, with its size; 0 if its size is not known.
    expected: u64,
}

/// A connection that is silent, or asks for small things, holds no more than this.
pub(crate) const SMALL: usize = 16 << 10;

/// Whole frames of at least this many bytes are not copied.
const COPY_LIMIT: usize = 8 << 10;

const TRUSTED_MAX: u64 = 2 << 20;

impl Receiver {
    pub(crate) fn new(limit: ByteLen) -> Receiver {
        Receiver { buffer: None, frames: VecDeque::new(), error: None, limit, trusted: 0, expected: 0 }
    }

    /// The next whole frame's body.
    pub(crate) fn next_frame(&mut self) -> Option<Bytes> {
        self.frames.pop_front()
    }

    /// Why no more frames can come, once those that arrived before were taken.
    pub(crate) fn error(&self) -> Option<FrameError> {
        self.error.filter(|_| self.frames.is_empty())
    }

    /// Whether frames wait to be taken.
    pub(crate) fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Whether part of a frame has arrived.
    pub(crate) fn in_frame(&self) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| !buffer.is_empty())
    }

    /// A buffer to receive into, behind what is there of the next frame.
    pub(crate) fn buffer(&mut self, io: &mut dyn Io) -> Buffer {
        let buffer = self.buffer.take().unwrap_or_else(|| io.buffer(SMALL));
        let room = self.room(buffer.len());
        if buffer.capacity() >= room && buffer.len() < buffer.capacity() {
            return buffer;
        }
        let mut larger = io.buffer(room.max(buffer.len() + 1));
        larger.extend(buffer.filled());
        larger
    }

    /// How large the buffer may be for the frame that has begun.
    fn room(&self, arrived: usize) -> usize {
        if self.expected == 0 {
            return SMALL;
        }
        let start = ByteLen::new(self.trusted.max(SMALL as u64));
        Frame::room(ByteLen::new(self.expected), ByteLen::new(arrived as u64), start).get() as usize
    }

    /// Takes a buffer back, with more in it.
    pub(crate) fn received(&mut self, buffer: Buffer, io: &mut dyn Io) {
        let mut bodies = Vec::new();
        let mut end = 0;
        loop {
            match Frame::next(&buffer.filled()[end..], self.limit) {
                Ok(Frame::Complete { body }) => {
                    self.trusted = self.trusted.max(body.end as u64).min(TRUSTED_MAX);
                    bodies.push(end + body.start..end + body.end);
                    end += body.end;
                }
                Ok(Frame::Partial { whole }) => {
                    self.expected = whole.map_or(0, ByteLen::get);
                    break;
                }
                Ok(_) => unreachable!("a frame is complete or partial"),
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        if end < COPY_LIMIT {
            self.copy_out(buffer, &bodies, end);
        } else {
            self.give_away(buffer, &bodies, end, io);
        }
    }

    fn copy_out(&mut self, mut buffer: Buffer, bodies: &[std::ops::Range<usize>], end: usize) {
        if end > 0 {
            let whole = Bytes::copy_from_slice(&buffer.filled()[..end]);
            self.frames.extend(bodies.iter().map(|body| whole.slice(body.clone())));
            let rest = buffer.len() - end;
            buffer.filled_mut().copy_within(end.., 0);
            buffer.set_len(rest);
        }
        self.buffer = Some(buffer);
    }

    fn give_away(&mut self, buffer: Buffer, bodies: &[std::ops::Range<usize>], end: usize, io: &mut dyn Io) {
        let rest = &buffer.filled()[end..];
        if !rest.is_empty() {
            let mut next = io.buffer(self.room(rest.len()).max(rest.len() + 1));
            next.extend(rest);
            self.buffer = Some(next);
        }
        let whole = Bytes::from_owner(buffer.freeze());
        self.frames.extend(bodies.iter().map(|body| whole.slice(body.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_base::Prng;
    use highwater_io::MemoryIo;

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes()[..], body].concat()
    }

    /// Feeds a stream in pieces of random length; gives the frames and the largest buffer that was used.
    fn feed(stream: &[u8], longest: u64, seed: u64) -> (Vec<Bytes>, usize, Option<FrameError>) {
        let mut io = MemoryIo::new();
        let mut prng = Prng::new(seed);
        let mut receiver = Receiver::new(ByteLen::new(100 << 20));
        let (mut frames, mut largest, mut at) = (Vec::new(), 0, 0);
        while at < stream.len() && receiver.error().is_none() {
            let mut buffer = receiver.buffer(&mut io);
            largest = largest.max(buffer.capacity());
            let piece = (1 + prng.below(longest) as usize).min(stream.len() - at);
            at += buffer.extend(&stream[at..at + piece]);
            receiver.received(buffer, &mut io);
            while let Some(frame) = receiver.next_frame() {
                frames.push(frame);
            }
        }
        (frames, largest, receiver.error())
    }

    #[test]
    fn frames_of_every_size_arrive_whole_however_the_stream_is_cut() {
        for seed in 0..20 {
            let mut prng = Prng::new(seed);
            let bodies: Vec<Vec<u8>> = (0..20)
                .map(|i| {
                    let bound = [10, 5000, 20_000, 300_000][prng.below(4) as usize];
                    vec![i; prng.below(bound) as usize]
                })
                .collect();
            let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
            let (frames, _, error) = feed(&stream, [1 << 10, 1 << 20][(seed % 2) as usize], seed);
            assert_eq!(error, None);
            assert!(
                frames.iter().map(|frame| &frame[..]).eq(bodies.iter().map(|body| &body[..])),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn a_claim_of_100_mib_gets_no_more_than_twice_what_arrived() {
        let mut stream = (100u32 << 20).to_be_bytes().to_vec();
        stream.extend_from_slice(&[0; 50_000]);
        let (frames, largest, _) = feed(&stream, 100, 1);
        assert!(frames.is_empty());
        // Up to a block, which buffers are made of.
        assert!(largest <= 2 * stream.len() + 4096, "{largest}");
    }

    #[test]
    fn a_bad_size_is_an_error_after_the_frames_before_it() {
        let mut stream = framed(b"good");
        stream.extend_from_slice(&[0xff; 8]);
        let (frames, _, error) = feed(&stream, 1 << 20, 3);
        assert_eq!(frames, [Bytes::from_static(b"good")]);
        assert_eq!(error.unwrap().found, -1);
    }

    #[test]
    fn a_large_frame_shares_the_memory_it_was_received_into() {
        let mut io = MemoryIo::new();
        let mut receiver = Receiver::new(ByteLen::new(1 << 20));
        let mut buffer = receiver.buffer(&mut io);
        buffer.extend(&framed(&[7; 10_000]));
        let memory = buffer.filled().as_ptr_range();
        receiver.received(buffer, &mut io);
        assert!(memory.contains(&receiver.next_frame().unwrap().as_ptr()));
    }
}

//! What is to be sent on one connection: sends in order, and how far they have come.

use std::collections::VecDeque;

use crate::Slice;
use crate::op::Token;

/// Most parts given to the system in one call (`IOV_MAX` is 1,024).
const PARTS: usize = 256;

/// Small sends that wait go out together, up to this many bytes: a pipelining client's answers cost one call.
/// More than that would keep the first from completing until the last has gone.
const TOGETHER: usize = 256 << 10;

/// Sends in order, the first perhaps partly sent.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    sends: VecDeque<Send>,
}

#[derive(Debug)]
struct Send {
    token: Token,
    slices: Vec<Slice>,
    /// The slice being sent, and how much of it is sent.
    at: usize,
    skip: usize,
}

impl Send {
    /// Notes that up to `sent` more bytes went out; gives what was not of this send.
    fn advance(&mut self, sent: usize) -> usize {
        let mut sent = sent + self.skip;
        self.skip = 0;
        while let Some(slice) = self.slices.get(self.at) {
            if sent < slice.len() {
                self.skip = sent;
                return 0;
            }
            sent -= slice.len();
            self.at += 1;
        }
        sent
    }

    fn is_done(&self) -> bool {
        self.at == self.slices.len()
    }

    fn left(&self) -> usize {
        self.slices[self.at..].iter().map(Slice::len).sum::<usize>() - self.skip
    }
}

impl Outgoing {
    /// One more send, behind the others.
    pub(crate) fn push(&mut self, token: Token, slices: Vec<Slice>) {
        let mut send = Send { token, slices, at: 0, skip: 0 };
        send.advance(0);
        self.sends.push_back(send);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.sends.len()
    }

    /// Takes out the first send if all of it is sent.
    pub(crate) fn pop_sent(&mut self) -> Option<Token> {
        self.sends.pop_front_if(|send| send.is_done()).map(|send| send.token)
    }

    /// Takes out the first send, sent or not.
    pub(crate) fn pop(&mut self) -> Option<Token> {
        self.sends.pop_front().map(|send| send.token)
    }

    /// Takes out the sends to go out together next.
    pub(crate) fn batch(&mut self) -> Outgoing {
        let mut batch = Outgoing::default();
        let mut bytes = 0;
        while bytes < TOGETHER
            && let Some(send) = self.sends.pop_front()
        {
            bytes += send.left();
            batch.sends.push_back(send);
        }
        batch
    }

    /// Puts what is left of a batch back in front.
    pub(crate) fn put_back(&mut self, mut batch: Outgoing) {
        while let Some(send) = batch.sends.pop_back() {
            self.sends.push_front(send);
        }
    }

    /// Notes that `sent` more bytes went out.
    pub(crate) fn advance(&mut self, mut sent: usize) {
        for send in &mut self.sends {
            sent = send.advance(sent);
            if !send.is_done() {
                break;
            }
        }
        debug_assert_eq!(sent, 0, "more was sent than there is");
    }

    /// The bytes to send next, in parts, none of them empty.
    pub(crate) fn unsent(&self) -> impl Iterator<Item = &[u8]> {
        let unsent = self.sends.iter().flat_map(|send| {
            let first = (send.at, send.skip);
            let slices = send.slices.iter().enumerate().skip(send.at);
            slices.map(move |(at, slice)| if at == first.0 { &slice[first.1..] } else { &slice[..] })
        });
        unsent.filter(|bytes| !bytes.is_empty()).take(PARTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(tag: u32) -> Token {
        Token { owner: 0, tag }
    }

    fn lengths(outgoing: &Outgoing) -> Vec<usize> {
        outgoing.unsent().map(<[u8]>::len).collect()
    }

    fn slices<const N: usize>(lengths: [usize; N]) -> Vec<Slice> {
        lengths.map(|len| Slice::from(vec![0; len])).to_vec()
    }

    #[test]
    fn goes_on_in_the_middle_of_a_slice() {
        let mut outgoing = Outgoing::default();
        outgoing.push(token(1), slices([3, 0, 5, 0]));
        outgoing.push(token(2), slices([2]));
        assert_eq!(lengths(&outgoing), [3, 5, 2]);
        outgoing.advance(2);
        assert_eq!(lengths(&outgoing), [1, 5, 2]);
        outgoing.advance(3);
        assert_eq!(lengths(&outgoing), [3, 2]);
        assert_eq!(outgoing.pop_sent(), None);
        outgoing.advance(4);
        assert_eq!(lengths(&outgoing), [1]);
        assert_eq!((outgoing.pop_sent(), outgoing.pop_sent()), (Some(token(1)), None));
        outgoing.advance(1);
        assert_eq!(outgoing.pop_sent(), Some(token(2)));
        assert!(outgoing.is_empty());
    }

    #[test]
    fn nothing_to_send_is_sent() {
        let mut outgoing = Outgoing::default();
        outgoing.push(token(1), Vec::new());
        outgoing.push(token(2), slices([0]));
        assert_eq!(outgoing.pop_sent(), Some(token(1)));
        assert_eq!(outgoing.pop_sent(), Some(token(2)));
    }

    #[test]
    fn small_sends_go_together_and_large_ones_alone() {
        let mut outgoing = Outgoing::default();
        for tag in 0..10 {
            outgoing.push(token(tag), slices([100]));
        }
        outgoing.push(token(10), slices([TOGETHER]));
        outgoing.push(token(11), slices([1]));
        let mut batch = outgoing.batch();
        assert_eq!((batch.len(), outgoing.len()), (11, 1));
        batch.advance(250);
        while batch.pop_sent().is_some() {}
        outgoing.put_back(batch);
        assert_eq!(outgoing.pop(), Some(token(2)));
        assert_eq!(outgoing.len(), 9);
    }
}

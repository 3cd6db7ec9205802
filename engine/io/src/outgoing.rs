//! What is left to send of one `Send`.

use crate::Slice;

/// Most parts given to the system in one call (`IOV_MAX` is 1,024).
const PARTS: usize = 256;

/// Slices being sent in order, and how far that has come.
#[derive(Debug)]
pub(crate) struct Outgoing {
    slices: Vec<Slice>,
    /// The slice being sent, and how much of it is sent.
    at: usize,
    skip: usize,
}

impl Outgoing {
    pub(crate) fn new(slices: Vec<Slice>) -> Outgoing {
        let mut outgoing = Outgoing { slices, at: 0, skip: 0 };
        outgoing.advance(0);
        outgoing
    }

    /// Whether all is sent.
    pub(crate) fn is_done(&self) -> bool {
        self.at == self.slices.len()
    }

    /// Notes that `sent` more bytes went out.
    pub(crate) fn advance(&mut self, sent: usize) {
        let mut sent = sent + self.skip;
        while let Some(slice) = self.slices.get(self.at) {
            if sent < slice.len() {
                break;
            }
            sent -= slice.len();
            self.at += 1;
        }
        self.skip = sent;
        debug_assert!(!self.is_done() || sent == 0, "more was sent than there is");
    }

    /// Names the bytes to send next, for the system. The pointers hold as long as `self` does.
    pub(crate) fn parts(&self, parts: &mut Vec<libc::iovec>) {
        parts.clear();
        let mut skip = self.skip;
        for slice in self.slices[self.at..].iter().filter(|slice| !slice.is_empty()).take(PARTS) {
            let bytes = &slice[skip..];
            parts.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
            skip = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(outgoing: &Outgoing) -> Vec<usize> {
        let mut parts = Vec::new();
        outgoing.parts(&mut parts);
        parts.iter().map(|part| part.iov_len).collect()
    }

    #[test]
    fn goes_on_in_the_middle_of_a_slice() {
        let slices = [3, 0, 5, 0].map(|len| Slice::from(vec![0; len])).to_vec();
        let mut outgoing = Outgoing::new(slices);
        assert_eq!(lengths(&outgoing), [3, 5]);
        outgoing.advance(2);
        assert_eq!(lengths(&outgoing), [1, 5]);
        outgoing.advance(3);
        assert_eq!(lengths(&outgoing), [3]);
        assert!(!outgoing.is_done());
        outgoing.advance(3);
        assert!(outgoing.is_done());
    }

    #[test]
    fn nothing_to_send_is_done() {
        assert!(Outgoing::new(Vec::new()).is_done());
        assert!(Outgoing::new(vec![Slice::from(Vec::new())]).is_done());
    }
}

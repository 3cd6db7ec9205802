//! Frames: a size in four bytes, then that many bytes.

use std::fmt;
use std::ops::Range;

use highwater_base::ByteLen;

/// Where the next frame lies in what was received.
///
/// ```
/// use highwater_base::ByteLen;
/// use highwater_wire::Frame;
/// let limit = ByteLen::new(100);
/// let received = [0, 0, 0, 2, 7, 8, 0, 0];
/// assert_eq!(Frame::next(&received, limit), Ok(Frame::Complete { body: 4..6 }));
/// assert_eq!(Frame::next(&received[6..], limit), Ok(Frame::Partial { whole: None }));
/// assert_eq!(Frame::next(&received[..5], limit), Ok(Frame::Partial { whole: Some(ByteLen::new(6)) }));
/// assert!(Frame::next(b"GET / HTTP/1.1", limit).is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Frame {
    /// It is here.
    Complete {
        /// Its bytes, after the size. The next frame begins where they end.
        body: Range<usize>,
    },
    /// More must arrive.
    Partial {
        /// The frame's whole length with its size, once that is known: what its sender *claims*. Reserve by
        /// [`Frame::room`], never by this.
        whole: Option<ByteLen>,
    },
}

/// Why a connection's bytes are no frame. The connection is closed: nothing after can be trusted.
///
/// ```
/// use highwater_base::ByteLen;
/// use highwater_wire::Frame;
/// let error = Frame::next(&[0xff; 4], ByteLen::new(100)).unwrap_err();
/// assert_eq!(error.to_string(), "expected a frame of 0 to 100 bytes (socket.request.max.bytes), found the size -1");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FrameError {
    /// The size that was found.
    pub found: i32,
    /// The largest allowed.
    pub limit: ByteLen,
}

const SIZE: usize = 4;

impl Frame {
    /// Looks at the front of what was received and not yet consumed. `limit` is `socket.request.max.bytes`.
    ///
    /// # Errors
    /// The size is negative or above the limit.
    pub fn next(received: &[u8], limit: ByteLen) -> Result<Frame, FrameError> {
        let Some(size) = received.first_chunk::<SIZE>() else { return Ok(Frame::Partial { whole: None }) };
        let found = i32::from_be_bytes(*size);
        let size = usize::try_from(found).map_err(|_| FrameError { found, limit })?;
        if size as u64 > limit.get() {
            return Err(FrameError { found, limit });
        }
        Ok(if received.len() - SIZE >= size {
            Frame::Complete { body: SIZE..SIZE + size }
        } else {
            Frame::Partial { whole: Some(ByteLen::new((SIZE + size) as u64)) }
        })
    }

    /// How large a receive buffer may be for a frame that claims to be `whole` long and of which `arrived` bytes
    /// are here: the buffer doubles with what arrives, so that a claim costs its sender as much as us, and each
    /// byte is moved at most about once.
    ///
    /// ```
    /// use highwater_base::ByteLen;
    /// use highwater_wire::Frame;
    /// let (start, claimed) = (ByteLen::new(65_536), ByteLen::new(100 << 20));
    /// assert_eq!(Frame::room(claimed, ByteLen::new(4), start), start);
    /// assert_eq!(Frame::room(claimed, ByteLen::new(65_536), start), ByteLen::new(131_072));
    /// assert_eq!(Frame::room(ByteLen::new(70_000), ByteLen::new(65_536), start), ByteLen::new(70_000));
    /// ```
    pub fn room(whole: ByteLen, arrived: ByteLen, start: ByteLen) -> ByteLen {
        let grown = arrived.get().saturating_mul(2).max(start.get());
        ByteLen::new(whole.get().min(grown).max(start.get()))
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FrameError { found, limit } = self;
        write!(
            f,
            "expected a frame of 0 to {limit} bytes (socket.request.max.bytes), found the size {found}"
        )?;
        match found.to_be_bytes() {
            [0x16, 3, _, _] => f.write_str(", which is how TLS begins: this listener is plain text"),
            [b'G', b'E', b'T', b' ']
            | [b'H', b'E', b'A', b'D']
            | [b'P', b'O', b'S', b'T']
            | [b'P', b'U', b'T', b' '] => f.write_str(", which is how HTTP begins: this is a Kafka listener"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_at_and_beyond_the_limits_are_told_apart() {
        let limit = ByteLen::new(100);
        let next = |size: i32| Frame::next(&size.to_be_bytes(), limit);
        assert_eq!(next(0), Ok(Frame::Complete { body: 4..4 }));
        assert_eq!(next(100), Ok(Frame::Partial { whole: Some(ByteLen::new(104)) }));
        for found in [101, i32::MAX, -1, i32::MIN] {
            assert_eq!(next(found), Err(FrameError { found, limit }));
        }
    }

    #[test]
    fn a_stranger_is_named() {
        let text = Frame::next(&[0x16, 3, 1, 0], ByteLen::new(100)).unwrap_err().to_string();
        assert!(text.contains("TLS"), "{text}");
        let text = Frame::next(b"GET / ", ByteLen::new(100)).unwrap_err().to_string();
        assert!(text.contains("HTTP"), "{text}");
    }

    #[test]
    fn room_never_exceeds_twice_what_arrived_nor_the_claim() {
        let start = ByteLen::new(1024);
        for arrived in [0, 4, 1023, 1024, 5000, 1 << 20] {
            for whole in [4, 1024, 4096, 1 << 30] {
                let room = Frame::room(ByteLen::new(whole), ByteLen::new(arrived), start).get();
                assert!(
                    room <= (2 * arrived).max(1024) && room <= whole.max(1024),
                    "{arrived} {whole} {room}"
                );
            }
        }
    }
}

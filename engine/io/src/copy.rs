//! The one copy of the append path: into memory that the device reads next, and the processor perhaps never again.
//!
//! Plain stores fetch each line of the target before they overwrite it. Lines that a device (or a virtual machine's host)
//! has read since they were last written come from far away: such a copy ran at 11 GB/s here, while stores that go
//! past the cache reach 20 and more. They drain while the processor does something else, so whoever wants a
//! checksum of the same bytes gets it nearly free if it is computed piece by piece in between.

/// Bytes between two looks at what was copied: about what the store buffer holds.
const PIECE: usize = 4 << 10;

/// Copies below this stay in the cache: the next one goes on in the middle of a line.
const SMALLEST: usize = 2 << 10;

/// Copies `bytes` to `to`, and shows `see` all of them in order, in pieces. Others than this thread may be told of them after
/// [`settle`].
///
/// # Safety
/// `to` is valid for `bytes.len()` bytes of writes and does not overlap `bytes`.
pub(crate) unsafe fn copy_past_cache(bytes: &[u8], to: *mut u8, mut see: impl FnMut(&[u8])) {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= SMALLEST && std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions; the rest is the caller's promise.
        return unsafe { x86::copy(bytes, to, &mut see) };
    }
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    see(bytes);
}

/// Stores past the cache are seen by others in no particular order: before somebody else is told of what was copied, all of
/// them have to be on their way. Once for many copies: waiting for each took a tenth of the time of appends of 4 KiB to a thousand
/// logs.
pub(crate) fn settle() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every such processor has the instruction.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{_mm512_loadu_si512, _mm512_stream_si512};

    use super::PIECE;

    /// A line of the cache, and one store.
    const LINE: usize = 64;

    /// # Safety
    /// As of `copy_past_cache`, and the processor has AVX-512.
    pub(super) unsafe fn copy(bytes: &[u8], to: *mut u8, see: &mut impl FnMut(&[u8])) {
        // The first line may hold somebody else's bytes, and the last will hold more: those stay in the cache.
        let (head, rest) = bytes.split_at(to.align_offset(LINE).min(bytes.len()));
        let (lines, tail) = rest.split_at(rest.len() / LINE * LINE);
        let (mut seen, mut copied) = (0, head.len());
        // SAFETY: `head`, `lines` and `tail` follow each other in `bytes`, and their targets likewise; the target of
        // `lines` begins at a line.
        unsafe {
            std::ptr::copy_nonoverlapping(head.as_ptr(), to, head.len());
            std::ptr::copy_nonoverlapping(tail.as_ptr(), to.add(bytes.len() - tail.len()), tail.len());
            for piece in lines.chunks(PIECE) {
                stream(piece, to.add(copied));
                copied += piece.len();
                // Head and tail go with their neighbours: a look at a few bytes costs as much as one at a thousand.
                let upto = if copied + tail.len() == bytes.len() { bytes.len() } else { copied };
                see(&bytes[seen..upto]);
                seen = upto;
            }
        }
    }

    /// # Safety
    /// `to` is aligned to a line and valid for writes of `lines`, whole lines elsewhere.
    #[target_feature(enable = "avx512f")]
    unsafe fn stream(lines: &[u8], to: *mut u8) {
        for (n, line) in lines.chunks_exact(LINE).enumerate() {
            // SAFETY: `line` is as long as the vector; the target was promised.
            unsafe {
                let vector = _mm512_loadu_si512(line.as_ptr().cast());
                _mm512_stream_si512(to.add(n * LINE).cast(), vector);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_and_is_seen_once_at_any_alignment() {
        let bytes: Vec<u8> = (0..40_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in [0, 1, 63, 64, 4095, SMALLEST - 1, SMALLEST, SMALLEST + 1, 20_000, 39_900] {
            for (from, at) in [(0, 0), (1, 0), (0, 1), (3, 63), (64, 64), (17, 40)] {
                let mut target = vec![0xAA; len + 200];
                let mut seen = Vec::new();
                let source = &bytes[from..from + len];
                // SAFETY: the target has room, and is another allocation.
                unsafe {
                    copy_past_cache(source, target.as_mut_ptr().add(at), |piece| {
                        seen.extend_from_slice(piece)
                    })
                };
                assert_eq!(&target[at..at + len], source);
                assert_eq!(seen, source);
                assert!(
                    target[..at].iter().chain(&target[at + len..]).all(|byte| *byte == 0xAA),
                    "{len} {from} {at}"
                );
            }
        }
    }
}

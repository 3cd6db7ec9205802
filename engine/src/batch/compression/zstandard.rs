//! Zstandard frames. Making a context costs more than unpacking a small batch, so each thread keeps one.

use std::cell::RefCell;

use zstd::zstd_safe::{DCtx, DParameter, ErrorCode, InBuffer, OutBuffer, ResetDirective, get_error_name};

/// The largest window a frame may ask for, as a power of two: zstd's own default, and Kafka's.
const WINDOW_LOG: u32 = 27;
/// A context that has grown beyond this for one frame's window is not kept.
const MOST_KEPT: usize = 2 << 20;

thread_local! {
    static KEPT: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

pub(super) struct Zstandard<'a> {
    /// Taken out only when dropped.
    context: Option<DCtx<'static>>,
    rest: &'a [u8],
    /// The last frame has not ended.
    inside: bool,
}

impl<'a> Zstandard<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Zstandard<'a> {
        let kept = KEPT.with_borrow_mut(Option::take);
        Zstandard { context: kept.or_else(context), rest: bytes, inside: false }
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, String> {
        let context = self.context.as_mut().ok_or("zstd has no memory for a context")?;
        let mut output = OutBuffer::around(out);
        // What is left inside the context comes out also without input.
        while output.pos() == 0 && (!self.rest.is_empty() || self.inside) {
            let had = self.rest.len();
            let mut input = InBuffer::around(self.rest);
            let hint = context.decompress_stream(&mut output, &mut input).map_err(name)?;
            self.rest = &self.rest[input.pos()..];
            self.inside = hint != 0;
            if output.pos() == 0 && had == self.rest.len() && self.inside {
                return Err("ends inside a frame".into());
            }
        }
        Ok(output.pos())
    }
}

impl Drop for Zstandard<'_> {
    fn drop(&mut self) {
        let Some(mut context) = self.context.take() else { return };
        if context.sizeof() <= MOST_KEPT && context.reset(ResetDirective::SessionOnly).is_ok() {
            KEPT.with_borrow_mut(|kept| *kept = Some(context));
        }
    }
}

fn context() -> Option<DCtx<'static>> {
    let mut context = DCtx::try_create()?;
    context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).ok()?;
    Some(context)
}

fn name(code: ErrorCode) -> String {
    get_error_name(code).into()
}

#[cfg(test)]
mod tests {
    use super::super::encode::compress;
    use super::*;
    use crate::batch::Codec;

    fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut decoder = Zstandard::new(bytes);
        let mut out = vec![0; 100_000];
        let mut len = 0;
        loop {
            let most = (len + 777).min(out.len());
            match decoder.read(&mut out[len..most])? {
                0 => return Ok(out[..len].to_vec()),
                n => len += n,
            }
        }
    }

    #[test]
    fn frames_one_after_the_other_are_one_stream() {
        let mut packed = compress(Codec::Zstd, &[1; 5000]).unwrap();
        packed.extend(compress(Codec::Zstd, b"two").unwrap());
        assert_eq!(unpack(&packed).unwrap(), [&[1; 5000][..], b"two"].concat());
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error_and_spoils_nothing_for_the_next() {
        let text: Vec<u8> = (0..9000u32).map(|i| (i.wrapping_mul(i) >> 5) as u8).collect();
        let packed = compress(Codec::Zstd, &text).unwrap();
        for cut in 1..packed.len() {
            assert!(unpack(&packed[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(unpack(&packed).unwrap(), text);
        assert_eq!(unpack(&[]).unwrap(), b"");
    }

    #[test]
    fn a_frame_with_its_content_size_is_read() {
        let packed = zstd::bulk::compress(&[9; 70_000], 3).unwrap();
        assert_eq!(unpack(&packed).unwrap(), [9; 70_000]);
    }
}

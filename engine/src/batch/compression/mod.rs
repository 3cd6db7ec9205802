//! The five codecs, both ways; each but `none` behind the feature of its name. Decoders are bounded: they stop at
//! a limit of bytes given out, and never allocate what a length field merely claims.

mod encode;
#[cfg(feature = "lz4")]
mod lz4;
mod recompress;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstandard;

use std::fmt;
#[cfg(feature = "gzip")]
use std::io::Read;

use super::Codec;

pub use encode::compress;
pub use recompress::recompress;

/// A decoder's buffer may be as large as this, or twice the block, on the block's word alone: what the window of another
/// codec takes too. A block that unpacks to more is walked through first, so that nothing is allocated for a mere claim.
#[cfg(any(feature = "lz4", feature = "snappy"))]
const UNCHECKED: usize = 64 << 10;

/// Makes room for `len` bytes and no more.
#[cfg(any(feature = "lz4", feature = "snappy"))]
fn make_room(buffer: &mut Vec<u8>, len: usize) {
    buffer.clear();
    if buffer.capacity() < len {
        *buffer = Vec::new();
        buffer.reserve_exact(len);
    }
    buffer.resize(len, 0);
}

/// Why a decoder cannot go on.
enum Bad {
    Corrupt(String),
    /// A block that unpacks to more than the limit by itself.
    #[allow(dead_code, reason = "only lz4 and snappy know it beforehand")]
    Limit,
}

impl From<String> for Bad {
    fn from(what: String) -> Bad {
        Bad::Corrupt(what)
    }
}

/// Why compressed bytes could not be unpacked.
///
/// ```
/// use highwater_engine::batch::{Codec, CompressionFault, Decoder};
/// let mut out = Vec::new();
/// let error = Decoder::new(Codec::Gzip, b"no gzip", 100).read_to_end(&mut out).unwrap_err();
/// assert!(matches!(error.fault, CompressionFault::Corrupt(_)));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompressionError {
    /// The codec that the batch named.
    pub codec: Codec,
    /// What is wrong.
    pub fault: CompressionFault,
}

/// What can be wrong with compressed bytes.
///
/// ```
/// use highwater_engine::batch::CompressionFault;
/// assert!(CompressionFault::Limit { bytes: 7 }.to_string().contains('7'));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CompressionFault {
    /// They unpack to more than the limit.
    Limit {
        /// The limit.
        bytes: u64,
    },
    /// They are not what the codec writes.
    Corrupt(String),
    /// The operator's: this program was built without the codec.
    NotCompiledIn,
}

impl fmt::Display for CompressionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompressionFault::Limit { bytes } => write!(f, "unpacks to more than {bytes} bytes, the limit"),
            CompressionFault::Corrupt(what) => f.write_str(what),
            CompressionFault::NotCompiledIn => f.write_str("the codec is not compiled in"),
        }
    }
}

impl fmt::Display for CompressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codec = self.codec.name();
        match &self.fault {
            CompressionFault::NotCompiledIn => write!(
                f,
                "the codec {codec} is not compiled in: build with the feature \"{codec}\" of highwater-engine"
            ),
            fault => write!(f, "{codec} data: {fault}"),
        }
    }
}

impl std::error::Error for CompressionError {}

/// A stream of unpacked bytes, at most `limit` of them.
///
/// ```
/// use highwater_engine::batch::{Codec, Decoder, compress};
/// let packed = compress(Codec::Lz4, &[7; 5000]).unwrap();
/// let mut out = Vec::new();
/// Decoder::new(Codec::Lz4, &packed, 5000).read_to_end(&mut out).unwrap();
/// assert_eq!(out, [7; 5000]);
/// assert!(Decoder::new(Codec::Lz4, &packed, 4999).read_to_end(&mut Vec::new()).is_err());
/// ```
pub struct Decoder<'a> {
    inner: Inner<'a>,
    codec: Codec,
    limit: u64,
    left: u64,
}

enum Inner<'a> {
    Plain(&'a [u8]),
    #[cfg(feature = "gzip")]
    Gzip(Box<flate2::bufread::GzDecoder<&'a [u8]>>),
    #[cfg(feature = "snappy")]
    Snappy(snappy::Snappy<'a>),
    #[cfg(feature = "lz4")]
    Lz4(lz4::Lz4<'a>),
    #[cfg(feature = "zstd")]
    Zstd(zstandard::Zstandard<'a>),
    #[allow(dead_code, reason = "with every codec compiled in")]
    NotCompiledIn,
    End,
}

impl<'a> Decoder<'a> {
    /// Unpacks `bytes`, which are all that follows the batch header.
    pub fn new(codec: Codec, bytes: &'a [u8], limit: u64) -> Decoder<'a> {
        Self::with(codec, bytes, limit, true)
    }

    /// For message format 0, whose LZ4 frames carry a historic wrong header checksum.
    pub(crate) fn for_magic_0(codec: Codec, bytes: &'a [u8], limit: u64) -> Decoder<'a> {
        Self::with(codec, bytes, limit, false)
    }

    fn with(codec: Codec, bytes: &'a [u8], limit: u64, check_lz4_header: bool) -> Decoder<'a> {
        let _only_for_lz4 = check_lz4_header;
        let inner = match codec {
            Codec::None => Inner::Plain(bytes),
            #[cfg(feature = "gzip")]
            Codec::Gzip => Inner::Gzip(Box::new(flate2::bufread::GzDecoder::new(bytes))),
            #[cfg(feature = "snappy")]
            Codec::Snappy => Inner::Snappy(snappy::Snappy::new(bytes, limit)),
            #[cfg(feature = "lz4")]
            Codec::Lz4 => Inner::Lz4(lz4::Lz4::new(bytes, check_lz4_header, limit)),
            #[cfg(feature = "zstd")]
            Codec::Zstd => Inner::Zstd(zstandard::Zstandard::new(bytes)),
            #[allow(unreachable_patterns, reason = "with every codec compiled in")]
            _ => Inner::NotCompiledIn,
        };
        Decoder { inner, codec, limit, left: limit }
    }

    /// Fills the front of `out` and says how much; 0 is the end (or an empty `out`).
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, CompressionError> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            // The end is a success only if nothing follows it.
            let mut one = [0];
            return match self.read_inner(&mut one)? {
                0 => Ok(0),
                _ => Err(self.error(CompressionFault::Limit { bytes: self.limit })),
            };
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let n = self.read_inner(&mut out[..most])?;
        self.left -= n as u64;
        Ok(n)
    }

    /// Appends everything that is left.
    pub fn read_to_end(&mut self, out: &mut Vec<u8>) -> Result<(), CompressionError> {
        let mut piece = [0; 8 << 10];
        loop {
            match self.read(&mut piece)? {
                0 => return Ok(()),
                n => out.extend_from_slice(&piece[..n]),
            }
        }
    }

    fn read_inner(&mut self, out: &mut [u8]) -> Result<usize, CompressionError> {
        let result: Result<usize, Bad> = match &mut self.inner {
            Inner::Plain(bytes) => {
                let n = bytes.len().min(out.len());
                out[..n].copy_from_slice(&bytes[..n]);
                *bytes = &bytes[n..];
                return Ok(n);
            }
            #[cfg(feature = "gzip")]
            Inner::Gzip(decoder) => match decoder.read(out) {
                // The end of one member: another may follow; anything else behind it is ignored, as the JDK does.
                Ok(0) => {
                    let rest: &'a [u8] = decoder.get_ref();
                    if rest.starts_with(&[0x1f, 0x8b]) {
                        self.inner = Inner::Gzip(Box::new(flate2::bufread::GzDecoder::new(rest)));
                        return self.read_inner(out);
                    }
                    Ok(0)
                }
                other => other.map_err(|e| e.to_string().into()),
            },
            #[cfg(feature = "snappy")]
            Inner::Snappy(decoder) => decoder.read(out),
            #[cfg(feature = "lz4")]
            Inner::Lz4(decoder) => decoder.read(out),
            #[cfg(feature = "zstd")]
            Inner::Zstd(decoder) => decoder.read(out).map_err(Bad::from),
            Inner::NotCompiledIn => return Err(self.error(CompressionFault::NotCompiledIn)),
            Inner::End => Ok(0),
        };
        match result {
            Ok(0) => {
                self.inner = Inner::End;
                Ok(0)
            }
            Ok(n) => Ok(n),
            Err(bad) => {
                self.inner = Inner::End;
                Err(self.error(match bad {
                    Bad::Corrupt(what) => CompressionFault::Corrupt(what),
                    Bad::Limit => CompressionFault::Limit { bytes: self.limit },
                }))
            }
        }
    }

    fn error(&self, fault: CompressionFault) -> CompressionError {
        CompressionError { codec: self.codec, fault }
    }
}

impl fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder({}, {} of {} bytes left)", self.codec.name(), self.left, self.limit)
    }
}

#[cfg(test)]
mod tests {
    use highwater_base::Prng;

    use super::*;

    fn unpack(codec: Codec, bytes: &[u8], limit: u64) -> Result<Vec<u8>, CompressionError> {
        let mut out = Vec::new();
        Decoder::new(codec, bytes, limit).read_to_end(&mut out).map(|()| out)
    }

    fn samples() -> Vec<Vec<u8>> {
        let mut prng = Prng::new(11);
        let mut random = vec![0; 70_000];
        prng.fill(&mut random);
        let text: Vec<u8> =
            (0..200_000).map(|i: u32| b"high water "[(i as usize + (i as usize >> 13) % 3) % 11]).collect();
        vec![Vec::new(), b"x".to_vec(), vec![0; 300_000], random, text]
    }

    #[test]
    fn every_codec_gives_back_what_it_took() {
        for codec in Codec::ALL {
            for sample in samples() {
                let packed = compress(codec, &sample).unwrap();
                assert_eq!(unpack(codec, &packed, sample.len() as u64).unwrap(), sample, "{codec:?}");
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        for codec in Codec::ALL {
            let packed = compress(codec, &vec![0; 4 << 20]).unwrap();
            let error = unpack(codec, &packed, 1 << 20).unwrap_err();
            assert_eq!(error.fault, CompressionFault::Limit { bytes: 1 << 20 }, "{codec:?}");
        }
    }

    #[test]
    fn bytes_damaged_anywhere_never_panic_and_stay_within_the_limit() {
        let mut prng = Prng::new(5);
        let sample = &samples()[4][..3000];
        for codec in Codec::ALL {
            let packed = compress(codec, sample).unwrap();
            for round in 0..2000 {
                let mut damaged = packed.clone();
                for _ in 0..=prng.below(3) {
                    let at = prng.below(damaged.len() as u64) as usize;
                    damaged[at] ^= 1 << prng.below(8);
                }
                if round % 4 == 0 {
                    damaged.truncate(prng.below(damaged.len() as u64) as usize);
                }
                let mut out = Vec::new();
                let _ = Decoder::new(codec, &damaged, 10_000).read_to_end(&mut out);
                assert!(out.len() <= 10_000);
            }
        }
    }

    #[test]
    fn concatenated_gzip_members_are_one_stream_and_junk_behind_them_is_ignored() {
        let mut packed = compress(Codec::Gzip, b"one ").unwrap();
        packed.extend(compress(Codec::Gzip, b"two").unwrap());
        packed.extend(b"junk");
        assert_eq!(unpack(Codec::Gzip, &packed, 100).unwrap(), b"one two");
    }

    #[test]
    fn a_zstd_frame_with_a_huge_window_is_refused() {
        // Descriptor 0 (no content size), window byte 0xa8 = 2^31.
        assert!(unpack(Codec::Zstd, &[0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 1, 0, 0], 100).is_err());
    }

    #[test]
    fn what_kafka_wrote_unpacks() {
        let hex = |s: &str| -> Vec<u8> {
            let s: String = s.split_whitespace().collect();
            (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
        };
        let mut plain = None;
        for (codec, bytes) in [
            (
                Codec::Gzip,
                "1f8b08 00 00000000 00 ff 4b636060e0ca4eadd4350c48241230a431303181f51811af0700 e5739e7c 68000000",
            ),
            (
                Codec::Snappy,
                "82534e4150505900 00000001 00000001 0000001e 682c660000000a6b65792d3150619a010010006600020205340032a63400",
            ),
            (
                Codec::Lz4,
                "04224d18 604082 23000000 cf660000000a6b65792d31506101001451006600020234001f32340012506161616100 00000000",
            ),
            (
                Codec::Zstd,
                "28b52ffd 00 58 e40000 90660000000a6b65792d31506100660002023203000188ab5aad0449 010000",
            ),
        ] {
            let unpacked = unpack(codec, &hex(bytes), 1000).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(unpacked.len(), 104);
            assert_eq!(*plain.get_or_insert(unpacked.clone()), unpacked, "{codec:?}");
        }
    }
}

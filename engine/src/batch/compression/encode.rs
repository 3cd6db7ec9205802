//! Packing, in the framing that Kafka's own writers use.

#[cfg(any(feature = "gzip", feature = "zstd"))]
use std::io::Write;

#[cfg(feature = "lz4")]
use twox_hash::XxHash32;

#[cfg(feature = "lz4")]
use super::lz4::{BD, FLG, FRAME_MAGIC, STORED};
#[cfg(feature = "snappy")]
use super::snappy::XERIAL_MAGIC;
use super::{CompressionError, CompressionFault};
use crate::batch::Codec;

#[cfg(feature = "snappy")]
/// Bytes of input to one snappy block, as snappy-java splits it.
const SNAPPY_BLOCK: usize = 32 << 10;
#[cfg(feature = "lz4")]
/// Bytes of input to one LZ4 block, as the frame descriptor says.
const LZ4_BLOCK: usize = 64 << 10;
#[cfg(feature = "zstd")]
/// Kafka's default.
const ZSTD_LEVEL: i32 = 3;
#[cfg(feature = "gzip")]
/// "Unknown", as the JDK writes it.
const GZIP_OS: u8 = 255;

/// Packs `bytes` at Kafka's default level. Fails only with [`CompressionFault::NotCompiledIn`].
///
/// ```
/// use highwater_engine::batch::{Codec, compress};
/// assert!(compress(Codec::Zstd, &[0; 10_000]).unwrap().len() < 100);
/// ```
pub fn compress(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Codec::None => Ok(bytes.to_vec()),
        #[cfg(feature = "gzip")]
        Codec::Gzip => Ok(gzip(bytes)),
        #[cfg(feature = "snappy")]
        Codec::Snappy => Ok(snappy(bytes)),
        #[cfg(feature = "lz4")]
        Codec::Lz4 => Ok(lz4(bytes)),
        #[cfg(feature = "zstd")]
        Codec::Zstd => Ok(zstd(bytes)),
        #[allow(unreachable_patterns, reason = "with every codec compiled in")]
        codec => Err(CompressionError { codec, fault: CompressionFault::NotCompiledIn }),
    }
}

#[cfg(feature = "gzip")]
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder =
        flate2::GzBuilder::new().operating_system(GZIP_OS).write(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("a Vec takes every write");
    encoder.finish().expect("a Vec takes every write")
}

#[cfg(feature = "snappy")]
fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut out = XERIAL_MAGIC.to_vec();
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(SNAPPY_BLOCK) {
        let packed = encoder.compress_vec(block).expect("a block of 32 KiB is not too large");
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    out
}

#[cfg(feature = "lz4")]
fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut out = FRAME_MAGIC.to_le_bytes().to_vec();
    out.extend_from_slice(&[FLG, BD, (XxHash32::oneshot(0, &[FLG, BD]) >> 8) as u8]);
    for block in bytes.chunks(LZ4_BLOCK) {
        let packed = lz4_flex::block::compress(block);
        if packed.len() < block.len() {
            out.extend_from_slice(&(packed.len() as u32).to_le_bytes());
            out.extend_from_slice(&packed);
        } else {
            out.extend_from_slice(&(block.len() as u32 | STORED).to_le_bytes());
            out.extend_from_slice(block);
        }
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    out
}

#[cfg(feature = "zstd")]
fn zstd(bytes: &[u8]) -> Vec<u8> {
    // Streaming, as Kafka does: the frame names no content size.
    let mut encoder =
        zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).expect("zstd's context is allocated");
    encoder.write_all(bytes).expect("a Vec takes every write");
    encoder.finish().expect("a Vec takes every write")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_begin_as_kafka_s_do() {
        let text = [b'a'; 100];
        assert_eq!(compress(Codec::Gzip, &text).unwrap()[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        assert_eq!(compress(Codec::Lz4, &text).unwrap()[..7], [4, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
        assert_eq!(compress(Codec::Zstd, &text).unwrap()[..5], [0x28, 0xb5, 0x2f, 0xfd, 0]);
        assert_eq!(compress(Codec::Snappy, &text).unwrap()[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    }

    #[test]
    fn a_block_that_does_not_shrink_is_stored() {
        let packed = compress(Codec::Lz4, b"0123456789").unwrap();
        assert_eq!(packed[7..11], (10u32 | STORED).to_le_bytes());
        assert_eq!(packed[11..21], *b"0123456789");
    }
}

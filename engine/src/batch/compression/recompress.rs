//! A batch packed anew with another codec, for topics whose `compression.type` is not `producer`.

use super::super::header::{self, Header};
use super::super::{Attributes, BatchError, Codec, RecordStream};
use super::compress;

/// The batch with the codec `codec` and offset deltas 0, 1, 2…; everything else is kept, the CRC is made anew.
/// It may unpack to at most `limit` bytes. A control batch is never compressed: it comes back as it is.
///
/// ```
/// use highwater_engine::batch::{BatchBuilder, Codec, Header, recompress};
/// let plain = BatchBuilder::new().record(1, None, Some(&[0; 1000])).build();
/// let packed = recompress(&plain, Codec::Zstd, 1 << 20).unwrap();
/// assert_eq!(Header::decode(&packed).unwrap().attributes().codec(), Some(Codec::Zstd));
/// assert!(packed.len() < plain.len());
/// ```
pub fn recompress(batch: &[u8], codec: Codec, limit: u64) -> Result<Vec<u8>, BatchError> {
    let header = Header::decode(batch).ok_or(BatchError::Partial { found: batch.len() })?;
    if header.attributes().is_control() {
        return Ok(batch.to_vec());
    }
    let mut plain = Vec::with_capacity(batch.len());
    let mut records = RecordStream::new(batch, limit)?;
    let mut count = 0;
    while let Some(mut record) = records.next()? {
        record.offset_delta = count;
        record.write(&mut plain);
        count += 1;
    }
    let mut out = batch[..header::HEADER_BYTES].to_vec();
    out.extend_from_slice(&compress(codec, &plain)?);
    let length = i32::try_from(out.len() - header::LOG_OVERHEAD)
        .map_err(|_| BatchError::TooLarge { found: out.len(), limit: i32::MAX as usize })?;
    out[header::LENGTH..header::LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());
    let attributes = header.attributes().bits() & !Attributes::CODEC | i16::from(codec.bits());
    out[header::ATTRIBUTES..header::LAST_OFFSET_DELTA].copy_from_slice(&attributes.to_be_bytes());
    out[header::LAST_OFFSET_DELTA..header::BASE_TIMESTAMP].copy_from_slice(&(count - 1).to_be_bytes());
    header::reseal(&mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Batches};

    #[test]
    fn records_survive_every_change_of_codec() {
        for from in Codec::ALL {
            for to in Codec::ALL {
                let batch = BatchBuilder::new()
                    .codec(from)
                    .record(10, Some(b"k"), Some(b"v"))
                    .record_with_headers(12, None, None, &[("h", Some(b"x")), ("", None)])
                    .record(9, Some(b""), Some(&[7; 5000]))
                    .build();
                let packed = recompress(&batch, to, 1 << 20).unwrap();
                let found = Batches::in_memory(&packed).next().unwrap().unwrap();
                assert!(found.crc_matches());
                assert_eq!(found.attributes().codec(), Some(to));
                let read = |bytes: &[u8]| {
                    let mut stream = RecordStream::new(bytes, 1 << 20).unwrap();
                    let mut seen = Vec::new();
                    while let Some(record) = stream.next().unwrap() {
                        seen.push(format!("{record:?}"));
                    }
                    seen
                };
                assert_eq!(read(&packed), read(&batch));
            }
        }
    }
}

//! Record batches: Kafka's format, byte for byte. Pure functions over byte slices.
//!
//! [`Batches`] frames them, [`Header`] and [`Record`] see them in place, [`arrival`] checks what clients send,
//! [`stamp`] writes what a leader decides, [`BatchBuilder`] makes new ones.

mod builder;
mod compression;
mod crc32c;
mod error;
mod framing;
mod header;
mod legacy;
mod record;
mod retained;
mod skim;
mod stream;
mod validate;
mod varint;

pub use builder::{BatchBuilder, Marker, marker_batch};
pub use compression::{CompressionError, CompressionFault, Decoder, compress, recompress};
pub(crate) use crc32c::Crc32c;
pub use crc32c::{crc32c, crc32c_target};
pub use error::{BatchError, Faults, MOST_FAULTS};
pub use framing::{Batch, Batches, FrameError, MIN_LENGTH};
pub(crate) use header::{ATTRIBUTES, MAGIC as MAGIC_AT};
pub use header::{
    Attributes, Codec, HEADER_BYTES, Header, LOG_OVERHEAD, MAGIC_PREFIX, TimestampType, add_sequence,
    computed_crc, set_base_offset, set_leader_epoch, subtract_sequence,
};
pub use legacy::{LegacyEntry, LegacyError, legacy_base_offset, legacy_entries};
pub use record::{Headers, Record, RecordError, RecordFault, Records};
pub(crate) use retained::{Converted, emptied_batch, retained_batch};
pub(crate) use stream::StreamPlace;
pub use stream::{RecordStream, unpacked_records};
pub(crate) use validate::arrival_unsummed;
pub use validate::{Arrival, Rules, Writer, arrival, check_crc, stamp};
pub use varint::{
    MAX_VARINT, MAX_VARLONG, VarintError, read_varint, read_varlong, write_varint, write_varlong,
};

//! One batch, as a line.

use std::borrow::Cow;
use std::fmt::Write as _;

use highwater_base::Offset;
use highwater_engine::batch::{Batch, Header};

use super::segment::Segment;
use crate::InspectError;
use crate::json::Line;

/// A batch and what was found out about it.
pub(super) struct Shown<'a> {
    pub(super) batch: Batch<'a>,
    pub(super) position: u64,
    pub(super) base: Offset,
    pub(super) count: i32,
    pub(super) valid: bool,
}

impl Shown<'_> {
    fn codec(&self) -> Cow<'static, str> {
        let attributes = self.batch.attributes();
        match attributes.codec() {
            Some(codec) => codec.name().into(),
            None => format!("unknown-{}", attributes.bits() & 7).into(),
        }
    }

    fn timestamp_type(&self) -> &'static str {
        if self.batch.magic() == 0 {
            "NoTimestampType"
        } else {
            self.batch.attributes().timestamp_type().name()
        }
    }
}

impl Segment<'_> {
    pub(super) fn write_batch(&mut self, shown: Shown<'_>) -> Result<(), InspectError> {
        if self.options.json { self.json_batch(&shown) } else { self.text_batch(&shown) }
    }

    fn json_batch(&mut self, shown: &Shown<'_>) -> Result<(), InspectError> {
        let batch = shown.batch;
        let mut line = Line::new("batch");
        line.string("file", self.shown)
            .plain("position", shown.position)
            .plain("size_in_bytes", batch.size());
        line.plain("base_offset", shown.base).plain("last_offset", batch.last_offset());
        line.plain("magic", batch.magic()).plain("crc", batch.crc()).plain("is_valid", shown.valid);
        line.plain("attributes", batch.attributes().bits()).string("compression", &shown.codec());
        line.string("timestamp_type", shown.timestamp_type());
        if let Some(header) = batch.header() {
            line.plain("base_timestamp", header.base_timestamp().get());
        }
        line.plain("max_timestamp", batch.max_timestamp().get());
        if let Some(header) = batch.header() {
            line.plain("producer_id", header.producer_id()).plain("producer_epoch", header.producer_epoch());
            line.plain("base_sequence", header.base_sequence())
                .plain("last_sequence", header.last_sequence());
            line.plain("partition_leader_epoch", header.leader_epoch());
            line.plain("is_transactional", header.attributes().is_transactional());
            line.plain("is_control", header.attributes().is_control());
            line.optional("delete_horizon_ms", header.delete_horizon().map(|horizon| horizon.get()));
        }
        line.plain("record_count", shown.count);
        line.write(self.out)?;
        Ok(())
    }

    fn text_batch(&mut self, shown: &Shown<'_>) -> Result<(), InspectError> {
        let batch = shown.batch;
        let mut text = format!(
            "  @{} {} bytes, offsets {} to {}, {} records, magic {}, {}, {} up to {}",
            shown.position,
            batch.size(),
            shown.base,
            batch.last_offset(),
            shown.count,
            batch.magic(),
            shown.codec(),
            shown.timestamp_type(),
            batch.max_timestamp().get(),
        );
        if let Some(header) = batch.header() {
            describe(&mut text, header);
        }
        let verdict = if shown.valid { "good" } else { "WRONG" };
        writeln!(self.out, "{text}, crc {:08x} {verdict}", batch.crc())?;
        Ok(())
    }
}

fn describe(text: &mut String, header: Header<'_>) {
    // Writing to a String cannot fail.
    let _ = write!(text, ", epoch {}", header.leader_epoch());
    if header.producer_id().is_some() {
        let _ = write!(
            text,
            ", producer {} epoch {} sequences {} to {}",
            header.producer_id(),
            header.producer_epoch(),
            header.base_sequence(),
            header.last_sequence()
        );
    }
    if header.attributes().is_transactional() {
        text.push_str(", transactional");
    }
    if header.attributes().is_control() {
        text.push_str(", control");
    }
    if let Some(horizon) = header.delete_horizon() {
        let _ = write!(text, ", delete horizon {}", horizon.get());
    }
}

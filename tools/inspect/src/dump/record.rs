//! The records of a batch, one line each.

use highwater_engine::batch::{
    Batch, Header, LegacyEntry, Record, RecordStream, add_sequence, legacy_entries,
};

use super::segment::Segment;
use crate::InspectError;
use crate::damage::Damage;
use crate::json::{Line, hex, quoted};

impl Segment<'_> {
    pub(super) fn write_records(&mut self, batch: Batch<'_>, position: u64) -> Result<(), InspectError> {
        match batch.header() {
            Some(header) => self.records_of(batch, header, position),
            None => self.legacy_records(batch, position),
        }
    }

    fn records_of(
        &mut self,
        batch: Batch<'_>,
        header: Header<'_>,
        position: u64,
    ) -> Result<(), InspectError> {
        let mut records = match RecordStream::new(batch.bytes(), self.options.decompressed_bytes) {
            Ok(records) => records,
            Err(error) => return self.note(position, Damage::Batch(error)),
        };
        loop {
            match records.next() {
                Ok(Some(record)) => {
                    let offset = record.offset(header);
                    if self.options.wants(offset, offset) {
                        let text =
                            if self.options.json { json(&record, header) } else { text(&record, header) };
                        self.out.write_all(text.as_bytes())?;
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => return self.note(position, Damage::Batch(error)),
            }
        }
    }

    fn legacy_records(&mut self, batch: Batch<'_>, position: u64) -> Result<(), InspectError> {
        let mut lines = Vec::new();
        let options = self.options;
        let walked = legacy_entries(batch, options.decompressed_bytes, |entry| {
            if options.wants(entry.offset, entry.offset) {
                lines.push(if options.json { legacy_json(&entry) } else { legacy_text(&entry) });
            }
        });
        for line in lines {
            self.out.write_all(line.as_bytes())?;
        }
        // A set that cannot be decoded was noted with its batch.
        let _ = (walked, position);
        Ok(())
    }
}

fn sequence(record: &Record<'_>, header: Header<'_>) -> i32 {
    match header.base_sequence() {
        base @ 0.. => add_sequence(base, record.offset_delta),
        _ => -1,
    }
}

fn json(record: &Record<'_>, header: Header<'_>) -> String {
    let mut line = Line::new("record");
    line.plain("offset", record.offset(header)).plain("timestamp", record.timestamp(header).get());
    line.plain("sequence", sequence(record, header));
    line.bytes("key", record.key).bytes("value", record.value);
    let headers = record.headers.map(|(name, value)| {
        let mut header = Line::nested();
        header.string("key", &String::from_utf8_lossy(name));
        match value {
            Some(value) => header.hex("value_hex", value),
            None => header.plain("value_hex", "null"),
        };
        header.finish()
    });
    line.array("headers", headers);
    if header.attributes().is_control() {
        let kind = control_type(record);
        line.string("control_type", kind);
        if let Some(epoch) = coordinator_epoch(record, kind) {
            line.plain("coordinator_epoch", epoch);
        }
    }
    line.finish() + "\n"
}

fn legacy_json(entry: &LegacyEntry<'_>) -> String {
    let mut line = Line::new("record");
    line.plain("offset", entry.offset).plain("timestamp", entry.timestamp.get()).plain("sequence", -1);
    line.bytes("key", entry.key).bytes("value", entry.value).plain("headers", "[]");
    line.finish() + "\n"
}

fn text(record: &Record<'_>, header: Header<'_>) -> String {
    let mut line = format!(
        "    offset {}, time {}, key {}, value {}",
        record.offset(header),
        record.timestamp(header).get(),
        readable(record.key),
        readable(record.value)
    );
    if header.attributes().is_control() {
        let kind = control_type(record);
        line += &format!(", {kind}");
        if let Some(epoch) = coordinator_epoch(record, kind) {
            line += &format!(" by coordinator epoch {epoch}");
        }
    }
    for (name, value) in record.headers {
        line += &format!(", header {} {}", readable(Some(name)), readable(value));
    }
    line + "\n"
}

fn legacy_text(entry: &LegacyEntry<'_>) -> String {
    format!(
        "    offset {}, time {}, key {}, value {}\n",
        entry.offset,
        entry.timestamp.get(),
        readable(entry.key),
        readable(entry.value)
    )
}

/// Kafka's name of a control record's type, from its key.
fn control_type(record: &Record<'_>) -> &'static str {
    let kind = record.key.and_then(|key| key.get(2..4)).map(|kind| i16::from_be_bytes([kind[0], kind[1]]));
    match kind {
        Some(0) => "ABORT",
        Some(1) => "COMMIT",
        Some(2) => "LEADER_CHANGE",
        Some(3) => "SNAPSHOT_HEADER",
        Some(4) => "SNAPSHOT_FOOTER",
        Some(5) => "KRAFT_VERSION",
        Some(6) => "KRAFT_VOTERS",
        _ => "UNKNOWN",
    }
}

fn coordinator_epoch(record: &Record<'_>, kind: &str) -> Option<i32> {
    let value = record.value?.get(2..6)?;
    matches!(kind, "ABORT" | "COMMIT").then(|| i32::from_be_bytes([value[0], value[1], value[2], value[3]]))
}

/// Bytes for people: text in quotes where it is text, hex otherwise; at most 1,024 bytes.
fn readable(bytes: Option<&[u8]>) -> String {
    const MOST: usize = 1024;
    let Some(bytes) = bytes else { return "null".into() };
    let shown = &bytes[..bytes.len().min(MOST)];
    let mut text = match std::str::from_utf8(shown) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => quoted(text),
        _ => {
            let mut digits = String::from("0x");
            hex(&mut digits, shown);
            digits
        }
    };
    if bytes.len() > MOST {
        text += &format!("... ({} bytes)", bytes.len());
    }
    text
}

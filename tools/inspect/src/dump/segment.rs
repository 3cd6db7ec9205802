//! A segment: its totals, then batch by batch.

use std::ops::Range;
use std::path::Path;

use highwater_base::Offset;
use highwater_engine::batch::{Batch, HEADER_BYTES, Header, legacy_base_offset};
use highwater_io::IoError;

use super::Dumper;
use super::batch::Shown;
use crate::damage::Damage;
use crate::json::Line;
use crate::source::Source;
use crate::walk::{Step, Walk};
use crate::{DumpOptions, Finding, InspectError};

/// What Kafka's iteration of a segment gives: it stops at the first bad frame.
struct Totals {
    valid_bytes: u64,
    batches: u64,
    records: u64,
    next_offset: Offset,
    stopped_by: Option<String>,
}

impl Dumper<'_> {
    pub(super) fn segment(&mut self, path: &Path, shown: &str, base: Offset) -> Result<(), InspectError> {
        let mut segment = Segment {
            out: &mut *self.out,
            options: self.options,
            shown,
            base,
            found: Vec::new(),
            batches: 0,
            records: 0,
        };
        match Source::open(self.files, path, self.access) {
            Ok(mut source) => {
                segment.dump(&mut source)?;
                self.summary.bytes += source.len();
                for (bytes, error) in source.unreadable() {
                    segment.note(bytes.start, unreadable(bytes.clone(), error))?;
                }
            }
            Err(error) => segment.note(0, unreadable(0..0, &error))?,
        }
        let Segment { found, batches, records, .. } = segment;
        self.summary.batches += batches;
        self.summary.records += records;
        let findings = found.into_iter().map(|(position, damage)| Finding {
            path: path.into(),
            position: Some(position),
            damage,
            verdict: None,
        });
        self.summary.findings.extend(findings);
        Ok(())
    }
}

fn unreadable(bytes: Range<u64>, error: &IoError) -> Damage {
    Damage::Unreadable { bytes, error: error.clone() }
}

/// One segment being printed.
pub(super) struct Segment<'a> {
    pub(super) out: &'a mut dyn std::io::Write,
    pub(super) options: &'a DumpOptions,
    pub(super) shown: &'a str,
    base: Offset,
    /// Damage, by where it is.
    found: Vec<(u64, Damage)>,
    batches: u64,
    records: u64,
}

impl Segment<'_> {
    fn dump(&mut self, source: &mut Source<'_>) -> Result<(), InspectError> {
        if self.options.json {
            let totals = self.totals(source);
            self.write_totals(&totals, source.len())?;
        } else {
            writeln!(self.out, "segment {}: base {}, {} bytes", self.shown, self.base, source.len())?;
        }
        let mut walk = Walk::new(source, self.base, true);
        while let Some(step) = walk.next(source) {
            match step {
                Step::Batch { position, size } => {
                    let bytes = source.at(position, size);
                    let Ok(Some(batch)) = Batch::at(bytes, 0) else { continue };
                    self.batches += 1;
                    if let Some(last) = self.batch(batch, position)? {
                        walk.confirm(last);
                    }
                }
                Step::Broken { position, error, resumes } => {
                    self.note(position, Damage::Frame { error, resumes })?;
                }
                Step::Torn { position, bytes, resumes } => {
                    self.note(position, Damage::Torn { bytes, resumes })?;
                }
                Step::Zeros { position, bytes } if !self.options.json => {
                    writeln!(self.out, "  @{position} {bytes} zero bytes to the end: prepared, not used")?;
                }
                Step::Zeros { .. } => {}
            }
        }
        if !self.options.json {
            writeln!(self.out, "  {} batches, {} records", self.batches, self.records)?;
        }
        Ok(())
    }

    /// Prints a batch if it is asked for. Gives its last offset if its checksum holds.
    fn batch(&mut self, batch: Batch<'_>, position: u64) -> Result<Option<Offset>, InspectError> {
        let computed = batch.computed_crc();
        let valid = computed == batch.crc();
        if !valid {
            self.note(position, Damage::Checksum { expected: batch.crc(), found: computed })?;
        }
        let (base, count) = match batch.header() {
            Some(header) => (header.base_offset(), header.record_count()),
            None => match legacy_base_offset(batch, self.options.decompressed_bytes) {
                Ok(found) => found,
                Err(error) => {
                    self.note(position, Damage::Legacy(error))?;
                    (batch.stored_offset(), 1)
                }
            },
        };
        self.records += count.max(0) as u64;
        if self.options.wants(base, batch.last_offset()) {
            self.write_batch(Shown { batch, position, base, count, valid })?;
            if self.options.records {
                self.write_records(batch, position)?;
            }
        }
        Ok(valid.then(|| batch.last_offset()))
    }

    /// Notes damage; in text it is also said where it is met.
    pub(super) fn note(&mut self, position: u64, damage: Damage) -> Result<(), InspectError> {
        if !self.options.json {
            writeln!(self.out, "  @{position} DAMAGED {damage}")?;
        }
        self.found.push((position, damage));
        Ok(())
    }

    /// Headers only: what a first pass over the file can tell cheaply.
    fn totals(&self, source: &mut Source<'_>) -> Totals {
        let mut totals =
            Totals { valid_bytes: 0, batches: 0, records: 0, next_offset: Offset::NONE, stopped_by: None };
        let mut walk = Walk::new(source, self.base, false);
        while let Some(step) = walk.next(source) {
            match step {
                Step::Batch { position, size } => {
                    totals.valid_bytes = position + size as u64;
                    totals.batches += 1;
                    let (count, last) = self.count(source, position, size);
                    totals.records += count.max(0) as u64;
                    totals.next_offset = last.plus(1);
                }
                Step::Broken { error, .. } => totals.stopped_by = Some(error.to_string()),
                // Kafka takes a batch that ends behind the file for the end, and 17 bytes or fewer.
                Step::Torn { .. } => {}
                Step::Zeros { position, bytes } => {
                    totals.stopped_by =
                        (bytes > 17).then(|| format!("at {position}: {bytes} zero bytes to the end"));
                }
            }
        }
        totals
    }

    fn count(&self, source: &mut Source<'_>, position: u64, size: usize) -> (i32, Offset) {
        let header = source.at(position, HEADER_BYTES);
        if let Some(header) = Header::decode(header) {
            return (header.record_count(), header.last_offset());
        }
        let Ok(Some(batch)) = Batch::at(source.at(position, size), 0) else { return (0, Offset::NONE) };
        let count = legacy_base_offset(batch, self.options.decompressed_bytes).map_or(1, |found| found.1);
        (count, batch.last_offset())
    }

    fn write_totals(&mut self, totals: &Totals, size: u64) -> Result<(), InspectError> {
        let mut line = Line::new("segment");
        line.string("file", self.shown).plain("base_offset", self.base).plain("size", size);
        line.plain("valid_bytes", totals.valid_bytes).plain("batches", totals.batches);
        line.plain("records", totals.records).plain("next_offset", totals.next_offset);
        match &totals.stopped_by {
            Some(why) => line.string("stopped_by", why),
            None => line.plain("stopped_by", "null"),
        };
        line.write(self.out)?;
        Ok(())
    }
}

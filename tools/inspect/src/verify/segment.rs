//! One segment: framing, checksum, offsets and records of every batch.

use std::path::Path;

use highwater_base::Offset;
use highwater_engine::batch::{Batch, BatchError, Header, RecordStream, legacy_base_offset};

use super::Verifier;
use crate::source::{Access, Source};
use crate::walk::{Step, Walk};
use crate::{Damage, Finding};

/// A segment and where it stands in its log.
pub(super) struct Segment<'a> {
    pub(super) path: &'a Path,
    /// Its base offset.
    pub(super) base: Offset,
    /// The base offset of the next one.
    pub(super) next: Offset,
    /// Its directory was stopped in order.
    pub(super) clean: bool,
}

/// Something that is compared with a segment's batches while they go by.
pub(super) trait Observer {
    /// A whole batch with a valid checksum.
    fn batch(&mut self, seen: &Seen<'_>, found: &mut Vec<Finding>);
    /// All batches went by. `whole` says whether none was left out as damaged.
    fn end(&mut self, segment: &Segment<'_>, whole: bool, found: &mut Vec<Finding>);
}

/// A batch that goes by.
pub(super) struct Seen<'a> {
    pub(super) batch: Batch<'a>,
    pub(super) position: u64,
    pub(super) base: Offset,
    /// The base of its segment.
    pub(super) segment: Offset,
    /// Damage lies between this batch and the one before: what it held is not known.
    pub(super) gap: bool,
}

/// What a walk of a segment came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Walked {
    /// The file's length.
    pub(super) length: u64,
    /// Where the last valid batch begins.
    pub(super) last_valid: Option<u64>,
    /// Where the zeros at the end begin.
    pub(super) zeros_from: Option<u64>,
    /// Where a damaged batch begins and how long it is by its own header.
    pub(super) claims: Vec<(u64, u64)>,
}

/// Bytes that one batch may unpack to.
const DECOMPRESSED: u64 = 1 << 30;

impl Verifier<'_> {
    /// Walks one segment. None if it cannot be opened.
    pub(super) fn segment(
        &mut self,
        segment: &Segment<'_>,
        observers: &mut [Box<dyn Observer + '_>],
    ) -> Option<Walked> {
        self.report.segments += 1;
        let mut found = Vec::new();
        let mut check =
            Check { segment, observers, found: &mut found, next: segment.base, whole: true, gap: false };
        let mut walked = Walked::default();
        let mut opened = true;
        match Source::open(self.files, segment.path, Access::Read) {
            Ok(mut source) => {
                walked.length = source.len();
                self.report.bytes += source.len();
                let mut walk = Walk::new(&source, segment.base, true);
                while let Some(step) = walk.next(&mut source) {
                    match step {
                        Step::Batch { position, size } => {
                            let Ok(Some(batch)) = Batch::at(source.at(position, size), 0) else { continue };
                            self.report.batches += 1;
                            let (valid, records) = check.batch(batch, position);
                            self.report.records += records;
                            if valid {
                                walk.confirm(batch.last_offset());
                                walked.last_valid = Some(position);
                            } else {
                                walked.claims.push((position, size as u64));
                            }
                        }
                        Step::Broken { position, error, resumes } => {
                            check.damaged(position, Damage::Frame { error, resumes });
                        }
                        Step::Torn { position, bytes, resumes } => {
                            walked.claims.push((position, bytes));
                            check.damaged(position, Damage::Torn { bytes, resumes });
                        }
                        Step::Zeros { position, bytes } => {
                            walked.zeros_from = Some(position);
                            if segment.clean {
                                check.damaged(position, Damage::Zeros { bytes });
                            }
                        }
                    }
                }
                check.end();
                for (bytes, error) in source.unreadable() {
                    let damage = Damage::Unreadable { bytes: bytes.clone(), error: error.clone() };
                    found.push(finding(segment, Some(bytes.start), damage));
                }
            }
            Err(error) => {
                let damage = Damage::Unreadable { bytes: 0..0, error: error.clone() };
                found.push(finding(segment, None, damage));
                opened = false;
            }
        }
        self.report.findings.append(&mut found);
        opened.then_some(walked)
    }
}

fn finding(segment: &Segment<'_>, position: Option<u64>, damage: Damage) -> Finding {
    Finding { path: segment.path.into(), position, damage, verdict: None }
}

struct Check<'a, 'o> {
    segment: &'a Segment<'a>,
    observers: &'a mut [Box<dyn Observer + 'o>],
    found: &'a mut Vec<Finding>,
    /// The least offset that the next batch may begin with.
    next: Offset,
    /// No batch was damaged so far.
    whole: bool,
    /// Something was damaged since the last good batch.
    gap: bool,
}

impl Check<'_, '_> {
    fn damaged(&mut self, position: u64, damage: Damage) {
        self.whole = false;
        self.gap = true;
        self.found.push(finding(self.segment, Some(position), damage));
    }

    /// Whether the batch can be believed, and how many records it has.
    fn batch(&mut self, batch: Batch<'_>, position: u64) -> (bool, u64) {
        let computed = batch.computed_crc();
        if computed != batch.crc() {
            self.damaged(position, Damage::Checksum { expected: batch.crc(), found: computed });
            return (false, 0);
        }
        let (base, records) = match batch.header() {
            Some(header) => {
                let records = self.records(batch, header, position);
                (header.base_offset(), records)
            }
            None => match legacy_base_offset(batch, DECOMPRESSED) {
                Ok((base, count)) => (base, count.max(0) as u64),
                Err(error) => {
                    self.damaged(position, Damage::Legacy(error));
                    return (false, 0);
                }
            },
        };
        let last = batch.last_offset();
        // The base offset lies outside the checksum: an impossible one is damage of its own.
        if base < self.next {
            self.damaged(position, Damage::Offsets { found: base, expected: self.next });
            return (false, records);
        }
        if last < base || last >= self.segment.next {
            let expected = base.get()..self.segment.next.get();
            self.damaged(position, Damage::LastOffset { found: last, expected });
            return (false, records);
        }
        self.next = last.plus(1);
        let gap = std::mem::take(&mut self.gap);
        let seen = Seen { batch, position, base, segment: self.segment.base, gap };
        for observer in self.observers.iter_mut() {
            observer.batch(&seen, self.found);
        }
        (true, records)
    }

    /// Decodes every record; gives how many there are.
    fn records(&mut self, batch: Batch<'_>, header: Header<'_>, position: u64) -> u64 {
        let mut count = 0;
        if let Err(error) = decode(batch, header, &mut count) {
            self.damaged(position, Damage::Batch(error));
        }
        count
    }

    fn end(&mut self) {
        for observer in self.observers.iter_mut() {
            observer.end(self.segment, self.whole, self.found);
        }
    }
}

fn decode(batch: Batch<'_>, header: Header<'_>, count: &mut u64) -> Result<(), BatchError> {
    let mut records = RecordStream::new(batch.bytes(), DECOMPRESSED)?;
    let last = header.last_offset_delta();
    while let Some(record) = records.next()? {
        if record.offset_delta < 0 || record.offset_delta > last {
            let (record, found) = (*count as i32, record.offset_delta);
            return Err(BatchError::OffsetDelta { record, found, last });
        }
        *count += 1;
    }
    Ok(())
}

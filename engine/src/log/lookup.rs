//! Offsets by time, and aborted transactions by offset.

use highwater_base::{Mutant, Now, Offset, WallMs};

use super::cold::{Job, Reader};
use super::{AbortedTransaction, Log, LogEvent, Lookup, ReadId, TimestampOffset};
use crate::ReadError;
use crate::batch::{Batch, RecordStream, TimestampType, legacy_entries};
use crate::segment::BatchFacts;

impl Log {
    /// The transactions aborted in `from..to`, for a fetch of these offsets.
    pub fn aborted_in(&self, from: Offset, to: Offset) -> Vec<AbortedTransaction> {
        let first = self.segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let mut found = Vec::new();
        for aborted in self.segments.iter().skip(first).flat_map(|segment| &segment.aborted) {
            if aborted.last_offset >= from && aborted.first_offset < to {
                found.push(AbortedTransaction { producer: aborted.producer_id, first: aborted.first_offset });
            }
            if aborted.last_stable_offset >= to {
                break;
            }
        }
        found
    }

    /// The first record, at or after the log start, whose timestamp is at least `at`.
    ///
    /// Every segment that could hold one is searched: unlike Kafka, which looks at the first one only.
    pub fn lookup_time(&mut self, now: Now, at: WallMs) -> Result<Lookup, ReadError> {
        let _ = now;
        self.ready_to_read()?;
        let Some(segment) = self.segment_reaching(at, self.log_start) else { return Ok(Lookup::Ready(None)) };
        self.begin_lookup(segment, at, self.log_start, false)
    }

    /// The first record with the largest timestamp of the log (KIP-734).
    pub fn lookup_max_timestamp(&mut self, now: Now) -> Result<Lookup, ReadError> {
        let _ = now;
        self.ready_to_read()?;
        let mut best: Option<(WallMs, Offset, Offset)> = None;
        for segment in self.segments.iter().filter(|segment| segment.end > self.log_start) {
            let largest = segment.largest;
            if largest.timestamp.get() >= 0 && best.is_none_or(|(most, _, _)| largest.timestamp > most) {
                best = Some((largest.timestamp, segment.base, largest.offset));
            }
        }
        let Some((timestamp, segment, _)) = best else { return Ok(Lookup::Ready(None)) };
        self.begin_lookup(segment, timestamp, self.log_start, true)
    }

    fn begin_lookup(
        &mut self,
        segment: Offset,
        at: WallMs,
        from: Offset,
        exact: bool,
    ) -> Result<Lookup, ReadError> {
        self.readers.last_id += 1;
        let id = ReadId(self.readers.last_id);
        self.add_reader(Reader::new(segment, Job::Time { id, at, from, exact }))?;
        Ok(Lookup::Pending(id))
    }

    /// The first segment from the one that holds `from` on whose largest timestamp reaches `at`.
    fn segment_reaching(&self, at: WallMs, from: Offset) -> Option<Offset> {
        let first = self.segment_holding(from);
        let mut later = self.segments.iter().skip(first);
        later.find(|segment| segment.size > 0 && segment.largest.timestamp >= at).map(|segment| segment.base)
    }

    /// After a lookup moved to the next segment: on to one that can hold what is looked for.
    pub(super) fn skip_segments_for_time(&mut self, slot: usize) {
        let reader = self.readers.slots[slot].as_ref().expect("a reader with a job");
        let Some(Job::Time { at, .. }) = &reader.job else { return };
        let here = reader.segment;
        if let Some(segment) = self.segment_reaching(*at, here)
            && segment > here
        {
            let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
            reader.seek(segment, None, None);
        }
    }

    pub(super) fn time_not_found(&mut self, slot: usize, job: Job, _now: Now) -> bool {
        if let Some(reader) = self.readers.slots[slot].as_mut() {
            reader.dead = true;
        }
        if let Job::Time { id, .. } = job {
            self.events.push_back(LogEvent::LookupDone { id, result: Ok(None) });
        }
        true
    }

    /// Looks for the time in the batch at `position`; true if it was found and the lookup is answered.
    pub(super) fn look_for_time(&mut self, slot: usize, position: u64, facts: &BatchFacts) -> bool {
        let reader = self.readers.slots[slot].as_ref().expect("a reader with a job");
        let Some(Job::Time { id, at, from, exact }) = &reader.job else { return false };
        let (id, at, from, exact) = (*id, *at, *from, *exact);
        if facts.max_timestamp < at || facts.last < from {
            return false;
        }
        let index = self.segment_index(reader.segment).expect("it was looked at");
        let bytes = self.bytes_of(slot, index, position, facts.size as usize);
        let bytes = bytes.expect("it was looked at just now");
        let limit = self.settings.limits.decompressed_bytes;
        let wanted = |timestamp: WallMs, offset: Offset| {
            offset >= from && if exact { timestamp == at } else { timestamp >= at }
        };
        let Some((timestamp, mut offset)) = first_record(&bytes, limit, wanted) else { return false };
        if exact && self.settings.mutant == Mutant::MaxTimeAtBatchEnd {
            offset = facts.last;
        }
        let found = TimestampOffset { timestamp, offset, leader_epoch: facts.leader_epoch };
        self.events.push_back(LogEvent::LookupDone { id, result: Ok(Some(found)) });
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        reader.job = None;
        reader.dead = true;
        true
    }
}

/// The first record of a batch that is wanted. Of a batch whose records cannot be unpacked, none.
fn first_record(
    bytes: &[u8],
    limit: u64,
    wanted: impl Fn(WallMs, Offset) -> bool,
) -> Option<(WallMs, Offset)> {
    let batch = Batch::at(bytes, 0).ok()??;
    let Some(header) = batch.header() else {
        let mut found = None;
        let unpacked = legacy_entries(batch, limit, |entry| {
            if found.is_none() && wanted(entry.timestamp, entry.offset) {
                found = Some((entry.timestamp, entry.offset));
            }
        });
        return unpacked.ok().and(found);
    };
    let fixed = header.attributes().timestamp_type() == TimestampType::LogAppend;
    let mut records = RecordStream::new(bytes, limit).ok()?;
    while let Some(record) = records.next().ok()? {
        let timestamp = if fixed { header.max_timestamp() } else { record.timestamp(header) };
        let offset = record.offset(header);
        if wanted(timestamp, offset) {
            return Some((timestamp, offset));
        }
    }
    None
}

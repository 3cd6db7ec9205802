//! Taking batches in: checked, stamped, copied once into the tail.

use highwater_base::{LeaderEpoch, Mutant, Now, Offset, WallMs};

use super::{Appended, Log, Origin, State};
use crate::batch::{
    ATTRIBUTES, Arrival, Batch, BatchError, Crc32c, Header, Rules, TimestampType, Writer, arrival,
    arrival_unsummed, check_crc, recompress, set_base_offset, set_leader_epoch, stamp,
};
use crate::producers::{Admission, ProducerBatch};
use crate::segment::BatchFacts;
use crate::tail::Place;
use crate::{AppendError, Busy, RecordCheck};

/// What the leader writes into a batch.
#[derive(Clone, Copy)]
struct Stamp {
    first: Offset,
    epoch: LeaderEpoch,
    timestamp_type: TimestampType,
}

impl Log {
    /// Appends whole batches, all or nothing, with one copy into memory and no I/O.
    ///
    /// A client's or a coordinator's is one batch; it is given the next offsets and the leader's epoch. A replica's are
    /// kept as they are. A batch that its idempotent producer sent before is not appended again: the answer
    /// is that of the first time.
    pub fn append(&mut self, now: Now, batches: &[u8], origin: Origin) -> Result<Appended, AppendError> {
        self.ready_to_append()?;
        let appended = match origin {
            Origin::Client { leader_epoch } => self.append_one(now, batches, leader_epoch, Writer::Client),
            Origin::Coordinator { leader_epoch } => {
                self.append_one(now, batches, leader_epoch, Writer::Coordinator)
            }
            Origin::Replica { leader_epoch } => self.append_copies(now, batches, leader_epoch),
        };
        let refused_time = matches!(appended, Err(AppendError::Batch(BatchError::Timestamp { .. })));
        self.refused_times += u64::from(refused_time);
        let appended = appended?;
        if !appended.duplicate {
            self.due |= !self.may_gather();
            self.unsynced_since.get_or_insert(now.mono);
            self.readers.idle_from = None;
            self.resting = false;
        }
        self.debug_invariants();
        Ok(appended)
    }

    fn ready_to_append(&mut self) -> Result<(), AppendError> {
        if let Some(failure) = self.failure() {
            return Err(AppendError::Failed(failure.clone()));
        }
        if let Some(busy) = self.busy() {
            // A truncation that waits for space says so.
            self.has_space()?;
            return Err(AppendError::Busy(busy));
        }
        debug_assert_eq!(self.state, State::Open);
        if !self.is_awake_or_wakes() {
            return Err(AppendError::Busy(Busy::Waking));
        }
        Ok(())
    }

    fn has_space(&self) -> Result<(), AppendError> {
        match self.no_space.as_ref().map(|lack| &lack.error).or(self.room.low()) {
            Some(error) => Err(AppendError::NoSpace { dir: self.dir.clone(), error: error.clone() }),
            None => Ok(()),
        }
    }

    /// Whether so much more may be staged. Asked only of what will be: a duplicate needs no space.
    fn has_room(&self, len: usize) -> Result<(), AppendError> {
        self.has_space()?;
        let staged = self.tail.end().since(self.written.min(self.tail.end())) as usize;
        let limit = self.settings.limits.staged_bytes;
        if staged > 0 && staged + len > limit {
            return Err(AppendError::Backpressure { staged, limit });
        }
        if staged > 0
            && let Some(space) = self.tail.full_space()
        {
            let (staged, limit) = (space.held() as usize, space.limit() as usize);
            return Err(AppendError::Backpressure { staged, limit });
        }
        Ok(())
    }

    fn rules(&self, writer: Writer) -> Rules {
        let settings = &self.settings;
        Rules {
            writer,
            max_message_bytes: settings.max_message_bytes,
            segment_bytes: settings.segment_bytes as usize,
            timestamp_type: settings.timestamps,
            timestamp_before_max_ms: settings.timestamp_before_max_ms,
            timestamp_after_max_ms: settings.timestamp_after_max_ms,
            compacted: self.settings.compaction.is_some(),
            one_batch: writer != Writer::Replica,
            decompressed_bytes: settings.limits.decompressed_bytes,
            check_records: settings.records == RecordCheck::Records,
            mutant: settings.mutant,
        }
    }

    fn append_one(
        &mut self,
        now: Now,
        bytes: &[u8],
        leader_epoch: LeaderEpoch,
        writer: Writer,
    ) -> Result<Appended, AppendError> {
        let latest = self.epochs.latest();
        if leader_epoch < latest {
            return Err(AppendError::StaleEpoch { latest, found: leader_epoch });
        }
        let rules = self.rules(writer);
        // The checksum is compared last, while the bytes are copied: then it costs next to nothing.
        let facts = arrival_unsummed(bytes, &rules, now.wall)?;
        let header = Header::decode(bytes).expect("an accepted batch has a header");
        let append_time = match rules.timestamp_type {
            TimestampType::LogAppend => now.wall,
            TimestampType::Create => WallMs::NONE,
        };
        match self.admit(bytes, &facts, writer) {
            Ok(None) => {}
            other => {
                check_crc(bytes, header, rules.mutant)?;
                return Ok(other?.expect("nothing to append"));
            }
        }
        self.has_room(bytes.len())?;
        let first = self.log_end;
        let last = first.plus(i64::from(facts.last_offset_delta));
        // A coordinator's markers are never compressed.
        let codec = self.settings.compression.filter(|_| writer == Writer::Client).unwrap_or(facts.codec);
        if facts.consecutive && codec == facts.codec {
            let at = Stamp { first, epoch: leader_epoch, timestamp_type: rules.timestamp_type };
            self.stage_stamped(now, bytes, header, &facts, at)?;
        } else {
            // Another codec, or offset deltas with holes inside a compressed batch: packed anew, as Kafka does.
            check_crc(bytes, header, rules.mutant)?;
            let mut packed = recompress(bytes, codec, rules.decompressed_bytes)?;
            let again = arrival(&packed, &rules, now.wall)?;
            stamp(&mut packed, &again, first, leader_epoch, rules.timestamp_type);
            self.stage(now, [&packed, &[]], first, leader_epoch, &again, None)?;
        }
        Ok(Appended { first, last, end: last.plus(1), append_time, duplicate: false })
    }

    /// How many batches were refused since it was opened because a record's time lies too far in the past or the future.
    pub fn refused_times(&self) -> u64 {
        self.refused_times
    }

    /// Stamps and stages one batch whose checksum is still to be compared. Only what lies before the
    /// checksummed part is copied twice, unless timestamps change, and with them the CRC.
    fn stage_stamped(
        &mut self,
        now: Now,
        bytes: &[u8],
        header: Header<'_>,
        facts: &Arrival,
        at: Stamp,
    ) -> Result<(), AppendError> {
        let same_times = at.timestamp_type == TimestampType::Create
            && header.attributes().timestamp_type() == TimestampType::Create
            && header.max_timestamp() == facts.max_timestamp;
        if same_times {
            let (front, summed) = bytes.split_at(ATTRIBUTES);
            let mut stamped = [0; ATTRIBUTES];
            stamped.copy_from_slice(front);
            set_base_offset(&mut stamped, at.first);
            set_leader_epoch(&mut stamped, at.epoch);
            let expected = (self.settings.mutant != Mutant::NoCrc).then(|| header.crc());
            self.stage(now, [&stamped, summed], at.first, at.epoch, facts, expected)
        } else {
            check_crc(bytes, header, self.settings.mutant)?;
            let mut stamped = bytes.to_vec();
            stamp(&mut stamped, facts, at.first, at.epoch, at.timestamp_type);
            self.stage(now, [&stamped, &[]], at.first, at.epoch, facts, None)
        }
    }

    fn append_copies(
        &mut self,
        now: Now,
        bytes: &[u8],
        upto_epoch: LeaderEpoch,
    ) -> Result<Appended, AppendError> {
        self.has_room(bytes.len())?;
        let rules = self.rules(Writer::Replica);
        // All or nothing: everything is checked before anything is staged.
        let (mut position, mut expected, mut latest) = (0, self.log_end, self.epochs.latest());
        let mut count = 0;
        while let Some(batch) = Batch::at(bytes, position).map_err(BatchError::from)? {
            let facts = arrival(&bytes[position..], &rules, now.wall)?;
            if facts.leader_epoch > upto_epoch {
                break;
            }
            if facts.base_offset < expected || facts.last_offset_delta < 0 {
                return Err(AppendError::UnexpectedOffset { expected, found: facts.base_offset });
            }
            if facts.leader_epoch < latest && facts.leader_epoch.is_some() {
                return Err(AppendError::StaleEpoch { latest, found: facts.leader_epoch });
            }
            latest = latest.max(facts.leader_epoch);
            expected = batch.last_offset().plus(1);
            position = batch.end();
            count += 1;
        }
        let (mut position, mut first) = (0, self.log_end);
        for number in 0..count {
            let unchecked = Rules { mutant: Mutant::NoCrc, ..rules };
            let facts = arrival(&bytes[position..], &unchecked, now.wall)?;
            if number == 0 {
                first = facts.base_offset;
            }
            let batch = &bytes[position..position + facts.size];
            self.admitted = if facts.producer_id.is_some() {
                Batch::at(batch, 0).ok().flatten().and_then(ProducerBatch::of)
            } else {
                None
            };
            self.stage(now, [batch, &[]], facts.base_offset, facts.leader_epoch, &facts, None)?;
            position += facts.size;
        }
        let end = self.log_end;
        Ok(Appended { first, last: end.plus(-1), end, append_time: WallMs::NONE, duplicate: count == 0 })
    }

    /// Puts a batch at the end: roll if due, tail, segment, indexes, epochs, producers. The first part goes at least to its attributes.
    /// With a checksum to `expect`, that of the second part is compared while it is copied, and nothing is appended if it differs.
    fn stage(
        &mut self,
        now: Now,
        parts: [&[u8]; 2],
        first: Offset,
        epoch: LeaderEpoch,
        arrived: &Arrival,
        expect: Option<u32>,
    ) -> Result<(), AppendError> {
        let last = first.plus(i64::from(arrived.last_offset_delta));
        let facts = BatchFacts {
            size: arrived.size as u64,
            first,
            last,
            max_timestamp: arrived.max_timestamp,
            leader_epoch: epoch,
        };
        let mut expect = expect;
        if let Some(base) = self.roll_due(now, &facts) {
            // A roll is for good: none for a batch that is then refused.
            if let Some(expected) = expect.take() {
                let mut sum = Crc32c::new();
                sum.update(parts[1]);
                same_sum(expected, sum)?;
            }
            self.roll(now, base);
        }
        let at = self.tail.end();
        self.tail.stage(parts[0], |_| ());
        match expect {
            None => self.tail.stage(parts[1], |_| ()),
            Some(expected) => {
                let mut sum = Crc32c::new();
                self.tail.stage(parts[1], |piece| sum.update(piece));
                if let Err(differs) = same_sum(expected, sum) {
                    self.tail.discard(at);
                    return Err(differs.into());
                }
            }
        }
        self.tail.commit();
        self.tail.mark(at, first);
        self.begin_epoch(epoch, first);
        let segment = self.segments.back_mut().expect("a log that serves has a segment");
        segment.push(&facts, parts[0]);
        self.log_end = last.plus(1);
        self.note_end(self.tail.end(), self.log_end);
        self.note_producer(arrived, first, last);
        Ok(())
    }

    /// Whether the batch's producer may append it; the earlier append if it has done so before.
    fn admit(
        &mut self,
        bytes: &[u8],
        facts: &Arrival,
        writer: Writer,
    ) -> Result<Option<Appended>, AppendError> {
        self.admitted = None;
        if !facts.producer_id.is_some() {
            return Ok(None);
        }
        let Ok(Some(batch)) = Batch::at(bytes, 0) else { return Ok(None) };
        let Some(batch) = ProducerBatch::of(batch) else { return Ok(None) };
        match self.producers.check(&batch, writer)? {
            Admission::Append => {
                self.admitted = Some(batch);
                Ok(None)
            }
            Admission::Duplicate { first_offset, last_offset, timestamp } => Ok(Some(Appended {
                first: first_offset,
                last: last_offset,
                end: last_offset.plus(1),
                append_time: timestamp,
                duplicate: true,
            })),
        }
    }

    /// The producer of a batch that was appended is remembered with the offsets it was given.
    fn note_producer(&mut self, arrived: &Arrival, first: Offset, last: Offset) {
        let Some(batch) = self.admitted.take() else { return };
        let batch = ProducerBatch {
            first_offset: first,
            last_offset: last,
            timestamp: arrived.max_timestamp,
            ..batch
        };
        if let Some(aborted) = self.producers.apply(&batch)
            && let Some(segment) = self.segments.back_mut()
        {
            segment.aborted.push(aborted);
        }
    }

    /// The producers' state in file format, if there is any.
    pub(super) fn producer_snapshot(&self) -> Option<Vec<u8>> {
        (!self.producers.is_empty()).then(|| self.producers.snapshot())
    }

    /// Notes where a batch ends. Two ends in one block of which nothing is submitted become known together, so one
    /// is kept.
    fn note_end(&mut self, place: Place, end: Offset) {
        if let Some(last) = self.ends.back_mut()
            && last.0 > self.submitted
            && last.0.block_ceil() == place.block_ceil()
        {
            *last = (place, end);
        } else {
            self.ends.push_back((place, end));
        }
    }
}

fn same_sum(expected: u32, sum: Crc32c) -> Result<(), BatchError> {
    let found = sum.finish();
    if found == expected { Ok(()) } else { Err(BatchError::Checksum { expected, found }) }
}

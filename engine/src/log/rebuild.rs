//! One segment of a recovery: walked, judged, and made whole. The only code that cuts a log because of what it found.

use highwater_base::{FilePos, Mutant, Offset, WallMs};
use highwater_io::{FileId, OpenHow, Park};

use super::Log;
use super::open::{OnDisk, open_file, read_at, read_file, run};
use super::recover::{Next, Plan, Proof};
use super::script::Step;
use crate::OpenError;
use crate::batch::Batch;
use crate::index::{AbortedTxn, IndexBuilder, OFFSET_ENTRY_BYTES, OffsetIndex, TIME_ENTRY_BYTES, TxnIndex};
use crate::layout::FileKind;
use crate::producers::{ProducerBatch, Producers};
use crate::recovery::{RecoveryReport, Stop, Triage, WalkRules, Window, walk};
use crate::seal::SealBuilder;
use crate::segment::{BatchFacts, Largest, Phase, Sealed, Segment};

/// What a walk gathers of a segment.
pub(super) struct Gathered {
    pub(super) index: IndexBuilder,
    /// Made only if every byte is seen.
    pub(super) seal: Option<SealBuilder>,
    pub(super) largest: Largest,
    pub(super) first_timestamp: Option<WallMs>,
    pub(super) aborted: Vec<AbortedTxn>,
    /// Producers see batches from this offset on.
    pub(super) producers_from: Offset,
}

impl Gathered {
    /// The segment up to `at`.
    fn segment(&mut self, file: OnDisk, at: (u64, Offset)) -> Segment {
        let mut segment = Segment::new(file.base, file.modified_ms, Phase::Sealed(Sealed::default()));
        (segment.size, segment.end) = at;
        segment.largest = self.largest;
        segment.aborted = std::mem::take(&mut self.aborted);
        segment
    }

    fn see(&mut self, producers: &mut Producers, position: u64, facts: &BatchFacts, batch: Batch<'_>) {
        self.index.push(facts.last, FilePos::new(position), facts.size, facts.max_timestamp);
        self.largest.see(facts.max_timestamp, facts.last);
        if let Some(seal) = &mut self.seal {
            let (first, last) = (facts.first, facts.last);
            seal.batch(batch.bytes(), facts.size, first, last, facts.leader_epoch, facts.max_timestamp);
        }
        if position == 0 {
            self.first_timestamp = Some(facts.max_timestamp);
        }
        if facts.last >= self.producers_from
            && let Some(batch) = ProducerBatch::of(batch)
            && let Some(aborted) = producers.apply(&batch)
            && self.aborted.last().is_none_or(|last| last.last_offset < aborted.last_offset)
        {
            self.aborted.push(aborted);
        }
    }
}

impl Log {
    /// Walks a segment's file, judges what it finds and puts the segment into the log.
    #[allow(clippy::too_many_arguments)] // One caller, which goes from segment to segment.
    pub(super) fn recover_segment(
        &mut self,
        io: &mut dyn Park,
        found: &Triage,
        on_disk: &[OnDisk],
        number: usize,
        plan: Plan,
        proof: Option<Proof>,
        report: &mut RecoveryReport,
    ) -> Result<Next, OpenError> {
        let OnDisk { base, len, .. } = on_disk[number];
        let is_last = number + 1 == on_disk.len();
        let limit = on_disk.get(number + 1).map_or(Offset::MAX, |next| next.base);
        let file = open_file(io, self.path(FileKind::Log, base), OpenHow::Write, self.settings.direct)?;
        let mut window = Window::new(file, len, self.settings.limits.read_bytes);
        let checkpointed = proof.map_or(0, |proof| proof.of(number, len));
        // A seal is written once its segment is synced, the marker of a clean stop (Kafka's too) once everything is.
        let sealed = self.binding_seal(io, found, on_disk[number])?;
        let proven = if sealed.is_some() || plan.clean { len } else { checkpointed };
        sealed.iter().for_each(|seal| self.note_missing(base, seal, limit, report));
        // What an index says of bytes that nobody proved may be of other bytes.
        let trusted = checkpointed > 0 || (plan.clean && proof.is_none() && is_last);
        let resumes = number >= plan.index_from && trusted;
        let (mut gathered, mut at) =
            self.begin_gathering(io, found, base, resumes, checkpointed, proof, plan, &mut window)?;
        // So far a checkpoint, or a clean stop, says that the epochs on disk are right.
        let (start, known) = (self.log_start, if plan.clean { len } else { checkpointed });
        let outcome = loop {
            let end = if at.0 < checkpointed { checkpointed } else { len };
            let end_offset = proof.and_then(|proof| proof.offset_at(number, end));
            let epochs = std::mem::take(&mut self.epochs);
            let mut assigned = epochs.clone();
            let rules = WalkRules {
                base,
                limit,
                epochs: (at.0 < checkpointed && !plan.epochs_lost).then_some(&epochs),
                mutant: self.settings.mutant,
                end_offset,
            };
            let producers = &mut self.producers;
            let walked = walk(io, &mut window, at, end, &rules, |position, facts, batch| {
                gathered.see(producers, position, facts, batch);
                assigned.believe(facts.leader_epoch, facts.first.max(start), position < known);
            });
            self.epochs_dirty |= assigned != epochs;
            self.epochs = assigned;
            let walked = walked?;
            at = (walked.position, walked.next);
            if walked.stop == Stop::Bad
                && let Some(split) = self.overreach(io, &mut window, on_disk, number, at)?
            {
                return self.split(io, file, window, found, on_disk, number, split);
            }
            match walked.stop {
                Stop::Reached if end == checkpointed && end_offset.is_some_and(|offset| offset != at.1) => {
                    return void(io, file);
                }
                Stop::Reached if end == len => {
                    break self.behind(io, on_disk, number, at.1, proof, &sealed)?;
                }
                Stop::Reached => {}
                Stop::Overrun => return void(io, file),
                Stop::Bad if at.0 < proven => {
                    gathered.seal = None;
                    let until = sealed.as_ref().map_or(limit, |seal| seal.last_offset.plus(1).min(limit));
                    at = self.quarantine_proven(io, &mut window, base, at, proven, until, proof, report)?;
                }
                // Behind a hole that is kept it goes on.
                Stop::Bad => match self.judge_end(io, &mut window, on_disk, number, at, proof, report)? {
                    Some(resumed) => {
                        gathered.seal = None;
                        at = resumed;
                        if at.0 >= len {
                            break Next::Go;
                        }
                    }
                    None => {
                        let follows = self.follows(io, on_disk, number, at.1)?;
                        break if follows && !self.was_cut(report, base) { Next::Go } else { Next::End };
                    }
                },
            }
        };
        report.scanned_bytes += window.read;
        self.rewrite(io, &mut window, file, proven.min(at.0), at.0)?;
        if self.settings.mutant == Mutant::TxnIndexNotRebuilt {
            gathered.aborted.clear();
        }
        let mut segment = gathered.segment(on_disk[number], at);
        self.log_end = at.1;
        if is_last || matches!(outcome, Next::End) {
            self.keep_active(io, found, segment, gathered, file, report)?;
        } else {
            segment.end = limit;
            self.keep_sealed(io, found, segment, gathered, file, len, number >= plan.index_from, report)?;
        }
        Ok(outcome)
    }

    pub(super) fn was_cut(&self, report: &RecoveryReport, base: Offset) -> bool {
        let path = self.path(FileKind::Log, base);
        report.findings.iter().any(|finding| finding.file == path && finding.is_cut())
    }

    /// Where the walk begins: at the last index entry before the proof, if the index can be believed, else at 0.
    #[allow(clippy::too_many_arguments)] // One caller.
    fn begin_gathering(
        &mut self,
        io: &mut dyn Park,
        found: &Triage,
        base: Offset,
        resumes: bool,
        proven: u64,
        proof: Option<Proof>,
        plan: Plan,
        window: &mut Window,
    ) -> Result<(Gathered, (u64, Offset)), OpenError> {
        let interval = self.settings.index_interval_bytes;
        let mut gathered = Gathered {
            index: IndexBuilder::new(base, interval),
            seal: Some(SealBuilder::new()),
            largest: Largest::NONE,
            first_timestamp: None,
            aborted: Vec::new(),
            producers_from: match self.settings.mutant {
                Mutant::ProducersNotReplayed => Offset::MAX,
                _ => plan.producers_from,
            },
        };
        let start = (0, base);
        // Markers before that offset are not applied.
        gathered.aborted = self.aborted_on_disk(io, found, base, plan.producers_from)?;
        // Producers whose snapshot ends here or earlier are told of every batch of this segment.
        if !resumes || plan.epochs_lost || plan.producers_from <= base {
            return Ok((gathered, start));
        }
        let offsets = read_file(io, &self.path(FileKind::OffsetIndex, base))?.unwrap_or_default();
        let times = read_file(io, &self.path(FileKind::TimeIndex, base))?.unwrap_or_default();
        let view = OffsetIndex::new(&offsets, base);
        let end = match proof {
            Some(proof) if proven > 0 => proof.offset,
            Some(_) | None => Offset::MAX,
        };
        let mut entry = None;
        if view.check().is_ok() && crate::index::TimeIndex::new(&times, base).check().is_ok() {
            entry = view.entries().take_while(|entry| entry.offset < end).last();
        }
        // Producers may have to be followed from further back.
        if plan.producers_from > base {
            entry = entry.and_then(|last| view.floor(last.offset.min(plan.producers_from)));
        }
        let Some(entry) = entry.filter(|entry| entry.position.get() < window.len()) else {
            return Ok((gathered, start));
        };
        // A hint: the batch found there must be the one that the entry names.
        let position = entry.position.get();
        let prefix = window.bytes(io, position, crate::batch::MAGIC_PREFIX)?;
        let size = prefix
            .first_chunk()
            .and_then(|prefix| crate::batch::Batch::size_from_prefix(prefix, 0).ok())
            .filter(|size| *size as u64 <= window.len() - position);
        let Some(size) = size else { return Ok((gathered, start)) };
        let bytes = window.bytes(io, position, size)?;
        let Ok(Some(batch)) = Batch::at(bytes, 0) else { return Ok((gathered, start)) };
        let sound = self.settings.mutant == Mutant::NoCrc || batch.crc_matches();
        let facts = crate::segment::facts_of(batch);
        if !sound || facts.last != entry.offset || facts.first < base {
            return Ok((gathered, start));
        }
        let keep = (view.len_below(entry.offset) + 1) * OFFSET_ENTRY_BYTES;
        let kept_times =
            crate::index::TimeIndex::new(&times, base).len_below(entry.offset.plus(1)) * TIME_ENTRY_BYTES;
        gathered.index = IndexBuilder::resume(base, interval, &offsets[..keep], &times[..kept_times]);
        gathered.largest = Largest {
            timestamp: gathered.index.max_timestamp(),
            offset: gathered.index.max_timestamp_offset(),
        };
        gathered.seal = None;
        if position > 0 {
            gathered.first_timestamp = self.first_timestamp_on_disk(io, base, proof)?;
        }
        if facts.first > plan.producers_from {
            gathered.aborted = self.aborted_on_disk(io, found, base, facts.first)?;
        }
        Ok((gathered, (position, facts.first)))
    }

    /// What a segment's transaction index says of markers before `end`.
    fn aborted_on_disk(
        &self,
        io: &mut dyn Park,
        found: &Triage,
        base: Offset,
        end: Offset,
    ) -> Result<Vec<AbortedTxn>, OpenError> {
        if end <= base || !found.has(FileKind::TxnIndex, base) {
            return Ok(Vec::new());
        }
        let bytes = read_file(io, &self.path(FileKind::TxnIndex, base))?.unwrap_or_default();
        let txns = TxnIndex::new(&bytes);
        let keep = if txns.check(base).is_ok() { txns.len_below(end) } else { 0 };
        Ok(txns.entries().map(|(_, aborted)| aborted).take(keep).collect())
    }

    fn first_timestamp_on_disk(
        &self,
        io: &mut dyn Park,
        base: Offset,
        proof: Option<Proof>,
    ) -> Result<Option<WallMs>, OpenError> {
        if proof.is_some()
            && let Some(last) = self.checkpoint.last
            && last.segment == base
        {
            return Ok(Some(last.first_timestamp));
        }
        let head = read_at(io, self.path(FileKind::Log, base), 0, crate::batch::HEADER_BYTES)?;
        Ok(crate::batch::Header::decode(&head).map(|header| header.max_timestamp()))
    }
}

/// The file is not the one that the checkpoint is of.
fn void(io: &mut dyn Park, file: FileId) -> Result<Next, OpenError> {
    run(io, [Step::Adopt(file), Step::Close])?;
    Ok(Next::Void)
}

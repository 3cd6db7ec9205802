//! One segment of a recovery: walked, judged, and made whole. The only code that cuts a log because of what it found.

use std::path::PathBuf;

use highwater_base::{BLOCK, FilePos, Offset, WallMs};
use highwater_io::{FileId, OpenHow, Park};

use super::Log;
use super::open::{OnDisk, open_file, read_at, read_file, run};
use super::recover::{Next, Plan, Proof};
use super::script::{Step, replace_file, write_file};
use crate::OpenError;
use crate::batch::{Batch, MAGIC_PREFIX};
use crate::index::{AbortedTxn, IndexBuilder, OFFSET_ENTRY_BYTES, OffsetIndex, TIME_ENTRY_BYTES};
use crate::layout::{FileKind, FileName, FileState};
use crate::producers::{ProducerBatch, Producers};
use crate::recovery::{
    Act, Behind, Damage, Evidence, Place as Where, RecoveryReport, Rest, Search, Stop, Triage, WalkRules,
    Window, act, diagnose, search, walk,
};
use crate::seal::SealBuilder;
use crate::segment::{BatchFacts, Largest, Live, Name, Phase, Sealed, Segment};
use crate::tail::{Place, Tail};

/// What a walk gathers of a segment.
struct Gathered {
    index: IndexBuilder,
    /// Made only if every byte is seen.
    seal: Option<SealBuilder>,
    largest: Largest,
    first_timestamp: Option<WallMs>,
    aborted: Vec<AbortedTxn>,
    /// Producers see batches from this offset on.
    producers_from: Offset,
}

impl Gathered {
    fn see(&mut self, producers: &mut Producers, position: u64, facts: &BatchFacts, batch: Batch<'_>) {
        self.index.push(facts.last, FilePos::new(position), facts.size, facts.max_timestamp);
        self.largest.see(facts.max_timestamp, facts.last);
        if let Some(seal) = &mut self.seal {
            seal.bytes(batch.bytes());
            seal.batch(facts.first, facts.last, facts.leader_epoch, facts.max_timestamp);
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
        let OnDisk { base, len, modified_ms } = on_disk[number];
        let is_last = number + 1 == on_disk.len();
        let limit = on_disk.get(number + 1).map_or(Offset::MAX, |next| next.base);
        let file = open_file(io, self.path(FileKind::Log, base), OpenHow::Write, self.settings.direct)?;
        let mut window = Window::new(file, len, self.settings.limits.read_bytes);
        let proven = match proof {
            Some(proof) if number < proof.segment => len,
            Some(proof) if number == proof.segment => proof.position,
            Some(_) | None => 0,
        };
        // What an index says of bytes that nobody proved may be of other bytes.
        let trusted = proven > 0 || (plan.clean && proof.is_none() && is_last);
        let resumes = number >= plan.index_from && trusted;
        let (mut gathered, mut at) =
            self.begin_gathering(io, found, base, resumes, proven, proof, plan, &mut window)?;
        let outcome = loop {
            let end = if at.0 < proven { proven } else { len };
            let end_offset = proof.and_then(|proof| proof.offset_at(number, end));
            let epochs = std::mem::take(&mut self.epochs);
            let mut assigned = epochs.clone();
            let rules = WalkRules {
                base,
                limit,
                epochs: (at.0 < proven).then_some(&epochs),
                mutant: self.settings.mutant,
                end_offset,
            };
            let producers = &mut self.producers;
            let walked = walk(io, &mut window, at, end, &rules, |position, facts, batch| {
                gathered.see(producers, position, facts, batch);
                if facts.leader_epoch > assigned.latest() {
                    assigned.assign(facts.leader_epoch, facts.first);
                }
            });
            self.epochs_dirty |= assigned != epochs;
            self.epochs = assigned;
            let walked = walked?;
            at = (walked.position, walked.next);
            match walked.stop {
                Stop::Reached if end == proven && end_offset.is_some_and(|offset| offset != at.1) => {
                    run(io, [Step::Adopt(file), Step::Close])?;
                    return Ok(Next::Void);
                }
                // Ours follow each other without a gap; of Kafka's, compacted ones do not.
                Stop::Reached if end == len => {
                    let gap =
                        proof.is_some() && on_disk.get(number + 1).is_some_and(|next| next.base != at.1);
                    let unproven = proof.is_some_and(|proof| number >= proof.segment);
                    break if gap && unproven { Next::End } else { Next::Go };
                }
                Stop::Reached => {}
                Stop::Overrun => {
                    run(io, [Step::Adopt(file), Step::Close])?;
                    return Ok(Next::Void);
                }
                Stop::Bad if at.0 < proven => {
                    gathered.seal = None;
                    at = self.quarantine_proven(io, &mut window, base, at, proven, limit, proof, report)?;
                }
                Stop::Bad => match self.judge_end(io, &mut window, on_disk, number, at, proof, report)? {
                    // Behind a hole that is kept.
                    Some(resumed) => {
                        gathered.seal = None;
                        at = resumed;
                        if at.0 >= len {
                            break Next::Go;
                        }
                    }
                    None => {
                        let follows = on_disk.get(number + 1).is_some_and(|next| next.base == at.1);
                        break if follows && !self.was_cut(report, base) { Next::Go } else { Next::End };
                    }
                },
            }
        };
        self.rewrite(io, &mut window, file, proven.min(at.0), at.0)?;
        report.scanned_bytes += window.read;
        let mut segment = Segment::new(base, modified_ms, Phase::Sealed(Sealed::default()));
        segment.size = at.0;
        segment.end = at.1;
        segment.largest = gathered.largest;
        segment.aborted = std::mem::take(&mut gathered.aborted);
        self.log_end = at.1;
        if is_last || matches!(outcome, Next::End) {
            self.keep_active(io, found, segment, gathered, file, report)?;
        } else {
            segment.end = limit;
            self.keep_sealed(io, found, segment, gathered, file, len, number >= plan.index_from, report)?;
        }
        Ok(outcome)
    }

    /// Writes again what is valid and not proven. After a failed sync the cache shows bytes that the disk never got, and
    /// the next sync has nothing to say about them (the "fsyncgate" of 2018); a new process cannot tell, so it makes
    /// sure. Amounts that no crash of ours leaves behind are another program's, and are left to it.
    fn rewrite(
        &self,
        io: &mut dyn Park,
        window: &mut Window,
        file: FileId,
        from: u64,
        to: u64,
    ) -> Result<(), OpenError> {
        let mut at = from / BLOCK * BLOCK;
        if to - from > REWRITE_BYTES {
            return Ok(());
        }
        while at < to {
            let len = ((to - at) as usize).min(self.settings.limits.write_bytes);
            let padded = len.next_multiple_of(BLOCK as usize);
            let mut buffer = io.buffer(padded);
            // Up to the block's end it is as it was, zeros or not.
            let bytes = window.bytes(io, at, padded)?;
            let spare = &mut buffer.spare_mut()[..padded];
            spare.fill(0);
            spare[..bytes.len()].copy_from_slice(bytes);
            buffer.set_len(padded);
            run(io, [Step::Adopt(file), Step::Write { at: FilePos::new(at), data: buffer.freeze() }])?;
            at += padded as u64;
        }
        Ok(())
    }

    fn was_cut(&self, report: &RecoveryReport, base: Offset) -> bool {
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
            producers_from: plan.producers_from,
        };
        let start = (0, base);
        if !resumes || plan.producers_from < self.segments.back().map_or(base, |last| last.end).min(base) {
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
        let sound = self.settings.mutant == highwater_base::Mutant::NoCrc || batch.crc_matches();
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
        let txns = if found.has(FileKind::TxnIndex, base) {
            read_file(io, &self.path(FileKind::TxnIndex, base))?.unwrap_or_default()
        } else {
            Vec::new()
        };
        let txns = crate::index::TxnIndex::new(&txns);
        if txns.check(base).is_ok() {
            gathered.aborted = txns
                .entries()
                .map(|(_, aborted)| aborted)
                .take_while(|a| a.last_offset < facts.first)
                .collect();
        }
        Ok((gathered, (position, facts.first)))
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

    /// Bad bytes before the proven synced end are rot: kept, refused, passed over.
    #[allow(clippy::too_many_arguments)] // One caller.
    fn quarantine_proven(
        &mut self,
        io: &mut dyn Park,
        window: &mut Window,
        base: Offset,
        at: (u64, Offset),
        proven: u64,
        limit: Offset,
        proof: Option<Proof>,
        report: &mut RecoveryReport,
    ) -> Result<(u64, Offset), OpenError> {
        let how = Search { least: at.1, reach: 0, distance: 0, mutant: self.settings.mutant };
        let good = search(io, window, at.0 + 1, how)?.first.filter(|(position, _)| *position < proven);
        let until = match (good, proof) {
            (Some(good), _) => good,
            (None, Some(proof)) if self.segments.len() == proof.segment => (proven, proof.offset),
            (None, _) => (proven, limit),
        };
        self.quarantine.add(Damage {
            segment: base,
            position: FilePos::new(at.0),
            position_end: FilePos::new(until.0),
            from: at.1,
            until: until.1.max(at.1.plus(1)),
        });
        let verdict = diagnose(Evidence {
            rest: Rest::Bytes,
            place: Where::Proven,
            behind: if good.is_some() { Behind::Near } else { Behind::Nothing },
            bounded: true,
        });
        self.note(report, base, at.0, until.0 - at.0, verdict, None);
        Ok(until)
    }

    /// Bad bytes, or the end, beyond what is proven: judged by what lies behind. Gives where to go on if they are kept;
    /// otherwise the log ends here, and is cut here if need be.
    #[allow(clippy::too_many_arguments)] // One caller.
    fn judge_end(
        &mut self,
        io: &mut dyn Park,
        window: &mut Window,
        on_disk: &[OnDisk],
        number: usize,
        at: (u64, Offset),
        proof: Option<Proof>,
        report: &mut RecoveryReport,
    ) -> Result<Option<(u64, Offset)>, OpenError> {
        let base = on_disk[number].base;
        let mutant = self.settings.mutant;
        let reach = match proof.map_or(0, |proof| proof.reach) {
            0 => self.settings.limits.unsynced_bytes as u64,
            reach => reach,
        };
        // The reach is counted from the first byte that was not synced, which may be any byte of the bad batch.
        let head = window.bytes(io, at.0, MAGIC_PREFIX)?;
        let bad = head.first_chunk().and_then(|prefix| Batch::size_from_prefix(prefix, 0).ok()).unwrap_or(0);
        let reach = reach + bad.max(MAGIC_PREFIX) as u64;
        // The first bad byte may be the last of the batch that begins here, if its length can be believed.
        let prefix = window.bytes(io, at.0, crate::batch::MAGIC_PREFIX)?;
        let claimed = prefix.first_chunk().and_then(|prefix| Batch::size_from_prefix(prefix, 0).ok());
        let claimed = claimed.map_or(0, |size| size as u64).min(window.len() - at.0);
        let how = Search { least: at.1, reach: reach + claimed, distance: 0, mutant };
        let here = search(io, window, at.0, Search { least: at.1.plus(1).min(Offset::MAX), ..how })?;
        let mut behind = here.behind;
        let mut rest = here.rest;
        // What was prepared and not used does not count.
        let mut distance = here.data_end.saturating_sub(at.0);
        let follows = on_disk.get(number + 1).is_some_and(|next| next.base == at.1);
        if !(follows && rest == Rest::Zeros) {
            for later in &on_disk[number + 1..] {
                let path = self.path(FileKind::Log, later.base);
                let file = open_file(io, path, OpenHow::Read, self.settings.direct)?;
                let mut window = Window::new(file, later.len, self.settings.limits.read_bytes);
                let there = search(io, &mut window, 0, Search { distance, ..how });
                report.scanned_bytes += window.read;
                run(io, [Step::Adopt(file), Step::Close])?;
                let there = there?;
                behind = behind.max(there.behind);
                rest = rest.max(there.rest);
                distance += there.data_end;
            }
        }
        let bounded = proof.is_some_and(|proof| proof.reach > 0);
        let verdict = diagnose(Evidence { rest, place: Where::Unproven, behind, bounded });
        let bytes = here.data_end.max(at.0) - at.0;
        match act(verdict) {
            Act::None => Ok(None),
            Act::Cut => {
                self.note(report, base, at.0, bytes, verdict, None);
                report.cut_bytes += bytes;
                Ok(None)
            }
            Act::KeepAndCut => {
                let kept = self.keep_aside(io, window, base, at.0, here.data_end, &on_disk[number + 1..])?;
                self.note(report, base, at.0, bytes, verdict, Some(kept));
                report.cut_bytes += bytes + on_disk[number + 1..].iter().map(|later| later.len).sum::<u64>();
                Ok(None)
            }
            Act::Quarantine => {
                let limit = on_disk.get(number + 1).map_or(Offset::MAX, |next| next.base);
                let until = here.first.unwrap_or((here.data_end.max(at.0 + 1).min(window.len()), limit));
                self.quarantine.add(Damage {
                    segment: base,
                    position: FilePos::new(at.0),
                    position_end: FilePos::new(until.0),
                    from: at.1,
                    until: until.1,
                });
                self.note(report, base, at.0, until.0 - at.0, verdict, None);
                Ok(Some(if here.first.is_some() { until } else { (window.len(), limit) }))
            }
        }
    }

    /// Copies what is about to be cut to files that Kafka's loader and ours pass over.
    fn keep_aside(
        &self,
        io: &mut dyn Park,
        window: &mut Window,
        base: Offset,
        from: u64,
        to: u64,
        later: &[OnDisk],
    ) -> Result<PathBuf, OpenError> {
        let name = |base: Offset, from: u64| self.dir.join(format!("highwater.cut.{base}.{from}"));
        let kept = name(base, from);
        let mut steps = vec![Step::Open { path: kept.clone(), how: OpenHow::CreateOrEmpty, direct: false }];
        let mut at = from;
        while at < to {
            let piece = window.bytes(io, at, ((to - at) as usize).min(1 << 20))?.to_vec();
            if piece.is_empty() {
                break;
            }
            let len = piece.len() as u64;
            steps.push(Step::Write { at: FilePos::new(at - from), data: piece.into() });
            at += len;
        }
        steps.extend([Step::Sync, Step::Close]);
        for later in later {
            steps.push(Step::Rename { from: self.path(FileKind::Log, later.base), to: name(later.base, 0) });
        }
        steps.push(Step::SyncDir { path: self.dir.clone() });
        run(io, steps)?;
        Ok(kept)
    }

    /// A segment that has successors: its indexes and seal are as if it had been sealed in time.
    #[allow(clippy::too_many_arguments)] // One caller.
    fn keep_sealed(
        &mut self,
        io: &mut dyn Park,
        found: &Triage,
        segment: Segment,
        mut gathered: Gathered,
        file: FileId,
        len: u64,
        rebuilt: bool,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let base = segment.base;
        let mut steps = vec![Step::Adopt(file)];
        let mut changed = false;
        if rebuilt {
            // It was read, and perhaps written again, in whole blocks.
            steps.push(Step::Truncate { len: segment.size });
            changed = len != segment.size;
            // It was not proven, and nobody may have synced it.
            steps.push(Step::Sync);
        }
        steps.push(Step::Close);
        if rebuilt {
            gathered.index.finish();
            let aborted = segment.aborted_bytes();
            for (kind, bytes) in [
                (FileKind::OffsetIndex, Some(gathered.index.offset_bytes().to_vec())),
                (FileKind::TimeIndex, Some(gathered.index.time_bytes().to_vec())),
                (FileKind::TxnIndex, aborted),
            ] {
                let path = self.path(kind, base);
                let there = if found.has(kind, base) { read_file(io, &path)? } else { None };
                match bytes {
                    Some(bytes) if there.as_ref() != Some(&bytes) => steps.extend(write_file(path, bytes)),
                    Some(_) => continue,
                    None if there.is_some() => steps.push(Step::Unlink { path }),
                    None => continue,
                }
                changed = true;
            }
            // The producers are those of this segment's end: a later truncation begins from there.
            let next = segment.end;
            if gathered.producers_from <= next
                && !self.producers.is_empty()
                && !self.snapshots.contains(&next)
            {
                steps.extend(replace_file(self.path(FileKind::Snapshot, next), self.producers.snapshot()));
                self.snapshots.push(next);
                self.snapshots.sort_unstable();
                changed = true;
            }
            let sealed = self.seal_on_disk(io, found, base)?;
            let fits = sealed.as_ref().is_some_and(|seal| {
                seal.state(WallMs::new(segment.modified_ms)) == crate::seal::SealState::Binding
                    && seal.length.get() == segment.size
            });
            let whole = gathered.seal.as_ref().is_some_and(|seal| seal.length().get() == segment.size);
            if !fits && whole {
                // The seal notes the time of the last change, so that comes first.
                steps.push(Step::Stat { path: self.path(FileKind::Log, base) });
                let script = run(io, std::mem::take(&mut steps))?;
                let modified = WallMs::new(script.modified_ms());
                let seal = gathered.seal.take().expect("checked above").finish(modified);
                steps.extend(write_file(self.path(FileKind::Seal, base), seal.encode()));
                changed = true;
            } else if !fits && sealed.is_some() {
                steps.push(Step::Unlink { path: self.path(FileKind::Seal, base) });
                changed = true;
            }
        }
        if changed {
            steps.push(Step::SyncDir { path: self.dir.clone() });
            report.changed = true;
        }
        run(io, steps)?;
        self.segments.push_back(segment);
        Ok(())
    }

    /// The last segment: it is written to from now on.
    fn keep_active(
        &mut self,
        io: &mut dyn Park,
        found: &Triage,
        mut segment: Segment,
        gathered: Gathered,
        file: FileId,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let (base, size) = (segment.base, segment.size);
        let cut = self.was_cut(report, base);
        let Some(on_disk) = stat_len(io, self.path(FileKind::Log, base))? else {
            return Err(highwater_io::IoError::of(
                highwater_io::ErrorKind::NotFound,
                "stat",
                base.to_string(),
            )
            .into());
        };
        let mut steps = vec![Step::Adopt(file)];
        // A segment that is written to has no seal.
        if found.has(FileKind::Seal, base) {
            steps.push(Step::Unlink { path: self.path(FileKind::Seal, base) });
            steps.push(Step::SyncDir { path: self.dir.clone() });
            report.changed = true;
        }
        let floor = size / BLOCK * BLOCK;
        if size > floor {
            steps.push(Step::Read { at: FilePos::new(floor), len: (size - floor) as usize });
        }
        let mut prepared = on_disk;
        if cut {
            // To the byte first, so that nothing of what was there comes back.
            steps.push(Step::Truncate { len: size });
            prepared = size;
            report.changed = true;
        }
        if !prepared.is_multiple_of(BLOCK) {
            prepared = prepared.next_multiple_of(BLOCK);
            steps.push(Step::Truncate { len: prepared });
        }
        steps.push(Step::Sync);
        let script = run(io, steps)?;
        let mut live = Live::new(
            Place::ZERO,
            base,
            self.settings.index_interval_bytes,
            WallMs::new(segment.modified_ms),
        );
        let place = Place::ZERO.plus(size);
        live.file = Some(file);
        live.name = Name::Durable;
        live.prepared = prepared;
        live.opened_size = size;
        live.step = if prepared > size { self.settings.limits.prepare_min_bytes } else { 0 };
        live.synced = place;
        live.synced_end = segment.end;
        live.first_timestamp = gathered.first_timestamp;
        live.seal = gathered.seal.filter(|seal| seal.length().get() == size);
        live.index = gathered.index;
        live.indexed_on_disk = self.settle_index_files(io, found, base, &live.index)?;
        segment.phase = Phase::Live(Box::new(live));
        let end = segment.end;
        self.segments.push_back(segment);
        self.tail = Tail::new(Place::ZERO, place, script.data(), &self.settings.limits);
        self.reset_places(place, end);
        Ok(())
    }

    /// Index files of the active segment keep what agrees with the index in memory; the rest is written by and by.
    fn settle_index_files(
        &self,
        io: &mut dyn Park,
        found: &Triage,
        base: Offset,
        index: &IndexBuilder,
    ) -> Result<(usize, usize), OpenError> {
        let mut settled = [0, 0];
        let mut steps = Vec::new();
        for (i, (kind, bytes, entry)) in [
            (FileKind::OffsetIndex, index.offset_bytes(), OFFSET_ENTRY_BYTES),
            (FileKind::TimeIndex, index.time_bytes(), TIME_ENTRY_BYTES),
        ]
        .into_iter()
        .enumerate()
        {
            if !found.has(kind, base) {
                continue;
            }
            let path = self.path(kind, base);
            let there = read_file(io, &path)?.unwrap_or_default();
            let same = bytes.iter().zip(&there).take_while(|(a, b)| a == b).count() / entry * entry;
            settled[i] = same;
            if there.len() > same {
                steps.extend([
                    Step::Open { path, how: OpenHow::Write, direct: false },
                    Step::Truncate { len: same as u64 },
                    Step::Sync,
                    Step::Close,
                ]);
            }
        }
        run(io, steps)?;
        Ok((settled[0], settled[1]))
    }

    /// Files of segments behind the log's end go.
    pub(super) fn remove_later(
        &mut self,
        io: &mut dyn Park,
        later: &[OnDisk],
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let mut steps = Vec::new();
        for file in later.iter().rev() {
            for kind in super::retain::SEGMENT_FILES {
                let live = FileName::live(kind, file.base);
                let (from, to) = (self.dir.join(live.to_string()), self.deleted_path(kind, file.base));
                debug_assert_eq!(
                    live.with_state(FileState::Deleted).to_string(),
                    to.file_name().unwrap_or_default().to_string_lossy()
                );
                report.removed.push(from.clone());
                steps.extend([Step::RenameIfThere { from, to: to.clone() }, Step::Remove { path: to }]);
            }
        }
        if !steps.is_empty() {
            steps.push(Step::SyncDir { path: self.dir.clone() });
            report.changed = true;
            run(io, steps)?;
        }
        Ok(())
    }

    /// Snapshots beyond the end go; a checkpoint says what was found.
    pub(super) fn finish_recovery(
        &mut self,
        io: &mut dyn Park,
        proof: Option<Proof>,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let end = self.log_end;
        let mut steps = Vec::new();
        for snapshot in self.snapshots.iter().filter(|snapshot| **snapshot > end) {
            steps.push(Step::Unlink { path: self.path(FileKind::Snapshot, *snapshot) });
            report.changed = true;
        }
        self.snapshots.retain(|snapshot| *snapshot <= end);
        if self.epochs_dirty {
            let path = self.dir.join(crate::layout::LEADER_EPOCHS);
            steps.extend(replace_file(path, self.epochs.encode().into_bytes()));
            steps.push(Step::SyncDir { path: self.dir.clone() });
            self.epochs_dirty = false;
        }
        let damaged = !self.quarantine.is_empty();
        if proof.is_none_or(|proof| proof.offset != end) && !damaged {
            let checkpoint = self.opening_checkpoint_steps();
            steps.extend(checkpoint);
            run(io, steps)?;
            self.settle_checkpoint();
        } else {
            run(io, steps)?;
        }
        Ok(())
    }
}

/// More than what a crash of ours leaves unproven.
const REWRITE_BYTES: u64 = 256 << 20;

fn stat_len(io: &mut dyn Park, path: PathBuf) -> Result<Option<u64>, OpenError> {
    match highwater_io::blocking::run(io, highwater_io::Op::Stat { path }) {
        Ok(highwater_io::Outcome::Stat { len, .. }) => Ok(Some(len)),
        Ok(_) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

//! Bad bytes found by a recovery: judged by what lies behind them, and kept, cut, or put aside.

use std::path::PathBuf;

use highwater_base::{BLOCK, FilePos, Offset};
use highwater_io::{FileId, OpenHow, Park};

use super::Log;
use super::open::{OnDisk, open_file, run};
use super::recover::Proof;
use super::script::Step;
use crate::OpenError;
use crate::batch::{Batch, HEADER_BYTES, Header, MAGIC_PREFIX};
use crate::layout::FileKind;
use crate::recovery::{
    Act, Behind, Damage, Evidence, Place as Where, RecoveryReport, Rest, Search, Window, act, diagnose,
    search,
};

impl Log {
    /// Bad bytes before the proven synced end are rot: kept, refused, passed over.
    #[allow(clippy::too_many_arguments)] // One caller.
    pub(super) fn quarantine_proven(
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
            (None, Some(proof)) if self.segments.len() == proof.segment && proven == proof.position => {
                (proven, proof.offset)
            }
            (None, _) if limit < Offset::MAX => (proven, limit),
            (None, _) => (proven, claimed_end(window.bytes(io, at.0, HEADER_BYTES)?, at.1)),
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
    pub(super) fn judge_end(
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
        let head = window.bytes(io, at.0, MAGIC_PREFIX)?;
        let bad = head.first_chunk().and_then(|prefix| Batch::size_from_prefix(prefix, 0).ok()).unwrap_or(0);
        let reach = crate::recovery::reach(reach, bad as u64, window.len() - at.0);
        let how = Search { least: at.1, reach, distance: 0, mutant };
        let here = search(io, window, at.0, Search { least: at.1.plus(1).min(Offset::MAX), ..how })?;
        let mut behind = here.behind;
        let mut rest = here.rest;
        // What was prepared and not used does not count.
        let mut distance = here.data_end.saturating_sub(at.0);
        let follows = self.follows(io, on_disk, number, at.1)?;
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
    pub(super) fn keep_aside(
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

    /// Writes again what is valid and not proven. After a failed sync the cache shows bytes that the disk never got, and
    /// the next sync has nothing to say about them (the "fsyncgate" of 2018); a new process cannot tell, so it makes
    /// sure. Amounts that no crash of ours leaves behind are another program's, and are left to it.
    pub(super) fn rewrite(
        &self,
        io: &mut dyn Park,
        window: &mut Window,
        file: FileId,
        from: u64,
        to: u64,
    ) -> Result<(), OpenError> {
        let mut at = from / BLOCK * BLOCK;
        if from == to || to - from > REWRITE_BYTES {
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
}

/// The offset after a damaged batch that nothing follows, as its header has it, if that makes sense: one more than it
/// should begin with otherwise. No record of it is ever given another's offset.
fn claimed_end(head: &[u8], from: Offset) -> Offset {
    let claimed = Header::decode(head).filter(|header| header.base_offset() == from);
    let last = claimed.map_or(from, |header| header.last_offset().max(from));
    last.plus(1)
}

/// More than what a crash of ours leaves unproven.
const REWRITE_BYTES: u64 = 256 << 20;

//! Syncs: greedy group commit, one in flight per file. A failed one is final.

use highwater_base::{Mono, Mutant, Now};
use highwater_io::{Io, IoError, Op, Outcome};

use super::Log;
use super::flight::Flight;
use crate::Durability;
use crate::segment::Name;
use crate::tail::Place;

impl Log {
    /// Submits the syncs that are due.
    pub(super) fn drive_syncs(&mut self, now: Now, io: &mut dyn Io) {
        let wanted = self.wants_sync(now);
        // Nobody waits for what a checkpoint or a seal needs, unless appends may not run ahead of it.
        let urgent =
            self.is_eager() || self.settings.durability != Durability::Os || self.unsynced_limit().is_some();
        let first = self.first_live();
        for index in first..self.segments.len() {
            let written = self.written;
            let segment = &self.segments[index];
            let end = segment.size;
            let Some(live) = segment.live() else { continue };
            let Some(file) = live.file else { continue };
            let upto = written.min(live.place.plus(end));
            // A rolled segment is synced so that it can be sealed, whoever waits.
            let due = wanted || (live.rolled && upto == live.place.plus(end));
            if !due || live.syncing.is_some() || upto <= live.synced || live.sealing {
                continue;
            }
            let upto_end =
                if live.rolled && upto == live.place.plus(end) { segment.end } else { self.end_at(upto) };
            let place = live.place;
            let settled = live.settled.covers(upto.since(place));
            if let Some(live) = self.segments[index].live_mut() {
                live.syncing = Some((upto, upto_end));
            }
            if self.settings.mutant == Mutant::NoSync {
                self.sync_done(now, place, Ok(Outcome::Done));
                continue;
            }
            let token = self.flights.begin(self.owner, Flight::Sync(place));
            let op = match urgent && (settled || self.settings.mutant == Mutant::UnsettledFlush) {
                true => Op::Flush { file },
                false => Op::Sync { file, data_only: true, urgent },
            };
            io.submit(op, token);
        }
    }

    fn wants_sync(&self, now: Now) -> bool {
        if self.is_eager() || self.checkpoint_wants_sync() {
            return true;
        }
        match self.settings.durability {
            Durability::Each => true,
            Durability::Os => false,
            Durability::Interval { bytes, messages, ms } => {
                let since = self.log_end.since(self.synced_end).max(0).unsigned_abs();
                self.written > self.synced
                    && (self.written.since(self.synced) >= bytes
                        || since >= messages
                        || self
                            .unsynced_since
                            .is_some_and(|at| now.mono.since(at).as_millis() >= u128::from(ms)))
            }
        }
    }

    /// When an interval runs out, if one runs.
    pub(super) fn sync_deadline(&self) -> Option<Mono> {
        let Durability::Interval { ms, .. } = self.settings.durability else { return None };
        let deadline = self.unsynced_since?.plus(std::time::Duration::from_millis(ms));
        let syncing = self.segments.iter().rev().map_while(|s| s.live()).any(|live| live.syncing.is_some());
        (!syncing && self.synced_end < self.log_end).then_some(deadline)
    }

    /// Takes the completion of a sync.
    pub(super) fn sync_done(&mut self, now: Now, place: Place, result: Result<Outcome, IoError>) {
        let index = self.segment_at(place).expect("a segment lives while it is synced");
        let live = self.segments[index].live_mut().expect("only live segments are synced");
        let (upto, end) = live.syncing.take().expect("one sync in flight");
        match result {
            Ok(_) => {
                live.settled.synced(upto.since(place));
                live.synced = live.synced.max(upto);
                live.synced_end = live.synced_end.max(end);
                self.move_ends();
                self.unsynced_since = (self.synced_end < self.log_end).then_some(now.mono);
            }
            Err(_) if self.settings.mutant == Mutant::SyncErrorIgnored => {
                live.synced = live.synced.max(upto);
                live.synced_end = live.synced_end.max(end);
                self.move_ends();
            }
            Err(error) => self.fail("sync", error),
        }
    }

    /// Bytes that may be written and not synced; none while no limit applies.
    pub(super) fn unsynced_limit(&self) -> Option<u64> {
        (self.settings.durability == Durability::Each || self.checkpoint_promises_reach())
            .then_some(self.settings.limits.unsynced_bytes as u64)
    }

    /// The name of the segment at `place` became as durable as this.
    pub(super) fn name_is(&mut self, place: Place, name: Name) {
        if let Some(index) = self.segment_at(place)
            && let Some(live) = self.segments[index].live_mut()
        {
            live.name = live.name.max(name);
            self.move_ends();
        }
    }
}

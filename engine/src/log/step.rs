//! One step: everything that is due is submitted, once.

use std::time::Duration;

use highwater_base::{Mono, Now};
use highwater_io::{Io, IoError};

use super::flight::{NoSpace, Purpose, Running, WriteState};
use super::script::{Script, Step};
use super::{Log, LogEvent, State};

/// First wait before something that found no space is tried again; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

impl Log {
    /// Submits what is due: writes, syncs, roll, seal, checkpoint, retention. Says when to call again if
    /// nothing else happens before. Costs next to nothing if nothing is due.
    pub fn step(&mut self, now: Now, io: &mut dyn Io) -> Option<Mono> {
        if !self.due && now.mono < self.deadline {
            return (self.deadline < Mono::MAX).then_some(self.deadline);
        }
        self.due = false;
        if self.state != State::Failed {
            self.tail.provision(io);
            self.drive_life(now, io);
            self.drive_names(now, io);
            self.drive_space(now, io);
            self.drive_prepare(now, io);
            self.drive_writes(now, io);
            self.drive_syncs(now, io);
            self.drive_seals(now);
            self.drive_epochs();
            self.drive_checkpoint(now);
            self.drive_retention(now, io);
            self.drive_scrub(now);
            self.drive_compaction(now, io);
            self.drive_move(now, io);
            self.drive_rest(now);
            self.drive_recycling(io);
        }
        self.drive_readers(now, io);
        self.drive_scripts(now, io);
        self.deadline = self.next_deadline(now);
        self.debug_invariants();
        (self.deadline < Mono::MAX).then_some(self.deadline)
    }

    fn next_deadline(&self, now: Now) -> Mono {
        if self.state == State::Failed {
            return Mono::MAX;
        }
        let retries = self.scripts.iter().flatten().filter_map(|running| running.retry_at);
        let deadlines = [
            self.no_space.as_ref().map(|lack| lack.retry_at),
            self.space_deadline(),
            self.sync_deadline(),
            self.checkpoint_deadline(),
            self.retention_deadline(),
            self.scrub_deadline(),
            self.compaction_deadline(),
            self.move_deadline(),
            self.rest_deadline(),
            self.readers.pace.deadline(),
        ];
        // What was due was tried in this step; what it lacked comes as a completion or by another call.
        let ahead = deadlines.into_iter().flatten().chain(retries).filter(|at| *at > now.mono);
        ahead.min().unwrap_or(Mono::MAX)
    }

    /// Starts a script; its first step is submitted by this or the next step.
    pub(super) fn run(&mut self, purpose: Purpose, steps: impl IntoIterator<Item = Step>) {
        if !matches!(purpose, Purpose::Open(_) | Purpose::Scrub { .. }) {
            self.is_pristine_no_more();
        }
        let running =
            Running { purpose, script: Script::new(steps), submitted: false, retry_at: None, retries: 0 };
        match self.scripts.iter().position(Option::is_none) {
            Some(slot) => self.scripts[slot] = Some(running),
            None => self.scripts.push(Some(running)),
        }
        self.due = true;
    }

    /// Whether a script of this purpose is under way.
    pub(super) fn is_running(&self, purpose: &Purpose) -> bool {
        self.scripts.iter().flatten().any(|running| running.purpose == *purpose)
    }

    /// Whether nothing at all is in flight but reads.
    pub(super) fn is_quiet(&self) -> bool {
        self.scripts.iter().all(Option::is_none)
            && self.writes.iter().all(|write| write.state != WriteState::InFlight)
            && self
                .segments
                .iter()
                .rev()
                .map_while(|segment| segment.live())
                .all(|live| live.syncing.is_none() && !live.preparing)
    }

    pub(super) fn drive_scripts(&mut self, now: Now, io: &mut dyn Io) {
        let mut slot = 0;
        let rest = self.removal_rest(now);
        while slot < self.scripts.len() {
            let ready = self.scripts[slot].as_ref().is_some_and(|running| {
                !running.submitted && running.retry_at.is_none_or(|at| at <= now.mono)
            });
            if ready {
                let running = self.scripts[slot].as_mut().expect("checked above");
                let rests = running.purpose == Purpose::Remove && running.script.may_rest();
                running.retry_at = (rests && !rest.is_zero()).then(|| now.mono.plus(rest));
                match running.script.next_op() {
                    Some(op) => {
                        running.submitted = true;
                        let token =
                            self.flights.begin(self.owner, super::flight::Flight::Script(slot as u32));
                        io.submit(op, token);
                    }
                    None => {
                        let Running { purpose, script, .. } =
                            self.scripts[slot].take().expect("checked above");
                        self.script_done(now, purpose, &script, io);
                    }
                }
            }
            slot += 1;
        }
        while self.scripts.last().is_some_and(Option::is_none) {
            self.scripts.pop();
        }
    }

    /// How long to wait before try number `retries`.
    pub(super) fn back_off(retries: u32) -> Duration {
        RETRY_MIN.saturating_mul(1 << retries.min(10)).min(RETRY_MAX)
    }

    /// The device is full: appends are refused until something that needs space succeeds.
    pub(super) fn out_of_space(&mut self, now: Now, error: IoError) {
        let retries = self.no_space.as_ref().map_or(0, |lack| lack.retries + 1);
        if self.no_space.is_none() {
            self.events.push_back(LogEvent::NoSpace);
        }
        let retry_at = now.mono.plus(Self::back_off(retries));
        self.no_space = Some(Box::new(NoSpace { error, retry_at, retries }));
    }

    /// Something that needed space succeeded.
    pub(super) fn space_returned(&mut self, now: Now) {
        let waiting = self.writes.iter().any(|write| write.state == WriteState::Waiting)
            || self.scripts.iter().flatten().any(|running| running.retries > 0);
        if self.no_space.is_some() && !waiting {
            self.no_space = None;
            if self.room.low().is_none() {
                self.events.push_back(LogEvent::SpaceReturned);
            }
            self.due = true;
        } else if let Some(lack) = &mut self.no_space {
            // What still waits may be tried at once.
            lack.retry_at = now.mono;
            for running in self.scripts.iter_mut().flatten() {
                running.retry_at = None;
            }
            self.due = true;
        }
    }
}

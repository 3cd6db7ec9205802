//! What came back from the disk, taken to where it belongs.

use highwater_base::{Mutant, Now};
use highwater_io::{Completion, ErrorKind, Io, IoError, Outcome};

use super::flight::{Flight, Purpose};
use super::roll::NextFile;
use super::script::{Progress, Script};
use super::write::Turn;
use super::{Log, LogEvent, State};
use crate::LogFailure;
use crate::segment::Name;

impl Log {
    /// Takes a completion of an operation that this log submitted. [`Log::step`] is due afterwards.
    pub fn complete(&mut self, now: Now, completion: Completion, io: &mut dyn Io) {
        self.due = true;
        let tag = completion.token.tag;
        match self.flights.end(tag) {
            Flight::Write => self.write_done(now, tag, completion.result, io),
            Flight::Sync(place) => self.sync_done(now, place, completion.result),
            Flight::Prepare(place) => self.prepare_done(now, place, completion.result),
            Flight::Script(slot) => self.script_step_done(now, slot as usize, completion.result, io),
            Flight::Stream(number) => self.stream_read_done(number, tag, completion.result),
            Flight::Turn => self.turn = Turn::Come,
            Flight::Space => self.space_told(completion.result),
            Flight::Close => {}
        }
        self.debug_invariants();
    }

    fn script_step_done(&mut self, now: Now, slot: usize, result: Result<Outcome, IoError>, io: &mut dyn Io) {
        let running = self.scripts[slot].as_mut().expect("a step in flight belongs to a script");
        running.submitted = false;
        if let Err(error) = &result
            && error.kind == ErrorKind::NotFound
            && self.settings.mutant == Mutant::MissingFileFails
            && matches!(running.purpose, Purpose::Rename | Purpose::Remove)
        {
            self.scripts[slot] = None;
            return self.fail("retention", error.clone());
        }
        match running.script.complete(result) {
            Progress::Next => {
                if std::mem::take(&mut running.retries) > 0 {
                    self.space_returned(now);
                }
            }
            // Compaction can wait; appends that need the same space cannot.
            Progress::Retry(_) | Progress::Failed(_) if running.purpose == Purpose::Compact => {
                let file = running.script.file();
                self.scripts[slot] = None;
                self.pass_slice_failed(now, file);
            }
            Progress::Retry(error) | Progress::Failed(error) if running.purpose == Purpose::Move => {
                let file = running.script.file();
                self.scripts[slot] = None;
                self.move_slice_failed(file, error, io);
            }
            // Nor may what the log can do without.
            Progress::Retry(_) | Progress::Failed(_) if running.purpose == Purpose::Recycle => {
                let file = running.script.file();
                self.scripts[slot] = None;
                self.recycling_failed(file);
            }
            Progress::Retry(error) => {
                running.retry_at = Some(now.mono.plus(Log::back_off(running.retries)));
                running.retries += 1;
                self.out_of_space(now, error);
            }
            Progress::Failed(error) => {
                let purpose = running.purpose.clone();
                let file = running.script.file();
                self.scripts[slot] = None;
                if let Purpose::Scrub { segment, from } = purpose {
                    // The one script on a file of its own that may fail while the log goes on.
                    file.into_iter().for_each(|file| self.close_file(file, io));
                    return self.scrub_failed(now, segment, from, error);
                }
                self.script_failed(purpose, error);
            }
        }
    }

    fn script_failed(&mut self, purpose: Purpose, error: IoError) {
        match purpose {
            // A reader's trouble, not the log's.
            Purpose::Open(base) => self.open_failed(base, error),
            Purpose::Scrub { .. } => {}
            Purpose::Create => self.fail("create", error),
            Purpose::Wake => self.fail("open", error),
            Purpose::Next | Purpose::Reuse | Purpose::Name(_) | Purpose::Fresh(_) | Purpose::SyncNames(_) => {
                self.fail("roll", error)
            }
            Purpose::Settle(_) | Purpose::Seal(_) => self.fail("seal", error),
            Purpose::Epochs => self.fail("write of the epoch checkpoint", error),
            Purpose::Checkpoint => self.fail("checkpoint", error),
            Purpose::LoadSnapshot | Purpose::Cut => self.fail("truncate", error),
            Purpose::Rename | Purpose::Remove => self.fail("retention", error),
            Purpose::Compact | Purpose::Recycle => unreachable!("given up above"),
            Purpose::CompactSwap => self.fail("compaction", error),
            // What is left is written over by the next pass, or removed by the next start.
            Purpose::CompactEnd => {}
            Purpose::Move => unreachable!("given up above"),
            Purpose::MoveSwitch => self.fail("move", error),
            // Nobody needs what it tidies up; the next start looks again.
            Purpose::MoveEnd => self.move_ended(false),
            Purpose::Close => self.fail("close", error),
            Purpose::DeleteRename | Purpose::DeleteRemove => self.fail("delete", error),
        }
    }

    /// Nothing more is certain: the log stops for good.
    pub(super) fn fail(&mut self, doing: &'static str, error: IoError) {
        if self.failure.is_none() {
            let failure = LogFailure { dir: self.dir.clone(), doing, error };
            self.failure = Some(Box::new(failure.clone()));
            self.state = State::Failed;
            self.events.push_back(LogEvent::Failed(failure));
            self.compaction.forget();
            self.fail_readers();
        }
    }

    /// A script has run to its end.
    pub(super) fn script_done(&mut self, now: Now, purpose: Purpose, script: &Script, io: &mut dyn Io) {
        self.due = true;
        match purpose {
            Purpose::Create => self.created(script),
            Purpose::Next => {
                let file = script.file().expect("the script leaves it open");
                let (prepared, settled) = (script.prepared(), script.settled());
                self.next = Some(Box::new(NextFile { file, prepared, settled, recycled: None }));
            }
            Purpose::Recycle => self.recycled_step(script),
            Purpose::Reuse => self.reused(),
            Purpose::Name(place) => {
                self.name_is(place, Name::Visible);
                self.sync_names(place);
            }
            Purpose::Fresh(place) => {
                if let Some(index) = self.segment_at(place)
                    && let Some(live) = self.segments[index].live_mut()
                {
                    live.file = script.file();
                    live.prepared = script.prepared();
                    live.settled = script.settled();
                    live.step = live.prepared;
                }
                self.name_is(place, Name::Visible);
                self.sync_names(place);
            }
            Purpose::SyncNames(place) => self.name_is(place, Name::Durable),
            Purpose::Settle(base) => self.settled(base, script),
            Purpose::Seal(base) => self.sealed(base, io),
            Purpose::Epochs => {}
            Purpose::Checkpoint => self.checkpointed(now),
            Purpose::LoadSnapshot => self.snapshot_loaded(script),
            Purpose::Cut => self.cut_done(script),
            Purpose::Wake => self.woken(script),
            Purpose::Open(base) => self.opened(base, script, io),
            Purpose::Scrub { segment, from } => self.scrubbed(now, segment, from, script),
            Purpose::Rename => self.renamed(),
            Purpose::Compact => self.pass_slice_done(script, io),
            Purpose::CompactSwap => self.swapped(),
            Purpose::Remove | Purpose::CompactEnd => {}
            Purpose::Move => self.move_slice_done(script, io),
            Purpose::MoveSwitch => self.arrived(io),
            Purpose::MoveEnd => self.move_ended(true),
            Purpose::Close => {
                self.settle_checkpoint();
                self.state = State::Closed;
                self.events.push_back(LogEvent::Closed);
            }
            Purpose::DeleteRename => self.delete_renamed(),
            Purpose::DeleteRemove => {
                self.state = State::Removed;
                self.events.push_back(LogEvent::Removed);
            }
        }
    }
}

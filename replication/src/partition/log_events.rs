//! What the log says, passed on to the machine and to those who wait.

use highwater_base::Now;
use highwater_engine::LogEvent;
use highwater_isr::Event;

use super::{Life, Partition};
use crate::PartitionError;
use crate::{Outgoing, Reply};

impl Partition {
    /// Takes everything that the log has to say.
    pub(super) fn pump(&mut self, now: Now) {
        while let Some(event) = self.log.poll_event() {
            self.heard(now, event);
        }
        if !self.held.is_empty() {
            self.append_held(now);
        }
        if !self.looking_later.is_empty() {
            self.look_later(now);
        }
    }

    fn heard(&mut self, now: Now, event: LogEvent) {
        match event {
            LogEvent::Ready | LogEvent::Written(_) | LogEvent::Synced(_) => self.run(now, Event::LogMoved),
            LogEvent::ReadDone { id, result } => self.read_done(id, result),
            LogEvent::LookupDone { id, result } => self.lookup_done(id, result),
            LogEvent::Trimmed { log_start } => {
                while let Some(key) = self.trims.pop_reached(log_start) {
                    self.answer(key, Ok(Reply::Deleted { low_watermark: log_start }));
                }
                self.run(now, Event::LogMoved);
            }
            LogEvent::Truncated { .. } => self.run(now, Event::LogCut),
            LogEvent::NoSpace => {
                self.outgoing.push_back(Outgoing::NoSpace);
                self.refuse_unwritten();
            }
            LogEvent::LowSpace { free, mark } => {
                self.outgoing.push_back(Outgoing::LowSpace { free, mark });
            }
            LogEvent::Damaged(error) => self.outgoing.push_back(Outgoing::Damaged(error)),
            LogEvent::SpaceReturned => self.outgoing.push_back(Outgoing::SpaceReturned),
            LogEvent::MoveCaughtUp => self.outgoing.push_back(Outgoing::MoveCaughtUp),
            LogEvent::Moved { .. } => self.outgoing.push_back(Outgoing::Moved),
            LogEvent::MoveFailed(error) => self.outgoing.push_back(Outgoing::MoveFailed(error)),
            LogEvent::Discarded { dir } => self.outgoing.push_back(Outgoing::Discarded { dir }),
            LogEvent::Closed => {
                self.life = Life::Closed;
                self.refuse_all(&self.not_leader());
            }
            LogEvent::Deleted => self.life = Life::Deleted,
            LogEvent::Removed => self.life = Life::Removed,
            LogEvent::Failed(failure) => {
                // The machine steps down first, so that nothing more is acknowledged.
                self.run(now, Event::LogFailed);
                self.refuse_all(&PartitionError::Storage(failure));
                self.outgoing.push_back(Outgoing::Failed);
            }
            _ => {}
        }
    }

    /// Whoever waits for what a full disk does not take is told so at once, and not after the time limit. The batches
    /// stay in the log and are written when space returns; an idempotent producer that sends one again gets its offsets.
    fn refuse_unwritten(&mut self) {
        let written = self.log.written_end();
        while let Some(parked) = self.produces.give_up_beyond(written) {
            let dir = self.log.dir().to_path_buf();
            self.answer(parked.key, Err(PartitionError::NotWritten { dir }));
        }
    }
}

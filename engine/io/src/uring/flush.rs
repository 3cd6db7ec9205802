//! Flushes that files of a device share: one at a time, and all that are asked for meanwhile together.

use std::sync::Arc;

use super::UringIo;
use super::entry::InRing;
use super::file_ops::target;
use crate::IoError;
use crate::device::Device;
use crate::files::Flushing;
use crate::op::{FileId, Outcome, Token};

/// What is asked of each device.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    queues: Vec<Queue>,
}

/// What is asked of one device.
#[derive(Debug)]
struct Queue {
    device: Arc<Device>,
    /// Served by the next flush. Their writes were complete when they asked.
    waiting: Vec<Member>,
    /// Served by the one in flight.
    served: Vec<Member>,
    /// Files that are likely to ask soon.
    coming: usize,
}

/// Who waits for a flush.
#[derive(Clone, Copy, Debug)]
struct Member {
    token: Token,
    file: FileId,
    /// How many writes of the file it covers.
    writes: u64,
}

impl Flushes {
    /// Whether one is in flight or waited for.
    pub(super) fn any(&self) -> bool {
        self.queues.iter().any(|queue| !queue.waiting.is_empty() || !queue.served.is_empty())
    }

    /// A plain write to a direct file begins.
    pub(super) fn write_begins(&mut self, file: &mut Flushing) {
        self.change(file, |file| file.writes += 1);
    }

    /// Changes what is known of a file, and counts anew.
    fn change(&mut self, file: &mut Flushing, change: impl FnOnce(&mut Flushing)) {
        let before = file.comes();
        change(file);
        if let Some(queue) = file.queue {
            let coming = &mut self.queues[queue].coming;
            *coming = *coming + usize::from(file.comes()) - usize::from(before);
        }
    }

    fn number_of(&mut self, device: &Arc<Device>) -> usize {
        let known = self.queues.iter().position(|queue| Arc::ptr_eq(&queue.device, device));
        known.unwrap_or_else(|| {
            self.queues.push(Queue {
                device: Arc::clone(device),
                waiting: Vec::new(),
                served: Vec::new(),
                coming: 0,
            });
            self.queues.len() - 1
        })
    }
}

/// Whether a flush is to begin for those who wait, while some are `coming`: files whose writes are under way, which will
/// ask when those have ended, a fraction of a flush from now. Without waiting for most of them 16 files would take
/// turns in groups of five.
fn is_due(waiting: usize, coming: usize) -> bool {
    waiting > 0 && waiting >= 2 * coming
}

impl UringIo {
    /// Queues a flush, unless the file's device shares none: then it is to be synced by itself.
    pub(super) fn queue_flush(&mut self, token: Token, file: FileId) -> Result<bool, IoError> {
        let open = self.files.usable(file, "sync")?;
        let Some(device) = &open.device else { return Ok(false) };
        let number = self.flushes.number_of(device);
        self.flushes.change(&mut open.flushing, |file| (file.queue, file.waits) = (Some(number), true));
        let writes = open.writes();
        self.flushes.queues[number].waiting.push(Member { token, file, writes });
        open.in_flight += 1;
        Ok(true)
    }

    /// The kernel has done with a plain write to a direct file.
    pub(super) fn plain_write_ends(&mut self, file: FileId) {
        self.turns.write_ends();
        if let Some(open) = self.files.any(file) {
            self.flushes.change(&mut open.flushing, |file| file.writes -= 1);
        }
    }

    /// Starts a flush of each device that somebody waits for and that has none in flight. Called before the kernel is:
    /// what was asked for in one turn goes together.
    pub(super) fn start_flushes(&mut self) {
        for index in 0..self.flushes.queues.len() {
            let queue = &mut self.flushes.queues[index];
            let due = is_due(queue.waiting.len(), queue.coming);
            if !due || !queue.served.is_empty() {
                continue;
            }
            std::mem::swap(&mut queue.waiting, &mut queue.served);
            let file = queue.served[0].file;
            for member in 0..queue.served.len() {
                let file = self.flushes.queues[index].served[member].file;
                let open = self.files.any(file).expect("a file stays open while its flush is waited for");
                self.flushes.change(&mut open.flushing, |file| file.waits = false);
            }
            let open = self.files.any(file).expect("a file stays open while its flush is waited for");
            let (target, name) = (target(file, open), Arc::clone(&open.name));
            match self.files.fault.take(&name) {
                None => drop(self.ring.start(InRing::Flush { device: index, target })),
                Some(failed) => self.flushed(index, Err(failed)),
            }
        }
    }

    /// The ring has flushed a device, or not.
    pub(super) fn flush_done(&mut self, device: usize, result: i32) {
        if result == -libc::EINTR {
            // Nothing is known: those who wait are served by the next one.
            let queue = &mut self.flushes.queues[device];
            let mut served = std::mem::take(&mut queue.served);
            served.append(&mut queue.waiting);
            queue.waiting = served;
            return;
        }
        let first = self.flushes.queues[device].served[0].file;
        let name = self.files.any(first).map(|open| open.name.to_string()).unwrap_or_default();
        let flushed = match result {
            0.. => Ok(()),
            errno => Err(IoError::from_errno(-errno, "sync", name)),
        };
        self.flushed(device, flushed);
    }

    fn flushed(&mut self, device: usize, result: Result<(), IoError>) {
        let queue = &mut self.flushes.queues[device];
        if result.is_err() {
            queue.device.fail();
        }
        let mut served = std::mem::take(&mut queue.served);
        for Member { token, file, writes } in served.drain(..) {
            let open = self.files.any(file).expect("a file stays open while its flush is waited for");
            let outcome = match &result {
                Ok(()) => open.end_sync(writes),
                Err(failed) => {
                    open.latch.note(failed);
                    Err(failed.clone())
                }
            };
            self.end(token, file, outcome.map(|()| Outcome::Done));
        }
        // Its memory serves the next one.
        self.flushes.queues[device].served = served;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_waits_for_most_of_those_that_are_coming_and_never_where_none_is() {
        assert!(!is_due(0, 0) && is_due(1, 0) && is_due(16, 0));
        assert!(!is_due(1, 1) && is_due(2, 1) && !is_due(10, 6) && is_due(11, 5));
    }

    #[test]
    fn a_file_is_coming_from_its_second_flush_on_while_it_writes_and_does_not_wait() {
        let mut flushes = Flushes::default();
        let device = crate::device::Devices::default().numbered(1);
        let (number, mut file) = (flushes.number_of(&device), Flushing::default());
        flushes.write_begins(&mut file);
        assert_eq!(flushes.queues[number].coming, 0, "it has never asked for a flush");
        flushes.change(&mut file, |file| (file.queue, file.waits) = (Some(number), true));
        flushes.change(&mut file, |file| file.waits = false);
        assert_eq!(flushes.queues[number].coming, 1, "its write goes on");
        flushes.write_begins(&mut file);
        flushes.change(&mut file, |file| file.writes -= 2);
        assert_eq!(flushes.queues[number].coming, 0);
    }
}

//! Batches that the log does not take yet: it is being made, goes over to another directory, or has too much staged.

use std::collections::VecDeque;

use highwater_base::{Mono, Now};

use super::Partition;
use crate::PartitionError;
use crate::{Acks, Outcome, Reply};

/// A batch that is not appended yet.
pub(super) struct Held {
    pub(super) records: Box<dyn AsRef<[u8]> + Send>,
    pub(super) acks: Acks,
    pub(super) deadline: Mono,
    pub(super) key: u64,
}

impl Partition {
    /// Appends held batches, in order, as far as the log takes them.
    pub(super) fn append_held(&mut self, now: Now) {
        while let Some(held) = self.held.pop_front() {
            let appended = match self.check_produce(held.acks) {
                Ok(()) => self.append(now, (*held.records).as_ref()),
                Err(error) => Err(error),
            };
            match appended {
                Ok(None) => {
                    self.held.push_front(held);
                    return;
                }
                Ok(Some(appended)) => {
                    match self.appended(now, appended, held.acks, held.deadline, held.key) {
                        Outcome::Now(result) => self.answer(held.key, result.map(Reply::Produced)),
                        Outcome::Parked => {}
                    }
                }
                Err(error) => self.answer(held.key, Err(error)),
            }
        }
    }

    /// Refuses held batches whose time is up. They are not appended.
    pub(super) fn expire_held(&mut self, now: Mono) {
        if self.held.iter().all(|held| held.deadline > now) {
            return;
        }
        let mut kept = VecDeque::with_capacity(self.held.len());
        for held in std::mem::take(&mut self.held) {
            if held.deadline <= now {
                self.answer(held.key, Err(PartitionError::TimedOut));
            } else {
                kept.push_back(held);
            }
        }
        self.held = kept;
    }

    pub(super) fn refuse_held(&mut self, error: &PartitionError) {
        for held in std::mem::take(&mut self.held) {
            self.answer(held.key, Err(error.clone()));
        }
    }
}

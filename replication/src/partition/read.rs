//! Reads of consumers and followers, and waits for something to read.

use highwater_base::{LeaderEpoch, Mono, Now, Offset};
use highwater_engine::Fetched;
use highwater_isr::{EpochEnd, Fence};

use super::Partition;
use super::looking::{Looking, What};
use crate::PartitionError;
use crate::{Isolation, Outcome, ReadDone, ReadRequest, Reply};

/// A read that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) from: Offset,
    /// Exclusive; no batch reaches it.
    pub(super) upto: Offset,
    pub(super) max_bytes: usize,
    pub(super) isolation: Isolation,
    pub(super) bounds: Bounds,
}

/// What a reader is told, and held to; taken once for each read, so that all of it is of one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    high_watermark: Offset,
    last_stable: Offset,
    log_start: Offset,
}

impl Bounds {
    fn upto(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable,
        }
    }
}

impl Partition {
    /// Reads for a consumer: never beyond the bound of its isolation, and never waits for data. An offset between the
    /// bound and the log's end gives nothing; one outside the log is [`PartitionError::OffsetOutOfRange`].
    pub fn read(&mut self, now: Now, request: ReadRequest, key: u64) -> Outcome<ReadDone> {
        if let Err(error) = self.check_serving().and_then(|()| self.check_epoch(request.current_epoch)) {
            return Outcome::Now(Err(error));
        }
        let (start, end) = (self.log.log_start(), self.log.log_end());
        let asked = request.from;
        if asked < start {
            return Outcome::Now(Err(PartitionError::OffsetOutOfRange { asked, log_start: start, end }));
        }
        let bounds = self.bounds();
        if let Some(known) = self.divergence(request.last_fetched_epoch, asked) {
            if !known.is_defined() {
                return Outcome::Now(Err(PartitionError::OffsetOutOfRange { asked, log_start: start, end }));
            }
            let diverging = ReadDone { diverging: Some(known), ..nothing(asked, &bounds) };
            return Outcome::Now(Ok(diverging));
        }
        if asked > end {
            return Outcome::Now(Err(PartitionError::OffsetOutOfRange { asked, log_start: start, end }));
        }
        let upto = bounds.upto(request.isolation);
        if asked >= upto || request.max_bytes == 0 {
            return Outcome::Now(Ok(nothing(asked, &bounds)));
        }
        let read =
            Reading { from: asked, upto, max_bytes: request.max_bytes, isolation: request.isolation, bounds };
        self.begin_read(now, read, key)
    }

    /// Waits until a reader of this isolation can read beyond `beyond`. Answered with [`Reply::Readable`], also when
    /// `deadline` has passed, and when an error has to be seen.
    pub fn await_readable(
        &mut self,
        beyond: Offset,
        isolation: Isolation,
        deadline: Mono,
        key: u64,
    ) -> Outcome<()> {
        let serves = self.check_serving().and_then(|()| self.check_room());
        if serves.is_err() || self.bounds().upto(isolation) > beyond {
            return Outcome::Now(serves);
        }
        self.fetches.park(isolation, beyond, deadline, key);
        Outcome::Parked
    }

    /// Records for a follower whose fetch the machine has accepted: from `from` to the log's end.
    pub fn read_for_follower(
        &mut self,
        now: Now,
        from: Offset,
        max_bytes: usize,
        key: u64,
    ) -> Outcome<ReadDone> {
        if let Err(error) = self.check_serving() {
            return Outcome::Now(Err(error));
        }
        let (bounds, isolation) = (self.bounds(), Isolation::ReadUncommitted);
        let read = Reading { from, upto: self.log.log_end(), max_bytes, isolation, bounds };
        self.begin_read(now, read, key)
    }

    /// Compares the leadership that a client believes in with the present one.
    pub(super) fn check_epoch(&self, found: LeaderEpoch) -> Result<(), PartitionError> {
        let expected = self.leader_epoch();
        match Fence::check(expected, found) {
            Fence::Current => Ok(()),
            Fence::Stale => Err(PartitionError::FencedLeaderEpoch { expected, found }),
            Fence::Unknown => Err(PartitionError::UnknownLeaderEpoch { expected, found }),
        }
    }

    fn begin_read(&mut self, now: Now, read: Reading, key: u64) -> Outcome<ReadDone> {
        match self.look(now, Looking { key, what: What::Records(read) }) {
            Outcome::Now(Ok(Reply::Read(done))) => Outcome::Now(Ok(done)),
            Outcome::Now(Ok(other)) => unreachable!("a read gives records, not {other:?}"),
            Outcome::Now(Err(error)) => Outcome::Now(Err(error)),
            Outcome::Parked => Outcome::Parked,
        }
    }

    /// Wakes readers that may see more by now.
    pub(super) fn wake_readers(&mut self) {
        if self.fetches.len() == 0 {
            return;
        }
        let bounds = self.bounds();
        while let Some(key) = self.fetches.wake_up_to(bounds.high_watermark, bounds.last_stable) {
            self.answer(key, Ok(Reply::Readable));
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        let high_watermark = self.high_watermark();
        Bounds {
            high_watermark,
            last_stable: self.log.last_stable_offset().min(high_watermark),
            log_start: self.log.log_start(),
        }
    }

    pub(super) fn bound(&self, isolation: Isolation) -> Offset {
        self.bounds().upto(isolation)
    }

    /// What the log knows of a reader's last epoch, if that shows that the reader holds what the log does not.
    fn divergence(&self, last_epoch: LeaderEpoch, from: Offset) -> Option<EpochEnd> {
        if !last_epoch.is_some() {
            return None;
        }
        let (epoch, end) = self.log.epoch_end(last_epoch);
        (epoch < last_epoch || end < from).then_some(EpochEnd { epoch, end })
    }

    /// What was read, as its reader is told.
    pub(super) fn done(&self, read: &Reading, fetched: Fetched) -> ReadDone {
        let Reading { from, isolation, bounds, .. } = read;
        let aborted = match isolation {
            Isolation::ReadUncommitted => Vec::new(),
            Isolation::ReadCommitted => self.log.aborted_in(*from, fetched.next),
        };
        ReadDone { data: fetched.data, next: fetched.next, aborted, ..nothing(*from, bounds) }
    }
}

/// No data.
pub(super) fn nothing(from: Offset, bounds: &Bounds) -> ReadDone {
    ReadDone {
        high_watermark: bounds.high_watermark,
        last_stable: bounds.last_stable,
        log_start: bounds.log_start,
        data: Vec::new(),
        next: from,
        aborted: Vec::new(),
        diverging: None,
    }
}

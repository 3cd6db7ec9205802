//! Reads and lookups that the log does: at once, from the disk, or when it has done some of those before.

use highwater_base::{Now, WallMs};
use highwater_engine::{Busy, Fetched, Lookup, Read, ReadError, ReadId, TimestampOffset};

use super::Partition;
use super::read::{Reading, nothing};
use crate::{Isolation, Outcome, PartitionError, Reply};

/// Something that is looked for in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looking {
    /// Who is told.
    pub(super) key: u64,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Records(Reading),
    Offset { by: By, isolation: Isolation },
}

/// What an offset is looked for by.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    Time(WallMs),
    MaxTimestamp,
}

/// What the log says to it.
enum Begun {
    Done(Result<Reply, PartitionError>),
    FromDisk(ReadId),
    /// The log has as much to read as it takes.
    Later,
}

impl Partition {
    /// Looks for something. If the log is too busy, it waits for its turn, behind those that wait already.
    pub(super) fn look(&mut self, now: Now, looking: Looking) -> Outcome<Reply> {
        let begun = if self.looking_later.is_empty() { self.begin(now, &looking) } else { Begun::Later };
        match begun {
            Begun::Done(result) => Outcome::Now(result),
            Begun::FromDisk(id) => {
                self.looking.insert(id, looking);
                Outcome::Parked
            }
            Begun::Later => {
                if let Err(error) = self.check_room() {
                    return Outcome::Now(Err(error));
                }
                self.looking_later.push_back(looking);
                Outcome::Parked
            }
        }
    }

    /// Begins what waited for its turn, as far as the log takes it.
    pub(super) fn look_later(&mut self, now: Now) {
        while let Some(looking) = self.looking_later.pop_front() {
            match self.begin(now, &looking) {
                Begun::Done(result) => self.answer(looking.key, result),
                Begun::FromDisk(id) => _ = self.looking.insert(id, looking),
                Begun::Later => {
                    self.looking_later.push_front(looking);
                    return;
                }
            }
        }
    }

    fn begin(&mut self, now: Now, looking: &Looking) -> Begun {
        let failed = |error: ReadError| match error {
            ReadError::Backpressure => Begun::Later,
            error => Begun::Done(Err(error.into())),
        };
        match looking.what {
            What::Records(read) => match self.log.read(now, read.from, read.upto, read.max_bytes) {
                Ok(Read::Ready(fetched)) => Begun::Done(Ok(Reply::Read(self.done(&read, fetched)))),
                Ok(Read::Pending(id)) => Begun::FromDisk(id),
                // A log that is being made holds nothing.
                Err(ReadError::Busy(Busy::Creating)) => {
                    Begun::Done(Ok(Reply::Read(nothing(read.from, &read.bounds))))
                }
                Err(error) => failed(error),
            },
            What::Offset { by, isolation } => {
                let lookup = match by {
                    By::Time(at) => self.log.lookup_time(now, at),
                    By::MaxTimestamp => self.log.lookup_max_timestamp(now),
                };
                match lookup {
                    Ok(Lookup::Ready(found)) => Begun::Done(self.listed(isolation, found).map(Reply::Offset)),
                    Ok(Lookup::Pending(id)) => Begun::FromDisk(id),
                    Err(error) => failed(error),
                }
            }
        }
    }

    /// A read from the disk is done.
    pub(super) fn read_done(&mut self, id: ReadId, result: Result<Fetched, ReadError>) {
        let Some(Looking { key, what: What::Records(read) }) = self.looking.remove(&id) else { return };
        let reply = match result {
            Ok(fetched) => Ok(Reply::Read(self.done(&read, fetched))),
            Err(error) => Err(error.into()),
        };
        self.answer(key, reply);
    }

    /// A lookup on the disk is done.
    pub(super) fn lookup_done(&mut self, id: ReadId, result: Result<Option<TimestampOffset>, ReadError>) {
        let Some(Looking { key, what: What::Offset { isolation, .. } }) = self.looking.remove(&id) else {
            return;
        };
        let reply = match result {
            Ok(found) => self.listed(isolation, found).map(Reply::Offset),
            Err(error) => Err(error.into()),
        };
        self.answer(key, reply);
    }

    /// Answers everything that is looked for with an error.
    pub(super) fn refuse_looking(&mut self, error: &PartitionError) {
        let under_way = std::mem::take(&mut self.looking).into_values();
        let later = std::mem::take(&mut self.looking_later);
        for looking in under_way.chain(later) {
            self.answer(looking.key, Err(error.clone()));
        }
    }
}

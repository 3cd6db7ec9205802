//! Fetch sessions (KIP-227): a reader says once what it wants, then only what has changed, and is told only what is new.
//!
//! Nothing here reads or answers. [`FetchSessions::begin`] says which partitions a request is about,
//! [`FetchSessions::grant`] and [`FetchSessions::prune`] what its answer says. Each shard has its own sessions: a reader
//! that comes back over a connection of another shard is told FETCH_SESSION_ID_NOT_FOUND, and begins anew, as it does
//! after an eviction or a restart.

mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_base::{Mono, Prng};
use highwater_wire::ErrorCode;

use session::Session;
pub(crate) use session::{PartitionName, Told, TopicName, Wanted};

/// KAFKA: a session that was not used for so long may go for any other, and one that is younger only for one of a
/// broker (`FetchSessionCacheShard`, two minutes).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// The session id of a request that is of none.
const NO_SESSION: i32 = 0;
/// The epoch of the request that opens a session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that closes its session, or wants none.
const FINAL_EPOCH: i32 = -1;

/// What a request says of sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    /// Whether it names topics by id.
    pub(crate) by_id: bool,
    /// Whether it comes from a broker of the cluster.
    pub(crate) privileged: bool,
}

/// Which partitions a request is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Begun {
    /// Those that it lists, and no session.
    Alone,
    /// Those that it lists; the answer opens a session, if one can be had.
    Opens,
    /// These, of its session.
    Continues(Vec<(PartitionName, Wanted)>),
}

/// The sessions of one shard.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots: usize,
    most_partitions: usize,
    sessions: BTreeMap<i32, Session>,
    /// Of all sessions.
    partitions: usize,
    prng: Prng,
}

impl FetchSessions {
    /// None yet; never more than `slots`, nor more than `most_partitions` in all of them.
    pub(crate) fn new(slots: usize, most_partitions: usize, prng: Prng) -> FetchSessions {
        FetchSessions { slots, most_partitions, sessions: BTreeMap::new(), partitions: 0, prng }
    }

    /// A request has come, which lists and forgets these partitions.
    ///
    /// # Errors
    /// Its session is not there (any more), or expects another epoch, or names topics in the other way.
    pub(crate) fn begin(
        &mut self,
        now: Mono,
        request: SessionRequest,
        listed: &[(PartitionName, Wanted)],
        forgotten: &[PartitionName],
    ) -> Result<Begun, ErrorCode> {
        if matches!(request.epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            self.remove(request.id);
            return Ok(if request.epoch == FINAL_EPOCH { Begun::Alone } else { Begun::Opens });
        }
        let session = self.sessions.get_mut(&request.id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != request.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != request.by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let before = session.len();
        let added = listed.iter().filter(|(name, _)| !session.has(name)).count();
        if self.partitions + added > self.most_partitions {
            // The reader's next fetch is a full one, and is declined a session.
            self.remove(request.id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        for (name, wanted) in listed {
            session.want(name, *wanted);
        }
        for name in forgotten {
            session.forget(name);
        }
        self.partitions = self.partitions - before + session.len();
        if session.len() == 0 {
            self.remove(request.id);
            return Ok(Begun::Alone);
        }
        session.used = now;
        session.epoch = next_epoch(request.epoch);
        Ok(Begun::Continues(session.wanted()))
    }

    /// Opens a session for a request that [`Begun::Opens`] one, and whose answer says this of its partitions. Gives
    /// its id, or 0 if none can be had.
    pub(crate) fn grant(
        &mut self,
        now: Mono,
        request: SessionRequest,
        answer: impl ExactSizeIterator<Item = (PartitionName, Wanted, Told)>,
    ) -> i32 {
        let size = answer.len();
        if self.partitions + size > self.most_partitions || !self.make_room(now, request.privileged, size) {
            return NO_SESSION;
        }
        let mut session = Session::new(request.by_id, request.privileged, now);
        for (name, wanted, told) in answer {
            session.opened_with(&name, wanted, told);
        }
        self.partitions += session.len();
        let id = self.unused_id();
        self.sessions.insert(id, session);
        id
    }

    /// The answer to a request that [`Begun::Continues`] a session says this of a partition, in this order: whether each
    /// is worth saying.
    ///
    /// # Errors
    /// Another request of the same session has come in between.
    pub(crate) fn prune<'a>(
        &mut self,
        request: SessionRequest,
        answer: impl Iterator<Item = (&'a PartitionName, Told)>,
    ) -> Result<Vec<bool>, ErrorCode> {
        // The session was evicted meanwhile: what the reader knows is forgotten, so it is told everything.
        let Some(session) = self.sessions.get_mut(&request.id) else {
            return Ok(answer.map(|_| true).collect());
        };
        if session.epoch != next_epoch(request.epoch) {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        Ok(answer.map(|(name, told)| session.tell(name, told)).collect())
    }

    /// Whether a session of this size may be added, evicting another if that must be.
    fn make_room(&mut self, now: Mono, privileged: bool, size: usize) -> bool {
        if self.sessions.len() < self.slots {
            return true;
        }
        let victim = self.stale(now).or_else(|| self.less_valuable(privileged, size));
        victim.inspect(|id| self.remove(*id)).is_some()
    }

    /// The session that was not used for the longest time, if that is long enough.
    fn stale(&self, now: Mono) -> Option<i32> {
        let (id, session) = self.sessions.iter().min_by_key(|(id, session)| (session.used, **id))?;
        (now.since(session.used) > EVICTABLE_AFTER).then_some(*id)
    }

    /// The least valuable session that may be evicted, if it is of less value than one of this size.
    fn less_valuable(&self, privileged: bool, size: usize) -> Option<i32> {
        let evictable = |session: &Session| {
            (privileged && !session.privileged) || session.used.since(session.created) > EVICTABLE_AFTER
        };
        let value = |id: i32, session: &Session| (session.privileged, session.len(), id);
        let all = self.sessions.iter().filter(|(_, session)| evictable(session));
        let least = all.map(|(id, session)| value(*id, session)).min()?;
        ((privileged, size, NO_SESSION) > least).then_some(least.2)
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.len();
        }
    }

    fn unused_id(&mut self) -> i32 {
        loop {
            let id = self.prng.below(i32::MAX as u64) as i32 + 1;
            if !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

/// The epoch after this one; the largest is followed by 1.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

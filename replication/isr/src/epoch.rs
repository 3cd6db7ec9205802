//! Leader epochs: who may speak, where an epoch ended, where two logs part.

use highwater_base::{LeaderEpoch, Offset};

/// A leader epoch and the offset after its last record.
///
/// ```
/// use highwater_isr::EpochEnd;
/// assert!(!EpochEnd::UNDEFINED.is_defined());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EpochEnd {
    /// The epoch; [`LeaderEpoch::NONE`] if it is undefined.
    pub epoch: LeaderEpoch,
    /// Its end, exclusive; [`Offset::NONE`] if it is undefined.
    pub end: Offset,
}

impl EpochEnd {
    /// "I cannot say."
    pub const UNDEFINED: EpochEnd = EpochEnd { epoch: LeaderEpoch::NONE, end: Offset::NONE };

    /// Whether there is an end.
    pub const fn is_defined(self) -> bool {
        self.end.is_some()
    }
}

/// What a leader epoch in a message means to who receives it.
///
/// ```
/// use highwater_base::LeaderEpoch;
/// use highwater_isr::Fence;
/// assert_eq!(Fence::check(LeaderEpoch::new(3), LeaderEpoch::new(2)), Fence::Stale);
/// assert_eq!(Fence::check(LeaderEpoch::new(3), LeaderEpoch::NONE), Fence::Current);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fence {
    /// The sender knows the present epoch, or does not say.
    Current,
    /// The sender lives in an earlier epoch: FENCED_LEADER_EPOCH.
    Stale,
    /// The sender knows a later epoch than the receiver: UNKNOWN_LEADER_EPOCH.
    Unknown,
}

impl Fence {
    /// Compares the epoch in a message with the receiver's.
    pub fn check(own: LeaderEpoch, found: LeaderEpoch) -> Fence {
        if !found.is_some() || found == own {
            Fence::Current
        } else if found < own {
            Fence::Stale
        } else {
            Fence::Unknown
        }
    }
}

/// Epochs and the offsets at which they began, both strictly increasing. The engine keeps its own, on disk; this
/// one is for logs that are models, and says the rules.
///
/// ```
/// use highwater_base::{LeaderEpoch, Offset};
/// use highwater_isr::EpochHistory;
/// let mut history = EpochHistory::default();
/// history.assign(LeaderEpoch::new(5), Offset::new(10));
/// // A query before the first epoch gets the smallest start offset (KAFKA-7415).
/// assert_eq!(history.epoch_end(LeaderEpoch::new(4), Offset::new(12)).end, Offset::new(10));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct EpochHistory {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl EpochHistory {
    /// An epoch begins at `start`: entries that contradict it go.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.entries.last().is_some_and(|(latest, at)| *latest == epoch && *at <= start) {
            return;
        }
        self.entries.retain(|(e, at)| *e < epoch && *at < start);
        self.entries.push((epoch, start));
    }

    /// The log was cut at `end`: epochs that began there or later go, also if no bytes went (KAFKA-10706).
    pub fn truncate(&mut self, end: Offset) {
        self.entries.retain(|(_, at)| *at < end);
    }

    /// The latest epoch.
    pub fn latest(&self) -> LeaderEpoch {
        self.entries.last().map_or(LeaderEpoch::NONE, |(epoch, _)| *epoch)
    }

    /// The largest epoch at or before `asked` and its end, in a log that ends at `log_end`:
    ///
    /// | asked | answer |
    /// |---|---|
    /// | none, later than the latest, or no epoch known | undefined |
    /// | the latest | it, and the log's end |
    /// | before the first | `asked`, and the start of the first epoch after it |
    /// | else | the largest epoch at or before it, and the start of the next |
    pub fn epoch_end(&self, asked: LeaderEpoch, log_end: Offset) -> EpochEnd {
        let latest = self.latest();
        if !asked.is_some() || asked > latest {
            return EpochEnd::UNDEFINED;
        }
        if asked == latest {
            return EpochEnd { epoch: asked, end: log_end };
        }
        let next = self.entries.partition_point(|(epoch, _)| *epoch <= asked);
        let epoch = if next == 0 { asked } else { self.entries[next - 1].0 };
        EpochEnd { epoch, end: self.entries[next].1 }
    }
}

/// Where a follower cuts its log when its leader says that it diverges (kafka.md 5.6).
///
/// `leader` is the leader's answer about the follower's last epoch, `own` what the follower's log says about
/// *that* epoch. If both know the same epoch, their logs agree up to the smaller end; if the follower does not know
/// the leader's, it goes back to the end of the one before, and the next fetch asks again.
///
/// ```
/// use highwater_base::{LeaderEpoch, Offset};
/// use highwater_isr::{EpochEnd, divergence_point};
/// let leader = EpochEnd { epoch: LeaderEpoch::new(1), end: Offset::new(7) };
/// let own = EpochEnd { epoch: LeaderEpoch::new(1), end: Offset::new(5) };
/// assert_eq!(divergence_point(leader, own, Offset::ZERO, Offset::new(9)), Offset::new(5));
/// ```
pub fn divergence_point(leader: EpochEnd, own: EpochEnd, high_watermark: Offset, log_end: Offset) -> Offset {
    let to = if !leader.is_defined() {
        high_watermark
    } else if !leader.epoch.is_some() || !own.is_defined() {
        leader.end
    } else if own.epoch != leader.epoch {
        own.end
    } else {
        leader.end.min(own.end)
    };
    to.min(log_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(i32, i64)]) -> EpochHistory {
        let mut history = EpochHistory::default();
        for (epoch, start) in entries {
            history.assign(LeaderEpoch::new(*epoch), Offset::new(*start));
        }
        history
    }

    fn end(history: &EpochHistory, epoch: i32, log_end: i64) -> (i32, i64) {
        let end = history.epoch_end(LeaderEpoch::new(epoch), Offset::new(log_end));
        (end.epoch.get(), end.end.get())
    }

    #[test]
    fn every_row_of_the_epoch_end_table() {
        let h = history(&[(2, 4), (5, 10), (7, 12)]);
        assert_eq!(end(&h, -1, 20), (-1, -1));
        assert_eq!(end(&h, 8, 20), (-1, -1));
        assert_eq!(end(&EpochHistory::default(), 0, 20), (-1, -1));
        assert_eq!(end(&h, 7, 20), (7, 20));
        assert_eq!(end(&h, 1, 20), (1, 4));
        assert_eq!(end(&h, 2, 20), (2, 10));
        assert_eq!(end(&h, 4, 20), (2, 10));
        assert_eq!(end(&h, 6, 20), (5, 12));
    }

    #[test]
    fn a_new_epoch_drops_entries_that_contradict_it() {
        let mut h = history(&[(1, 0), (2, 10)]);
        h.assign(LeaderEpoch::new(3), Offset::new(10));
        assert_eq!(h, history(&[(1, 0), (3, 10)]));
        h.assign(LeaderEpoch::new(3), Offset::new(12));
        assert_eq!(h, history(&[(1, 0), (3, 10)]), "the same epoch goes on");
    }

    #[test]
    fn a_cut_that_takes_no_bytes_still_takes_the_epoch() {
        // R10.
        let mut h = history(&[(1, 0), (3, 10)]);
        h.truncate(Offset::new(10));
        assert_eq!(h, history(&[(1, 0)]));
    }

    /// A follower's and a leader's logs as the epochs of their records: the follower asks and cuts until it is
    /// told nothing more; gives what is left of it.
    fn reconcile(follower: &[i32], leader: &[i32]) -> usize {
        let history = |log: &[i32]| {
            let mut h = EpochHistory::default();
            for (at, epoch) in log.iter().enumerate() {
                h.assign(LeaderEpoch::new(*epoch), Offset::new(at as i64));
            }
            h
        };
        let theirs = history(leader);
        let leader_end = Offset::new(leader.len() as i64);
        let mut log = follower.to_vec();
        for _ in 0..10 {
            let own = history(&log);
            let log_end = Offset::new(log.len() as i64);
            let last = own.latest();
            if !last.is_some() {
                return 0;
            }
            let answer = theirs.epoch_end(last, leader_end);
            if answer.is_defined() && answer.epoch == last && answer.end >= log_end {
                return log.len();
            }
            let to = divergence_point(answer, own.epoch_end(answer.epoch, log_end), Offset::ZERO, log_end);
            log.truncate(to.get() as usize);
        }
        panic!("{follower:?} against {leader:?} does not end");
    }

    #[test]
    fn the_seven_shapes_of_divergence_are_cut_where_they_part() {
        // R19: behind in the same epoch; behind with a newer one at the leader; ahead in the same epoch; ahead in a
        // higher epoch; fork into different epochs; fork where the leader has more of the first; nothing common.
        for (follower, leader, kept) in [
            (&[1, 1][..], &[1, 1, 1][..], 2),
            (&[1, 1], &[1, 1, 2], 2),
            (&[1, 1, 1], &[1, 1], 2),
            (&[1, 1, 2], &[1, 1, 3], 2),
            (&[1, 1, 2, 2], &[1, 1, 3], 2),
            (&[1, 2, 2], &[1, 1, 3], 1),
            (&[1, 1], &[2, 2], 0),
        ] {
            assert_eq!(reconcile(follower, leader), kept, "{follower:?} against {leader:?}");
        }
    }
}

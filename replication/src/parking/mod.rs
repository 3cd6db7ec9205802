//! Requests that wait: for an offset to be reached, or for their time to be up.

mod fetch;
mod produce;

pub(crate) use fetch::ParkedFetches;
pub(crate) use produce::{ParkedProduce, ParkedProduces};

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::{Mono, Offset};

/// Things that wait until an end has reached an offset, in the order of these offsets, then of their coming; each no
/// longer than to its deadline.
#[derive(Debug)]
pub(crate) struct Parking<T> {
    by_offset: BTreeMap<(Offset, u64), (Mono, T)>,
    /// The same, by deadline.
    by_deadline: BTreeSet<(Mono, Offset, u64)>,
    next: u64,
}

impl<T> Default for Parking<T> {
    fn default() -> Parking<T> {
        Parking { by_offset: BTreeMap::new(), by_deadline: BTreeSet::new(), next: 0 }
    }
}

impl<T> Parking<T> {
    pub(crate) fn park(&mut self, until: Offset, deadline: Mono, item: T) {
        let number = self.next;
        self.next += 1;
        self.by_offset.insert((until, number), (deadline, item));
        self.by_deadline.insert((deadline, until, number));
    }

    /// Takes out the next one that waits for no more than `end`.
    pub(crate) fn pop_reached(&mut self, end: Offset) -> Option<T> {
        let (&(until, _), _) = self.by_offset.first_key_value()?;
        if until > end {
            return None;
        }
        self.pop_first()
    }

    /// Takes out the next one whose deadline is not later than `now`.
    pub(crate) fn pop_expired(&mut self, now: Mono) -> Option<T> {
        let &(deadline, until, number) = self.by_deadline.first()?;
        if deadline > now {
            return None;
        }
        self.by_deadline.pop_first();
        self.by_offset.remove(&(until, number)).map(|(_, item)| item)
    }

    /// Takes out any one.
    pub(crate) fn pop_first(&mut self) -> Option<T> {
        let ((until, number), (deadline, item)) = self.by_offset.pop_first()?;
        self.by_deadline.remove(&(deadline, until, number));
        Some(item)
    }

    /// Takes out one that waits for more than `end`.
    pub(crate) fn pop_beyond(&mut self, end: Offset) -> Option<T> {
        let (&(until, _), _) = self.by_offset.last_key_value()?;
        if until <= end {
            return None;
        }
        let ((until, number), (deadline, item)) = self.by_offset.pop_last()?;
        self.by_deadline.remove(&(deadline, until, number));
        Some(item)
    }

    /// Takes out those that `which` names.
    pub(crate) fn remove(&mut self, which: impl Fn(&T) -> bool) {
        let by_deadline = &mut self.by_deadline;
        self.by_offset.retain(|&(until, number), (deadline, item)| {
            let goes = which(item);
            if goes {
                by_deadline.remove(&(*deadline, until, number));
            }
            !goes
        });
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.by_deadline.first().map(|(deadline, _, _)| *deadline).filter(|at| *at < Mono::MAX)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_offset.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Mono {
        Mono::from_nanos(nanos)
    }

    #[test]
    fn what_is_reached_comes_out_in_order_and_what_is_not_stays() {
        let mut parking = Parking::default();
        for (until, name) in [(5, 'a'), (3, 'b'), (5, 'c'), (9, 'd')] {
            parking.park(Offset::new(until), Mono::MAX, name);
        }
        let mut out = String::new();
        while let Some(name) = parking.pop_reached(Offset::new(5)) {
            out.push(name);
        }
        assert_eq!((out.as_str(), parking.len()), ("bac", 1));
        assert_eq!(parking.next_deadline(), None);
    }

    #[test]
    fn a_deadline_takes_out_and_being_reached_takes_the_deadline_along() {
        let mut parking = Parking::default();
        parking.park(Offset::new(5), at(10), 'a');
        parking.park(Offset::new(1), at(20), 'b');
        assert_eq!(parking.pop_expired(at(9)), None);
        assert_eq!(parking.pop_expired(at(10)), Some('a'));
        assert_eq!(parking.next_deadline(), Some(at(20)));
        assert_eq!(parking.pop_reached(Offset::new(1)), Some('b'));
        assert_eq!((parking.next_deadline(), parking.len()), (None, 0));
    }

    #[test]
    fn only_what_waits_for_more_is_taken_from_beyond() {
        let mut parking = Parking::default();
        for (until, name) in [(5, 'a'), (9, 'b'), (7, 'c')] {
            parking.park(Offset::new(until), at(until as u64), name);
        }
        let beyond: String = std::iter::from_fn(|| parking.pop_beyond(Offset::new(5))).collect();
        assert_eq!((beyond.as_str(), parking.len(), parking.next_deadline()), ("bc", 1, Some(at(5))));
    }

    #[test]
    fn removal_takes_only_what_is_named() {
        let mut parking = Parking::default();
        parking.park(Offset::new(5), at(10), 1);
        parking.park(Offset::new(5), at(20), 2);
        parking.remove(|item| *item == 1);
        assert_eq!(parking.next_deadline(), Some(at(20)));
        assert_eq!(parking.pop_first(), Some(2));
    }
}

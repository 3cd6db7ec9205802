//! Deadlines, by key.

use std::collections::{BTreeMap, BTreeSet};

use highwater_base::Mono;

/// Deadlines, at most one a key. Due ones come out in order of time, then of key, so that a run depends on
/// nothing but its inputs.
///
/// ```
/// use highwater_base::Mono;
/// use highwater_runtime::Timers;
/// let mut timers = Timers::new();
/// timers.set(7, Mono::from_nanos(100));
/// timers.set(7, Mono::from_nanos(50)); // replaces the first
/// assert_eq!(timers.next_deadline(), Some(Mono::from_nanos(50)));
/// assert_eq!(timers.pop_due(Mono::from_nanos(49)), None);
/// assert_eq!(timers.pop_due(Mono::from_nanos(50)), Some(7));
/// assert_eq!(timers.pop_due(Mono::MAX), None);
/// ```
#[derive(Debug, Default)]
pub struct Timers {
    by_key: BTreeMap<u64, Mono>,
    by_time: BTreeSet<(Mono, u64)>,
}

impl Timers {
    /// No deadlines.
    pub fn new() -> Timers {
        Timers::default()
    }

    /// Sets the key's deadline, replacing an earlier one.
    pub fn set(&mut self, key: u64, at: Mono) {
        if let Some(before) = self.by_key.insert(key, at) {
            if before == at {
                return;
            }
            self.by_time.remove(&(before, key));
        }
        self.by_time.insert((at, key));
    }

    /// Removes the key's deadline and says whether it had one.
    pub fn cancel(&mut self, key: u64) -> bool {
        match self.by_key.remove(&key) {
            Some(at) => self.by_time.remove(&(at, key)),
            None => false,
        }
    }

    /// Takes out the first key whose deadline is not later than `now`.
    pub fn pop_due(&mut self, now: Mono) -> Option<u64> {
        let (at, key) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        self.by_key.remove(&key);
        Some(key)
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// How many keys have a deadline.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Mono {
        Mono::from_nanos(nanos)
    }

    #[test]
    fn due_keys_come_in_order_of_time_then_key() {
        let mut timers = Timers::new();
        for (key, time) in [(3, 20), (1, 20), (2, 10), (4, 30)] {
            timers.set(key, at(time));
        }
        let mut due = Vec::new();
        while let Some(key) = timers.pop_due(at(20)) {
            due.push(key);
        }
        assert_eq!(due, [2, 1, 3]);
        assert_eq!(timers.next_deadline(), Some(at(30)));
    }

    #[test]
    fn a_cancelled_key_is_never_due() {
        let mut timers = Timers::new();
        timers.set(1, at(5));
        assert!(timers.cancel(1));
        assert!(!timers.cancel(1));
        assert_eq!(timers.pop_due(Mono::MAX), None);
        assert!(timers.is_empty());
    }
}

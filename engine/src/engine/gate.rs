//! How many requests may be in flight, and how many bytes: fewer requests than a mailbox holds, so that a send
//! never finds it full. Writers and readers have a gate each, so neither ever waits for the other.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Counts requests in flight.
#[derive(Debug)]
pub(crate) struct Gate {
    in_flight: Mutex<InFlight>,
    one_less: Condvar,
    most: InFlight,
}

/// What is in flight, or may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct InFlight {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
}

/// One request's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    bytes: usize,
}

impl Gate {
    pub(crate) fn new(requests: usize, bytes: usize) -> Gate {
        Gate {
            in_flight: Mutex::default(),
            one_less: Condvar::new(),
            most: InFlight { requests: requests.max(1), bytes },
        }
    }

    /// Waits for a place for a request of so many bytes. One alone always gets in, whatever its size.
    pub(crate) fn enter(self: &Arc<Gate>, bytes: usize) -> Place {
        let mut in_flight = self.in_flight.lock();
        while !self.has_room(*in_flight, bytes) {
            self.one_less.wait(&mut in_flight);
        }
        in_flight.requests += 1;
        in_flight.bytes += bytes;
        // One who left may have made room for several who wait.
        self.one_less.notify_one();
        Place { gate: Arc::clone(self), bytes }
    }

    /// A place, if there is one now.
    pub(crate) fn try_enter(self: &Arc<Gate>, bytes: usize) -> Option<Place> {
        let mut in_flight = self.in_flight.lock();
        if !self.has_room(*in_flight, bytes) {
            return None;
        }
        in_flight.requests += 1;
        in_flight.bytes += bytes;
        Some(Place { gate: Arc::clone(self), bytes })
    }

    pub(crate) fn in_flight(&self) -> InFlight {
        *self.in_flight.lock()
    }

    fn has_room(&self, now: InFlight, bytes: usize) -> bool {
        now.requests < self.most.requests
            && (now.requests == 0 || now.bytes.saturating_add(bytes) <= self.most.bytes)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut in_flight = self.gate.in_flight.lock();
        in_flight.requests -= 1;
        in_flight.bytes -= self.bytes;
        drop(in_flight);
        self.gate.one_less.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_bytes_are_bounded_but_one_alone_always_gets_in() {
        let gate = Arc::new(Gate::new(2, 100));
        let large = gate.try_enter(1000).unwrap();
        assert!(gate.try_enter(1).is_none());
        drop(large);
        let _first = gate.try_enter(60).unwrap();
        assert!(gate.try_enter(60).is_none());
        let second = gate.try_enter(40).unwrap();
        assert!(gate.try_enter(0).is_none(), "no third request");
        drop(second);
        assert_eq!(gate.in_flight(), InFlight { requests: 1, bytes: 60 });
    }
}

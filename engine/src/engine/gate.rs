//! How many requests may be in flight: fewer than a mailbox holds, so that a send never finds it full.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Counts requests in flight.
#[derive(Debug)]
pub(crate) struct Gate {
    in_flight: Mutex<usize>,
    one_less: Condvar,
    limit: usize,
}

/// One request's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Gate>);

impl Gate {
    pub(crate) fn new(limit: usize) -> Gate {
        Gate { in_flight: Mutex::new(0), one_less: Condvar::new(), limit: limit.max(1) }
    }

    /// Waits for a place.
    pub(crate) fn enter(self: &Arc<Gate>) -> Place {
        let mut in_flight = self.in_flight.lock();
        while *in_flight >= self.limit {
            self.one_less.wait(&mut in_flight);
        }
        *in_flight += 1;
        Place(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.in_flight.lock() -= 1;
        self.0.one_less.notify_one();
    }
}

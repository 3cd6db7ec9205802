//! The memory that the tails of all logs of a shard hold together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use highwater_base::BLOCK;
use highwater_io::{Chunk, Io};
use parking_lot::Mutex;

/// What the tails of a shard's logs may hold together: the logs of one thread share one ([`crate::Log::share_tail_space`]). A
/// clone is the same space.
///
/// Each log has an even share of it for its chunks and for what it keeps for readers. Once it is full, a log that has
/// bytes to write takes no more before they are written ([`crate::AppendError::Backpressure`]), and one that has none keeps no more
/// than its last block. A log without unwritten bytes may always append, so nobody waits for others only; the space can be exceeded by
/// a batch of each log.
///
/// ```
/// let space = highwater_engine::TailSpace::new(256 << 20);
/// assert_eq!(space.held(), 0);
/// ```
#[derive(Clone)]
pub struct TailSpace {
    shared: Arc<Shared>,
}

struct Shared {
    limit: u64,
    held: AtomicU64,
    /// How many tails hold more than a block.
    holders: AtomicU64,
    /// Empty chunks from the shard's pool, for those who need one between two steps: fresh memory costs more than what is
    /// copied into it.
    stock: Mutex<Vec<Chunk>>,
    /// Somebody took from the stock, or found it empty.
    low: AtomicBool,
}

/// So many chunks are kept in stock.
const STOCK: usize = 32;

impl TailSpace {
    /// For `limit` bytes.
    pub fn new(limit: u64) -> TailSpace {
        TailSpace {
            shared: Arc::new(Shared {
                limit,
                held: AtomicU64::new(0),
                holders: AtomicU64::new(0),
                stock: Mutex::new(Vec::new()),
                low: AtomicBool::new(false),
            }),
        }
    }

    /// Bytes of memory that tails hold now.
    pub fn held(&self) -> u64 {
        self.shared.held.load(Relaxed)
    }

    /// How many bytes they may hold.
    pub fn limit(&self) -> u64 {
        self.shared.limit
    }

    pub(crate) fn is_full(&self) -> bool {
        self.held() >= self.limit()
    }

    /// A log's part of it, if all that hold something have the same.
    pub(crate) fn share(&self) -> u64 {
        self.limit() / self.shared.holders.load(Relaxed).max(1)
    }

    /// A tail that held `before` bytes holds `after`.
    pub(crate) fn change(&self, before: u64, after: u64) {
        let shared = &self.shared;
        shared.held.fetch_add(after.wrapping_sub(before), Relaxed);
        match (before > BLOCK, after > BLOCK) {
            (false, true) => drop(shared.holders.fetch_add(1, Relaxed)),
            (true, false) => drop(shared.holders.fetch_sub(1, Relaxed)),
            _ => {}
        }
    }

    /// An empty chunk of this capacity, from the stock if it has one.
    pub(crate) fn chunk(&self, capacity: usize) -> Chunk {
        self.shared.low.store(true, Relaxed);
        let mut stock = self.shared.stock.lock();
        let fitting = stock.iter().rposition(|chunk| chunk.capacity() == capacity);
        fitting.map_or_else(|| Chunk::new(capacity), |index| stock.swap_remove(index))
    }

    /// Bytes in the stock.
    #[cfg(test)]
    pub(crate) fn stocked(&self) -> usize {
        self.shared.stock.lock().iter().map(Chunk::capacity).sum()
    }

    /// Whether the stock is to be filled.
    pub(crate) fn is_low(&self) -> bool {
        self.shared.low.load(Relaxed)
    }

    /// Fills the stock with chunks of this capacity, if somebody took one since the last time.
    pub(crate) fn restock(&self, capacity: usize, io: &mut dyn Io) {
        if !self.shared.low.swap(false, Relaxed) {
            return;
        }
        let mut stock = self.shared.stock.lock();
        stock.retain(|chunk| chunk.capacity() == capacity);
        while stock.len() < STOCK {
            stock.push(io.chunk(capacity));
        }
    }
}

impl fmt::Debug for TailSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TailSpace({} of {} bytes)", self.held(), self.limit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_even_among_those_that_hold_more_than_a_block() {
        let space = TailSpace::new(1 << 20);
        assert_eq!(space.share(), 1 << 20);
        for _ in 0..4 {
            space.change(0, BLOCK);
            space.change(BLOCK, 256 << 10);
        }
        assert_eq!((space.held(), space.share()), (1 << 20, 256 << 10));
        assert!(space.is_full());
        space.change(256 << 10, 0);
        space.change(256 << 10, BLOCK);
        assert_eq!(space.share(), 512 << 10);
        assert!(!space.is_full());
    }
}

//! Block-aligned memory that is kept: the first touch of fresh memory is the slowest thing on a virtual machine
//! (0.4 to 0.6 GB/s measured), so buffers are made once and go from hand to hand.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use highwater_base::BLOCK;

use crate::arena::{ARENA, Arena, Home};
use crate::buffer::Registered;
use crate::{Buffer, Chunk};

/// The sizes kept: (bytes, how many at most). Smaller and larger requests are not worth a slot. Of the larger two there are
/// each a few more than the tails of a shard may hold (`Limits::shard_tail_bytes`).
const CLASSES: [(usize, usize); 3] = [(16 << 10, 4096), (64 << 10, 5120), (1 << 20, 288)];

/// Requests below this are served elsewhere: they would waste most of the smallest class.
const SMALLEST: usize = 8 << 10;

/// How many arenas there can be: the size of the ring's table.
pub(crate) const ARENAS: usize = {
    let [small, middle, large] = CLASSES;
    (small.0 * small.1 + middle.0 * middle.1 + large.0 * large.1) / ARENA
};

/// The pool of one `Io`. Buffers may outlive it and come back from any thread.
pub(crate) struct Pool {
    classes: [Class; 3],
    /// How many arenas it has.
    arenas: u16,
}

struct Class {
    size: usize,
    limit: usize,
    slots: Vec<Slot>,
    home: Arc<Home>,
}

#[derive(Clone, Copy)]
struct Slot {
    at: NonNull<u8>,
    registered: Option<Registered>,
}

impl Default for Pool {
    fn default() -> Pool {
        let classes =
            CLASSES.map(|(size, limit)| Class { size, limit, slots: Vec::new(), home: Arc::default() });
        Pool { classes, arenas: 0 }
    }
}

impl Pool {
    /// A buffer whose capacity is `len` rounded up to blocks. `register` is told of memory used for the first
    /// time (its number, address, size), to make it known to a ring, if there is one.
    pub(crate) fn buffer(
        &mut self,
        len: usize,
        register: impl FnMut(u16, NonNull<u8>, usize) -> Option<Registered>,
    ) -> Buffer {
        self.pooled(len, register).unwrap_or_else(|| Buffer::new(len))
    }

    /// Likewise, as a chunk.
    pub(crate) fn chunk(
        &mut self,
        len: usize,
        register: impl FnMut(u16, NonNull<u8>, usize) -> Option<Registered>,
    ) -> Chunk {
        self.pooled(len, register).map_or_else(|| Chunk::new(len), Chunk::from_buffer)
    }

    fn pooled(
        &mut self,
        len: usize,
        register: impl FnMut(u16, NonNull<u8>, usize) -> Option<Registered>,
    ) -> Option<Buffer> {
        let capacity = len.checked_next_multiple_of(BLOCK as usize)?;
        if capacity < SMALLEST {
            return None;
        }
        let class = self.classes.iter_mut().find(|class| capacity <= class.size)?;
        let free = class.home.take();
        let index = match free {
            Some(index) => index,
            None => class.grow(&mut self.arenas, register)?,
        };
        let slot = class.slots[usize::from(index)];
        // SAFETY: the slot is `size >= capacity` bytes of an arena that `home` keeps, initialised (the system
        // gives zeros) and aligned; its index was in no list but `free`, from where it has just been taken.
        Some(unsafe { Buffer::pooled(slot.at, capacity, Arc::clone(&class.home), index, slot.registered) })
    }
}

impl Class {
    /// Makes the slots of one more arena; gives one of them and frees the others.
    fn grow(
        &mut self,
        arenas: &mut u16,
        mut register: impl FnMut(u16, NonNull<u8>, usize) -> Option<Registered>,
    ) -> Option<u16> {
        let room = (self.limit - self.slots.len()).min(ARENA / self.size);
        if room == 0 {
            return None;
        }
        let arena = Arena::new().ok()?;
        let registered = register(*arenas, arena.at(), ARENA);
        *arenas += 1;
        let made = self.slots.len() as u16..(self.slots.len() + room) as u16;
        for n in 0..room {
            // SAFETY: `n < ARENA / size`, so this lies inside the arena.
            let at = unsafe { arena.at().add(n * self.size) };
            self.slots.push(Slot { at, registered });
        }
        self.home.keep(arena, made.clone().skip(1).rev());
        Some(made.start)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made: usize = self.classes.iter().map(|class| class.slots.len() * class.size).sum();
        write!(f, "Pool({made} bytes)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unregistered(_: u16, _: NonNull<u8>, _: usize) -> Option<Registered> {
        None
    }

    #[test]
    fn a_buffer_comes_back_and_goes_out_again() {
        let mut pool = Pool::default();
        let first = pool.buffer(1 << 20, unregistered);
        assert_eq!(first.capacity(), 1 << 20);
        let at = first.filled().as_ptr();
        let other = pool.buffer(1 << 20, unregistered);
        assert_ne!(other.filled().as_ptr(), at);
        let slice = first.freeze();
        let view = slice.range(0..0);
        drop(slice);
        assert_ne!(pool.buffer(1 << 20, unregistered).filled().as_ptr(), at, "a view still holds it");
        drop(view);
        assert_eq!(pool.buffer(1 << 20, unregistered).filled().as_ptr(), at);
    }

    #[test]
    fn an_exhausted_class_falls_back_to_plain_memory() {
        let mut pool = Pool::default();
        let mut arenas = 0;
        let held: Vec<Buffer> = (0..CLASSES[1].1 + 3)
            .map(|_| {
                pool.buffer(64 << 10, |_, _, _| {
                    arenas += 1;
                    None
                })
            })
            .collect();
        assert_eq!(arenas, CLASSES[1].0 * CLASSES[1].1 / ARENA);
        drop(pool);
        assert!(held.iter().all(|buffer| buffer.capacity() == 64 << 10));
    }

    #[test]
    fn capacity_is_what_was_asked_for_in_blocks() {
        let mut pool = Pool::default();
        assert_eq!(pool.buffer(100_000, unregistered).capacity(), 102_400);
        assert_eq!(pool.buffer(5, unregistered).capacity(), 4_096);
        assert_eq!(pool.chunk(3 << 20, unregistered).capacity(), 3 << 20);
    }
}

//! A queue that knows its limit.

use std::collections::VecDeque;

/// A first-in, first-out queue of at most `limit` items.
///
/// ```
/// use highwater_base::Bounded;
/// let mut q = Bounded::new(1);
/// q.push(1).unwrap();
/// assert_eq!(q.push(2).unwrap_err().0, 2);
/// assert_eq!(q.pop(), Some(1));
/// ```
#[derive(Debug)]
pub struct Bounded<T> {
    items: VecDeque<T>,
    limit: usize,
}

/// The queue was full; here is the item back.
///
/// ```
/// assert_eq!(highwater_base::Full(3).0, 3);
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> Bounded<T> {
    /// An empty queue; it allocates as it fills.
    pub const fn new(limit: usize) -> Bounded<T> {
        Bounded { items: VecDeque::new(), limit }
    }

    /// Adds at the end, or gives the item back.
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        if self.is_full() {
            return Err(Full(item));
        }
        self.items.push_back(item);
        Ok(())
    }

    /// Takes from the front.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// The front item.
    pub fn front(&self) -> Option<&T> {
        self.items.front()
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether the next push would fail.
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.limit
    }
}

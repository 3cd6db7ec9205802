//! Parts of a log that most logs do without most of the time.

use std::ops::{Deref, DerefMut};

/// A value that takes no more room than a pointer as long as it is what it was at first, as for an idle log it is. To look at
/// it never takes any; to change it does, until [`Rare::rest`].
#[derive(Debug)]
pub(crate) struct Rare<T>(Option<Box<T>>);

/// What a [`Rare`] value is at first.
pub(crate) trait AtFirst: Sized + 'static {
    /// A new one.
    const NEW: Self;
    /// The one that is seen where there is none.
    const SEEN: &'static Self;
}

impl<T> Rare<T> {
    /// As at first.
    pub(crate) const fn new() -> Rare<T> {
        Rare(None)
    }

    /// What was changed since it was at first, if anything was.
    pub(crate) fn changed(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// Gives its room back if it is as good as it was at first.
    pub(crate) fn rest(&mut self, is_as_at_first: impl FnOnce(&T) -> bool) {
        if self.0.as_deref().is_some_and(is_as_at_first) {
            self.0 = None;
        }
    }
}

impl<T: AtFirst> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::SEEN)
    }
}

impl<T: AtFirst> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_with(|| Box::new(T::NEW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Waiting(Vec<u32>);

    impl AtFirst for Waiting {
        const NEW: Waiting = Waiting(Vec::new());
        const SEEN: &'static Waiting = &Waiting::NEW;
    }

    #[test]
    fn only_a_change_takes_room_and_only_what_is_as_at_first_gives_it_back() {
        let mut rare: Rare<Waiting> = Rare::new();
        assert!(rare.deref().0.is_empty() && rare.changed().is_none());
        rare.deref_mut().0.push(7);
        rare.rest(|waiting| waiting.0.is_empty());
        assert_eq!(rare.changed().map(|waiting| waiting.0.pop()), Some(Some(7)));
        rare.rest(|waiting| waiting.0.is_empty());
        assert!(rare.changed().is_none());
    }
}

//! Handles: small numbers that name what is open, and are not mistaken for what was open before.

use std::collections::VecDeque;

/// The low bits of a handle are its slot, the others count the slot's uses.
const SLOT_BITS: u32 = 20;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;

/// Values by handle. A slot that was freed is used again as late as possible, under another handle.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: VecDeque<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    uses: u32,
    value: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { slots: Vec::new(), free: VecDeque::new() }
    }
}

impl<T> Slots<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop_front() {
            let slot = &mut self.slots[index as usize];
            slot.uses = slot.uses.wrapping_add(1);
            slot.value = Some(value);
            return slot.uses << SLOT_BITS | index;
        }
        let index = self.slots.len() as u32;
        assert!(index <= SLOT_MASK, "more than {SLOT_MASK} handles are open");
        self.slots.push(Slot { uses: 0, value: Some(value) });
        index
    }

    /// The slot that a handle names, whether or not it is still open.
    pub(crate) fn index(handle: u32) -> u32 {
        handle & SLOT_MASK
    }

    pub(crate) fn get_mut(&mut self, handle: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut((handle & SLOT_MASK) as usize)?;
        if slot.uses << SLOT_BITS != handle & !SLOT_MASK {
            return None;
        }
        slot.value.as_mut()
    }

    pub(crate) fn remove(&mut self, handle: u32) -> Option<T> {
        self.get_mut(handle)?;
        let index = handle & SLOT_MASK;
        self.free.push_back(index);
        self.slots[index as usize].value.take()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let handle = slot.uses << SLOT_BITS | index as u32;
            slot.value.as_mut().map(|value| (handle, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_names_nothing_once_removed() {
        let mut slots = Slots::default();
        let a = slots.insert('a');
        assert_eq!(slots.remove(a), Some('a'));
        let b = slots.insert('b');
        assert_eq!(Slots::<char>::index(a), Slots::<char>::index(b));
        assert_ne!(a, b);
        assert_eq!(slots.get_mut(a), None);
        assert_eq!(slots.remove(a), None);
        assert_eq!(slots.get_mut(b), Some(&mut 'b'));
        assert_eq!(slots.iter_mut().count(), 1);
    }
}

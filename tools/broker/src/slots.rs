//! Values by number, where a number is never valid for two values.

/// Values under keys that are found in constant time. A key holds the slot and how often it was used before, so
/// that a late message about a value that is gone finds nothing, not its successor.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    /// No values.
    pub(crate) const fn new() -> Slots<T> {
        Slots { slots: Vec::new(), free: Vec::new() }
    }

    /// Adds a value and gives its key.
    pub(crate) fn insert(&mut self, value: T) -> u64 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[at as usize];
        slot.value = Some(value);
        u64::from(slot.generation) << 32 | u64::from(at)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: u64) -> Option<&T> {
        let slot = self.slots.get(key as u32 as usize)?;
        slot.value.as_ref().filter(|_| slot.generation == (key >> 32) as u32)
    }

    /// The value of a key, to change it.
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let slot = self.slots.get_mut(key as u32 as usize)?;
        slot.value.as_mut().filter(|_| slot.generation == (key >> 32) as u32)
    }

    /// Takes the value of a key out; the key is never valid again.
    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let slot = self.slots.get_mut(key as u32 as usize)?;
        if slot.generation != (key >> 32) as u32 {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key as u32);
        Some(value)
    }

    /// The key of the value in a slot, if there is one.
    pub(crate) fn key_at(&self, at: u32) -> Option<u64> {
        let slot = self.slots.get(at as usize)?;
        slot.value.as_ref().map(|_| u64::from(slot.generation) << 32 | u64::from(at))
    }

    /// Every key, by slot.
    pub(crate) fn keys(&self) -> Vec<u64> {
        (0..self.slots.len() as u32).filter_map(|at| self.key_at(at)).collect()
    }

    /// How many values.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_value_finds_nothing_also_after_its_slot_is_used_again() {
        let mut slots = Slots::new();
        let a = slots.insert("a");
        assert_eq!(slots.remove(a), Some("a"));
        let b = slots.insert("b");
        assert_eq!(a as u32, b as u32);
        assert_eq!((slots.get(a), slots.get(b)), (None, Some(&"b")));
        assert_eq!(slots.remove(a), None);
        assert_eq!((slots.len(), slots.keys()), (1, vec![b]));
    }
}

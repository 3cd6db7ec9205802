//! The latest offset of each key, in memory of a fixed size.

use highwater_base::Offset;

use super::hash::siphash128;

/// Bytes of one slot: 16 of the key's hash, 8 of the offset.
pub const KEY_SLOT_BYTES: usize = 24;

/// A table of fixed size from keys to their latest offsets, by open addressing; at most nine tenths of its slots are
/// used. Keys are known by a keyed hash of 128 bits, never compared, as in Kafka (kafka.md 3.8).
///
/// ```
/// use highwater_base::Offset;
/// use highwater_engine::compact::KeyMap;
/// let mut map = KeyMap::new(24 * 10, [1, 2]);
/// assert!(map.put(b"a", Offset::new(3)) && map.put(b"a", Offset::new(7)));
/// assert_eq!(map.get(b"a"), Some(Offset::new(7)));
/// assert_eq!((map.get(b"b"), map.len(), map.bytes()), (None, 1, 240));
/// ```
#[derive(Debug)]
pub struct KeyMap {
    slots: Vec<Slot>,
    used: usize,
    key: [u64; 2],
}

/// Low and high half of the hash, and the offset plus one: 0 is an empty slot.
type Slot = [u64; 3];

const _: () = assert!(std::mem::size_of::<Slot>() == KEY_SLOT_BYTES);

impl KeyMap {
    /// An empty table of `bytes` bytes, at least two slots. `key` keys the hash: a value that writers of records cannot
    /// know. Memory that is not used is not touched.
    pub fn new(bytes: usize, key: [u64; 2]) -> KeyMap {
        KeyMap { slots: vec![[0; 3]; (bytes / KEY_SLOT_BYTES).max(2)], used: 0, key }
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Bytes of the table.
    pub fn bytes(&self) -> usize {
        self.slots.len() * KEY_SLOT_BYTES
    }

    /// Notes the offset of a record with this key; later offsets of a key come later. False, and nothing is noted, if
    /// the key is a new one and there is no room for it.
    pub fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        self.put_hash(self.hash(key), offset)
    }

    /// What a key is known by.
    pub(super) fn hash(&self, key: &[u8]) -> u128 {
        siphash128(self.key, key)
    }

    /// Looks where each of these would be, all at once: a large table is far from the processor, and waits that overlap are one
    /// wait. What is then done with each finds its slot near.
    pub(super) fn approach(&self, hashes: impl Iterator<Item = u128>) {
        let seen = hashes.fold(0, |seen, hash| seen | self.slots[self.home(hash)][2]);
        std::hint::black_box(seen);
    }

    /// Like [`KeyMap::put`].
    pub(super) fn put_hash(&mut self, hash: u128, offset: Offset) -> bool {
        let at = self.find(hash);
        if self.slots[at][2] == 0 {
            // An empty slot must stay, or a search would not end.
            if self.used >= self.slots.len() * 9 / 10 {
                return false;
            }
            self.used += 1;
        }
        self.slots[at] = [hash as u64, (hash >> 64) as u64, offset.get() as u64 + 1];
        true
    }

    /// The latest offset of this key.
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        self.get_hash(self.hash(key))
    }

    /// Like [`KeyMap::get`].
    pub(super) fn get_hash(&self, hash: u128) -> Option<Offset> {
        let slot = self.slots[self.find(hash)];
        slot[2].checked_sub(1).map(|offset| Offset::new(offset as i64))
    }

    /// Forgets everything, gives back at most `bytes` of its memory, and says whether there is more: to give back a hundred
    /// megabytes takes the system many milliseconds.
    pub(super) fn dissolve(&mut self, bytes: usize) -> bool {
        self.used = 0;
        self.slots.truncate(self.slots.len().saturating_sub((bytes / KEY_SLOT_BYTES).max(1)));
        self.slots.shrink_to_fit();
        !self.slots.is_empty()
    }

    /// The slot where a search for this hash begins: its high half, scaled to the table: no division, and every slot is as
    /// likely.
    fn home(&self, hash: u128) -> usize {
        (((hash >> 64) * self.slots.len() as u128) >> 64) as usize
    }

    /// The slot with this hash, or the empty one where it belongs.
    fn find(&self, hash: u128) -> usize {
        let (low, high) = (hash as u64, (hash >> 64) as u64);
        let mut at = self.home(hash);
        loop {
            let slot = &self.slots[at];
            if slot[2] == 0 || (slot[0] == low && slot[1] == high) {
                return at;
            }
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_map_until_nine_tenths_are_used() {
        let mut map = KeyMap::new(1000 * KEY_SLOT_BYTES, [7, 9]);
        let key = |i: i64| format!("key-{i}").into_bytes();
        for i in 0..900 {
            assert!(map.put(&key(i), Offset::new(i)));
        }
        assert!(!map.put(&key(900), Offset::new(900)));
        for i in 0..900 {
            assert!(map.put(&key(i), Offset::new(2000 + i)));
        }
        assert_eq!(map.len(), 900);
        for i in 0..900 {
            assert_eq!(map.get(&key(i)), Some(Offset::new(2000 + i)));
        }
        assert_eq!(map.get(&key(900)), None);
    }

    #[test]
    fn its_memory_goes_bit_by_bit() {
        let mut map = KeyMap::new(10 * KEY_SLOT_BYTES, [7, 9]);
        assert!(map.put(b"a", Offset::ZERO));
        map.approach([0, u128::MAX].into_iter());
        let mut left = Vec::new();
        while map.dissolve(4 * KEY_SLOT_BYTES) {
            left.push(map.bytes() / KEY_SLOT_BYTES);
        }
        assert_eq!((left, map.bytes(), map.len()), (vec![6, 2], 0, 0));
        assert!(!map.dissolve(0));
    }

    #[test]
    fn the_smallest_table_takes_a_key_and_finds_no_other() {
        let mut map = KeyMap::new(0, [0, 0]);
        assert!(map.put(b"", Offset::ZERO));
        assert!(!map.put(b"x", Offset::new(1)));
        assert_eq!((map.get(b""), map.get(b"x")), (Some(Offset::ZERO), None));
    }
}

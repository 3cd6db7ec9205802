//! The alignment that direct files ask for.

use highwater_base::BLOCK;

/// Panics unless a transfer on a direct file is aligned: its position, its length and its memory.
pub(crate) fn check(what: &str, at: u64, len: usize, memory: *const u8) {
    let aligned = at.is_multiple_of(BLOCK)
        && (len as u64).is_multiple_of(BLOCK)
        && (memory as usize as u64).is_multiple_of(BLOCK);
    assert!(
        aligned,
        "{what}: a direct file needs position, length and memory in multiples of {BLOCK}, \
         not {len} bytes at {at} (memory {} off)",
        memory as usize as u64 % BLOCK
    );
}

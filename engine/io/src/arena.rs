//! Memory straight from the system, in huge pages, and who has which part of it.

use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;

use parking_lot::Mutex;

/// Memory is taken from the system in pieces of this size and alignment: one huge page, so that the device gets
/// one long segment and not 512 pages.
pub(crate) const ARENA: usize = 2 << 20;

/// Where a pooled buffer goes when nobody holds it; keeps its memory alive.
#[derive(Default)]
pub(crate) struct Home {
    /// Indices into the class's slots, last used on top.
    free: Mutex<Vec<u16>>,
    arenas: Mutex<Vec<Arena>>,
}

impl Home {
    /// A slot that nobody holds.
    pub(crate) fn take(&self) -> Option<u16> {
        self.free.lock().pop()
    }

    /// Keeps one more arena, with slots in it that nobody holds.
    pub(crate) fn keep(&self, arena: Arena, free: impl Iterator<Item = u16>) {
        self.arenas.lock().push(arena);
        self.free.lock().extend(free);
    }

    pub(crate) fn give_back(&self, slot: u16) {
        self.free.lock().push(slot);
    }
}

/// A piece of memory that nobody ever writes: zeros, to prepare files with. `None` if there is no memory.
pub(crate) fn zeros() -> Option<&'static [u8]> {
    static ZEROS: OnceLock<Option<Arena>> = OnceLock::new();
    let arena = ZEROS.get_or_init(|| Arena::new().ok()).as_ref()?;
    // SAFETY: the arena is initialised (the system gives zeros), lives as long as the process, and its address
    // goes nowhere else.
    Some(unsafe { std::slice::from_raw_parts(arena.at.as_ptr(), ARENA) })
}

/// [`ARENA`] bytes, aligned to as much, straight from the system.
pub(crate) struct Arena {
    at: NonNull<u8>,
}

// SAFETY: an arena is plain memory; who may touch which part is decided by the buffers made of it.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// The first of its bytes.
    pub(crate) fn at(&self) -> NonNull<u8> {
        self.at
    }

    pub(crate) fn new() -> io::Result<Arena> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
        // SAFETY: a new anonymous mapping anywhere touches nothing that exists.
        let raw = unsafe { libc::mmap(std::ptr::null_mut(), 2 * ARENA, protection, flags, -1, 0) };
        if raw == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let skip = raw.cast::<u8>().align_offset(ARENA);
        // SAFETY: the mapping is ours; what is unmapped lies inside it, around the aligned part, in whole pages
        // (`skip` is a multiple of the page since both ends are).
        let at = unsafe {
            let at = raw.cast::<u8>().add(skip);
            if skip > 0 {
                libc::munmap(raw, skip);
            }
            libc::munmap(at.add(ARENA).cast(), ARENA - skip);
            at
        };
        #[cfg(target_os = "linux")]
        // SAFETY: advice on a mapping of ours; its failure changes nothing.
        unsafe {
            libc::madvise(at.cast(), ARENA, libc::MADV_HUGEPAGE);
        }
        let at = NonNull::new(at).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Arena { at })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and `Home` is dropped only once no buffer refers to it.
        unsafe { libc::munmap(self.at.as_ptr().cast(), ARENA) };
    }
}

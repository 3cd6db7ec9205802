//! Aligned memory that an operation can own: [`Buffer`] to be filled, [`Chunk`] to be appended to,
//! [`Slice`] to be read and counted.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::Arc;

use highwater_base::BLOCK;

use crate::arena::Home;
use crate::copy::{copy_past_cache, settle};

/// An allocation aligned to the block. Whoever holds it decides, by type, which part may be written:
/// a `Buffer` is its only owner; a `Chunk` writes only beyond what any `Slice` of it can see.
struct Memory {
    at: NonNull<u8>,
    capacity: usize,
    /// The pool, and the slot in it, that gets the memory back; `None` frees it.
    home: Option<(Arc<Home>, u16)>,
    /// How a ring knows this memory.
    registered: Option<Registered>,
}

/// The name of memory that a ring has pinned: good for that ring alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Registered {
    /// Which ring of this process.
    pub(crate) ring: u32,
    /// The index in its table.
    pub(crate) index: u16,
}

// SAFETY: `Memory` is plain bytes; which thread may write where is decided by its three owners below.
unsafe impl Send for Memory {}
// SAFETY: as above; shared access is read-only for the parts that `Slice`s see.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(capacity: usize) -> Memory {
        let capacity = capacity.next_multiple_of(BLOCK as usize).max(BLOCK as usize);
        let layout = Layout::from_size_align(capacity, BLOCK as usize).expect("a buffer larger than memory");
        // SAFETY: the layout's size is not zero.
        let at = unsafe { alloc_zeroed(layout) };
        let Some(at) = NonNull::new(at) else { handle_alloc_error(layout) };
        Memory { at, capacity, home: None, registered: None }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match &self.home {
            Some((home, slot)) => home.give_back(*slot),
            None => {
                let layout =
                    Layout::from_size_align(self.capacity, BLOCK as usize).expect("checked when made");
                // SAFETY: allocated in `new` with this layout, and nobody else holds it.
                unsafe { dealloc(self.at.as_ptr(), layout) }
            }
        }
    }
}

/// Owned, block-aligned memory with a filled front part, for reads and receives.
///
/// ```
/// use highwater_io::Buffer;
/// let mut b = Buffer::new(100); // rounded up to a block
/// b.extend(b"abc");
/// assert_eq!(b.filled(), b"abc");
/// let s = b.freeze();
/// assert_eq!(&s[1..], b"bc");
/// ```
pub struct Buffer {
    memory: Memory,
    len: usize,
}

impl Buffer {
    /// At least `capacity` bytes, rounded up to whole blocks; nothing filled.
    pub fn new(capacity: usize) -> Buffer {
        Buffer { memory: Memory::new(capacity), len: 0 }
    }

    /// What has been filled.
    pub fn filled(&self) -> &[u8] {
        // SAFETY: `len <= capacity`, the memory is initialised (zeroed when made), and `self` is its owner.
        unsafe { std::slice::from_raw_parts(self.memory.at.as_ptr(), self.len) }
    }

    /// What has been filled, to change it.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `filled`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.at.as_ptr(), self.len) }
    }

    /// What is not filled yet, to be written before [`Buffer::set_len`].
    pub fn spare_mut(&mut self) -> &mut [u8] {
        // SAFETY: inside the allocation, initialised, and the borrow is exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.memory.at.as_ptr().add(self.len),
                self.memory.capacity - self.len,
            )
        }
    }

    /// Declares the first `len` bytes filled. Panics beyond the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.memory.capacity, "Buffer::set_len: {len} bytes of {}", self.memory.capacity);
        self.len = len;
    }

    /// How many bytes are filled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is filled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes fit.
    pub fn capacity(&self) -> usize {
        self.memory.capacity
    }

    /// Fills as much of `bytes` as fits and says how much that was.
    pub fn extend(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.memory.capacity - self.len);
        self.spare_mut()[..n].copy_from_slice(&bytes[..n]);
        self.len += n;
        n
    }

    /// Ends filling; the bytes can be shared from now on.
    pub fn freeze(self) -> Slice {
        let end = self.len;
        Slice { memory: Shared::Aligned(Arc::new(self.memory)), start: 0, end }
    }

    pub(crate) fn registered(&self) -> Option<Registered> {
        self.memory.registered
    }

    /// A buffer over memory that a pool owns.
    ///
    /// # Safety
    /// `at` is `capacity` initialised bytes, aligned to the block, which `home` keeps alive and gives to nobody
    /// else until it gets `slot` back.
    pub(crate) unsafe fn pooled(
        at: NonNull<u8>,
        capacity: usize,
        home: Arc<Home>,
        slot: u16,
        registered: Option<Registered>,
    ) -> Buffer {
        Buffer { memory: Memory { at, capacity, home: Some((home, slot)), registered }, len: 0 }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.len, self.memory.capacity)
    }
}

/// Append-only memory of which the written part can be shared while more is appended: a log's tail.
///
/// ```
/// use highwater_io::Chunk;
/// let mut c = Chunk::new(4096);
/// assert_eq!(c.append(b"batch"), 5);
/// let seen = c.slice(0..5);
/// c.append(b" more"); // does not disturb `seen`
/// assert_eq!(&seen[..], b"batch");
/// ```
pub struct Chunk {
    memory: Arc<Memory>,
    len: usize,
    /// Bytes behind `len` that were copied and that nobody can see yet.
    staged: usize,
}

impl Chunk {
    /// An empty chunk of at least `capacity` bytes, rounded up to whole blocks.
    pub fn new(capacity: usize) -> Chunk {
        Chunk { memory: Arc::new(Memory::new(capacity)), len: 0, staged: 0 }
    }

    /// Makes an (empty or filled) buffer's memory a chunk.
    pub fn from_buffer(buffer: Buffer) -> Chunk {
        Chunk { len: buffer.len, staged: 0, memory: Arc::new(buffer.memory) }
    }

    /// Appends as much of `bytes` as fits and says how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let n = self.stage(bytes, |_| ());
        self.commit();
        n
    }

    /// Copies as much of `bytes` as fits behind what was appended, says how much that was, and shows `see` what was copied,
    /// in order and in pieces: to compute a checksum of it while the stores drain costs next to nothing. Nobody
    /// sees these bytes before [`Chunk::commit`], and [`Chunk::discard`] forgets them.
    pub fn stage(&mut self, bytes: &[u8], see: impl FnMut(&[u8])) -> usize {
        let n = bytes.len().min(self.spare());
        // SAFETY: the target lies inside the allocation and beyond `len`, where no `Slice` of this chunk can
        // see (`slice` checks), and `&mut self` makes this the only writer. `bytes` cannot overlap it: nobody
        // can have a reference to memory beyond `len`.
        unsafe { copy_past_cache(&bytes[..n], self.memory.at.as_ptr().add(self.len + self.staged), see) };
        self.staged += n;
        n
    }

    /// How many bytes are staged and not committed.
    pub fn staged(&self) -> usize {
        self.staged
    }

    /// Makes what was staged a part of what was appended.
    pub fn commit(&mut self) {
        self.len += std::mem::take(&mut self.staged);
    }

    /// Forgets what was staged.
    pub fn discard(&mut self) {
        self.staged = 0;
    }

    /// How many bytes were appended.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes fit in all.
    pub fn capacity(&self) -> usize {
        self.memory.capacity
    }

    /// How many bytes still fit.
    pub fn spare(&self) -> usize {
        self.memory.capacity - self.len - self.staged
    }

    /// What was appended.
    pub fn filled(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are initialised and never written again.
        unsafe { std::slice::from_raw_parts(self.memory.at.as_ptr(), self.len) }
    }

    /// A counted view of appended bytes. Panics beyond what was appended.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        // The kernel and other threads see what was appended through views only. (A chunk itself moves to another thread by
        // locked instructions, which wait for such stores as well.)
        settle();
        assert!(range.start <= range.end && range.end <= self.len, "Chunk::slice: {range:?} of {}", self.len);
        Slice { memory: Shared::Aligned(Arc::clone(&self.memory)), start: range.start, end: range.end }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} of {} bytes)", self.len, self.memory.capacity)
    }
}

#[derive(Clone)]
enum Shared {
    Aligned(Arc<Memory>),
    Plain(Arc<Vec<u8>>),
}

/// A counted view of bytes that nobody can change. Cloning is cheap.
///
/// ```
/// use highwater_io::Slice;
/// let s = Slice::from(vec![1, 2, 3, 4]);
/// assert_eq!(&s.range(1..3)[..], [2, 3]);
/// ```
#[derive(Clone)]
pub struct Slice {
    memory: Shared,
    start: usize,
    end: usize,
}

impl Slice {
    /// A part of this view. Panics outside it.
    #[must_use]
    pub fn range(&self, range: Range<usize>) -> Slice {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "Slice::range: {range:?} of {}",
            self.len()
        );
        Slice { memory: self.memory.clone(), start: self.start + range.start, end: self.start + range.end }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn registered(&self) -> Option<Registered> {
        match &self.memory {
            Shared::Aligned(memory) => memory.registered,
            Shared::Plain(_) => None,
        }
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Shared::Aligned(memory) => {
                // SAFETY: a `Slice` is only made over bytes that are initialised and, from then on, never
                // written: frozen buffers, and the part of a chunk below its length.
                unsafe {
                    std::slice::from_raw_parts(memory.at.as_ptr().add(self.start), self.end - self.start)
                }
            }
            Shared::Plain(bytes) => &bytes[self.start..self.end],
        }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Slice {
        let end = bytes.len();
        Slice { memory: Shared::Plain(Arc::new(bytes)), start: 0, end }
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({} bytes)", self.len())
    }
}

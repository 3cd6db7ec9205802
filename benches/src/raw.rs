//! Raw controls: the same bytes, moved by the plainest code that the kernel allows.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// What a control took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Bytes moved.
    pub bytes: u64,
    /// Wall time, the final sync included.
    pub wall: Duration,
    /// CPU time of the process.
    pub cpu: Duration,
}

impl Took {
    /// Gigabytes (10^9) per second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / 1e9 / self.wall.as_secs_f64()
    }

    /// CPU seconds per gigabyte.
    pub fn cpu_per_gb(&self) -> f64 {
        self.cpu.as_secs_f64() / (self.bytes as f64 / 1e9)
    }
}

/// Times `work`, which moves `bytes`.
pub fn timed(bytes: u64, work: impl FnOnce()) -> Took {
    let (wall, cpu) = (Instant::now(), crate::cpu_time::process());
    work();
    Took { bytes, wall: wall.elapsed(), cpu: crate::cpu_time::process() - cpu }
}

/// Block-aligned bytes that are not all alike.
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` bytes, touched: aligned to a huge page, and in one where the system has some, so that a transfer of 1 MiB is
    /// one piece of memory to the device and not 256.
    pub fn new(len: usize) -> Aligned {
        const HUGE: usize = 2 << 20;
        let mut memory: Vec<u8> = Vec::with_capacity(len.next_multiple_of(HUGE) + HUGE);
        let start = memory.as_ptr().align_offset(HUGE);
        // SAFETY: the range lies within the vector's memory, which nothing has touched yet; it is advice only.
        unsafe {
            libc::madvise(
                memory.as_mut_ptr().add(start).cast(),
                len.next_multiple_of(HUGE),
                libc::MADV_HUGEPAGE,
            );
        }
        memory.resize(start + len, 0);
        for (i, byte) in memory.iter_mut().enumerate() {
            *byte = (i.wrapping_mul(2_654_435_761) >> 13) as u8;
        }
        Aligned { memory, start, len }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// The same, to be read into.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

fn open(path: &Path, direct: bool) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    if direct {
        options.custom_flags(libc::O_DIRECT);
    }
    options.open(path).unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()))
}

/// Writes zeros over `len` bytes of a new file and syncs: written blocks.
pub fn write_zeros(path: &Path, len: u64) {
    let file = open(path, true);
    let zeros = Aligned { memory: vec![0u8; (1 << 20) + 4096], start: 0, len: 1 << 20 };
    let start = zeros.memory.as_ptr().align_offset(4096);
    let zeros = &zeros.memory[start..start + zeros.len];
    allocate(&file, len);
    for at in (0..len).step_by(zeros.len()) {
        file.write_all_at(&zeros[..zeros.len().min((len - at) as usize)], at).expect("writing zeros");
    }
    file.sync_all().expect("syncing zeros");
}

/// Reserves blocks without writing them: unwritten extents.
pub fn allocate(file: &File, len: u64) {
    // SAFETY: a plain call on an open descriptor.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len as libc::off_t) };
    assert_eq!(result, 0, "fallocate: {}", std::io::Error::last_os_error());
}

/// `pwrite` of `size` bytes at a time to a new, growing file, then `fdatasync`.
pub fn growing(path: &Path, size: usize, total: u64) -> Took {
    let _ = std::fs::remove_file(path);
    let (file, data) = (open(path, false), Aligned::new(size));
    timed(total, || {
        for at in (0..total).step_by(size) {
            file.write_all_at(data.bytes(), at).expect("pwrite");
        }
        file.sync_data().expect("fdatasync");
    })
}

fn ring() -> io_uring::IoUring {
    io_uring::IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(64).expect("a ring")
}

/// Keeps `depth` operations of `size` bytes in flight until `total` bytes are through: `entry` makes the one of a slot at a
/// position, `done` takes what it moved.
///
/// # Safety
///
/// What the entries point to has to outlive this call, which returns once all have completed.
unsafe fn keep_busy(
    ring: &mut io_uring::IoUring,
    size: usize,
    depth: usize,
    total: u64,
    entry: impl Fn(usize, u64) -> io_uring::squeue::Entry,
    done: impl Fn(usize, usize),
) {
    let (mut at, mut in_flight) = (0u64, 0usize);
    let mut free: Vec<usize> = (0..depth).collect();
    while at < total || in_flight > 0 {
        while let (true, Some(slot)) = (at < total, free.pop()) {
            // SAFETY: promised by the caller.
            unsafe {
                ring.submission().push(&entry(slot, at).user_data(slot as u64)).expect("room in the ring")
            };
            at += size as u64;
            in_flight += 1;
        }
        ring.submit_and_wait(1).expect("submit");
        for completed in ring.completion() {
            assert!(completed.result() > 0, "a direct transfer of {size} bytes: {}", completed.result());
            let slot = completed.user_data() as usize;
            done(slot, completed.result() as usize);
            free.push(slot);
            in_flight -= 1;
        }
    }
}

/// Looks at a write's bytes before they go out.
pub type Check<'a> = &'a dyn Fn(&[u8]);

/// `O_DIRECT` writes through a ring at `depth`, over what the file has, then `fdatasync`. With `check`,
/// each write's bytes are checksummed first, as an appender has to.
pub fn direct(path: &Path, size: usize, depth: usize, total: u64, check: Option<Check<'_>>) -> Took {
    let file = open(path, true);
    let buffers: Vec<Aligned> = (0..depth).map(|_| Aligned::new(size)).collect();
    let mut ring = ring();
    let vectors: Vec<libc::iovec> = buffers
        .iter()
        .map(|b| libc::iovec { iov_base: b.bytes().as_ptr() as *mut _, iov_len: size })
        .collect();
    // SAFETY: the buffers outlive the ring's use of them: both end with this function, after all completions.
    unsafe { ring.submitter().register_buffers(&vectors).expect("registering buffers") };
    ring.submitter().register_files(&[file.as_raw_fd()]).expect("registering the file");
    timed(total, || {
        let write = |slot: usize, at| {
            if let Some(check) = check {
                check(buffers[slot].bytes());
            }
            let memory = buffers[slot].bytes().as_ptr();
            let write = io_uring::opcode::WriteFixed::new(
                io_uring::types::Fixed(0),
                memory,
                size as u32,
                slot as u16,
            );
            write.offset(at).build()
        };
        // SAFETY: buffers and file outlive this call, which waits for all completions.
        unsafe {
            keep_busy(&mut ring, size, depth, total, write, |_, wrote| {
                assert_eq!(wrote, size, "a direct write")
            })
        };
        file.sync_data().expect("fdatasync");
    })
}

/// A histogram of nanoseconds up to a minute.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds")
}

/// One writer: `pwrite` of `size` bytes into written blocks, then `fdatasync`, `count` times.
pub fn durable(path: &Path, size: usize, count: u64) -> Histogram<u64> {
    let (file, data) = (open(path, false), Aligned::new(size));
    let mut latencies = histogram();
    for i in 0..count {
        let start = Instant::now();
        file.write_all_at(data.bytes(), i * size as u64).expect("pwrite");
        file.sync_data().expect("fdatasync");
        latencies.record(start.elapsed().as_nanos() as u64).expect("within a minute");
    }
    latencies
}

/// `files` of written blocks below `dir`, `len` bytes each: one direct write of `size` bytes to each through a ring, then one
/// `fdatasync` for all, again and again for `time`. Gives the rounds made.
pub fn shared_flush(dir: &Path, files: usize, size: usize, len: u64, time: Duration) -> u64 {
    let open_one = |i: usize| {
        let path = dir.join(format!("shared-{i}"));
        write_zeros(&path, len);
        open(&path, true)
    };
    let files: Vec<File> = (0..files).map(open_one).collect();
    let data = Aligned::new(size);
    let mut ring = ring();
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < time {
        let at = rounds * size as u64 % (len / size as u64 * size as u64);
        for file in &files {
            let entry = io_uring::opcode::Write::new(
                io_uring::types::Fd(file.as_raw_fd()),
                data.bytes().as_ptr(),
                size as u32,
            )
            .offset(at)
            .build();
            // SAFETY: the entry's buffer and file outlive its completion, which this loop waits for.
            unsafe { ring.submission().push(&entry).expect("room in the ring") };
        }
        ring.submit_and_wait(files.len()).expect("submit");
        for done in ring.completion() {
            assert_eq!(done.result(), size as i32, "a direct write of {size} bytes");
        }
        files[0].sync_data().expect("fdatasync");
        rounds += 1;
    }
    rounds
}

/// `O_DIRECT` reads of `size` bytes through a ring at `depth`, over the first `total` bytes of a file, each looked at by `check`.
pub fn direct_read(path: &Path, size: usize, depth: usize, total: u64, check: Check<'_>) -> Took {
    let file = open(path, true);
    let buffers: Vec<Aligned> = (0..depth).map(|_| Aligned::new(size)).collect();
    let mut ring = ring();
    timed(total, || {
        let read = |slot: usize, at| {
            let memory = buffers[slot].bytes().as_ptr().cast_mut();
            let fd = io_uring::types::Fd(file.as_raw_fd());
            io_uring::opcode::Read::new(fd, memory, size as u32).offset(at).build()
        };
        // SAFETY: buffers and file outlive this call, which waits for all completions; nobody looks at a buffer before its own.
        unsafe {
            keep_busy(&mut ring, size, depth, total, read, |slot, len| check(&buffers[slot].bytes()[..len]))
        };
    })
}

/// `pread` of `size` bytes at a time over and over the first `span` bytes of a file, from the page cache.
pub fn cached_read(path: &Path, size: usize, span: u64, total: u64) -> Took {
    let file = open(path, false);
    let mut buffer = vec![0; size];
    for at in (0..span).step_by(size) {
        file.read_exact_at(&mut buffer, at).expect("pread");
    }
    timed(total, || {
        for i in 0..total / size as u64 {
            file.read_exact_at(&mut buffer, i * size as u64 % span).expect("pread");
            std::hint::black_box(&buffer);
        }
    })
}

/// `O_DIRECT` reads of `size` bytes at random places of a file, one after the other.
pub fn random_reads(path: &Path, size: usize, count: u64) -> Histogram<u64> {
    let (file, mut latencies) = (open(path, true), histogram());
    let places = file.metadata().expect("the file's facts").len() / size as u64;
    let (mut buffer, mut prng) = (Aligned::new(size), highwater_base::Prng::new(11));
    for _ in 0..count {
        let (start, at) = (Instant::now(), prng.below(places) * size as u64);
        file.read_exact_at(buffer.bytes_mut(), at).expect("pread");
        latencies.record(start.elapsed().as_nanos() as u64).expect("within a minute");
        std::hint::black_box(buffer.bytes());
    }
    latencies
}

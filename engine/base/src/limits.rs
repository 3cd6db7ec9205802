//! Every limit, in one place: `PRODUCTION` for programs, `TINY` so that a simulation meets each edge often.

/// How much of everything there may be. Sizes are in bytes, the rest are counts.
///
/// ```
/// use highwater_base::Limits;
/// assert!(Limits::TINY.write_bytes < Limits::PRODUCTION.write_bytes);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest single write of a log to its segment; a multiple of the block. Default 1 MiB.
    pub write_bytes: usize,
    /// Writes of one log in flight at once. Default 4.
    pub writes_in_flight: usize,
    /// Largest staging chunk of a log's tail; a multiple of the block. Default 1 MiB.
    pub chunk_bytes: usize,
    /// Smallest staging chunk, used by logs that see little traffic. Default 64 KiB.
    pub small_chunk_bytes: usize,
    /// Bytes of a log's recent past that stay in memory for readers. Default 8 MiB.
    pub tail_bytes: usize,
    /// Bytes staged and not yet written before appends are refused with back-pressure. Default 8 MiB:
    /// more leaves the processor's cache (`docs/PERFORMANCE.md` has both figures).
    pub staged_bytes: usize,
    /// Bytes of the tails of all logs of a shard together. Default 256 MiB; [`Limits::tail_bytes`] is less where they are many.
    pub shard_tail_bytes: u64,
    /// Bytes written and not yet synced under durability `each`. Default 8 MiB; recovery relies on it
    /// to tell a torn tail from rot.
    pub unsynced_bytes: usize,
    /// First step of space prepared ahead of the write position. Default 64 KiB.
    pub prepare_first_bytes: u64,
    /// Second step; doubles up to `prepare_max_bytes`. Default 1 MiB.
    pub prepare_min_bytes: u64,
    /// Last step of space prepared ahead. Default 16 MiB: what is prepared and not used is read by a recovery.
    pub prepare_max_bytes: u64,
    /// A checkpoint is due after this many synced bytes. Default 32 MiB.
    pub checkpoint_bytes: u64,
    /// But not before the log has been dirty for so many milliseconds, or has grown by a sixteenth of all its segments.
    /// Default 500: a checkpoint commits the file system's journal, which holds up synced appends.
    pub checkpoint_pause_ms: u64,
    /// One cold read. Default 1 MiB; a multiple of the block.
    pub read_bytes: usize,
    /// Bytes of sealed segments' indexes kept in memory by one shard. Default 64 MiB.
    pub index_cache_bytes: usize,
    /// Ring entries of one shard. Default 1,024.
    pub ring_entries: u32,
    /// Messages waiting in one mailbox. Default 16,384.
    pub mailbox: usize,
    /// Connections of one shard. Default 16,384.
    pub connections: usize,
    /// Memory for requests in flight, parked or unsent, of one shard. Default 512 MiB.
    pub request_bytes: usize,
    /// Requests of one connection that were read and not yet answered. Default 64.
    pub requests_per_connection: usize,
    /// Parked produce and fetch requests of one partition. Default 16,384.
    pub parked: usize,
    /// Partitions in all fetch sessions of one shard. Default 500,000: a session beyond is declined, and its reader
    /// fetches without one.
    pub fetch_session_partitions: usize,
    /// Bytes that a compressed batch may unpack to while it is validated. Default 1 GiB.
    pub decompressed_bytes: u64,
    /// Idempotent producers remembered by one log. Default 1,000,000.
    pub producers: usize,
    /// Batches remembered of one producer (KAFKA: five, the largest `max.in.flight`).
    pub producer_batches: usize,
}

impl Limits {
    /// For programs.
    pub const PRODUCTION: Limits = Limits {
        write_bytes: 1 << 20,
        writes_in_flight: 4,
        chunk_bytes: 1 << 20,
        small_chunk_bytes: 64 << 10,
        tail_bytes: 8 << 20,
        staged_bytes: 8 << 20,
        shard_tail_bytes: 256 << 20,
        unsynced_bytes: 8 << 20,
        prepare_first_bytes: 64 << 10,
        prepare_min_bytes: 1 << 20,
        prepare_max_bytes: 16 << 20,
        checkpoint_bytes: 32 << 20,
        checkpoint_pause_ms: 500,
        read_bytes: 1 << 20,
        index_cache_bytes: 64 << 20,
        ring_entries: 1024,
        mailbox: 16_384,
        connections: 16_384,
        request_bytes: 512 << 20,
        requests_per_connection: 64,
        parked: 16_384,
        fetch_session_partitions: 500_000,
        decompressed_bytes: 1 << 30,
        producers: 1_000_000,
        producer_batches: 5,
    };

    /// For simulation and unit tests: every edge within a few operations.
    pub const TINY: Limits = Limits {
        write_bytes: 8 << 10,
        writes_in_flight: 4,
        chunk_bytes: 8 << 10,
        small_chunk_bytes: 4 << 10,
        tail_bytes: 16 << 10,
        staged_bytes: 32 << 10,
        shard_tail_bytes: 64 << 10,
        unsynced_bytes: 16 << 10,
        prepare_first_bytes: 4 << 10,
        prepare_min_bytes: 8 << 10,
        prepare_max_bytes: 16 << 10,
        checkpoint_bytes: 16 << 10,
        checkpoint_pause_ms: 0,
        read_bytes: 8 << 10,
        index_cache_bytes: 4 << 10,
        ring_entries: 16,
        mailbox: 8,
        connections: 4,
        request_bytes: 1 << 20,
        requests_per_connection: 4,
        parked: 8,
        fetch_session_partitions: 16,
        decompressed_bytes: 1 << 20,
        producers: 16,
        producer_batches: 5,
    };
}

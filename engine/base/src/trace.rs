//! A hash of everything that happened in a simulated run: two runs with one seed must agree.

/// Folds words and bytes into 64 bits (FNV-1a with a final mix). For comparing runs, not for security.
///
/// ```
/// use highwater_base::TraceHash;
/// let mut a = TraceHash::default();
/// a.bytes(b"write");
/// a.word(4096);
/// let mut b = TraceHash::default();
/// b.bytes(b"write");
/// b.word(4097);
/// assert_ne!(a.value(), b.value());
/// ```
#[derive(Clone, Debug)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> TraceHash {
        TraceHash(0xcbf2_9ce4_8422_2325)
    }
}

impl TraceHash {
    /// Adds a number.
    pub fn word(&mut self, word: u64) {
        self.bytes(&word.to_le_bytes());
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The hash so far.
    pub fn value(&self) -> u64 {
        let z = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        z ^ (z >> 33)
    }
}

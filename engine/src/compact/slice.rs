//! How much of a pass is done before whatever else has come meanwhile is looked at.

/// What a slice may do, in hundreds of nanoseconds, about: appends wait for no more than that.
const AT_ONCE: usize = 64;

/// What a slice may still do. A record costs one, a kibibyte of a batch (to check, to copy) another. What cannot be divided,
/// the last part of a batch or a compressed one, is done as a whole, however little is left.
#[derive(Debug)]
pub(crate) struct Slice {
    left: usize,
}

impl Slice {
    pub(crate) fn new() -> Slice {
        Slice { left: AT_ONCE }
    }

    /// Nothing ends it.
    pub(crate) fn endless() -> Slice {
        Slice { left: usize::MAX }
    }

    /// A batch of so many bytes was checked, or written anew.
    pub(crate) fn spend_bytes(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(1 + bytes / 1024);
    }

    /// A record was looked at.
    pub(crate) fn spend_record(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_bytes_end_it_and_one_without_end_goes_on() {
        let mut slice = Slice::new();
        for _ in 0..AT_ONCE - 4 {
            slice.spend_record();
        }
        assert!(!slice.is_over());
        slice.spend_bytes(3 << 10);
        assert!(slice.is_over());
        let mut slice = Slice::endless();
        slice.spend_bytes(usize::MAX);
        assert!(!slice.is_over());
    }
}

//! Which blocks of a file are settled: written before, with zeros or otherwise, and covered by a sync of the file since. What
//! is written over them changes no metadata, so that a flush of the device makes it durable. Pure.

use highwater_base::BLOCK;

/// See the module. Positions are in the file, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Settled {
    /// Every block that begins before is settled. A multiple of the block.
    upto: u64,
    /// Blocks from here to there are settled too, behind some that are not yet.
    ahead: (u64, u64),
}

impl Settled {
    /// Zeros were written and synced: `len` bytes at `at`.
    pub(crate) fn zeroed(&mut self, at: u64, len: u64) {
        if at > self.upto {
            let from = if self.ahead.1 == at { self.ahead.0 } else { at };
            self.ahead = (from, at + len);
        } else {
            self.upto = self.upto.max(at + len);
        }
    }

    /// Everything before `position` was written, and is durable by a sync of the file itself.
    pub(crate) fn synced(&mut self, position: u64) {
        self.upto = self.upto.max(position.next_multiple_of(BLOCK));
        if self.ahead.0 <= self.upto {
            self.upto = self.upto.max(self.ahead.1);
        }
    }

    /// Whether all blocks before `position` are settled.
    pub(crate) fn covers(&self, position: u64) -> bool {
        position <= self.upto
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_settle_at_once_and_reserved_space_with_the_first_sync_of_what_lies_in_it() {
        let mut zeros = Settled::default();
        zeros.zeroed(0, 8192);
        assert!(zeros.covers(8192) && !zeros.covers(8193));
        zeros.zeroed(8192, 4096);
        assert!(zeros.covers(12288));
        let mut reserved = Settled::default();
        assert!(!reserved.covers(1));
        reserved.synced(100);
        assert!(reserved.covers(4096) && !reserved.covers(4097));
    }

    #[test]
    fn zeros_behind_reserved_space_settle_once_the_space_before_them_has() {
        let mut mixed = Settled::default();
        mixed.zeroed(8192, 4096);
        mixed.zeroed(12288, 4096);
        assert!(!mixed.covers(1));
        mixed.synced(4000);
        assert!(mixed.covers(4096) && !mixed.covers(8192));
        mixed.synced(5000);
        assert!(mixed.covers(16384));
    }
}

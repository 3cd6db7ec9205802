//! One file: what reads show, what a power cut certainly leaves, and the changes between the two.

use std::sync::Arc;

use highwater_base::Prng;
use highwater_io::Prepared;

use crate::contents::Contents;

/// The unit in which a device keeps or loses what was written, in bytes.
pub(crate) const SECTOR: u64 = 512;

/// A change that is visible and not certainly durable.
#[derive(Clone)]
pub(crate) struct Change {
    /// When it happened, in the order of the whole disk.
    pub(crate) seq: u64,
    pub(crate) what: What,
    /// Durable by itself (`RWF_DSYNC`), whatever happens to its neighbours.
    pub(crate) sure: bool,
}

/// What changed.
#[derive(Clone)]
pub(crate) enum What {
    /// Whole sectors, as they were after the write: each is kept or lost by itself.
    Sectors { first: u64, bytes: Arc<[u8]> },
    /// The file became at least this long.
    Extend(u64),
    /// The file became exactly this long, and bytes behind that were dropped.
    SetLen(u64),
}

impl Change {
    /// Whether `later` must not be durable before this one is: it would be undone.
    fn holds(&self, later: &Change) -> bool {
        let end = |first: &u64, bytes: &Arc<[u8]>| first + (bytes.len() as u64).div_ceil(SECTOR);
        match (&self.what, &later.what) {
            (What::SetLen(_), _) => true,
            (What::Sectors { first, bytes }, What::Sectors { first: then, bytes: over }) => {
                *first < end(then, over) && *then < end(first, bytes)
            }
            _ => false,
        }
    }
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sure = if self.sure { " (sure)" } else { "" };
        match &self.what {
            What::Sectors { first, bytes } => {
                write!(f, "#{} {} bytes at {}{sure}", self.seq, bytes.len(), first * SECTOR)
            }
            What::Extend(len) => write!(f, "#{} at least {len} long{sure}", self.seq),
            What::SetLen(len) => write!(f, "#{} {len} long{sure}", self.seq),
        }
    }
}

/// Whether a change, or this sector of it (by its index within the change), reached the device.
pub(crate) type Keep<'a> = &'a mut dyn FnMut(&Change, usize) -> bool;

/// A simulated file.
#[derive(Clone, Default)]
pub(crate) struct File {
    visible: Contents,
    durable: Contents,
    /// Ascending by `seq`.
    pending: Vec<Change>,
    /// Milliseconds since 1970, as `stat` says.
    pub(crate) modified_ms: i64,
    /// The same, as it is after a power cut. Only a full sync moves it.
    durable_modified_ms: i64,
}

impl File {
    pub(crate) fn new(now_ms: i64) -> File {
        File { modified_ms: now_ms, durable_modified_ms: now_ms, ..File::default() }
    }

    pub(crate) fn visible(&self) -> &Contents {
        &self.visible
    }

    pub(crate) fn pending(&self) -> &[Change] {
        &self.pending
    }

    pub(crate) fn write(&mut self, seq: u64, at: u64, bytes: &[u8], durable: bool) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len() as u64;
        let grew = end > self.visible.len();
        self.visible.put(at, bytes);
        self.visible.extend(end);
        // The page cache and the device hold whole sectors: a later write's sector carries the earlier one's bytes.
        let first = at / SECTOR;
        let mut image = vec![0; ((end.div_ceil(SECTOR) - first) * SECTOR) as usize];
        self.visible.copy_at(first * SECTOR, &mut image);
        if grew || durable {
            self.push(seq, What::Extend(end), durable);
        }
        self.push(seq, What::Sectors { first, bytes: image.into() }, durable);
    }

    pub(crate) fn set_len(&mut self, seq: u64, len: u64) {
        self.visible.set_len(len);
        self.push(seq, What::SetLen(len), false);
    }

    /// Space and length are durable at once, as the contract of `Op::Prepare` says.
    pub(crate) fn prepare(&mut self, seq: u64, at: u64, len: u64, how: Prepared) {
        let end = at + len;
        self.visible.extend(end);
        self.push(seq, What::Extend(end), true);
        match how {
            Prepared::Allocated => {
                self.visible.allocate(at, len);
                self.durable.allocate(at, len);
            }
            Prepared::Zeroed => {
                self.visible.zero(at, len);
                let first = at / SECTOR;
                let mut image = vec![0; ((end.div_ceil(SECTOR) - first) * SECTOR) as usize];
                self.visible.copy_at(first * SECTOR, &mut image);
                self.push(seq, What::Sectors { first, bytes: image.into() }, true);
            }
        }
    }

    fn push(&mut self, seq: u64, what: What, sure: bool) {
        self.pending.push(Change { seq, what, sure });
        self.fold_sure();
    }

    /// A good sync: everything up to `seq` is durable.
    pub(crate) fn sync(&mut self, upto: u64, data_only: bool) {
        if !data_only {
            self.durable_modified_ms = self.modified_ms;
        }
        self.settle(upto, &mut |_, _| true);
    }

    /// A flush of the device: sectors in blocks that are written and durable already become durable. Lengths do not, nor
    /// does what lies in space that was only reserved or is new: those need metadata. What stays behind may still come to
    /// be durable later, so what was written over it, or behind a cut, stays too.
    pub(crate) fn flush(&mut self, upto: u64) {
        let mut stay: Vec<Change> = Vec::new();
        // One by one: what is settled may have become so by the change before.
        for change in std::mem::take(&mut self.pending) {
            if self.outlives_flush(&change, upto) || stay.iter().any(|before| before.holds(&change)) {
                stay.push(change);
            } else {
                apply(&mut self.durable, &change, &mut |_, _| true);
            }
        }
        self.pending = stay;
        self.fold_sure();
    }

    /// Whether a flush of the device leaves this change pending, whatever there is before it.
    fn outlives_flush(&self, change: &Change, upto: u64) -> bool {
        let held = match &change.what {
            What::Sectors { first, bytes } => !self.durable.is_settled(first * SECTOR, bytes.len() as u64),
            What::Extend(_) | What::SetLen(_) => true,
        };
        change.seq > upto || (held && !change.sure)
    }

    /// A failed sync: of what was written since the last good one some sectors reached the device and the others
    /// never will, because the kernel has marked them clean.
    pub(crate) fn failed_sync(&mut self, upto: u64, prng: &mut Prng) {
        self.settle(upto, &mut |_, _| prng.one_in(2));
    }

    fn settle(&mut self, upto: u64, keep: Keep<'_>) {
        let split = self.pending.partition_point(|change| change.seq <= upto);
        for change in self.pending.drain(..split) {
            apply(&mut self.durable, &change, keep);
        }
        self.fold_sure();
    }

    /// What is durable by itself and has nothing before it need not be remembered apart.
    fn fold_sure(&mut self) {
        let split = self.pending.iter().position(|change| !change.sure).unwrap_or(self.pending.len());
        for change in self.pending.drain(..split) {
            apply(&mut self.durable, &change, &mut |_, _| true);
        }
    }

    /// The file after a power cut: the durable bytes and what `keep` keeps of the rest, in the order it was made.
    pub(crate) fn after_power_cut(&self, keep: Keep<'_>) -> File {
        let mut contents = self.durable.clone();
        for change in &self.pending {
            apply(&mut contents, change, keep);
        }
        // Sectors that were kept behind a length that was not are out of reach, as on a real file system.
        contents.set_len(contents.len());
        File {
            visible: contents.clone(),
            durable: contents,
            pending: Vec::new(),
            modified_ms: self.durable_modified_ms,
            durable_modified_ms: self.durable_modified_ms,
        }
    }

    /// Changes bytes where they lie, as rot does: in what is visible and in what is durable.
    pub(crate) fn rot(&mut self, at: u64, bytes: &[u8]) {
        self.visible.put(at, bytes);
        self.durable.put(at, bytes);
    }
}

/// Puts (a part of) a change into `contents`.
fn apply(contents: &mut Contents, change: &Change, keep: Keep<'_>) {
    let mut kept = |sector| change.sure || keep(change, sector);
    match &change.what {
        What::Sectors { first, bytes } => {
            for (index, sector) in bytes.chunks(SECTOR as usize).enumerate() {
                if kept(index) {
                    contents.put((first + index as u64) * SECTOR, sector);
                }
            }
        }
        What::Extend(len) => {
            if kept(0) {
                contents.extend(*len);
            }
        }
        What::SetLen(len) => {
            if kept(0) {
                contents.set_len(*len);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(file: &File) -> Vec<u8> {
        file.after_power_cut(&mut |_, _| false).visible().to_vec()
    }

    #[test]
    fn what_was_not_synced_is_lost_with_its_length() {
        let mut f = File::default();
        f.write(1, 0, &[1; 600], false);
        assert_eq!(lost(&f).len(), 0);
        f.sync(1, true);
        f.write(2, 100, &[2; 600], false);
        assert_eq!(lost(&f), [1; 600]);
        assert_eq!(f.visible().to_vec()[99..101], [1, 2]);
    }

    #[test]
    fn a_sync_covers_only_what_was_written_before_it() {
        let mut f = File::default();
        f.write(1, 0, &[1; 512], false);
        f.write(2, 512, &[2; 512], false);
        f.sync(1, true);
        assert_eq!(lost(&f), [1; 512]);
    }

    #[test]
    fn a_flush_keeps_what_lies_in_settled_blocks_and_nothing_else() {
        let mut f = File::default();
        f.prepare(1, 0, 4096, Prepared::Zeroed);
        f.write(2, 0, &[2; 512], false);
        f.flush(2);
        assert_eq!(lost(&f)[..512], [2; 512]);
        f.write(3, 512, &[3; 512], false);
        f.flush(2);
        assert_eq!(lost(&f)[512..1024], [0; 512], "written after the flush began");
        let mut reserved = File::default();
        reserved.prepare(1, 0, 4096, Prepared::Allocated);
        reserved.write(2, 0, &[2; 512], false);
        reserved.flush(2);
        assert_eq!(lost(&reserved)[..512], [0; 512], "space that was only reserved");
        reserved.sync(2, true);
        reserved.write(3, 0, &[3; 512], false);
        reserved.flush(3);
        assert_eq!(lost(&reserved)[..512], [3; 512], "the same block, settled by the sync");
        let mut grown = File::default();
        grown.prepare(1, 0, 4096, Prepared::Zeroed);
        grown.write(2, 0, &[2; 512], false);
        grown.prepare(3, 4096, 4096, Prepared::Zeroed);
        grown.write(4, 4096, &[4; 512], false);
        grown.flush(4);
        assert_eq!(lost(&grown)[4096..4608], [4; 512], "settled while an earlier write was pending");
        let mut behind = File::default();
        behind.prepare(1, 0, 4096, Prepared::Zeroed);
        behind.prepare(2, 4096, 4096, Prepared::Allocated);
        behind.write(3, 4096, &[3; 512], false);
        behind.write(4, 0, &[4; 512], false);
        behind.flush(4);
        let after = lost(&behind);
        assert_eq!(
            (&after[..512], &after[4096..4608]),
            (&[4; 512][..], &[0; 512][..]),
            "each block by itself"
        );
        behind.set_len(5, 256);
        behind.write(6, 0, &[6; 512], false);
        behind.flush(6);
        assert_eq!(lost(&behind)[..512], [4; 512], "behind a cut that may be lost");
        let mut new = File::default();
        new.write(1, 0, &[1; 512], false);
        new.flush(1);
        assert_eq!(lost(&new).len(), 0, "a length is metadata");
    }

    #[test]
    fn a_durable_write_survives_alone() {
        let mut f = File::default();
        f.write(1, 0, &[1; 512], false);
        f.write(2, 512, &[2; 512], true);
        let after = lost(&f);
        assert_eq!(after[..512], [0; 512]);
        assert_eq!(after[512..], [2; 512]);
    }

    #[test]
    fn a_lost_cut_brings_the_old_bytes_back() {
        let mut f = File::default();
        f.write(1, 0, &[1; 1024], false);
        f.sync(1, true);
        f.set_len(2, 512);
        assert_eq!(f.visible().len(), 512);
        assert_eq!(lost(&f), [1; 1024]);
        f.sync(2, true);
        assert_eq!(lost(&f), [1; 512]);
    }

    #[test]
    fn a_kept_length_without_its_data_reads_as_zeros() {
        let mut f = File::default();
        f.write(1, 0, &[1; 512], false);
        let after = f.after_power_cut(&mut |change, _| matches!(change.what, What::Extend(_)));
        assert_eq!(after.visible().to_vec(), [0; 512]);
        let after = f.after_power_cut(&mut |change, _| matches!(change.what, What::Sectors { .. }));
        assert_eq!(after.visible().len(), 0);
    }

    #[test]
    fn after_a_failed_sync_a_good_one_does_not_bring_the_bytes_back() {
        let mut f = File::default();
        f.write(1, 0, &[1; 64 * 512], false);
        f.failed_sync(1, &mut Prng::new(1));
        f.sync(9, true);
        assert_eq!(f.visible().to_vec(), [1; 64 * 512]);
        assert_ne!(lost(&f), [1; 64 * 512]);
    }
}

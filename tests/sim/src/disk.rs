//! [`SimDisk`]: files and names, what of them is durable, and what is on its way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_io::{DirEntry, EntryKind, OpenHow};

use crate::effect::{Applied, Effect};
use crate::errno::{self, Errno};
use crate::file::File;
use crate::names::{Names, NodeId};

/// A simulated disk. A clone is a snapshot and costs little: bytes are shared until they change.
///
/// It knows of every file the bytes that reads show, those that surely survive a power cut, and every unsynced
/// change between them, down to the 512-byte sector; likewise of every name. Operations that were submitted and
/// have not completed are part of it too, since a power cut may find them done.
///
/// ```
/// use highwater_sim::{Loss, SimDisk};
/// let mut disk = SimDisk::new();
/// disk.put("/logs/a", b"durable");
/// let after = disk.power_cut(Loss::Unsynced, 1);
/// assert_eq!(after.contents("/logs/a").as_deref(), Some(&b"durable"[..]));
/// ```
#[derive(Clone)]
pub struct SimDisk {
    pub(crate) files: BTreeMap<NodeId, Arc<File>>,
    pub(crate) names: Names,
    next_node: NodeId,
    /// Counts changes, over all files and names.
    pub(crate) seq: u64,
    capacity: u64,
    pub(crate) wall_ms: i64,
    pub(crate) in_flight: BTreeMap<u64, Effect>,
    /// Counts operations that were ever in flight.
    pub(crate) boarded: u64,
    /// Counts syncs of files and directories.
    synced: u64,
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

/// Everything under a name, as reads show it; see [`SimDisk::image`].
///
/// ```
/// use highwater_sim::{SimDisk, Thing};
/// let mut disk = SimDisk::new();
/// disk.put("/d/f", b"x");
/// let image = disk.image();
/// assert_eq!(image[std::path::Path::new("/d")], Thing::Directory);
/// assert_eq!(image[std::path::Path::new("/d/f")], Thing::File(b"x".to_vec()));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Thing {
    /// A directory.
    Directory,
    /// A file and its bytes.
    File(Vec<u8>),
}

impl SimDisk {
    /// An empty disk with the directory `/` and no limit on its space.
    pub fn new() -> SimDisk {
        SimDisk {
            files: BTreeMap::new(),
            names: Names::new(),
            next_node: 1,
            seq: 0,
            capacity: u64::MAX,
            wall_ms: 0,
            in_flight: BTreeMap::new(),
            boarded: 0,
            synced: 0,
        }
    }

    /// Limits the space to this many bytes, counted in blocks: beyond it writes fail with `ENOSPC`.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    /// How many bytes of blocks all files take.
    pub fn used(&self) -> u64 {
        self.files.values().map(|file| file.visible().used()).sum()
    }

    pub(crate) fn free(&self) -> u64 {
        if self.capacity == u64::MAX { u64::MAX } else { self.capacity.saturating_sub(self.used()) }
    }

    /// Every path and what is there, as reads show it; times left out.
    pub fn image(&self) -> BTreeMap<PathBuf, Thing> {
        let mut image = BTreeMap::new();
        let mut todo = vec![(PathBuf::from("/"), crate::names::ROOT)];
        while let Some((path, node)) = todo.pop() {
            for (name, child) in self.names.entries(node).into_iter().flatten() {
                let path = path.join(name);
                if self.names.is_dir(*child) {
                    todo.push((path.clone(), *child));
                    image.insert(path, Thing::Directory);
                } else {
                    image.insert(path, Thing::File(self.files[child].visible().to_vec()));
                }
            }
        }
        image
    }

    /// A file's bytes, as reads show them.
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let node = self.names.find(path.as_ref())?.node?;
        self.files.get(&node).map(|file| file.visible().to_vec())
    }

    /// Puts a file there, with the directories above it, all durable at once: for setting a stage.
    pub fn put(&mut self, path: impl AsRef<Path>, bytes: &[u8]) {
        let path = path.as_ref();
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for dir in above.into_iter().rev() {
            self.apply(&Effect::CreateDir { path: dir.into() }).expect("a directory can be made here");
        }
        let open = Effect::Open { path: path.into(), how: OpenHow::CreateOrEmpty };
        let Ok(Applied::Opened(node)) = self.apply(&open) else {
            panic!("{} is a directory", path.display())
        };
        self.seq += 1;
        let seq = self.seq;
        self.file_mut(node).write(seq, 0, bytes, false);
        self.settle();
    }

    /// Every file, and for each what a power cut could lose of it: for people.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut todo = vec![(PathBuf::from("/"), crate::names::ROOT)];
        while let Some((path, node)) = todo.pop() {
            for (name, child) in self.names.entries(node).into_iter().flatten() {
                let path = path.join(name);
                let Some(file) = self.files.get(child) else {
                    todo.push((path, *child));
                    continue;
                };
                text.push_str(&format!("{}: {} bytes", path.display(), file.visible().len()));
                for change in file.pending() {
                    text.push_str(&format!("; {change:?}"));
                }
                text.push('\n');
            }
        }
        for effect in self.in_flight.values() {
            text.push_str(&format!("in flight: {effect:?}\n"));
        }
        text
    }

    /// Makes everything that is visible durable, as an orderly unmount does.
    pub fn settle(&mut self) {
        assert!(self.in_flight.is_empty(), "SimDisk::settle: operations are in flight");
        self.names = self.names.after_power_cut(&mut |_| true);
        let seq = self.seq;
        for file in self.files.values_mut() {
            Arc::make_mut(file).sync(seq, false);
        }
    }

    /// Damages a file where it lies: what is read changes, and no sync or power cut brings it back.
    pub fn rot(&mut self, path: impl AsRef<Path>, at: u64, bytes: &[u8]) {
        let path = path.as_ref();
        let node = self.names.find(path).and_then(|place| place.node);
        let node = node.filter(|node| self.files.contains_key(node));
        let node = node.unwrap_or_else(|| panic!("SimDisk::rot: no file at {}", path.display()));
        // Nobody wrote to it: its time stays.
        Arc::make_mut(self.files.get_mut(&node).expect("found above")).rot(at, bytes);
    }

    /// How many changes a power cut could lose: unsynced ones of data, lengths and names, and operations in flight.
    pub fn unsynced(&self) -> usize {
        let files: usize = self.files.values().map(|file| file.pending().len()).sum();
        files + self.names.pending().len() + self.in_flight.len()
    }

    /// Differs from an earlier one if anything happened to the disk meanwhile, or to what would survive a power cut.
    pub fn version(&self) -> u64 {
        self.seq + self.boarded + self.synced
    }

    pub(crate) fn new_node(&mut self) -> NodeId {
        self.next_node += 1;
        self.next_node - 1
    }

    pub(crate) fn file_mut(&mut self, node: NodeId) -> &mut File {
        let wall_ms = self.wall_ms;
        let file = Arc::make_mut(self.files.get_mut(&node).expect("an open file exists"));
        file.modified_ms = wall_ms;
        file
    }

    pub(crate) fn sync(&mut self, node: NodeId, upto: u64, data_only: bool) {
        self.synced += 1;
        Arc::make_mut(self.files.get_mut(&node).expect("an open file exists")).sync(upto, data_only);
    }

    /// A flush of the device, for the settled blocks of this file.
    pub(crate) fn flush(&mut self, node: NodeId, upto: u64) {
        self.synced += 1;
        Arc::make_mut(self.files.get_mut(&node).expect("an open file exists")).flush(upto);
    }

    /// A flush that failed: every file has lost something of what was not synced. Says which.
    pub(crate) fn failed_flush(&mut self, upto: u64, prng: &mut highwater_base::Prng) -> Vec<NodeId> {
        self.synced += 1;
        let dirty = |(node, file): (&NodeId, &Arc<File>)| (!file.pending().is_empty()).then_some(*node);
        let dirty: Vec<NodeId> = self.files.iter().filter_map(dirty).collect();
        for node in &dirty {
            Arc::make_mut(self.files.get_mut(node).expect("listed above")).failed_sync(upto, prng);
        }
        dirty
    }

    pub(crate) fn failed_sync(&mut self, node: NodeId, upto: u64, prng: &mut highwater_base::Prng) {
        self.synced += 1;
        Arc::make_mut(self.files.get_mut(&node).expect("an open file exists")).failed_sync(upto, prng);
    }

    pub(crate) fn sync_dir(&mut self, path: &Path, upto: u64) -> Result<(), Errno> {
        let dir = self.names.find(path).and_then(|place| place.node).ok_or(errno::ENOENT)?;
        if !self.names.is_dir(dir) {
            return Err(errno::ENOTDIR);
        }
        self.synced += 1;
        self.names.sync(dir, upto);
        Ok(())
    }

    pub(crate) fn stat(&self, path: &Path) -> Result<(EntryKind, u64, i64), Errno> {
        let node = self.names.find(path).and_then(|place| place.node).ok_or(errno::ENOENT)?;
        match self.files.get(&node) {
            Some(file) => Ok((EntryKind::File, file.visible().len(), file.modified_ms)),
            None => Ok((EntryKind::Directory, 0, self.names.changed_ms(node))),
        }
    }

    pub(crate) fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, Errno> {
        let node = self.names.find(path).and_then(|place| place.node).ok_or(errno::ENOENT)?;
        let entries = self.names.entries(node).ok_or(errno::ENOTDIR)?;
        Ok(entries
            .iter()
            .map(|(name, node)| {
                let kind = if self.names.is_dir(*node) { EntryKind::Directory } else { EntryKind::File };
                DirEntry { name: name.clone(), kind }
            })
            .collect())
    }

    /// Forgets a file that no name leads to, once nobody has it open.
    pub(crate) fn forget_unnamed(&mut self, node: NodeId) {
        if !self.names.leads_to(node) {
            self.files.remove(&node);
        }
    }
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimDisk({} files, {} unsynced changes)", self.files.len(), self.unsynced())
    }
}

//! What a [`MemoryIo`](super::MemoryIo) keeps: a tree of directories and sparse files.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use highwater_base::BLOCK;
use parking_lot::Mutex;

use crate::op::{DirEntry, EntryKind, FileFacts, OpenHow, Outcome};

/// Files and directories in memory, shared by everyone who has a clone: a test keeps one, drops the
/// [`MemoryIo`](super::MemoryIo) that wrote it and opens another on it, as after a restart.
///
/// The root `/` and the empty path exist; a relative path is just another name, not the same as the
/// absolute one. Every write is kept whether it was synced or not: the simulator is for losing them.
///
/// ```
/// use highwater_io::MemoryDisk;
/// let disk = MemoryDisk::new();
/// disk.put("/logs/a-0/partition.metadata", b"version: 0\n");
/// let before = disk.fork();
/// disk.put("/logs/a-0/partition.metadata", b"version: 1\n");
/// assert_eq!(before.contents("/logs/a-0/partition.metadata").unwrap(), b"version: 0\n");
/// ```
#[derive(Clone, Default)]
pub struct MemoryDisk {
    tree: Arc<Mutex<Tree>>,
}

/// An error number.
type Errno = i32;

#[derive(Default)]
struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
    /// When a name in a directory changed last; 0 where it is not known.
    changed: BTreeMap<PathBuf, i64>,
    wall_ms: i64,
    /// What [`MemoryDisk::set_free`] was told; none: without bounds.
    free: Option<u64>,
}

#[derive(Clone)]
enum Node {
    Directory,
    File(Arc<Mutex<Contents>>),
}

/// A file's bytes, in blocks; a block that is missing reads as zeros.
#[derive(Clone, Default)]
pub(super) struct Contents {
    len: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
    modified_ms: i64,
}

impl Contents {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Copies from `at` to `into`, up to the end of the file; says how much.
    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> usize {
        let n = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        for (position, part) in parts(at, n) {
            let target = &mut into[part.clone()];
            match self.blocks.get(&(position / BLOCK)) {
                Some(block) => {
                    let from = (position % BLOCK) as usize;
                    target.copy_from_slice(&block[from..from + part.len()]);
                }
                None => target.fill(0),
            }
        }
        n
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        for (position, part) in parts(at, bytes.len()) {
            let block = self
                .blocks
                .entry(position / BLOCK)
                .or_insert_with(|| vec![0; BLOCK as usize].into_boxed_slice());
            let from = (position % BLOCK) as usize;
            block[from..from + part.len()].copy_from_slice(&bytes[part]);
        }
        if !bytes.is_empty() {
            self.len = self.len.max(at + bytes.len() as u64);
        }
    }

    pub(super) fn zero(&mut self, at: u64, len: u64) {
        let first = at.div_ceil(BLOCK);
        let end = (at + len) / BLOCK;
        let inside: Vec<u64> = self.blocks.range(first..end.max(first)).map(|(block, _)| *block).collect();
        for block in inside {
            self.blocks.remove(&block);
        }
        let head = (first * BLOCK - at).min(len);
        self.write(at, &vec![0; head as usize]);
        if end >= first {
            self.write(end * BLOCK, &vec![0; (at + len - end * BLOCK) as usize]);
        }
        self.len = self.len.max(at + len);
    }

    pub(super) fn extend_to(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    pub(super) fn truncate(&mut self, len: u64) {
        if len < self.len {
            self.blocks.split_off(&len.div_ceil(BLOCK));
            if let Some(last) = self.blocks.get_mut(&(len / BLOCK)) {
                last[(len % BLOCK) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    pub(super) fn touch(&mut self, wall_ms: i64) {
        self.modified_ms = wall_ms;
    }
}

/// Cuts `len` bytes at `at` at block boundaries: (position, range of the bytes).
fn parts(at: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let position = at + done as u64;
        let n = ((BLOCK - position % BLOCK) as usize).min(len - done);
        let range = done..done + n;
        done += n;
        Some((position, range))
    })
}

/// The same path for `a/b`, `a/./b` and `a/b/`.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}

impl Tree {
    fn node(&self, path: &Path) -> Result<Node, Errno> {
        if path.parent().is_none() {
            return Ok(Node::Directory);
        }
        self.nodes.get(path).cloned().ok_or(libc::ENOENT)
    }

    /// That `path` can have children.
    fn directory(&self, path: &Path) -> Result<(), Errno> {
        match self.node(path)? {
            Node::Directory => Ok(()),
            Node::File(_) => Err(libc::ENOTDIR),
        }
    }

    fn parent_of(&self, path: &Path) -> Result<(), Errno> {
        path.parent().map_or(Ok(()), |parent| self.directory(parent))
    }

    fn has_children(&self, path: &Path) -> bool {
        self.nodes.keys().any(|other| other.parent() == Some(path))
    }

    fn put(&mut self, path: &Path, bytes: &[u8]) {
        for above in path.ancestors().skip(1).filter(|above| above.parent().is_some()) {
            self.nodes.entry(above.to_owned()).or_insert(Node::Directory);
        }
        let mut contents = Contents::default();
        contents.write(0, bytes);
        contents.touch(self.wall_ms);
        self.nodes.insert(path.to_owned(), Node::File(Arc::new(Mutex::new(contents))));
        self.name_changed(path);
    }

    /// A name came or went.
    fn name_changed(&mut self, path: &Path) {
        if let Some(parent) = path.parent() {
            self.changed.insert(parent.to_owned(), self.wall_ms);
        }
    }
}

impl MemoryDisk {
    /// An empty one.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// Says from now on that so many bytes are free ([`Op::Space`](crate::Op::Space)). Writes do not heed it: it is for
    /// tests of what is done before a disk is full. Default: without bounds.
    pub fn set_free(&self, bytes: u64) {
        self.tree.lock().free = Some(bytes);
    }

    pub(super) fn free(&self) -> u64 {
        self.tree.lock().free.unwrap_or(u64::MAX)
    }

    /// An independent copy of all there is: what a power cut right now would leave, had all been synced.
    #[must_use]
    pub fn fork(&self) -> MemoryDisk {
        let tree = self.tree.lock();
        let nodes = tree
            .nodes
            .iter()
            .map(|(path, node)| {
                let node = match node {
                    Node::Directory => Node::Directory,
                    Node::File(contents) => Node::File(Arc::new(Mutex::new(contents.lock().clone()))),
                };
                (path.clone(), node)
            })
            .collect();
        let Tree { wall_ms, free, .. } = *tree;
        let changed = tree.changed.clone();
        MemoryDisk { tree: Arc::new(Mutex::new(Tree { nodes, changed, wall_ms, free })) }
    }

    /// What the file at `path` holds, `None` if there is no file.
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let Ok(Node::File(contents)) = self.tree.lock().node(&plain(path.as_ref())) else { return None };
        let contents = contents.lock();
        let mut bytes = vec![0; contents.len() as usize];
        contents.read(0, &mut bytes);
        Some(bytes)
    }

    /// Puts a new file at `path`, making the directories above it. Whoever has the file that was there
    /// open keeps the old one.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        self.tree.lock().put(&plain(path.as_ref()), bytes);
    }

    /// Every path, directories too, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.tree.lock().nodes.keys().cloned().collect()
    }

    /// The modification time, in milliseconds since 1970, of what is written from now on. There is no clock
    /// in here: without this it stays 0.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        self.tree.lock().wall_ms = wall_ms;
    }

    pub(super) fn wall_ms(&self) -> i64 {
        self.tree.lock().wall_ms
    }

    pub(super) fn open(&self, path: &Path, how: OpenHow) -> Result<Arc<Mutex<Contents>>, Errno> {
        let path = plain(path);
        let mut tree = self.tree.lock();
        match (tree.node(&path), how) {
            (Ok(_), OpenHow::CreateNew) => Err(libc::EEXIST),
            (Ok(Node::Directory), _) => Err(libc::EISDIR),
            (Ok(Node::File(contents)), OpenHow::CreateOrEmpty) => {
                let mut inside = contents.lock();
                inside.truncate(0);
                inside.touch(tree.wall_ms);
                drop(inside);
                Ok(contents)
            }
            (Ok(Node::File(contents)), _) => Ok(contents),
            (Err(errno), OpenHow::Read | OpenHow::Write) => Err(errno),
            (Err(_), _) => {
                tree.parent_of(&path)?;
                let contents =
                    Arc::new(Mutex::new(Contents { modified_ms: tree.wall_ms, ..Contents::default() }));
                tree.name_changed(&path);
                tree.nodes.insert(path, Node::File(Arc::clone(&contents)));
                Ok(contents)
            }
        }
    }

    pub(super) fn stat(&self, path: &Path) -> Result<Outcome, Errno> {
        let FileFacts { kind, len, modified_ms } = self.facts(path)?;
        Ok(Outcome::Stat { kind, len, modified_ms, device: 1, links: 1 })
    }

    pub(super) fn facts(&self, path: &Path) -> Result<FileFacts, Errno> {
        let (path, tree) = (plain(path), self.tree.lock());
        Ok(match tree.node(&path)? {
            Node::Directory => {
                let modified_ms = tree.changed.get(&path).copied().unwrap_or(0);
                FileFacts { kind: EntryKind::Directory, len: 0, modified_ms }
            }
            Node::File(contents) => {
                let contents = contents.lock();
                let Contents { len, modified_ms, .. } = *contents;
                FileFacts { kind: EntryKind::File, len, modified_ms }
            }
        })
    }

    pub(super) fn entries(&self, path: &Path) -> Result<Vec<DirEntry>, Errno> {
        let path = plain(path);
        let tree = self.tree.lock();
        tree.directory(&path)?;
        let children = tree.nodes.iter().filter(|(child, _)| child.parent() == Some(&path));
        Ok(children
            .map(|(child, node)| DirEntry {
                name: child.file_name().unwrap_or_default().to_owned(),
                kind: match node {
                    Node::Directory => EntryKind::Directory,
                    Node::File(_) => EntryKind::File,
                },
            })
            .collect())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        let (from, to) = (plain(from), plain(to));
        let mut tree = self.tree.lock();
        let moved = tree.node(&from)?;
        tree.parent_of(&to)?;
        if from == to {
            return Ok(());
        }
        match (&moved, tree.node(&to)) {
            (Node::Directory, _) if to.starts_with(&from) => return Err(libc::EINVAL),
            (Node::Directory, Ok(Node::File(_))) => return Err(libc::ENOTDIR),
            (Node::File(_), Ok(Node::Directory)) => return Err(libc::EISDIR),
            (Node::Directory, Ok(Node::Directory)) if tree.has_children(&to) => return Err(libc::ENOTEMPTY),
            _ => {}
        }
        tree.name_changed(&from);
        tree.name_changed(&to);
        let below: Vec<PathBuf> = tree.nodes.keys().filter(|path| path.starts_with(&from)).cloned().collect();
        for old in below {
            if let (Some(node), Ok(rest)) = (tree.nodes.remove(&old), old.strip_prefix(&from)) {
                let new = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                tree.nodes.insert(new, node);
            }
        }
        Ok(())
    }

    pub(super) fn unlink(&self, path: &Path) -> Result<(), Errno> {
        let path = plain(path);
        let mut tree = self.tree.lock();
        match tree.node(&path)? {
            Node::Directory => Err(libc::EISDIR),
            Node::File(_) => {
                tree.nodes.remove(&path);
                tree.name_changed(&path);
                Ok(())
            }
        }
    }

    pub(super) fn create_dir(&self, path: &Path) -> Result<(), Errno> {
        let path = plain(path);
        let mut tree = self.tree.lock();
        match tree.node(&path) {
            Ok(Node::Directory) => return Ok(()),
            Ok(Node::File(_)) => return Err(libc::EEXIST),
            Err(_) => {}
        }
        tree.parent_of(&path)?;
        tree.name_changed(&path);
        tree.nodes.insert(path, Node::Directory);
        Ok(())
    }

    pub(super) fn remove_dir(&self, path: &Path) -> Result<(), Errno> {
        let path = plain(path);
        let mut tree = self.tree.lock();
        tree.directory(&path)?;
        if path.parent().is_none() {
            return Err(libc::EBUSY);
        }
        if tree.has_children(&path) {
            return Err(libc::ENOTEMPTY);
        }
        tree.nodes.remove(&path);
        tree.changed.remove(&path);
        tree.name_changed(&path);
        Ok(())
    }

    pub(super) fn sync_dir(&self, path: &Path) -> Result<(), Errno> {
        self.tree.lock().directory(&plain(path))
    }
}

impl std::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryDisk({} paths)", self.tree.lock().nodes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_contents_match_a_plain_vector() {
        let mut prng = highwater_base::Prng::new(7);
        let mut sparse = Contents::default();
        let mut model: Vec<u8> = Vec::new();
        for step in 0..2_000u32 {
            let at = prng.below(20_000);
            let len = prng.below(9_000) as usize;
            match prng.below(5) {
                0 => {
                    sparse.truncate(at);
                    model.resize(at as usize, 0);
                }
                1 => {
                    sparse.zero(at, len as u64);
                    model.resize(model.len().max(at as usize + len), 0);
                    model[at as usize..at as usize + len].fill(0);
                }
                _ if len > 0 => {
                    let bytes = vec![step as u8; len];
                    sparse.write(at, &bytes);
                    model.resize(model.len().max(at as usize + len), 0);
                    model[at as usize..at as usize + len].copy_from_slice(&bytes);
                }
                _ => {}
            }
            let mut all = vec![9; model.len() + 10];
            let n = sparse.read(0, &mut all);
            assert_eq!(&all[..n], &model[..], "step {step}");
        }
    }

    #[test]
    fn renaming_a_directory_moves_what_is_in_it() {
        let disk = MemoryDisk::new();
        disk.put("/d/a-0/x", b"1");
        disk.rename(Path::new("/d/a-0"), Path::new("/d/a-0.gone-delete")).unwrap();
        assert_eq!(disk.contents("/d/a-0.gone-delete/x").unwrap(), b"1");
        assert_eq!(disk.entries(Path::new("/d")).unwrap().len(), 1);
    }
}

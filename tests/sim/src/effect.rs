//! Operations that change the disk, and what they do to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_base::{BLOCK, Prng};
use highwater_io::{OpenHow, Prepared, Slice};

use crate::disk::SimDisk;
use crate::errno::{self, Errno};
use crate::file::{File, SECTOR};
use crate::names::{NodeId, ROOT};

/// A change that was submitted. Until it completes, a power cut may find it done, undone or partly done.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Open { path: PathBuf, how: OpenHow },
    Write { file: NodeId, at: u64, data: Slice, durable: bool },
    Prepare { file: NodeId, at: u64, len: u64, how: Prepared },
    Truncate { file: NodeId, len: u64 },
    Rename { from: PathBuf, to: PathBuf },
    Unlink { path: PathBuf },
    CreateDir { path: PathBuf },
    RemoveDir { path: PathBuf },
}

/// What a change came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Applied {
    Done,
    Opened(NodeId),
    /// This many bytes, fewer than asked for if the disk is full.
    Wrote(usize),
}

impl SimDisk {
    /// Does it, visibly.
    pub(crate) fn apply(&mut self, effect: &Effect) -> Result<Applied, Errno> {
        self.seq += 1;
        let seq = self.seq;
        match effect {
            Effect::Open { path, how } => self.open(path, *how).map(Applied::Opened),
            Effect::Write { file, at, data, durable } => {
                let len = self.fits(*file, *at, data.len())?;
                self.file_mut(*file).write(seq, *at, &data[..len], *durable);
                Ok(Applied::Wrote(len))
            }
            Effect::Prepare { file, at, len, how } => {
                if self.files[file].visible().missing_blocks(*at, *len) * BLOCK > self.free() {
                    return Err(errno::ENOSPC);
                }
                self.file_mut(*file).prepare(seq, *at, *len, *how);
                Ok(Applied::Done)
            }
            Effect::Truncate { file, len } => {
                self.file_mut(*file).set_len(seq, *len);
                Ok(Applied::Done)
            }
            Effect::Rename { from, to } => self.rename(from, to),
            Effect::Unlink { path } => self.unlink(path),
            Effect::CreateDir { path } => self.create_dir(path),
            Effect::RemoveDir { path } => self.remove_dir(path),
        }
    }

    /// Does a part of it, as a power cut or a device error in the middle would. Names change whole or not at all.
    pub(crate) fn apply_partly(&mut self, effect: &Effect, prng: &mut Prng) {
        match effect {
            Effect::Write { file, at, data, .. } => {
                // Any of the write's sectors may have landed.
                let mut done = 0;
                while done < data.len() {
                    let n = ((SECTOR - (at + done as u64) % SECTOR) as usize).min(data.len() - done);
                    if prng.one_in(2) {
                        self.seq += 1;
                        let seq = self.seq;
                        self.file_mut(*file).write(seq, at + done as u64, &data[done..done + n], false);
                    }
                    done += n;
                }
            }
            Effect::Prepare { file, at, len, how } => {
                let blocks = prng.below(len / BLOCK + 1);
                if blocks > 0 {
                    let part = Effect::Prepare { file: *file, at: *at, len: blocks * BLOCK, how: *how };
                    // A full disk is no news to an operation that fails anyway.
                    let _ = self.apply(&part);
                }
            }
            whole => {
                if prng.one_in(2) {
                    // It may be impossible by now; then it simply did not happen.
                    let _ = self.apply(whole);
                }
            }
        }
    }

    fn fits(&self, file: NodeId, at: u64, len: usize) -> Result<usize, Errno> {
        let contents = self.files[&file].visible();
        if contents.missing_blocks(at, len as u64) * BLOCK <= self.free() {
            return Ok(len);
        }
        // Whole blocks as long as there is room: a short write first, then nothing.
        let mut end = at;
        let mut free = self.free() / BLOCK;
        while end < at + len as u64 {
            let next = (end / BLOCK + 1) * BLOCK;
            let missing = contents.missing_blocks(end, 1);
            if missing > free {
                break;
            }
            free -= missing;
            end = next;
        }
        let fits = (end.saturating_sub(at) as usize).min(len);
        if fits == 0 { Err(errno::ENOSPC) } else { Ok(fits) }
    }

    fn open(&mut self, path: &Path, how: OpenHow) -> Result<NodeId, Errno> {
        let place = self.names.find(path).ok_or(errno::ENOENT)?;
        match (place.node, how) {
            (Some(_), OpenHow::CreateNew) => Err(errno::EEXIST),
            (Some(node), _) if self.names.is_dir(node) => Err(errno::EISDIR),
            (Some(node), OpenHow::CreateOrEmpty) => {
                let seq = self.seq;
                if self.files[&node].visible().len() > 0 {
                    self.file_mut(node).set_len(seq, 0);
                }
                Ok(node)
            }
            (Some(node), _) => Ok(node),
            (None, OpenHow::Read | OpenHow::Write) => Err(errno::ENOENT),
            (None, _) => {
                if !self.names.is_dir(place.dir) {
                    return Err(errno::ENOTDIR);
                }
                let node = self.new_node();
                self.files.insert(node, Arc::new(File::new(self.wall_ms)));
                self.names.edit(self.seq, &[(place.dir, place.name, Some(node))]);
                Ok(node)
            }
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<Applied, Errno> {
        let from = self.names.find(from).ok_or(errno::ENOENT)?;
        let node = from.node.ok_or(errno::ENOENT)?;
        let to = self.names.find(to).ok_or(errno::ENOENT)?;
        if !self.names.is_dir(to.dir) {
            return Err(errno::ENOTDIR);
        }
        if let Some(target) = to.node {
            if target == node {
                return Ok(Applied::Done);
            }
            match (self.names.is_dir(node), self.names.is_dir(target)) {
                (false, true) => return Err(errno::EISDIR),
                (true, false) => return Err(errno::ENOTDIR),
                (true, true) if self.names.entries(target).is_some_and(|dir| !dir.is_empty()) => {
                    return Err(errno::ENOTEMPTY);
                }
                (true, true) | (false, false) => {}
            }
        }
        self.names.edit(self.seq, &[(from.dir, from.name, None), (to.dir, to.name, Some(node))]);
        Ok(Applied::Done)
    }

    fn unlink(&mut self, path: &Path) -> Result<Applied, Errno> {
        let place = self.names.find(path).ok_or(errno::ENOENT)?;
        match place.node {
            None => Err(errno::ENOENT),
            Some(node) if self.names.is_dir(node) => Err(errno::EISDIR),
            Some(_) => {
                self.names.edit(self.seq, &[(place.dir, place.name, None)]);
                Ok(Applied::Done)
            }
        }
    }

    fn create_dir(&mut self, path: &Path) -> Result<Applied, Errno> {
        let place = self.names.find(path).ok_or(errno::ENOENT)?;
        match place.node {
            Some(node) if self.names.is_dir(node) => Ok(Applied::Done),
            Some(_) => Err(errno::EEXIST),
            None if !self.names.is_dir(place.dir) => Err(errno::ENOTDIR),
            None => {
                let node = self.new_node();
                self.names.new_dir(node);
                self.names.edit(self.seq, &[(place.dir, place.name, Some(node))]);
                Ok(Applied::Done)
            }
        }
    }

    fn remove_dir(&mut self, path: &Path) -> Result<Applied, Errno> {
        let place = self.names.find(path).ok_or(errno::ENOENT)?;
        let node = place.node.ok_or(errno::ENOENT)?;
        let entries = self.names.entries(node).ok_or(errno::ENOTDIR)?;
        if node == ROOT || !entries.is_empty() {
            return Err(errno::ENOTEMPTY);
        }
        self.names.edit(self.seq, &[(place.dir, place.name, None)]);
        Ok(Applied::Done)
    }
}

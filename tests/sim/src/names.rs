//! The directories: the names as seen, the names as they are after a power cut, and the changes between.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path};

/// A file or a directory, whatever its name is.
pub(crate) type NodeId = u64;

/// The directory `/`.
pub(crate) const ROOT: NodeId = 0;

type Dir = BTreeMap<OsString, NodeId>;

/// One atomic change of names: a rename changes two, in one directory or in two.
#[derive(Clone)]
pub(crate) struct NameChange {
    pub(crate) seq: u64,
    edits: Vec<Edit>,
}

#[derive(Clone)]
struct Edit {
    dir: NodeId,
    name: OsString,
    node: Option<NodeId>,
}

/// Where a path leads: the directory that holds (or would hold) its last name.
pub(crate) struct Place<'p> {
    pub(crate) dir: NodeId,
    pub(crate) name: &'p OsStr,
    pub(crate) node: Option<NodeId>,
}

/// All directories.
#[derive(Clone)]
pub(crate) struct Names {
    visible: BTreeMap<NodeId, Dir>,
    durable: BTreeMap<NodeId, Dir>,
    pending: Vec<NameChange>,
    /// When a name in a directory changed last.
    changed: BTreeMap<NodeId, i64>,
    /// What time it is.
    pub(crate) wall_ms: i64,
}

impl Names {
    pub(crate) fn new() -> Names {
        let root = BTreeMap::from([(ROOT, Dir::new())]);
        let (visible, durable) = (root.clone(), root);
        Names { visible, durable, pending: Vec::new(), changed: BTreeMap::new(), wall_ms: 0 }
    }

    /// When a name in a directory changed last, in milliseconds since 1970.
    pub(crate) fn changed_ms(&self, dir: NodeId) -> i64 {
        self.changed.get(&dir).copied().unwrap_or(0)
    }

    pub(crate) fn is_dir(&self, node: NodeId) -> bool {
        self.visible.contains_key(&node)
    }

    /// The visible entries of a directory.
    pub(crate) fn entries(&self, dir: NodeId) -> Option<&Dir> {
        self.visible.get(&dir)
    }

    /// Follows a path. `None` if a directory on the way is missing.
    pub(crate) fn find<'p>(&self, path: &'p Path) -> Option<Place<'p>> {
        let mut at = Place { dir: ROOT, name: OsStr::new(""), node: Some(ROOT) };
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let dir = at.node?;
            let node = self.visible.get(&dir)?.get(name).copied();
            at = Place { dir, name, node };
        }
        Some(at)
    }

    /// Declares a new, empty directory; its name comes by [`Names::edit`].
    pub(crate) fn new_dir(&mut self, node: NodeId) {
        self.visible.insert(node, Dir::new());
        self.durable.insert(node, Dir::new());
    }

    /// Changes names, visibly at once, all of them or none after a power cut.
    pub(crate) fn edit(&mut self, seq: u64, edits: &[(NodeId, &OsStr, Option<NodeId>)]) {
        let edits: Vec<Edit> = edits
            .iter()
            .map(|(dir, name, node)| Edit { dir: *dir, name: (*name).into(), node: *node })
            .collect();
        for edit in &edits {
            apply(&mut self.visible, edit);
            self.changed.insert(edit.dir, self.wall_ms);
        }
        self.pending.push(NameChange { seq, edits });
    }

    /// A good directory sync: changes of names in `dir` up to `seq` are durable, and with a rename that crosses
    /// directories its other half and what that builds on.
    pub(crate) fn sync(&mut self, dir: NodeId, upto: u64) {
        let mut covered: Vec<(NodeId, OsString)> = Vec::new();
        let mut durable = vec![false; self.pending.len()];
        for (index, change) in self.pending.iter().enumerate().rev() {
            let touches = |edit: &Edit| {
                edit.dir == dir || covered.iter().any(|(d, name)| *d == edit.dir && *name == edit.name)
            };
            if change.seq <= upto && change.edits.iter().any(touches) {
                durable[index] = true;
                covered.extend(change.edits.iter().map(|edit| (edit.dir, edit.name.clone())));
            }
        }
        let mut index = 0;
        let Names { durable: names, pending, .. } = self;
        pending.retain(|change| {
            let now = durable[index];
            index += 1;
            if now {
                change.edits.iter().for_each(|edit| apply(names, edit));
            }
            !now
        });
    }

    pub(crate) fn pending(&self) -> &[NameChange] {
        &self.pending
    }

    /// The names after a power cut.
    pub(crate) fn after_power_cut(&self, keep: &mut dyn FnMut(&NameChange) -> bool) -> Names {
        let mut names = self.durable.clone();
        for change in &self.pending {
            if keep(change) {
                change.edits.iter().for_each(|edit| apply(&mut names, edit));
            }
        }
        // What no name leads to any more is gone.
        let mut reached = vec![ROOT];
        let mut next = 0;
        while next < reached.len() {
            if let Some(dir) = names.get(&reached[next]) {
                reached.extend(dir.values().filter(|node| names.contains_key(node)));
            }
            next += 1;
        }
        names.retain(|node, _| reached.contains(node));
        let (changed, wall_ms) = (self.changed.clone(), self.wall_ms);
        Names { visible: names.clone(), durable: names, pending: Vec::new(), changed, wall_ms }
    }

    /// Every node that some name, seen or durable or on its way, leads to.
    pub(crate) fn leads_to(&self, node: NodeId) -> bool {
        self.visible.values().chain(self.durable.values()).any(|dir| dir.values().any(|n| *n == node))
            || self.pending.iter().any(|change| change.edits.iter().any(|edit| edit.node == Some(node)))
    }
}

fn apply(names: &mut BTreeMap<NodeId, Dir>, edit: &Edit) {
    let Some(dir) = names.get_mut(&edit.dir) else { return };
    match edit.node {
        Some(node) => dir.insert(edit.name.clone(), node),
        None => dir.remove(&edit.name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(names: &Names) -> Names {
        names.after_power_cut(&mut |_| false)
    }

    fn node(names: &Names, path: &str) -> Option<NodeId> {
        names.find(Path::new(path)).and_then(|place| place.node)
    }

    #[test]
    fn a_new_name_is_durable_by_its_directory() {
        let mut names = Names::new();
        names.edit(1, &[(ROOT, OsStr::new("a"), Some(5))]);
        assert_eq!(node(&names, "/a"), Some(5));
        assert_eq!(node(&lost(&names), "/a"), None);
        names.sync(ROOT, 0);
        assert_eq!(node(&lost(&names), "/a"), None);
        names.sync(ROOT, 1);
        assert_eq!(node(&lost(&names), "/a"), Some(5));
    }

    #[test]
    fn a_rename_is_whole_or_not_at_all() {
        let mut names = Names::new();
        names.edit(1, &[(ROOT, OsStr::new("a"), Some(5))]);
        names.sync(ROOT, 1);
        names.edit(2, &[(ROOT, OsStr::new("a"), None), (ROOT, OsStr::new("b"), Some(5))]);
        let kept = names.after_power_cut(&mut |_| true);
        assert_eq!((node(&lost(&names), "/a"), node(&lost(&names), "/b")), (Some(5), None));
        assert_eq!((node(&kept, "/a"), node(&kept, "/b")), (None, Some(5)));
    }

    #[test]
    fn a_file_in_a_directory_whose_name_was_lost_is_lost() {
        let mut names = Names::new();
        names.new_dir(7);
        names.edit(1, &[(ROOT, OsStr::new("d"), Some(7))]);
        names.edit(2, &[(7, OsStr::new("f"), Some(8))]);
        names.sync(7, 2);
        assert_eq!(node(&lost(&names), "/d/f"), None);
        names.sync(ROOT, 2);
        assert_eq!(node(&lost(&names), "/d/f"), Some(8));
    }
}

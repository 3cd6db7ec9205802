//! Directories and what is in them.

use super::{Case, Driver};
use crate::{EntryKind, ErrorKind, Op, OpenHow, Outcome};

pub(super) const CASES: &[Case] = &[
    ("renaming replaces the target", rename_replaces),
    ("renaming a directory takes along what is in it", rename_directory),
    ("an unlinked file lives as long as it is open", unlinked_lives_on),
    ("directories are made, listed and removed", directories),
    ("what is missing is not found", missing),
];

fn rename(d: &mut Driver, from: &str, to: &str) -> Result<Outcome, crate::IoError> {
    let (from, to) = (d.path(from), d.path(to));
    d.run(Op::Rename { from, to })
}

fn rename_replaces(d: &mut Driver) {
    let (a, b) = (d.create("a"), d.create("b"));
    d.write(a, 0, b"from a");
    d.write(b, 0, b"from b, longer");
    rename(d, "a", "b").unwrap();
    assert_eq!(d.len_of("b"), 6);
    let path = d.path("a");
    assert_eq!(d.run(Op::Stat { path }).unwrap_err().kind, ErrorKind::NotFound);
    // Both handles still name what they named.
    assert_eq!(d.read(a, 0, 100), b"from a");
    assert_eq!(d.read(b, 0, 100), b"from b, longer");
    assert_eq!(rename(d, "a", "c").unwrap_err().kind, ErrorKind::NotFound);
}

fn rename_directory(d: &mut Driver) {
    let path = d.path("one");
    d.done(Op::CreateDir { path });
    let file = d.create("one/x");
    rename(d, "one", "two").unwrap();
    d.write(file, 0, b"abc");
    assert_eq!(d.len_of("two/x"), 3);
}

fn unlinked_lives_on(d: &mut Driver) {
    let file = d.create("a");
    d.write(file, 0, b"abc");
    let path = d.path("a");
    d.done(Op::Unlink { path });
    assert_eq!(d.read(file, 0, 10), b"abc");
    let path = d.path("a");
    assert_eq!(d.run(Op::Unlink { path }).unwrap_err().kind, ErrorKind::NotFound);
    let new = d.create("a");
    assert_eq!(d.read(new, 0, 10), b"");
}

fn directories(d: &mut Driver) {
    let dir = d.path("dir");
    d.done(Op::CreateDir { path: dir.clone() });
    d.done(Op::CreateDir { path: dir.clone() });
    d.done(Op::CreateDir { path: dir.join("inner") });
    for n in 0..50 {
        d.create(&format!("dir/{n}"));
    }
    let Ok(Outcome::Entries { entries }) = d.run(Op::ReadDir { path: dir.clone() }) else {
        panic!("readdir")
    };
    let mut seen: Vec<_> = entries.iter().map(|e| (e.name.to_string_lossy().into_owned(), e.kind)).collect();
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let mut expected: Vec<_> = (0..50).map(|n| (n.to_string(), EntryKind::File)).collect();
    expected.push(("inner".to_owned(), EntryKind::Directory));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(seen, expected);
    d.done(Op::SyncDir { path: dir.clone() });
    let stat = d.run(Op::Stat { path: dir.clone() });
    assert!(matches!(stat, Ok(Outcome::Stat { kind: EntryKind::Directory, .. })), "{stat:?}");
    let paths = vec![dir.clone(), dir.join("7"), dir.join("none"), d.path("none").join("below")];
    let Ok(Outcome::Stats { facts }) = d.run(Op::StatMany { paths }) else { panic!("stat of several") };
    let kinds: Vec<_> = facts.iter().map(|facts| facts.map(|facts| facts.kind)).collect();
    assert_eq!(kinds, [Some(EntryKind::Directory), Some(EntryKind::File), None, None]);
    assert_eq!(facts[1].map(|facts| facts.len), Some(0));
    let space = d.run(Op::Space { path: dir.clone() });
    assert!(matches!(space, Ok(Outcome::Space { total, free }) if 0 < free && free <= total), "{space:?}");
    assert!(d.run(Op::RemoveDir { path: dir.clone() }).is_err(), "removed with things in it");
    assert!(d.run(Op::Unlink { path: dir.join("inner") }).is_err(), "unlinked a directory");
    for n in 0..50 {
        d.done(Op::Unlink { path: dir.join(n.to_string()) });
    }
    d.done(Op::RemoveDir { path: dir.join("inner") });
    d.done(Op::RemoveDir { path: dir.clone() });
    assert_eq!(d.run(Op::Stat { path: dir }).unwrap_err().kind, ErrorKind::NotFound);
}

fn missing(d: &mut Driver) {
    let no = d.path("no");
    let ops = [
        Op::Stat { path: no.clone() },
        Op::ReadDir { path: no.clone() },
        Op::Unlink { path: no.clone() },
        Op::RemoveDir { path: no.clone() },
        Op::SyncDir { path: no.clone() },
        Op::CreateDir { path: no.join("below") },
        Op::Rename { from: no.clone(), to: d.path("other") },
    ];
    for op in ops {
        let text = format!("{op:?}");
        assert_eq!(d.run(op).unwrap_err().kind, ErrorKind::NotFound, "{text}");
    }
    d.open("file", OpenHow::CreateNew, false);
    let path = d.path("file");
    assert_eq!(d.run(Op::CreateDir { path: path.clone() }).unwrap_err().kind, ErrorKind::AlreadyExists);
    assert!(d.run(Op::SyncDir { path }).is_err(), "a file is no directory");
}

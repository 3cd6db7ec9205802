//! The workspace's own files, for `tests/tidy.rs`: found, read, and stripped of what a rule must not see.

use std::fs;
use std::path::{Path, PathBuf};

/// The workspace's top directory.
///
/// ```
/// assert!(highwater_tests::source::root().join("Cargo.toml").exists());
/// ```
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// A file of the workspace.
///
/// ```
/// let file = highwater_tests::source::File { path: "engine/src/a.rs".into(), text: "fn f() {}\n".into() };
/// assert!(file.is_rust());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Its path in the workspace, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Names at the top that belong to whoever builds and runs, not to the repository.
fn is_local(name: &str, ignored: &[String]) -> bool {
    name == ".git"
        || ignored.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
}

/// The patterns of `.gitignore` that name things at the top.
fn ignored() -> Vec<String> {
    let text = fs::read_to_string(root().join(".gitignore")).expect(".gitignore can be read");
    text.lines().map(|line| line.trim_matches('/').to_owned()).filter(|line| !line.is_empty()).collect()
}

/// What lies at the top, without what `.gitignore` leaves out.
pub fn top_level() -> Vec<String> {
    let ignored = ignored();
    let entries = fs::read_dir(root()).expect("the workspace can be read");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !is_local(name, &ignored));
    names.sort();
    names
}

/// Every text file of the workspace, sorted by path. Golden bytes and lock files are left out.
pub fn files() -> Vec<File> {
    let mut files = Vec::new();
    let ignored = ignored();
    for name in top_level() {
        visit(&root(), Path::new(&name), &ignored, &mut files);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn visit(root: &Path, path: &Path, ignored: &[String], files: &mut Vec<File>) {
    let full = root.join(path);
    if full.is_dir() {
        for entry in fs::read_dir(&full).expect("a directory can be read") {
            let name = entry.expect("an entry").file_name();
            if !is_local(&name.to_string_lossy(), ignored) {
                visit(root, &path.join(name), ignored, files);
            }
        }
        return;
    }
    let path = path.to_string_lossy().replace('\\', "/");
    if path.starts_with("tests/golden/") || path.ends_with("Cargo.lock") || path == "LICENSE" {
        return;
    }
    // A file may vanish between listing and reading; what is not text has no lines to judge.
    if let Ok(text) = fs::read_to_string(&full) {
        files.push(File { path, text });
    }
}

impl File {
    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is a test or an example as a whole, by where it lies.
    pub fn is_test_by_place(&self) -> bool {
        let kinds = ["tests/", "benches/", "examples/"];
        kinds.iter().any(|kind| self.path.starts_with(kind) || self.path.contains(&format!("/{kind}")))
    }

    /// The lines that are part of the program, numbered from 1: without comments, without what is inside
    /// `#[cfg(test)]`.
    pub fn program(&self) -> Vec<(usize, &str)> {
        let mut lines = Vec::new();
        let mut all = self.text.lines().enumerate().peekable();
        while let Some((index, line)) = all.next() {
            let plain = line.trim_start();
            if plain.starts_with("#[cfg(test)]") || plain.starts_with("#[cfg(all(test") {
                match all.peek() {
                    // Unit tests are the bottom of the file.
                    Some((_, next)) if next.trim_start().starts_with("mod") && next.ends_with('{') => break,
                    _ => drop(all.next()),
                }
            } else if !plain.starts_with("//") {
                lines.push((index + 1, line));
            }
        }
        lines
    }

    /// The modules it declares for tests only.
    pub fn test_modules(&self) -> Vec<&str> {
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let pairs = lines.windows(2).filter(|pair| pair[0].starts_with("#[cfg(test)]"));
        pairs.filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';')).collect()
    }

    /// Every function: its name, the line it starts on, how many lines it has. Relies on rustfmt's layout.
    pub fn functions(&self) -> Vec<(&str, usize, usize)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut functions = Vec::new();
        for (start, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else { continue };
            let indent = &line[..line.len() - line.trim_start().len()];
            let body =
                lines[start..].iter().position(|line| line.ends_with('{') || line.ends_with(['}', ';']));
            let Some(body) = body.map(|at| start + at).filter(|at| lines[*at].ends_with('{')) else {
                continue;
            };
            let closing = format!("{indent}}}");
            if let Some(len) = lines[body..].iter().position(|line| *line == closing) {
                functions.push((name, start + 1, body - start + len + 1));
            }
        }
        functions
    }

    /// The first names of every path into the crate: `a` and `B` of `use crate::{a::C, B};`.
    pub fn crate_paths(&self) -> Vec<String> {
        let text: String = self.program().iter().map(|(_, line)| format!("{line}\n")).collect();
        let mut names = Vec::new();
        for (at, start) in text.match_indices("crate::") {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c == '_' || c == '$' || c.is_alphanumeric()) {
                continue;
            }
            let rest = &text[at + start.len()..];
            match rest.strip_prefix('{') {
                Some(group) => names.extend(group_heads(group)),
                None => names.extend(head(rest)),
            }
        }
        names
    }
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    for prefix in ["pub(crate) ", "pub(super) ", "pub ", "const ", "unsafe ", "extern \"C\" "] {
        words = words.strip_prefix(prefix).unwrap_or(words);
    }
    let name = words.strip_prefix("fn ")?;
    name.split(['(', '<']).next()
}

fn head(path: &str) -> Option<String> {
    let end = path.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut item, mut heads) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(head(std::mem::take(&mut item).trim())),
            _ => {}
        }
        if !(c == ',' && depth == 0) {
            item.push(c);
        }
    }
    heads.extend(head(item.trim()));
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { path: "a/src/b.rs".into(), text: text.into() }
    }

    #[test]
    fn comments_and_tests_are_not_the_program() {
        let f = file(
            "//! doc\nuse x;\n#[cfg(test)]\nuse y;\nfn f() {}\n#[cfg(test)]\nmod tests {\n    use z;\n}\n",
        );
        assert_eq!(f.program(), [(2, "use x;"), (5, "fn f() {}")]);
    }

    #[test]
    fn functions_are_measured() {
        let f = file(
            "pub fn long(\n    a: u8,\n) {\n    x();\n}\nfn short() {}\ntrait T {\n    fn declared(&self);\n}\n",
        );
        assert_eq!(f.functions(), [("long", 1, 5)]);
    }

    #[test]
    fn first_names_of_paths_into_the_crate() {
        let f = file("use crate::{a::{X, y}, B, self as c};\nfn f() { crate::d::e(); $crate::no(); }\n");
        assert_eq!(f.crate_paths(), ["a", "B", "self", "d"]);
    }
}

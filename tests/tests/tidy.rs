//! Style is a failing test: floors, lengths, banned words, unlisted tests, the tree's top.

use std::collections::{BTreeMap, BTreeSet};

use highwater_tests::source::{File, files, root, top_level};

/// Longest file, in lines, unless listed.
const FILE_LINES: usize = 500;
/// Longest function, in lines, unless listed.
const FUNCTION_LINES: usize = 100;

/// Files that are longer, and how long they may be. This list only shrinks.
const LONG_FILES: &[(&str, usize)] = &[];

/// Functions that are longer, as `file:function`, and how long they may be. This list only shrinks.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// Where, besides `engine/io`, tests and benches, the world outside may be touched, and by what.
const OUTSIDE: &[(&str, &[&str], &str)] = &[
    (
        "engine/runtime/src/thread.rs",
        &["Instant", "SystemTime", "std::thread"],
        "the one place that reads the clock",
    ),
    (
        "tools/cli/src/",
        &["Instant", "SystemTime", "std::thread", "std::fs", "sockets"],
        "the program's own edges",
    ),
];

/// Dependencies between modules of one crate that close a cycle, as (crate, from, to). This list only shrinks.
const CYCLES: &[(&str, &str, &str)] = &[];

fn rust_files() -> Vec<File> {
    files().into_iter().filter(File::is_rust).collect()
}

/// Fails with every finding, not only the first.
fn none(findings: Vec<String>, rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

/// The floor of each crate's directory, by the table in `docs/ARCHITECTURE.md`.
fn floors() -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    let rows = text.lines().skip_while(|line| !line.starts_with("| floor |")).skip(2);
    let mut floors = BTreeMap::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let (floor, crates) = row.trim_matches('|').split_once('|').expect("two columns");
        let floor = floor.trim().parse().expect("a floor is a number");
        for (index, name) in crates.split('`').enumerate() {
            if index % 2 == 1 && root().join(name).join("Cargo.toml").exists() {
                floors.insert(name.to_owned(), floor);
            }
        }
    }
    floors
}

/// The crates of the workspace: directory, package name, the workspace's packages it depends on.
fn crates() -> Vec<(String, String, Vec<String>)> {
    let manifests = files().into_iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    let field = |line: &str| Some(line.strip_prefix("name = \"")?.trim_end_matches('"').to_owned());
    manifests
        .map(|file| {
            let dir = file.path.trim_end_matches("/Cargo.toml").to_owned();
            let name = file.text.lines().find_map(field).expect("a package has a name");
            let ours = file.text.lines().filter(|line| line.starts_with("highwater-"));
            let uses = ours.filter_map(|line| line.split(['.', ' ']).next()).map(str::to_owned).collect();
            (dir, name, uses)
        })
        .collect()
}

#[test]
fn crates_depend_only_on_lower_floors() {
    let (floors, crates) = (floors(), crates());
    let dir_of: BTreeMap<&str, &str> =
        crates.iter().map(|(dir, name, _)| (name.as_str(), dir.as_str())).collect();
    let mut findings = Vec::new();
    for (dir, name, uses) in &crates {
        let Some(floor) = floors.get(dir) else {
            findings.push(format!("{dir}: no floor in docs/ARCHITECTURE.md"));
            continue;
        };
        for used in uses.iter().filter(|used| *used != name) {
            let target = floors.get(dir_of[used.as_str()]);
            if target.is_none_or(|target| target >= floor) {
                findings.push(format!("{dir} (floor {floor}) depends on {used} (floor {target:?})"));
            }
        }
    }
    none(findings, "a crate imports only from lower floors");
}

/// The module that each name of a crate's `pub use` list comes from.
fn exports(lib: &File) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    let text: String = lib.program().iter().map(|(_, line)| format!("{} ", line.trim())).collect();
    for import in text.split(';').filter_map(|item| Some(item.split_once("use ")?.1)) {
        let Some((module, names)) = import.split_once("::") else { continue };
        for name in names.split(|c: char| c != '_' && !c.is_alphanumeric()) {
            exports.insert(name.to_owned(), module.to_owned());
        }
    }
    exports
}

/// Which module of a crate uses which others of it.
fn module_graph(dir: &str, files: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let src = format!("{dir}/src/");
    let module_of = |path: &str| -> Option<String> {
        let name = path.strip_prefix(&src)?.split('/').next()?.trim_end_matches(".rs");
        (!matches!(name, "lib" | "main")).then(|| name.to_owned())
    };
    let modules: BTreeSet<String> = files.iter().filter_map(|file| module_of(&file.path)).collect();
    let lib = files.iter().find(|file| file.path == format!("{src}lib.rs"));
    let exports = lib.map(exports).unwrap_or_default();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let Some(from) = module_of(&file.path) else { continue };
        for name in file.crate_paths() {
            let to = if modules.contains(&name) { Some(&name) } else { exports.get(&name) };
            if let Some(to) = to.filter(|to| **to != from && modules.contains(*to)) {
                graph.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    graph
}

/// What is left of a graph when modules that use nothing (any more) are taken away: the cycles.
fn cyclic(mut graph: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let before = graph.len();
        let used: BTreeSet<String> = graph.values().flatten().cloned().collect();
        let users: BTreeSet<String> = graph.keys().cloned().collect();
        graph.retain(|module, uses| {
            uses.retain(|used| users.contains(used));
            !uses.is_empty() && used.contains(module)
        });
        if graph.len() == before {
            return graph;
        }
    }
}

#[test]
fn modules_of_a_crate_form_floors_too() {
    let files: Vec<File> = not_for_tests(rust_files());
    let mut findings = Vec::new();
    for (dir, _, _) in crates().iter().filter(|(dir, ..)| !dir.starts_with("tests") && dir != "benches") {
        let mut graph = module_graph(dir, &files);
        for (_, from, to) in CYCLES.iter().filter(|(listed, ..)| listed == dir) {
            let known = graph.get_mut(*from).is_some_and(|uses| uses.remove(*to));
            assert!(known, "{dir}: {from} does not use {to} any more, take it off the list");
        }
        let cycles = cyclic(graph);
        findings.extend(
            cycles.iter().map(|(module, uses)| format!("{dir}: {module} and {uses:?} use each other")),
        );
    }
    none(findings, "modules import only downwards; siblings never import each other");
}

/// Without files that are test modules as a whole.
fn not_for_tests(files: Vec<File>) -> Vec<File> {
    let mut gone: Vec<String> = Vec::new();
    for file in &files {
        let dir = file.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let own = match file.path.rsplit('/').next() {
            Some("mod.rs" | "lib.rs" | "main.rs") => dir.to_owned(),
            _ => file.path.trim_end_matches(".rs").to_owned(),
        };
        gone.extend(file.test_modules().iter().map(|module| format!("{own}/{module}")));
    }
    let is_gone = |path: &str| {
        gone.iter().any(|g| path.starts_with(&format!("{g}.rs")) || path.starts_with(&format!("{g}/")))
    };
    files.into_iter().filter(|file| !is_gone(&file.path)).collect()
}

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        let listed = LONG_FILES.iter().find(|(path, _)| *path == file.path).map(|(_, most)| *most);
        if lines > listed.unwrap_or(FILE_LINES) {
            findings.push(format!("{} has {lines} lines", file.path));
        } else if listed.is_some_and(|most| lines < most) {
            findings
                .push(format!("{} has shrunk to {lines} lines: shrink its entry in LONG_FILES", file.path));
        }
    }
    none(findings, "a file has at most 500 lines; split by verb");
}

#[test]
fn functions_are_short() {
    let mut findings = Vec::new();
    for file in rust_files() {
        for (name, line, lines) in file.functions() {
            let key = format!("{}:{name}", file.path);
            let listed = LONG_FUNCTIONS.iter().find(|(listed, _)| *listed == key).map(|(_, most)| *most);
            if lines > listed.unwrap_or(FUNCTION_LINES) {
                findings.push(format!("{}:{line} {name} has {lines} lines", file.path));
            } else if listed.is_some_and(|most| lines < most) {
                findings
                    .push(format!("{key} has shrunk to {lines} lines: shrink its entry in LONG_FUNCTIONS"));
            }
        }
    }
    none(findings, "a function has at most 100 lines");
}

#[test]
fn banned_words_are_absent() {
    // Put together here, so that this file need not be left out.
    let words: Vec<String> = [
        ("to", "do!"),
        ("unimple", "mented!"),
        ("TO", "DO"),
        ("FIX", "ME"),
        ("db", "g!("),
        ("#[ign", "ore"),
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("index.crates", ".io"),
        ("static.crates", ".io"),
        ("pypi", ".org"),
        ("repo1.maven", ".org"),
        ("repo.maven", ".apache.org"),
        ("proxy.golang", ".org"),
        ("registry.npmjs", ".org"),
    ]
    .iter()
    .map(|(a, b)| format!("{a}{b}"))
    .collect();
    let mut findings = Vec::new();
    for file in files() {
        for (index, line) in file.text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                findings.push(format!("{}:{}: {word}", file.path, index + 1));
            }
        }
    }
    none(findings, "no unfinished work, no machine's paths, no registry hosts");
}

#[test]
fn names_say_what_is_inside() {
    let vague = ["utils", "util", "helpers", "helper", "common", "misc", "manager"];
    let is_vague =
        |file: &File| file.path.split('/').any(|part| vague.contains(&part.trim_end_matches(".rs")));
    none(rust_files().into_iter().filter(is_vague).map(|file| file.path).collect(), "no vague file names");
}

#[test]
fn the_lock_file_names_no_mirror() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let index = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let others: Vec<String> = lock
        .lines()
        .filter(|line| line.starts_with("source = ") && *line != index)
        .map(str::to_owned)
        .collect();
    none(others, "dependencies come from the common registry");
}

/// A way to the world outside, and how it looks in a program.
const WAYS_OUT: &[(&str, &[&str])] = &[
    ("Instant", &["Instant::now", "time::Instant", "Instant}", "Instant,"]),
    ("SystemTime", &["SystemTime"]),
    ("std::thread", &["std::thread", "thread::spawn", "thread::sleep"]),
    ("std::fs", &["std::fs", "fs::File", "File::open", "File::create", "OpenOptions"]),
    ("sockets", &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener"]),
    (
        "random maps",
        &["HashMap::new", "HashSet::new", "HashMap::with_capacity", "HashSet::with_capacity", "RandomState"],
    ),
];

#[test]
fn every_package_holds_the_licence() {
    let read = |dir: &str| std::fs::read_to_string(root().join(dir).join("LICENSE")).unwrap_or_default();
    let packages = files().into_iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    let findings = packages.filter(|file| !file.text.contains("publish = false")).filter(|file| {
        let dir = file.path.trim_end_matches("Cargo.toml");
        !file.text.contains("include = [\"/LICENSE\"") || read(dir) != read("") || read(dir).is_empty()
    });
    none(findings.map(|file| file.path).collect(), "each package includes LICENSE, as it is at the top");
}

#[test]
fn only_named_files_touch_the_world_outside() {
    let mut findings = Vec::new();
    for file in not_for_tests(rust_files()) {
        // The simulator is to be the same everywhere, too.
        let simulator = file.path.starts_with("tests/sim/src/");
        if (file.is_test_by_place() && !simulator) || file.path.starts_with("engine/io/") {
            continue;
        }
        let allowed: Vec<&str> = OUTSIDE
            .iter()
            .filter(|(path, ..)| file.path.starts_with(path))
            .flat_map(|(_, ways, _)| *ways)
            .copied()
            .collect();
        for (number, line) in file.program() {
            for (way, looks) in WAYS_OUT.iter().filter(|(way, _)| !allowed.contains(way)) {
                if looks.iter().any(|look| line.contains(look)) {
                    findings.push(format!("{}:{number} {way}: {}", file.path, line.trim()));
                }
            }
        }
    }
    none(
        findings,
        "above the I/O seam nothing blocks, reads a clock, starts a thread or depends on a random seed",
    );
}

#[test]
fn unsafe_stays_below_the_seam() {
    let word = concat!("un", "safe");
    let mut findings = Vec::new();
    for file in rust_files() {
        let fenced = file.path.starts_with("engine/io/") || file.path.starts_with("benches/");
        let code = file.program();
        let is_root = file.path.ends_with("/src/lib.rs") || file.path.ends_with("/src/main.rs");
        if is_root && !fenced && !file.text.contains("#![forbid(unsafe_code)]") {
            findings.push(format!("{} lacks #![forbid(unsafe_code)]", file.path));
        }
        let uses = |line: &str| {
            line.split(|c: char| c != '_' && !c.is_alphanumeric()).any(|part| part == word)
                && !line.contains('"')
        };
        if !fenced {
            let lines = code.iter().filter(|(_, line)| uses(line));
            findings.extend(lines.map(|(number, _)| format!("{}:{number}", file.path)));
        }
    }
    none(findings, "only engine/io and the benches' raw controls may be unsafe");
}

#[test]
fn every_test_file_is_listed() {
    let readme = std::fs::read_to_string(root().join("tests/README.md")).expect("tests/README.md");
    let in_tests = |file: &File| file.path.starts_with("tests/tests/") || file.path.contains("/tests/");
    let by_path = |file: &File| file.path.rsplit_once('/').is_some_and(|(dir, _)| dir.ends_with("tests"));
    let mut findings: Vec<String> = rust_files()
        .iter()
        .filter(|file| in_tests(file) && by_path(file) && !readme.contains(&format!("`{}`", file.path)))
        .map(|file| format!("{} is not in tests/README.md", file.path))
        .collect();
    for name in readme.split('`').filter(|name| name.ends_with(".rs") && name.contains("tests/")) {
        if !root().join(name).exists() {
            findings.push(format!("tests/README.md lists {name}, which is not there"));
        }
    }
    none(findings, "every test file has its line in tests/README.md");
}

#[test]
fn places_named_in_the_documents_exist() {
    let tops = ["engine/", "replication/", "tools/", "benches/", "tests/", "docs/"];
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.path.ends_with(".md") && !file.path.contains("decisions/"))
    {
        for (index, line) in file.text.lines().enumerate() {
            for name in
                line.split('`').skip(1).step_by(2).filter(|name| tops.iter().any(|top| name.starts_with(top)))
            {
                let plain = name.split([' ', ':', '*', '<']).next().unwrap_or(name);
                if !root().join(plain.trim_end_matches('/')).exists() {
                    findings.push(format!("{}:{} {name}", file.path, index + 1));
                }
            }
        }
    }
    none(findings, "a document names only files that are there");
}

#[test]
fn the_top_of_the_tree_is_fixed() {
    let must = ["Cargo.toml", "Cargo.lock", "engine", "replication", "tools", "benches", "tests", "docs"];
    let may = ["README.md", "LICENSE", "CONTRIBUTING.md", ".ci", ".gitignore", "rustfmt.toml", "clippy.toml"];
    let found = top_level();
    let mut findings: Vec<String> = found
        .iter()
        .filter(|name| !must.contains(&name.as_str()) && !may.contains(&name.as_str()))
        .cloned()
        .collect();
    findings.extend(
        must.iter().filter(|name| !found.iter().any(|f| f == *name)).map(|name| format!("{name} is missing")),
    );
    none(findings, "the top of the tree is fixed");
}

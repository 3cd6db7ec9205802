//! A directory for benchmark files, removed with all it holds when the benchmark ends.

use std::path::{Path, PathBuf};

/// A new directory under `HIGHWATER_BENCH_DIR`, or under Cargo's target directory: benchmarks measure the
/// disk that the project is on, and `/tmp` may be memory.
///
/// ```
/// let dir = highwater_benches::scratch::Scratch::new("doc");
/// assert!(dir.path().is_dir());
/// ```
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the directory. Panics if it cannot.
    pub fn new(name: &str) -> Scratch {
        let base = std::env::var_os("HIGHWATER_BENCH_DIR")
            .or_else(|| std::env::var_os("CARGO_TARGET_TMPDIR"))
            .map_or_else(
                || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench-scratch")),
                PathBuf::from,
            );
        let dir = base.join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("cannot make {}: {e}", dir.display()));
        Scratch(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

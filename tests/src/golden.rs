//! The files that Apache Kafka wrote: `tests/golden`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use serde_json::Value;

/// Every file of the archive, by its name in it.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/kafka-4.3.1.tar.zst");
    let packed = std::fs::read(packed).expect("tests/golden is part of the repository");
    let mut tar = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::new(&packed[..]).expect("a zstd frame");
    decoder.read_to_end(&mut tar).expect("the archive unpacks");
    tar_files(&tar)
}

fn tar_files(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    const BLOCK: usize = 512;
    let text = |field: &[u8]| {
        let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
        String::from_utf8(field[..end].to_vec()).expect("UTF-8")
    };
    let mut files = Vec::new();
    let mut at = 0;
    while let Some(header) = tar.get(at..at + BLOCK).filter(|header| header[0] != 0) {
        let size = usize::from_str_radix(text(&header[124..136]).trim(), 8).expect("a size");
        let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if matches!(header[156], b'0' | 0) {
            files.push((name, tar[at + BLOCK..at + BLOCK + size].to_vec()));
        }
        at += BLOCK + size.div_ceil(BLOCK) * BLOCK;
    }
    files
}

/// The recorded directories, unpacked; removed when dropped.
pub struct Golden {
    dir: PathBuf,
}

/// The one that tests which change nothing share while any of them runs.
static SHARED: Mutex<Weak<Golden>> = Mutex::new(Weak::new());

/// Tells directories apart.
static UNPACKED: AtomicU32 = AtomicU32::new(0);

impl Golden {
    /// One that tests which change nothing share while any of them runs.
    pub fn shared() -> Arc<Golden> {
        let mut shared = SHARED.lock().expect("unpacking does not fail");
        shared.upgrade().unwrap_or_else(|| {
            let golden = Arc::new(Golden::unpack("shared"));
            *shared = Arc::downgrade(&golden);
            golden
        })
    }

    /// One for this test alone.
    pub fn unpack(test: &str) -> Golden {
        let number = UNPACKED.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("highwater-golden-{test}-{}-{number}", std::process::id()));
        for (name, bytes) in files() {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().expect("inside the directory")).expect("a directory");
            std::fs::write(path, bytes).expect("a file");
        }
        Golden { dir }
    }

    /// Where the sets are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Each log directory, and where what is expected of it stands.
    pub fn log_directories(&self) -> Vec<(PathBuf, PathBuf)> {
        let sets = std::fs::read_to_string(self.dir.join("sets.json")).expect("sets.json");
        let sets: Vec<Value> = serde_json::from_str(&sets).expect("JSON");
        let path = |set: &Value, name: &str| self.dir.join(set[name].as_str().expect("a path"));
        sets.iter().map(|set| (path(set, "logdir"), path(set, "expected"))).collect()
    }

    /// Each partition's directory, and the lines expected of it.
    pub fn partitions(&self) -> Vec<(PathBuf, PathBuf)> {
        let mut partitions = Vec::new();
        for (directory, expected) in self.log_directories() {
            for entry in std::fs::read_dir(&expected).expect("a directory") {
                let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
                let name = name.strip_suffix(".jsonl").expect("JSON lines");
                if name != "logdir" {
                    partitions.push((directory.join(name), expected.join(format!("{name}.jsonl"))));
                }
            }
        }
        partitions.sort();
        partitions
    }
}

impl Drop for Golden {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// JSON lines.
pub fn parsed(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The JSON lines of a file.
pub fn expected(path: &Path) -> Vec<Value> {
    parsed(&std::fs::read_to_string(path).expect("recorded lines"))
}

//! Every implementation of the I/O seam, held to the contract by one suite.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use highwater_io::contract::{Subject, suite};
use highwater_io::{MemoryIo, PosixIo};

/// A directory of its own for each case, removed at the end.
struct Scratch {
    root: PathBuf,
    cases: AtomicU32,
}

impl Scratch {
    fn new(name: &str) -> Scratch {
        let root = std::env::temp_dir().join(format!("highwater-io-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        Scratch { root, cases: AtomicU32::new(0) }
    }

    fn next(&self) -> PathBuf {
        let root = self.root.join(self.cases.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&root).unwrap();
        root
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

#[test]
fn memory_keeps_the_contract() {
    suite(&mut || {
        let io = MemoryIo::new();
        let fault = io.sync_fault();
        Subject {
            io: Box::new(io),
            root: "/".into(),
            fail_next_sync: Some(Box::new(move || fault.arm(1))),
            address: "127.0.0.1:0".parse().unwrap(),
        }
    });
}

#[test]
fn posix_keeps_the_contract() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let scratch = Scratch::new("posix");
        suite(&mut || {
            let io = PosixIo::new().unwrap();
            let fault = io.sync_fault();
            Subject {
                io: Box::new(io),
                root: scratch.next(),
                fail_next_sync: Some(Box::new(move || fault.arm(1))),
                address: address.parse().unwrap(),
            }
        });
    }
}

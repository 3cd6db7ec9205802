//! Every implementation of the I/O seam, held to the contract by one suite.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(target_os = "linux")]
use highwater_io::UringIo;
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

#[cfg(target_os = "linux")]
#[test]
fn uring_keeps_the_contract() {
    if let Err(why) = UringIo::new(8) {
        println!("skipped: no io_uring ({why})");
        return;
    }
    // A ring of four is full all the time; one of 256 rarely.
    for (entries, address) in [(4, "127.0.0.1:0"), (256, "[::1]:0")] {
        let scratch = Scratch::new(&format!("uring-{entries}"));
        suite(&mut || {
            let io = UringIo::new(entries).unwrap();
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

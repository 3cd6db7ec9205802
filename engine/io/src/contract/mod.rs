//! The contract as a test suite, to hold an implementation of [`Io`](crate::Io) to.

mod durability;
mod files;
mod names;
mod sockets;
mod streams;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use highwater_base::{BLOCK, FilePos};

use crate::{Buffer, Completion, ConnId, FileId, IoError, Op, OpenHow, Outcome, Park, Slice, Token};

/// One implementation, fresh for one case.
///
/// ```
/// use highwater_io::{MemoryIo, contract};
/// contract::suite(&mut || {
///     let io = MemoryIo::new();
///     let fault = io.sync_fault();
///     contract::Subject {
///         fail_next_sync: Some(Box::new(move || fault.arm(1))),
///         io: Box::new(io),
///         root: "/".into(),
///         address: "127.0.0.1:0".parse().unwrap(),
///     }
/// });
/// ```
pub struct Subject {
    /// The implementation. The smaller its ring, the better.
    pub io: Box<dyn Park>,
    /// An empty directory for the case.
    pub root: PathBuf,
    /// Makes the next sync of a file fail with `EIO`; without it, the cases about that are left out.
    pub fail_next_sync: Option<Box<dyn FnMut()>>,
    /// Where to listen; port 0 for any.
    pub address: SocketAddr,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subject({} in {})", self.io.name(), self.root.display())
    }
}

/// A case of the suite: the behaviour it shows, and how.
type Case = (&'static str, fn(&mut Driver));

/// Runs every case against a subject of its own. Panics at the first that fails, after printing its name.
pub fn suite(make: &mut dyn FnMut() -> Subject) {
    let cases =
        [files::CASES, durability::CASES, names::CASES, sockets::CASES, streams::CASES, waiting::CASES];
    for (name, case) in cases.into_iter().flatten() {
        let mut driver = Driver::new(make());
        println!("{}: {name}", driver.subject.io.name());
        case(&mut driver);
    }
}

/// Submits operations and waits for particular ones.
struct Driver {
    subject: Subject,
    next_tag: u32,
    /// Completions not asked for yet.
    results: HashMap<u32, Result<Outcome, IoError>>,
    /// Tags in the order of their completion.
    order: Vec<u32>,
    /// Files that take aligned operations only.
    direct: HashSet<FileId>,
}

/// The owner of the suite's tokens.
const OWNER: u32 = 17;

impl Driver {
    fn new(subject: Subject) -> Driver {
        Driver { subject, next_tag: 0, results: HashMap::new(), order: Vec::new(), direct: HashSet::new() }
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.subject.root.join(name)
    }

    fn submit(&mut self, op: Op) -> u32 {
        let tag = self.next_tag;
        self.next_tag += 1;
        self.subject.io.submit(op, Token { owner: OWNER, tag });
        tag
    }

    fn take_in(&mut self, completions: Vec<Completion>) {
        for Completion { token, result } in completions {
            assert_eq!(token.owner, OWNER, "a token came back changed");
            self.order.push(token.tag);
            assert!(self.results.insert(token.tag, result).is_none(), "{token:?} completed twice");
        }
    }

    /// Waits until the operation with `tag` is done.
    fn wait(&mut self, tag: u32) -> Result<Outcome, IoError> {
        loop {
            if let Some(result) = self.results.remove(&tag) {
                return result;
            }
            let mut out = Vec::new();
            self.subject.io.park(None, &mut out);
            self.take_in(out);
        }
    }

    /// Waits until nothing is in flight.
    fn settle(&mut self) {
        while self.subject.io.in_flight() > 0 {
            let mut out = Vec::new();
            self.subject.io.park(None, &mut out);
            self.take_in(out);
        }
    }

    fn run(&mut self, op: Op) -> Result<Outcome, IoError> {
        let tag = self.submit(op);
        self.wait(tag)
    }

    /// Runs an operation that says no more than that it is done.
    fn done(&mut self, op: Op) {
        assert!(matches!(self.run(op), Ok(Outcome::Done)));
    }

    fn open(&mut self, name: &str, how: OpenHow, direct: bool) -> (FileId, u64) {
        let path = self.path(name);
        match self.run(Op::Open { path, how, direct }) {
            Ok(Outcome::Opened { file, len, .. }) => {
                if direct {
                    self.direct.insert(file);
                }
                (file, len)
            }
            other => panic!("open {name}: {other:?}"),
        }
    }

    fn create(&mut self, name: &str) -> FileId {
        self.open(name, OpenHow::CreateNew, false).0
    }

    /// Writes all of `bytes`.
    fn write(&mut self, file: FileId, at: u64, bytes: &[u8]) {
        let data = Slice::from(bytes.to_vec());
        let mut done = 0;
        while done < bytes.len() {
            let at = FilePos::new(at + done as u64);
            let rest = data.range(done..bytes.len());
            match self.run(Op::Write { file, at, data: rest, durable: false }) {
                Ok(Outcome::Wrote { len }) => {
                    assert!(len > 0 && len <= bytes.len() - done, "a write of {len} bytes");
                    done += len;
                }
                other => panic!("write: {other:?}"),
            }
        }
    }

    /// Reads up to `len` bytes (rounded up to blocks), until the end of the file.
    fn read(&mut self, file: FileId, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let buffer = Buffer::new(len - bytes.len());
            let at = FilePos::new(at + bytes.len() as u64);
            if self.direct.contains(&file) && !at.get().is_multiple_of(BLOCK) {
                break; // a direct read ends between blocks only at the end of the file
            }
            match self.run(Op::Read { file, at, buffer }) {
                Ok(Outcome::Read { buffer }) if buffer.is_empty() => break,
                Ok(Outcome::Read { buffer }) => bytes.extend_from_slice(buffer.filled()),
                other => panic!("read: {other:?}"),
            }
        }
        bytes
    }

    fn len_of(&mut self, name: &str) -> u64 {
        let path = self.path(name);
        match self.run(Op::Stat { path }) {
            Ok(Outcome::Stat { len, .. }) => len,
            other => panic!("stat {name}: {other:?}"),
        }
    }

    /// A connection's two ends: (who connected, who accepted).
    fn pair(&mut self) -> (ConnId, ConnId) {
        let address = self.subject.address;
        let Ok(Outcome::Listening { listener, address }) = self.run(Op::Listen { address, shared: false })
        else {
            panic!("cannot listen at {address}")
        };
        let accept = self.submit(Op::Accept { listener });
        let connect = self.submit(Op::Connect { address });
        let Ok(Outcome::Connected { conn: near }) = self.wait(connect) else { panic!("cannot connect") };
        let Ok(Outcome::Accepted { conn: far, .. }) = self.wait(accept) else { panic!("cannot accept") };
        self.done(Op::CloseListener { listener });
        (near, far)
    }

    fn receive(&mut self, conn: ConnId, buffer: Buffer) -> (Buffer, usize) {
        match self.run(Op::Receive { conn, buffer }) {
            Ok(Outcome::Received { buffer, len }) => (buffer, len),
            other => panic!("receive: {other:?}"),
        }
    }
}

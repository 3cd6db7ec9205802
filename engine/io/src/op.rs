//! What can be asked of an [`Io`](crate::Io), and what it answers.

use std::net::SocketAddr;
use std::path::PathBuf;

use highwater_base::FilePos;

use crate::{Buffer, IoError, Slice};

/// Pairs a completion with its operation. `owner` names who asked (a log, a connection), `tag` what for.
///
/// ```
/// let t = highwater_io::Token { owner: 3, tag: 77 };
/// assert_eq!(highwater_io::Token::from_bits(t.bits()), t);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Token {
    /// Who asked; completions are routed by it.
    pub owner: u32,
    /// What for; the owner's own business.
    pub tag: u32,
}

impl Token {
    /// Both as one word.
    pub const fn bits(self) -> u64 {
        (self.owner as u64) << 32 | self.tag as u64
    }

    /// From one word.
    pub const fn from_bits(bits: u64) -> Token {
        Token { owner: (bits >> 32) as u32, tag: bits as u32 }
    }
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub u32);
    };
}

handle! {
    /// An open file of one `Io`. Valid until its `Close`; never reused while an operation on it is in flight.
    FileId
}
handle! {
    /// A connection of one `Io`.
    ConnId
}
handle! {
    /// A listening socket of one `Io`.
    ListenerId
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenHow {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; made if missing, contents kept.
    CreateOrWrite,
    /// For reading and writing; it must not exist.
    CreateNew,
    /// For reading and writing; made if missing, emptied if not.
    CreateOrEmpty,
}

/// How to prepare space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prepared {
    /// Reserve blocks; reads give zeros; the first write into them costs a conversion. Falls back to `Zeroed`
    /// where the file system cannot.
    Allocated,
    /// Write zeros (or have the device do it), so that later writes change data and no metadata.
    Zeroed,
}

/// An operation. It owns its buffers until it completes.
#[derive(Debug)]
#[non_exhaustive]
pub enum Op {
    /// Open a file: [`Outcome::Opened`].
    Open {
        /// Where.
        path: PathBuf,
        /// How.
        how: OpenHow,
        /// Bypass the page cache, where possible.
        direct: bool,
    },
    /// Close a file: [`Outcome::Done`]. In-flight operations on it finish first.
    Close {
        /// Which.
        file: FileId,
    },
    /// Read into `buffer` (its whole capacity): [`Outcome::Read`].
    Read {
        /// From which file.
        file: FileId,
        /// From where.
        at: FilePos,
        /// Into what.
        buffer: Buffer,
    },
    /// Write: [`Outcome::Wrote`].
    Write {
        /// Into which file.
        file: FileId,
        /// Where.
        at: FilePos,
        /// What.
        data: Slice,
        /// These bytes are durable on completion (`RWF_DSYNC`). Says nothing about earlier writes.
        durable: bool,
    },
    /// Make everything written to the file before durable: [`Outcome::Done`].
    Sync {
        /// Which.
        file: FileId,
        /// `fdatasync`: data and what is needed to read it back, not times.
        data_only: bool,
        /// Somebody waits for it. Otherwise it may queue behind names, lengths and preparations.
        urgent: bool,
    },
    /// Make everything written to the file before durable, where the caller promises that all of it lies in *settled*
    /// blocks: they had been written before, zeros or older bytes, and a sync of the file has covered that. Then
    /// nothing but the device's cache holds the bytes back, and one flush of the device serves every file on it:
    /// [`Outcome::Done`].
    ///
    /// Shared where that is known to hold (direct files on ext4 and XFS), a data sync of this file elsewhere. A shared
    /// flush that fails latches every file on the device with writes that no sync has covered, on every thread:
    /// which of them it lost nobody knows.
    Flush {
        /// Which.
        file: FileId,
    },
    /// Prepare `len` bytes at `at`, beyond everything written or, with [`Prepared::Zeroed`], over it; the file is at least
    /// `at + len` long afterwards
    /// and the bytes read as zeros. Synced (length and blocks) on completion: [`Outcome::Done`].
    Prepare {
        /// Which.
        file: FileId,
        /// From where.
        at: FilePos,
        /// How much.
        len: u64,
        /// How.
        how: Prepared,
    },
    /// Set the length: [`Outcome::Done`].
    Truncate {
        /// Which.
        file: FileId,
        /// The new length.
        len: u64,
    },
    /// What is at a path: [`Outcome::Stat`].
    Stat {
        /// Where.
        path: PathBuf,
    },
    /// What is at each of several paths, in one go: [`Outcome::Stats`]. Fails only as a whole, for want of something that
    /// no path has to do with.
    StatMany {
        /// Where; a few thousand at most, as nothing else gets in between.
        paths: Vec<PathBuf>,
    },
    /// One's turn to write, of all who asked, in the order in which they did: [`Outcome::Done`], once the thread has nothing else to do
    /// (or after some milliseconds) and few enough plain writes are in flight. Whoever will have more to write later asks for it,
    /// and writes what there is as soon as it has it: fewer, larger writes, where the thread or the device is busy. It never fails.
    Turn,
    /// Time for a little of what can wait: [`Outcome::Done`], to one after the other of those who asked, each time that the thread would
    /// sleep: it has nothing else to do, and what was submitted is on its way. One that never would lets nobody wait longer than two
    /// milliseconds. Whoever computes for long does so in pieces, of some tens of microseconds, and asks before each. It never fails.
    Idle,
    /// How large the file system that holds a path is, and how much may still be written to it: [`Outcome::Space`].
    Space {
        /// Where.
        path: PathBuf,
    },
    /// The entries of a directory, unsorted: [`Outcome::Entries`].
    ReadDir {
        /// Which.
        path: PathBuf,
    },
    /// Rename, replacing the target: [`Outcome::Done`].
    Rename {
        /// From.
        from: PathBuf,
        /// To.
        to: PathBuf,
    },
    /// Remove a file: [`Outcome::Done`].
    Unlink {
        /// Which.
        path: PathBuf,
    },
    /// Make a directory; its parent must exist; it is no error if it exists already: [`Outcome::Done`].
    CreateDir {
        /// Which.
        path: PathBuf,
    },
    /// Remove an empty directory: [`Outcome::Done`].
    RemoveDir {
        /// Which.
        path: PathBuf,
    },
    /// Make the names in a directory durable: [`Outcome::Done`].
    SyncDir {
        /// Which.
        path: PathBuf,
    },
    /// Listen: [`Outcome::Listening`], with the port that port 0 became.
    Listen {
        /// Where.
        address: SocketAddr,
        /// Several listeners (of other shards) may share the address.
        shared: bool,
    },
    /// Stop listening: [`Outcome::Done`]. A pending accept fails with `Cancelled`.
    CloseListener {
        /// Which.
        listener: ListenerId,
    },
    /// Accept one connection: [`Outcome::Accepted`].
    Accept {
        /// Of which listener.
        listener: ListenerId,
    },
    /// Connect: [`Outcome::Connected`].
    Connect {
        /// To whom.
        address: SocketAddr,
    },
    /// Receive at least one byte into `buffer` behind what is filled: [`Outcome::Received`]; nothing new
    /// means that the peer has closed its side.
    Receive {
        /// From whom.
        conn: ConnId,
        /// Into what.
        buffer: Buffer,
    },
    /// Send all slices, in order, entirely: [`Outcome::Done`], or an error after which the connection is of no use.
    Send {
        /// To whom.
        conn: ConnId,
        /// What.
        data: Vec<Slice>,
    },
    /// Close a connection; pending operations on it fail with `Cancelled`: [`Outcome::Done`].
    Disconnect {
        /// Which.
        conn: ConnId,
    },
}

/// What kind of thing a directory entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else, links too.
    Other,
}

/// One entry of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// Its name, without the directory.
    pub name: std::ffi::OsString,
    /// What it is.
    pub kind: EntryKind,
}

/// What [`Op::StatMany`] says of one path.
///
/// ```
/// use highwater_io::{EntryKind, FileFacts};
/// let facts = FileFacts { kind: EntryKind::File, len: 97, modified_ms: 1_767_225_600_000 };
/// assert_eq!(facts.len, 97);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileFacts {
    /// What it is.
    pub kind: EntryKind,
    /// Length in bytes; of a directory whatever the file system says.
    pub len: u64,
    /// Last modification, in milliseconds since 1970; of a directory the last change of a name in it.
    pub modified_ms: i64,
}

/// What an operation gave.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Done; nothing more to say.
    Done,
    /// A file was opened.
    Opened {
        /// Its handle.
        file: FileId,
        /// Its length in bytes.
        len: u64,
        /// Whether it bypasses the page cache.
        direct: bool,
    },
    /// Bytes were read: `buffer.filled()`, fewer than asked at the end of the file.
    Read {
        /// The buffer that was given.
        buffer: Buffer,
    },
    /// Bytes were written, at least one.
    Wrote {
        /// How many of them.
        len: usize,
    },
    /// A path's facts.
    Stat {
        /// What it is.
        kind: EntryKind,
        /// Length in bytes.
        len: u64,
        /// Last modification, in milliseconds since 1970.
        modified_ms: i64,
        /// Which device it is on, to tell file systems apart.
        device: u64,
        /// How many names it has: more than one (hard links), and what is written to it shows under the others too.
        links: u64,
    },
    /// Several paths' facts.
    Stats {
        /// Of each path, in order; none where nothing is, or where it cannot be looked at.
        facts: Vec<Option<FileFacts>>,
    },
    /// A file system's room.
    Space {
        /// All its bytes.
        total: u64,
        /// Bytes that this process may still write to it.
        free: u64,
    },
    /// A directory's entries.
    Entries {
        /// In no order, without `.` and `..`.
        entries: Vec<DirEntry>,
    },
    /// A listener is open.
    Listening {
        /// Its handle.
        listener: ListenerId,
        /// Where it really listens.
        address: SocketAddr,
    },
    /// A connection came in.
    Accepted {
        /// Its handle.
        conn: ConnId,
        /// From where.
        peer: SocketAddr,
    },
    /// A connection is open.
    Connected {
        /// Its handle.
        conn: ConnId,
    },
    /// Bytes came in.
    Received {
        /// The buffer that was given, fuller (or not: the peer has closed its side).
        buffer: Buffer,
        /// How many bytes are new.
        len: usize,
    },
}

/// The end of an operation.
#[derive(Debug)]
pub struct Completion {
    /// The operation's token.
    pub token: Token,
    /// What it gave.
    pub result: Result<Outcome, IoError>,
}

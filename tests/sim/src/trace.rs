//! What goes into the trace hash: every operation as asked for, every completion as given.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use highwater_base::TraceHash;
use highwater_io::{Completion, Op, Outcome, Token};

/// What an operation is called.
pub(crate) fn name(op: &Op) -> &'static str {
    match op {
        Op::Open { .. } => "open",
        Op::Close { .. } => "close",
        Op::Read { .. } => "read",
        Op::Write { .. } => "write",
        Op::Sync { .. } => "sync",
        Op::Flush { .. } => "flush",
        Op::Prepare { .. } => "prepare",
        Op::Truncate { .. } => "truncate",
        Op::Stat { .. } | Op::StatMany { .. } => "stat",
        Op::Space { .. } => "space",
        Op::Turn => "turn",
        Op::Idle => "idle",
        Op::ReadDir { .. } => "readdir",
        Op::Rename { .. } => "rename",
        Op::Unlink { .. } => "unlink",
        Op::CreateDir { .. } => "mkdir",
        Op::RemoveDir { .. } => "rmdir",
        Op::SyncDir { .. } => "syncdir",
        Op::Listen { .. } => "listen",
        Op::CloseListener { .. } => "close listener",
        Op::Accept { .. } => "accept",
        Op::Connect { .. } => "connect",
        Op::Receive { .. } => "receive",
        Op::Send { .. } => "send",
        Op::Disconnect { .. } => "disconnect",
        _ => "other",
    }
}

fn path(trace: &mut TraceHash, path: &Path) {
    trace.bytes(path.as_os_str().as_bytes());
}

pub(crate) fn submission(trace: &mut TraceHash, op: &Op, token: Token) {
    trace.bytes(name(op).as_bytes());
    trace.word(token.bits());
    match op {
        Op::Open { path: at, direct, .. } => {
            path(trace, at);
            trace.word(u64::from(*direct));
        }
        Op::Close { file } | Op::Flush { file } => trace.word(u64::from(file.0)),
        Op::Read { file, at, buffer } => {
            trace.word(u64::from(file.0));
            trace.word(at.get());
            trace.word(buffer.capacity() as u64);
        }
        Op::Write { file, at, data, durable } => {
            trace.word(u64::from(file.0));
            trace.word(at.get());
            trace.word(u64::from(*durable));
            trace.bytes(data);
        }
        Op::Sync { file, data_only, urgent } => {
            trace.word(u64::from(file.0));
            trace.word(u64::from(*data_only));
            trace.word(u64::from(*urgent));
        }
        Op::Prepare { file, at, len, .. } => {
            trace.word(u64::from(file.0));
            trace.word(at.get());
            trace.word(*len);
        }
        Op::Truncate { file, len } => {
            trace.word(u64::from(file.0));
            trace.word(*len);
        }
        Op::Rename { from, to } => {
            path(trace, from);
            path(trace, to);
        }
        Op::Stat { path: at }
        | Op::Space { path: at }
        | Op::ReadDir { path: at }
        | Op::Unlink { path: at }
        | Op::CreateDir { path: at }
        | Op::RemoveDir { path: at }
        | Op::SyncDir { path: at } => path(trace, at),
        Op::StatMany { paths } => paths.iter().for_each(|at| path(trace, at)),
        Op::Send { conn, data } => {
            trace.word(u64::from(conn.0));
            data.iter().for_each(|slice| trace.bytes(slice));
        }
        Op::Receive { conn, .. } | Op::Disconnect { conn } => trace.word(u64::from(conn.0)),
        Op::Accept { listener } | Op::CloseListener { listener } => trace.word(u64::from(listener.0)),
        Op::Listen { address, .. } | Op::Connect { address } => trace.word(u64::from(address.port())),
        _ => {}
    }
}

pub(crate) fn completion(trace: &mut TraceHash, completion: &Completion) {
    trace.word(completion.token.bits());
    match &completion.result {
        Err(error) => trace.word(error.errno as u64),
        Ok(Outcome::Opened { file, len, .. }) => {
            trace.word(u64::from(file.0));
            trace.word(*len);
        }
        Ok(Outcome::Read { buffer }) => trace.bytes(buffer.filled()),
        Ok(Outcome::Wrote { len }) => trace.word(*len as u64),
        Ok(Outcome::Stat { len, modified_ms, .. }) => {
            trace.word(*len);
            trace.word(*modified_ms as u64);
        }
        Ok(Outcome::Stats { facts }) => {
            let all = facts.iter().flatten().flat_map(|facts| [facts.len, facts.modified_ms as u64]);
            all.for_each(|word| trace.word(word));
        }
        Ok(Outcome::Space { free, .. }) => trace.word(*free),
        Ok(Outcome::Entries { entries }) => {
            entries.iter().for_each(|entry| trace.bytes(entry.name.as_bytes()));
        }
        Ok(Outcome::Received { buffer, len }) => trace.bytes(&buffer.filled()[buffer.len() - len..]),
        Ok(_) => trace.word(1),
    }
}

//! Files of a device share its flushes, and what a failed one means.
#![cfg(target_os = "linux")]

use std::path::PathBuf;

use highwater_base::{BLOCK, FilePos};
use highwater_io::{
    Completion, ErrorKind, FileId, Io, Op, OpenHow, Outcome, Park, Prepared, Token, UringIo, blocking,
};

struct Bench {
    io: UringIo,
    dir: PathBuf,
    files: Vec<FileId>,
}

impl Bench {
    /// Files of one written block, below the place where this was built: `/tmp` may be memory.
    fn new(name: &str, files: usize) -> Option<Bench> {
        let io = match UringIo::new(64) {
            Ok(io) => io,
            Err(why) => {
                println!("skipped: no io_uring ({why})");
                return None;
            }
        };
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut bench = Bench { io, dir, files: Vec::new() };
        for n in 0..files {
            let path = bench.dir.join(n.to_string());
            let open = Op::Open { path, how: OpenHow::CreateNew, direct: true };
            let Ok(Outcome::Opened { file, .. }) = blocking::run(&mut bench.io, open) else { panic!("open") };
            let prepare = Op::Prepare { file, at: FilePos::ZERO, len: BLOCK, how: Prepared::Zeroed };
            blocking::run(&mut bench.io, prepare).unwrap();
            bench.files.push(file);
        }
        Some(bench)
    }

    fn write(&mut self, file: FileId) {
        let mut buffer = self.io.buffer(BLOCK as usize);
        buffer.set_len(BLOCK as usize);
        buffer.filled_mut().fill(7);
        let write = Op::Write { file, at: FilePos::ZERO, data: buffer.freeze(), durable: false };
        blocking::run(&mut self.io, write).unwrap();
    }

    fn flush(&mut self, files: &[FileId]) -> Vec<Completion> {
        for (tag, file) in files.iter().enumerate() {
            self.io.submit(Op::Flush { file: *file }, Token { owner: 1, tag: tag as u32 });
        }
        let mut out = Vec::new();
        while out.len() < files.len() {
            self.io.park(None, &mut out);
        }
        out
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn flushes_of_many_files_are_all_answered_again_and_again() {
    let Some(mut bench) = Bench::new("flush-many", 20) else { return };
    let files = bench.files.clone();
    for _ in 0..5 {
        files.iter().for_each(|file| bench.write(*file));
        let mut tags: Vec<u32> = Vec::new();
        for done in bench.flush(&files) {
            assert!(matches!(done.result, Ok(Outcome::Done)), "{done:?}");
            tags.push(done.token.tag);
        }
        tags.sort_unstable();
        assert_eq!(tags, (0..20).collect::<Vec<u32>>());
    }
    assert!(!bench.io.is_flushing());
    for file in files {
        blocking::run(&mut bench.io, Op::Close { file }).unwrap();
    }
}

#[test]
fn a_failed_flush_latches_every_file_with_writes_that_no_sync_has_covered() {
    let Some(mut bench) = Bench::new("flush-fails", 4) else { return };
    let [asked, waiting, unsynced, synced] = bench.files[..] else { panic!("four files") };
    for file in [asked, waiting, unsynced, synced] {
        bench.write(file);
    }
    assert!(bench.flush(&[synced])[0].result.is_ok());
    bench.io.sync_fault().arm(1);
    let done = bench.flush(&[asked, waiting]);
    let failed: Vec<_> = done.into_iter().filter_map(|done| done.result.err()).collect();
    if failed.len() == 1 {
        // Each was a sync of its own, and one of them had to fail.
        return println!("skipped: no shared flushes on this file system");
    }
    assert!(failed.iter().all(|failed| failed.kind == ErrorKind::Device), "{failed:?}");
    // It did not ask, and its bytes may be among the lost ones.
    let refused = blocking::run(&mut bench.io, Op::Sync { file: unsynced, data_only: true, urgent: true });
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Latched);
    // Nothing of it was at stake.
    bench.write(synced);
    assert!(bench.flush(&[synced])[0].result.is_ok());
}

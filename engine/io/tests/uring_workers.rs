//! The ring hands nothing to worker threads that it could start itself.
#![cfg(target_os = "linux")]

use highwater_base::FilePos;
use highwater_io::{Io, Op, OpenHow, Outcome, Park, Prepared, Token, UringIo, blocking};

/// Worker threads of this process's rings.
fn workers() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("iou-wrk"))
        .count()
}

#[test]
fn direct_writes_and_syncs_that_nobody_waits_for_need_no_worker() {
    const WRITES: u64 = 64;
    const SIZE: u64 = 64 << 10;
    let mut io = match UringIo::new(32) {
        Ok(io) => io,
        Err(why) => return println!("skipped: no io_uring ({why})"),
    };
    let path = std::env::temp_dir().join(format!("highwater-io-workers-{}", std::process::id()));
    let open = Op::Open { path: path.clone(), how: OpenHow::CreateOrEmpty, direct: true };
    let Ok(Outcome::Opened { file, direct, .. }) = blocking::run(&mut io, open) else { panic!("open") };
    let prepare = Op::Prepare { file, at: FilePos::ZERO, len: WRITES * SIZE, how: Prepared::Zeroed };
    blocking::run(&mut io, prepare).unwrap();
    let mut seen = 0;
    for durable in [false, true] {
        for n in 0..WRITES {
            let mut buffer = io.buffer(SIZE as usize);
            buffer.set_len(SIZE as usize);
            buffer.filled_mut().fill(n as u8);
            let at = FilePos::new(n * SIZE);
            io.submit(Op::Write { file, at, data: buffer.freeze(), durable }, Token { owner: 0, tag: 0 });
        }
        let mut out = Vec::new();
        while io.in_flight() > 0 {
            io.park(None, &mut out);
            seen = seen.max(workers());
        }
        assert!(
            out.iter().all(|done| matches!(done.result, Ok(Outcome::Wrote { len }) if len as u64 == SIZE))
        );
    }
    // Beside a preparation, which holds the file, and syncs that may take their time.
    for turn in 1..8 {
        let (at, len) = (FilePos::new(turn * WRITES * SIZE), WRITES * SIZE);
        io.submit(Op::Prepare { file, at, len, how: Prepared::Zeroed }, Token { owner: 0, tag: 1 });
        for n in 0..WRITES {
            let mut buffer = io.buffer(SIZE as usize);
            buffer.set_len(SIZE as usize);
            let at = FilePos::new(n * SIZE);
            io.submit(
                Op::Write { file, at, data: buffer.freeze(), durable: false },
                Token { owner: 0, tag: 0 },
            );
        }
        io.submit(Op::Sync { file, data_only: true, urgent: false }, Token { owner: 0, tag: 2 });
        let mut out = Vec::new();
        while io.in_flight() > 0 {
            io.park(None, &mut out);
            seen = seen.max(workers());
        }
        assert!(out.iter().all(|done| done.result.is_ok()));
    }
    std::fs::remove_file(&path).unwrap();
    if !direct {
        return println!("skipped: {} is on a file system without direct I/O", path.display());
    }
    assert_eq!(seen, 0, "worker threads were started");
    // A sync that somebody waits for does need one; whatever else, there is never a second.
    for _ in 0..3 {
        io.submit(Op::Sync { file, data_only: true, urgent: true }, Token { owner: 0, tag: 0 });
    }
    let mut out = Vec::new();
    while io.in_flight() > 0 {
        io.park(None, &mut out);
        assert!(workers() <= 1);
    }
}

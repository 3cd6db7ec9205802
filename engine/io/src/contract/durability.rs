//! Syncs, and what a failed one leaves.

use highwater_base::{BLOCK, FilePos};

use super::{Case, Driver};
use crate::{Buffer, ErrorKind, FileId, Op, OpenHow, Outcome, Prepared, Slice};

pub(super) const CASES: &[Case] = &[
    ("syncs and durable writes complete", syncs_complete),
    ("after a failed sync a file answers only its first error", failed_sync_latches),
    ("a failed durable write latches like a failed sync", failed_durable_write_latches),
    ("a latched file does not touch others", other_files_go_on),
];

fn aligned(byte: u8) -> Slice {
    let mut buffer = Buffer::new(BLOCK as usize);
    buffer.set_len(BLOCK as usize);
    buffer.filled_mut().fill(byte);
    buffer.freeze()
}

fn syncs_complete(d: &mut Driver) {
    for direct in [false, true] {
        let (file, _) = d.open(&format!("a-{direct}"), OpenHow::CreateNew, direct);
        for (data_only, durable) in [(true, false), (false, true)] {
            let wrote = d.run(Op::Write { file, at: FilePos::ZERO, data: aligned(3), durable });
            assert!(matches!(wrote, Ok(Outcome::Wrote { len }) if len == BLOCK as usize), "{wrote:?}");
            d.done(Op::Sync { file, data_only, urgent: !data_only });
            d.done(Op::Flush { file });
        }
        assert_eq!(d.read(file, 0, 1)[0], 3);
    }
    let path = d.subject.root.clone();
    d.done(Op::SyncDir { path });
}

/// Every operation but `Close`.
fn all_operations(file: FileId) -> Vec<Op> {
    vec![
        Op::Read { file, at: FilePos::ZERO, buffer: Buffer::new(1) },
        Op::Write { file, at: FilePos::ZERO, data: aligned(1), durable: false },
        Op::Write { file, at: FilePos::ZERO, data: aligned(1), durable: true },
        Op::Sync { file, data_only: true, urgent: true },
        Op::Sync { file, data_only: false, urgent: false },
        Op::Flush { file },
        Op::Prepare { file, at: FilePos::ZERO, len: BLOCK, how: Prepared::Allocated },
        Op::Truncate { file, len: 0 },
    ]
}

fn assert_latched(d: &mut Driver, file: FileId) {
    for op in all_operations(file) {
        let failed = d.run(op).expect_err("a latched file must answer nothing else");
        assert_eq!((failed.kind, failed.errno), (ErrorKind::Latched, libc::EIO), "{failed}");
    }
    d.done(Op::Close { file });
}

fn failed_sync_latches(d: &mut Driver) {
    for direct in [false, true] {
        let (file, _) = d.open(&format!("a-{direct}"), OpenHow::CreateNew, direct);
        assert!(d.run(Op::Write { file, at: FilePos::ZERO, data: aligned(1), durable: false }).is_ok());
        let Some(fail) = &mut d.subject.fail_next_sync else { return };
        fail();
        let failed =
            d.run(Op::Sync { file, data_only: true, urgent: true }).expect_err("the sync was to fail");
        assert_eq!(failed.kind, ErrorKind::Device);
        assert_latched(d, file);
        let (file, _) = d.open(&format!("b-{direct}"), OpenHow::CreateNew, direct);
        let Some(fail) = &mut d.subject.fail_next_sync else { return };
        fail();
        let failed = d.run(Op::Flush { file }).expect_err("the flush was to fail");
        assert_eq!(failed.kind, ErrorKind::Device);
        assert_latched(d, file);
    }
}

fn failed_durable_write_latches(d: &mut Driver) {
    let file = d.create("a");
    let Some(fail) = &mut d.subject.fail_next_sync else { return };
    fail();
    let failed = d.run(Op::Write { file, at: FilePos::ZERO, data: aligned(1), durable: true });
    assert_eq!(failed.expect_err("the write was to fail").kind, ErrorKind::Device);
    assert_latched(d, file);
}

fn other_files_go_on(d: &mut Driver) {
    let (bad, good) = (d.create("bad"), d.create("good"));
    let Some(fail) = &mut d.subject.fail_next_sync else { return };
    fail();
    assert!(d.run(Op::Sync { file: bad, data_only: false, urgent: false }).is_err());
    d.write(good, 0, b"x");
    d.done(Op::Sync { file: good, data_only: true, urgent: true });
    // Nor does what is opened anew at the same place know of it.
    let (again, _) = d.open("bad", OpenHow::Write, false);
    d.write(again, 0, b"x");
}

//! Reading, writing, lengths.

use std::panic::{AssertUnwindSafe, catch_unwind};

use highwater_base::{BLOCK, FilePos};

use super::{Case, Driver};
use crate::{Buffer, ErrorKind, Op, OpenHow, Outcome, Prepared, Slice};

pub(super) const CASES: &[Case] = &[
    ("a completed write is seen by reads", written_is_visible),
    ("a read is short at the end of the file and empty behind it", read_is_short_at_the_end),
    ("a read fills the buffer from its start", read_replaces_what_was_filled),
    ("a write past the end leaves zeros before it", write_past_the_end),
    ("truncation cuts and extends, with zeros", truncate_cuts_and_extends),
    ("preparing gives length and zeros and leaves the rest alone", prepare_gives_zeros),
    ("a direct file takes aligned operations", direct_round_trip),
    ("a misaligned operation on a direct file panics", misaligned_panics),
    ("a file opened for reading refuses writes", reading_only),
    ("a closed file is not found", closed),
    ("closing waits for what is in flight", close_waits),
    ("many operations at once all complete once", more_operations_than_the_ring_holds),
    ("pooled buffers work like others and outlive the instance", pooled_buffers),
    ("opening says what it must", opening),
];

fn written_is_visible(d: &mut Driver) {
    let file = d.create("a");
    d.write(file, 0, b"hello");
    d.write(file, 5, b" world");
    d.write(file, 1, b"E");
    assert_eq!(d.read(file, 0, 100), b"hEllo world");
    let (again, len) = d.open("a", OpenHow::Read, false);
    assert_eq!(len, 11);
    assert_eq!(d.read(again, 6, 100), b"world");
}

fn read_is_short_at_the_end(d: &mut Driver) {
    let file = d.create("a");
    d.write(file, 0, &[7; 5000]);
    for (at, left) in [(4999, 1), (5000, 0), (100_000, 0)] {
        let read = d.run(Op::Read { file, at: FilePos::new(at), buffer: Buffer::new(4096) });
        let Ok(Outcome::Read { buffer }) = read else { panic!("read at {at}: {read:?}") };
        assert_eq!(buffer.len(), left, "read at {at}");
    }
}

fn read_replaces_what_was_filled(d: &mut Driver) {
    let file = d.create("a");
    d.write(file, 0, b"abc");
    let mut buffer = Buffer::new(4096);
    buffer.extend(b"something longer");
    let Ok(Outcome::Read { buffer }) = d.run(Op::Read { file, at: FilePos::ZERO, buffer }) else {
        panic!("read")
    };
    assert_eq!(buffer.filled(), b"abc");
}

fn write_past_the_end(d: &mut Driver) {
    let file = d.create("a");
    d.write(file, 10_000, b"x");
    assert_eq!(d.len_of("a"), 10_001);
    let bytes = d.read(file, 0, 20_000);
    assert_eq!(bytes.len(), 10_001);
    assert!(bytes[..10_000].iter().all(|b| *b == 0));
}

fn truncate_cuts_and_extends(d: &mut Driver) {
    let file = d.create("a");
    d.write(file, 0, &[9; 10_000]);
    d.done(Op::Truncate { file, len: 100 });
    assert_eq!(d.len_of("a"), 100);
    d.done(Op::Truncate { file, len: 9_000 });
    let bytes = d.read(file, 0, 20_000);
    assert_eq!(bytes.len(), 9_000);
    assert!(bytes[..100].iter().all(|b| *b == 9));
    assert!(bytes[100..].iter().all(|b| *b == 0), "cut bytes came back");
}

fn prepare_gives_zeros(d: &mut Driver) {
    for (name, how) in [("allocated", Prepared::Allocated), ("zeroed", Prepared::Zeroed)] {
        for direct in [false, true] {
            let name = format!("{name}-{direct}");
            let (file, _) = d.open(&name, OpenHow::CreateNew, direct);
            d.write_blocks(file, 0, 2);
            let (at, len) = (FilePos::new(2 * BLOCK), 40 * BLOCK);
            d.done(Op::Prepare { file, at, len, how });
            assert_eq!(d.len_of(&name), 42 * BLOCK);
            let bytes = d.read(file, 0, 42 * BLOCK as usize);
            assert!(bytes[..2 * BLOCK as usize].iter().all(|b| *b == 5), "{name}");
            assert!(bytes[2 * BLOCK as usize..].iter().all(|b| *b == 0), "{name}");
            d.write_blocks(file, 2, 3);
            assert_eq!(d.len_of(&name), 42 * BLOCK, "{name}: a write inside changed the length");
            // What is longer already stays so.
            d.done(Op::Prepare { file, at: FilePos::new(10 * BLOCK), len: BLOCK, how });
            assert_eq!(d.len_of(&name), 42 * BLOCK);
            if how == Prepared::Zeroed {
                // Also over what was written, and over nothing beside it.
                d.done(Op::Prepare { file, at: FilePos::new(BLOCK), len: 3 * BLOCK, how });
                assert_eq!(d.len_of(&name), 42 * BLOCK);
                let bytes = d.read(file, 0, 5 * BLOCK as usize);
                let filled = |at: usize| if [1, 2, 3].contains(&(at / BLOCK as usize)) { 0 } else { 5 };
                assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == filled(at)), "{name}");
            }
        }
    }
}

impl Driver {
    /// Fills blocks with fives, from aligned memory.
    fn write_blocks(&mut self, file: crate::FileId, first: u64, count: u64) {
        let mut buffer = self.subject.io.buffer((count * BLOCK) as usize);
        buffer.set_len((count * BLOCK) as usize);
        buffer.filled_mut().fill(5);
        let data = buffer.freeze();
        let mut done = 0;
        while done < data.len() {
            let at = FilePos::new(first * BLOCK + done as u64);
            let rest = data.range(done..data.len());
            match self.run(Op::Write { file, at, data: rest, durable: false }) {
                Ok(Outcome::Wrote { len }) => done += len,
                other => panic!("write: {other:?}"),
            }
        }
    }
}

fn direct_round_trip(d: &mut Driver) {
    let (file, _) = d.open("a", OpenHow::CreateNew, true);
    d.write_blocks(file, 0, 300);
    d.write_blocks(file, 310, 1);
    let bytes = d.read(file, 0, 400 * BLOCK as usize);
    assert_eq!(bytes.len(), 311 * BLOCK as usize);
    let filled = |at: usize| if (300..310).contains(&(at / BLOCK as usize)) { 0 } else { 5 };
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == filled(at)));
    // The length need not be a multiple of the block.
    d.done(Op::Truncate { file, len: BLOCK + 10 });
    assert_eq!(d.read(file, 0, 3 * BLOCK as usize).len() as u64, BLOCK + 10);
    assert_eq!(d.read(file, BLOCK, BLOCK as usize), [5; 10]);
}

fn misaligned_panics(d: &mut Driver) {
    let (file, _) = d.open("a", OpenHow::CreateNew, true);
    let mut buffer = Buffer::new(2 * BLOCK as usize);
    buffer.set_len(2 * BLOCK as usize);
    let data = buffer.freeze();
    let block = BLOCK as usize;
    let write =
        |at: u64, range| Op::Write { file, at: FilePos::new(at), data: data.range(range), durable: false };
    let misaligned = [
        ("position", write(1, 0..block)),
        ("length", write(0, 0..block - 1)),
        ("memory", write(0, 1..block + 1)),
        ("read", Op::Read { file, at: FilePos::new(512), buffer: Buffer::new(block) }),
        ("prepare", Op::Prepare { file, at: FilePos::ZERO, len: 100, how: Prepared::Allocated }),
    ];
    for (what, op) in misaligned {
        let outcome = catch_unwind(AssertUnwindSafe(|| d.submit(op)));
        assert!(outcome.is_err(), "a misaligned {what} was taken");
    }
}

fn reading_only(d: &mut Driver) {
    d.create("a");
    let (file, _) = d.open("a", OpenHow::Read, false);
    let ops = [
        Op::Write { file, at: FilePos::ZERO, data: Slice::from(vec![1]), durable: false },
        Op::Write { file, at: FilePos::ZERO, data: Slice::from(vec![1]), durable: true },
        Op::Truncate { file, len: 0 },
        Op::Prepare { file, at: FilePos::ZERO, len: BLOCK, how: Prepared::Allocated },
    ];
    for op in ops {
        let failed = d.run(op).expect_err("a file opened for reading was changed");
        assert_eq!(failed.kind, ErrorKind::Denied, "{failed}");
    }
}

fn closed(d: &mut Driver) {
    let file = d.create("a");
    d.done(Op::Close { file });
    let ops = [
        Op::Read { file, at: FilePos::ZERO, buffer: Buffer::new(1) },
        Op::Sync { file, data_only: true, urgent: true },
        Op::Close { file },
    ];
    for op in ops {
        assert_eq!(d.run(op).unwrap_err().kind, ErrorKind::Cancelled);
    }
    // Also when something else has been opened since.
    d.create("b");
    let read = d.run(Op::Read { file, at: FilePos::ZERO, buffer: Buffer::new(1) });
    assert_eq!(read.unwrap_err().kind, ErrorKind::Cancelled);
}

fn close_waits(d: &mut Driver) {
    let (file, _) = d.open("a", OpenHow::CreateNew, true);
    d.write_blocks(file, 0, 64);
    let reads: Vec<u32> = (0..64)
        .map(|block| {
            let at = FilePos::new(block * BLOCK);
            d.submit(Op::Read { file, at, buffer: Buffer::new(BLOCK as usize) })
        })
        .collect();
    let close = d.submit(Op::Close { file });
    let late = d.submit(Op::Sync { file, data_only: true, urgent: true });
    d.settle();
    for tag in reads {
        assert!(matches!(d.wait(tag), Ok(Outcome::Read { buffer }) if buffer.filled()[0] == 5));
    }
    assert!(d.wait(close).is_ok());
    assert_eq!(d.wait(late).unwrap_err().kind, ErrorKind::Cancelled);
    let place = |tag| d.order.iter().position(|other| *other == tag);
    assert!((0..close).all(|tag| place(tag) < place(close)), "closed before an operation was done");
}

fn more_operations_than_the_ring_holds(d: &mut Driver) {
    let (file, _) = d.open("a", OpenHow::CreateNew, true);
    let count = 3_000u64;
    d.done(Op::Prepare { file, at: FilePos::ZERO, len: count * BLOCK, how: Prepared::Allocated });
    let writes: Vec<u32> = (0..count)
        .map(|n| {
            let mut buffer = Buffer::new(BLOCK as usize);
            buffer.set_len(BLOCK as usize);
            buffer.filled_mut().fill(n as u8);
            let data = buffer.freeze();
            d.submit(Op::Write { file, at: FilePos::new(n * BLOCK), data, durable: false })
        })
        .collect();
    assert_eq!(d.subject.io.in_flight() as u64, count);
    d.settle();
    for tag in writes {
        assert!(matches!(d.wait(tag), Ok(Outcome::Wrote { len: 4096 })));
    }
    for n in [0, 1, 255, 256, 2_999] {
        assert_eq!(d.read(file, n * BLOCK, 1)[0], n as u8);
    }
    assert_eq!(d.subject.io.in_flight(), 0);
}

fn pooled_buffers(d: &mut Driver) {
    let (file, _) = d.open("a", OpenHow::CreateNew, true);
    let sizes = [4_096, 16 << 10, 64 << 10, 68 << 10, 1 << 20, 2 << 20];
    for (n, len) in sizes.into_iter().enumerate() {
        let mut chunk = d.subject.io.chunk(len);
        assert!(chunk.is_empty() && chunk.capacity() == len);
        while chunk.spare() > 0 {
            chunk.append(&[n as u8 + 1; 1_000]);
        }
        let data = chunk.slice(0..len);
        assert!(matches!(
            d.run(Op::Write { file, at: FilePos::ZERO, data, durable: false }),
            Ok(Outcome::Wrote { len: wrote }) if wrote == len
        ));
        let buffer = d.subject.io.buffer(len);
        assert!(buffer.is_empty() && buffer.capacity() == len);
        let Ok(Outcome::Read { buffer }) = d.run(Op::Read { file, at: FilePos::ZERO, buffer }) else {
            panic!("read {len}")
        };
        assert!(buffer.len() == len && buffer.filled().iter().all(|byte| *byte == n as u8 + 1), "{len}");
    }
    let mut kept = d.subject.io.buffer(1 << 20);
    kept.extend(b"kept");
    let kept = kept.freeze();
    d.subject.io = Box::new(crate::MemoryIo::new());
    assert_eq!(&kept[..], b"kept");
}

fn opening(d: &mut Driver) {
    let fails = |d: &mut Driver, name: &str, how| {
        let path = d.path(name);
        d.run(Op::Open { path, how, direct: false }).expect_err("it should not open").kind
    };
    assert_eq!(fails(d, "a", OpenHow::Read), ErrorKind::NotFound);
    assert_eq!(fails(d, "a", OpenHow::Write), ErrorKind::NotFound);
    assert_eq!(fails(d, "no/a", OpenHow::CreateNew), ErrorKind::NotFound);
    let (file, len) = d.open("a", OpenHow::CreateOrWrite, false);
    assert_eq!(len, 0);
    d.write(file, 0, b"abc");
    assert_eq!(fails(d, "a", OpenHow::CreateNew), ErrorKind::AlreadyExists);
    assert_eq!(d.open("a", OpenHow::CreateOrWrite, false).1, 3);
    assert_eq!(d.open("a", OpenHow::Write, true).1, 3);
    assert_eq!(d.open("a", OpenHow::CreateOrEmpty, false).1, 0);
    assert_eq!(d.len_of("a"), 0);
    let path = d.path("dir");
    d.done(Op::CreateDir { path });
    fails(d, "dir", OpenHow::Read);
    fails(d, "dir", OpenHow::CreateOrWrite);
}

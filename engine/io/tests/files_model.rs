//! Random operations on one file, against a vector of bytes, on every implementation.

use std::path::Path;

use highwater_base::{BLOCK, FilePos, Prng};
use highwater_io::{
    Buffer, FileId, IoChoice, MemoryIo, Op, OpenHow, Outcome, Park, Prepared, Slice, blocking, production,
};

const STEPS: u64 = 400;
const MOST: u64 = 64;

struct Subject<'a> {
    io: &'a mut dyn Park,
    path: &'a Path,
    direct: bool,
    file: FileId,
    model: Vec<u8>,
}

fn open(io: &mut dyn Park, path: &Path, how: OpenHow, direct: bool) -> (FileId, u64) {
    match blocking::run(io, Op::Open { path: path.to_owned(), how, direct }) {
        Ok(Outcome::Opened { file, len, .. }) => (file, len),
        other => panic!("open: {other:?}"),
    }
}

impl Subject<'_> {
    /// A position or length: any on a buffered file, whole blocks on a direct one.
    fn size(&self, prng: &mut Prng, blocks: u64) -> u64 {
        if self.direct { prng.below(blocks + 1) * BLOCK } else { prng.below(blocks * BLOCK + 1) }
    }

    fn done(&mut self, op: Op) {
        let text = format!("{op:?}");
        assert!(matches!(blocking::run(self.io, op), Ok(Outcome::Done)), "{text}");
    }

    fn grow(&mut self, len: u64) {
        if self.model.len() < len as usize {
            self.model.resize(len as usize, 0);
        }
    }

    fn write(&mut self, prng: &mut Prng, step: u64) {
        let (at, len) = (self.size(prng, MOST), self.size(prng, MOST / 2));
        let mut buffer = self.io.buffer(len.max(1) as usize);
        buffer.set_len(len as usize);
        buffer.filled_mut().fill(step as u8 | 1);
        let data: Slice = buffer.freeze();
        let durable = prng.one_in(20);
        let mut done = 0;
        while done < len {
            let rest = data.range(done as usize..len as usize);
            let at = FilePos::new(at + done);
            match blocking::run(self.io, Op::Write { file: self.file, at, data: rest, durable }) {
                Ok(Outcome::Wrote { len }) => done += len as u64,
                other => panic!("write: {other:?}"),
            }
        }
        if len > 0 {
            self.grow(at + len);
            self.model[at as usize..(at + len) as usize].copy_from_slice(&data);
        }
    }

    fn read(&mut self, prng: &mut Prng) {
        let at = self.size(prng, MOST + 4);
        let buffer = self.io.buffer((1 + prng.below(MOST * BLOCK)) as usize);
        let room = buffer.capacity();
        let file = self.file;
        match blocking::run(self.io, Op::Read { file, at: FilePos::new(at), buffer }) {
            Ok(Outcome::Read { buffer }) => {
                let from = self.model.len().min(at as usize);
                let expected = &self.model[from..self.model.len().min(from + room)];
                assert!(buffer.filled() == expected, "read of {room} at {at}: {} bytes", buffer.len());
            }
            other => panic!("read: {other:?}"),
        }
    }

    fn step(&mut self, prng: &mut Prng, step: u64) {
        let file = self.file;
        match prng.below(10) {
            0..4 => self.write(prng, step),
            4..7 => self.read(prng),
            7 => {
                let len = prng.below(MOST * BLOCK);
                self.done(Op::Truncate { file, len });
                self.model.resize(len as usize, 0);
            }
            8 => {
                // Beyond everything written, as the contract asks.
                let at = (self.model.len() as u64).next_multiple_of(BLOCK);
                let len = (1 + prng.below(8)) * BLOCK;
                let how = if prng.one_in(2) { Prepared::Allocated } else { Prepared::Zeroed };
                if at < MOST * BLOCK {
                    self.done(Op::Prepare { file, at: FilePos::new(at), len, how });
                    self.grow(at + len);
                }
            }
            _ => {
                self.done(Op::Sync { file, data_only: prng.one_in(2), urgent: true });
                self.done(Op::Close { file });
                let (file, len) = open(self.io, self.path, OpenHow::Write, self.direct);
                assert_eq!(len as usize, self.model.len());
                self.file = file;
            }
        }
    }
}

fn run(io: &mut dyn Park, dir: &Path) {
    for seed in 0..6 {
        let direct = seed % 2 == 0;
        let path = dir.join(format!("model-{seed}"));
        let (file, _) = open(io, &path, OpenHow::CreateNew, direct);
        let mut subject = Subject { io: &mut *io, path: &path, direct, file, model: Vec::new() };
        let mut prng = Prng::new(seed);
        for step in 0..STEPS {
            subject.step(&mut prng, step);
        }
        let mut whole = Buffer::new(2 * (MOST * BLOCK) as usize);
        whole.set_len(0);
        match blocking::run(subject.io, Op::Read { file: subject.file, at: FilePos::ZERO, buffer: whole }) {
            Ok(Outcome::Read { buffer }) => assert!(buffer.filled() == subject.model, "seed {seed}"),
            other => panic!("read: {other:?}"),
        }
    }
}

#[test]
fn memory_matches_the_model() {
    run(&mut MemoryIo::new(), "/".as_ref());
}

#[test]
fn real_files_match_the_model() {
    for choice in [IoChoice::Posix, IoChoice::Uring] {
        let (mut io, warning) = production(choice, 16).unwrap();
        if let Some(warning) = warning {
            println!("skipped: {warning}");
            continue;
        }
        let dir =
            std::env::temp_dir().join(format!("highwater-io-model-{}-{}", io.name(), std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        run(&mut *io, &dir);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

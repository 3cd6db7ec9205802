//! A log that is removed goes bit by bit, in the background, and never holds up a durable writer beside it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use highwater_base::{LeaderEpoch, Mono, Now, Offset, Uuid, WallMs};
use highwater_engine::batch::BatchBuilder;
use highwater_engine::{Durability, Log, LogEvent, LogSettings, Origin};
use highwater_io::{Completion, FileId, Io, MemoryIo, Op, OpenHow, Outcome, Token, blocking};

const WRITER: u32 = 1;
const REMOVED: u32 = 2;
/// What a device frees in the time of one other operation; freeing more at once keeps the others waiting.
const FREED_A_TICK: u64 = 64 << 20;

/// A device that does one thing after the other: each takes a tick, and freeing one for each [`FREED_A_TICK`].
struct Device {
    disk: MemoryIo,
    queue: VecDeque<(Op, Token)>,
    /// Ticks that the operation at the front still takes; none if it has not begun.
    left: Option<u64>,
    opening: Option<PathBuf>,
    /// Where open files lie.
    paths: BTreeMap<FileId, PathBuf>,
    ticks: u64,
    /// The most bytes that one operation has freed.
    most_freed: u64,
    /// The most operations of the log that is removed that were waiting or under way at once.
    most_queued: usize,
}

impl Device {
    fn new() -> Device {
        Device {
            disk: MemoryIo::new(),
            queue: VecDeque::new(),
            left: None,
            opening: None,
            paths: BTreeMap::new(),
            ticks: 0,
            most_freed: 0,
            most_queued: 0,
        }
    }

    /// A file of this length, without any blocks.
    fn put(&mut self, path: &str, len: u64) {
        let open = Op::Open { path: path.into(), how: OpenHow::CreateNew, direct: false };
        let Ok(Outcome::Opened { file, .. }) = blocking::run(&mut self.disk, open) else { panic!("open") };
        blocking::run(&mut self.disk, Op::Truncate { file, len }).unwrap();
        blocking::run(&mut self.disk, Op::Close { file }).unwrap();
    }

    fn len(&mut self, path: PathBuf) -> u64 {
        match blocking::run(&mut self.disk, Op::Stat { path }) {
            Ok(Outcome::Stat { len, .. }) => len,
            _ => 0,
        }
    }

    /// How many bytes an operation frees.
    fn frees(&mut self, op: &Op) -> u64 {
        match op {
            Op::Unlink { path } => self.len(path.clone()),
            Op::Truncate { file, len } => {
                let path = self.paths[file].clone();
                self.len(path).saturating_sub(*len)
            }
            _ => 0,
        }
    }

    /// Lets a tick pass.
    fn tick(&mut self) -> Option<Completion> {
        self.ticks += 1;
        let (op, token) = self.queue.pop_front()?;
        let left = match self.left {
            Some(left) => left,
            None => {
                let freed = self.frees(&op);
                self.most_freed = self.most_freed.max(freed);
                freed.div_ceil(FREED_A_TICK).max(1)
            }
        };
        if left > 1 {
            self.left = Some(left - 1);
            self.queue.push_front((op, token));
            return None;
        }
        self.left = None;
        self.opening = if let Op::Open { path, .. } = &op { Some(path.clone()) } else { None };
        let result = blocking::run(&mut self.disk, op);
        if let (Ok(Outcome::Opened { file, .. }), Some(path)) = (&result, self.opening.take()) {
            self.paths.insert(*file, path);
        }
        Some(Completion { token, result })
    }
}

impl Io for Device {
    fn submit(&mut self, op: Op, token: Token) {
        self.queue.push_back((op, token));
        let queued = self.queue.iter().filter(|(_, token)| token.owner == REMOVED).count();
        self.most_queued = self.most_queued.max(queued);
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        out.extend(self.tick());
    }

    fn in_flight(&self) -> usize {
        self.queue.len()
    }

    fn name(&self) -> &'static str {
        "one thing after the other"
    }
}

/// A writer, and perhaps a log that is removed, on one device.
struct World {
    io: Device,
    now: Now,
    writer: Log,
    removed: Option<Log>,
    is_gone: bool,
}

impl World {
    fn new() -> World {
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_700_000_000_000) };
        let settings = LogSettings { durability: Durability::Each, ..LogSettings::default() };
        let writer = Log::create(now, "/writer-0".as_ref(), WRITER, settings, Uuid::from_halves(1, 1));
        let mut world = World { io: Device::new(), now, writer, removed: None, is_gone: false };
        world.append_and_wait();
        world
    }

    fn turn(&mut self) {
        self.now.mono = self.now.mono.plus(std::time::Duration::from_micros(100));
        self.writer.step(self.now, &mut self.io);
        if let Some(removed) = &mut self.removed {
            removed.step(self.now, &mut self.io);
        }
        let mut completions = Vec::new();
        self.io.reap(&mut completions);
        for completion in completions {
            match (completion.token.owner, &mut self.removed) {
                (REMOVED, Some(removed)) => removed.complete(self.now, completion, &mut self.io),
                _ => self.writer.complete(self.now, completion, &mut self.io),
            }
        }
        while self.writer.poll_event().is_some() {}
        while let Some(event) = self.removed.as_mut().and_then(Log::poll_event) {
            self.is_gone |= matches!(event, LogEvent::Removed);
        }
    }

    /// Appends a batch and waits until it is durable; gives the ticks that this took.
    fn append_and_wait(&mut self) -> u64 {
        let batch = BatchBuilder::new().record(1_700_000_000_000, None, Some(&[7; 5000])).build();
        let origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };
        let end = loop {
            match self.writer.append(self.now, &batch, origin) {
                Ok(appended) => break appended.end,
                Err(_) => self.turn(), // It is being made.
            }
        };
        let before = self.io.ticks;
        while self.writer.synced_end() < end {
            self.turn();
        }
        self.io.ticks - before
    }
}

#[test]
fn a_log_that_is_removed_never_holds_up_a_durable_writer() {
    let mut world = World::new();
    let alone = (0..50).map(|_| world.append_and_wait()).max().unwrap();

    let dir = "/old-0.00000000000000000000000000000001-delete";
    blocking::run(&mut world.io.disk, Op::CreateDir { path: dir.into() }).unwrap();
    let lengths = [1 << 30, 1 << 30, 100 << 20, 3 << 20, 0];
    for (at, len) in lengths.iter().enumerate() {
        world.io.put(&format!("{dir}/{:020}.log", at * 1000), *len);
    }
    world.removed = Some(Log::remove(world.now, dir.as_ref(), REMOVED, LogSettings::default()));
    let (mut beside, mut appends) = (0, 0);
    while !world.is_gone {
        beside = beside.max(world.append_and_wait());
        appends += 1;
    }
    assert_eq!(blocking::run(&mut world.io.disk, Op::Stat { path: dir.into() }).ok().map(|_| ()), None);
    println!(
        "figure: deletion_beside_writer alone_ticks={alone} beside_ticks={beside} appends={appends} most_freed={}",
        world.io.most_freed
    );
    assert!(appends > 10, "the removal was over before it could disturb anybody: {appends} appends");
    assert!(world.io.most_freed <= FREED_A_TICK, "{} bytes were freed at once", world.io.most_freed);
    assert_eq!(world.io.most_queued, 1, "a removal has one operation under way at a time");
    // An append is a write and a sync, and may find one operation of the removal before each.
    assert!(beside <= alone + 2, "{beside} ticks beside a removal, {alone} alone");

    // The measure notices what it is for: one file removed at once.
    world.io.put("/whole", 1 << 30);
    world.io.submit(Op::Unlink { path: "/whole".into() }, Token { owner: REMOVED, tag: 0 });
    world.removed = None;
    let batch = BatchBuilder::new().record(1_700_000_000_000, None, Some(b"x")).build();
    let origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };
    let end = world.writer.append(world.now, &batch, origin).unwrap().end;
    let before = world.io.ticks;
    while world.writer.synced_end() < end {
        world.writer.step(world.now, &mut world.io);
        if let Some(completion) = world.io.tick().filter(|completion| completion.token.owner == WRITER) {
            world.writer.complete(world.now, completion, &mut world.io);
        }
    }
    assert!(world.io.ticks - before > alone + 10);
    assert_eq!(end, Offset::new(world.writer.log_end().get()));
}

//! Many logs of one thread: their memory together, and who writes when.

use std::collections::VecDeque;
use std::path::Path;

use highwater_base::{BLOCK, LeaderEpoch, Limits, Mono, Now, Offset, Uuid, WallMs};
use highwater_engine::batch::BatchBuilder;
use highwater_engine::{AppendError, Durability, Log, LogEvent, LogSettings, Origin, Read, TailSpace};
use highwater_io::{Buffer, Chunk, Completion, Io, MemoryIo, Op, Outcome, Token};

const ORIGIN: Origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };
const NOW: Now = Now { mono: Mono::ZERO, wall: WallMs::new(1_767_225_600_000) };

/// Memory that lets those who wait for their turn wait until it is told to let them go, and counts writes.
#[derive(Default)]
struct Busy {
    inner: MemoryIo,
    waiting: VecDeque<Token>,
    granted: Vec<Token>,
    /// The bytes of each write of a tail; what is written of other files is less than a block.
    writes: Vec<usize>,
}

impl Busy {
    /// The thread has nothing else to do: everybody's turn comes.
    fn idle(&mut self) {
        self.granted.extend(self.waiting.drain(..));
    }
}

impl Io for Busy {
    fn submit(&mut self, op: Op, token: Token) {
        match op {
            Op::Turn => self.waiting.push_back(token),
            op => {
                if let Op::Write { data, .. } = &op
                    && data.len() >= BLOCK as usize
                {
                    self.writes.push(data.len());
                }
                self.inner.submit(op, token);
            }
        }
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        let granted = self.granted.drain(..).map(|token| Completion { token, result: Ok(Outcome::Done) });
        out.extend(granted);
        self.inner.reap(out);
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.inner.buffer(len)
    }

    fn chunk(&mut self, len: usize) -> Chunk {
        self.inner.chunk(len)
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.waiting.len() + self.granted.len()
    }

    fn name(&self) -> &'static str {
        "busy"
    }
}

struct Fleet {
    io: Busy,
    logs: Vec<Log>,
    space: TailSpace,
}

impl Fleet {
    fn new(count: u32, space: u64, settings: LogSettings) -> Fleet {
        let space = TailSpace::new(space);
        let create = |owner: u32| {
            let dir = format!("/log-{owner}");
            let mut log = Log::create(NOW, Path::new(&dir), owner, settings, Uuid::ZERO);
            log.share_tail_space(&space);
            log
        };
        let logs = (0..count).map(create).collect();
        let mut fleet = Fleet { io: Busy::default(), logs, space };
        while !fleet.logs.iter().all(Log::is_ready) {
            fleet.turn();
        }
        fleet.settle();
        fleet.io.writes.clear();
        fleet
    }

    /// Steps all logs and takes what is done.
    fn turn(&mut self) {
        for log in &mut self.logs {
            log.step(NOW, &mut self.io);
            while let Some(event) = log.poll_event() {
                assert!(!matches!(event, LogEvent::Failed(_)), "{event:?}");
            }
        }
        let mut done = Vec::new();
        self.io.reap(&mut done);
        for completion in done {
            let log = &mut self.logs[completion.token.owner as usize];
            log.complete(NOW, completion, &mut self.io);
        }
    }

    /// Turns until nothing moves any more.
    fn settle(&mut self) {
        while self.logs.iter().any(Log::needs_step) || self.io.inner.in_flight() + self.io.granted.len() > 0 {
            self.turn();
        }
    }

    fn written(&self) -> bool {
        self.logs.iter().all(|log| log.written_end() == log.log_end())
    }
}

fn batch(number: u64) -> Vec<u8> {
    BatchBuilder::new().record(NOW.wall.get(), Some(&number.to_be_bytes()), Some(&[7; 900])).build()
}

fn relaxed() -> LogSettings {
    LogSettings { durability: Durability::Os, ..LogSettings::default() }
}

#[test]
fn what_nobody_waits_for_gathers_until_the_turn_comes_and_goes_in_one_write() {
    let mut fleet = Fleet::new(1, 1 << 20, relaxed());
    for number in 0..40 {
        fleet.logs[0].append(NOW, &batch(number), ORIGIN).expect("it takes appends");
        fleet.turn();
    }
    assert_eq!(fleet.io.writes, [] as [usize; 0], "the thread is busy");
    fleet.io.idle();
    fleet.settle();
    assert_eq!(fleet.io.writes.len(), 1, "{:?}", fleet.io.writes);
    assert!(fleet.io.writes[0] >= 36 << 10);
    fleet.io.idle();
    fleet.settle();
    assert!(fleet.written(), "what was left of the last block goes with the next turn");
}

#[test]
fn whoever_waits_for_durability_needs_no_turn() {
    let mut fleet = Fleet::new(1, 1 << 20, relaxed());
    let end = fleet.logs[0].append(NOW, &batch(1), ORIGIN).expect("it takes appends").end;
    fleet.settle();
    assert!(fleet.io.writes.is_empty());
    fleet.logs[0].want_synced(end);
    fleet.settle();
    assert_eq!(fleet.logs[0].synced_end(), end);
    assert_eq!(fleet.io.waiting.len(), 1, "it had asked before, and nobody took that back");
    fleet.io.idle();
    fleet.settle();
}

#[test]
fn a_whole_write_goes_without_its_turn() {
    let settings = LogSettings { limits: Limits::TINY, ..relaxed() };
    let mut fleet = Fleet::new(1, 1 << 20, settings);
    for number in 0..16 {
        fleet.logs[0].append(NOW, &batch(number), ORIGIN).expect("it takes appends");
    }
    fleet.settle();
    assert!(fleet.io.writes.contains(&(8 << 10)), "{:?}", fleet.io.writes);
}

#[test]
fn a_shard_s_tails_stay_within_their_space_and_nobody_is_locked_out() {
    const SPACE: u64 = 256 << 10;
    let settings = LogSettings { limits: Limits::TINY, ..relaxed() };
    let mut fleet = Fleet::new(50, SPACE, settings);
    let (mut refused, mut appended, mut most) = (0, [0i64; 50], 0);
    for round in 0..200 {
        for (at, count) in appended.iter_mut().enumerate() {
            match fleet.logs[at].append(NOW, &batch(round), ORIGIN) {
                Ok(_) => *count += 1,
                Err(AppendError::Backpressure { .. }) => {
                    refused += 1;
                    let log = &fleet.logs[at];
                    assert!(log.written_end() < log.log_end(), "it waits for itself, not for others only");
                    fleet.io.idle();
                    fleet.turn();
                }
                Err(error) => panic!("{error}"),
            }
            most = most.max(fleet.space.held());
        }
    }
    assert!(refused > 0, "the space was never full");
    // Each log has its last block, and a chunk although it was full already.
    let limit = SPACE + 50 * (BLOCK + Limits::TINY.small_chunk_bytes as u64);
    assert!(most <= limit, "{most} bytes at most, {limit} are allowed");
    while !fleet.written() {
        fleet.io.idle();
        fleet.settle();
    }
    for (log, appended) in fleet.logs.iter_mut().zip(appended) {
        assert!(appended > 20, "only {appended} of 200");
        assert_eq!(log.log_end(), Offset::new(appended));
        log.set_high_watermark(log.written_end());
        let read = log.read(NOW, Offset::new(appended - 1), log.log_end(), 4000).expect("it is there");
        if let Read::Ready(fetched) = read {
            assert!(!fetched.data.is_empty());
        }
    }
    fleet.settle();
    drop(fleet.logs);
    assert_eq!(fleet.space.held(), 0);
}

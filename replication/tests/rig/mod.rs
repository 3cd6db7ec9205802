//! Partitions over real logs in memory, on an `Io` that can hold syncs back and fail them.
#![allow(dead_code)] // each test file uses a part of it

use std::time::Duration;

use highwater_base::{
    BrokerId, LeaderEpoch, Mono, Now, Offset, PartitionEpoch, ProducerEpoch, ProducerId, Uuid, WallMs,
};
use highwater_engine::batch::{BatchBuilder, Batches, HEADER_BYTES, Record};
use highwater_engine::{Log, LogSettings, OpenHint};
use highwater_io::{Buffer, Chunk, Completion, ErrorKind, Io, IoError, MemoryIo, Op, Token};
use highwater_isr::Assignment;
use highwater_replication::{
    Acks, Answer, Isolation, ListedOffset, OffsetTarget, Outcome, Partition, PartitionError,
    PartitionSettings, ProduceDone, ReadDone, ReadRequest, Reply,
};

pub(crate) const ME: BrokerId = BrokerId::new(1);

/// What becomes of syncs and writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// They complete.
    Pass,
    /// Syncs wait.
    HoldSyncs,
    /// Syncs and writes wait.
    HoldWrites,
    /// Syncs fail.
    FailSyncs,
    /// The device is full: writes and preparations fail.
    Full,
}

/// Files in memory whose operations may be held back.
pub(crate) struct Slow {
    pub(crate) inner: MemoryIo,
    pub(crate) mode: Mode,
    held: Vec<(Op, Token)>,
    failed: Vec<(Token, ErrorKind)>,
}

impl Slow {
    pub(crate) fn new() -> Slow {
        Slow { inner: MemoryIo::new(), mode: Mode::Pass, held: Vec::new(), failed: Vec::new() }
    }

    /// Another mode; what was held and is not any more goes on.
    pub(crate) fn set(&mut self, mode: Mode) {
        self.mode = mode;
        for (op, token) in std::mem::take(&mut self.held) {
            self.submit(op, token);
        }
    }
}

impl Io for Slow {
    fn submit(&mut self, op: Op, token: Token) {
        let sync = matches!(op, Op::Sync { .. } | Op::Flush { .. } | Op::Write { durable: true, .. });
        let write = sync || matches!(op, Op::Write { .. });
        match self.mode {
            Mode::HoldSyncs if sync => self.held.push((op, token)),
            Mode::HoldWrites if write => self.held.push((op, token)),
            Mode::FailSyncs if sync => self.failed.push((token, ErrorKind::Device)),
            Mode::Full if matches!(op, Op::Write { .. } | Op::Prepare { .. }) => {
                self.failed.push((token, ErrorKind::NoSpace));
            }
            _ => self.inner.submit(op, token),
        }
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        for (token, kind) in self.failed.drain(..) {
            let result = Err(IoError::of(kind, "write", "a log"));
            out.push(Completion { token, result });
        }
        self.inner.reap(out);
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.inner.buffer(len)
    }

    fn chunk(&mut self, len: usize) -> Chunk {
        self.inner.chunk(len)
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.held.len() + self.failed.len()
    }

    fn name(&self) -> &'static str {
        "slow memory"
    }
}

/// One partition of one replica, led from the start.
pub(crate) struct Rig {
    pub(crate) io: Slow,
    pub(crate) now: Now,
    pub(crate) partition: Partition,
    /// Answers that came late, in order.
    pub(crate) answers: Vec<Answer>,
}

pub(crate) fn now_at(ms: u64) -> Now {
    Now { mono: Mono::from_nanos(ms * 1_000_000), wall: WallMs::new(1_700_000_000_000 + ms as i64) }
}

impl Rig {
    /// A new log; its making is not waited for.
    pub(crate) fn creating(settings: LogSettings) -> Rig {
        let (io, now) = (Slow::new(), now_at(0));
        let log = Log::create(now, "/t-0".as_ref(), 7, settings, Uuid::from_halves(1, 1));
        let partition = Partition::new(ME, log, PartitionSettings::default(), Offset::ZERO);
        let mut rig = Rig { io, now, partition, answers: Vec::new() };
        rig.lead(1);
        rig
    }

    /// A new log that takes appends.
    pub(crate) fn new(settings: LogSettings) -> Rig {
        let mut rig = Rig::creating(settings);
        rig.settle();
        rig
    }

    pub(crate) fn lead(&mut self, epoch: i32) {
        let assignment = Assignment::standalone(ME, LeaderEpoch::new(epoch), PartitionEpoch::new(epoch));
        self.partition.assign(self.now, assignment);
    }

    /// Everything that can happen without time passing.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            self.partition.step(self.now, &mut self.io);
            let mut done = Vec::new();
            self.io.reap(&mut done);
            let idle = done.is_empty() && !self.partition.needs_step();
            for completion in done {
                self.partition.complete(self.now, completion, &mut self.io);
            }
            while let Some(answer) = self.partition.poll_answer() {
                self.answers.push(answer);
            }
            if idle {
                return;
            }
        }
        panic!("the partition does not come to rest");
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono.plus(time);
        self.now.wall = WallMs::new(self.now.wall.get() + time.as_millis() as i64);
        self.settle();
    }

    pub(crate) fn produce(&mut self, records: Vec<u8>, acks: Acks, key: u64) -> Outcome<ProduceDone> {
        let deadline = self.now.mono.plus(Duration::from_secs(30));
        self.partition.produce(self.now, records, acks, deadline, key)
    }

    /// Produces and waits until it is there.
    pub(crate) fn produced(&mut self, records: Vec<u8>, acks: Acks) -> Offset {
        let key = 1_000_000;
        let outcome = self.produce(records, acks, key);
        self.settle();
        match outcome {
            Outcome::Now(done) => done.unwrap().first,
            Outcome::Parked => match self.answer(key) {
                Some(Ok(Reply::Produced(done))) => done.first,
                other => panic!("expected an acknowledgement, found {other:?}"),
            },
        }
    }

    /// The late answer under this key, if it has come.
    pub(crate) fn answer(&mut self, key: u64) -> Option<Result<Reply, PartitionError>> {
        let at = self.answers.iter().position(|answer| answer.key == key)?;
        Some(self.answers.remove(at).reply)
    }

    /// Reads, from memory or from the disk.
    pub(crate) fn read(&mut self, request: ReadRequest) -> Result<ReadDone, PartitionError> {
        let key = 2_000_000;
        match self.partition.read(self.now, request, key) {
            Outcome::Now(result) => result,
            Outcome::Parked => {
                self.settle();
                match self.answer(key) {
                    Some(Ok(Reply::Read(done))) => Ok(done),
                    Some(Err(error)) => Err(error),
                    other => panic!("expected a read, found {other:?}"),
                }
            }
        }
    }

    /// Finds an offset, in memory or on the disk.
    pub(crate) fn find(&mut self, target: i64) -> ListedOffset {
        let (key, none) = (3_000_000, LeaderEpoch::NONE);
        let target = OffsetTarget::from_kafka(target).unwrap();
        match self.partition.list_offset(self.now, target, Isolation::ReadUncommitted, none, key) {
            Outcome::Now(result) => result.unwrap(),
            Outcome::Parked => {
                self.settle();
                match self.answer(key) {
                    Some(Ok(Reply::Offset(found))) => found,
                    other => panic!("expected an offset, found {other:?}"),
                }
            }
        }
    }

    /// Closes, and opens again as after a clean stop, or after one that the log knows nothing of.
    pub(crate) fn reopen(&mut self, clean: bool, settings: LogSettings) {
        let high = self.partition.high_watermark();
        if clean {
            self.partition.close(self.now);
            self.settle();
            assert!(self.partition.is_closed());
        }
        let epoch = self.partition.leader_epoch().next().get();
        assert_eq!(self.io.inner.in_flight(), 0);
        let hint = OpenHint { clean_stop: clean, ..OpenHint::default() };
        let opened = Log::open(&mut self.io.inner, self.now, "/t-0".as_ref(), 7, settings, hint);
        let (log, report) = opened.unwrap();
        assert!(report.is_clean(), "{report:?}");
        self.partition = Partition::new(ME, log, PartitionSettings::default(), high);
        self.lead(epoch);
        self.settle();
    }
}

/// A batch of so many records.
pub(crate) fn batch(records: usize) -> Vec<u8> {
    sized(records, 10)
}

/// A batch of so many records of so many bytes.
pub(crate) fn sized(records: usize, bytes: usize) -> Vec<u8> {
    let value = vec![b'x'; bytes];
    let add =
        |builder: BatchBuilder, at: usize| builder.record(1_700_000_000_000 + at as i64, None, Some(&value));
    (0..records).fold(BatchBuilder::new(), add).build()
}

/// A batch of one record that begins with a label and goes on for so many bytes.
pub(crate) fn labelled(label: u64, bytes: usize) -> Vec<u8> {
    let mut value = label.to_be_bytes().to_vec();
    value.resize(8 + bytes, b'x');
    BatchBuilder::new().record(1_700_000_000_000, None, Some(&value)).build()
}

/// The label of a batch.
pub(crate) fn label(batch: &[u8]) -> u64 {
    let (record, _) = Record::read(&batch[HEADER_BYTES..], HEADER_BYTES).unwrap();
    let value = record.value.expect("a record with a label has a value");
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

/// One record of an idempotent producer.
pub(crate) fn numbered(sequence: i32) -> Vec<u8> {
    let producer = ProducerId::new(9);
    BatchBuilder::new()
        .producer(producer, ProducerEpoch::ZERO, sequence)
        .record(1_700_000_000_000, None, Some(b"v"))
        .build()
}

/// The offsets of the batches in `done`: base and last.
pub(crate) fn offsets(done: &ReadDone) -> Vec<(i64, i64)> {
    let bytes: Vec<u8> = done.data.iter().flat_map(|slice| slice.iter().copied()).collect();
    Batches::in_memory(&bytes)
        .map(|found| {
            let found = found.unwrap();
            (found.stored_offset().get(), found.last_offset().get())
        })
        .collect()
}

//! A whole shard with two data directories on memory, one of which fails; the test is the other shard.

use std::collections::BTreeMap;
use std::path::Path;

use crossbeam_channel::Receiver;
use highwater_base::{BrokerId, Mono, Offset, PartitionIndex, Uuid, WallMs};
use highwater_control::{Applied, NewTopic, Registration as NewBroker, TopicRef, decode_catalog};
use highwater_engine::batch::BatchBuilder;
use highwater_io::{FileId, IoError, MemoryIo, Op, Outcome, Token, Waker, blocking};
use highwater_replication::{Acks, Isolation, ReadRequest};
use highwater_runtime::{Mailbox, mailbox};
use highwater_wire::ErrorCode;

use super::*;
use crate::call::{PartitionCall, PartitionReply};
use crate::storage::CheckpointFiles;

const ME: BrokerId = BrokerId::new(1);
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Memory, in which everything at or below some paths fails.
struct FailingIo {
    disk: MemoryIo,
    broken: Vec<PathBuf>,
    /// Nothing more can be written.
    full: bool,
    files: BTreeMap<FileId, PathBuf>,
    opening: BTreeMap<Token, PathBuf>,
    failed: Vec<Completion>,
}

impl FailingIo {
    fn is_broken(&self, path: &Path) -> bool {
        self.broken.iter().any(|broken| path.starts_with(broken))
    }
}

impl Io for FailingIo {
    fn submit(&mut self, op: Op, token: Token) {
        let path = match &op {
            Op::Open { path, .. }
            | Op::Stat { path }
            | Op::Space { path }
            | Op::ReadDir { path }
            | Op::Unlink { path }
            | Op::CreateDir { path }
            | Op::RemoveDir { path }
            | Op::SyncDir { path }
            | Op::Rename { from: path, .. } => Some(path.clone()),
            Op::Read { file, .. } | Op::Write { file, .. } | Op::Sync { file, .. } | Op::Flush { file } => {
                self.files.get(file).cloned()
            }
            Op::Prepare { file, .. } | Op::Truncate { file, .. } => self.files.get(file).cloned(),
            _ => None,
        };
        if let Some(path) = path.filter(|path| self.is_broken(path)) {
            let error = IoError::from_errno(EIO, "use", path.display().to_string());
            return self.failed.push(Completion { token, result: Err(error) });
        }
        if self.full && matches!(op, Op::Write { .. } | Op::Prepare { .. }) {
            let error = IoError::from_errno(ENOSPC, "write", "a full disk".to_owned());
            return self.failed.push(Completion { token, result: Err(error) });
        }
        if let Op::Open { path, .. } = &op {
            self.opening.insert(token, path.clone());
        }
        self.disk.submit(op, token);
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        let before = out.len();
        self.disk.reap(out);
        for completion in &out[before..] {
            if let (Some(path), Ok(Outcome::Opened { file, .. })) =
                (self.opening.remove(&completion.token), &completion.result)
            {
                self.files.insert(*file, path);
            }
        }
        out.append(&mut self.failed);
    }

    fn in_flight(&self) -> usize {
        self.disk.in_flight() + self.failed.len()
    }

    fn name(&self) -> &'static str {
        "failing"
    }
}

impl Park for FailingIo {
    fn park(&mut self, _: Option<Duration>, out: &mut Vec<Completion>) {
        self.reap(out);
    }

    fn waker(&self) -> Waker {
        self.disk.waker()
    }
}

/// Shard 0, and this test as shard 1.
struct Rig {
    io: FailingIo,
    shard: BrokerShard,
    inbox: Mailbox<Message>,
    reports: Receiver<(ShardId, Report)>,
    now: Now,
    image: Arc<Image>,
    calls: u32,
    partition_replies: BTreeMap<u32, PartitionReply>,
    control_replies: BTreeMap<u32, Result<Applied, ControlError>>,
    dirs: Option<Arc<Vec<crate::ctx::DirSpace>>>,
}

fn dir_id(at: usize) -> Uuid {
    Uuid::from_halves(9, at as u64)
}

impl Rig {
    fn new(paths: &[&str]) -> Rig {
        let mut io = FailingIo {
            disk: MemoryIo::new(),
            broken: Vec::new(),
            full: false,
            files: BTreeMap::new(),
            opening: BTreeMap::new(),
            failed: Vec::new(),
        };
        let dirs: Vec<DirFacts> = (paths.iter().enumerate())
            .map(|(at, path)| DirFacts {
                path: path.into(),
                id: dir_id(at),
                clean: false,
                stale: false,
                checkpoints: CheckpointFiles::default(),
                others: CheckpointFiles::default(),
                partitions: Vec::new(),
                recycle_space: highwater_engine::RecycleSpace::default(),
            })
            .collect();
        for path in paths {
            blocking::run(&mut io, Op::CreateDir { path: path.into() }).unwrap();
        }
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_700_000_000_000) };
        let image = Arc::new(Image::new("c"));
        let (own, _) = mailbox(1);
        let (other, inbox) = mailbox(1000);
        let (reporter, reports) = crossbeam_channel::unbounded();
        let node = NodeFacts { id: ME, host: "h".into(), port: 1, cluster_id: "c".into(), rack: None };
        let parts = Parts {
            id: 0,
            settings: Arc::new(Settings::default()),
            node,
            image: Arc::clone(&image),
            dirs: Arc::new(dirs),
            manifests: Arc::default(),
            broken: Arc::new(vec!["/gone".into()]),
            mail: Mail::new(0, vec![own, other]),
            reports: reporter,
            seed: 1,
            limits: Limits::PRODUCTION,
        };
        let shard = BrokerShard::open(parts, &mut io, now).unwrap();
        let mut rig = Rig {
            io,
            shard,
            inbox,
            reports,
            now,
            image,
            calls: 0,
            partition_replies: BTreeMap::new(),
            control_replies: BTreeMap::new(),
            dirs: None,
        };
        let directories = (0..paths.len()).map(dir_id).collect();
        rig.control(Command::RegisterBroker(NewBroker { directories, ..NewBroker::new(ME, "h", 1) }))
            .unwrap();
        let epoch = rig.image.broker(ME).unwrap().epoch;
        rig.control(Command::UnfenceBroker { broker: ME, epoch }).unwrap();
        rig
    }

    fn turn(&mut self, mut messages: Vec<Message>) {
        self.now.mono = self.now.mono.plus(Duration::from_millis(1));
        let mut completions = Vec::new();
        self.io.reap(&mut completions);
        let now = self.now;
        let io = &mut self.io;
        self.shard.turn(&mut Turn { now, io, completions: &mut completions, messages: &mut messages });
        let mut got = Vec::new();
        self.inbox.drain(1000, &mut got);
        let mut caught = Vec::new();
        for message in got {
            match message {
                Message::Reply { to, reply } => _ = self.partition_replies.insert(to.index, reply),
                Message::ControlReply { to, result } => _ = self.control_replies.insert(to.index, *result),
                Message::Directories { dirs, .. } => self.dirs = Some(dirs),
                Message::Image(image) => {
                    caught.push(Message::Caught { shard: 1, version: image.version() });
                    self.image = image;
                }
                _ => {}
            }
        }
        if !caught.is_empty() {
            self.turn(caught);
        }
    }

    /// Turns until there is an answer, for a simulated second.
    fn until<T>(&mut self, message: Message, mut answer: impl FnMut(&mut Rig) -> Option<T>) -> Option<T> {
        self.turn(vec![message]);
        (0..1000).find_map(|_| {
            self.turn(Vec::new());
            answer(self)
        })
    }

    fn next(&mut self) -> ReplyTo {
        self.calls += 1;
        ReplyTo { shard: 1, request: 1, index: self.calls }
    }

    fn control(&mut self, command: Command) -> Result<Applied, ControlError> {
        let to = self.next();
        let message = Message::Control { to, command: Box::new(command) };
        self.until(message, |rig| rig.control_replies.remove(&to.index)).expect("a command is answered")
    }

    fn call(&mut self, topic: u64, call: PartitionCall) -> Result<PartitionReply, ErrorCode> {
        let to = self.next();
        let partition = (topic_id(topic), PartitionIndex::new(0));
        let message = Message::Call { to, partition, call };
        match self.until(message, |rig| rig.partition_replies.remove(&to.index)).expect("a call is answered")
        {
            PartitionReply::Refused(refusal) => Err(refusal.code),
            reply => Ok(reply),
        }
    }

    fn create(&mut self, name: &str, topic: u64) {
        let new = NewTopic { partitions: 1, replication_factor: 1, ..NewTopic::named(name, topic_id(topic)) };
        self.control(Command::CreateTopic(new)).unwrap();
    }

    fn produce(&mut self, topic: u64) -> Result<(), ErrorCode> {
        let records = BatchBuilder::new().record(1_700_000_000_000, None, Some(b"x")).build().into();
        let deadline = self.now.mono.plus(Duration::from_millis(500));
        self.call(topic, PartitionCall::Produce { records, acks: Acks::All, deadline }).map(|_| ())
    }

    /// How many bytes a reader gets.
    fn read(&mut self, topic: u64) -> Result<usize, ErrorCode> {
        let request = ReadRequest::new(Offset::ZERO, Isolation::ReadUncommitted, 1000);
        match self.call(topic, PartitionCall::Read(request))? {
            PartitionReply::Read(read) => Ok(read.data.iter().map(|slice| slice.len()).sum()),
            other => panic!("{other:?}"),
        }
    }

    /// Which directories have space to tell of.
    fn online(&mut self) -> Vec<bool> {
        let to = self.next();
        let dirs = self.until(Message::DescribeDirectories { to }, |rig| rig.dirs.take());
        dirs.expect("the directories are told").iter().map(|dir| dir.space.is_some()).collect()
    }

    fn offline_reports(&self) -> Vec<usize> {
        let offline = |(_, report)| if let Report::Offline(dir) = report { Some(dir) } else { None };
        self.reports.try_iter().filter_map(offline).collect()
    }

    fn directory_of(&self, name: &str) -> Option<Uuid> {
        self.image.topic(name).unwrap().partitions[0].directory_of(ME)
    }
}

/// Whose partition 0 is shard 0's.
fn topic_id(number: u64) -> Uuid {
    Uuid::from_halves(5, 2 * number)
}

const OFFLINE: ErrorCode = ErrorCode::KafkaStorageError;

#[test]
fn a_directory_that_fails_goes_offline_alone_and_new_partitions_go_elsewhere() {
    let mut rig = Rig::new(&["/a", "/b"]);
    rig.create("t", 1);
    rig.create("u", 2);
    assert_eq!((rig.directory_of("t"), rig.directory_of("u")), (Some(dir_id(0)), Some(dir_id(1))));
    assert_eq!((rig.produce(1), rig.produce(2)), (Ok(()), Ok(())));
    assert_eq!(rig.online(), [true, true, false], "one was broken at the start");

    rig.io.broken.push("/a".into());
    assert_eq!(rig.produce(1), Err(OFFLINE));
    assert_eq!((rig.read(1), rig.produce(1)), (Err(OFFLINE), Err(OFFLINE)));
    assert_eq!(rig.produce(2), Ok(()));
    assert!(rig.read(2).is_ok_and(|bytes| bytes > 0));
    assert_eq!(rig.online(), [false, true, false]);
    assert_eq!(rig.offline_reports(), [0]);
    rig.turn(vec![Message::TellOffsets]);
    let said: Vec<_> = rig.shard.log.lines.iter().filter(|line| line.contains("ERROR")).collect();
    assert!(said.len() == 1 && said[0].contains("data directory /a is offline"), "{said:?}");
    let Ok(PartitionReply::Described(described)) = rig.call(2, PartitionCall::Describe) else { panic!() };
    assert!(described.dir == 1 && described.size > 0, "{described:?}");
    assert_eq!(rig.call(1, PartitionCall::Describe).unwrap_err(), OFFLINE);

    for topic in [3, 4] {
        rig.create(&format!("new{topic}"), topic);
        assert_eq!(rig.directory_of(&format!("new{topic}")), Some(dir_id(1)));
        assert_eq!(rig.produce(topic), Ok(()));
    }
    rig.io.broken.clear();
    assert_eq!(rig.produce(1), Err(OFFLINE), "it stays offline until the broker starts again");
    let catalog = rig.io.disk.disk().contents("/b/highwater.catalog").unwrap();
    assert_eq!(decode_catalog(&catalog).unwrap().version(), rig.image.version());

    rig.control(Command::DeleteTopic(TopicRef::Name("t".into()))).unwrap();
    rig.io.broken.push("/b".into());
    assert_eq!(rig.produce(2), Err(OFFLINE));
    rig.online();
    assert_eq!(rig.offline_reports(), [1], "the starting thread stops a broker without a directory");
}

#[test]
fn a_partition_that_fails_alone_leaves_its_directory_online() {
    let mut rig = Rig::new(&["/a"]);
    rig.create("t", 1);
    rig.create("u", 2);
    assert_eq!((rig.produce(1), rig.produce(2)), (Ok(()), Ok(())));
    rig.io.broken.push("/a/t-0".into());
    assert_eq!((rig.produce(1), rig.produce(2)), (Err(OFFLINE), Ok(())));
    assert_eq!(rig.online(), [true, false]);
    assert_eq!((rig.produce(1), rig.produce(2)), (Err(OFFLINE), Ok(())));
    assert!(rig.offline_reports().is_empty());
    rig.turn(vec![Message::TellOffsets]);
    assert!(rig.shard.log.lines.iter().any(|line| line.contains("/a/t-0")), "{:?}", rig.shard.log.lines);
}

#[test]
fn every_directory_has_the_newest_catalog() {
    let mut rig = Rig::new(&["/a", "/b"]);
    rig.create("t", 1);
    for path in ["/a/highwater.catalog", "/b/highwater.catalog"] {
        let bytes = rig.io.disk.disk().contents(path).unwrap();
        assert_eq!(decode_catalog(&bytes).unwrap(), *rig.image, "{path}");
    }
}

#[test]
fn a_removal_that_fails_holds_up_no_answer_and_its_files_get_into_no_other_log() {
    let mut rig = Rig::new(&["/a"]);
    rig.create("t", 1);
    assert_eq!(rig.produce(1), Ok(()));
    rig.io.broken.push("/a/t-0".into());
    let deleted = rig.control(Command::DeleteTopic(TopicRef::Name("t".into())));
    assert!(matches!(deleted, Ok(Applied::TopicDeleted(_))), "{deleted:?}");
    assert_eq!(rig.produce(1), Err(ErrorCode::UnknownTopicOrPartition));
    rig.io.broken.clear();
    rig.create("t", 2);
    assert_eq!(rig.produce(2), Err(OFFLINE), "the old log has the name still");
    rig.create("u", 3);
    assert_eq!(rig.produce(3), Ok(()));
}

#[test]
fn a_stop_does_not_wait_for_space_on_a_full_disk_and_says_what_keeps_it_from_being_clean() {
    let mut rig = Rig::new(&["/a", "/b"]);
    rig.create("t", 1);
    assert_eq!(rig.produce(1), Ok(()));
    rig.io.full = true;
    assert_eq!(rig.produce(1), Err(ErrorCode::KafkaStorageError));
    let began = rig.now.mono;
    rig.turn(vec![Message::CloseLogs]);
    let stopped = (0..10_000).find_map(|_| {
        rig.turn(Vec::new());
        rig.reports.try_iter().find_map(|(_, report)| match report {
            Report::Stopped { clean, .. } => Some(clean),
            _ => None,
        })
    });
    assert_eq!(stopped, Some(false), "it stops, and not cleanly");
    let took = rig.now.mono.since(began);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let said: Vec<_> =
        rig.shard.log.lines.iter().filter(|line| line.contains("/a is full: its partitions")).collect();
    assert_eq!(said.len(), 1, "{:?}", rig.shard.log.lines);
}

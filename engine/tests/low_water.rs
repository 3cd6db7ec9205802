//! A file system at its low-water mark: appends are refused before it is full, once said, and taken again by themselves.

use std::time::Duration;

use highwater_base::{LeaderEpoch, Limits, Mono, Now, Offset, Uuid, WallMs};
use highwater_engine::batch::BatchBuilder;
use highwater_engine::{AppendError, Log, LogEvent, LogSettings, Origin, Read};
use highwater_io::{Io, MemoryDisk, MemoryIo};

const MARK: u64 = 8 << 20;
const ORIGIN: Origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };

struct Rig {
    disk: MemoryDisk,
    io: MemoryIo,
    log: Log,
    now: Now,
    events: Vec<LogEvent>,
}

impl Rig {
    fn new(free: u64) -> Rig {
        let mut rig = Rig::unsettled(free);
        rig.settle();
        rig.events.clear();
        rig
    }

    fn unsettled(free: u64) -> Rig {
        let disk = MemoryDisk::new();
        disk.set_free(free);
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_767_225_600_000) };
        let settings = LogSettings { min_free_bytes: MARK, limits: Limits::TINY, ..LogSettings::default() };
        let log = Log::create(now, "/t-0".as_ref(), 1, settings, Uuid::ZERO);
        Rig { io: MemoryIo::on(disk.clone()), disk, log, now, events: Vec::new() }
    }

    /// One step, and what it brings; false if it brings nothing.
    fn turn(&mut self) -> bool {
        self.log.step(self.now, &mut self.io);
        let mut done = Vec::new();
        self.io.reap(&mut done);
        let idle = done.is_empty() && !self.log.needs_step();
        for completion in done {
            self.log.complete(self.now, completion, &mut self.io);
        }
        !idle
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            if !self.turn() {
                break;
            }
        }
        self.events.extend(std::iter::from_fn(|| self.log.poll_event()));
    }

    fn second(&mut self) {
        self.now.mono = self.now.mono.plus(Duration::from_secs(1));
        self.settle();
    }

    fn append(&mut self) -> Result<Offset, AppendError> {
        let batch = BatchBuilder::new().record(1_767_225_600_000, None, Some(&[7; 3000])).build();
        let appended = self.log.append(self.now, &batch, ORIGIN)?;
        self.settle();
        Ok(appended.first)
    }

    fn said(&mut self) -> Vec<&'static str> {
        let said = self.events.drain(..).filter_map(|event| match event {
            LogEvent::LowSpace { .. } => Some("low"),
            LogEvent::NoSpace => Some("none"),
            LogEvent::SpaceReturned => Some("returned"),
            _ => None,
        });
        said.collect()
    }
}

#[test]
fn at_its_mark_a_log_refuses_appends_says_so_once_and_comes_back_by_itself() {
    let mut rig = Rig::new(10 * MARK);
    let first = rig.append().expect("there is room");
    rig.disk.set_free(MARK - 1);
    // The log does not know yet; what it has taken it keeps.
    let second = rig.append().expect("not asked yet");
    assert_eq!(rig.said(), [""; 0]);
    for _ in 0..5 {
        rig.second();
        let Err(AppendError::NoSpace { dir, error }) = rig.append() else { panic!("taken") };
        assert_eq!(dir, std::path::Path::new("/t-0"));
        assert!(error.to_string().contains(&format!("{} bytes free", MARK - 1)), "{error}");
    }
    assert_eq!(rig.said(), ["low"]);
    assert_eq!(rig.log.synced_end(), second.plus(1));
    let read = rig.log.read(rig.now, first, second.plus(1), 1 << 20).expect("reads go on");
    assert!(matches!(read, Read::Ready(fetched) if fetched.next == second.plus(1)));
    // A little more than the mark is not enough, an eighth is.
    rig.disk.set_free(MARK + MARK / 8 - 1);
    rig.second();
    assert!(matches!(rig.append(), Err(AppendError::NoSpace { .. })));
    assert_eq!(rig.said(), [""; 0]);
    rig.disk.set_free(MARK + MARK / 8);
    rig.second();
    assert_eq!(rig.append(), Ok(second.plus(1)));
    assert_eq!(rig.said(), ["returned"]);
}

#[test]
fn a_log_made_below_the_mark_refuses_from_the_start_and_one_without_a_mark_never() {
    let mut rig = Rig::new(MARK - 1);
    assert!(matches!(rig.append(), Err(AppendError::NoSpace { .. })));
    let settings = LogSettings { min_free_bytes: 0, ..*rig.log.settings() };
    rig.log.update_settings(settings);
    rig.settle();
    assert_eq!(rig.append(), Ok(Offset::ZERO));
}

#[test]
fn a_new_log_knows_before_its_first_append() {
    let mut rig = Rig::unsettled(MARK - 1);
    while !rig.log.is_ready() {
        assert!(rig.turn());
    }
    assert!(matches!(rig.append(), Err(AppendError::NoSpace { .. })));
}

#[test]
fn a_share_of_the_room_used_up_is_a_reason_to_ask_without_time_passing() {
    let mut rig = Rig::new(2 * MARK);
    rig.disk.set_free(MARK - 1);
    let taken = (0..10_000).take_while(|_| rig.append().is_ok()).count() as u64;
    // At least a mebibyte is taken before the system is asked again, and not much more.
    assert!((300..800).contains(&taken), "{taken} batches of 3 KB");
    assert_eq!(rig.said(), ["low"]);
}

#[test]
fn an_idle_log_asks_nothing() {
    let mut rig = Rig::new(10 * MARK);
    rig.append().expect("there is room");
    for _ in 0..60 {
        rig.second();
    }
    rig.disk.set_free(0);
    for _ in 0..60 {
        rig.second();
    }
    assert_eq!(rig.said(), [""; 0]);
    assert!(rig.append().is_ok(), "the first append after a rest finds out");
    rig.second();
    assert!(matches!(rig.append(), Err(AppendError::NoSpace { .. })));
}

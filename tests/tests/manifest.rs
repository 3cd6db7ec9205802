//! Logs opened by their directory's manifest: not an operation is spent on those that nobody uses, nothing is lost
//! wherever the power goes between one clean stop and the next, and what somebody changed meanwhile is believed.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use highwater_base::{LeaderEpoch, Mono, Mutant, Offset, PartitionIndex, TopicPartition, Uuid};
use highwater_engine::batch::{BatchBuilder, Batches};
use highwater_engine::layout::MANIFEST;
use highwater_engine::{
    AppendError, Busy, DataDirectory, Log, LogEvent, LogSettings, Origin, Read, ReadError, StoppedLog,
};
use highwater_io::Completion;
use highwater_sim::{Loss, Moment, SimDisk, SimIo};
use highwater_tests::points::each;
use highwater_tests::scenario::{Judged, ensure, holds_and_catches, small};

const DATA: &str = "/data";
const LOGS: usize = 3;
const CLIENT: Origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };

fn partition(number: usize) -> TopicPartition {
    TopicPartition::new("orders", PartitionIndex::new(number as i32))
}

fn dir(number: usize) -> PathBuf {
    Path::new(DATA).join(partition(number).to_string())
}

/// The batch that log `number` is given at `offset`: the same each time, so that what is read can be judged.
fn batch(number: usize, offset: i64) -> Vec<u8> {
    let value = vec![number as u8 ^ offset as u8; 40 + (offset as usize * 97) % 1500];
    BatchBuilder::new().record(1_767_225_600_000 + offset, None, Some(&value)).build()
}

/// What was promised to whom: for each log the end of what is durable, of what is written, and of what was appended.
#[derive(Clone, Copy, PartialEq, Default)]
struct Known {
    synced: [i64; LOGS],
    appended: [i64; LOGS],
}

struct Point {
    at: String,
    disk: SimDisk,
    known: Known,
}

#[derive(Default)]
struct Shared {
    known: Known,
    points: Vec<Point>,
    operations: usize,
}

/// A data directory's logs on a simulated disk.
struct House {
    io: SimIo,
    logs: Vec<Log>,
    /// How many were opened by the manifest.
    listed: usize,
    notes: Vec<String>,
    shared: Rc<RefCell<Shared>>,
    closed: usize,
}

impl House {
    /// Opens what is on the disk, and makes what is not there.
    fn open(disk: SimDisk, settings: LogSettings, shared: Rc<RefCell<Shared>>) -> Result<House, String> {
        let mut io = SimIo::new(disk, 3);
        let watched = Rc::clone(&shared);
        io.watch(move |disk, event| {
            let mut shared = watched.borrow_mut();
            shared.operations += usize::from(event.moment == Moment::Submitted);
            let at = format!("operation {}: {} {:?}", shared.operations, event.name, event.moment);
            let known = shared.known;
            let same = |last: &Point| last.disk.version() == disk.version() && last.known == known;
            if !shared.points.last().is_some_and(same) {
                shared.points.push(Point { at, disk: disk.clone(), known });
            }
        });
        let now = io.clock().now();
        let directory = DataDirectory::open(&mut io, DATA.as_ref()).map_err(|error| error.to_string())?;
        let mut house =
            House { io, logs: Vec::new(), listed: 0, notes: directory.notes().to_vec(), shared, closed: 0 };
        for number in 0..LOGS {
            let (partition, owner) = (partition(number), number as u32 + 1);
            let hint = directory.hint(&partition);
            let listed = directory
                .listed(&partition)
                .and_then(|listed| Log::open_listed(now, &dir(number), owner, settings, hint, &listed));
            house.listed += usize::from(listed.is_some());
            let log = match listed {
                Some((log, _)) => log,
                None if directory.current().any(|found| *found == partition) => {
                    let opened = Log::open(&mut house.io, now, &dir(number), owner, settings, hint);
                    opened.map_err(|error| format!("log {number}: {error}"))?.0
                }
                None => Log::create(now, &dir(number), owner, settings, Uuid::ZERO),
            };
            house.logs.push(log);
        }
        for number in 0..LOGS {
            let end = house.logs[number].log_end().get();
            let mut shared = house.shared.borrow_mut();
            (shared.known.synced[number], shared.known.appended[number]) = (end, end);
        }
        house.until(|house| house.logs.iter().all(Log::is_ready));
        Ok(house)
    }

    fn new(settings: LogSettings) -> House {
        let mut disk = SimDisk::new();
        disk.put("/data/meta.properties", b"");
        House::open(disk, settings, Rc::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn turn(&mut self) -> Vec<(usize, LogEvent)> {
        let now = self.io.clock().now();
        let mut events = Vec::new();
        for (number, log) in self.logs.iter_mut().enumerate() {
            log.step(now, &mut self.io);
            events.extend(std::iter::from_fn(|| log.poll_event()).map(|event| (number, event)));
        }
        let mut out: Vec<Completion> = Vec::new();
        if !self.io.advance(&mut out) {
            self.io.clock().advance_to(now.mono.plus(Duration::from_millis(20)));
        }
        let now = self.io.clock().now();
        for completion in out {
            let log = &mut self.logs[completion.token.owner as usize - 1];
            log.complete(now, completion, &mut self.io);
        }
        for (number, log) in self.logs.iter().enumerate() {
            let mut shared = self.shared.borrow_mut();
            shared.known.synced[number] = shared.known.synced[number].max(log.synced_end().get());
        }
        self.closed += events.iter().filter(|(_, event)| matches!(event, LogEvent::Closed)).count();
        events
    }

    fn until(&mut self, done: impl Fn(&House) -> bool) {
        for _ in 0..10_000 {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("it does not come that far");
    }

    /// Appends one batch at the end of a log, which may have to wake for it.
    fn append(&mut self, number: usize) {
        let end = self.logs[number].log_end().get();
        let bytes = batch(number, end);
        // On its way: a crash may keep it.
        self.shared.borrow_mut().known.appended[number] = end + 1;
        for _ in 0..1000 {
            let now = self.io.clock().now();
            match self.logs[number].append(now, &bytes, CLIENT) {
                Ok(_) => return,
                Err(AppendError::Busy(Busy::Waking) | AppendError::Backpressure { .. }) => _ = self.turn(),
                Err(error) => panic!("log {number}: {error}"),
            }
        }
        panic!("log {number} does not wake");
    }

    fn sync(&mut self) {
        self.until(|house| house.logs.iter().all(|log| log.synced_end() == log.log_end()));
    }

    /// Everything that a log serves is what it was given.
    fn check(&mut self, number: usize) -> Judged {
        let (start, end) = (self.logs[number].log_start(), self.logs[number].log_end());
        self.check_range(number, start, end)
    }

    fn check_range(&mut self, number: usize, mut at: Offset, end: Offset) -> Judged {
        while at < end {
            let now = self.io.clock().now();
            let fetched = match self.logs[number].read(now, at, end, 10_000) {
                Ok(Read::Ready(fetched)) => fetched,
                Ok(Read::Pending(_)) => self.read_done(number)?,
                Err(error) => return Err(format!("log {number}: {error}")),
            };
            for found in Batches::in_memory(&fetched.to_vec()) {
                let found = found.map_err(|error| format!("log {number} at {at}: {error}"))?;
                let offset = found.stored_offset();
                // All but the offset and the epoch, which the log gave.
                let given = batch(number, offset.get());
                let same = offset == at && found.bytes()[16..] == given[16..];
                ensure(same, || format!("log {number}: at {at} is another batch, {offset}"))?;
                at = at.plus(1);
            }
        }
        Ok(())
    }

    fn read_done(&mut self, number: usize) -> Result<highwater_engine::Fetched, String> {
        for _ in 0..1000 {
            for (from, event) in self.turn() {
                if let LogEvent::ReadDone { result, .. } = event
                    && from == number
                {
                    return result.map_err(|error| format!("log {number}: {error}"));
                }
            }
        }
        Err(format!("a read of log {number} does not end"))
    }

    /// Stops in order.
    fn stop(mut self) -> SimDisk {
        self.logs.iter_mut().for_each(Log::close);
        self.until(|house| house.closed == LOGS);
        let stopped: Vec<StoppedLog> = self.logs.iter().filter_map(Log::stopped).collect();
        assert_eq!(stopped.len(), LOGS);
        // What is closed is promised: a manifest must not lose it.
        let directory = self.directory();
        directory.write_manifest(&mut self.io, stopped).expect("written");
        directory.stopped_cleanly(&mut self.io, 1).expect("written");
        self.io.disk().clone()
    }

    /// As it is now, opened on another disk: opening removes marker and manifest.
    fn directory(&self) -> DataDirectory {
        let mut aside = SimIo::new(SimDisk::new(), 1);
        DataDirectory::open(&mut aside, DATA.as_ref()).expect("an empty disk")
    }
}

fn reopened(disk: SimDisk, settings: LogSettings) -> House {
    House::open(disk, settings, Rc::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// A house of which log 0 has three segments, log 1 one and log 2 nothing, stopped.
fn stopped(settings: LogSettings) -> SimDisk {
    let mut house = House::new(settings);
    for _ in 0..40 {
        house.append(0);
        house.sync();
    }
    for _ in 0..5 {
        house.append(1);
    }
    house.sync();
    assert!(house.logs[0].segment_count() >= 2, "{} segments", house.logs[0].segment_count());
    house.stop()
}

#[test]
fn a_log_that_nobody_uses_costs_no_operation_and_stays_as_it_is() {
    let settings = LogSettings { scrub_bytes_a_day: 0, ..small(Mutant::None) };
    let before = stopped(settings);
    let mut house = reopened(before.clone(), settings);
    assert_eq!((house.listed, house.notes.len()), (LOGS, 0));
    let opening = house.shared.borrow().operations;
    for _ in 0..50 {
        house.turn();
    }
    let last = house.shared.borrow().points.last().map(|point| point.at.clone());
    assert_eq!(house.shared.borrow().operations, opening, "nobody asked for anything: {last:?}");
    let after = house.stop();
    let mut differ = before.image();
    for (path, thing) in after.image() {
        if differ.get(&path) == Some(&thing) {
            differ.remove(&path);
        }
    }
    assert_eq!(differ.keys().collect::<Vec<_>>(), Vec::<&PathBuf>::new());
    // And again, the manifest too.
    let mut house = reopened(after, settings);
    assert_eq!(house.listed, LOGS);
    (0..LOGS).for_each(|number| house.check(number).unwrap());
}

#[test]
fn the_first_use_wakes_a_log_whatever_it_is() {
    let settings = small(Mutant::None);
    let disk = stopped(settings);
    let now = |house: &House| house.io.clock().now();

    let mut house = reopened(disk.clone(), settings);
    let at = now(&house);
    let refused = house.logs[1].append(at, &batch(1, 5), CLIENT);
    assert_eq!(refused, Err(AppendError::Busy(Busy::Waking)));
    (0..LOGS).for_each(|number| house.append(number));
    house.sync();
    (0..LOGS).for_each(|number| house.check(number).unwrap());
    let mut house = reopened(house.stop(), settings);
    assert_eq!(house.listed, LOGS);
    (0..LOGS).for_each(|number| house.check(number).unwrap());

    // Cut within what is not in memory, and appended to again.
    let mut house = reopened(disk.clone(), settings);
    house.logs[0].truncate(Offset::new(39));
    house.until(|house| house.logs[0].is_ready());
    assert_eq!(house.logs[0].log_end(), Offset::new(39));
    house.append(0);
    house.sync();
    house.check(0).unwrap();

    // Trimmed and stopped without ever being awake: the start is kept.
    let mut house = reopened(disk.clone(), settings);
    house.logs[1].trim(Offset::new(3));
    house.turn();
    let mut house = reopened(house.stop(), settings);
    assert_eq!((house.listed, house.logs[1].log_start()), (LOGS, Offset::new(3)));
    house.check(1).unwrap();

    // Dropped as a whole by age, which needs a new segment.
    let soon = LogSettings { retention_ms: Some(1), ..settings };
    let mut house = reopened(disk.clone(), soon);
    house.io.clock().advance_to(now(&house).mono.plus(Duration::from_secs(3600)));
    house.logs.iter_mut().for_each(|log| log.set_high_watermark(log.log_end()));
    house.until(|house| house.logs[0].log_start() == house.logs[0].log_end());
    house.append(0);
    house.sync();
    house.check(0).unwrap();

    // Removed.
    let mut house = reopened(disk, settings);
    let at = now(&house);
    house.logs[0].append(at, &batch(0, 40), CLIENT).unwrap_err();
    house.logs[0].delete();
    house.until(|house| house.io.disk().image().keys().all(|path| !path.starts_with(dir(0))));
}

/// What was there when the power went must be there, and goes on.
fn judge(disk: SimDisk, known: &Known, settings: LogSettings) -> Judged {
    let mut house = House::open(disk, settings, Rc::default())?;
    for number in 0..LOGS {
        let (end, synced) = (house.logs[number].log_end().get(), known.synced[number]);
        let most = known.appended[number].max(synced);
        ensure((synced..=most).contains(&end), || {
            format!("log {number} ends at {end}, of {synced} durable and {most} appended")
        })?;
        house.check(number)?;
        house.append(number);
    }
    house.sync();
    (0..LOGS).try_for_each(|number| house.check(number))
}

#[test]
fn the_power_goes_at_any_operation_between_two_clean_stops() {
    let settings = small(Mutant::None);
    let shared: Rc<RefCell<Shared>> = Rc::default();
    shared.borrow_mut().known = Known { synced: [40, 5, 0], appended: [40, 5, 0] };
    let open =
        |disk| House::open(disk, settings, Rc::clone(&shared)).unwrap_or_else(|error| panic!("{error}"));
    let mut house = open(stopped(settings));
    for _ in 0..6 {
        house.append(0);
        house.append(1);
        house.sync();
    }
    house.check(1).unwrap();
    let mut house = open(house.stop());
    assert_eq!(house.listed, LOGS);
    house.append(2);
    house.sync();
    // It dies; then everything is opened by itself.
    let left = house.io.disk().power_cut(Loss::Unsynced, 5);
    drop(house);
    let mut house = open(left);
    assert_eq!(house.listed, 0);
    house.append(1);
    house.sync();
    let house = open(house.stop());
    assert_eq!(house.listed, LOGS);
    drop(house.stop());
    let points = std::mem::take(&mut shared.borrow_mut().points);
    println!("{} points", points.len());
    assert!(points.len() > 300);
    let judged = each(&points, |index, point| {
        for (policy, loss) in Loss::POWER_CUTS.into_iter().chain([Loss::Kill]).enumerate() {
            let disk = point.disk.power_cut(loss, (index * 16 + policy) as u64);
            judge(disk, &point.known, settings).map_err(|what| format!("{}, {loss:?}: {what}", point.at))?;
        }
        Ok(())
    });
    assert_eq!(judged, Ok(()));
}

/// Another program that stopped cleanly, too, did this to the directory.
#[derive(Clone, Copy, Debug)]
enum Change {
    Appends,
    CutsSegment,
    RemovesSegment,
}

/// The base of the last segment of log 0.
fn last_base(disk: &SimDisk) -> i64 {
    let image = disk.image();
    let logs = image
        .keys()
        .filter(|path| path.starts_with(dir(0)) && path.extension().is_some_and(|kind| kind == "log"));
    let bases = logs.filter_map(|path| path.file_stem()?.to_str()?.parse().ok());
    bases.max().expect("a segment")
}

fn changed(mut disk: SimDisk, change: Change) -> SimDisk {
    let log = |base: i64| dir(0).join(format!("{base:020}.log"));
    let last = last_base(&disk);
    let bytes = disk.contents(log(last)).expect("a segment");
    let mut io = SimIo::new(disk.clone(), 4);
    io.clock().advance_to(Mono::ZERO.plus(Duration::from_secs(100)));
    match change {
        Change::Appends => {
            let mut next = batch(0, 40);
            highwater_engine::batch::set_base_offset(&mut next, Offset::new(40));
            highwater_engine::batch::set_leader_epoch(&mut next, LeaderEpoch::ZERO);
            highwater_engine::replace_file(&mut io, &log(last), [bytes, next].concat()).unwrap();
        }
        Change::CutsSegment => {
            let first = Batches::in_memory(&bytes).next().expect("a batch").expect("a batch").end();
            highwater_engine::replace_file(&mut io, &log(last), bytes[..first].to_vec()).unwrap();
        }
        Change::RemovesSegment => {
            let path = log(last);
            highwater_io::blocking::run(&mut io, highwater_io::Op::Unlink { path }).unwrap();
        }
    }
    disk = io.disk().clone();
    disk
}

#[test]
fn a_log_that_somebody_changed_is_opened_by_what_is_there() {
    for change in [Change::Appends, Change::CutsSegment, Change::RemovesSegment] {
        holds_and_catches(Mutant::ManifestTrusted, |mutant| {
            let settings = small(mutant);
            let stopped = stopped(settings);
            let last = Offset::new(last_base(&stopped));
            let left = changed(stopped, change);
            let by_itself = {
                let mut disk = left.clone();
                disk.put(Path::new(DATA).join(MANIFEST), b"none");
                reopened(disk, small(Mutant::None)).logs[0].log_end()
            };
            let mut house = reopened(left, settings);
            ensure(house.logs[0].log_end() == by_itself, || {
                format!("{change:?}: it ends at {}, not at {by_itself}", house.logs[0].log_end())
            })?;
            ensure(house.listed == LOGS - 1, || format!("{change:?}: {} of the manifest", house.listed))?;
            house.append(0);
            house.sync();
            if let Change::RemovesSegment = change {
                // Of its last segment only offsets are known.
                let now = house.io.clock().now();
                let until = by_itself;
                let refused = house.logs[0].read(now, last, until, 1);
                let told = matches!(refused, Err(ReadError::Damaged { from, until: to, .. }) if (from, to) == (last, until));
                ensure(told, || format!("{change:?}: {refused:?}"))?;
                house.check_range(0, Offset::ZERO, last)?;
                house.check_range(0, until, until.plus(1))?;
                return (1..LOGS).try_for_each(|number| house.check(number));
            }
            (0..LOGS).try_for_each(|number| house.check(number))
        });
    }
}

#[test]
fn every_flipped_bit_of_a_manifest_is_noticed_and_costs_nothing_but_time() {
    let settings = small(Mutant::None);
    let disk = stopped(settings);
    let good = disk.contents(Path::new(DATA).join(MANIFEST)).expect("a manifest");
    let flips: Vec<usize> = (0..good.len() * 8).step_by(7).collect();
    let judged = each(&flips, |_, bit| {
        let (mut disk, mut bytes) = (disk.clone(), good.clone());
        bytes[bit / 8] ^= 1 << (bit % 8);
        disk.put(Path::new(DATA).join(MANIFEST), &bytes);
        let mut house = House::open(disk, settings, Rc::default())?;
        let line = house.notes.first().cloned().unwrap_or_default();
        ensure(house.listed == 0 && line.contains("it is ignored"), || format!("bit {bit}: {line:?}"))?;
        let ends: Vec<i64> = house.logs.iter().map(|log| log.log_end().get()).collect();
        ensure(ends == [40, 5, 0], || format!("bit {bit}: ends {ends:?}"))?;
        (0..LOGS).try_for_each(|number| house.check(number))
    });
    assert_eq!(judged, Ok(()));
}

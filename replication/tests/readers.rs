//! Readers of a partition over a real log: how far they see, when they wake, what they find by name and by time, and
//! many at once on a disk.

mod rig;

use std::time::Duration;

use highwater_base::{LeaderEpoch, Limits, Offset, WallMs};
use highwater_engine::LogSettings;
use highwater_replication::{Acks, Isolation, ListedOffset, Outcome, PartitionError, ReadRequest, Reply};
use rig::{Mode, Rig, batch, offsets, sized};

const UNCOMMITTED: Isolation = Isolation::ReadUncommitted;

fn each() -> LogSettings {
    LogSettings { limits: Limits::TINY, ..LogSettings::default() }
}

fn from(offset: i64) -> ReadRequest {
    ReadRequest::new(Offset::new(offset), UNCOMMITTED, 1 << 20)
}

#[test]
fn nobody_reads_what_is_not_committed() {
    let mut rig = Rig::new(each());
    rig.produced(batch(2), Acks::All);
    rig.io.set(Mode::HoldSyncs);
    assert!(matches!(rig.produce(batch(3), Acks::All, 1), Outcome::Parked));
    rig.settle();
    let done = rig.read(from(0)).unwrap();
    assert_eq!((offsets(&done), done.high_watermark), (vec![(0, 1)], Offset::new(2)));
    let nothing = rig.read(from(3)).unwrap();
    assert_eq!((nothing.data.len(), nothing.next), (0, Offset::new(3)), "it is there, but not committed");
    assert!(matches!(rig.read(from(6)), Err(PartitionError::OffsetOutOfRange { .. })));
    rig.io.set(Mode::Pass);
    rig.settle();
    assert_eq!(offsets(&rig.read(from(2)).unwrap()), [(2, 4)]);
}

#[test]
fn a_long_poll_wakes_when_there_is_more_and_else_at_its_deadline() {
    let mut rig = Rig::new(each());
    let soon = rig.now.mono.plus(Duration::from_millis(500));
    let wait = |rig: &mut Rig, beyond, key| {
        rig.partition.await_readable(Offset::new(beyond), UNCOMMITTED, soon, key)
    };
    assert!(matches!(wait(&mut rig, 0, 1), Outcome::Parked));
    assert!(matches!(wait(&mut rig, 2, 2), Outcome::Parked));
    assert!(matches!(wait(&mut rig, 9, 3), Outcome::Parked));
    rig.io.set(Mode::HoldSyncs);
    assert!(matches!(rig.produce(batch(2), Acks::None, 9), Outcome::Now(Ok(_))));
    rig.settle();
    assert!(rig.answers.is_empty(), "nothing is committed yet");
    rig.io.set(Mode::Pass);
    rig.settle();
    assert!(matches!(rig.answer(1), Some(Ok(Reply::Readable))));
    assert!(rig.answer(2).is_none(), "the high watermark is at 2, not beyond");
    assert!(matches!(wait(&mut rig, 1, 4), Outcome::Now(Ok(()))));
    rig.partition.forget(3);
    rig.pass(Duration::from_millis(500));
    assert!(matches!(rig.answer(2), Some(Ok(Reply::Readable))));
    assert!(rig.answers.is_empty(), "3 was given up");
}

#[test]
fn a_reader_whose_log_parts_from_ours_is_told_where() {
    let mut rig = Rig::new(each());
    rig.produced(batch(2), Acks::All);
    rig.lead(5);
    rig.produced(batch(2), Acks::All);
    let of = |epoch, offset| ReadRequest { last_fetched_epoch: LeaderEpoch::new(epoch), ..from(offset) };
    let diverging = rig.read(of(1, 3)).unwrap().diverging.expect("epoch 1 ended at 2");
    assert_eq!((diverging.epoch, diverging.end), (LeaderEpoch::new(1), Offset::new(2)));
    assert!(rig.read(of(1, 2)).unwrap().diverging.is_none());
    assert!(rig.read(of(5, 3)).unwrap().diverging.is_none());
    assert_eq!(rig.read(of(6, 3)).unwrap_err().kafka_code(), 1);
}

#[test]
fn offsets_are_found_by_name_and_by_time() {
    let mut rig = Rig::new(each());
    rig.produced(batch(3), Acks::All);
    rig.produced(batch(5), Acks::All);
    let (t0, none) = (1_700_000_000_000, WallMs::NONE);
    let epoch = LeaderEpoch::new(1);
    let at = |offset, timestamp| ListedOffset { offset: Offset::new(offset), timestamp, epoch };
    assert_eq!(rig.find(-1), at(8, none));
    assert_eq!(rig.find(-2), at(0, none));
    assert_eq!(rig.find(-4), at(0, none));
    assert_eq!(rig.find(-5), ListedOffset::NOTHING);
    assert_eq!(rig.find(-3), at(7, WallMs::new(t0 + 4)));
    assert_eq!(rig.find(t0 + 1), at(1, WallMs::new(t0 + 1)));
    assert_eq!(rig.find(t0 + 3), at(6, WallMs::new(t0 + 3)));
    assert_eq!(rig.find(t0 + 5), ListedOffset::NOTHING);
}

#[test]
fn a_time_whose_record_is_not_committed_is_not_found() {
    let mut rig = Rig::new(each());
    rig.io.set(Mode::HoldSyncs);
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    assert_eq!(rig.find(-3), ListedOffset::NOTHING);
    rig.io.set(Mode::Pass);
    rig.settle();
    assert_eq!(rig.find(-3).offset, Offset::ZERO);
}

#[test]
fn requests_of_other_leader_epochs_are_fenced() {
    let mut rig = Rig::new(each());
    rig.lead(4);
    rig.produced(batch(1), Acks::All);
    let read = |epoch| ReadRequest { current_epoch: LeaderEpoch::new(epoch), ..from(0) };
    assert_eq!(rig.read(read(3)).unwrap_err().kafka_code(), 74);
    assert_eq!(rig.read(read(5)).unwrap_err().kafka_code(), 75);
    assert_eq!(offsets(&rig.read(read(4)).unwrap()), [(0, 0)]);
    let (none, four) = (LeaderEpoch::NONE, LeaderEpoch::new(4));
    assert_eq!(rig.partition.epoch_end(four, LeaderEpoch::new(3)).unwrap_err().kafka_code(), 74);
    let end = rig.partition.epoch_end(four, none).unwrap();
    assert_eq!((end.epoch, end.end), (four, Offset::new(1)));
    assert!(!rig.partition.epoch_end(LeaderEpoch::new(9), none).unwrap().is_defined());
}

#[test]
fn more_readers_than_the_log_takes_at_once_wait_for_their_turn() {
    let mut rig = Rig::new(each());
    for _ in 0..100 {
        rig.produced(sized(1, 1000), Acks::None);
    }
    let mut parked = Vec::new();
    for key in 0..200 {
        let request = ReadRequest { max_bytes: 1, ..from(key as i64 / 4) };
        match rig.partition.read(rig.now, request, key) {
            Outcome::Now(result) => panic!("the tail does not reach back so far: {result:?}"),
            Outcome::Parked => parked.push(key),
        }
    }
    assert_eq!(rig.partition.parked(), 200);
    rig.settle();
    for key in parked {
        let answer = rig.answer(key);
        let Some(Ok(Reply::Read(done))) = answer else { panic!("{answer:?}") };
        let offset = key as i64 / 4;
        assert_eq!(offsets(&done), [(offset, offset)]);
    }
    assert_eq!(rig.partition.parked(), 0);
}

#[test]
fn readers_that_wait_for_their_turn_are_answered_when_the_leader_changes() {
    let mut rig = Rig::new(each());
    for _ in 0..100 {
        rig.produced(sized(1, 1000), Acks::None);
    }
    for key in 0..200 {
        assert!(matches!(rig.partition.read(rig.now, from(0), key), Outcome::Parked));
    }
    rig.partition.delete(rig.now);
    rig.settle();
    assert_eq!(rig.answers.len(), 200);
    assert!(rig.answers.iter().all(|answer| matches!(answer.reply, Err(PartitionError::NotLeader { .. }))));
}

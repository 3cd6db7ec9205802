//! A partition with one replica over a real log: acknowledgements, readers, deadlines, and what a failed log means to
//! all who wait.

mod rig;

use std::time::Duration;

use highwater_base::{LeaderEpoch, Limits, Mono, Offset};
use highwater_engine::{Durability, LogSettings};
use highwater_isr::Assignment;
use highwater_replication::{
    Acks, Isolation, Outcome, PartitionError, PartitionSettings, ReadRequest, Reply,
};
use rig::{ME, Mode, Rig, batch, numbered, offsets, sized};

const UNCOMMITTED: Isolation = Isolation::ReadUncommitted;

fn each() -> LogSettings {
    LogSettings { limits: Limits::TINY, ..LogSettings::default() }
}

fn os() -> LogSettings {
    LogSettings { durability: Durability::Os, ..each() }
}

fn from(offset: i64) -> ReadRequest {
    ReadRequest::new(Offset::new(offset), UNCOMMITTED, 1 << 20)
}

#[test]
fn all_and_leader_wait_for_the_sync_and_none_for_nothing() {
    let mut rig = Rig::new(each());
    rig.io.set(Mode::HoldSyncs);
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    assert!(matches!(rig.produce(batch(1), Acks::Leader, 2), Outcome::Parked));
    assert!(
        matches!(rig.produce(batch(1), Acks::None, 3), Outcome::Now(Ok(done)) if done.first == Offset::new(2))
    );
    rig.settle();
    assert!(rig.answers.is_empty(), "written is not synced: {:?}", rig.answers);
    assert_eq!(rig.partition.high_watermark(), Offset::ZERO);
    rig.io.set(Mode::Pass);
    rig.settle();
    assert!(matches!(rig.answer(1), Some(Ok(Reply::Produced(done))) if done.first == Offset::ZERO));
    assert!(matches!(rig.answer(2), Some(Ok(Reply::Produced(done))) if done.first == Offset::new(1)));
    assert!(rig.answers.is_empty());
    assert_eq!(rig.partition.high_watermark(), Offset::new(3));
}

#[test]
fn with_durability_os_the_write_is_enough_and_less_is_not() {
    let mut rig = Rig::new(os());
    rig.io.set(Mode::HoldWrites);
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    assert!(matches!(rig.produce(batch(1), Acks::Leader, 2), Outcome::Parked));
    rig.settle();
    assert!(rig.answers.is_empty(), "{:?}", rig.answers);
    rig.io.set(Mode::HoldSyncs);
    rig.settle();
    assert!(rig.answer(1).is_some_and(|reply| reply.is_ok()));
    assert!(rig.answer(2).is_some_and(|reply| reply.is_ok()));
}

#[test]
fn a_duplicate_is_answered_like_the_original_and_no_sooner() {
    let mut rig = Rig::new(each());
    rig.produced(batch(4), Acks::All);
    assert_eq!(rig.produced(numbered(0), Acks::All), Offset::new(4));
    assert_eq!(rig.produced(numbered(0), Acks::All), Offset::new(4));
    rig.io.set(Mode::HoldSyncs);
    for key in [1, 2] {
        assert!(matches!(rig.produce(numbered(1), Acks::All, key), Outcome::Parked));
    }
    assert!(matches!(rig.produce(numbered(1), Acks::Leader, 3), Outcome::Parked));
    rig.settle();
    assert!(rig.answers.is_empty(), "the original is not acknowledged yet");
    rig.io.set(Mode::Pass);
    rig.settle();
    for (key, duplicate) in [(1, false), (2, true), (3, true)] {
        let answer = rig.answer(key);
        let Some(Ok(Reply::Produced(done))) = answer else { panic!("{answer:?}") };
        assert_eq!((done.first, done.duplicate), (Offset::new(5), duplicate));
    }
    assert_eq!(rig.partition.log().log_end(), Offset::new(6));
    let gap = rig.produce(numbered(7), Acks::All, 4);
    assert!(matches!(gap, Outcome::Now(Err(error)) if error.kafka_code() == 45));
}

#[test]
fn a_corrupt_batch_is_refused_and_not_stored() {
    let mut rig = Rig::new(each());
    let mut bytes = batch(1);
    *bytes.last_mut().unwrap() ^= 1;
    assert!(matches!(rig.produce(bytes, Acks::All, 1), Outcome::Now(Err(error)) if error.kafka_code() == 2));
    assert_eq!(rig.partition.log().log_end(), Offset::ZERO);
}

#[test]
fn a_produce_past_its_deadline_is_told_so_once() {
    let mut rig = Rig::new(each());
    rig.io.set(Mode::HoldSyncs);
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    assert!(matches!(rig.produce(batch(1), Acks::Leader, 2), Outcome::Parked));
    rig.pass(Duration::from_secs(29));
    assert!(rig.answers.is_empty());
    let due = rig.partition.step(rig.now, &mut rig.io).expect("a deadline");
    assert!(due <= Mono::from_nanos(30_000_000_000));
    rig.pass(Duration::from_secs(1));
    for key in [1, 2] {
        assert!(matches!(rig.answer(key), Some(Err(PartitionError::TimedOut))));
    }
    rig.io.set(Mode::Pass);
    rig.settle();
    assert!(rig.answers.is_empty(), "one answer each");
    assert_eq!(rig.partition.high_watermark(), Offset::new(2), "the batches are there all the same");
}

#[test]
fn requests_wait_for_a_log_that_is_being_made_in_their_order() {
    let mut rig = Rig::creating(each());
    for key in 0..3 {
        assert!(matches!(rig.produce(numbered(key as i32), Acks::All, key), Outcome::Parked));
    }
    assert!(matches!(rig.produce(batch(1), Acks::None, 3), Outcome::Parked));
    assert!(rig.read(from(0)).unwrap().data.is_empty());
    rig.settle();
    for key in 0..4 {
        let answer = rig.answer(key);
        assert!(
            matches!(answer, Some(Ok(Reply::Produced(done))) if done.first.get() == key as i64),
            "{answer:?}"
        );
    }
}

#[test]
fn a_log_with_too_much_staged_holds_batches_back_and_loses_none_and_swaps_none() {
    let mut rig = Rig::new(each());
    rig.io.set(Mode::HoldWrites);
    let mut parked = Vec::new();
    for key in 0..40 {
        match rig.produce(sized(1, 2000), Acks::All, key) {
            Outcome::Parked => parked.push(key),
            Outcome::Now(result) => panic!("{result:?}"),
        }
    }
    let staged = rig.partition.log().log_end().get();
    assert!((1..40).contains(&staged), "{staged} batches were staged");
    assert!(rig.answers.is_empty());
    rig.io.set(Mode::Pass);
    rig.settle();
    for key in parked {
        let answer = rig.answer(key);
        assert!(
            matches!(answer, Some(Ok(Reply::Produced(done))) if done.first.get() == key as i64),
            "{answer:?}"
        );
    }
    assert_eq!(rig.partition.high_watermark(), Offset::new(40));
}

#[test]
fn a_held_batch_past_its_deadline_is_never_appended() {
    let mut rig = Rig::new(each());
    rig.io.set(Mode::HoldWrites);
    for key in 0..40 {
        assert!(matches!(rig.produce(sized(1, 2000), Acks::All, key), Outcome::Parked));
    }
    let staged = rig.partition.log().log_end();
    rig.pass(Duration::from_secs(30));
    assert_eq!(rig.answers.len(), 40);
    assert!(rig.answers.drain(..).all(|answer| matches!(answer.reply, Err(PartitionError::TimedOut))));
    rig.io.set(Mode::Pass);
    rig.settle();
    assert_eq!(rig.partition.log().log_end(), staged);
    assert_eq!(rig.partition.parked(), 0);
}

#[test]
fn a_failed_log_answers_everybody_who_waits_and_takes_nothing_more() {
    let mut rig = Rig::new(each());
    rig.produced(batch(1), Acks::All);
    rig.io.set(Mode::HoldSyncs);
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    assert!(matches!(rig.produce(batch(1), Acks::Leader, 2), Outcome::Parked));
    let never = Mono::MAX;
    assert!(matches!(rig.partition.await_readable(Offset::new(5), UNCOMMITTED, never, 3), Outcome::Parked));
    rig.settle();
    rig.io.set(Mode::FailSyncs);
    rig.settle();
    for key in [1, 2] {
        let answer = rig.answer(key);
        assert!(matches!(&answer, Some(Err(PartitionError::Storage(_)))), "{answer:?}");
    }
    assert!(matches!(rig.answer(3), Some(Ok(Reply::Readable))));
    assert_eq!(rig.partition.parked(), 0);
    assert!(rig.partition.failure().is_some());
    for outcome in [rig.produce(batch(1), Acks::All, 4), rig.produce(batch(1), Acks::None, 5)] {
        assert!(matches!(outcome, Outcome::Now(Err(error)) if error.kafka_code() == 56));
    }
    assert_eq!(rig.read(from(0)).unwrap_err().kafka_code(), 56);
    assert_eq!(rig.partition.high_watermark(), Offset::new(1), "what was not synced was never committed");
    rig.lead(9);
    assert!(!rig.partition.is_leader(), "it stays so until it is opened again");
}

#[test]
fn another_leader_answers_everybody_who_waits() {
    let mut rig = Rig::new(each());
    rig.io.set(Mode::HoldSyncs);
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    let gone = Assignment {
        leader: highwater_base::BrokerId::NONE,
        ..Assignment::standalone(ME, LeaderEpoch::new(2), highwater_base::PartitionEpoch::new(2))
    };
    rig.partition.assign(rig.now, gone);
    rig.settle();
    assert!(matches!(rig.answer(1), Some(Err(error)) if error.kafka_code() == 6));
    assert_eq!(rig.read(from(0)).unwrap_err().kafka_code(), 6);
    let outcome = rig.produce(batch(1), Acks::All, 2);
    assert!(matches!(outcome, Outcome::Now(Err(error)) if error.kafka_code() == 6));
}

#[test]
fn records_are_deleted_up_to_the_high_watermark_and_no_further() {
    let mut rig = Rig::new(each());
    for _ in 0..4 {
        rig.produced(batch(2), Acks::All);
    }
    let delete = |rig: &mut Rig, to: i64| {
        let outcome = rig.partition.delete_records(rig.now, Offset::new(to), Mono::MAX, 5);
        rig.settle();
        match outcome {
            Outcome::Now(result) => result,
            Outcome::Parked => match rig.answer(5) {
                Some(Ok(Reply::Deleted { low_watermark })) => Ok(low_watermark),
                other => panic!("{other:?}"),
            },
        }
    };
    assert_eq!(delete(&mut rig, 9).unwrap_err().kafka_code(), 1);
    assert_eq!(delete(&mut rig, -2).unwrap_err().kafka_code(), 1);
    assert_eq!(delete(&mut rig, 3).unwrap(), Offset::new(3));
    assert_eq!(delete(&mut rig, 1).unwrap(), Offset::new(3), "what is gone is gone");
    assert_eq!(rig.read(from(2)).unwrap_err().kafka_code(), 1);
    assert_eq!(offsets(&rig.read(from(3)).unwrap())[0], (2, 3), "the batch that holds the offset (R21)");
    assert_eq!(delete(&mut rig, -1).unwrap(), Offset::new(8));
    assert!(rig.read(from(8)).unwrap().data.is_empty());
    assert_eq!(rig.produced(batch(1), Acks::All), Offset::new(8));
    let settings = PartitionSettings { deletable: false, ..PartitionSettings::default() };
    rig.partition.update_settings(rig.now, each(), settings);
    assert_eq!(delete(&mut rig, 8).unwrap_err().kafka_code(), 44);
}

#[test]
fn everything_committed_is_there_after_a_stop_clean_or_not_under_a_new_epoch() {
    let mut rig = Rig::new(each());
    for clean in [true, false, true] {
        let first = rig.produced(batch(3), Acks::All);
        rig.reopen(clean, each());
        assert_eq!(rig.partition.high_watermark(), first.plus(3));
        assert_eq!(rig.partition.log().latest_epoch(), rig.partition.leader_epoch());
        assert_eq!(rig.find(-1).offset, first.plus(3));
        assert_eq!(
            offsets(&rig.read(from(first.get())).unwrap()).last(),
            Some(&(first.get(), first.get() + 2))
        );
    }
    assert_eq!(rig.produced(batch(1), Acks::All), Offset::new(9));
}

#[test]
fn closing_makes_good_what_waits_and_refuses_the_rest() {
    let mut rig = Rig::new(os());
    rig.io.set(Mode::HoldWrites);
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    assert!(matches!(
        rig.partition.await_readable(Offset::new(9), UNCOMMITTED, Mono::MAX, 2),
        Outcome::Parked
    ));
    rig.partition.close(rig.now);
    let late = rig.produce(batch(1), Acks::All, 3);
    assert!(matches!(late, Outcome::Now(Err(error)) if error.kafka_code() == 6));
    rig.settle();
    assert!(rig.answers.is_empty());
    rig.io.set(Mode::Pass);
    rig.settle();
    assert!(rig.partition.is_closed());
    assert!(matches!(rig.answer(1), Some(Ok(Reply::Produced(_)))));
    assert!(matches!(rig.answer(2), Some(Ok(Reply::Readable))));
    assert_eq!(rig.partition.parked(), 0);
}

#[test]
fn deleting_refuses_what_waits_and_removes_the_files() {
    let mut rig = Rig::new(each());
    rig.io.set(Mode::HoldSyncs);
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    rig.partition.delete(rig.now);
    rig.io.set(Mode::Pass);
    rig.settle();
    assert!(matches!(rig.answer(1), Some(Err(error)) if error.kafka_code() == 6));
    assert!(rig.partition.is_deleted());
    for _ in 0..5 {
        rig.pass(Duration::from_secs(60));
    }
    assert!(rig.partition.is_removed());
}

#[test]
fn too_many_waiting_requests_are_refused_and_change_nothing() {
    let mut rig = Rig::new(each());
    let settings = PartitionSettings { parked: 2, ..PartitionSettings::default() };
    rig.partition.update_settings(rig.now, each(), settings);
    rig.io.set(Mode::HoldSyncs);
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    assert!(matches!(rig.produce(batch(1), Acks::All, 2), Outcome::Parked));
    let refused = rig.produce(batch(1), Acks::All, 3);
    assert!(matches!(refused, Outcome::Now(Err(PartitionError::TooManyParked { limit: 2 }))));
    assert_eq!(rig.partition.log().log_end(), Offset::new(2));
}

#[test]
fn a_stronger_durability_holds_from_then_on_and_takes_nothing_back() {
    let mut rig = Rig::new(os());
    rig.io.set(Mode::HoldSyncs);
    rig.produced(batch(1), Acks::All);
    rig.partition.update_settings(rig.now, each(), PartitionSettings::default());
    assert_eq!(rig.partition.high_watermark(), Offset::new(1));
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    rig.settle();
    assert!(rig.answers.is_empty(), "{:?}", rig.answers);
    rig.io.set(Mode::Pass);
    rig.settle();
    assert!(matches!(rig.answer(1), Some(Ok(Reply::Produced(_)))));
    assert_eq!(rig.partition.log().synced_end(), Offset::new(2));
}

#[test]
fn records_that_were_committed_unsynced_may_be_deleted_after_a_change_to_each() {
    let mut rig = Rig::new(os());
    rig.io.set(Mode::HoldSyncs);
    rig.produced(batch(3), Acks::All);
    rig.partition.update_settings(rig.now, each(), PartitionSettings::default());
    let outcome = rig.partition.delete_records(rig.now, Offset::new(3), Mono::MAX, 1);
    rig.settle();
    assert!(matches!(outcome, Outcome::Now(Ok(low)) if low == Offset::new(3)) || rig.answer(1).is_some());
    rig.io.set(Mode::Pass);
    assert_eq!(rig.produced(batch(1), Acks::All), Offset::new(3));
    assert_eq!(rig.partition.high_watermark(), Offset::new(4));
}

#[test]
fn a_failed_log_can_be_deleted() {
    let mut rig = Rig::new(each());
    rig.io.set(Mode::FailSyncs);
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    rig.settle();
    assert!(matches!(rig.answer(1), Some(Err(PartitionError::Storage(_)))));
    rig.io.set(Mode::Pass);
    rig.partition.delete(rig.now);
    rig.settle();
    assert!(rig.partition.is_deleted());
    assert!(matches!(
        rig.produce(batch(1), Acks::All, 2),
        Outcome::Now(Err(PartitionError::NotLeader { .. }))
    ));
}

#[test]
fn a_log_that_is_deleted_while_it_is_made_is_made_and_goes() {
    let mut rig = Rig::creating(each());
    assert!(matches!(rig.produce(batch(1), Acks::All, 1), Outcome::Parked));
    rig.partition.delete(rig.now);
    rig.settle();
    assert!(matches!(rig.answer(1), Some(Err(PartitionError::NotLeader { .. }))));
    assert!(rig.partition.is_deleted());
}

#[test]
fn a_full_device_answers_those_who_wait_for_it_at_once_and_keeps_their_batches() {
    let mut rig = Rig::new(each());
    rig.produced(batch(1), Acks::All);
    rig.io.set(Mode::Full);
    assert!(matches!(rig.produce(numbered(0), Acks::All, 1), Outcome::Parked));
    assert!(matches!(rig.produce(batch(1), Acks::Leader, 2), Outcome::Parked));
    rig.settle();
    for key in [1, 2] {
        let Some(Err(error)) = rig.answer(key) else { panic!("{key} waits on: {:?}", rig.answers) };
        assert_eq!(error.kafka_code(), 56);
        assert!(error.to_string().contains("/t-0"), "{error}");
    }
    // The next is refused as it comes, and what was committed is served.
    let Outcome::Now(Err(error)) = rig.produce(batch(1), Acks::All, 3) else { panic!("taken") };
    assert_eq!(error.kafka_code(), 56);
    assert_eq!(rig.partition.high_watermark(), Offset::new(1));
    assert!(rig.answers.is_empty(), "{:?}", rig.answers);
    // Space returns: they are written after all, once each, also for who sends again.
    rig.io.set(Mode::Pass);
    rig.now.mono = rig.now.mono.plus(Duration::from_secs(10));
    rig.settle();
    assert_eq!(rig.partition.high_watermark(), Offset::new(3));
    assert_eq!(rig.produced(numbered(0), Acks::All), Offset::new(1));
    assert_eq!(rig.partition.log().log_end(), Offset::new(3));
}

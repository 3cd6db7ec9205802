//! Parking and waking.

use std::time::Duration;

use highwater_base::{BLOCK, FilePos};

use super::{Case, Driver};
use crate::{Op, OpenHow, Outcome};

pub(super) const CASES: &[Case] = &[
    ("a wake before the park ends it", wake_before_park),
    ("a wake survives reaping", wake_survives_reaping),
    ("a wake from another thread ends a park", wake_from_afar),
    ("a park ends with its timeout", park_times_out),
    ("a turn comes, whether asked for before writes or behind them", turns_come),
    ("idle time comes, beside writes and to whoever only reaps", idle_time_comes),
    ("wakers outlive their instance", waker_outlives),
    ("an instance may go while operations are in flight", dropped_in_flight),
];

fn wake_before_park(d: &mut Driver) {
    let waker = d.subject.io.waker();
    for _ in 0..3 {
        waker.wake();
        waker.wake();
        let mut out = Vec::new();
        d.subject.io.park(None, &mut out);
        assert!(out.is_empty());
    }
}

fn wake_survives_reaping(d: &mut Driver) {
    // Used once, so that whatever listens for wakes is set up.
    wake_before_park(d);
    d.subject.io.waker().wake();
    let mut out = Vec::new();
    d.subject.io.reap(&mut out);
    d.subject.io.reap(&mut out);
    d.subject.io.park(None, &mut out);
    assert!(out.is_empty());
}

fn wake_from_afar(d: &mut Driver) {
    for _ in 0..20 {
        let waker = d.subject.io.waker();
        let other = std::thread::spawn(move || waker.wake());
        d.subject.io.park(None, &mut Vec::new());
        other.join().expect("the waking thread");
    }
}

fn park_times_out(d: &mut Driver) {
    let mut out = Vec::new();
    for timeout in [Duration::ZERO, Duration::from_micros(300), Duration::from_millis(2)] {
        d.subject.io.park(Some(timeout), &mut out);
    }
    assert!(out.is_empty());
}

fn turns_come(d: &mut Driver) {
    d.done(Op::Turn);
    let (file, _) = d.open("turns", OpenHow::CreateNew, true);
    let mut buffer = d.subject.io.buffer(BLOCK as usize);
    buffer.extend(&[7; BLOCK as usize]);
    let data = buffer.freeze();
    let mut writes = Vec::new();
    for number in 0..200u64 {
        let (at, data) = (FilePos::new(number * BLOCK), data.clone());
        writes.push(d.submit(Op::Write { file, at, data, durable: false }));
    }
    let turns: Vec<_> = (0..3).map(|_| d.submit(Op::Turn)).collect();
    for turn in turns {
        assert!(matches!(d.wait(turn), Ok(Outcome::Done)));
    }
    for write in writes {
        assert!(matches!(d.wait(write), Ok(Outcome::Wrote { .. })));
    }
    assert!(!d.subject.io.is_crowded());
    d.done(Op::Close { file });
}

fn idle_time_comes(d: &mut Driver) {
    d.done(Op::Idle);
    let (file, _) = d.open("idle", OpenHow::CreateNew, true);
    let mut buffer = d.subject.io.buffer(BLOCK as usize);
    buffer.extend(&[7; BLOCK as usize]);
    let write = Op::Write { file, at: FilePos::ZERO, data: buffer.freeze(), durable: false };
    let all = [Op::Idle, write, Op::Turn, Op::Idle].map(|op| d.submit(op));
    for token in all.into_iter().rev() {
        assert!(d.wait(token).is_ok());
    }
    d.done(Op::Close { file });
    d.submit(Op::Idle);
    let mut out = Vec::new();
    while out.is_empty() {
        d.subject.io.reap(&mut out);
    }
    assert!(matches!(out[0].result, Ok(Outcome::Done)));
}

fn waker_outlives(d: &mut Driver) {
    let waker = d.subject.io.waker();
    d.subject.io = Box::new(crate::MemoryIo::new());
    waker.wake();
    assert_eq!(format!("{waker:?}"), "Waker");
}

fn dropped_in_flight(d: &mut Driver) {
    let (near, far) = d.pair();
    let buffer = d.subject.io.buffer(64 << 10);
    d.submit(Op::Receive { conn: near, buffer });
    let address = d.subject.address;
    let listening = d.run(Op::Listen { address, shared: false });
    let Ok(Outcome::Listening { listener, .. }) = listening else { panic!("{listening:?}") };
    d.submit(Op::Accept { listener });
    // More than any socket takes, so that the send stays.
    let data = vec![crate::Slice::from(vec![0; 1 << 20]); 32];
    d.submit(Op::Send { conn: far, data });
    d.subject.io.reap(&mut Vec::new());
    d.subject.io = Box::new(crate::MemoryIo::new());
}

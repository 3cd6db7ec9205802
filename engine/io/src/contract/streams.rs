//! Bytes through connections.

use super::{Case, Driver};
use crate::{Buffer, ConnId, ErrorKind, Op, Outcome, Slice};

pub(super) const CASES: &[Case] = &[
    ("sends keep their order and complete in it", sends_in_order),
    ("receives complete in order and append", receives_in_order),
    ("an empty send completes", empty_send),
    ("megabytes flow both ways at once", both_ways),
    ("many parts go out whole", many_parts),
    ("a send that cannot go on is cancelled by a disconnect", blocked_send),
];

/// `len` bytes that depend on where they are.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed.wrapping_mul(97)) as u8).collect()
}

/// Receives until `len` bytes came.
fn receive_all(d: &mut Driver, conn: ConnId, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let (buffer, more) = d.receive(conn, Buffer::new(64 << 10));
        assert!(more > 0, "the stream ended after {} of {len} bytes", bytes.len());
        bytes.extend_from_slice(buffer.filled());
    }
    bytes
}

fn sends_in_order(d: &mut Driver) {
    let (near, far) = d.pair();
    d.order.clear();
    let mut expected = Vec::new();
    let sends: Vec<u32> = (0..200)
        .map(|n| {
            let parts: Vec<Vec<u8>> = (0..n % 5).map(|part| pattern(n + part, n * 37 + part)).collect();
            parts.iter().for_each(|part| expected.extend_from_slice(part));
            d.submit(Op::Send { conn: near, data: parts.into_iter().map(Slice::from).collect() })
        })
        .collect();
    assert!(receive_all(d, far, expected.len()) == expected, "the bytes came in another order");
    for send in &sends {
        assert!(matches!(d.wait(*send), Ok(Outcome::Done)));
    }
    let order: Vec<u32> = d.order.iter().copied().filter(|tag| sends.contains(tag)).collect();
    assert_eq!(order, sends);
}

fn receives_in_order(d: &mut Driver) {
    let (near, far) = d.pair();
    d.order.clear();
    let receives: Vec<u32> = (0..3)
        .map(|n| {
            let mut buffer = Buffer::new(4096);
            buffer.extend(&[b'a' + n; 4]);
            d.submit(Op::Receive { conn: far, buffer })
        })
        .collect();
    let total = 3 * (4096 - 4);
    let sent = pattern(1, total);
    d.done(Op::Send { conn: near, data: vec![Slice::from(sent.clone())] });
    let mut bytes = Vec::new();
    for (n, receive) in receives.iter().enumerate() {
        let received = d.wait(*receive);
        let Ok(Outcome::Received { buffer, len }) = received else { panic!("{received:?}") };
        assert!(len > 0 && buffer.len() == 4 + len);
        assert_eq!(&buffer.filled()[..4], [b'a' + n as u8; 4]);
        bytes.extend_from_slice(&buffer.filled()[4..]);
    }
    let rest = receive_all(d, far, total - bytes.len());
    bytes.extend_from_slice(&rest);
    assert!(bytes == sent);
    let order: Vec<u32> = d.order.iter().copied().filter(|tag| receives.contains(tag)).collect();
    assert_eq!(order, receives);
}

fn empty_send(d: &mut Driver) {
    let (near, far) = d.pair();
    d.done(Op::Send { conn: near, data: Vec::new() });
    d.done(Op::Send { conn: near, data: vec![Slice::from(Vec::new()), Slice::from(Vec::new())] });
    d.done(Op::Send { conn: near, data: vec![Slice::from(Vec::new()), Slice::from(vec![8])] });
    assert_eq!(receive_all(d, far, 1), [8]);
}

fn both_ways(d: &mut Driver) {
    const SENDS: usize = 12;
    let (near, far) = d.pair();
    let mut sends = Vec::new();
    for n in 0..SENDS {
        for (conn, seed) in [(near, n), (far, n + 100)] {
            let data = vec![Slice::from(pattern(seed, 1 << 20))];
            sends.push(d.submit(Op::Send { conn, data }));
        }
    }
    let mut ends = [(near, 100, Vec::new(), None), (far, 0, Vec::new(), None)];
    while ends.iter().any(|(_, _, bytes, _)| bytes.len() < SENDS << 20) {
        for (conn, _, bytes, receive) in &mut ends {
            if receive.is_none() && bytes.len() < SENDS << 20 {
                let buffer = d.subject.io.buffer(256 << 10);
                *receive = Some(d.submit(Op::Receive { conn: *conn, buffer }));
            }
        }
        let mut out = Vec::new();
        d.subject.io.park(None, &mut out);
        d.take_in(out);
        for (_, _, bytes, receive) in &mut ends {
            let Some(result) = receive.and_then(|tag| d.results.remove(&tag)) else { continue };
            let Ok(Outcome::Received { buffer, len }) = result else { panic!("{result:?}") };
            assert!(len > 0);
            bytes.extend_from_slice(buffer.filled());
            *receive = None;
        }
    }
    for (_, seed, bytes, _) in &ends {
        for (n, part) in bytes.chunks(1 << 20).enumerate() {
            assert!(part == pattern(seed + n, 1 << 20), "part {n} came changed");
        }
    }
    for send in sends {
        assert!(matches!(d.wait(send), Ok(Outcome::Done)));
    }
}

fn many_parts(d: &mut Driver) {
    let (near, far) = d.pair();
    let whole = Slice::from(pattern(9, 5_000 * 13));
    let data = (0..5_000).map(|n| whole.range(n * 13..(n + 1) * 13)).collect();
    let send = d.submit(Op::Send { conn: near, data });
    assert!(receive_all(d, far, whole.len()) == whole[..]);
    assert!(matches!(d.wait(send), Ok(Outcome::Done)));
}

fn blocked_send(d: &mut Driver) {
    let (near, far) = d.pair();
    // Nobody receives: the system takes some of it and no more. An implementation may take all.
    let send = d.submit(Op::Send { conn: near, data: vec![Slice::from(vec![0; 1 << 20]); 64] });
    let next = d.submit(Op::Send { conn: near, data: vec![Slice::from(vec![0; 1])] });
    let mut out = Vec::new();
    d.subject.io.reap(&mut out);
    d.take_in(out);
    d.done(Op::Disconnect { conn: near });
    for tag in [send, next] {
        match d.wait(tag) {
            Ok(Outcome::Done) => {}
            other => assert_eq!(other.unwrap_err().kind, ErrorKind::Cancelled),
        }
    }
    let place = |tag| d.order.iter().position(|other| *other == tag);
    assert!(place(send) < place(next));
    d.done(Op::Disconnect { conn: far });
}

//! Listening, connecting, disconnecting.

use super::{Case, Driver};
use crate::{Buffer, ErrorKind, Op, Outcome, Slice};

pub(super) const CASES: &[Case] = &[
    ("accepts and connects find each other in either order", accept_and_connect),
    ("connecting to nobody fails", connect_refused),
    ("an address is taken unless shared", address_in_use),
    ("closing a listener cancels its accepts", close_listener_cancels),
    ("disconnecting cancels what is pending, in order", disconnect_cancels),
    ("a closed connection is not found", closed_connection),
    ("the peer's disconnect is the end of the stream", end_of_stream),
    ("sending to a peer that is gone fails", send_to_the_gone),
];

fn accept_and_connect(d: &mut Driver) {
    let address = d.subject.address;
    let listening = d.run(Op::Listen { address, shared: false });
    let Ok(Outcome::Listening { listener, address }) = listening else { panic!("{listening:?}") };
    assert_ne!(address.port(), 0);
    // Accepts first, two at once; then connects first.
    let accepts = [d.submit(Op::Accept { listener }), d.submit(Op::Accept { listener })];
    let connects: Vec<u32> = (0..4).map(|_| d.submit(Op::Connect { address })).collect();
    for connect in connects {
        let connected = d.wait(connect);
        assert!(matches!(connected, Ok(Outcome::Connected { .. })), "{connected:?}");
    }
    let more = [d.submit(Op::Accept { listener }), d.submit(Op::Accept { listener })];
    let mut seen = Vec::new();
    for accept in accepts.into_iter().chain(more) {
        let accepted = d.wait(accept);
        let Ok(Outcome::Accepted { conn, peer }) = accepted else { panic!("{accepted:?}") };
        assert_eq!(peer.ip(), address.ip());
        assert!(!seen.contains(&(conn, peer)), "the same connection twice");
        seen.push((conn, peer));
    }
}

fn connect_refused(d: &mut Driver) {
    let address = d.subject.address;
    let listening = d.run(Op::Listen { address, shared: false });
    let Ok(Outcome::Listening { listener, address }) = listening else { panic!("{listening:?}") };
    d.done(Op::CloseListener { listener });
    let failed = d.run(Op::Connect { address }).expect_err("nobody listens");
    assert_eq!(failed.kind, ErrorKind::Disconnected, "{failed}");
}

fn address_in_use(d: &mut Driver) {
    let address = d.subject.address;
    for shared in [false, true] {
        let first = d.run(Op::Listen { address, shared });
        let Ok(Outcome::Listening { listener, address }) = first else { panic!("{first:?}") };
        let second = d.run(Op::Listen { address, shared });
        if shared {
            let Ok(Outcome::Listening { listener: other, address: same }) = second else {
                panic!("{second:?}")
            };
            assert_eq!(same, address);
            // Whichever of the two gets it, it gets one.
            let accepts = [d.submit(Op::Accept { listener }), d.submit(Op::Accept { listener: other })];
            assert!(d.run(Op::Connect { address }).is_ok());
            while !accepts.iter().any(|tag| d.results.contains_key(tag)) {
                let mut out = Vec::new();
                d.subject.io.park(None, &mut out);
                d.take_in(out);
            }
        } else {
            assert_eq!(second.expect_err("the address is taken").kind, ErrorKind::AddressInUse);
        }
    }
}

fn close_listener_cancels(d: &mut Driver) {
    let address = d.subject.address;
    let listening = d.run(Op::Listen { address, shared: false });
    let Ok(Outcome::Listening { listener, .. }) = listening else { panic!("{listening:?}") };
    let accepts = [d.submit(Op::Accept { listener }), d.submit(Op::Accept { listener })];
    d.subject.io.reap(&mut Vec::new());
    d.done(Op::CloseListener { listener });
    for accept in accepts {
        assert_eq!(d.wait(accept).unwrap_err().kind, ErrorKind::Cancelled);
    }
    assert_eq!(d.run(Op::Accept { listener }).unwrap_err().kind, ErrorKind::Cancelled);
    assert_eq!(d.run(Op::CloseListener { listener }).unwrap_err().kind, ErrorKind::Cancelled);
}

fn disconnect_cancels(d: &mut Driver) {
    let (near, _far) = d.pair();
    let receives: Vec<u32> =
        (0..3).map(|_| d.submit(Op::Receive { conn: near, buffer: Buffer::new(4096) })).collect();
    let mut out = Vec::new();
    d.subject.io.reap(&mut out);
    assert!(out.is_empty());
    d.order.clear();
    let disconnect = d.submit(Op::Disconnect { conn: near });
    let late = d.submit(Op::Receive { conn: near, buffer: Buffer::new(4096) });
    assert!(matches!(d.wait(disconnect), Ok(Outcome::Done)));
    for receive in &receives {
        assert_eq!(d.wait(*receive).unwrap_err().kind, ErrorKind::Cancelled);
    }
    assert_eq!(d.wait(late).unwrap_err().kind, ErrorKind::Cancelled);
    let order: Vec<u32> = d.order.iter().copied().filter(|tag| receives.contains(tag)).collect();
    assert_eq!(order, receives, "cancelled out of order");
}

fn closed_connection(d: &mut Driver) {
    let (near, _) = d.pair();
    d.done(Op::Disconnect { conn: near });
    let ops = [
        Op::Receive { conn: near, buffer: Buffer::new(1) },
        Op::Send { conn: near, data: vec![Slice::from(vec![1])] },
        Op::Disconnect { conn: near },
    ];
    for op in ops {
        assert_eq!(d.run(op).unwrap_err().kind, ErrorKind::Cancelled);
    }
}

fn end_of_stream(d: &mut Driver) {
    let (near, far) = d.pair();
    d.done(Op::Send { conn: near, data: vec![Slice::from(b"bye".to_vec())] });
    d.done(Op::Disconnect { conn: near });
    let mut buffer = Buffer::new(4096);
    while buffer.len() < 3 {
        let (got, len) = d.receive(far, buffer);
        assert!(len > 0, "the end came before the data");
        buffer = got;
    }
    for _ in 0..2 {
        let (got, len) = d.receive(far, buffer);
        assert_eq!((len, got.filled()), (0, &b"bye"[..]));
        buffer = got;
    }
}

fn send_to_the_gone(d: &mut Driver) {
    let (near, far) = d.pair();
    d.done(Op::Disconnect { conn: near });
    // The first sends may still be taken by the system.
    let mut sends = 0;
    let failed = loop {
        match d.run(Op::Send { conn: far, data: vec![Slice::from(vec![0; 64 << 10])] }) {
            Err(failed) => break failed,
            Ok(_) => sends += 1,
        }
        assert!(sends < 1_000, "nobody notices that the peer is gone");
    };
    assert_eq!(failed.kind, ErrorKind::Disconnected, "{failed}");
}

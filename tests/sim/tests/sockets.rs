//! The simulated network as its user meets it.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use highwater_io::{Buffer, Completion, ConnId, ErrorKind, Io, IoError, Op, Outcome, Slice, Token, blocking};
use highwater_sim::{SimClock, SimDisk, SimIo, SimNet};

const SERVER: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [10, 0, 0, 2];

struct Pair {
    net: SimNet,
    server: SimIo,
    client: SimIo,
    there: ConnId,
    here: ConnId,
}

fn io(clock: &SimClock, net: &SimNet, host: [u8; 4], seed: u64) -> SimIo {
    let disk = Rc::new(RefCell::new(SimDisk::new()));
    SimIo::on(disk, clock.for_another_node(), net.clone(), host.into(), seed)
}

/// Lets time pass until both have nothing that can complete, and gives what completed.
fn settle(server: &mut SimIo, client: &mut SimIo) -> (Vec<Completion>, Vec<Completion>) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    while server.advance(&mut a) | client.advance(&mut b) {}
    (a, b)
}

fn one(completions: Vec<Completion>) -> Result<Outcome, IoError> {
    assert_eq!(completions.len(), 1, "{completions:?}");
    completions.into_iter().next().unwrap().result
}

fn pair(seed: u64) -> Pair {
    let clock = SimClock::new();
    let net = SimNet::new(clock.clone(), seed);
    let (mut server, mut client) = (io(&clock, &net, SERVER, seed), io(&clock, &net, CLIENT, seed + 1));
    let address = SocketAddr::new(SERVER.into(), 0);
    let listening = blocking::run(&mut server, Op::Listen { address, shared: false }).unwrap();
    let Outcome::Listening { listener, address } = listening else { panic!("{listening:?}") };
    assert_ne!(address.port(), 0);
    let token = Token { owner: 1, tag: 1 };
    server.submit(Op::Accept { listener }, token);
    client.submit(Op::Connect { address }, token);
    let (accepted, connected) = settle(&mut server, &mut client);
    let (accepted, connected) = (one(accepted).unwrap(), one(connected).unwrap());
    let Outcome::Accepted { conn: there, peer } = accepted else { panic!("{accepted:?}") };
    let Outcome::Connected { conn: here } = connected else { panic!("{connected:?}") };
    assert_eq!(peer.ip(), IpAddr::from(CLIENT));
    Pair { net, server, client, there, here }
}

impl Pair {
    fn send(&mut self, bytes: Vec<u8>) {
        let data = vec![Slice::from(bytes)];
        self.client.submit(Op::Send { conn: self.here, data }, Token { owner: 2, tag: 0 });
    }

    fn receive(&mut self) {
        let buffer = Buffer::new(64 << 10);
        self.server.submit(Op::Receive { conn: self.there, buffer }, Token { owner: 3, tag: 0 });
    }

    /// Receives until the stream ends or has nothing; also how often.
    fn receive_all(&mut self) -> (Vec<u8>, usize) {
        let (mut all, mut times) = (Vec::new(), 0);
        loop {
            self.receive();
            let (there, _) = settle(&mut self.server, &mut self.client);
            match there.into_iter().next().map(|completion| completion.result.unwrap()) {
                Some(Outcome::Received { buffer, len }) if len > 0 => {
                    all.extend_from_slice(buffer.filled());
                    times += 1;
                }
                _ => return (all, times),
            }
        }
    }
}

#[test]
fn bytes_arrive_in_order_in_any_pieces_and_then_the_end() {
    let mut most = 0;
    for seed in 0..10 {
        let mut pair = pair(seed);
        let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        pair.send(sent.clone());
        pair.client.submit(
            Op::Send { conn: pair.here, data: vec![Slice::from(vec![9])] },
            Token { owner: 2, tag: 1 },
        );
        let mut all = Vec::new();
        while all.len() <= sent.len() {
            let (bytes, times) = pair.receive_all();
            assert!(!bytes.is_empty() || all.len() > sent.len(), "{} of {} bytes", all.len(), sent.len());
            all.extend(bytes);
            most = most.max(times);
            if all.len() > sent.len() {
                break;
            }
        }
        assert_eq!(all[..sent.len()], sent[..]);
        assert_eq!(all[sent.len()..], [9]);
    }
    assert!(most > 5, "never in pieces");
}

#[test]
fn a_closed_side_is_heard_of_after_its_bytes() {
    let mut pair = pair(1);
    pair.send(vec![1, 2, 3]);
    settle(&mut pair.server, &mut pair.client);
    pair.client.submit(Op::Disconnect { conn: pair.here }, Token { owner: 2, tag: 1 });
    pair.receive();
    pair.receive();
    pair.receive();
    let (there, _) = settle(&mut pair.server, &mut pair.client);
    let lens: Vec<usize> = there
        .iter()
        .map(|completion| match &completion.result {
            Ok(Outcome::Received { len, .. }) => *len,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lens.iter().sum::<usize>(), 3);
    assert_eq!(lens.last(), Some(&0));
}

#[test]
fn a_reset_fails_both_sides() {
    let mut pair = pair(2);
    pair.net.reset(SERVER.into(), CLIENT.into());
    pair.receive();
    pair.send(vec![1]);
    let (there, here) = settle(&mut pair.server, &mut pair.client);
    assert_eq!(one(there).unwrap_err().kind, ErrorKind::Disconnected);
    assert_eq!(one(here).unwrap_err().kind, ErrorKind::Disconnected);
}

#[test]
fn a_blocked_direction_delivers_when_unblocked() {
    let mut pair = pair(3);
    pair.net.block(CLIENT.into(), SERVER.into());
    pair.send(vec![1, 2]);
    pair.receive();
    let (there, here) = settle(&mut pair.server, &mut pair.client);
    assert!(there.is_empty(), "{there:?}");
    one(here).unwrap();
    pair.net.unblock(CLIENT.into(), SERVER.into());
    let (there, _) = settle(&mut pair.server, &mut pair.client);
    assert!(matches!(one(there).unwrap(), Outcome::Received { len: 1.., .. }));
}

#[test]
fn disconnecting_cancels_what_waits() {
    let mut pair = pair(4);
    pair.receive();
    pair.server.submit(Op::Disconnect { conn: pair.there }, Token { owner: 9, tag: 9 });
    let (there, _) = settle(&mut pair.server, &mut pair.client);
    assert_eq!(there.len(), 2);
    for completion in there {
        match completion.token.owner {
            9 => drop(completion.result.unwrap()),
            _ => assert_eq!(completion.result.unwrap_err().kind, ErrorKind::Cancelled),
        }
    }
}

#[test]
fn nobody_listens_or_nobody_answers() {
    let clock = SimClock::new();
    let net = SimNet::new(clock.clone(), 1);
    let mut client = io(&clock, &net, CLIENT, 1);
    let address = SocketAddr::new(SERVER.into(), 9092);
    let refused = blocking::run(&mut client, Op::Connect { address }).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Disconnected);
    net.block(SERVER.into(), CLIENT.into());
    let before = clock.now().mono;
    blocking::run(&mut client, Op::Connect { address }).unwrap_err();
    assert!(clock.now().mono.since(before).as_secs() >= 10);
}

#[test]
fn an_address_has_one_listener_unless_shared() {
    let clock = SimClock::new();
    let net = SimNet::new(clock.clone(), 1);
    let mut server = io(&clock, &net, SERVER, 1);
    let listen = |shared| Op::Listen { address: SocketAddr::new(SERVER.into(), 9092), shared };
    blocking::run(&mut server, listen(true)).unwrap();
    blocking::run(&mut server, listen(true)).unwrap();
    assert_eq!(blocking::run(&mut server, listen(false)).unwrap_err().kind, ErrorKind::AddressInUse);
}

//! [`SimNet`]: byte streams between simulated nodes, with delay, splitting, resets and one-way partitions.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use highwater_base::{Mono, Prng};

use crate::clock::SimClock;
use crate::errno::{self, Errno};

/// One side of a connection.
pub(crate) type EndId = u64;

/// A simulated network. Clones are the same network.
///
/// Bytes arrive in order, after a delay, in pieces of any size. A blocked direction delivers nothing until it is
/// unblocked, and then everything, as retransmission does; a reset loses what was under way.
///
/// ```
/// use highwater_sim::{SimClock, SimNet};
/// let net = SimNet::new(SimClock::new(), 1);
/// let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
/// net.block(a, b); // b hears nothing from a; a still hears b
/// net.unblock_all();
/// ```
#[derive(Clone)]
pub struct SimNet(Rc<RefCell<Net>>);

pub(crate) struct Net {
    pub(crate) clock: SimClock,
    prng: Prng,
    quickest: Duration,
    slowest: Duration,
    listeners: BTreeMap<SocketAddr, Vec<Listener>>,
    ends: BTreeMap<EndId, End>,
    blocked: BTreeSet<(IpAddr, IpAddr)>,
    next_id: u64,
    next_port: u16,
}

struct Listener {
    id: u64,
    shared: bool,
    backlog: VecDeque<EndId>,
}

struct End {
    local: SocketAddr,
    remote: SocketAddr,
    peer: EndId,
    /// From when on it may be accepted.
    from: Mono,
    inbox: VecDeque<Piece>,
    unread: usize,
    /// When the last piece on the way arrives; later ones must not overtake it.
    last: Mono,
    /// The peer closed its side, and this is when it is heard of.
    finished: Option<Mono>,
    /// Nothing works any more from this time on.
    reset: Option<Mono>,
}

struct Piece {
    at: Mono,
    bytes: Vec<u8>,
    read: usize,
}

/// What a receive finds.
pub(crate) enum Heard {
    /// So many bytes.
    Bytes(usize),
    /// The peer has closed its side.
    End,
    Nothing,
}

impl SimNet {
    /// Bytes sent and not read before a sender has to wait.
    const WINDOW: usize = 256 << 10;
    /// After this long without an answer, connecting fails.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

    /// A network without faults, with delays of 20 to 200 microseconds.
    pub fn new(clock: SimClock, seed: u64) -> SimNet {
        SimNet(Rc::new(RefCell::new(Net {
            clock,
            prng: Prng::new(seed ^ 0x006e_6574),
            quickest: Duration::from_micros(20),
            slowest: Duration::from_micros(200),
            listeners: BTreeMap::new(),
            ends: BTreeMap::new(),
            blocked: BTreeSet::new(),
            next_id: 0,
            next_port: 40_000,
        })))
    }

    /// Sets the delay of every later piece, and of connecting.
    pub fn set_delay(&self, quickest: Duration, slowest: Duration) {
        let mut net = self.0.borrow_mut();
        (net.quickest, net.slowest) = (quickest, slowest.max(quickest));
    }

    /// Nothing that `from` sends reaches `to` from now on. The other direction is not affected.
    pub fn block(&self, from: IpAddr, to: IpAddr) {
        self.0.borrow_mut().blocked.insert((from, to));
    }

    /// Ends a [`SimNet::block`].
    pub fn unblock(&self, from: IpAddr, to: IpAddr) {
        self.0.borrow_mut().blocked.remove(&(from, to));
    }

    /// Ends every [`SimNet::block`].
    pub fn unblock_all(&self) {
        self.0.borrow_mut().blocked.clear();
    }

    /// Resets every connection between two nodes: what is under way is lost, both sides see an error.
    pub fn reset(&self, a: IpAddr, b: IpAddr) {
        let mut net = self.0.borrow_mut();
        let now = net.clock.now().mono;
        for end in net.ends.values_mut() {
            let (local, remote) = (end.local.ip(), end.remote.ip());
            if (local, remote) == (a, b) || (local, remote) == (b, a) {
                end.reset = Some(now);
            }
        }
    }

    pub(crate) fn inner(&self) -> RefMut<'_, Net> {
        self.0.borrow_mut()
    }
}

impl std::fmt::Debug for SimNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let net = self.0.borrow();
        write!(f, "SimNet({} listeners, {} connection ends)", net.listeners.len(), net.ends.len())
    }
}

impl Net {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn delay(&mut self) -> Duration {
        let span = (self.slowest - self.quickest).as_nanos() as u64 + 1;
        self.quickest + Duration::from_nanos(self.prng.below(span))
    }

    fn port(&mut self, ip: IpAddr) -> SocketAddr {
        loop {
            let address = SocketAddr::new(ip, self.next_port);
            self.next_port = self.next_port.checked_add(1).unwrap_or(40_000);
            let taken = self.ends.values().any(|end| end.local == address);
            if !taken && !self.listeners.contains_key(&address) {
                return address;
            }
        }
    }

    pub(crate) fn listen(&mut self, address: SocketAddr, shared: bool) -> Result<(u64, SocketAddr), Errno> {
        let address = if address.port() == 0 { self.port(address.ip()) } else { address };
        let others = self.listeners.get(&address).map_or(&[][..], Vec::as_slice);
        if others.iter().any(|other| !(shared && other.shared)) {
            return Err(errno::EADDRINUSE);
        }
        let id = self.id();
        self.listeners.entry(address).or_default().push(Listener { id, shared, backlog: VecDeque::new() });
        Ok((id, address))
    }

    pub(crate) fn close_listener(&mut self, id: u64) {
        let mut left = Vec::new();
        for listeners in self.listeners.values_mut() {
            if let Some(index) = listeners.iter().position(|listener| listener.id == id) {
                left.extend(listeners.remove(index).backlog);
            }
        }
        self.listeners.retain(|_, listeners| !listeners.is_empty());
        for end in left {
            self.abort(end);
        }
    }

    /// Starts to connect: when it is decided, and what comes of it.
    pub(crate) fn connect(&mut self, host: IpAddr, to: SocketAddr) -> (Mono, Result<EndId, Errno>) {
        let now = self.clock.now().mono;
        let (there, back) = (now.plus(self.delay()), self.delay());
        if self.blocked.contains(&(host, to.ip())) || self.blocked.contains(&(to.ip(), host)) {
            return (now.plus(SimNet::CONNECT_TIMEOUT), Err(errno::ETIMEDOUT));
        }
        let count = self.listeners.get(&to).map_or(0, Vec::len);
        if count == 0 {
            return (there.plus(back), Err(errno::ECONNREFUSED));
        }
        let local = self.port(host);
        let (ours, theirs) = (self.id(), self.id());
        let end = |local, remote, peer| End {
            local,
            remote,
            peer,
            from: there,
            inbox: VecDeque::new(),
            unread: 0,
            last: there,
            finished: None,
            reset: None,
        };
        self.ends.insert(ours, end(local, to, theirs));
        self.ends.insert(theirs, end(to, local, ours));
        let which = self.prng.below(count as u64) as usize;
        self.listeners.get_mut(&to).expect("counted above")[which].backlog.push_back(theirs);
        (there.plus(back), Ok(ours))
    }

    pub(crate) fn accept(&mut self, id: u64) -> Option<(EndId, SocketAddr)> {
        let now = self.clock.now().mono;
        let listener = self.listeners.values_mut().flatten().find(|listener| listener.id == id)?;
        let end = *listener.backlog.front()?;
        // Whoever gave up before being accepted is still in the backlog, as on a real system.
        let facts = self.ends.get(&end)?;
        if facts.from > now {
            return None;
        }
        listener.backlog.pop_front();
        Some((end, facts.remote))
    }

    pub(crate) fn accept_due(&self, id: u64) -> Option<Mono> {
        let listener = self.listeners.values().flatten().find(|listener| listener.id == id)?;
        self.ends.get(listener.backlog.front()?).map(|end| end.from)
    }

    /// Takes bytes to be sent, as many as the window allows.
    pub(crate) fn send(&mut self, id: EndId, bytes: &[u8]) -> Result<usize, Errno> {
        let now = self.clock.now().mono;
        let end = self.ends.get(&id).ok_or(errno::ECONNRESET)?;
        if end.reset.is_some_and(|at| at <= now) {
            return Err(errno::ECONNRESET);
        }
        let peer = end.peer;
        let Some(peer_end) = self.ends.get(&peer) else {
            // The peer is gone; this is how one learns of it.
            return Err(errno::ECONNRESET);
        };
        let room = SimNet::WINDOW.saturating_sub(peer_end.unread).min(bytes.len());
        let mut sent = 0;
        while sent < room {
            let n = if self.prng.one_in(2) {
                room - sent
            } else {
                1 + self.prng.below((room - sent) as u64) as usize
            };
            let at = now.plus(self.delay());
            let end = self.ends.get_mut(&peer).expect("looked up above");
            end.last = end.last.max(at);
            end.inbox.push_back(Piece { at: end.last, bytes: bytes[sent..sent + n].to_vec(), read: 0 });
            end.unread += n;
            sent += n;
        }
        Ok(sent)
    }

    pub(crate) fn receive(&mut self, id: EndId, into: &mut [u8]) -> Result<Heard, Errno> {
        let now = self.clock.now().mono;
        let end = self.ends.get_mut(&id).ok_or(errno::ECONNRESET)?;
        if end.reset.is_some_and(|at| at <= now) {
            return Err(errno::ECONNRESET);
        }
        if self.blocked.contains(&(end.remote.ip(), end.local.ip())) {
            return Ok(Heard::Nothing);
        }
        let mut done = 0;
        while done < into.len()
            && let Some(piece) = end.inbox.front_mut()
            && piece.at <= now
        {
            let n = (piece.bytes.len() - piece.read).min(into.len() - done);
            into[done..done + n].copy_from_slice(&piece.bytes[piece.read..piece.read + n]);
            piece.read += n;
            done += n;
            if piece.read == piece.bytes.len() {
                end.inbox.pop_front();
            }
        }
        end.unread -= done;
        if done > 0 {
            return Ok(Heard::Bytes(done));
        }
        let finished = end.inbox.is_empty() && end.finished.is_some_and(|at| at <= now);
        Ok(if finished { Heard::End } else { Heard::Nothing })
    }

    pub(crate) fn receive_due(&self, id: EndId) -> Option<Mono> {
        let end = self.ends.get(&id)?;
        if self.blocked.contains(&(end.remote.ip(), end.local.ip())) {
            return end.reset;
        }
        let next = end.inbox.front().map(|piece| piece.at).or(end.finished);
        next.into_iter().chain(end.reset).min()
    }

    /// Whether a send that waits could go on.
    pub(crate) fn send_due(&self, id: EndId) -> Option<Mono> {
        let now = self.clock.now().mono;
        let Some(end) = self.ends.get(&id) else { return Some(now) };
        match self.ends.get(&end.peer) {
            Some(peer) if peer.unread >= SimNet::WINDOW => end.reset,
            Some(_) | None => Some(now),
        }
    }

    /// Closes one end. Bytes it never read make that a reset for the peer.
    pub(crate) fn close(&mut self, id: EndId) {
        let now = self.clock.now().mono;
        let delay = self.delay();
        let Some(end) = self.ends.remove(&id) else { return };
        if let Some(peer) = self.ends.get_mut(&end.peer) {
            let at = peer.last.max(now.plus(delay));
            peer.finished.get_or_insert(at);
            if end.unread > 0 {
                peer.reset.get_or_insert(at);
            }
        }
    }

    fn abort(&mut self, id: EndId) {
        let at = self.clock.now().mono.plus(self.delay());
        if let Some(end) = self.ends.remove(&id)
            && let Some(peer) = self.ends.get_mut(&end.peer)
        {
            peer.reset.get_or_insert(at);
        }
    }
}

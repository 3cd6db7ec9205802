//! [`SimIo`]: the I/O contract on a simulated disk and network.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater_base::{Mono, Prng, TraceHash};
use highwater_io::{Completion, FileId, Io, Op, Outcome, Park, Token, Waker};

use crate::clock::SimClock;
use crate::disk::SimDisk;
use crate::errno::EIO;
use crate::fault::{Behaviour, Fault, FaultKind};
use crate::flight::{Flight, Handle};
use crate::net::SimNet;
use crate::sockets::Sockets;
use crate::trace;

/// So many plain writes in flight are a crowd: few, so that one log can be one.
const CROWD: usize = 3;

/// Whom to tell of operations: see [`SimIo::watch`].
type Watch = Box<dyn FnMut(&SimDisk, Event)>;

/// An [`Io`] whose disk, network and time are simulated. The same seed and the same operations give the same
/// completions in the same order.
///
/// Operations complete after a while of virtual time, in any order. [`Io::reap`] gives what has completed by the
/// clock; [`Park::park`] moves the clock on to the next completion.
///
/// ```
/// use highwater_base::FilePos;
/// use highwater_io::{Op, OpenHow, Outcome, Slice, blocking};
/// use highwater_sim::{Loss, SimDisk, SimIo};
///
/// let mut io = SimIo::new(SimDisk::new(), 1);
/// let open = Op::Open { path: "/a".into(), how: OpenHow::CreateNew, direct: false };
/// let Outcome::Opened { file, .. } = blocking::run(&mut io, open)? else { unreachable!() };
/// let data = Slice::from(b"hello".to_vec());
/// blocking::run(&mut io, Op::Write { file, at: FilePos::ZERO, data, durable: false })?;
/// blocking::run(&mut io, Op::Sync { file, data_only: true, urgent: true })?;
/// assert_eq!(io.disk().power_cut(Loss::Unsynced, 1).contents("/a"), None); // its name was not synced
/// blocking::run(&mut io, Op::SyncDir { path: "/".into() })?;
/// assert_eq!(io.disk().power_cut(Loss::Unsynced, 1).contents("/a").unwrap(), b"hello");
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub struct SimIo {
    pub(crate) disk: Rc<RefCell<SimDisk>>,
    pub(crate) clock: SimClock,
    pub(crate) sockets: Sockets,
    pub(crate) prng: Prng,
    pub(crate) behaviour: Behaviour,
    /// Planned faults, and of lasting ones the kind of operation that they met.
    faults: Vec<(Fault, Option<&'static str>)>,
    pub(crate) handles: BTreeMap<FileId, Handle>,
    next_handle: u32,
    /// By the time at which they complete, then by the order of submission.
    pub(crate) flights: BTreeMap<(Mono, u64), Flight>,
    /// Completed at once: the operation was refused.
    refused: Vec<Completion>,
    /// Who waits for a turn to write.
    turns: VecDeque<Token>,
    operations: u64,
    failing_syncs: Rc<Cell<u32>>,
    trace: TraceHash,
    woken: Arc<AtomicBool>,
    watch: Option<Watch>,
}

/// Something happened to an operation on files; see [`SimIo::watch`].
///
/// ```
/// use highwater_sim::{Event, Moment};
/// let event = Event { operation: 3, name: "write", moment: Moment::Submitted };
/// assert_ne!(event.moment, Moment::Completed);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its number in the order of submission, from 0.
    pub operation: u64,
    /// What it is: `write`, `durable write`, `sync`, `rename`, ...
    pub name: &'static str,
    /// What happened to it.
    pub moment: Moment,
}

/// Where in its life an operation is.
///
/// ```
/// assert_ne!(highwater_sim::Moment::Submitted, highwater_sim::Moment::Completed);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// It is on its way.
    Submitted,
    /// It has had its effect; whoever asked has not seen the completion yet.
    Completed,
}

impl SimIo {
    /// On this disk, with a clock and a network of its own, calm and without faults.
    pub fn new(disk: SimDisk, seed: u64) -> SimIo {
        let clock = SimClock::new();
        let net = SimNet::new(clock.clone(), seed);
        SimIo::on(Rc::new(RefCell::new(disk)), clock, net, IpAddr::from([127, 0, 0, 1]), seed)
    }

    /// On a disk that others use too, with the clock of its node and a network; `host` is its address there.
    pub fn on(disk: Rc<RefCell<SimDisk>>, clock: SimClock, net: SimNet, host: IpAddr, seed: u64) -> SimIo {
        SimIo {
            disk,
            clock,
            sockets: Sockets::new(net, host),
            prng: Prng::new(seed),
            behaviour: Behaviour::CALM,
            faults: Vec::new(),
            handles: BTreeMap::new(),
            next_handle: 0,
            flights: BTreeMap::new(),
            refused: Vec::new(),
            turns: VecDeque::new(),
            operations: 0,
            failing_syncs: Rc::default(),
            trace: TraceHash::default(),
            woken: Arc::new(AtomicBool::new(false)),
            watch: None,
        }
    }

    /// Changes how operations go when nothing is wrong.
    #[must_use]
    pub fn behaving(mut self, behaviour: Behaviour) -> SimIo {
        self.behaviour = behaviour;
        self
    }

    /// Plans a fault.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.push((fault, None));
    }

    /// How many of the next syncs of files, durable writes too, fail with `EIO`: a handle, to be set while something else holds the `SimIo`.
    pub fn failing_syncs(&self) -> Rc<Cell<u32>> {
        Rc::clone(&self.failing_syncs)
    }

    /// Ends all planned faults, also lasting ones.
    pub fn heal(&mut self) {
        self.faults.clear();
    }

    /// Tells `watch` of each file operation as it is submitted and as it completes, with the disk of that moment.
    pub fn watch(&mut self, watch: impl FnMut(&SimDisk, Event) + 'static) {
        self.watch = Some(Box::new(watch));
    }

    /// The disk. Clone it to keep a snapshot.
    pub fn disk(&self) -> Ref<'_, SimDisk> {
        self.disk.borrow()
    }

    /// The disk, to change it behind the back of whoever uses it: rot, another capacity.
    pub fn disk_mut(&mut self) -> RefMut<'_, SimDisk> {
        self.disk.borrow_mut()
    }

    /// The clock.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// The network.
    pub fn net(&self) -> &SimNet {
        self.sockets.net()
    }

    /// How many operations were submitted.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// A hash of every operation and completion so far.
    pub fn trace(&self) -> u64 {
        self.trace.value()
    }

    /// When the next completion is due, if one is.
    pub fn next_due(&self) -> Option<Mono> {
        if !self.refused.is_empty() || (!self.turns.is_empty() && !self.is_busy()) {
            return Some(self.clock.now().mono);
        }
        let disk = self.flights.first_key_value().map(|((due, _), _)| *due);
        disk.into_iter().chain(self.sockets.next_due()).min()
    }

    /// Moves the clock on to the next completion and gives it; false if nothing is on its way.
    pub fn advance(&mut self, out: &mut Vec<Completion>) -> bool {
        let Some(due) = self.next_due() else { return false };
        self.clock.advance_to(due);
        self.reap(out);
        true
    }

    /// Whether a few plain writes are in flight, so that the next should wait for its turn.
    fn is_busy(&self) -> bool {
        self.flights.values().filter(|flight| flight.name == "write").count() >= CROWD
    }

    fn failing_sync(&self, op: &Op) -> Option<FaultKind> {
        let left = self.failing_syncs.get();
        let syncs = matches!(op, Op::Sync { .. } | Op::Flush { .. } | Op::Write { durable: true, .. });
        (syncs && left > 0).then(|| {
            self.failing_syncs.set(left - 1);
            FaultKind::Error(EIO)
        })
    }

    /// The fault, if any, that this operation meets. A lasting one holds for the kind of operation it first met.
    fn fault_of(&mut self, operation: u64, name: &'static str) -> Option<FaultKind> {
        for (fault, met) in &mut self.faults {
            if fault.at == operation {
                *met = Some(name);
                return Some(fault.kind);
            }
            if fault.lasting && *met == Some(name) {
                return Some(fault.kind);
            }
        }
        None
    }

    fn delay(&mut self, fault: Option<FaultKind>) -> Duration {
        let Behaviour { quickest, slowest, retried_one_in, .. } = self.behaviour;
        let span = slowest.saturating_sub(quickest).as_nanos() as u64 + 1;
        let mut delay = quickest + Duration::from_nanos(self.prng.below(span));
        if retried_one_in > 0 && self.prng.one_in(retried_one_in) {
            delay += slowest * 10;
        }
        if let Some(FaultKind::Slow(by)) = fault {
            delay += by;
        }
        delay
    }

    fn tell(&mut self, operation: u64, name: &'static str, moment: Moment) {
        if let Some(watch) = &mut self.watch {
            watch(&self.disk.borrow(), Event { operation, name, moment });
        }
    }

    pub(crate) fn new_handle(&mut self, handle: Handle) -> FileId {
        let file = FileId(self.next_handle);
        self.next_handle += 1;
        self.handles.insert(file, handle);
        file
    }

    fn give(&mut self, completion: Completion, out: &mut Vec<Completion>) {
        trace::completion(&mut self.trace, &completion);
        out.push(completion);
    }
}

impl Io for SimIo {
    fn submit(&mut self, op: Op, token: Token) {
        if matches!(op, Op::Turn | Op::Idle) {
            // Nothing that could fail, or that a power cut could find done or not.
            trace::submission(&mut self.trace, &op, token);
            return self.turns.push_back(token);
        }
        let operation = self.operations;
        self.operations += 1;
        let name = trace::name(&op);
        trace::submission(&mut self.trace, &op, token);
        let fault = self.failing_sync(&op).or_else(|| self.fault_of(operation, name));
        let delay = self.delay(fault);
        let name = if matches!(op, Op::Write { durable: true, .. }) { "durable write" } else { name };
        if Sockets::takes(&op) {
            self.sockets.submit(op, token, delay);
            return;
        }
        match self.embark(op) {
            Err(error) => self.refused.push(Completion { token, result: Err(error) }),
            Ok((task, not_before)) => {
                let due = self.clock.now().mono.plus(delay).max(not_before);
                let id = self.disk.borrow_mut().board(&task);
                self.flights.insert((due, operation), Flight { token, name, task, id, fault });
                self.tell(operation, name, Moment::Submitted);
            }
        }
    }

    fn reap(&mut self, out: &mut Vec<Completion>) {
        for refused in std::mem::take(&mut self.refused) {
            self.give(refused, out);
        }
        let now = self.clock.now();
        while let Some(entry) = self.flights.first_entry()
            && entry.key().0 <= now.mono
        {
            let ((_, operation), flight) = entry.remove_entry();
            let (token, name) = (flight.token, flight.name);
            let result = self.land(flight);
            self.tell(operation, name, Moment::Completed);
            self.give(Completion { token, result }, out);
        }
        if !self.is_busy()
            && let Some(token) = self.turns.pop_front()
        {
            self.give(Completion { token, result: Ok(Outcome::Done) }, out);
        }
        let mut completed = Vec::new();
        self.sockets.reap(&mut completed);
        for completion in completed {
            self.give(completion, out);
        }
    }

    fn in_flight(&self) -> usize {
        self.refused.len() + self.turns.len() + self.flights.len() + self.sockets.in_flight()
    }

    fn is_crowded(&self) -> bool {
        self.is_busy() || !self.turns.is_empty()
    }

    fn name(&self) -> &'static str {
        "sim"
    }
}

impl Park for SimIo {
    /// Sleeping is moving the clock on. If nothing is on its way and no timeout was given, returns at once.
    fn park(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion>) {
        let before = out.len();
        self.reap(out);
        if self.woken.swap(false, Ordering::AcqRel) || out.len() > before {
            return;
        }
        let limit = timeout.map(|timeout| self.clock.now().mono.plus(timeout));
        let wake = self.next_due().into_iter().chain(limit).min();
        if let Some(wake) = wake {
            self.clock.advance_to(wake);
            self.reap(out);
        }
    }

    fn waker(&self) -> Waker {
        let woken = Arc::clone(&self.woken);
        Waker::new(move || woken.store(true, Ordering::Release))
    }
}

impl std::fmt::Debug for SimIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimIo({} operations, {} in flight, {:?})", self.operations, self.in_flight(), self.clock)
    }
}

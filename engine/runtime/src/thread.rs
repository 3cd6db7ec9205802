//! Pin, loop, stop: the only place that reads the clock and parks.
#![allow(clippy::disallowed_methods, reason = "the one place that starts threads and reads the clock")]

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use highwater_base::{Mono, Now, WallMs};
use highwater_io::{Completion, Park, pin_to_core};

use crate::{Mailbox, Next, Shard, Turn};

/// Reads both clocks. All shards of a process share one, so that a deadline means the same to each.
///
/// ```
/// let clock = highwater_runtime::Clock::start();
/// let first = clock.now();
/// assert!(clock.now().mono >= first.mono);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic side starts near zero.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Both times.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        Now { mono: Mono::from_nanos(self.start.elapsed().as_nanos() as u64), wall: WallMs::new(wall) }
    }
}

/// How a shard's thread is set up.
///
/// ```
/// let spec = highwater_runtime::Spec::new("shard-0").on_core(0);
/// assert_eq!(spec.name(), "shard-0");
/// ```
#[derive(Clone, Debug)]
pub struct Spec {
    name: String,
    core: Option<usize>,
    spin: Duration,
    on_panic: fn(&str),
}

impl Spec {
    /// A thread of this name (15 characters are shown by the system), pinned nowhere.
    pub fn new(name: impl Into<String>) -> Spec {
        Spec { name: name.into(), core: None, spin: Duration::ZERO, on_panic: abort }
    }

    /// Pins the thread to this core. Where that is not permitted the thread runs unpinned.
    #[must_use]
    pub fn on_core(mut self, core: usize) -> Spec {
        self.core = Some(core);
        self
    }

    /// How long an idle shard looks for completions and messages before it parks. Default: not at all.
    #[must_use]
    pub fn spinning(mut self, spin: Duration) -> Spec {
        self.spin = spin;
        self
    }

    /// What to do when the shard panics, given a message for people. Default: [`abort`].
    #[must_use]
    pub fn on_panic(mut self, action: fn(&str)) -> Spec {
        self.on_panic = action;
        self
    }

    /// The thread's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Prints the message and ends the process at once: after a broken invariant nothing more may be
/// acknowledged or written.
pub fn abort(message: &str) {
    eprintln!("{message}");
    std::process::abort();
}

/// How a shard's thread ended.
///
/// ```
/// let exit: highwater_runtime::Exit<String> = highwater_runtime::Exit::Failed("no disk".into());
/// assert!(matches!(exit, highwater_runtime::Exit::Failed(_)));
/// ```
#[derive(Debug)]
pub enum Exit<E> {
    /// The shard said [`Next::Stop`].
    Stopped,
    /// The shard could not be made.
    Failed(E),
    /// The shard panicked, and the panic action returned.
    Panicked(String),
}

/// A running shard.
///
/// See the crate's example.
pub struct Thread<E> {
    handle: std::thread::JoinHandle<Exit<E>>,
}

impl<E> Thread<E> {
    /// Waits for its end.
    pub fn join(self) -> Exit<E> {
        self.handle.join().unwrap_or_else(|payload| Exit::Panicked(text_of(payload.as_ref())))
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<E> fmt::Debug for Thread<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thread({:?})", self.handle.thread().name())
    }
}

/// Starts a thread for a shard. `make` runs on the new thread, because a ring belongs to the thread that made
/// it: it gives the shard's I/O, and the shard, which it may open with [`highwater_io::blocking`] calls.
///
/// The loop: reap completions, take messages, read the clock, give the shard its turn, and park until
/// something happens or the shard's deadline has come.
///
/// # Panics
///
/// If the system refuses a new thread.
pub fn spawn<S, E>(
    spec: Spec,
    clock: Clock,
    mailbox: Mailbox<S::Message>,
    make: impl FnOnce(Now) -> Result<(Box<dyn Park>, S), E> + Send + 'static,
) -> Thread<E>
where
    S: Shard,
    E: Send + 'static,
{
    let name = spec.name.clone();
    let body = move || {
        if let Some(core) = spec.core {
            // Unpinned is slower, not wrong; containers may forbid it.
            let _unpinned = pin_to_core(core);
        }
        let run = || match make(clock.now()) {
            Ok((mut io, mut shard)) => {
                drive(&mut *io, &mut shard, &mailbox, clock, spec.spin);
                Exit::Stopped
            }
            Err(error) => Exit::Failed(error),
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
            let cause = text_of(payload.as_ref());
            (spec.on_panic)(&format!(
                "{} panicked: {cause}. This is a defect: the process stops so that nothing wrong is acknowledged; \
                 the data is recovered at the next start",
                spec.name
            ));
            Exit::Panicked(cause)
        })
    };
    let builder = std::thread::Builder::new().name(name);
    Thread { handle: builder.spawn(body).expect("the system refused a new thread") }
}

/// Messages taken in one turn; the rest wait for the next, so that completions are seen in between.
const MESSAGES_PER_TURN: usize = 256;

fn drive<S: Shard>(
    io: &mut dyn Park,
    shard: &mut S,
    mailbox: &Mailbox<S::Message>,
    clock: Clock,
    spin: Duration,
) {
    mailbox.attach(io.waker());
    let mut completions: Vec<Completion> = Vec::new();
    let mut messages: Vec<S::Message> = Vec::new();
    loop {
        io.reap(&mut completions);
        mailbox.drain(MESSAGES_PER_TURN, &mut messages);
        let now = clock.now();
        let next = shard.turn(&mut Turn {
            now,
            io: &mut *io,
            completions: &mut completions,
            messages: &mut messages,
        });
        let timeout = match next {
            Next::Stop => return,
            Next::Now => continue,
            Next::At(at) if at <= now.mono => continue,
            Next::At(at) => Some(at.since(now.mono)),
            Next::Idle => None,
        };
        if spin_until_work(io, mailbox, &mut completions, clock, spin.min(timeout.unwrap_or(spin))) {
            continue;
        }
        if mailbox.fall_asleep() {
            io.park(timeout, &mut completions);
            mailbox.awake();
        }
    }
}

/// Looks for work for a while before sleeping, which costs a wake-up's latency. Says whether there is some.
fn spin_until_work<M>(
    io: &mut dyn Park,
    mailbox: &Mailbox<M>,
    completions: &mut Vec<Completion>,
    clock: Clock,
    spin: Duration,
) -> bool {
    if spin.is_zero() {
        return false;
    }
    let end = clock.now().mono.plus(spin);
    loop {
        io.reap(completions);
        if !completions.is_empty() || !mailbox.is_empty() {
            return true;
        }
        if clock.now().mono >= end {
            return false;
        }
        std::hint::spin_loop();
    }
}

fn text_of(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use highwater_io::{MemoryIo, Op, Outcome, Token};

    use super::*;
    use crate::{Sender, mailbox};

    /// Opens a file, answers each message when its operation has completed, stops at a message of 0.
    struct Opener {
        waiting: Vec<u32>,
        answers: Sender<u32>,
    }

    impl Shard for Opener {
        type Message = u32;

        fn turn(&mut self, turn: &mut Turn<'_, u32>) -> Next {
            for completion in turn.completions.drain(..) {
                assert!(matches!(completion.result, Ok(Outcome::Done)));
                self.answers.send(completion.token.tag).unwrap();
                self.waiting.retain(|tag| *tag != completion.token.tag);
            }
            for tag in turn.messages.drain(..) {
                if tag == 0 {
                    return Next::Stop;
                }
                self.waiting.push(tag);
                turn.io.submit(Op::CreateDir { path: format!("/d{tag}").into() }, Token { owner: 1, tag });
            }
            Next::Idle
        }
    }

    #[test]
    fn a_parked_shard_serves_messages_and_completions_until_it_stops() {
        let (sender, inbox) = mailbox(8);
        let (answers, answered) = mailbox(8);
        let thread = spawn(Spec::new("opener").on_core(0), Clock::start(), inbox, move |_now| {
            let io: Box<dyn Park> = Box::new(MemoryIo::new());
            Ok::<_, String>((io, Opener { waiting: Vec::new(), answers }))
        });
        for tag in 1..=5 {
            sender.send(tag).unwrap();
        }
        let mut got = Vec::new();
        while got.len() < 5 {
            answered.drain(8, &mut got);
            std::thread::yield_now();
        }
        got.sort_unstable();
        assert_eq!(got, [1, 2, 3, 4, 5]);
        sender.send(0).unwrap();
        assert!(matches!(thread.join(), Exit::Stopped));
    }

    #[test]
    fn a_shard_that_cannot_be_made_ends_its_thread_with_the_reason() {
        let (_sender, inbox) = mailbox::<u32>(8);
        let thread = spawn(Spec::new("failing"), Clock::start(), inbox, |_now| {
            Err::<(Box<dyn Park>, Opener), _>("no such directory")
        });
        assert!(matches!(thread.join(), Exit::Failed("no such directory")));
    }

    static ACTED: AtomicBool = AtomicBool::new(false);

    struct Broken;

    impl Shard for Broken {
        type Message = ();

        fn turn(&mut self, _turn: &mut Turn<'_, ()>) -> Next {
            panic!("high watermark went back");
        }
    }

    #[test]
    fn a_panic_in_a_shard_takes_the_panic_action() {
        let (_sender, inbox) = mailbox(8);
        let spec = Spec::new("broken").on_panic(|message| {
            assert!(message.contains("broken panicked: high watermark went back"), "{message}");
            ACTED.store(true, Ordering::SeqCst);
        });
        let thread = spawn(spec, Clock::start(), inbox, |_now| {
            let io: Box<dyn Park> = Box::new(MemoryIo::new());
            Ok::<_, String>((io, Broken))
        });
        assert!(matches!(thread.join(), Exit::Panicked(cause) if cause == "high watermark went back"));
        assert!(ACTED.load(Ordering::SeqCst));
    }

    #[test]
    fn a_deadline_gives_an_idle_shard_its_turn() {
        struct Ticks(u32);
        impl Shard for Ticks {
            type Message = ();
            fn turn(&mut self, turn: &mut Turn<'_, ()>) -> Next {
                self.0 += 1;
                if self.0 == 3 { Next::Stop } else { Next::At(turn.now.mono.plus(Duration::from_micros(1))) }
            }
        }
        let (_sender, inbox) = mailbox(8);
        let thread =
            spawn(Spec::new("ticks").spinning(Duration::from_micros(1)), Clock::start(), inbox, |_now| {
                let io: Box<dyn Park> = Box::new(MemoryIo::new());
                Ok::<_, String>((io, Ticks(0)))
            });
        assert!(matches!(thread.join(), Exit::Stopped));
    }
}

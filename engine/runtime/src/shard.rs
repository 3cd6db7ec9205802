//! What runs on a core: a function of the order of its inputs.

use highwater_base::{Mono, Now};
use highwater_io::{Completion, Io};

/// One core's share of the work. It owns what it touches and shares nothing.
///
/// ```
/// use highwater_base::{Mono, Now, WallMs};
/// use highwater_io::MemoryIo;
/// use highwater_runtime::{Next, Shard, Turn};
///
/// struct Echo(Vec<u8>);
/// impl Shard for Echo {
///     type Message = u8;
///     fn turn(&mut self, turn: &mut Turn<'_, u8>) -> Next {
///         self.0.append(turn.messages);
///         Next::Idle
///     }
/// }
/// let mut shard = Echo(Vec::new());
/// let now = Now { mono: Mono::ZERO, wall: WallMs::NONE };
/// let (mut io, mut completions, mut messages) = (MemoryIo::new(), Vec::new(), vec![7]);
/// let mut turn = Turn { now, io: &mut io, completions: &mut completions, messages: &mut messages };
/// assert_eq!(shard.turn(&mut turn), Next::Idle);
/// assert_eq!(shard.0, [7]);
/// ```
pub trait Shard {
    /// What other shards and outside threads may send it.
    type Message: Send + 'static;

    /// One turn: a bounded amount of work. Takes everything out of `turn.completions` and `turn.messages`,
    /// submits operations to `turn.io`, and says when it next needs a turn. Never blocks.
    fn turn(&mut self, turn: &mut Turn<'_, Self::Message>) -> Next;
}

/// What a shard is given for one turn.
///
/// See [`Shard`] for an example.
pub struct Turn<'a, M> {
    /// Both clocks, read once for this turn.
    pub now: Now,
    /// Where operations are submitted; their completions come with a later turn.
    pub io: &'a mut dyn Io,
    /// What has completed since the last turn, in the order of completion.
    pub completions: &'a mut Vec<Completion>,
    /// What has been sent since the last turn; messages of one sender in the order sent.
    pub messages: &'a mut Vec<M>,
}

impl<M> std::fmt::Debug for Turn<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn")
            .field("now", &self.now)
            .field("completions", &self.completions.len())
            .field("messages", &self.messages.len())
            .finish()
    }
}

/// When a shard next needs a turn. A completion or a message gives it one earlier, except after `Stop`.
///
/// ```
/// use highwater_base::Mono;
/// use highwater_runtime::Next;
/// assert_eq!(Next::At(Mono::MAX).sooner(Mono::ZERO), Next::At(Mono::ZERO));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// At once: more work waits.
    Now,
    /// At this time.
    At(Mono),
    /// Only when something happens.
    Idle,
    /// Never: the thread ends.
    Stop,
}

impl Next {
    /// This, but no later than `deadline`.
    #[must_use]
    pub fn sooner(self, deadline: Mono) -> Next {
        match self {
            Next::At(at) => Next::At(at.min(deadline)),
            Next::Idle => Next::At(deadline),
            Next::Now | Next::Stop => self,
        }
    }
}

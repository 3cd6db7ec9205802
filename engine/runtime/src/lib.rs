//! One thread per core: shards, the mailboxes between them, their timers, and the loop that drives them.
//!
//! A [`Shard`] is a function of the order of its inputs: it is given the time, the completions of its
//! operations and the messages that came, does a bounded amount of work, and says when it next needs a turn.
//! In production [`spawn`] gives it a pinned thread and an [`Io`](highwater_io::Io) of its own; a simulator
//! calls [`Shard::turn`] itself.
//!
//! ```
//! use highwater_base::Now;
//! use highwater_io::MemoryIo;
//! use highwater_runtime::{Clock, Exit, Next, Shard, Spec, Turn, mailbox, spawn};
//!
//! struct Count(u32);
//! impl Shard for Count {
//!     type Message = u32;
//!     fn turn(&mut self, turn: &mut Turn<'_, u32>) -> Next {
//!         self.0 += turn.messages.drain(..).sum::<u32>();
//!         if self.0 >= 3 { Next::Stop } else { Next::Idle }
//!     }
//! }
//!
//! let (sender, receiver) = mailbox(16);
//! let thread = spawn(Spec::new("count-0"), Clock::start(), receiver, |_now: Now| {
//!     Ok::<_, String>((Box::new(MemoryIo::new()) as Box<dyn highwater_io::Park>, Count(0)))
//! });
//! sender.send(1).unwrap();
//! sender.send(2).unwrap();
//! assert!(matches!(thread.join(), Exit::Stopped));
//! ```
#![forbid(unsafe_code)]

mod housekeeping;
mod mailbox;
mod shard;
mod thread;
mod timer;

pub use housekeeping::{Housekeeping, TaskId};
pub use mailbox::{Mailbox, Sender, mailbox};
pub use shard::{Next, Shard, Turn};
pub use thread::{Clock, Exit, Spec, Thread, abort, spawn};
pub use timer::Timers;

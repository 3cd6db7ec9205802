//! [`Sim`]: virtual time and the order in which actors move.

use std::time::Duration;

use highwater_base::{Mono, Now, Prng, TraceHash};

use crate::clock::SimClock;

/// Something that takes turns: a shard, a client, a fault that strikes at some time.
///
/// ```
/// use highwater_base::{Mono, Now};
/// use highwater_sim::Actor;
/// struct Once(bool);
/// impl Actor for Once {
///     fn due(&self) -> Option<Mono> {
///         (!self.0).then_some(Mono::ZERO)
///     }
///     fn turn(&mut self, _: Now) {
///         self.0 = true;
///     }
/// }
/// ```
pub trait Actor {
    /// When it next wants a turn: a time in the past means now, `None` until something else happens.
    fn due(&self) -> Option<Mono>;

    /// One turn.
    fn turn(&mut self, now: Now);
}

/// A scheduler. The same seed and the same actors give the same order of turns.
///
/// ```
/// use std::time::Duration;
/// use highwater_sim::Sim;
/// let mut sim = Sim::new(7);
/// let start = sim.now().mono;
/// sim.advance(Duration::from_secs(1));
/// assert_eq!(sim.now().mono.since(start), Duration::from_secs(1));
/// ```
#[derive(Debug)]
pub struct Sim {
    clock: SimClock,
    prng: Prng,
    trace: TraceHash,
    turns: u64,
}

impl Sim {
    /// At the start of simulated time.
    pub fn new(seed: u64) -> Sim {
        Sim { clock: SimClock::new(), prng: Prng::new(seed), trace: TraceHash::default(), turns: 0 }
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The clock, to be given to each node's I/O.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// Moves time on.
    pub fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    /// A seed for something that needs randomness of its own.
    pub fn seed(&mut self) -> u64 {
        self.prng.next_u64()
    }

    /// Gives turns, in an order that the seed decides, until nobody wants one before `until`; then it is `until`.
    /// Says how many turns there were, at most `most`.
    pub fn run(&mut self, actors: &mut [&mut dyn Actor], until: Mono, most: u64) -> u64 {
        let before = self.turns;
        while self.turns - before < most {
            let Some(next) =
                actors.iter().filter_map(|actor| actor.due()).min().filter(|next| *next <= until)
            else {
                self.clock.advance_to(until);
                break;
            };
            self.clock.advance_to(next);
            let now = self.clock.now();
            let is_due = |actor: &&mut dyn Actor| actor.due().is_some_and(|due| due <= now.mono);
            let ready: Vec<usize> = (0..actors.len()).filter(|index| is_due(&actors[*index])).collect();
            let chosen = ready[self.prng.below(ready.len() as u64) as usize];
            self.trace.word(chosen as u64);
            self.trace.word(now.mono.nanos());
            self.turns += 1;
            actors[chosen].turn(now);
        }
        self.turns - before
    }

    /// A hash of all turns so far.
    pub fn trace(&self) -> u64 {
        self.trace.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ticker {
        every: Duration,
        next: Mono,
        ticks: Vec<u64>,
    }

    impl Actor for Ticker {
        fn due(&self) -> Option<Mono> {
            Some(self.next)
        }

        fn turn(&mut self, now: Now) {
            self.ticks.push(now.mono.nanos());
            self.next = now.mono.plus(self.every);
        }
    }

    fn run(seed: u64) -> (u64, Vec<u64>) {
        let mut sim = Sim::new(seed);
        let ticker = |ms| Ticker { every: Duration::from_millis(ms), next: Mono::ZERO, ticks: Vec::new() };
        let (mut a, mut b) = (ticker(2), ticker(3));
        let until = Mono::ZERO.plus(Duration::from_millis(12));
        sim.run(&mut [&mut a, &mut b], until, 1000);
        assert_eq!(sim.now().mono, until);
        (sim.trace(), a.ticks)
    }

    #[test]
    fn everyone_gets_a_turn_when_due_and_the_seed_decides_ties() {
        assert_eq!(run(1).1, (0..=6).map(|n| n * 2_000_000).collect::<Vec<u64>>());
        assert_eq!(run(5), run(5));
        assert!((2..20).any(|seed| run(seed).0 != run(1).0));
    }
}

//! Bounded messages between shards and from outside threads. Sending takes no lock, and wakes the receiver
//! only if it sleeps.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::ArrayQueue;
use highwater_base::Full;
use highwater_io::Waker;

/// A mailbox of at most `capacity` waiting messages, and the means to send to it.
///
/// ```
/// let (sender, mailbox) = highwater_runtime::mailbox(1);
/// sender.send("a").unwrap();
/// assert_eq!(sender.send("b").unwrap_err().0, "b"); // full: the message comes back
/// let mut got = Vec::new();
/// mailbox.drain(8, &mut got);
/// assert_eq!(got, ["a"]);
/// ```
pub fn mailbox<M>(capacity: usize) -> (Sender<M>, Mailbox<M>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        asleep: AtomicBool::new(false),
        gone: AtomicBool::new(false),
        waker: OnceLock::new(),
    });
    (Sender { shared: Arc::clone(&shared) }, Mailbox { shared })
}

struct Shared<M> {
    queue: ArrayQueue<M>,
    /// The receiver is about to park, or parked; whoever takes this back to false must wake it.
    asleep: AtomicBool,
    /// The receiver is gone: what waits, and what still comes, is dropped.
    gone: AtomicBool,
    /// Set once, by the receiver's thread, before it first sleeps.
    waker: OnceLock<Waker>,
}

impl<M> Shared<M> {
    /// Drops what waits.
    fn forget(&self) {
        while self.queue.pop().is_some() {}
    }
}

/// The sending half; cheap to clone, usable from any thread.
///
/// See [`mailbox`](mailbox()) for an example.
pub struct Sender<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Sender<M> {
    /// Adds a message, or gives it back if the mailbox is full. Messages of one sender arrive in order. A message to
    /// a receiver that is gone is dropped.
    pub fn send(&self, message: M) -> Result<(), Full<M>> {
        self.shared.queue.push(message).map_err(Full)?;
        // Pairs with the fence in `fall_asleep`: either the receiver sees this message before it parks, or
        // this thread sees it asleep.
        fence(Ordering::SeqCst);
        if self.shared.gone.load(Ordering::SeqCst) {
            self.shared.forget();
            return Ok(());
        }
        if self.shared.asleep.load(Ordering::Relaxed)
            && self.shared.asleep.swap(false, Ordering::AcqRel)
            && let Some(waker) = self.shared.waker.get()
        {
            waker.wake();
        }
        Ok(())
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Sender<M> {
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<M> fmt::Debug for Sender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({} waiting)", self.shared.queue.len())
    }
}

/// The receiving half, which belongs to one shard's thread.
///
/// See [`mailbox`](mailbox()) for an example.
pub struct Mailbox<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Mailbox<M> {
    /// Moves up to `limit` messages to the end of `out`.
    pub fn drain(&self, limit: usize, out: &mut Vec<M>) {
        for _ in 0..limit {
            match self.shared.queue.pop() {
                Some(message) => out.push(message),
                None => break,
            }
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Names what wakes the receiver. Only the first call counts.
    pub fn attach(&self, waker: Waker) {
        let _already_attached = self.shared.waker.set(waker);
    }

    /// Says that the receiver is about to park: from now on a message wakes it. Returns false, and has
    /// changed nothing, if messages wait already.
    pub fn fall_asleep(&self) -> bool {
        self.shared.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.shared.queue.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// Says that the receiver is awake: messages need not wake it.
    pub fn awake(&self) {
        self.shared.asleep.store(false, Ordering::Relaxed);
    }
}

impl<M> Drop for Mailbox<M> {
    /// Nobody will take what waits: dropping it tells whoever waits for an answer.
    fn drop(&mut self) {
        // Pairs with the fence in `send`: either the message is seen here, or the sender sees this.
        self.shared.gone.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.shared.forget();
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({} waiting)", self.shared.queue.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    fn counting() -> (Waker, Arc<AtomicU32>) {
        let wakes = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&wakes);
        (Waker::new(move || _ = seen.fetch_add(1, Ordering::SeqCst)), wakes)
    }

    #[test]
    fn only_a_sleeping_receiver_is_woken_and_only_once() {
        let (sender, mailbox) = mailbox(8);
        let (waker, wakes) = counting();
        mailbox.attach(waker);
        sender.send(1).unwrap();
        assert_eq!(wakes.load(Ordering::SeqCst), 0);
        let mut got = Vec::new();
        mailbox.drain(8, &mut got);
        assert!(mailbox.fall_asleep());
        sender.send(2).unwrap();
        sender.send(3).unwrap();
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_receiver_with_waiting_messages_does_not_fall_asleep() {
        let (sender, mailbox) = mailbox(8);
        let (waker, wakes) = counting();
        mailbox.attach(waker);
        sender.send(1).unwrap();
        assert!(!mailbox.fall_asleep());
        sender.send(2).unwrap();
        assert_eq!(wakes.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back_and_takes_more_once_drained() {
        let (sender, mailbox) = mailbox(2);
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!(sender.send(3), Err(Full(3)));
        let mut got = Vec::new();
        mailbox.drain(1, &mut got);
        sender.send(3).unwrap();
        mailbox.drain(8, &mut got);
        assert_eq!(got, [1, 2, 3]);
    }

    #[test]
    fn messages_to_a_receiver_that_is_gone_are_dropped() {
        let (sender, mailbox) = mailbox(2);
        let (waiting, late) = (Arc::new(()), Arc::new(()));
        sender.send(Arc::clone(&waiting)).unwrap();
        drop(mailbox);
        assert_eq!(Arc::strong_count(&waiting), 1);
        for _ in 0..3 {
            sender.send(Arc::clone(&late)).unwrap();
        }
        assert_eq!(Arc::strong_count(&late), 1);
    }

    #[test]
    fn no_message_is_lost_between_many_senders_and_a_receiver_that_sleeps() {
        let (sender, mailbox) = mailbox(4);
        let gate = Arc::new((parking_lot::Mutex::new(false), parking_lot::Condvar::new()));
        let inner = Arc::clone(&gate);
        mailbox.attach(Waker::new(move || {
            *inner.0.lock() = true;
            inner.1.notify_one();
        }));
        let mut got: Vec<u32> = Vec::new();
        std::thread::scope(|scope| {
            for s in 0..3u32 {
                let sender = sender.clone();
                scope.spawn(move || {
                    for i in 0..2000 {
                        let mut message = s * 2000 + i;
                        while let Err(Full(back)) = sender.send(message) {
                            message = back;
                            std::thread::yield_now();
                        }
                    }
                });
            }
            while got.len() < 6000 {
                mailbox.drain(16, &mut got);
                if got.len() < 6000 && mailbox.fall_asleep() {
                    let mut woken = gate.0.lock();
                    while !*woken {
                        gate.1.wait(&mut woken);
                    }
                    *woken = false;
                    mailbox.awake();
                }
            }
        });
        for s in 0..3u32 {
            let of_one: Vec<u32> = got.iter().copied().filter(|m| m / 2000 == s).collect();
            assert_eq!(of_one, (s * 2000..(s + 1) * 2000).collect::<Vec<_>>());
        }
    }
}

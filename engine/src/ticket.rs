//! What an operation returns to another thread: an answer that comes later, to be waited for, polled, or awaited.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// An answer that comes later. Wait for it, poll it, or await it: it is a [`Future`] that needs no runtime.
/// Dropping it does not cancel what was asked.
///
/// ```
/// let (promise, ticket) = highwater_engine::Ticket::<u32>::pair();
/// std::thread::spawn(move || promise.fulfil(7));
/// assert_eq!(ticket.wait(), Some(7));
/// ```
#[must_use = "the answer is lost with the ticket"]
pub struct Ticket<T> {
    shared: Arc<Shared<T>>,
}

/// The other end of a [`Ticket`]. Dropped without an answer, it answers `None`: the asked side has stopped.
///
/// ```
/// let (promise, ticket) = highwater_engine::Ticket::<u32>::pair();
/// drop(promise);
/// assert_eq!(ticket.wait(), None);
/// ```
pub struct Promise<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    answered: Condvar,
}

enum State<T> {
    /// No answer yet; a task may wait for it.
    Open(Option<Waker>),
    /// The answer, or `None` if the promise was dropped.
    Answered(Option<T>),
    /// The answer has been handed out.
    Taken,
}

impl<T> Ticket<T> {
    /// A ticket and the promise that answers it.
    pub fn pair() -> (Promise<T>, Ticket<T>) {
        let shared = Arc::new(Shared { state: Mutex::new(State::Open(None)), answered: Condvar::new() });
        (Promise { shared: Arc::clone(&shared) }, Ticket { shared })
    }

    /// Blocks until the answer is there; `None` if the asked side stopped without one.
    pub fn wait(self) -> Option<T> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(answer) = state.take() {
                return answer;
            }
            self.shared.answered.wait(&mut state);
        }
    }

    /// Blocks until the answer is there or `limit` has passed; then the ticket comes back.
    pub fn wait_for(self, limit: Duration) -> Result<Option<T>, Ticket<T>> {
        {
            let mut state = self.shared.state.lock();
            self.shared.answered.wait_while_for(&mut state, |state| matches!(state, State::Open(_)), limit);
            if let Some(answer) = state.take() {
                return Ok(answer);
            }
        }
        Err(self)
    }

    /// The answer if it is there, without blocking; the ticket comes back otherwise.
    pub fn poll_now(self) -> Result<Option<T>, Ticket<T>> {
        let answer = self.shared.state.lock().take();
        answer.ok_or(self)
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Option<Option<T>> {
        match std::mem::replace(self, State::Taken) {
            State::Answered(answer) => Some(answer),
            State::Open(waker) => {
                *self = State::Open(waker);
                None
            }
            State::Taken => panic!("a ticket's answer was taken twice"),
        }
    }
}

impl<T> Future for Ticket<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.shared.state.lock();
        match state.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                *state = State::Open(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl<T> Promise<T> {
    /// Whether somebody still holds the ticket.
    pub fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// Gives the answer.
    pub fn fulfil(self, answer: T) {
        self.shared.answer(Some(answer));
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.shared.answer(None);
    }
}

impl<T> Shared<T> {
    /// Answers, unless there is an answer already.
    fn answer(&self, answer: Option<T>) {
        let mut state = self.state.lock();
        if let State::Open(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Answered(answer);
            drop(state);
            self.answered.notify_one();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T> std::fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticket")
    }
}

impl<T> std::fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Promise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_without_an_answer_comes_back_from_a_poll() {
        let (promise, ticket) = Ticket::<u8>::pair();
        let ticket = ticket.poll_now().unwrap_err();
        promise.fulfil(1);
        assert_eq!(ticket.poll_now().unwrap(), Some(1));
    }

    #[test]
    fn a_promise_knows_whether_its_ticket_was_dropped() {
        let (promise, ticket) = Ticket::<u8>::pair();
        assert!(promise.is_wanted());
        drop(ticket);
        assert!(!promise.is_wanted());
    }

    #[test]
    fn a_ticket_wakes_the_task_that_awaits_it() {
        let (promise, mut ticket) = Ticket::<u8>::pair();
        let flag = Arc::new(Flag(Mutex::new(false)));
        let waker = Waker::from(Arc::clone(&flag));
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut ticket).poll(&mut context).is_pending());
        promise.fulfil(9);
        assert!(*flag.0.lock());
        assert_eq!(Pin::new(&mut ticket).poll(&mut context), Poll::Ready(Some(9)));
    }

    struct Flag(Mutex<bool>);

    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            *self.0.lock() = true;
        }
    }
}

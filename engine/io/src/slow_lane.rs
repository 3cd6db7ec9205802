//! One thread beside a ring for [`Slow`] operations. They run one after another: a ring would give each
//! to a worker thread of its own, and a hundred of those contend for the same directory lock. Writes overtake the
//! others, also in the middle of a long preparation.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, select_biased, unbounded};

use crate::op::{FileId, Token};
use crate::slow::{Slow, SlowDone};
use crate::{IoError, Waker};

/// What is asked of the lane. Its length is bounded by what the ring's user has in flight.
struct Asked {
    token: Token,
    file: Option<FileId>,
    slow: Slow,
}

/// What the lane has done.
pub(crate) struct Answered {
    /// Who waits for it.
    pub(crate) token: Token,
    /// The file that it was done to, if it was one that is open.
    pub(crate) file: Option<FileId>,
    pub(crate) result: Result<SlowDone, IoError>,
}

/// The lane's near end. The thread starts with the first operation and ends with this.
pub(crate) struct SlowLane {
    waker: Waker,
    running: Option<Running>,
    /// Operations asked for whose answers have not been taken.
    in_flight: usize,
}

struct Running {
    asked: Sender<Asked>,
    /// What overtakes.
    writes: Sender<Asked>,
    answered: Receiver<Answered>,
    thread: JoinHandle<()>,
}

impl SlowLane {
    /// `waker` is used after each answer.
    pub(crate) fn new(waker: Waker) -> SlowLane {
        SlowLane { waker, running: None, in_flight: 0 }
    }

    pub(crate) fn submit(&mut self, token: Token, file: Option<FileId>, slow: Slow) {
        self.in_flight += 1;
        let waker = &self.waker;
        let running = self.running.get_or_insert_with(|| start(waker.clone()));
        let way = if matches!(slow, Slow::Write { .. }) { &running.writes } else { &running.asked };
        let sent = way.send(Asked { token, file, slow });
        assert!(sent.is_ok(), "the slow lane's thread is gone");
    }

    /// Takes one answer, if there is one.
    pub(crate) fn take(&mut self) -> Option<Answered> {
        if self.in_flight == 0 {
            return None;
        }
        let answered = self.running.as_ref()?.answered.try_recv().ok()?;
        self.in_flight -= 1;
        Some(answered)
    }
}

impl Drop for SlowLane {
    /// Waits for what was asked: nothing of it may go on behind whoever opens the directory next.
    fn drop(&mut self) {
        if let Some(Running { asked, writes, answered, thread }) = self.running.take() {
            drop((asked, writes));
            drop(thread.join());
            drop(answered);
        }
    }
}

fn start(waker: Waker) -> Running {
    let (asked, to_do) = unbounded::<Asked>();
    let (writes, to_write) = unbounded::<Asked>();
    let (answers, answered) = unbounded();
    let work = move || {
        let answer = |token, file, result| {
            // Whoever asked may be gone: then nobody waits for the answer.
            drop(answers.send(Answered { token, file, result }));
            waker.wake();
        };
        let overtake = || {
            for Asked { token, file, slow } in to_write.try_iter() {
                answer(token, file, slow.perform(&|| ()));
            }
        };
        loop {
            let next = select_biased! {
                recv(to_write) -> next => next,
                recv(to_do) -> next => next,
            };
            let Ok(Asked { token, file, slow }) = next else { break };
            answer(token, file, slow.perform(&overtake));
        }
        // Both ways are closed; what was asked is done all the same.
        overtake();
        for Asked { token, file, slow } in to_do {
            answer(token, file, slow.perform(&|| ()));
        }
    };
    let thread = std::thread::Builder::new()
        .name("hw-slow-lane".to_owned())
        .spawn(work)
        .expect("the system gave no thread for the slow lane");
    Running { asked, writes, answered, thread }
}

impl std::fmt::Debug for SlowLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlowLane({} in flight)", self.in_flight)
    }
}

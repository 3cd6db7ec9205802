//! Three threads beside a ring for [`Slow`] operations. Those of each run one after another: a ring would give each operation
//! to a worker thread of its own, and a hundred of those contend for the same directory lock. What makes or gives back space
//! takes long and has one thread, and writes, for which an append waits, have one; the third does all that somebody soon waits
//! for. (Behind the preparations of other logs the dozen steps of a checkpoint were never done while the logs were busy, and
//! behind the sync of a compacted segment an append waited for tens of milliseconds.)

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};

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
    /// To the thread that makes and gives back space.
    long: Sender<Asked>,
    /// To the one that writes.
    writes: Sender<Asked>,
    /// To the one for everything else.
    short: Sender<Asked>,
    answered: Receiver<Answered>,
    threads: [JoinHandle<()>; 3],
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
        let way = match slow {
            Slow::Prepare { .. } | Slow::Truncate { .. } | Slow::Unlink { .. } | Slow::Close { .. } => {
                &running.long
            }
            Slow::Write { .. } => &running.writes,
            _ => &running.short,
        };
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
        if let Some(Running { long, writes, short, answered, threads }) = self.running.take() {
            drop((long, writes, short));
            drop(threads.map(JoinHandle::join));
            drop(answered);
        }
    }
}

fn start(waker: Waker) -> Running {
    let (answers, answered) = unbounded();
    let lane = |name: &str| {
        let (asked, to_do) = unbounded::<Asked>();
        let (answers, waker) = (answers.clone(), waker.clone());
        let work = move || {
            for Asked { token, file, slow } in to_do {
                let result = slow.perform();
                // Whoever asked may be gone: then nobody waits for the answer.
                drop(answers.send(Answered { token, file, result }));
                waker.wake();
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        (asked, thread.expect("the system gave no thread for the slow lane"))
    };
    let (long, first) = lane("hw-space-lane");
    let (writes, second) = lane("hw-write-lane");
    let (short, third) = lane("hw-slow-lane");
    Running { long, writes, short, answered, threads: [first, second, third] }
}

impl std::fmt::Debug for SlowLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlowLane({} in flight)", self.in_flight)
    }
}

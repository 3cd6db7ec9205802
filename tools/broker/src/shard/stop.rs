//! A clean stop: no new requests, answers sent, logs closed, everything said to the starting thread.

use std::time::Duration;

use highwater_base::{Mono, Now};
use highwater_io::Io;

use super::BrokerShard;
use crate::log::Level;
use crate::message::Report;

/// How far a stop has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stopping {
    /// Not at all.
    No,
    /// Connections get their last answers, until then.
    Answering { until: Mono },
    /// The connections are being closed.
    Disconnecting,
    /// Waits for the other shards: their last requests may need this one's partitions.
    Drained,
    /// The logs are being closed, until then; once `space` has come, those that only lack space are not waited for.
    Closing { space: Mono, until: Mono, tried: bool },
}

impl Stopping {
    /// When to go on although nothing happened.
    pub(super) fn deadline(self) -> Option<Mono> {
        match self {
            Stopping::Answering { until } => Some(until),
            Stopping::Closing { space, until, tried } => Some(if tried { until } else { space }),
            Stopping::No | Stopping::Disconnecting | Stopping::Drained => None,
        }
    }
}

/// Requests in flight have this long to be answered; a long poll of a consumer is cut.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Logs have this long to close; one that cannot is recovered at the next start.
const LAST_WRITES: Duration = Duration::from_secs(20);

/// A full disk is tried so long: what was acknowledged is on it, and space does not come by waiting.
const LAST_TRIES: Duration = Duration::from_secs(1);

impl BrokerShard {
    /// Begins to stop.
    pub(super) fn stop(&mut self, now: Now, io: &mut dyn Io) {
        if self.stopping == Stopping::No {
            self.front.close_listener(io);
            self.front.end_all(false);
            self.stopping = Stopping::Answering { until: now.mono.plus(LAST_ANSWERS) };
        }
    }

    /// Every shard is drained: nobody needs the logs.
    pub(super) fn close_logs(&mut self, now: Now) {
        self.partitions.close(now);
        self.stopping = Stopping::Closing {
            space: now.mono.plus(LAST_TRIES),
            until: now.mono.plus(LAST_WRITES),
            tried: false,
        };
    }

    /// Takes the next step of a stop, if it can be taken. Says whether the shard is done.
    pub(super) fn go_on_stopping(&mut self, now: Now, io: &mut dyn Io) -> bool {
        match self.stopping {
            Stopping::No | Stopping::Drained => false,
            Stopping::Answering { until } => {
                if self.front.is_empty() || now.mono >= until {
                    self.front.end_all(true);
                    self.stopping = Stopping::Disconnecting;
                    self.serve_connections(now, io);
                    return self.go_on_stopping(now, io);
                }
                false
            }
            Stopping::Disconnecting => {
                let settled = self.controller.as_ref().is_none_or(|controller| controller.is_settled());
                let idle = self.checkpoints.as_ref().is_none_or(|checkpoints| checkpoints.is_idle());
                let probed = self.directories.as_ref().is_none_or(|directories| directories.is_idle());
                if self.front.is_empty() && settled && idle && probed {
                    self.stopping = Stopping::Drained;
                    self.report(Report::Drained);
                }
                false
            }
            Stopping::Closing { space, until, .. } => {
                if !self.partitions.is_closed() && now.mono < until {
                    let full = self.partitions.full_directories();
                    if now.mono < space || full.is_empty() {
                        // Each turn looks again; the deadline is for when there is none before.
                        self.stopping = Stopping::Closing { space, until, tried: now.mono >= space };
                        return false;
                    }
                    for dir in full {
                        let line = format_args!(
                            "{} is full: its partitions could not be closed; what was acknowledged is there, and the \
                             next start looks for it; free some space before",
                            self.dirs[dir].path.display()
                        );
                        self.log.line(now, Level::Error, line);
                    }
                }
                let (offsets, clean) = (self.partitions.offsets(), self.partitions.closed_cleanly());
                let logs = self.partitions.stopped();
                self.report(Report::Stopped { offsets, logs, clean });
                true
            }
        }
    }
}

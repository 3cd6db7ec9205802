//! A clean stop: no new requests, answers sent, logs closed, everything said to the starting thread.

use std::time::Duration;

use highwater_base::{Mono, Now};
use highwater_io::Io;

use super::BrokerShard;
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
    /// The logs are being closed, until then.
    Closing { until: Mono },
}

impl Stopping {
    /// When to go on although nothing happened.
    pub(super) fn deadline(self) -> Option<Mono> {
        match self {
            Stopping::Answering { until } | Stopping::Closing { until } => Some(until),
            Stopping::No | Stopping::Disconnecting | Stopping::Drained => None,
        }
    }
}

/// Requests in flight have this long to be answered; a long poll of a consumer is cut.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Logs have this long to close; one that cannot (a full disk) is recovered at the next start.
const LAST_WRITES: Duration = Duration::from_secs(20);

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
        self.stopping = Stopping::Closing { until: now.mono.plus(LAST_WRITES) };
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
            Stopping::Closing { until } => {
                if !self.partitions.is_closed() && now.mono < until {
                    return false;
                }
                let (offsets, clean) = (self.partitions.offsets(), self.partitions.closed_cleanly());
                let logs = self.partitions.stopped();
                self.report(Report::Stopped { offsets, logs, clean });
                true
            }
        }
    }
}

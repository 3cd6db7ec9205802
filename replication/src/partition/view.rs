//! The engine's log as the machine sees it.

use highwater_base::{LeaderEpoch, Offset};
use highwater_engine::Log;
use highwater_isr::{EpochEnd, LogView};

/// Counts with what the log's durability makes good: what is synced under `each`, what is written otherwise.
pub(crate) struct View<'a>(pub(crate) &'a Log);

impl LogView for View<'_> {
    fn log_start(&self) -> Offset {
        self.0.log_start()
    }

    fn log_end(&self) -> Offset {
        self.0.log_end()
    }

    fn counted_end(&self) -> Offset {
        // After a change to `each`, less may be synced than was committed before, and deleted since: what lies below
        // the log start need not be kept by anybody.
        self.0.acknowledged_end().max(self.0.log_start())
    }

    fn latest_epoch(&self) -> LeaderEpoch {
        self.0.latest_epoch()
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        let (epoch, end) = self.0.epoch_end(epoch);
        EpochEnd { epoch, end }
    }
}

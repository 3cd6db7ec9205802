//! A move of the log to another data directory of this broker.

use std::path::Path;

use highwater_base::Uuid;

use super::{Life, Partition};

impl Partition {
    /// Begins to move the log to another data directory, at so many bytes a second: see
    /// [`highwater_engine::Log::move_to`]. [`crate::Outgoing::MoveCaughtUp`] asks for [`Partition::finish_move`],
    /// [`crate::Outgoing::Moved`] or [`crate::Outgoing::MoveFailed`] tells the end.
    pub fn move_to(&mut self, directory: &Path, from: Uuid, bytes_per_second: u64) {
        if self.life == Life::Serving {
            self.log.move_to(directory, from, bytes_per_second);
        }
    }

    /// The move goes on at another rate; 0: it waits.
    pub fn pace_move(&mut self, bytes_per_second: u64) {
        self.log.pace_move(bytes_per_second);
    }

    /// It is known where the log will be: the copy may take its place.
    pub fn finish_move(&mut self) {
        self.log.finish_move();
    }

    /// Gives the move up, unless the copy takes the log's place at this moment.
    pub fn cancel_move(&mut self) {
        self.log.cancel_move();
    }
}

//! Reads of the log, answered at once or by the disk.

use highwater_base::Offset;
use highwater_engine::{Fetched, Read, ReadError};

use super::Rig;
use crate::model::Violation;

impl Rig {
    /// Reads once, waiting for the disk if need be. `None`: the log gave up.
    pub fn read(&mut self, from: i64, upto: i64, max_bytes: usize) -> Option<Result<Fetched, ReadError>> {
        let now = self.io.clock().now();
        match self.log.read(now, Offset::new(from), Offset::new(upto), max_bytes) {
            Ok(Read::Ready(fetched)) => Some(Ok(fetched)),
            Ok(Read::Pending(id)) => {
                self.run_until(|rig| rig.reads.iter().any(|(done, _)| *done == id));
                let index = self.reads.iter().position(|(done, _)| *done == id)?;
                Some(self.reads.swap_remove(index).1)
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Reads everything from `start` up to `end`.
    pub fn read_all(&mut self, start: i64, end: i64) -> Result<Vec<u8>, Violation> {
        let (mut all, mut next) = (Vec::new(), start);
        while next < end {
            let fetched = match self.read(next, end, 4096) {
                Some(Ok(fetched)) => fetched,
                Some(Err(error)) => return Err(Violation::Lost(format!("reading at {next}: {error}"))),
                None => return Err(Violation::Bad(format!("a read at {next} was never answered"))),
            };
            if fetched.next.get() <= next {
                return Err(Violation::Hole(format!("nothing at {next}, the log ends at {end}")));
            }
            next = fetched.next.get();
            all.extend_from_slice(&fetched.to_vec());
        }
        Ok(all)
    }
}

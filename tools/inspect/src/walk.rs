//! One segment from front to back, past damage where a valid batch follows.

use highwater_base::Offset;
use highwater_engine::batch::{Batch, FrameError, HEADER_BYTES, MAGIC_PREFIX};

use crate::resync;
use crate::source::Source;

/// A step through a segment.
#[derive(Debug)]
pub(crate) enum Step {
    /// A whole batch, of which only the frame was looked at.
    Batch { position: u64, size: usize },
    /// No batch begins at `position`. If `resumes` is set, the next step is the batch there.
    Broken { position: u64, error: FrameError, resumes: Option<u64> },
    /// The file ends inside a batch, or its length says so. Likewise the next step may be a batch behind.
    Torn { position: u64, bytes: u64, resumes: Option<u64> },
    /// Nothing but zeros from `position` to the end.
    Zeros { position: u64, bytes: u64 },
}

/// Where a walk is.
#[derive(Debug)]
pub(crate) struct Walk {
    position: u64,
    ended: bool,
    /// Look for valid batches behind damage.
    resync: bool,
    /// A batch found behind damage begins at this offset or above.
    next_offset: Offset,
    budget: resync::Budget,
}

impl Walk {
    /// From the start. With `resync`, goes on at the next valid batch behind damage.
    pub(crate) fn new(source: &Source<'_>, base: Offset, resync: bool) -> Walk {
        let budget = resync::Budget::new(source.len());
        Walk { position: 0, ended: false, resync, next_offset: base, budget }
    }

    /// The next step; none at the end of the file.
    pub(crate) fn next(&mut self, source: &mut Source<'_>) -> Option<Step> {
        let position = self.position;
        let left = source.len() - position;
        if self.ended || left == 0 {
            return None;
        }
        // By Kafka's rule for files 17 bytes or fewer are no batch that has only begun.
        let prefix = source.at(position, HEADER_BYTES);
        let Some(start) = prefix.first_chunk::<MAGIC_PREFIX>().filter(|_| left > MAGIC_PREFIX as u64) else {
            self.ended = true;
            return Some(rest(source, position, |bytes| Step::Torn { position, bytes, resumes: None }));
        };
        match Batch::size_from_prefix(start, position as usize) {
            Ok(size) if size as u64 <= left => {
                self.position += size as u64;
                Some(Step::Batch { position, size })
            }
            Ok(_) => {
                let resumes = self.resume(source);
                Some(Step::Torn { position, bytes: left, resumes })
            }
            Err(error) => {
                let torn = |bytes| Step::Torn { position, bytes, resumes: None };
                if let step @ Step::Zeros { .. } = rest(source, position, torn) {
                    self.ended = true;
                    return Some(step);
                }
                let resumes = self.resume(source);
                Some(Step::Broken { position, error, resumes })
            }
        }
    }

    /// The batch just given is what it says: batches behind it have greater offsets.
    pub(crate) fn confirm(&mut self, last_offset: Offset) {
        self.next_offset = self.next_offset.max(last_offset.plus(1));
    }

    fn resume(&mut self, source: &mut Source<'_>) -> Option<u64> {
        let found = if self.resync {
            resync::next_batch(source, self.position + 1, self.next_offset, &mut self.budget)
        } else {
            None
        };
        match found {
            Some(next) => self.position = next,
            None => self.ended = true,
        }
        found
    }
}

/// What lies from `position` to the end: zeros, or what `otherwise` makes of so many bytes.
fn rest(source: &mut Source<'_>, position: u64, otherwise: impl FnOnce(u64) -> Step) -> Step {
    let bytes = source.len() - position;
    let mut at = position;
    while at < source.len() {
        let piece = source.at(at, PIECE);
        if piece.iter().any(|&byte| byte != 0) {
            return otherwise(bytes);
        }
        at += piece.len() as u64;
    }
    Step::Zeros { position, bytes }
}

const PIECE: usize = 256 << 10;

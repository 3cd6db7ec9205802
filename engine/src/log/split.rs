//! A file with offsets that an index cannot reach from its base, as older versions of Apache Kafka filled them (KAFKA-4451,
//! 5413, 6264): it is split where they begin, at a start.
//!
//! What comes behind gets a file and a name of its own, durably, before it is cut off. The front loses its indexes before
//! that, so that whatever a crash leaves is read again, and the cut made up for.

use highwater_base::{FilePos, Mutant, Offset};
use highwater_io::{FileId, OpenHow, Park};

use super::Log;
use super::open::{OnDisk, run};
use super::recover::Next;
use super::script::Step;
use crate::OpenError;
use crate::batch::{Batch, HEADER_BYTES, MAGIC_PREFIX};
use crate::layout::{FileKind, FileState};
use crate::recovery::{Triage, Window};
use crate::segment::facts_of;

/// Where a segment's file is split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    /// The front's bytes.
    position: u64,
    /// The first offset behind.
    first: Offset,
}

impl Log {
    /// Whether a segment may hold offsets out of its reach: its end is, and it was not sealed by us.
    pub(super) fn may_overreach(&self, found: &Triage, on_disk: &[OnDisk], number: usize) -> bool {
        let base = on_disk[number].base;
        let far = |next: &OnDisk| next.base.since(base) > i64::from(i32::MAX) + 1;
        on_disk.get(number + 1).is_some_and(far) && !found.has(FileKind::Seal, base)
    }

    /// Whether nothing is wrong with what lies at `at`, offset and position, of segment number `number`, but that an index
    /// does not reach it. An offset is outside its batch's checksum: only one that the next batch, or the next segment,
    /// bears out is no flipped bit.
    pub(super) fn overreach(
        &self,
        io: &mut dyn Park,
        window: &mut Window,
        on_disk: &[OnDisk],
        number: usize,
        at: (u64, Offset),
    ) -> Result<Option<Split>, OpenError> {
        let (base, next) = (on_disk[number].base, on_disk.get(number + 1).map(|next| next.base));
        if self.settings.mutant == Mutant::OffsetsNotSplit {
            return Ok(None);
        }
        let head = window.bytes(io, at.0, MAGIC_PREFIX)?;
        let size = head.first_chunk().and_then(|prefix| Batch::size_from_prefix(prefix, 0).ok());
        let Some(size) = size.filter(|size| *size as u64 <= window.len() - at.0) else { return Ok(None) };
        let bytes = window.bytes(io, at.0, size + HEADER_BYTES)?;
        let Some(batch) = Batch::at(bytes, 0).ok().flatten().filter(|batch| batch.crc_matches()) else {
            return Ok(None);
        };
        let facts = facts_of(batch);
        let far =
            facts.first >= at.1 && facts.last >= facts.first && facts.last.since(base) > i64::from(i32::MAX);
        let behind = bytes[size..].first_chunk::<8>().map(|offset| i64::from_be_bytes(*offset));
        // Made already: only the front's end is to be cut.
        let made = next == Some(facts.first);
        let borne_out = match behind.filter(|offset| *offset > 0) {
            Some(offset) => offset > facts.last.get(),
            None => next.is_some_and(|next| next > facts.last),
        };
        let fits = next.is_none_or(|next| facts.last < next);
        let split = Split { position: at.0, first: facts.first };
        Ok((far && (made || borne_out && fits)).then_some(split))
    }

    /// Splits the file of segment number `number`, which is open as `file`.
    #[allow(clippy::too_many_arguments)] // One caller.
    pub(super) fn split(
        &self,
        io: &mut dyn Park,
        file: FileId,
        mut window: Window,
        found: &Triage,
        on_disk: &[OnDisk],
        number: usize,
        at: Split,
    ) -> Result<Next, OpenError> {
        let mut found = found.clone();
        let Split { position, first } = at;
        let front = on_disk[number];
        let sync = || Step::SyncDir { path: self.dir.clone() };
        let mut steps = Vec::new();
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
            if found.files.remove(&(front.base, kind)) {
                steps.push(Step::Unlink { path: self.path(kind, front.base) });
            }
        }
        steps.push(sync());
        run(io, steps)?;
        if on_disk.get(number + 1).is_none_or(|next| next.base != first) {
            let path = self.path_as(FileKind::Log, first, FileState::Cleaned);
            let made =
                run(io, [Step::Open { path: path.clone(), how: OpenHow::CreateOrEmpty, direct: false }])?;
            let made = made.file().expect("the script leaves it open");
            let mut from = position;
            while from < front.len {
                let piece = window.bytes(io, from, self.settings.limits.write_bytes)?.to_vec();
                let len = piece.len() as u64;
                let write = Step::Write { at: FilePos::new(from - position), data: piece.into() };
                run(io, [Step::Adopt(made), write])?;
                from += len;
                if len == 0 {
                    break;
                }
            }
            let rename = Step::Rename { from: path, to: self.path(FileKind::Log, first) };
            run(io, [Step::Adopt(made), Step::Sync, Step::Close, rename, sync()])?;
            found.files.insert((first, FileKind::Log));
        }
        run(io, [Step::Adopt(file), Step::Truncate { len: position }, Step::Sync, Step::Close])?;
        Ok(Next::Split(found, first))
    }
}

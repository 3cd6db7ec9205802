//! Damage found while reading: its extent is measured, its range refused, everything around it served.

use highwater_base::{FilePos, Offset};

use super::Log;
use super::cold::Job;
use crate::recovery::Damage;

impl Log {
    /// Bad bytes at a reader's place: their extent is measured, then they are quarantined.
    pub(super) fn take_bad(&mut self, slot: usize) -> bool {
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        let (base, position) = (reader.segment, reader.position.expect("placed"));
        if matches!(reader.job, Some(Job::Fetch { taken: Some(_), .. })) {
            return self.finish_fetch(slot);
        }
        if let Some(damage) = self.quarantine.at(base, FilePos::new(position)).cloned()
            && reader.damaged.is_none()
        {
            return self.pass_damage(slot, &damage);
        }
        let Some(expected) = reader.expected.or(reader.damaged.map(|(_, expected)| expected)) else {
            // Found by an index entry: it may be the index that is bad. Walk from the segment's beginning.
            reader.seek(base, Some(0), Some(base));
            return false;
        };
        let began = reader.damaged.map_or(position, |(began, _)| began);
        let index = self.segment_index(base).expect("it was looked at");
        let size = self.segments[index].size;
        let next = self.segments[index]
            .offsets()
            .and_then(|offsets| offsets.first_from(FilePos::new(position + 1)))
            .map(|entry| (entry.position.get(), Some(entry.offset)))
            .filter(|(at, _)| *at > position && *at < size)
            .unwrap_or((size, None));
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        reader.seek(base, Some(next.0), None);
        reader.promised = next.1;
        reader.damaged = Some((began, expected));
        false
    }

    /// The extent of damage is known: the reader begins again, and is now refused or led around it.
    pub(super) fn reread_after_damage(&mut self, slot: usize, expected: Offset) -> bool {
        let damage = self.quarantine.holding(expected).cloned().expect("added just now");
        self.pass_damage(slot, &damage)
    }

    pub(super) fn pass_damage(&mut self, slot: usize, damage: &Damage) -> bool {
        let path = self.log_path(damage.segment);
        let reader = self.readers.slots[slot].as_mut().expect("a reader with a job");
        let wanted = match reader.job.as_ref().expect("a reader with a job") {
            Job::Fetch { from, .. } => *from < damage.until,
            // A lookup answers from what can be read; a rebuild takes what there is.
            Job::Time { .. } | Job::Check { .. } | Job::Rebuild { .. } => false,
        };
        if wanted {
            let job = reader.job.take().expect("checked above");
            reader.dead = true;
            self.answer(job, Err(damage.error(path)));
            return true;
        }
        reader.seek(damage.segment, Some(damage.position_end.get()), Some(damage.until));
        false
    }
}

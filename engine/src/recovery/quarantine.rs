//! Damaged ranges: kept on disk, refused to readers, everything around them served.

use std::path::PathBuf;

use highwater_base::{FilePos, Offset};

use crate::ReadError;

/// A range of offsets whose bytes are damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Damage {
    /// The segment's base.
    pub(crate) segment: Offset,
    /// Where the bad bytes begin.
    pub(crate) position: FilePos,
    /// Where the next good batch begins, or the segment ends.
    pub(crate) position_end: FilePos,
    /// The first damaged offset.
    pub(crate) from: Offset,
    /// The first good offset behind.
    pub(crate) until: Offset,
}

/// The damaged ranges of a log, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quarantine {
    ranges: Vec<Damage>,
}

impl Quarantine {
    /// Adds a range; one that is known by its beginning replaces what was known.
    pub(crate) fn add(&mut self, damage: Damage) {
        self.ranges.retain(|known| known.from != damage.from);
        let at = self.ranges.partition_point(|known| known.from < damage.from);
        self.ranges.insert(at, damage);
    }

    /// The range that holds this offset.
    pub(crate) fn holding(&self, offset: Offset) -> Option<&Damage> {
        self.ranges.iter().find(|damage| damage.from <= offset && offset < damage.until)
    }

    /// The range whose bad bytes hold this position of this segment.
    pub(crate) fn at(&self, segment: Offset, position: FilePos) -> Option<&Damage> {
        self.ranges.iter().find(|damage| {
            damage.segment == segment && damage.position <= position && position < damage.position_end
        })
    }

    /// Whether bad bytes lie in this range of this segment.
    pub(crate) fn touches(&self, segment: Offset, range: &std::ops::Range<u64>) -> bool {
        self.ranges.iter().any(|damage| {
            let (start, end) = (damage.position.get(), damage.position_end.get());
            damage.segment == segment && start < range.end && range.start < end
        })
    }

    /// Whether nothing is damaged.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Forgets what lies below `start`.
    pub(crate) fn trim(&mut self, start: Offset) {
        self.ranges.retain(|damage| damage.until > start);
    }

    /// Forgets what was cut away.
    pub(crate) fn truncate(&mut self, end: Offset) {
        self.ranges.retain(|damage| damage.from < end);
    }
}

impl Damage {
    /// What a reader of this range is told.
    pub(crate) fn error(&self, file: PathBuf) -> ReadError {
        ReadError::Damaged { file, position: self.position, from: self.from, until: self.until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(from: i64, until: i64) -> Damage {
        Damage {
            segment: Offset::ZERO,
            position: FilePos::new(from as u64 * 10),
            position_end: FilePos::new(until as u64 * 10),
            from: Offset::new(from),
            until: Offset::new(until),
        }
    }

    #[test]
    fn only_the_damaged_range_is_refused() {
        let mut quarantine = Quarantine::default();
        quarantine.add(damage(50, 60));
        quarantine.add(damage(5, 7));
        quarantine.add(damage(5, 8));
        assert!(quarantine.holding(Offset::new(4)).is_none());
        assert_eq!(quarantine.holding(Offset::new(7)), Some(&damage(5, 8)));
        assert!(quarantine.holding(Offset::new(8)).is_none());
        assert!(quarantine.at(Offset::ZERO, FilePos::new(599)).is_some());
        quarantine.trim(Offset::new(8));
        quarantine.truncate(Offset::new(50));
        assert!(quarantine.is_empty());
    }
}

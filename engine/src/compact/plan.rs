//! Which logs are worth compacting, how far, and which segments become one (kafka.md 3.7).

use std::ops::Range;

use highwater_base::{Offset, WallMs};

/// A log's settings of compaction; Kafka's names and defaults.
///
/// ```
/// let settings = highwater_engine::compact::CompactionSettings::default();
/// assert_eq!((settings.min_dirty_ratio, settings.delete_retention_ms), (0.5, 86_400_000));
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CompactionSettings {
    /// `min.cleanable.dirty.ratio`: the part of the log that is not compacted yet, from which on it is worth it; 0 to
    /// 1. Default 0.5.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: a record stays uncompacted for so long. Default 0.
    pub min_lag_ms: u64,
    /// `max.compaction.lag.ms`: a record is compacted at the latest so long after it was written, whatever the ratio; at
    /// least 1. Default `u64::MAX`, no limit.
    pub max_lag_ms: u64,
    /// `delete.retention.ms`: how long tombstones and transaction markers stay for slow readers. Default a day.
    pub delete_retention_ms: u64,
}

impl Default for CompactionSettings {
    fn default() -> CompactionSettings {
        CompactionSettings {
            min_dirty_ratio: 0.5,
            min_lag_ms: 0,
            max_lag_ms: u64::MAX,
            delete_retention_ms: 86_400_000,
        }
    }
}

/// A segment, as compaction sees it.
///
/// ```
/// use highwater_base::{Offset, WallMs};
/// let source = highwater_engine::compact::Source {
///     base: Offset::ZERO, end: Offset::new(10), bytes: 1000, offset_index_bytes: 8, time_index_bytes: 12,
///     oldest: WallMs::new(1), newest: WallMs::new(5), damaged: false,
/// };
/// assert!(source.end > source.base);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// Its base offset.
    pub base: Offset,
    /// The next segment's base.
    pub end: Offset,
    /// Its size.
    pub bytes: u64,
    /// Bytes of its offset index.
    pub offset_index_bytes: u64,
    /// Bytes of its time index.
    pub time_index_bytes: u64,
    /// The largest timestamp of its first batch, or its last modification if that has none.
    pub oldest: WallMs,
    /// Its largest timestamp, or its last modification if no batch carries one.
    pub newest: WallMs,
    /// Part of it cannot be read: it stays as it is, and no other becomes one with it.
    pub damaged: bool,
}

/// Between which offsets a log may be compacted.
///
/// ```
/// use highwater_base::Offset;
/// let bounds = highwater_engine::compact::Bounds { first_dirty: Offset::ZERO, stable: Offset::new(7) };
/// assert!(bounds.first_dirty < bounds.stable);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Everything below was compacted before: from the cleaner's checkpoint. One outside the segments counts as none.
    pub first_dirty: Offset,
    /// Nothing at or beyond is looked at: the last stable offset, and what is durable.
    pub stable: Offset,
}

/// What there is to compact.
///
/// ```
/// use highwater_base::Offset;
/// let dirty = highwater_engine::compact::Dirty {
///     from: Offset::ZERO, upto: Offset::new(9), clean_bytes: 100, dirty_bytes: 300, overdue: false,
/// };
/// assert!(dirty.ratio() > 0.7 && dirty.is_due(0.5) && !dirty.is_due(0.8));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dirty {
    /// The first offset that was not compacted.
    pub from: Offset,
    /// The end of what may be compacted: a segment's end.
    pub upto: Offset,
    /// Bytes before `from`.
    pub clean_bytes: u64,
    /// Bytes of `from..upto`, by whole segments.
    pub dirty_bytes: u64,
    /// Something is older than `max.compaction.lag.ms`.
    pub overdue: bool,
}

impl Dirty {
    /// The dirty part of what is looked at; 0 if there is nothing.
    pub fn ratio(&self) -> f64 {
        let all = self.clean_bytes + self.dirty_bytes;
        if all == 0 { 0.0 } else { self.dirty_bytes as f64 / all as f64 }
    }

    /// Whether a log with this `min.cleanable.dirty.ratio` is compacted now.
    pub fn is_due(&self, min_ratio: f64) -> bool {
        self.dirty_bytes > 0 && (self.overdue || self.ratio() > min_ratio)
    }
}

/// What there is to compact of a log. `segments`: those that are complete and sealed, in order, from the first.
pub fn dirty(segments: &[Source], bounds: Bounds, settings: &CompactionSettings, now: WallMs) -> Dirty {
    let first = segments.first().map_or(Offset::ZERO, |segment| segment.base);
    let end = segments.last().map_or(first, |segment| segment.end);
    // A checkpoint beyond the log (it was cut since), or below it, is none (KAFKA-3330, 3123).
    let inside = bounds.first_dirty >= first && bounds.first_dirty <= end;
    let from = if inside { bounds.first_dirty } else { first };
    let age = |time: WallMs| i128::from(now.get()) - i128::from(time.get());
    let cleanable = segments.iter().take_while(|segment| {
        segment.end <= bounds.stable
            && (settings.min_lag_ms == 0 || age(segment.newest) >= i128::from(settings.min_lag_ms))
    });
    let (mut clean_bytes, mut dirty_bytes, mut overdue, mut upto) = (0, 0, false, from);
    for segment in cleanable {
        if segment.end <= from {
            clean_bytes += segment.bytes;
            continue;
        }
        // A segment that was mapped in part only is dirty as a whole.
        dirty_bytes += segment.bytes;
        overdue |= settings.max_lag_ms < u64::MAX && age(segment.oldest) > i128::from(settings.max_lag_ms);
        upto = segment.end;
    }
    Dirty { from, upto, clean_bytes, dirty_bytes, overdue }
}

/// Groups of neighbours, each of which becomes one segment: those from the first one to the one that holds the last
/// offset below `end`. No group is larger than the limits, unless a single segment is; none spans more than 2^31 - 1
/// offsets; a damaged segment is in none.
pub fn groups(segments: &[Source], end: Offset, segment_bytes: u64, index_bytes: u64) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut bytes, mut offsets, mut times) = (0, 0, 0);
    let mut open = false;
    for (number, segment) in segments.iter().enumerate().take_while(|(_, segment)| segment.base < end) {
        if segment.damaged {
            open = false;
            continue;
        }
        let fits = bytes + segment.bytes <= segment_bytes
            && offsets + segment.offset_index_bytes <= index_bytes
            && times + segment.time_index_bytes <= index_bytes;
        match groups.last_mut() {
            Some(group)
                if open && fits && segment.end.since(segments[group.start].base) <= i64::from(i32::MAX) =>
            {
                group.end = number + 1;
                bytes += segment.bytes;
                offsets += segment.offset_index_bytes;
                times += segment.time_index_bytes;
            }
            _ => {
                groups.push(number..number + 1);
                (bytes, offsets, times) =
                    (segment.bytes, segment.offset_index_bytes, segment.time_index_bytes);
                open = true;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<Source> {
        let one = |i: i64| Source {
            base: Offset::new(i * 10),
            end: Offset::new(i * 10 + 10),
            bytes: 100,
            offset_index_bytes: 16,
            time_index_bytes: 24,
            oldest: WallMs::new(i * 100),
            newest: WallMs::new(i * 100 + 99),
            damaged: false,
        };
        (0..5).map(one).collect()
    }

    fn found(first_dirty: i64, stable: i64, settings: CompactionSettings) -> Dirty {
        let bounds = Bounds { first_dirty: Offset::new(first_dirty), stable: Offset::new(stable) };
        dirty(&segments(), bounds, &settings, WallMs::new(1000))
    }

    #[test]
    fn whole_segments_between_the_checkpoint_and_the_stable_end_are_dirty() {
        let none = CompactionSettings::default();
        let all = found(0, 99, none);
        assert_eq!((all.dirty_bytes, all.clean_bytes, all.upto), (500, 0, Offset::new(50)));
        let some = found(20, 45, none);
        assert_eq!((some.dirty_bytes, some.clean_bytes, some.upto), (200, 200, Offset::new(40)));
        assert!(!some.is_due(0.5) && some.is_due(0.49));
        let nothing = found(50, 99, none);
        assert_eq!((nothing.dirty_bytes, nothing.is_due(0.0)), (0, false));
    }

    #[test]
    fn a_checkpoint_outside_the_log_counts_as_none() {
        for checkpoint in [-1, 51, 1000] {
            assert_eq!(found(checkpoint, 99, CompactionSettings::default()).dirty_bytes, 500);
        }
    }

    #[test]
    fn young_records_wait_and_old_ones_wait_no_longer() {
        let lag = CompactionSettings { min_lag_ms: 700, ..CompactionSettings::default() };
        assert_eq!(found(0, 99, lag).upto, Offset::new(30));
        let overdue =
            |max_lag_ms| found(40, 99, CompactionSettings { max_lag_ms, ..CompactionSettings::default() });
        assert!(overdue(599).is_due(0.5));
        assert!(!overdue(600).is_due(0.5));
    }

    #[test]
    fn groups_stay_within_every_limit() {
        let ends = |limit, index| -> Vec<usize> {
            groups(&segments(), Offset::new(50), limit, index).iter().map(|group| group.end).collect()
        };
        assert_eq!(ends(250, 1000), [2, 4, 5]);
        assert_eq!(ends(1000, 1000), [5]);
        assert_eq!(ends(1000, 72), [3, 5]);
        assert_eq!(ends(10, 1000), [1, 2, 3, 4, 5]);
        assert_eq!(groups(&segments(), Offset::new(21), 1000, 1000).last(), Some(&(0..3)));
        assert_eq!(groups(&segments(), Offset::ZERO, 1000, 1000), []);
    }

    #[test]
    fn a_damaged_segment_is_left_alone_and_a_wide_gap_parts_groups() {
        let mut all = segments();
        all[2].damaged = true;
        assert_eq!(groups(&all, Offset::new(50), 1000, 1000), [0..2, 3..5]);
        let mut wide = segments();
        wide[4].end = Offset::new(1 << 31);
        assert_eq!(groups(&wide, Offset::new(50), 1000, 1000), [0..4, 4..5]);
    }
}

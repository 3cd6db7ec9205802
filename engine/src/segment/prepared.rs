//! Space ahead of the write position: how much, when, and of which kind. Pure.

use highwater_base::{BLOCK, Limits};
use highwater_io::Prepared;

use crate::{Durability, LogSettings, Preallocate};

/// What a segment's space looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// Bytes staged for the segment so far.
    pub(crate) staged: u64,
    /// The file's length.
    pub(crate) prepared: u64,
    /// Length of the last step, 0 before the first.
    pub(crate) step: u64,
    /// The segment will roll at this size, so no space is needed behind it.
    pub(crate) segment_bytes: u64,
    /// What acknowledgements promise.
    pub(crate) durability: Durability,
    /// What the settings ask for.
    pub(crate) preallocate: Preallocate,
}

/// The next step of preparation, if one is due: its length and kind.
///
/// The first step is small, because most logs never need another; then they double from `prepare_min_bytes` to
/// `prepare_max_bytes`. One is due when less than half the last is left. Where each append is synced they are written
/// with zeros: a sync on written blocks is a device flush and no journal commit (98 against 168 microseconds).
/// Where appends are not synced one by one the second write of every byte is not repaid.
pub(crate) fn next_step(ahead: Ahead, limits: &Limits) -> Option<(u64, Prepared)> {
    let capacity = ahead.segment_bytes.next_multiple_of(BLOCK);
    if ahead.preallocate == Preallocate::Written && ahead.prepared < capacity {
        return Some((capacity - ahead.prepared, Prepared::Zeroed));
    }
    let needed = ahead.staged.next_multiple_of(BLOCK);
    let left = ahead.prepared.saturating_sub(needed);
    let missing = needed > ahead.prepared;
    if ahead.staged == 0 || (!missing && left >= ahead.step.div_ceil(2)) {
        return None;
    }
    if !missing && ahead.prepared >= capacity {
        return None;
    }
    let step = match ahead.step {
        0 => limits.prepare_first_bytes,
        last => (last * 2).clamp(limits.prepare_min_bytes, limits.prepare_max_bytes),
    };
    // A whole segment at most, but always what is staged already.
    let target = (ahead.prepared + step).min(capacity).max(needed).next_multiple_of(BLOCK);
    Some((target - ahead.prepared, kind(ahead.durability)))
}

/// Whether a log's space is written with zeros before it is used.
pub(crate) fn wants_zeros(settings: &LogSettings) -> bool {
    settings.preallocate == Preallocate::Written || kind(settings.durability) == Prepared::Zeroed
}

/// Which kind of space pays under this durability.
fn kind(durability: Durability) -> Prepared {
    match durability {
        Durability::Each => Prepared::Zeroed,
        Durability::Interval { .. } | Durability::Os => Prepared::Allocated,
    }
}

/// The space that a segment's file gets when it is made: a log's first (`step` 0), or one that goes on where the last
/// step was so long.
pub(crate) fn first_step(step: u64, settings: &LogSettings) -> (u64, Prepared) {
    let capacity = settings.segment_bytes.next_multiple_of(BLOCK);
    let limits = &settings.limits;
    match settings.preallocate {
        Preallocate::Written => (capacity, Prepared::Zeroed),
        Preallocate::Ahead if step == 0 => {
            (limits.prepare_first_bytes.min(capacity), kind(settings.durability))
        }
        Preallocate::Ahead => (limits.prepare_min_bytes.min(capacity), kind(settings.durability)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AHEAD: Ahead = Ahead {
        staged: 100,
        prepared: 0,
        step: 0,
        segment_bytes: 64 << 20,
        durability: Durability::Each,
        preallocate: Preallocate::Ahead,
    };

    #[test]
    fn steps_double_up_to_the_limit_and_end_with_the_segment() {
        let limits = Limits::PRODUCTION;
        let (mut ahead, mut steps) = (AHEAD, Vec::new());
        while let Some((len, _)) = next_step(ahead, &limits) {
            steps.push(len >> 10);
            ahead.prepared += len;
            ahead.step = len;
            ahead.staged = ahead.prepared;
            if steps.len() > 20 || ahead.prepared >= ahead.segment_bytes {
                break;
            }
        }
        assert_eq!(steps, [64, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 16 << 10, 16 << 10, 960]);
    }

    #[test]
    fn nothing_is_prepared_for_an_empty_log_or_while_enough_is_left() {
        assert_eq!(next_step(Ahead { staged: 0, ..AHEAD }, &Limits::PRODUCTION), None);
        let half = Ahead { staged: 100, prepared: 1 << 20, step: 1 << 20, ..AHEAD };
        assert_eq!(next_step(half, &Limits::PRODUCTION), None);
    }

    #[test]
    fn a_batch_beyond_the_segment_s_size_gets_its_space() {
        let large = Ahead { staged: 5000, prepared: 4096, step: 4096, segment_bytes: 4096, ..AHEAD };
        assert_eq!(next_step(large, &Limits::TINY).unwrap().0, 4096);
    }

    #[test]
    fn a_whole_segment_is_written_at_once_where_that_is_asked() {
        let asked = Ahead { staged: 0, preallocate: Preallocate::Written, ..AHEAD };
        assert_eq!(next_step(asked, &Limits::PRODUCTION), Some((64 << 20, Prepared::Zeroed)));
    }

    #[test]
    fn zeros_are_written_only_where_each_append_is_synced() {
        let later = Ahead { staged: 1 << 20, prepared: 1 << 20, step: 1 << 20, ..AHEAD };
        for each in [AHEAD, later] {
            assert_eq!(next_step(each, &Limits::PRODUCTION).unwrap().1, Prepared::Zeroed);
            let os = Ahead { durability: Durability::Os, ..each };
            assert_eq!(next_step(os, &Limits::PRODUCTION).unwrap().1, Prepared::Allocated);
        }
    }

    #[test]
    fn a_segment_that_goes_on_begins_with_more_than_a_new_log() {
        let settings = LogSettings { durability: Durability::Os, ..LogSettings::default() };
        assert_eq!(first_step(0, &settings), (64 << 10, Prepared::Allocated));
        assert_eq!(first_step(8 << 20, &settings), (1 << 20, Prepared::Allocated));
        let settings = LogSettings { segment_bytes: 5000, durability: Durability::Each, ..settings };
        assert_eq!(first_step(8 << 20, &settings), (8192, Prepared::Zeroed));
    }
}

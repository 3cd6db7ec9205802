//! Which log of a shard is compacted next: one at a time, so that the memory for keys is bounded.

use std::time::Duration;

use highwater_base::{Mono, Now};

use crate::Log;
use crate::compact::Dirty;

/// What compaction may take of a shard; Kafka's defaults for one thread.
///
/// ```
/// let settings = highwater_engine::CleanerSettings::default();
/// assert!(settings.enabled && settings.memory_bytes == 128 << 20);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanerSettings {
    /// Whether anything is compacted (`log.cleaner.enable`). Default true.
    pub enabled: bool,
    /// Memory for the keys of the pass under way (`log.cleaner.dedupe.buffer.size`, over all shards). Default 128 MiB.
    pub memory_bytes: usize,
    /// Bytes read and written a second, `u64::MAX` for no limit (`log.cleaner.io.max.bytes.per.second`, over all
    /// shards). Default none.
    pub bytes_per_second: u64,
    /// How long to wait after a look that found nothing to do (`log.cleaner.backoff.ms`). Default 15 s.
    pub backoff: Duration,
}

impl Default for CleanerSettings {
    fn default() -> CleanerSettings {
        CleanerSettings {
            enabled: true,
            memory_bytes: 128 << 20,
            bytes_per_second: u64::MAX,
            backoff: Duration::from_secs(15),
        }
    }
}

/// How soon after a pass began the next look is: there may be more.
const NEXT_LOOK: Duration = Duration::from_secs(1);

/// Begins a pass over the dirtiest log, whenever none is under way.
///
/// ```
/// use highwater_base::{Mono, Now, WallMs};
/// use highwater_engine::{Cleaner, CleanerSettings};
/// let now = Now { mono: Mono::ZERO, wall: WallMs::new(0) };
/// let mut cleaner = Cleaner::new(now, CleanerSettings::default());
/// assert_eq!(cleaner.drive(now, &mut std::iter::empty()), None);
/// assert!(cleaner.deadline().unwrap() > now.mono);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cleaner {
    settings: CleanerSettings,
    next: Mono,
}

impl Cleaner {
    /// Looks for the first time one back-off from now.
    pub fn new(now: Now, settings: CleanerSettings) -> Cleaner {
        Cleaner { settings, next: now.mono.plus(settings.backoff) }
    }

    /// What it may take.
    pub fn settings(&self) -> &CleanerSettings {
        &self.settings
    }

    /// When [`Cleaner::drive`] is due; `None`: never.
    pub fn deadline(&self) -> Option<Mono> {
        self.settings.enabled.then_some(self.next)
    }

    /// Looks at all logs if that is due, and begins a pass over the one with the largest dirty part if none is being
    /// compacted. Gives its owner number: it is to be stepped.
    pub fn drive(&mut self, now: Now, logs: &mut dyn Iterator<Item = &mut Log>) -> Option<u32> {
        if !self.settings.enabled || now.mono < self.next {
            return None;
        }
        self.next = now.mono.plus(self.settings.backoff);
        let soon = now.mono.plus(self.settings.backoff.min(NEXT_LOOK));
        let mut best: Option<(&mut Log, Dirty)> = None;
        for log in logs {
            if log.is_compacting() {
                self.next = soon;
                return None;
            }
            let Some(settings) = log.settings().compaction else { continue };
            let dirty = log.dirty(now).filter(|dirty| dirty.is_due(settings.min_dirty_ratio));
            if let Some(dirty) = dirty
                && best.as_ref().is_none_or(|(_, best)| dirty.ratio() > best.ratio())
            {
                best = Some((log, dirty));
            }
        }
        let (log, _) = best?;
        self.next = soon;
        log.compact(now, self.settings.memory_bytes, self.settings.bytes_per_second).then(|| log.owner())
    }
}

//! What every handler works on: the log as it is, the time, the high watermark, the effects.

use std::collections::VecDeque;

use highwater_base::{BrokerId, Mono, Offset};

use crate::{Effect, LogView, ReplicaSettings, Weakened};

pub(crate) struct Env<'a> {
    pub(crate) me: BrokerId,
    pub(crate) settings: &'a ReplicaSettings,
    pub(crate) log: &'a dyn LogView,
    pub(crate) now: Mono,
    pub(crate) high_watermark: &'a mut Offset,
    pub(crate) effects: &'a mut VecDeque<Effect>,
}

impl Env<'_> {
    pub(crate) fn say(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(crate) fn weakened(&self, rule: Weakened) -> bool {
        self.settings.weakened == rule
    }

    /// Raises the high watermark to `to`, if that is higher, and says so.
    pub(crate) fn raise_high_watermark(&mut self, to: Offset) {
        if to > *self.high_watermark {
            *self.high_watermark = to;
            self.say(Effect::SetHighWatermark(to));
        }
    }
}

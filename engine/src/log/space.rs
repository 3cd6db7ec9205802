//! Room on the log's file system: appends are refused before it is full, and taken again by themselves.

use std::path::Path;
use std::time::Duration;

use highwater_base::{Mono, Now};
use highwater_io::{ErrorKind, Io, IoError, Op, Outcome};

use super::flight::Flight;
use super::{Log, LogEvent, State};
use crate::tail::Place;

/// What is known of the room.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Appends are refused for want of room.
    low: Option<Box<IoError>>,
    /// The system is being asked.
    asking: bool,
    /// When it was last asked; none: never.
    asked_at: Option<Mono>,
    /// What it said.
    free: u64,
    /// Where the log ended then.
    end: Place,
}

impl Room {
    /// Why appends are refused, if they are.
    pub(super) fn low(&self) -> Option<&IoError> {
        self.low.as_deref()
    }
}

/// Whether appends are to be refused: below the mark yes, and once they are, until there is an eighth more than the mark.
/// Without that eighth a directory at its mark would refuse and take appends by turns.
///
/// ```text
/// refuses(99, 100, false) == true    refuses(111, 100, true) == true    refuses(112, 100, true) == false
/// ```
const fn refuses(free: u64, mark: u64, refusing: bool) -> bool {
    free < if refusing { mark.saturating_add(mark / 8) } else { mark }
}

/// How many bytes may be appended before the system is asked again: a sixteenth of what is left above the mark.
const fn stride(free: u64, mark: u64) -> u64 {
    let share = free.saturating_sub(mark) / 16;
    if share > LEAST_STRIDE { share } else { LEAST_STRIDE }
}

impl Log {
    /// Asks how much room there is: at first, when appends have used up a share of it, and now and then while they come
    /// or are refused (others write to the file system, too). An idle log asks nothing.
    pub(super) fn drive_space(&mut self, now: Now, io: &mut dyn Io) {
        if self.settings.min_free_bytes == 0 {
            return self.enough_room();
        }
        let due = match self.room.asked_at {
            None => true,
            Some(at) => {
                let used = self.tail.end().since(self.room.end.min(self.tail.end()));
                used >= stride(self.room.free, self.settings.min_free_bytes)
                    || (self.asks_again() && now.mono.since(at) >= ASK_AGAIN)
            }
        };
        // Already while it is being made, so that a new log knows before its first append.
        if !matches!(self.state, State::Creating | State::Open) || self.room.asking || !due {
            return;
        }
        self.room.asking = true;
        self.room.asked_at = Some(now.mono);
        self.room.end = self.tail.end();
        let token = self.flights.begin(self.owner, Flight::Space);
        let above = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        io.submit(Op::Space { path: above.unwrap_or(Path::new(".")).to_path_buf() }, token);
    }

    /// Whether something waits for space on the log's device: a write, or what a stop leaves behind.
    pub fn lacks_space(&self) -> bool {
        self.no_space.is_some()
    }

    fn asks_again(&self) -> bool {
        self.room.low.is_some() || self.room.end != self.tail.end()
    }

    pub(super) fn space_deadline(&self) -> Option<Mono> {
        let open = self.state == State::Open && self.settings.min_free_bytes > 0 && !self.room.asking;
        self.room.asked_at.filter(|_| open && self.asks_again()).map(|at| at.plus(ASK_AGAIN))
    }

    /// Takes what the system said. One that cannot say is not believed to be full: writes will tell.
    pub(super) fn space_told(&mut self, result: Result<Outcome, IoError>) {
        self.room.asking = false;
        let Ok(Outcome::Space { free, .. }) = result else { return self.enough_room() };
        self.room.free = free;
        let mark = self.settings.min_free_bytes;
        if !refuses(free, mark, self.room.low.is_some()) {
            return self.enough_room();
        }
        let dir = self.dir.display();
        let subject =
            format!("to {dir}, which has {free} bytes free, fewer than its low-water mark of {mark}");
        if self.room.low.replace(Box::new(IoError::of(ErrorKind::NoSpace, "append", subject))).is_none() {
            self.events.push_back(LogEvent::LowSpace { free, mark });
        }
    }

    fn enough_room(&mut self) {
        if self.room.low.take().is_some() && self.no_space.is_none() {
            self.events.push_back(LogEvent::SpaceReturned);
        }
    }
}

/// How often the system is asked at most for want of other reasons.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Fewer bytes than these are no reason to ask.
const LEAST_STRIDE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_refused_appends_wait_for_an_eighth_more() {
        let cases = [
            (0, false, true),
            (799, false, true),
            (800, false, false),
            (899, false, false),
            (800, true, true),
            (899, true, true),
            (900, true, false),
            (u64::MAX, true, false),
        ];
        for (free, refusing, expected) in cases {
            assert_eq!(refuses(free, 800, refusing), expected, "{free} {refusing}");
        }
        assert!(!refuses(0, 0, false), "without a mark nothing is refused");
    }

    #[test]
    fn the_nearer_the_mark_the_sooner_the_system_is_asked() {
        assert_eq!(stride(100, 800), LEAST_STRIDE);
        assert_eq!(stride(800 + (1 << 30), 800), 64 << 20);
    }
}

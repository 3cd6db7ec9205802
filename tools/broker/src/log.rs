//! Lines for the operator: to standard error, one line each, with time and level. Repeated ones are counted.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use highwater_base::{Mono, Now, WallMs};

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    /// It went as it should.
    Info,
    /// It may need attention.
    Warn,
    /// It needs attention.
    Error,
}

/// Writes lines. Each thread has its own; a line is written with one call, so lines of threads do not mix.
#[derive(Debug)]
pub(crate) struct Log {
    name: String,
    seen: BTreeMap<&'static str, Window>,
    #[cfg(test)]
    pub(crate) lines: Vec<String>,
}

#[derive(Debug)]
struct Window {
    start: Mono,
    shown: u32,
    hidden: u64,
}

/// Of one kind of line, so many are shown in each window; the rest are counted.
const SHOWN: u32 = 16;
const WINDOW: Duration = Duration::from_secs(10);

impl Log {
    /// A log whose lines carry this name (of a shard).
    pub(crate) fn new(name: impl Into<String>) -> Log {
        Log {
            name: name.into(),
            seen: BTreeMap::new(),
            #[cfg(test)]
            lines: Vec::new(),
        }
    }

    /// A line that is always written.
    pub(crate) fn line(&mut self, now: Now, level: Level, text: impl fmt::Display) {
        let line = format_line(now.wall, level, &self.name, &text.to_string());
        #[cfg(test)]
        self.lines.push(line);
        // A broker whose standard error is closed still serves.
        #[cfg(not(test))]
        let _closed = std::io::stderr().write_all(line.as_bytes());
        #[cfg(test)]
        let _unused = std::io::sink().flush();
    }

    /// A line of a `kind` that outside events can cause without limit: the first few of each ten seconds are
    /// written, the others counted.
    pub(crate) fn repeated(&mut self, now: Now, level: Level, kind: &'static str, text: impl fmt::Display) {
        let window = self.seen.entry(kind).or_insert(Window { start: now.mono, shown: 0, hidden: 0 });
        let hidden = window.hidden;
        if now.mono.since(window.start) >= WINDOW {
            *window = Window { start: now.mono, shown: 0, hidden: 0 };
        } else if window.shown >= SHOWN {
            window.hidden += 1;
            return;
        }
        window.shown += 1;
        match if window.shown == 1 { hidden } else { 0 } {
            0 => self.line(now, level, text),
            hidden => self.line(now, level, format_args!("{text} ({hidden} more such lines were left out)")),
        }
    }
}

fn format_line(at: WallMs, level: Level, name: &str, text: &str) -> String {
    let level = match level {
        Level::Info => "INFO ",
        Level::Warn => "WARN ",
        Level::Error => "ERROR",
    };
    // What clients and files say must not begin a line of its own, or move the cursor of a terminal.
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2000).collect();
    format!("{} {level} {name}: {clean}\n", Utc(at))
}

/// A wall-clock time as RFC 3339 in UTC.
pub(crate) struct Utc(pub(crate) WallMs);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.get().max(0);
        let (days, ms) = (ms / 86_400_000, ms % 86_400_000);
        let (year, month, day) = civil(days);
        let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", ms % 1000)
    }
}

/// Year, month and day of a number of days since 1970-01-01, not before it (H. Hinnant, "chrono-compatible
/// low-level date algorithms": years begin in March, so that a leap day is a year's last).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono: Mono::ZERO.plus(Duration::from_secs(seconds)), wall: WallMs::new(seconds as i64 * 1000) }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(Utc(WallMs::new(ms)).to_string(), text);
        }
    }

    #[test]
    fn a_flood_of_one_kind_is_counted_and_others_are_written() {
        let mut log = Log::new("shard-0");
        for i in 0..100 {
            log.repeated(at(0), Level::Warn, "frame", format_args!("bad frame {i}"));
        }
        log.repeated(at(1), Level::Warn, "accept", "out of handles");
        assert_eq!(log.lines.len(), 17);
        log.repeated(at(11), Level::Warn, "frame", "bad frame");
        assert!(
            log.lines[17].ends_with("bad frame (84 more such lines were left out)\n"),
            "{}",
            log.lines[17]
        );
    }

    #[test]
    fn a_line_stays_one_line() {
        let mut log = Log::new("x");
        log.line(at(0), Level::Info, "a\nb\x1b[2J");
        assert_eq!(log.lines[0], "1970-01-01T00:00:00.000Z INFO  x: a b [2J\n");
    }
}

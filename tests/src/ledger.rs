//! What a writer in another process said that it did, line by line, and what must therefore be found after it died.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use highwater_base::Limits;
use highwater_engine::{Durability, LogSettings, Preallocate};

use crate::model::{Frame, Violation, frames};

/// The logs that a writer writes.
pub const LOGS: [&str; 3] = ["letters", "orders", "payments"];

/// How many batches of one log a writer has in flight at most.
pub const WINDOW: usize = 8;

/// The largest batch that a writer makes, in bytes.
pub const LARGEST: usize = 24 << 10;

/// Settings under which a writer rolls, drops segments and writes checkpoints all the time; limits, direct writes and
/// preparation differ with the seed.
pub fn settings(seed: u64) -> LogSettings {
    LogSettings {
        durability: Durability::Each,
        segment_bytes: 128 << 10,
        index_interval_bytes: 4096,
        index_bytes: 1200,
        retention_ms: None,
        retention_bytes: Some(512 << 10),
        retention_check_ms: 20,
        file_delete_delay_ms: 10,
        checkpoint_ms: 20,
        limits: if seed & 1 == 0 { Limits::PRODUCTION } else { Limits::TINY },
        direct: seed & 2 == 0,
        preallocate: if seed & 4 == 0 { Preallocate::Ahead } else { Preallocate::Written },
        ..LogSettings::default()
    }
}

/// One line of a writer.
///
/// ```
/// use highwater_tests::ledger::Entry;
/// let acked = Entry::Acked { log: "orders".into(), first: 3, end: 5, crc: 7 };
/// assert_eq!(acked.to_string().parse(), Ok(acked));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// The log is there, said the engine.
    Made {
        /// Which.
        log: String,
    },
    /// A batch is about to be appended.
    Sent {
        /// To which log.
        log: String,
        /// The batch's own checksum, which covers neither its offset nor its epoch.
        crc: u32,
    },
    /// The log is about to be trimmed.
    Trimmed {
        /// Which.
        log: String,
        /// Below which offset.
        to: i64,
    },
    /// A batch is on stable storage, said the engine.
    Acked {
        /// In which log.
        log: String,
        /// Its first offset.
        first: i64,
        /// The offset after its last.
        end: i64,
        /// Its checksum.
        crc: u32,
    },
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Made { log } => write!(f, "made {log}"),
            Entry::Sent { log, crc } => write!(f, "sent {log} {crc}"),
            Entry::Trimmed { log, to } => write!(f, "trimmed {log} {to}"),
            Entry::Acked { log, first, end, crc } => write!(f, "acked {log} {first} {end} {crc}"),
        }
    }
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(line: &str) -> Result<Entry, String> {
        let bad = || format!("not a line of a writer: {line:?}");
        let number = |word: &str| word.parse().map_err(|_| bad());
        let words: Vec<&str> = line.split(' ').collect();
        Ok(match words[..] {
            ["made", log] => Entry::Made { log: log.into() },
            ["sent", log, crc] => Entry::Sent { log: log.into(), crc: crc.parse().map_err(|_| bad())? },
            ["trimmed", log, to] => Entry::Trimmed { log: log.into(), to: number(to)? },
            ["acked", log, first, end, crc] => Entry::Acked {
                log: log.into(),
                first: number(first)?,
                end: number(end)?,
                crc: crc.parse().map_err(|_| bad())?,
            },
            _ => return Err(bad()),
        })
    }
}

/// What one log must and may hold.
#[derive(Clone, Default, Debug)]
struct Account {
    made: bool,
    /// Checksums of all batches that may be there.
    sent: BTreeSet<u32>,
    /// What was acknowledged, by first offset: the offset after it, its checksum.
    acked: BTreeMap<i64, (i64, u32)>,
    acked_end: i64,
    trimmed: i64,
}

/// What all logs of a writer must and may hold.
///
/// ```
/// use highwater_tests::ledger::{Entry, Ledger};
/// let mut ledger = Ledger::default();
/// ledger.enter(Entry::Made { log: "orders".into() });
/// assert!(ledger.must_exist("orders"));
/// assert_eq!(ledger.judge("orders", 0, 0, &[]), Ok(()));
/// ledger.enter(Entry::Sent { log: "orders".into(), crc: 7 });
/// ledger.enter(Entry::Acked { log: "orders".into(), first: 0, end: 1, crc: 7 });
/// assert!(ledger.judge("orders", 0, 0, &[]).is_err());
/// ```
#[derive(Clone, Default, Debug)]
pub struct Ledger {
    accounts: BTreeMap<String, Account>,
    acked: u64,
}

/// A batch's own checksum.
pub fn crc_of(batch: &[u8]) -> u32 {
    u32::from_be_bytes(batch[17..21].try_into().expect("four bytes"))
}

impl Ledger {
    /// Takes a line down.
    pub fn enter(&mut self, entry: Entry) {
        match entry {
            Entry::Made { log } => self.account(log).made = true,
            Entry::Sent { log, crc } => drop(self.account(log).sent.insert(crc)),
            Entry::Trimmed { log, to } => {
                let account = self.account(log);
                account.trimmed = account.trimmed.max(to);
            }
            Entry::Acked { log, first, end, crc } => {
                self.acked += 1;
                let account = self.account(log);
                account.acked.insert(first, (end, crc));
                account.acked_end = account.acked_end.max(end);
            }
        }
    }

    fn account(&mut self, log: String) -> &mut Account {
        self.accounts.entry(log).or_default()
    }

    /// How many batches were acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Whether the log was said to be there.
    pub fn must_exist(&self, log: &str) -> bool {
        self.accounts.get(log).is_some_and(|account| account.made)
    }

    /// Judges a log that was found: where it starts and ends, and all of its batches.
    pub fn judge(&self, log: &str, start: i64, end: i64, bytes: &[u8]) -> Result<(), Violation> {
        let nothing = Account::default();
        let account = self.accounts.get(log).unwrap_or(&nothing);
        if end < account.acked_end {
            return Err(Violation::Lost(format!(
                "{log} ends at {end}, everything below {} was acknowledged",
                account.acked_end
            )));
        }
        // Retention leaves at least so much; what was in flight may have been counted too.
        let least = settings(0).retention_bytes.unwrap_or(0) as usize - WINDOW * LARGEST;
        if start > account.trimmed && bytes.len() < least {
            return Err(Violation::Lost(format!(
                "{log} starts at {start}, trimmed to {}, and holds only {} bytes",
                account.trimmed,
                bytes.len()
            )));
        }
        let found = frames(bytes).map_err(Violation::Bad)?;
        let first = found.first().map_or(start, |frame| frame.first);
        let mut next = first;
        for frame in &found {
            if frame.first != next {
                return Err(Violation::Hole(format!("{log}: a batch at {}, not at {next}", frame.first)));
            }
            account.judge(log, frame)?;
            next = frame.end;
        }
        if first > start || next != end {
            return Err(Violation::Hole(format!("{log} is {start} to {end}, read {first} to {next}")));
        }
        let firsts: BTreeSet<i64> = found.iter().map(|frame| frame.first).collect();
        match account.acked.range(start..).find(|(first, _)| !firsts.contains(first)) {
            Some((first, _)) => Err(Violation::Lost(format!("{log}: the batch at {first} was acknowledged"))),
            None => Ok(()),
        }
    }

    /// What was found, all of it, is promised from now on.
    pub fn adopt(&mut self, log: &str, bytes: &[u8]) {
        let account = self.account(log.to_owned());
        account.made = true;
        for frame in frames(bytes).into_iter().flatten() {
            account.acked.insert(frame.first, (frame.end, crc_of(frame.bytes)));
            account.acked_end = account.acked_end.max(frame.end);
        }
    }
}

impl Account {
    /// A batch is what was acknowledged there, or at least something that was sent.
    fn judge(&self, log: &str, frame: &Frame<'_>) -> Result<(), Violation> {
        let (at, crc) = (frame.first, crc_of(frame.bytes));
        if highwater_engine::batch::computed_crc(frame.bytes) != crc {
            return Err(Violation::Bad(format!("{log}: the batch at {at} does not match its checksum")));
        }
        match self.acked.get(&at) {
            Some(acked) if *acked != (frame.end, crc) => {
                Err(Violation::Lost(format!("{log}: the batch at {at} is not what was acknowledged there")))
            }
            None if !self.sent.contains(&crc) => {
                Err(Violation::Bad(format!("{log}: the batch at {at} was never sent")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_base::Offset;
    use highwater_engine::batch::{BatchBuilder, set_base_offset};

    fn batch(at: i64, value: &[u8]) -> Vec<u8> {
        let mut batch = BatchBuilder::new().record(1, None, Some(value)).build();
        set_base_offset(&mut batch, Offset::new(at));
        batch
    }

    fn ledger(batches: &[Vec<u8>]) -> Ledger {
        let mut ledger = Ledger::default();
        for (first, batch) in (0..).zip(batches) {
            ledger.enter(Entry::Sent { log: "a".into(), crc: crc_of(batch) });
            ledger.enter(Entry::Acked { log: "a".into(), first, end: first + 1, crc: crc_of(batch) });
        }
        ledger
    }

    #[test]
    fn what_is_missing_changed_or_made_up_is_noticed() {
        let batches: Vec<_> = (0..4).map(|at| batch(at, &[at as u8; 9])).collect();
        let ledger = ledger(&batches);
        assert_eq!(ledger.judge("a", 0, 4, &batches.concat()), Ok(()));
        let lost = |judged| assert!(matches!(judged, Err(Violation::Lost(_))), "{judged:?}");
        let hole = |judged| assert!(matches!(judged, Err(Violation::Hole(_))), "{judged:?}");
        let bad = |judged| assert!(matches!(judged, Err(Violation::Bad(_))), "{judged:?}");
        lost(ledger.judge("a", 0, 3, &batches[..3].concat()));
        lost(ledger.judge("a", 1, 4, &batches[1..].concat()));
        hole(ledger.judge("a", 0, 4, &[&batches[0][..], &batches[2][..], &batches[3][..]].concat()));
        hole(ledger.judge("a", 0, 4, &batches[1..].concat()));
        hole(ledger.judge("a", 0, 5, &batches.concat()));
        let other = [&batches[0][..], &batch(1, b"another"), &batches[2][..], &batches[3][..]].concat();
        lost(ledger.judge("a", 0, 4, &other));
        bad(ledger.judge("a", 0, 5, &[batches.concat(), batch(4, b"never sent")].concat()));
        let mut damaged = batches.concat();
        *damaged.last_mut().unwrap() ^= 1;
        bad(ledger.judge("a", 0, 4, &damaged));
    }
}

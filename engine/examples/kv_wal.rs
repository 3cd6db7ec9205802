//! A small key-value store on a write-ahead log. Run it: `cargo run -p highwater-engine --example kv_wal`.
//!
//! It starts itself as a child that moves money between accounts, kills the child while it works, opens the store again
//! and checks what it promised: whatever was acknowledged is there, and a change of several keys is there as a whole or
//! not at all.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a program of its own, not a shard")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use highwater_engine::{Engine, EngineConfig, LogHandle, LogSettings, NewRecord, Offset, StoredRecord};

/// Keys and values in memory; every change is in the log before it is in memory.
struct Store {
    engine: Engine,
    /// A batch a change: a record a key, its value null if the key goes.
    changes: LogHandle,
    /// A batch a snapshot: a record with the header `upto`, then a record a key.
    snapshots: LogHandle,
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Store {
    fn open(directory: &Path) -> Result<Store, Box<dyn Error>> {
        let settings = LogSettings { max_message_bytes: 64 << 20, ..LogSettings::default() };
        let engine = Engine::open(EngineConfig::at(directory).settings(settings))?;
        let (changes, snapshots) = (engine.log("changes")?, engine.log("snapshots")?);
        let (mut pairs, mut upto) = (BTreeMap::new(), Offset::ZERO);
        // A crash may have come between a snapshot and the end of the one before: the last one counts.
        replay(&snapshots, Offset::ZERO, |record| match record.header("upto") {
            Some(offset) => {
                pairs.clear();
                upto = Offset::new(i64::from_be_bytes(offset.try_into().expect("eight bytes")));
            }
            None => apply(&mut pairs, record),
        })?;
        replay(&changes, upto, |record| apply(&mut pairs, record))?;
        Ok(Store { engine, changes, snapshots, pairs })
    }

    /// Changes several keys at once, durably: one batch is there as a whole or not at all.
    fn change(&mut self, pairs: &[(&str, Option<String>)]) -> Result<(), Box<dyn Error>> {
        let record = |(key, value): &(&str, Option<String>)| {
            let record = NewRecord::new().key(*key);
            value.as_ref().map_or(record.clone(), |value| record.value(value.as_str()))
        };
        self.changes.append_records(pairs.iter().map(record))?;
        for (key, value) in pairs {
            match value {
                Some(value) => self.pairs.insert(key.as_bytes().to_vec(), value.as_bytes().to_vec()),
                None => self.pairs.remove(key.as_bytes()),
            };
        }
        Ok(())
    }

    /// Writes everything down in one batch, so that the changes before it may go.
    fn snapshot(&mut self) -> Result<(), Box<dyn Error>> {
        let upto = self.changes.facts()?.end;
        let head = NewRecord::new().header("upto", upto.get().to_be_bytes());
        let pairs = self.pairs.iter().map(|(k, v)| NewRecord::new().key(k.as_slice()).value(v.as_slice()));
        let written = self.snapshots.append_records(std::iter::once(head).chain(pairs))?;
        self.snapshots.trim(written.first)?;
        self.changes.trim(upto)?;
        Ok(())
    }

    fn number(&self, key: &str) -> i64 {
        let text = self.pairs.get(key.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned());
        text.map_or(0, |text| text.parse().expect("a number"))
    }
}

/// Hands every record from `from` (or the log's start) on to `each`.
fn replay(log: &LogHandle, from: Offset, mut each: impl FnMut(&StoredRecord)) -> Result<(), Box<dyn Error>> {
    let facts = log.facts()?;
    let mut follower = log.follower(from.max(facts.start));
    while follower.position() < facts.end {
        follower.wait()?.iter().for_each(&mut each);
    }
    Ok(())
}

fn apply(pairs: &mut BTreeMap<Vec<u8>, Vec<u8>>, record: &StoredRecord) {
    match &record.value {
        Some(value) => pairs.insert(record.key().to_vec(), value.clone()),
        None => pairs.remove(record.key()),
    };
}

const ACCOUNTS: [&str; 4] = ["anna", "ben", "cleo", "dan"];

/// What the child does until it is killed: it says each change's number once that is acknowledged.
fn work(directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut store = Store::open(directory)?;
    loop {
        let number = store.number("changes") + 1;
        let (from, to) = (ACCOUNTS[number as usize % 4], ACCOUNTS[(number as usize * 7 + 1) % 4]);
        let mut pairs = vec![("changes", Some(number.to_string()))];
        if from != to {
            pairs.push((from, Some((store.number(from) - number % 13).to_string())));
            pairs.push((to, Some((store.number(to) + number % 13).to_string())));
        }
        // A key that comes and goes.
        pairs.push(("odd", (number % 2 == 1).then(|| number.to_string())));
        store.change(&pairs)?;
        writeln!(std::io::stdout(), "{number}")?;
        if number % 50 == 0 {
            store.snapshot()?;
        }
    }
}

/// Starts a child, kills it after `lines` acknowledged changes, and says the last one that it reported.
fn kill_after(directory: &Path, lines: usize) -> Result<i64, Box<dyn Error>> {
    let mut child =
        Command::new(std::env::current_exe()?).arg("work").arg(directory).stdout(Stdio::piped()).spawn()?;
    let mut told = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
    let mut last = 0;
    for _ in 0..lines {
        last = told.next().ok_or("the child ended by itself")??.parse()?;
    }
    child.kill()?; // SIGKILL: nothing is tidied up
    child.wait()?;
    // What it said between the last line read and its end was acknowledged, too.
    for line in told {
        last = line?.parse().unwrap_or(last);
    }
    Ok(last)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, directory] = &arguments[..]
        && word == "work"
    {
        return work(Path::new(directory));
    }
    let directory: PathBuf = std::env::temp_dir().join(format!("highwater-kv-wal-{}", std::process::id()));
    for round in 0..4 {
        let acknowledged = kill_after(&directory, 60 + 37 * round)?;
        let store = Store::open(&directory)?;
        let changes = store.number("changes");
        println!("killed after {acknowledged} acknowledged changes: {changes} are there");
        assert!(changes >= acknowledged, "an acknowledged change is missing");
        assert!(changes <= acknowledged + 1, "at most the one change in flight is there besides");
        let sum: i64 = ACCOUNTS.iter().map(|account| store.number(account)).sum();
        assert_eq!(sum, 0, "a change is there as a whole or not at all");
        assert_eq!(store.number("odd"), if changes % 2 == 1 { changes } else { 0 }, "removed keys stay away");
        assert!(store.changes.facts()?.start > Offset::ZERO, "snapshots let old changes go");
        drop(store); // without a clean stop, like a crash
    }
    let store = Store::open(&directory)?;
    store.engine.close()?;
    std::fs::remove_dir_all(&directory)?;
    println!("kv_wal: all as promised");
    Ok(())
}

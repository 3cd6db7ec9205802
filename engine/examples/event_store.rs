//! Events, and projections that remember how far they are together with what they found, in one batch: each event
//! counts exactly once, whenever the program ends. Run it: `cargo run -p highwater-engine --example event_store`.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a program of its own, not a shard")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use highwater_engine::compact::CompactionSettings;
use highwater_engine::{
    Engine, EngineConfig, Follower, LogHandle, LogSettings, NewRecord, Offset, StoredRecord,
};

/// The key under which a projection's log holds its position in the events.
const POSITION: &[u8] = b"\0position";

/// Events of one store: the key says whose, the header `kind` what happened, the value how much.
struct Events {
    log: LogHandle,
}

impl Events {
    /// Appends the events of one decision as one batch: all of them happened, or none.
    fn happened(&self, events: &[(&str, &str, i64)]) -> Result<Offset, Box<dyn Error>> {
        let record = |(whose, kind, amount): &(&str, &str, i64)| {
            NewRecord::new().key(*whose).header("kind", *kind).value(amount.to_be_bytes())
        };
        Ok(self.log.append_records(events.iter().map(record))?.end)
    }
}

/// What becomes of a projection's figure with one event: which figure, and by how much it changes.
type Rule = fn(&StoredRecord) -> (Vec<u8>, i64);

/// Figures made from events. They live in a log of their own: a record a changed figure, and one for the position.
struct Projection {
    own: LogHandle,
    events: Follower,
    figures: BTreeMap<Vec<u8>, i64>,
    rule: Rule,
}

impl Projection {
    /// Reads what the projection last knew, and goes on behind the last event that is in it.
    fn open(engine: &Engine, name: &str, events: &Events, rule: Rule) -> Result<Projection, Box<dyn Error>> {
        // Only the latest figure of each key counts, so older ones may go.
        let settings =
            LogSettings { compaction: Some(CompactionSettings::default()), ..LogSettings::default() };
        let own = engine.log_with(name, settings)?;
        let facts = own.facts()?;
        let (mut figures, mut position) = (BTreeMap::new(), 0);
        let mut known = own.follower(facts.start);
        while known.position() < facts.end {
            for record in known.wait()? {
                let number = i64::from_be_bytes(record.value().try_into()?);
                match record.key() {
                    POSITION => position = number,
                    key => drop(figures.insert(key.to_vec(), number)),
                }
            }
        }
        // Small pieces, so that this example has many commits to be interrupted between.
        let events = events.log.follower(Offset::new(position)).max_bytes(200);
        Ok(Projection { own, events, figures, rule })
    }

    /// Waits for the next events and takes them in.
    fn step(&mut self, end: Option<Interrupted>) -> Result<(), Box<dyn Error>> {
        let mut changed = BTreeMap::new();
        for record in self.events.wait()? {
            let (figure, by) = (self.rule)(&record);
            let now = self.figures.entry(figure.clone()).or_default();
            *now += by;
            changed.insert(figure, *now);
        }
        let figures =
            changed.iter().map(|(key, now)| NewRecord::new().key(key.as_slice()).value(now.to_be_bytes()));
        let position = NewRecord::new().key(POSITION).value(self.events.position().get().to_be_bytes());
        // Results and position in one batch: both are there after a crash, or neither.
        let batch = self.own.pack(figures.chain([position]));
        match end {
            Some(Interrupted::BeforeCommit) => {}
            Some(Interrupted::DuringCommit) => drop(self.own.start_append(batch)),
            None => drop(self.own.append(batch)?),
        }
        Ok(())
    }

    fn figure(&self, key: &str) -> i64 {
        self.figures.get(key.as_bytes()).copied().unwrap_or_default()
    }
}

/// Where a program's life ends: it has done its work, and it never learns what of that is kept.
#[derive(Clone, Copy)]
enum Interrupted {
    BeforeCommit,
    DuringCommit,
}

/// One life of the program: a few events happen, projections follow for a few steps, and it ends abruptly.
fn live(directory: &PathBuf, life: i64) -> Result<(), Box<dyn Error>> {
    let engine = Engine::open(EngineConfig::at(directory))?;
    let events = Events { log: engine.log("events")? };
    for number in life * 10..life * 10 + 10 {
        events.happened(&[("anna", "paid", -number), ("ben", "received", number)])?;
    }
    let end = events.log.facts()?.end;
    let interrupted = if life % 2 == 0 { Interrupted::BeforeCommit } else { Interrupted::DuringCommit };
    for (name, rule) in [("balances", BALANCE), ("kinds", KIND)] {
        let mut projection = Projection::open(&engine, name, &events, rule)?;
        for _ in 0..life % 4 {
            if projection.events.position() < end {
                projection.step(None)?;
            }
        }
        if projection.events.position() < end {
            projection.step(Some(interrupted))?;
        }
    }
    drop(engine); // without a clean stop, like a crash
    Ok(())
}

const BALANCE: Rule = |event| {
    let amount = i64::from_be_bytes(event.value().try_into().expect("eight bytes"));
    (event.key().to_vec(), amount)
};
const KIND: Rule = |event| (event.header("kind").expect("every event has a kind").to_vec(), 1);

fn main() -> Result<(), Box<dyn Error>> {
    const LIVES: i64 = 12;
    let directory = std::env::temp_dir().join(format!("highwater-event-store-{}", std::process::id()));
    for life in 0..LIVES {
        live(&directory, life)?;
    }
    let engine = Engine::open(EngineConfig::at(&directory))?;
    let events = Events { log: engine.log("events")? };
    let end = events.log.facts()?.end;
    let mut balances = Projection::open(&engine, "balances", &events, BALANCE)?;
    let mut kinds = Projection::open(&engine, "kinds", &events, KIND)?;
    println!("after {LIVES} lives, of {end} events: {} in the balances", balances.events.position());
    assert!(balances.events.position() > Offset::ZERO, "some of the work of the lives before was kept");
    assert!(balances.events.position() < end, "and some was not, which is what this example is about");
    for projection in [&mut balances, &mut kinds] {
        while projection.events.position() < end {
            projection.step(None)?;
        }
    }
    // Every event once: the numbers 0 to LIVES * 10 - 1 moved from one to the other.
    let moved: i64 = (0..LIVES * 10).sum();
    assert_eq!((balances.figure("anna"), balances.figure("ben")), (-moved, moved));
    assert_eq!((kinds.figure("paid"), kinds.figure("received")), (LIVES * 10, LIVES * 10));
    engine.close()?;
    std::fs::remove_dir_all(&directory)?;
    println!("event_store: each event counted exactly once");
    Ok(())
}

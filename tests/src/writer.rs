//! A process that appends, and tells what was acknowledged, until somebody ends it: seen from inside and from outside.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use highwater_base::{Mutant, Offset, Prng, ProducerEpoch, ProducerId};
use highwater_engine::batch::{BatchBuilder, Codec};
use highwater_engine::{Appended, Engine, EngineConfig, EngineError, LogHandle, LogSettings, Ticket};
use highwater_io::IoChoice;

use crate::ledger::{Entry, LARGEST, LOGS, Ledger, WINDOW, crc_of, settings};

/// The time of this machine: an idempotent producer whose last record is a day old is forgotten.
pub fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// One log of a writer, with what is in flight.
struct Line {
    log: LogHandle,
    /// This run's producer and its next sequence number.
    producer: (i64, i32),
    waiting: VecDeque<(u32, Ticket<Result<Appended, EngineError>>)>,
    acked_end: i64,
}

/// Appends to all logs in `dir` and writes a line for each thing done, until `out` is closed or an append fails.
/// `run` tells apart the writers of one directory.
pub fn work(dir: &Path, seed: u64, run: i64, mutant: Mutant, out: &mut dyn Write) -> Result<(), String> {
    let settings = LogSettings { mutant, ..settings(seed) };
    let choice = if seed & 8 == 0 { IoChoice::Auto } else { IoChoice::Posix };
    let engine = Engine::open(EngineConfig::at(dir).shards(2).settings(settings).io(choice))
        .map_err(|error| error.to_string())?;
    let mut prng = Prng::new(seed ^ (run as u64) << 32);
    let mut lines = Vec::new();
    let told = |entry: Entry, out: &mut dyn Write| writeln!(out, "{entry}").map_err(|e| e.to_string());
    for (index, name) in (0..).zip(LOGS) {
        let log = engine.log(name).map_err(|error| error.to_string())?;
        told(Entry::Made { log: name.into() }, out)?;
        let producer = (1000 * run + index, 0);
        lines.push(Line { log, producer, waiting: VecDeque::new(), acked_end: 0 });
    }
    loop {
        let which = prng.below(lines.len() as u64) as usize;
        let line = &mut lines[which];
        let batch = line.batch(&mut prng);
        let crc = crc_of(&batch);
        told(Entry::Sent { log: line.log.name().into(), crc }, out)?;
        let ticket = line.log.start_append(batch);
        line.waiting.push_back((crc, ticket));
        if prng.one_in(150) && line.acked_end > 0 {
            let to = prng.below(line.acked_end as u64) as i64;
            told(Entry::Trimmed { log: line.log.name().into(), to }, out)?;
            line.log.trim(Offset::new(to)).map_err(|error| error.to_string())?;
        }
        for line in &mut lines {
            line.collect(&mut |entry| told(entry, out))?;
        }
    }
}

impl Line {
    /// A batch like no other.
    fn batch(&mut self, prng: &mut Prng) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        let records = 1 + prng.below(4);
        if prng.one_in(2) {
            let (id, sequence) = self.producer;
            builder = builder.producer(ProducerId::new(id), ProducerEpoch::ZERO, sequence);
            self.producer.1 += records as i32;
        }
        if prng.one_in(5) {
            builder = builder.codec(Codec::Lz4);
        }
        let most = if prng.one_in(8) { LARGEST as u64 - 1024 } else { 3000 };
        for index in 0..records {
            let mut value = vec![0; (8 + prng.below(most)) as usize / records as usize];
            prng.fill(&mut value);
            let key = prng.next_u64().to_be_bytes();
            builder.push(wall_ms() + index as i64, Some(&key), Some(&value), &[]);
        }
        builder.build()
    }

    /// Tells of what was acknowledged; waits only if the window is full.
    fn collect(&mut self, tell: &mut dyn FnMut(Entry) -> Result<(), String>) -> Result<(), String> {
        while let Some((crc, ticket)) = self.waiting.pop_front() {
            let answer = match ticket.poll_now() {
                Ok(answer) => answer,
                Err(ticket) if self.waiting.len() + 1 >= WINDOW => ticket.wait(),
                Err(ticket) => {
                    self.waiting.push_front((crc, ticket));
                    return Ok(());
                }
            };
            let appended = answer.ok_or("the engine has stopped")?.map_err(|error| error.to_string())?;
            self.acked_end = appended.end.get();
            let (first, end) = (appended.first.get(), appended.end.get());
            tell(Entry::Acked { log: self.log.name().into(), first, end, crc })?;
        }
        Ok(())
    }
}

/// A writer's process. Killed when dropped.
pub struct Writer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    /// Starts the program `writer` on `dir`.
    pub fn start(writer: &str, dir: &Path, seed: u64, run: i64, mutant: &str) -> io::Result<Writer> {
        let mut child = Command::new(writer)
            .arg(dir)
            .args([seed.to_string(), run.to_string(), mutant.to_owned()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Ok(Writer { child, lines })
    }

    /// Takes its lines down until it has told of so many acknowledgements; false if it ended before.
    pub fn acknowledges(&mut self, count: u64, ledger: &mut Ledger, mut each: impl FnMut(&Entry)) -> bool {
        let until = ledger.acked() + count;
        while ledger.acked() < until {
            let Some(entry) = self.next() else { return false };
            each(&entry);
            ledger.enter(entry);
        }
        true
    }

    /// The next line. A pipe takes a short line whole or not at all, so that none is cut short.
    fn next(&mut self) -> Option<Entry> {
        let line = self.lines.next()?.ok()?;
        Some(line.parse().expect("a line of a writer"))
    }

    /// Kills it, and takes down what it had said until then.
    pub fn kill(mut self, ledger: &mut Ledger) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        while let Some(entry) = self.next() {
            ledger.enter(entry);
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _waited_for_already = self.child.wait();
    }
}

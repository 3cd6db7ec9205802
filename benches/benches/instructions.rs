//! Instructions of an append and of a hot fetch beside a recorded baseline: at most 1.02 times as many (E21).
//!
//! Counted by callgrind, so that nothing else on the machine matters. What is counted depends on the compiler and on the
//! instructions that valgrind offers: `benches/instructions.txt` says what it was recorded with, and with anything else
//! there is no baseline. `HIGHWATER_BENCH_RECORD=1` records it anew. Exits with 1 if there are too many.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use highwater_base::Offset;
use highwater_benches::driver::batch;
use highwater_benches::in_memory::{CLIENT, NOW, filled, settled};
use highwater_engine::Read;
use highwater_engine::batch::crc32c_target;

/// With this argument, the name of a path and a count, the program does that and nothing else.
const WORK: &str = "--work";
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
const MUST: f64 = 1.02;
/// The difference of two counts is that of so many operations, without what comes before and after them.
const COUNTS: [u64; 2] = [1000, 5000];

/// A path, as the baseline names it, and what takes it so often.
type Taken = (&'static str, fn(count: u64));

const PATHS: [Taken; 2] = [("append", append), ("fetch", fetch)];

/// Appends a batch of 1 KiB to what is staged.
fn append(count: u64) {
    let bytes = batch(1024, 940);
    let (mut log, _io) = filled(&bytes, 1);
    for _ in 0..count {
        black_box(log.append(NOW, black_box(&bytes), CLIENT).is_ok());
    }
}

/// Fetches 64 KiB from the tail.
fn fetch(count: u64) {
    let (mut log, _io) = settled(&batch(16 << 10, 1024), 400);
    let end = log.log_end();
    let from = Offset::new(end.get() - 1000);
    for _ in 0..count {
        match log.read(NOW, black_box(from), end, 64 << 10) {
            Ok(Read::Ready(fetched)) => drop(black_box(fetched)),
            other => panic!("a hot read went to the disk: {other:?}"),
        }
    }
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// Instructions of the whole program.
fn counted(path: &str, count: u64) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let said = said(command.args([WORK, path, &count.to_string()])).expect("valgrind runs this program");
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")).expect("what was collected");
    collected.1.trim().parse().expect("a number")
}

/// What a count depends on besides the code.
fn circumstances() -> Option<String> {
    let valgrind = said(Command::new("valgrind").arg("--version"))?;
    let compiler =
        said(Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned())).arg("-V"));
    let program = std::env::current_exe().expect("this program");
    let checksum = said(Command::new("valgrind").args(["-q", "--tool=none"]).arg(program).arg(WORK))?;
    Some(format!("{}, {valgrind}, CRC-32C by {checksum}", compiler.unwrap_or_default()))
}

fn baseline() -> (String, BTreeMap<String, u64>) {
    let text = std::fs::read_to_string(BASELINE).unwrap_or_default();
    let mut with = String::new();
    let mut counts = BTreeMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        match value.parse() {
            Ok(count) => drop(counts.insert(name.to_owned(), count)),
            Err(_) if name == "with" => value.clone_into(&mut with),
            Err(_) => panic!("{BASELINE}: {name} is {value:?}, expected a number"),
        }
    }
    (with, counts)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [WORK] => return println!("{}", crc32c_target()),
        [WORK, path, count] => {
            let (_, take) = PATHS.iter().find(|(name, _)| *name == path).expect("a path");
            return take(count.parse().expect("a number"));
        }
        _ if arguments.iter().any(|argument| argument == "--test" || argument == "--list") => return,
        _ => {}
    }
    let Some(circumstances) = circumstances() else { return println!("skipped: no valgrind") };
    let counts = PATHS.map(|(name, _)| {
        let [few, many] = COUNTS.map(|count| counted(name, count));
        (name, (many - few) / (COUNTS[1] - COUNTS[0]))
    });
    if std::env::var_os("HIGHWATER_BENCH_RECORD").is_some() {
        let lines = counts.map(|(name, count)| format!("{name}: {count}\n")).concat();
        std::fs::write(Path::new(BASELINE), format!("with: {circumstances}\n{lines}")).expect("the baseline");
    }
    let (with, recorded) = baseline();
    let mut figure = "figure: instructions".to_owned();
    let mut too_many = false;
    for (name, count) in counts {
        figure += &format!(" {name}={count}");
        if let Some(before) = recorded.get(name).filter(|_| with == circumstances) {
            let ratio = count as f64 / *before as f64;
            too_many |= ratio > MUST;
            figure += &format!(" {name}_baseline={before} {name}_ratio={ratio:.3}");
        }
    }
    println!("{figure}");
    if with != circumstances {
        println!("skipped: no baseline of {circumstances}; there is one of {with}");
    }
    if too_many {
        println!(
            "more than {MUST} times the recorded instructions: if that is meant, record them anew and say why"
        );
        std::process::exit(1);
    }
}

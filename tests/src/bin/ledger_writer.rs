//! The process that `power_cut_fs` and `kill9_loop` end: `ledger_writer DIR SEED RUN MUTANT`.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;
use std::process::ExitCode;

use highwater_base::Mutant;
use highwater_tests::writer::work;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, seed, run, mutant] = &args[..] else {
        eprintln!("expected DIR SEED RUN MUTANT, found {args:?}");
        return ExitCode::from(2);
    };
    let (Ok(seed), Ok(run), Some(mutant)) = (seed.parse(), run.parse(), Mutant::named(mutant)) else {
        eprintln!("expected two numbers and the name of a mutant, found {seed}, {run}, {mutant}");
        return ExitCode::from(2);
    };
    match work(Path::new(dir), seed, run, mutant, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

//! `highwater`: a Kafka-compatible broker, and tools for Kafka-format log directories.
#![forbid(unsafe_code)]

mod adopt;
mod args;
mod client;
mod dump;
mod repair;
mod serve;
mod topics;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// How a command ended; its number is the exit status.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Ended {
    /// As asked.
    Well = 0,
    /// The answer is no: refused by the broker, or damage found.
    Badly = 1,
    /// It could not run.
    NotRun = 2,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match args.command {
        Command::Adopt(args) => adopt::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Topics(args) => topics::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Repair(args) => repair::run(&args),
    };
    ExitCode::from(ended as u8)
}

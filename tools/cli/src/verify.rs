//! `highwater verify`.

use highwater_inspect::{verify, verify_deep};

use crate::Ended;
use crate::args::VerifyArgs;

pub(crate) fn run(args: &VerifyArgs) -> Ended {
    let report = match if args.deep { verify_deep(&args.dir) } else { verify(&args.dir) } {
        Ok(report) => report,
        Err(error) => {
            eprintln!("highwater: {error}");
            return Ended::NotRun;
        }
    };
    for finding in &report.findings {
        println!("{finding}");
    }
    for seal in &report.void_seals {
        println!(
            "{}: the segment was written by somebody else since; the seal says nothing (no damage)",
            seal.display()
        );
    }
    println!(
        "{}: {} partitions, {} segments, {} batches, {} records, {} bytes; stopped {}; {}",
        args.dir.display(),
        report.partitions,
        report.segments,
        report.batches,
        report.records,
        report.bytes,
        if report.clean_stop { "cleanly" } else { "uncleanly, or running" },
        match report.findings.len() {
            0 => "no damage".to_owned(),
            1 => "1 damaged place".to_owned(),
            n => format!("{n} damaged places"),
        }
    );
    if report.exit_status() == 0 { Ended::Well } else { Ended::Badly }
}

//! `highwater adopt`.

use std::io::{IsTerminal as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use highwater_base::WallMs;
use highwater_broker::{AdoptReport, adopt_check, adopt_keep};

use crate::Ended;
use crate::args::AdoptArgs;

pub(crate) fn run(args: &AdoptArgs) -> Ended {
    if args.keep {
        return keep(args);
    }
    match adopt_check(&args.dirs) {
        Ok(report) => {
            print(&report);
            if report.obstacles.is_empty() { Ended::Well } else { Ended::Badly }
        }
        Err(error) => {
            eprintln!("highwater: {error}");
            Ended::NotRun
        }
    }
}

fn print(report: &AdoptReport) {
    let mut out = std::io::stdout().lock();
    for (title, lines) in [
        ("carries over", &report.carries_over),
        ("kept, without effect here", &report.without_effect),
        ("does not carry over", &report.not_carried),
        ("cannot be served", &report.obstacles),
    ] {
        for line in lines {
            // A reader that has gone has read enough.
            let _nobody_reads = writeln!(out, "{title}: {line}");
        }
    }
    let verdict = match report.obstacles.len() {
        0 => "it can be served in place, with `highwater serve --data DIR`, and given back",
        _ => "it cannot be served as it is",
    };
    let _nobody_reads = writeln!(out, "{verdict}; nothing was changed");
}

fn keep(args: &AdoptArgs) -> Ended {
    if !args.yes && std::io::stdin().is_terminal() {
        eprint!(
            "This is one way: Apache Kafka must not be started on the directory again; it would set aside and delete what \
             its own metadata do not know. Keep it? [y/N] "
        );
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        if read.is_err() || !answer.trim().eq_ignore_ascii_case("y") {
            eprintln!("highwater: nothing was changed");
            return Ended::Badly;
        }
    }
    // A clock before 1970 costs nothing: the time only makes names differ.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    match adopt_keep(&args.dirs, WallMs::new(now)) {
        Ok(lines) => {
            for line in lines {
                println!("{line}");
            }
            Ended::Well
        }
        Err(error) => {
            eprintln!("highwater: {error}");
            Ended::NotRun
        }
    }
}

//! `highwater repair`.

use highwater_inspect::{plan_repair, repair};

use crate::Ended;
use crate::args::RepairArgs;

pub(crate) fn run(args: &RepairArgs) -> Ended {
    let result = if args.apply { repair(&args.dir) } else { plan_repair(&args.dir) };
    let plan = match result {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("highwater: {error}");
            return Ended::NotRun;
        }
    };
    for step in &plan.steps {
        println!("{}{step}", if args.apply { "done: " } else { "" });
    }
    for finding in &plan.left {
        println!("left: {finding}");
    }
    let steps = match plan.steps.len() {
        0 => "nothing to do".to_owned(),
        1 => "1 step".to_owned(),
        n => format!("{n} steps"),
    };
    let left = match plan.left.len() {
        0 => "nothing is left damaged".to_owned(),
        1 => "1 damaged place is left".to_owned(),
        n => format!("{n} damaged places are left"),
    };
    let how = match (plan.steps.is_empty(), args.apply) {
        (true, _) => "",
        (false, true) => " done",
        (false, false) => " planned, none done; --apply does them",
    };
    println!("{}: {steps}{how}; {left}", args.dir.display());
    let well = plan.left.is_empty() && (args.apply || plan.steps.is_empty());
    if well { Ended::Well } else { Ended::Badly }
}

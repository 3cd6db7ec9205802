//! `highwater dump`.

use std::io::{BufWriter, ErrorKind, Write as _};

use highwater_inspect::{DumpOptions, InspectError, dump};

use crate::Ended;
use crate::args::DumpArgs;

pub(crate) fn run(args: &DumpArgs) -> Ended {
    let options = DumpOptions {
        json: args.json,
        records: args.records,
        offsets: args.offset.clone(),
        ..DumpOptions::default()
    };
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let mut ended = Ended::Well;
    for path in &args.paths {
        let dumped = dump(&mut out, &options, path).and_then(|summary| {
            out.flush().map_err(InspectError::Output)?;
            Ok(summary)
        });
        match dumped {
            Ok(summary) => {
                // In the output of people and machines alike damage stands where it lies; here it is summed up.
                for finding in &summary.findings {
                    eprintln!("highwater: {finding}");
                }
                if !summary.findings.is_empty() {
                    ended = ended.max(Ended::Badly);
                }
            }
            // `highwater dump | head` is no failure.
            Err(InspectError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => return ended,
            Err(error) => {
                eprintln!("highwater: {error}");
                ended = Ended::NotRun;
            }
        }
    }
    ended
}

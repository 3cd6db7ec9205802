//! What can be asked of the program.

use std::ops::Range;
use std::path::PathBuf;

use clap::builder::UnknownArgumentValueParser;
use clap::{Parser, Subcommand};
use highwater_base::Offset;
use highwater_broker::HostPort;

/// A Kafka-compatible broker, and tools for Kafka-format log directories.
#[derive(Parser, Debug)]
#[command(name = "highwater", version, about, long_about = None, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 well, 1 the answer is no (refused, or damage found), 2 could not run."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a broker
    Serve(ServeArgs),
    /// Create, list, describe, delete and alter topics of a running broker
    Topics(TopicsArgs),
    /// Show what a file or a directory of a Kafka-format log holds
    Dump(DumpArgs),
    /// Read all of a log directory and report every damaged place
    Verify(VerifyArgs),
    /// Make a stopped log directory whole: say how, or do it
    Repair(RepairArgs),
    /// Look at, or keep for good, a data directory that Apache Kafka wrote
    Adopt(AdoptArgs),
}

/// Run a broker. Prints one line when it is ready to accept; TERM or Ctrl-C stops it cleanly.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  highwater serve
  highwater serve --data /srv/a --data /srv/b --listen 0.0.0.0:9092 --advertise kafka1.example:9092
  highwater serve --config num.partitions=3 --config durability=interval
  highwater serve --config-file server.properties

Settings have Kafka's own names, units and defaults. Flags win over --config, which wins over --config-file.
Highwater's own are durability = each (default: an acknowledged record is on stable storage), interval (bounded loss)
or os (Kafka's way), and those that begin with highwater.")]
pub(crate) struct ServeArgs {
    /// A directory to keep data in; give it again for several [default: ./highwater-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Vec<PathBuf>,
    /// Where to listen; port 0 lets the system choose [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<HostPort>,
    /// What other servers have: refused with a hint.
    #[arg(long = "port", hide = true, value_parser = UnknownArgumentValueParser::suggest_arg("--listen").and_suggest(
        "--listen takes host and port, as in --listen 127.0.0.1:9092"))]
    _port: Option<String>,
    /// Where clients are told to connect [default: where it listens]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<HostPort>,
    /// This broker's number [default: that of its data directory, or 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) node_id: Option<i32>,
    /// A setting; may be given many times
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) config: Vec<(String, String)>,
    /// A file of settings, in the syntax of Kafka's server.properties
    #[arg(long, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
}

/// Create, list, describe, delete and alter topics of a running broker.
#[derive(clap::Args, Debug)]
pub(crate) struct TopicsArgs {
    #[command(subcommand)]
    pub(crate) command: TopicsCommand,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Bootstrap {
    /// A broker to ask
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub(crate) bootstrap: HostPort,
}

#[derive(Subcommand, Debug)]
pub(crate) enum TopicsCommand {
    /// Create a topic
    #[command(
        after_help = "Example: highwater topics create orders --partitions 3 --config retention.ms=86400000"
    )]
    Create {
        #[command(flatten)]
        at: Bootstrap,
        /// Its name
        name: String,
        /// How many partitions [default: the broker's num.partitions]
        #[arg(long, value_name = "N")]
        partitions: Option<i32>,
        /// How many replicas [default: the broker's default.replication.factor]
        #[arg(long, value_name = "N")]
        replication_factor: Option<i16>,
        /// A setting of the topic; may be given many times
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        config: Vec<(String, String)>,
        /// A topic of this name that is there already is no error
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List the topics, one name a line
    List {
        #[command(flatten)]
        at: Bootstrap,
    },
    /// Show partitions and settings of topics
    Describe {
        #[command(flatten)]
        at: Bootstrap,
        /// Which topics [default: all]
        names: Vec<String>,
    },
    /// Delete topics and all their records
    Delete {
        #[command(flatten)]
        at: Bootstrap,
        /// Which topics
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Add partitions to a topic, or change its settings
    #[command(
        after_help = "Example: highwater topics alter orders --partitions 6 --config segment.bytes=268435456"
    )]
    Alter {
        #[command(flatten)]
        at: Bootstrap,
        /// Which topic
        name: String,
        /// How many partitions it shall have; they are only ever added
        #[arg(long, value_name = "N")]
        partitions: Option<i32>,
        /// A setting to make; may be given many times
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        config: Vec<(String, String)>,
        /// A setting to take back, so that the broker's holds again; may be given many times
        #[arg(long, value_name = "NAME")]
        delete_config: Vec<String>,
    },
}

/// Show what a segment, an index, a snapshot, a checkpoint, a seal, a partition's directory or a whole log directory
/// holds, Apache Kafka's or ours. Never writes. Decodes as much as possible of a damaged file, and says where and what
/// is damaged (exit status 1).
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  highwater dump highwater-data/orders-0
  highwater dump --json --records highwater-data/orders-0/00000000000000000000.log
  highwater dump --offset 1000..1010 --records highwater-data/orders-0")]
pub(crate) struct DumpArgs {
    /// What to look into
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// JSON lines instead of text for people
    #[arg(long)]
    pub(crate) json: bool,
    /// Records too, not only batches
    #[arg(long)]
    pub(crate) records: bool,
    /// Only these offsets; TO is not included, and either may be left out
    #[arg(long, value_name = "FROM..TO", value_parser = offsets)]
    pub(crate) offset: Option<Range<Offset>>,
}

/// Read all of a log directory, Apache Kafka's or ours: framing, checksum and records of every batch, every index
/// entry, snapshots, seals, checkpoints. Exit status 0 clean, 1 damage found, 2 could not run.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: highwater verify --deep highwater-data")]
pub(crate) struct VerifyArgs {
    /// Also compare the files with each other: producer snapshots, leader epochs, aborted transactions, the facts in
    /// seals and the proven end against what all batches of the partition say
    #[arg(long)]
    pub(crate) deep: bool,
    /// A log directory, or a partition's
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// Say what would make a stopped log directory whole and why, and only with --apply do it: torn tails cut, indexes, leader
/// epochs and producer snapshots made anew from the batches, stale seals and what interrupted work left behind put aside.
/// Nothing is removed: whatever goes is kept beside, under a name that no loader looks at. Rot in proven data stays as it
/// is. A directory that a broker holds is refused. Exit status 0 nothing to do or all done, 1 steps planned or damage
/// left, 2 could not run.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  highwater repair highwater-data --plan\n  highwater repair highwater-data --apply"
)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["plan", "apply"]))]
pub(crate) struct RepairArgs {
    /// A log directory, or a partition's
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Print what would be done
    #[arg(long)]
    pub(crate) plan: bool,
    /// Do it
    #[arg(long)]
    pub(crate) apply: bool,
}

/// Look at, or keep for good, a data directory that Apache Kafka wrote. `highwater serve` serves one in place, and after a
/// clean stop Kafka can have it back; until it is kept, topics cannot be made, changed or removed. Exit status of --check:
/// 0 it can be served, 1 it cannot, 2 it could not be looked at.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["check", "keep"])))]
#[command(after_help = "\
Examples:
  highwater adopt /var/lib/kafka --check
  highwater serve --data /var/lib/kafka --config-file server.properties
  highwater adopt /var/lib/kafka --keep")]
pub(crate) struct AdoptArgs {
    /// A data directory (log.dirs) of one Kafka node; give all that it has
    #[arg(required = true, value_name = "DIR")]
    pub(crate) dirs: Vec<PathBuf>,
    /// Say what will and what will not carry over; changes nothing
    #[arg(long)]
    pub(crate) check: bool,
    /// Make it Highwater's. One way: Apache Kafka must not be started on it again
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do not ask whether it is meant (only a terminal is asked)
    #[arg(long, requires = "keep")]
    pub(crate) yes: bool,
}

fn offsets(text: &str) -> Result<Range<Offset>, String> {
    let expected = || "expected FROM..TO, two offsets of which either may be left out".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(expected)?;
    let parse = |text: &str, otherwise: Offset| match text.trim() {
        "" => Ok(otherwise),
        text => text.parse::<i64>().ok().filter(|n| *n >= 0).map(Offset::new).ok_or_else(expected),
    };
    Ok(parse(from, Offset::ZERO)?..parse(to, Offset::MAX)?)
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn a_setting_keeps_what_follows_its_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("=x").is_err() && pair("x").is_err());
    }

    #[test]
    fn either_end_of_a_range_of_offsets_may_be_left_out() {
        assert_eq!(offsets("3..9"), Ok(Offset::new(3)..Offset::new(9)));
        assert_eq!(offsets(".."), Ok(Offset::ZERO..Offset::MAX));
        assert_eq!(offsets("7.."), Ok(Offset::new(7)..Offset::MAX));
        for text in ["7", "-1..3", "a..b", ""] {
            assert!(offsets(text).is_err(), "{text}");
        }
    }
}

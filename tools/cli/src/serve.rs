//! `highwater serve`.

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};

use highwater_broker::{Broker, HostPort, Settings, Source, Stopper, parse_properties};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Ended;
use crate::args::ServeArgs;

pub(crate) fn run(args: &ServeArgs) -> Ended {
    match serve(args) {
        Ok(()) => Ended::Well,
        Err(Failure::NotStarted(why)) => {
            eprintln!("highwater: {why}");
            Ended::NotRun
        }
        Err(Failure::NotClean(why)) => {
            eprintln!("highwater: {why}");
            Ended::Badly
        }
    }
}

enum Failure {
    NotStarted(String),
    NotClean(String),
}

fn serve(args: &ServeArgs) -> Result<(), Failure> {
    let settings = settings(args).map_err(Failure::NotStarted)?;
    let listen = resolve(settings.listen()).map_err(Failure::NotStarted)?;
    let host = told_host(settings.listen(), listen);
    let broker =
        Broker::start(settings, listen, &host).map_err(|error| Failure::NotStarted(error.to_string()))?;
    stop_on_signals(broker.stopper()).map_err(|error| Failure::NotStarted(format!("signals: {error}")))?;
    let dirs: Vec<String> = broker.data_dirs().iter().map(|dir| dir.display().to_string()).collect();
    // A reader that has gone is no reason to stop serving.
    let _nobody_reads =
        writeln!(std::io::stdout(), "highwater: ready on {}, data in {}", broker.address(), dirs.join(", "));
    broker.wait().map_err(|error| Failure::NotClean(error.to_string()))
}

/// Settings from the file, `--config`, and flags.
fn settings(args: &ServeArgs) -> Result<Settings, String> {
    let mut given: Vec<(Source, String, String)> = Vec::new();
    if let Some(path) = &args.config_file {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let pairs = parse_properties(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        given.extend(pairs.into_iter().map(|(name, value)| (Source::File, name, value)));
    }
    given.extend(args.config.iter().map(|(name, value)| (Source::Config, name.clone(), value.clone())));
    let mut flag = |name: &str, value: String| given.push((Source::Flag, name.to_owned(), value));
    if !args.data.is_empty() {
        let mut dirs = Vec::new();
        for dir in &args.data {
            let text = dir.to_str().filter(|text| !text.contains(','));
            dirs.push(
                text.ok_or_else(|| {
                    let dir = dir.display();
                    format!("--data {dir}: expected one directory, in UTF-8 without a comma; give --data again for each more")
                })?,
            );
        }
        flag("log.dirs", dirs.join(","));
    }
    if let Some(listen) = &args.listen {
        flag("listeners", format!("PLAINTEXT://{listen}"));
    }
    if let Some(advertise) = &args.advertise {
        flag("advertised.listeners", format!("PLAINTEXT://{advertise}"));
    }
    if let Some(id) = args.node_id {
        flag("node.id", id.to_string());
    }
    Settings::from_sources(&given).map_err(|error| error.to_string())
}

/// The address behind a host and port; no host means every address of the machine.
fn resolve(at: &HostPort) -> Result<SocketAddr, String> {
    let host = if at.host.is_empty() { "0.0.0.0" } else { &at.host };
    let mut found = (host, at.port).to_socket_addrs().map_err(|error| format!("{at}: {error}"))?;
    found.next().ok_or_else(|| format!("{at}: no such host"))
}

/// The host that clients are told when nothing else is said: the one listened on, or, where that is every address,
/// the machine's name.
fn told_host(at: &HostPort, listen: SocketAddr) -> String {
    if !listen.ip().is_unspecified() {
        return at.host.clone();
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}

/// TERM and Ctrl-C stop the broker cleanly; a second one ends the process at once.
fn stop_on_signals(stopper: Stopper) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut asked = false;
        for signal in signals.forever() {
            if asked {
                std::process::exit(128 + signal);
            }
            asked = true;
            stopper.stop();
        }
    })?;
    Ok(())
}

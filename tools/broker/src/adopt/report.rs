//! What `adopt --check` says.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use highwater_base::{BrokerId, Offset};
use highwater_control::{ConfigClass, Image, check_topic_config, topic_config};
use highwater_engine::layout::{CLEAN_SHUTDOWN, FileKind, FileName, FileState, PartitionDir, PartitionRole};
use highwater_engine::producers::Snapshot;
use highwater_io::{Op, Outcome, Park, blocking};

use super::Found;
use crate::storage::{Looked, StorageError, entries, read_file, unknown};

/// What of a directory that Apache Kafka wrote carries over, in lines for people.
///
/// ```
/// let report = highwater_broker::AdoptReport::default();
/// assert!(report.obstacles.is_empty());
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AdoptReport {
    /// What is served as Kafka served it.
    pub carries_over: Vec<String>,
    /// What is kept and shown, and changes nothing here.
    pub without_effect: Vec<String>,
    /// What is not served.
    pub not_carried: Vec<String>,
    /// What keeps the directory from being served at all; empty if nothing does.
    pub obstacles: Vec<String>,
}

/// What the partitions' directories hold.
#[derive(Default)]
struct Tally {
    partitions: u64,
    segments: u64,
    bytes: u64,
    /// Partitions with open transactions as of their newest producer snapshot.
    open: Vec<String>,
}

pub(super) fn report(
    io: &mut dyn Park,
    found: &Found,
    obstacles: Vec<String>,
) -> Result<AdoptReport, StorageError> {
    let mut report = AdoptReport { obstacles, ..AdoptReport::default() };
    identity(found, &mut report);
    let mut tally = Tally::default();
    for dir in &found.looked {
        let current = dir.partitions.iter().filter(|found| found.role == PartitionRole::Current);
        for partition in current {
            count(io, dir, partition, &mut tally)?;
        }
        stops(io, dir, &mut report)?;
        leftovers(found.kafka(), dir, &mut report);
    }
    topics(found.kafka(), found.node, &tally, &mut report);
    settings(found.kafka(), &mut report);
    coordinators(found.kafka(), &tally, &mut report);
    let passed_over = found.borrowed.log.metadata.passed_over();
    let people_s = |what: &str| !matches!(what, "no-ops" | "controller registrations" | "fencing of brokers");
    for (what, records) in passed_over.filter(|(what, _)| people_s(what)) {
        report.not_carried.push(format!("{what}: {records} records of Kafka's metadata"));
    }
    report.not_carried.push(
        "what stands only in Kafka's server.properties (retention, listeners, security): it is not in the directory; give \
         that file to `highwater serve` with --config-file"
            .to_owned(),
    );
    Ok(report)
}

fn identity(found: &Found, report: &mut AdoptReport) {
    let kafka = found.kafka();
    let log = &found.borrowed.log;
    let features: Vec<String> =
        log.metadata.features().map(|(name, level)| format!("{name}={level}")).collect();
    report.carries_over.push(format!(
        "cluster {}, node {}, metadata up to offset {}; {}",
        kafka.cluster_id(),
        found.node,
        log.end,
        features.join(" ")
    ));
    let first = found.borrowed.image.next_producer_id();
    report.carries_over.push(format!(
        "producer ids: Kafka gave out those below {}; until the directory is kept, new ones are given out from {first} on, \
         where Kafka never comes",
        log.metadata.next_producer_id()
    ));
}

fn topics(kafka: &Image, me: BrokerId, tally: &Tally, report: &mut AdoptReport) {
    report.carries_over.push(format!(
        "{} topics with their ids, settings and leader epochs; {} partitions here, {} segments, {} bytes, in place",
        kafka.topic_count(),
        tally.partitions,
        tally.segments,
        tally.bytes
    ));
    for topic in kafka.topics() {
        let here = topic.partitions.iter().filter(|partition| partition.replicas.contains(&me)).count();
        let of = topic.partitions.len();
        let epoch = topic.partitions.iter().map(|partition| partition.leader_epoch.get()).max().unwrap_or(-1);
        report.carries_over.push(format!(
            "topic {}: id {}, {of} partitions ({here} here), leader epoch up to {epoch}, {} settings",
            topic.name,
            topic.id,
            topic.configs.len()
        ));
        if here < of {
            report.not_carried.push(format!(
                "topic {}: {} partitions are on other nodes only",
                topic.name,
                of - here
            ));
        }
    }
}

/// How the directory was stopped.
fn stops(io: &mut dyn Park, dir: &Looked, report: &mut AdoptReport) -> Result<(), StorageError> {
    let clean = read_file(io, &dir.path.join(CLEAN_SHUTDOWN))?.is_some();
    report.carries_over.push(match clean {
        true => format!("{}: stopped cleanly; nothing has to be recovered", dir.path.display()),
        false => format!(
            "{}: in use, or not stopped cleanly; the start reads what lies behind Kafka's recovery points, and finds which \
             transactions are open",
            dir.path.display()
        ),
    });
    Ok(())
}

/// Directories that stay and are not served.
fn leftovers(kafka: &Image, dir: &Looked, report: &mut AdoptReport) {
    for other in unknown(kafka, dir) {
        report
            .not_carried
            .push(format!("directory {other}: its topic is not in Kafka's metadata; it stays as it is"));
    }
    for other in &dir.partitions {
        let why = match other.role {
            PartitionRole::Current => continue,
            PartitionRole::Delete => "Kafka was about to delete it",
            PartitionRole::Future => {
                "Kafka was moving the partition here from its other directory, which is served"
            }
            PartitionRole::Stray => "Kafka had set it aside",
        };
        report.not_carried.push(format!("directory {other}: {why}; it stays as it is"));
    }
}

/// Settings by what becomes of them: name and value, and the topics that have it.
fn settings(kafka: &Image, report: &mut AdoptReport) {
    let mut idle: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    let mut refused: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    let mut in_effect = 0u64;
    for topic in kafka.topics() {
        for (name, value) in &topic.configs {
            let known = topic_config(name);
            match (known.map(|definition| definition.class), check_topic_config(name, value)) {
                (None, _) => idle.entry((name, value, "unknown here")).or_default().push(&topic.name),
                (Some(ConfigClass::WithoutEffect), _) => {
                    idle.entry((name, value, "without effect")).or_default().push(&topic.name);
                }
                (Some(_), Err(error)) => {
                    refused.entry((name, error.to_string())).or_default().push(&topic.name);
                }
                (Some(_), Ok(_)) => in_effect += 1,
            }
        }
    }
    report.carries_over.push(format!("{in_effect} topic settings are in effect"));
    for ((name, value, why), topics) in idle {
        report.without_effect.push(format!("{name}={value} ({why}): {}", listed(&topics)));
    }
    for ((name, error), topics) in refused {
        report.not_carried.push(format!("{name}: {}: {error}", listed(&topics)));
    }
    for (id, configs) in kafka.all_broker_configs() {
        for (name, value) in configs {
            let whose = if id.is_some() { format!("broker {id}") } else { "all brokers".to_owned() };
            // What decides a topic's setting is looked up here as in Kafka.
            match highwater_control::topic_config_of_broker(name) {
                Some(_) => report.carries_over.push(format!("{name}={value}, set on {whose}")),
                None => report.without_effect.push(format!("{name}={value}, set on {whose}")),
            }
        }
    }
}

/// What Kafka's coordinators keep in topics of their own.
fn coordinators(kafka: &Image, tally: &Tally, report: &mut AdoptReport) {
    for (topic, what) in [
        (
            "__consumer_offsets",
            "consumer groups and their committed offsets: kept as records, but no group coordinator is offered yet",
        ),
        (
            "__transaction_state",
            "transactional ids: kept as records, but no transaction coordinator is offered yet",
        ),
        ("__share_group_state", "share groups: kept as records, but share groups are not offered"),
    ] {
        if kafka.topic(topic).is_some() {
            report.not_carried.push(format!("{what} (topic {topic})"));
        }
    }
    if !tally.open.is_empty() {
        let open: Vec<&str> = tally.open.iter().map(String::as_str).collect();
        report.not_carried.push(format!(
            "open transactions: nobody here can end them, and read_committed consumers wait in front of them: {}",
            listed(&open)
        ));
    }
    let compacted = kafka
        .topics()
        .filter(|topic| topic.configs.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")));
    let compacted: Vec<&str> = compacted.map(|topic| &*topic.name).collect();
    if !compacted.is_empty() && check_topic_config("cleanup.policy", "compact").is_err() {
        report.not_carried.push(format!("compaction: nothing is removed from {}", listed(&compacted)));
    }
}

/// Some names, and how many more.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        // Writing to a String cannot fail.
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}

/// Counts a partition's files, and looks into its newest producer snapshot.
fn count(
    io: &mut dyn Park,
    dir: &Looked,
    partition: &PartitionDir,
    tally: &mut Tally,
) -> Result<(), StorageError> {
    let path = dir.path.join(partition.to_string());
    tally.partitions += 1;
    let mut newest = None;
    for entry in entries(io, &path)? {
        let Some(file) = entry.name.to_str().and_then(FileName::parse) else { continue };
        match (file.kind, file.state) {
            (FileKind::Log, FileState::Live) => {
                tally.segments += 1;
                if let Outcome::Stat { len, .. } =
                    blocking::run(io, Op::Stat { path: path.join(&entry.name) })?
                {
                    tally.bytes += len;
                }
            }
            (FileKind::Snapshot, FileState::Live) => newest = newest.max(Some(file.offset)),
            _ => {}
        }
    }
    let Some(newest) = newest else { return Ok(()) };
    let name = FileName::live(FileKind::Snapshot, newest).to_string();
    let bytes = read_file(io, &path.join(name))?.unwrap_or_default();
    let snapshot = Snapshot::new(&bytes);
    let is_open = |entry: highwater_engine::producers::SnapshotEntry| entry.open_transaction > Offset::NONE;
    if snapshot.check().is_ok() && snapshot.entries().any(is_open) {
        tally.open.push(partition.to_string());
    }
    Ok(())
}

//! Data directories that Apache Kafka wrote, opened in place: what is found is what Kafka's clients and its own classes saw; a
//! served one can be given back; a kept one is ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use highwater_base::{LeaderEpoch, Mono, Now, Offset, WallMs};
use highwater_broker::{Broker, Settings, Source, adopt_check, adopt_keep};
use highwater_control::{Image, KafkaMetadata, decode_catalog};
use highwater_engine::batch::{Batches, RecordStream};
use highwater_engine::layout::{PartitionDir, PartitionRole};
use highwater_engine::{DataDirectory, Log, LogEvent, LogSettings, OpenHint, Origin};
use highwater_io::{Io, MemoryIo, PosixIo};
use highwater_tests::golden::{Golden, expected};
use serde_json::Value;

const NOW: Now = Now { mono: Mono::ZERO, wall: WallMs::new(1_800_000_000_000) };

/// Nothing expires: the recorded producers are years old.
fn settings() -> LogSettings {
    LogSettings {
        retention_ms: None,
        retention_bytes: None,
        producer_expiration_ms: i64::MAX as u64,
        ..LogSettings::default()
    }
}

fn number(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or_else(|| panic!("{name} of {value}"))
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}"))
}

/// Of the lines of a partition, those of this type.
fn lines(expected_lines: &[Value], kind: &str) -> Vec<Value> {
    expected_lines.iter().filter(|line| line["type"] == kind).cloned().collect()
}

/// Producer and first offset of each aborted transaction, by the indexes of all segments.
fn aborted(expected_lines: &[Value]) -> Vec<(i64, i64)> {
    let indexes = lines(expected_lines, "txn_index");
    let entries = indexes.iter().filter(|index| !text(index, "file").ends_with(".deleted"));
    let entries = entries.flat_map(|index| index["entries"].as_array().expect("a list").clone());
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|entry| number(entry, "last_offset"));
    entries.iter().map(|entry| (number(entry, "producer_id"), number(entry, "first_offset"))).collect()
}

fn aborted_of(log: &Log) -> Vec<(i64, i64)> {
    let all = log.aborted_in(Offset::ZERO, Offset::MAX);
    all.iter().map(|aborted| (aborted.producer.get(), aborted.first.get())).collect()
}

/// Opens every current partition of a data directory.
fn open_all(dir: &Path, mut each: impl FnMut(&PartitionDir, &mut Log)) {
    let mut io = PosixIo::new().expect("file descriptors");
    let directory = DataDirectory::open(&mut io, dir).expect("a data directory");
    for found in directory.partitions().iter().filter(|found| found.role == PartitionRole::Current) {
        let hint = directory.hint(&found.partition);
        let path = directory.log_dir(&found.partition);
        let (mut log, report) =
            Log::open(&mut io, NOW, &path, 1, settings(), hint).unwrap_or_else(|e| panic!("{found}: {e}"));
        assert!(report.findings.iter().all(|finding| finding.is_cut()), "{found}: {report:?}");
        each(found, &mut log);
    }
}

#[test]
fn a_cleanly_stopped_directory_opens_as_kafka_s_clients_saw_it() {
    let golden = Golden::unpack("opens-clean");
    let mut seen: BTreeMap<String, Value> = BTreeMap::new();
    for line in expected(&golden.dir().join("clean/client.jsonl")) {
        if line["type"] == "client_view" && line["error"].is_null() {
            seen.insert(format!("{}-{}", text(&line, "topic"), number(&line, "partition")), line);
        }
    }
    let mut compared = 0;
    open_all(&golden.dir().join("clean/node1"), |found, log| {
        let Some(line) = seen.remove(&found.to_string()) else { return };
        let file = golden.dir().join(format!("clean/node1.expected/{found}.jsonl"));
        log.set_high_watermark(log.log_end());
        let ours = (log.log_start().get(), log.log_end().get(), log.last_stable_offset().get());
        let theirs =
            ["log_start_offset", "high_watermark", "last_stable_offset"].map(|name| number(&line, name));
        assert_eq!(ours, theirs.into(), "{found}");
        assert_eq!(
            log.topic_id().map(|id| id.to_string()).as_deref(),
            Some(text(&line, "topic_id")),
            "{found}"
        );
        assert_eq!(aborted_of(log), aborted(&expected(&file)), "{found}");
        compared += 1;
    });
    assert!(compared >= 50, "{compared}");
    println!("figure: kafka_directory_clean partitions={compared}");
}

#[test]
fn a_killed_directory_opens_as_kafka_s_own_recovery_left_it() {
    let golden = Golden::unpack("opens-unclean");
    let mut compared = 0;
    for dir in ["dir-a", "dir-b"] {
        open_all(&golden.dir().join("unclean").join(dir), |found, log| {
            let recovered = golden.dir().join(format!("recovered/{dir}.expected/{found}.jsonl"));
            if !recovered.exists() {
                return; // It was being moved, or is one that the restarted broker deleted.
            }
            // What the restarted broker appended is in a later leader epoch.
            let mut end = 0;
            let before = i64::from(log.latest_epoch().get().max(0));
            for batch in lines(&expected(&recovered), "batch") {
                if number(&batch, "partition_leader_epoch") <= before {
                    end = end.max(number(&batch, "last_offset") + 1);
                }
            }
            assert_eq!(log.log_end().get(), end.max(log.log_start().get()), "{found}");
            compared += 1;
        });
    }
    assert!(compared >= 10, "{compared}");
    println!("figure: kafka_directory_killed partitions={compared}");
}

/// Kafka's recorded batches of a partition, one after the other.
fn batches(partition: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(partition)
        .expect("a partition")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    let mut batches = Vec::new();
    for file in files {
        let bytes = std::fs::read(file).expect("a segment");
        batches.extend(Batches::in_file(&bytes).map(|batch| batch.expect("Kafka wrote it").bytes().to_vec()));
    }
    batches
}

/// Producers by id, without the order in which Kafka's hash map wrote them.
fn producers(snapshot: &Value) -> BTreeMap<i64, Vec<(String, Value)>> {
    let entries = snapshot["entries"].as_array().expect("a list");
    entries
        .iter()
        .map(|entry| {
            let fields = entry.as_object().expect("an object").iter();
            (
                number(entry, "producer_id"),
                fields.map(|(name, value)| (name.clone(), value.clone())).collect(),
            )
        })
        .collect()
}

#[test]
fn transactions_copied_as_a_follower_copies_leave_kafka_s_aborted_ranges_and_snapshots() {
    let golden = Golden::shared();
    let (mut partitions, mut ranges, mut snapshots) = (0, 0, 0);
    for (dir, lines_file) in golden.partitions() {
        let name = dir.file_name().expect("a name").to_string_lossy().into_owned();
        let set = dir.strip_prefix(golden.dir()).expect("inside").to_string_lossy().into_owned();
        let transactional = name.starts_with("txn-") || name.starts_with("ha-txn") || name == "rdk-txn-0";
        if !transactional || name.contains("stray") {
            continue;
        }
        let recorded = expected(&lines_file);
        let mut io = MemoryIo::new();
        let path = Path::new("/copy-0");
        let id = highwater_base::Uuid::from_halves(1, 1);
        let mut log = Log::create(NOW, path, 1, settings(), id);
        let mut events = Vec::new();
        turn(&mut log, &mut io, &mut events, |event| matches!(event, LogEvent::Ready));
        let taken = batches(&dir);
        assert!(!taken.is_empty(), "{set}");
        for batch in &taken {
            let origin = Origin::Replica { leader_epoch: LeaderEpoch::new(1_000_000) };
            log.append(NOW, batch, origin).unwrap_or_else(|error| panic!("{set}: {error}"));
            turn(&mut log, &mut io, &mut events, |event| matches!(event, LogEvent::Synced(_)));
        }
        assert_eq!(aborted_of(&log), aborted(&recorded), "{set}");
        ranges += aborted_of(&log).len();
        log.close();
        turn(&mut log, &mut io, &mut events, |event| matches!(event, LogEvent::Closed));
        // The snapshot at the end, as far as Kafka wrote one there.
        let end = log.log_end();
        let name_at_end = format!("{:020}.snapshot", end.get());
        if let Some(theirs) =
            lines(&recorded, "producer_snapshot").iter().find(|line| text(line, "file") == name_at_end)
        {
            let bytes = io.disk().contents(path.join(&name_at_end)).expect("a clean stop writes one");
            let copy = std::env::temp_dir().join(format!("highwater-kafka-directory-{}", std::process::id()));
            std::fs::create_dir_all(&copy).expect("a scratch directory");
            std::fs::write(copy.join(&name_at_end), bytes).expect("a file");
            let mut out = Vec::new();
            let options = highwater_inspect::DumpOptions { json: true, ..Default::default() };
            highwater_inspect::dump(&mut out, &options, &copy.join(&name_at_end)).expect("a snapshot");
            std::fs::remove_dir_all(&copy).expect("ours");
            let ours = highwater_tests::golden::parsed(&String::from_utf8(out).expect("UTF-8"));
            let ours = lines(&ours, "producer_snapshot").pop().expect("one line");
            assert_eq!(producers(&ours), producers(theirs), "{set}");
            snapshots += 1;
        }
        partitions += 1;
    }
    assert!(partitions >= 10 && ranges >= 20 && snapshots >= 5, "{partitions} {ranges} {snapshots}");
    println!("figure: transactions_copied partitions={partitions} aborted={ranges} snapshots={snapshots}");
}

fn turn(log: &mut Log, io: &mut MemoryIo, events: &mut Vec<LogEvent>, wanted: impl Fn(&LogEvent) -> bool) {
    for _ in 0..10_000 {
        log.step(NOW, io);
        let mut completions = Vec::new();
        io.reap(&mut completions);
        for completion in completions {
            log.complete(NOW, completion, io);
        }
        events.clear();
        events.extend(std::iter::from_fn(|| log.poll_event()));
        if events.iter().any(&wanted) {
            return;
        }
    }
    panic!("the event never came: {log:?}");
}

#[test]
fn topics_ids_and_epochs_are_those_that_kafka_s_clients_were_told() {
    let golden = Golden::shared();
    let report = adopt_check(&[golden.dir().join("clean/node1")]).expect("Kafka's directory");
    assert_eq!(report.obstacles, Vec::<String>::new());
    let mut topics: BTreeMap<String, (String, i64, i64)> = BTreeMap::new();
    for line in expected(&golden.dir().join("clean/client.jsonl")) {
        if line["type"] != "client_view" || !line["error"].is_null() {
            continue;
        }
        let topic = topics.entry(text(&line, "topic").to_owned()).or_default();
        topic.0 = text(&line, "topic_id").to_owned();
        topic.1 += 1;
        topic.2 = topic.2.max(number(&line, "leader_epoch"));
    }
    assert!(topics.len() >= 40);
    for (name, (id, partitions, epoch)) in topics {
        // The clean stop that followed left each partition without a leader, in the next epoch.
        let start = format!(
            "topic {name}: id {id}, {partitions} partitions ({partitions} here), leader epoch up to {},",
            epoch + 1
        );
        assert!(report.carries_over.iter().any(|line| line.starts_with(&start)), "{start}\n{report:#?}");
    }
    assert!(report.carries_over[0].contains("metadata.version=30"), "{report:#?}");
    assert!(report.carries_over[1].contains("below 2000"), "{report:#?}");
    let killed = golden.dir().join("unclean");
    let report = adopt_check(&[killed.join("dir-a")]).expect("one of two directories");
    assert!(report.obstacles.iter().any(|line| line.contains("was not given")), "{report:#?}");
    let report = adopt_check(&[killed.join("dir-a"), killed.join("dir-b")]).expect("both");
    assert_eq!(report.obstacles, Vec::<String>::new());
    assert!(report.carries_over.iter().any(|line| line.contains("not stopped cleanly")), "{report:#?}");
    let report = adopt_check(&[golden.dir().join("cluster-after/node2")]).expect("one of three nodes");
    assert!(report.obstacles.iter().any(|line| line.contains("replicas on other nodes")), "{report:#?}");
}

#[test]
fn damaged_metadata_records_are_errors_or_records_and_never_a_panic() {
    let golden = Golden::shared();
    let (mut values, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for set in ["clean/node1", "unclean/dir-a", "cluster-before/node1"] {
        let dir = golden.dir().join(set).join("__cluster_metadata-0");
        for batch in batches(&dir) {
            if Batches::in_memory(&batch).next().expect("one").expect("whole").attributes().is_control() {
                continue;
            }
            let mut records = RecordStream::new(&batch, 1 << 20).expect("records");
            while let Some(record) = records.next().expect("a record") {
                let value = record.value.expect("a value");
                // A few of each kind and length are as good as all.
                if kinds.insert((value[1], value.len())) {
                    values.insert(value.to_vec());
                }
            }
        }
    }
    let (mut damaged, mut refused) = (0u64, 0u64);
    let mut apply = |value: &[u8]| {
        damaged += 1;
        refused += u64::from(KafkaMetadata::new().apply(value).is_err());
    };
    for value in &values {
        for len in 0..value.len() {
            apply(&value[..len]);
        }
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            apply(&flipped);
        }
    }
    assert!(values.len() > 50 && refused > 0, "{} {refused}", values.len());
    println!("figure: metadata_damage records={} damaged={damaged} refused={refused} panics=0", values.len());
}

fn start(dirs: &[PathBuf]) -> Broker {
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    let given = [
        (Source::Flag, "log.dirs".to_owned(), dirs.join(",")),
        (Source::Flag, "log.retention.ms".to_owned(), "-1".to_owned()),
        (Source::Flag, "highwater.shards".to_owned(), "2".to_owned()),
    ];
    let settings = Settings::from_sources(&given).expect("settings");
    Broker::start(settings, "127.0.0.1:0".parse().expect("an address"), "localhost").expect("a broker")
}

/// Names and bytes of all files below a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.insert(path.clone(), std::fs::read(path).expect("a file"));
        }
    }
    files
}

fn sorted(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

fn catalog(dir: &Path) -> Image {
    decode_catalog(&std::fs::read(dir.join("highwater.catalog")).expect("a catalog")).expect("an image")
}

#[test]
fn a_served_directory_is_given_back_as_kafka_expects_it_until_it_is_kept() {
    let golden = Golden::unpack("given-back");
    let dir = golden.dir().join("clean/node1");
    let before = files(&dir);
    for _ in 0..2 {
        let broker = start(std::slice::from_ref(&dir));
        assert!(!dir.join(".kafka_cleanshutdown").exists(), "a crash from here on is an unclean stop");
        broker.stopper().stop();
        broker.wait().expect("a clean stop");
    }
    let after = files(&dir);
    for (path, bytes) in &before {
        let name = path.file_name().expect("a name").to_string_lossy();
        let same = name.ends_with(".log")
            || ["index", "metadata", "properties", "checkpoint", "state"]
                .iter()
                .any(|end| name.ends_with(end));
        let changes = ["log-start-offset-checkpoint", "leader-epoch-checkpoint"].contains(&&*name);
        if same && !changes {
            // Kafka writes the lines of its checkpoints in the order of a hash map.
            assert_eq!(after.get(path).map(|bytes| sorted(bytes)), Some(sorted(bytes)), "{}", path.display());
        }
    }
    assert_eq!(after[&dir.join(".kafka_cleanshutdown")], br#"{"version":0,"brokerEpoch":303}"#);
    let ours: Vec<_> = after
        .keys()
        .filter(|path| path.parent() != Some(&dir))
        .filter(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            name.starts_with("highwater.") || name.ends_with(".seal") || name.ends_with(".prepared")
        })
        .collect();
    assert_eq!(ours, Vec::<&PathBuf>::new());
    let epochs = &after[&dir.join("plain-none-0/leader-epoch-checkpoint")];
    assert!(epochs.ends_with(b"\n3 59\n"), "Kafka's epoch, once: {}", String::from_utf8_lossy(epochs));
    assert_eq!(catalog(&dir).borrowed(), Some(427));

    let lines = adopt_keep(std::slice::from_ref(&dir), NOW.wall).expect("it is kept");
    assert!(lines.iter().any(|line| line.starts_with("this is one way")), "{lines:?}");
    let kept = catalog(&dir);
    assert_eq!((kept.borrowed(), kept.topic_count()), (None, 46));
    let again = adopt_keep(std::slice::from_ref(&dir), NOW.wall).unwrap_err().to_string();
    assert!(again.contains("Highwater's already"), "{again}");
    let broker = start(std::slice::from_ref(&dir));
    broker.stopper().stop();
    broker.wait().expect("a clean stop");
    let epoch = |image: &Image| image.topic("plain-none").expect("kept").partitions[0].leader_epoch;
    assert!(epoch(&catalog(&dir)) > epoch(&kept), "epochs rise again");
}

#[test]
fn what_ours_says_of_a_log_is_void_once_kafka_has_run_on_it() {
    let golden = Golden::unpack("void");
    let dir = golden.dir().join("clean/node1/plain-none-0");
    // A checkpoint and a seal of another time.
    std::fs::write(dir.join("highwater.checkpoint"), vec![7; 8192]).expect("a file");
    std::fs::write(dir.join("00000000000000000000.seal"), vec![7; 80]).expect("a file");
    let mut io = PosixIo::new().expect("file descriptors");
    let hint = OpenHint { clean_stop: true, stale: true, ..OpenHint::default() };
    let (_, report) = Log::open(&mut io, NOW, &dir, 1, settings(), hint).expect("a log");
    let removed: Vec<_> = report.removed.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(removed, ["00000000000000000000.seal", "highwater.checkpoint"]);
    assert_eq!(report.findings, []);
}

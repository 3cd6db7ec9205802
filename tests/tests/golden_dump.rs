//! `dump --json --records` of every directory that Apache Kafka wrote prints what Kafka's own classes read in it; damaged
//! copies are reported at the right byte, and every batch before the damage is still printed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater_base::{Offset, Prng};
use highwater_inspect::{DumpOptions, DumpSummary, dump, verify, verify_deep};
use highwater_tests::golden::{Golden, expected, parsed};
use serde_json::Value;

const ALL: DumpOptions =
    DumpOptions { json: true, records: true, offsets: None, decompressed_bytes: 1 << 30 };

fn dumped(path: &Path, options: &DumpOptions) -> (Vec<Value>, DumpSummary) {
    let mut out = Vec::new();
    let summary = dump(&mut out, options, path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (parsed(&String::from_utf8(out).expect("UTF-8")), summary)
}

/// Compares line by line; of `stopped_by` only whether it is null.
fn assert_same(path: &Path, mut found: Vec<Value>, mut expected: Vec<Value>) {
    for line in found.iter_mut().chain(&mut expected) {
        if let Some(stopped_by) = line.get_mut("stopped_by") {
            *stopped_by = Value::Bool(!stopped_by.is_null());
        }
    }
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "{} line {}", path.display(), i + 1);
    }
    assert_eq!(found.len(), expected.len(), "{}: lines", path.display());
}

#[test]
fn every_partition_is_printed_as_kafka_reads_it() {
    let golden = Golden::shared();
    let partitions = golden.partitions();
    assert!(partitions.len() >= 210, "{} partitions", partitions.len());
    for (partition, lines) in partitions {
        let (found, summary) = dumped(&partition, &ALL);
        assert_eq!(summary.findings, [], "{}", partition.display());
        assert_same(&partition, found, expected(&lines));
    }
}

#[test]
fn every_log_directory_is_printed_as_kafka_reads_it() {
    let golden = Golden::shared();
    for (directory, lines) in golden.log_directories() {
        let (mut found, _) = dumped(&directory, &ALL);
        let is_partition = |line: &Value| line["type"] == "partition";
        let partitions = found.iter().filter(|line| is_partition(line)).count();
        assert_eq!(partitions, subdirectories(&directory), "{}", directory.display());
        let top = found.iter().position(is_partition).unwrap_or(found.len());
        found.truncate(top);
        assert_same(&directory, found, expected(&lines.join("logdir.jsonl")));
    }
}

fn subdirectories(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.filter(|entry| entry.as_ref().expect("an entry").path().is_dir()).count()
}

#[test]
fn single_files_are_printed_as_within_their_partition() {
    let golden = Golden::shared();
    let partition = golden.dir().join("clean/node1/txn-gzip-0");
    let (whole, _) = dumped(&partition, &ALL);
    for entry in std::fs::read_dir(&partition).expect("a directory") {
        let path = entry.expect("an entry").path();
        let (found, _) = dumped(&path, &ALL);
        assert!(!found.is_empty(), "{}", path.display());
        let start = whole.iter().position(|line| *line == found[0]).expect("the file's first line");
        assert_eq!(found, whole[start..start + found.len()], "{}", path.display());
    }
}

#[test]
fn a_range_of_offsets_limits_batches_records_and_entries() {
    let golden = Golden::shared();
    let partition = golden.dir().join("clean/node1/txn-gzip-0");
    let options = DumpOptions { offsets: Some(Offset::new(10)..Offset::new(20)), ..ALL };
    let (found, _) = dumped(&partition, &options);
    let offsets: Vec<i64> = found
        .iter()
        .filter(|line| line["type"] == "record")
        .filter_map(|line| line["offset"].as_i64())
        .collect();
    assert_eq!(offsets, (10..20).collect::<Vec<_>>());
    let batches: Vec<&Value> = found.iter().filter(|line| line["type"] == "batch").collect();
    assert!(batches.iter().all(|batch| batch["last_offset"].as_i64() >= Some(10)));
    assert!(batches.iter().all(|batch| batch["base_offset"].as_i64() < Some(20)));
    // The second segment begins at 78.
    assert!(!found.iter().any(|line| line["file"] == "00000000000000000078.log"));
    let text = DumpOptions { json: false, ..options };
    assert!(dump(&mut Vec::new(), &text, &partition).is_ok());
}

#[test]
fn batches_alone_are_printed_without_records() {
    let golden = Golden::shared();
    let options = DumpOptions { records: false, ..ALL };
    for (partition, lines) in golden.partitions() {
        let (found, _) = dumped(&partition, &options);
        let mut expected = expected(&lines);
        expected.retain(|line| line["type"] != "record");
        assert_same(&partition, found, expected);
    }
}

#[test]
fn no_undamaged_set_has_a_finding() {
    let golden = Golden::shared();
    for (directory, _) in golden.log_directories() {
        let report = verify_deep(&directory).expect("the directory can be read");
        assert_eq!(report.findings, [], "{}", directory.display());
        assert_eq!(report.exit_status(), 0);
        assert!(report.segments > 0 && report.batches > 0);
    }
}

#[test]
fn an_aborted_transaction_that_its_index_does_not_list_is_found_by_deep_alone() {
    let golden = Golden::unpack("txnindex");
    let mut emptied = 0;
    // Of a compacted log the aborted batches are gone, and its markers end nothing that is there.
    let compacted = |partition: &Path| !partition.to_string_lossy().contains("clean/node1/txn-");
    for (partition, _) in golden.partitions().iter().filter(|(partition, _)| !compacted(partition)) {
        for entry in std::fs::read_dir(partition).expect("a directory") {
            let path = entry.expect("an entry").path();
            let is_index = path.extension().is_some_and(|kind| kind == "txnindex");
            if !is_index || std::fs::metadata(&path).expect("a file").len() == 0 {
                continue;
            }
            std::fs::write(&path, b"").expect("written");
            let directory = partition.parent().expect("in a log directory");
            assert_eq!(verify(directory).expect("readable").findings, []);
            let report = verify_deep(directory).expect("readable");
            assert!(report.findings.iter().any(|finding| finding.path == path), "{}", path.display());
            emptied += 1;
        }
    }
    assert!(emptied > 0);
}

/// A batch as recorded: where it lies.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    end: usize,
    magic: i64,
}

/// The live segments of the sets with their batches' places.
fn segments(golden: &Golden) -> Vec<(PathBuf, Vec<Place>)> {
    let mut segments = Vec::new();
    for (partition, lines) in golden.partitions() {
        let mut places: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        for line in expected(&lines).iter().filter(|line| line["type"] == "batch") {
            let number = |name: &str| line[name].as_u64().expect("a number") as usize;
            let start = number("position");
            let place = Place {
                start,
                end: start + number("size_in_bytes"),
                magic: line["magic"].as_i64().expect("a number"),
            };
            let file = line["file"].as_str().expect("a name").to_owned();
            places.entry(file).or_default().push(place);
        }
        let live = places.into_iter().filter(|(file, _)| file.ends_with(".log"));
        segments.extend(live.map(|(file, places)| (partition.join(file), places)));
    }
    segments
}

/// How a segment was damaged, and at which batch that must be noticed.
fn damage(bytes: &mut Vec<u8>, places: &[Place], prng: &mut Prng) -> Option<Place> {
    let at = prng.below(bytes.len() as u64) as usize;
    let hit = places.iter().copied().find(|place| place.start <= at && at < place.end)?;
    match prng.below(3) {
        0 => {
            bytes.truncate(at);
            // What is left may be the zeros with which a base offset begins.
            bytes[hit.start..].iter().any(|&byte| byte != 0).then_some(hit)
        }
        1 => {
            bytes[at] ^= 1 << prng.below(8);
            // Base offset and leader epoch lie outside the checksum (of legacy sets the offset).
            let uncovered = if hit.magic == 2 { &[0..8, 12..16][..] } else { &[0..8, 0..0][..] };
            (!uncovered.iter().any(|range| range.contains(&(at - hit.start)))).then_some(hit)
        }
        _ => {
            let before = bytes.clone();
            bytes[at..].fill(0);
            let nothing_left = bytes[hit.start..hit.end].iter().all(|&byte| byte == 0);
            (bytes[hit.start..hit.end] != before[hit.start..hit.end] && !nothing_left).then_some(hit)
        }
    }
}

#[test]
fn damage_is_reported_at_its_batch_and_every_batch_before_it_is_printed() {
    let golden = Golden::unpack("damage");
    let segments = segments(&golden);
    let mut prng = Prng::new(20_261_124);
    let mut noticed = 0;
    for round in 0..1500 {
        let (path, places) = &segments[prng.below(segments.len() as u64) as usize];
        let good = std::fs::read(path).expect("a segment");
        let mut bad = good.clone();
        let Some(hit) = damage(&mut bad, places, &mut prng) else { continue };
        std::fs::write(path, &bad).expect("a copy of ours");
        let (found, summary) = dumped(path, &ALL);
        let report = verify(path.parent().expect("a partition")).expect("the directory can be read");
        std::fs::write(path, &good).expect("a copy of ours");
        let place = format!("round {round}: {} batch at {}", path.display(), hit.start);
        assert!(summary.findings.iter().any(|f| f.position == Some(hit.start as u64)), "{place}: dump");
        assert_eq!(summary.findings[0].position, Some(hit.start as u64), "{place}: the first finding");
        let in_segment = |f: &&highwater_inspect::Finding| f.path == *path;
        let first = report.findings.iter().find(in_segment).expect("verify notices");
        assert_eq!(first.position, Some(hit.start as u64), "{place}: verify");
        assert!(first.verdict.is_some(), "{place}");
        let printed: Vec<u64> = found
            .iter()
            .filter(|line| line["type"] == "batch" && line["is_valid"] == true)
            .filter_map(|line| line["position"].as_u64())
            .take_while(|position| *position < hit.start as u64)
            .collect();
        let before: Vec<u64> =
            places.iter().map(|place| place.start as u64).filter(|start| *start < hit.start as u64).collect();
        assert_eq!(printed, before, "{place}: batches before");
        noticed += 1;
    }
    assert!(noticed > 1000, "{noticed} rounds damaged something");
}

#[test]
fn bytes_of_any_kind_in_any_file_never_stop_the_tool() {
    let golden = Golden::unpack("garbage");
    let mut prng = Prng::new(3);
    let files: Vec<PathBuf> = golden
        .partitions()
        .iter()
        .map(|(partition, _)| partition)
        .chain(golden.log_directories().iter().map(|(directory, _)| directory))
        .flat_map(|directory| std::fs::read_dir(directory).expect("a directory"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file() && !path.ends_with(".lock"))
        .collect();
    for _ in 0..600 {
        let path = &files[prng.below(files.len() as u64) as usize];
        let good = std::fs::read(path).expect("a file");
        let mut bad = good.clone();
        if prng.one_in(3) || bad.is_empty() {
            bad.resize(prng.below(300) as usize, 0);
            prng.fill(&mut bad);
        }
        for _ in 0..prng.below(20) {
            let len = bad.len().max(1) as u64;
            if let Some(byte) = bad.get_mut(prng.below(len) as usize) {
                *byte = prng.next_u64() as u8;
            }
        }
        std::fs::write(path, &bad).expect("a copy of ours");
        for json in [true, false] {
            let mut out = Vec::new();
            let options = DumpOptions { json, ..ALL };
            dump(&mut out, &options, path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(String::from_utf8(out).is_ok());
        }
        verify(path.parent().expect("a directory")).expect("the directory can be read");
        std::fs::write(path, &good).expect("a copy of ours");
    }
}

#[test]
fn what_is_unfinished_is_damage_only_after_an_orderly_stop() {
    let golden = Golden::unpack("zeros");
    for (directory, _) in golden.log_directories() {
        let path = directory.join("tail-plain-0/00000000000000000000.log");
        let Ok(good) = std::fs::read(&path) else { continue };
        let mut zeros = good.clone();
        zeros.resize(good.len() + 5000, 0);
        std::fs::write(&path, &zeros).expect("a copy of ours");
        let clean = directory.join(".kafka_cleanshutdown").exists();
        let report = verify(&directory).expect("the directory can be read");
        assert_eq!(report.clean_stop, clean);
        assert_eq!(report.findings.iter().map(|f| f.position).collect::<Vec<_>>(), {
            if clean { vec![Some(good.len() as u64)] } else { vec![] }
        });
    }
}

//! `verify` and `dump` over a directory of our own: running, stopped in order, damaged, written by somebody else.

use highwater_control::{Image, encode_catalog};
use highwater_engine::Verdict;
use highwater_inspect::{Damage, DumpOptions, dump, verify};
use highwater_tests::ours::{Ours, flip};

#[test]
fn a_running_and_a_stopped_directory_have_no_finding() {
    let mut ours = Ours::new("clean");
    let report = verify(&ours.dir).expect("readable");
    assert_eq!(report.findings, []);
    assert!(!report.clean_stop && report.segments >= 3, "{report:?}");
    assert_eq!(report.batches as usize, ours.batches);
    ours.stop();
    let report = verify(&ours.dir).expect("readable");
    assert_eq!(report.findings, []);
    assert!(report.clean_stop && report.void_seals.is_empty(), "{report:?}");
    let mut out = Vec::new();
    let options = DumpOptions { json: true, records: true, ..DumpOptions::default() };
    let summary = dump(&mut out, &options, &ours.dir).expect("readable");
    assert_eq!((summary.findings.len(), summary.batches as usize), (0, ours.batches));
    let text = String::from_utf8(out).expect("UTF-8");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let count = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!(count("record"), ours.batches);
    assert!(count("seal") >= 2 && count("checkpoint") == 1 && count("producer_snapshot") >= 1, "{text}");
}

#[test]
fn what_the_batches_own_checksum_leaves_out_the_seal_covers() {
    let mut ours = Ours::new("seal");
    ours.stop();
    // The leader epoch of the first batch.
    flip(&ours.segment(), 15, true);
    let report = verify(&ours.dir).expect("readable");
    assert_eq!(report.exit_status(), 1);
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert!(matches!(&finding.damage, Damage::Sealed { bytes } if bytes.start == 0), "{finding}");
    assert_eq!((finding.position, finding.verdict), (Some(0), Some(Verdict::Rot)));
}

#[test]
fn a_flipped_record_is_found_by_batch_and_by_seal() {
    let ours = Ours::new("record");
    flip(&ours.segment(), 100, true);
    let report = verify(&ours.dir).expect("readable");
    let kinds: Vec<_> = report.findings.iter().map(|f| (f.position, f.verdict)).collect();
    assert_eq!(kinds, [(Some(0), Some(Verdict::Rot)), (Some(0), Some(Verdict::Rot))]);
    assert!(report.findings.iter().any(|f| matches!(f.damage, Damage::Checksum { .. })));
}

#[test]
fn a_segment_that_somebody_else_has_written_is_judged_by_its_batches() {
    let ours = Ours::new("void");
    flip(&ours.segment(), 15, false);
    let report = verify(&ours.dir).expect("readable");
    assert_eq!(report.findings, []);
    assert_eq!(report.void_seals, [ours.segment().with_extension("seal")]);
}

#[test]
fn a_damaged_catalog_is_found() {
    let ours = Ours::new("catalog");
    let path = ours.dir.join("highwater.catalog");
    let mut bytes = encode_catalog(&Image::new("cluster"));
    std::fs::write(&path, &bytes).expect("written");
    assert_eq!(verify(&ours.dir).expect("readable").findings, []);
    let mut out = Vec::new();
    dump(&mut out, &DumpOptions { json: true, ..DumpOptions::default() }, &path).expect("readable");
    assert!(String::from_utf8_lossy(&out).contains(r#""cluster_id":"cluster""#));
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    let findings = verify(&ours.dir).expect("readable").findings;
    assert!(
        matches!(&findings[..], [finding] if matches!(finding.damage, Damage::Catalog(_))),
        "{findings:?}"
    );
}

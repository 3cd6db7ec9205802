//! `verify` and `dump` over a directory of our own: running, stopped in order, damaged, written by somebody else.

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_base::{LeaderEpoch, Limits, Mono, Now, ProducerEpoch, ProducerId, Uuid, WallMs};
use highwater_control::{Image, encode_catalog};
use highwater_engine::batch::{BatchBuilder, Codec};
use highwater_engine::checkpoint_file::encode_clean_shutdown;
use highwater_engine::{Log, LogEvent, LogSettings, Origin, Verdict};
use highwater_inspect::{Damage, DumpOptions, dump, verify};
use highwater_io::{Park, PosixIo};

/// A log directory with one log of several segments, removed when dropped.
struct Ours {
    dir: PathBuf,
    log: Log,
    io: PosixIo,
    now: Now,
    batches: usize,
}

impl Ours {
    fn new(test: &str) -> Ours {
        let dir = std::env::temp_dir().join(format!("highwater-ours-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_767_225_600_000) };
        let settings = LogSettings {
            segment_bytes: 16 << 10,
            index_interval_bytes: 1000,
            retention_ms: None,
            limits: Limits::TINY,
            ..LogSettings::default()
        };
        let log = Log::create(now, &dir.join("orders-0"), 7, settings, Uuid::from_halves(3, 4));
        let mut ours = Ours { dir, log, io: PosixIo::new().expect("descriptors"), now, batches: 0 };
        ours.until(|event| matches!(event, LogEvent::Ready));
        for number in 0..220 {
            let batch = BatchBuilder::new()
                .codec(Codec::ALL[number % 5])
                .producer(ProducerId::new(5), ProducerEpoch::ZERO, number as i32)
                .record(now.wall.get() + number as i64, Some(b"key"), Some(&[number as u8; 300]))
                .build();
            let origin = Origin::Client { leader_epoch: LeaderEpoch::new(number as i32 / 50) };
            let end = ours.log.append(ours.now, &batch, origin).expect("appended").end;
            ours.until(|event| matches!(event, LogEvent::Synced(synced) if *synced >= end));
            ours.batches += 1;
        }
        for _ in 0..200 {
            ours.turn();
            while ours.log.poll_event().is_some() {}
        }
        ours
    }

    fn turn(&mut self) {
        self.now.mono = self.now.mono.plus(Duration::from_millis(100));
        self.log.step(self.now, &mut self.io);
        let mut completions = Vec::new();
        self.io.park(Some(Duration::ZERO), &mut completions);
        for completion in completions {
            self.log.complete(self.now, completion, &mut self.io);
        }
    }

    fn until(&mut self, wanted: impl Fn(&LogEvent) -> bool) {
        for _ in 0..100_000 {
            while let Some(event) = self.log.poll_event() {
                if wanted(&event) {
                    return;
                }
            }
            self.turn();
        }
        panic!("the log does not come that far");
    }

    fn stop(&mut self) {
        self.log.close();
        self.until(|event| matches!(event, LogEvent::Closed));
        let marker = self.dir.join(".kafka_cleanshutdown");
        std::fs::write(marker, encode_clean_shutdown(1)).expect("written");
    }

    fn segment(&self) -> PathBuf {
        self.dir.join("orders-0/00000000000000000000.log")
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn flip(path: &Path, at: u64, keep_time: bool) {
    let file = File::options().read(true).write(true).open(path).expect("a segment");
    let time = file.metadata().and_then(|facts| facts.modified()).expect("a time");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("written");
    let time = if keep_time { time } else { time + Duration::from_secs(5) };
    file.set_times(FileTimes::new().set_modified(time)).expect("a time");
}

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

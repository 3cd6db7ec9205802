//! Everything that is read from a disk, damaged by the thousand: no panic, no hang, and no allocation beyond twice the
//! input until it has been validated.
//!
//! A fixed number of inputs, always the same ones; with `HIGHWATER_FUZZ_SECONDS=60`, as many as fit into that time. What
//! a compressed block may take is said at [`packed`].

use std::path::Path;

use allocation_counter::measure;
use highwater_base::{LeaderEpoch, Offset, Uuid, WallMs};
use highwater_engine::batch::{
    BatchBuilder, Batches, Codec, Decoder, RecordStream, Rules, arrival, compress, computed_crc, crc32c,
    legacy_entries,
};
use highwater_engine::checkpoint_file::{
    MetaProperties, OffsetCheckpoint, decode_clean_shutdown, decode_partition_metadata,
};
use highwater_engine::epochs::EpochCache;
use highwater_engine::index::{IndexBuilder, OffsetIndex, TimeIndex, TxnIndex};
use highwater_engine::producers::{SNAPSHOT_ENTRY_BYTES, Snapshot};
use highwater_engine::recovery::Checkpoint;
use highwater_engine::seal::{Seal, SealBuilder};
use highwater_engine::{Durability, Log, LogSettings, OpenHint, Read};
use highwater_io::Io as _;
use highwater_sim::{SimDisk, SimIo};
use highwater_tests::fuzz::{Outcome, Until, fuzz};
use highwater_tests::golden;
use highwater_tests::workload::tiny;

/// Words of an error, and what a decoder needs besides its input.
const WORDS: u64 = 4 << 10;
/// What compressed records may unpack to here.
const UNPACKED: u64 = 256 << 10;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// Runs `read` on an input of `len` bytes, which may allocate `allowed` bytes at once.
fn counted(allowed: u64, read: impl FnOnce() -> String) -> Outcome {
    let mut said = String::new();
    let info = measure(|| said = read());
    Outcome { said, allocated: info.bytes_max, allowed }
}

/// Twice the input and the words of an error.
fn twice(input: &[u8]) -> u64 {
    2 * input.len() as u64 + WORDS
}

/// A decoder holds one block at a time, unpacked, which nothing can validate before. It is as large as the block's own
/// bytes can make it: 255 times that in LZ4, and no more than 4 MiB; 22 times that in Snappy. The state of the others is
/// fixed.
fn packed(input: &[u8]) -> u64 {
    twice(input) + (255 * input.len() as u64).min(4 << 20) + (128 << 10)
}

/// The golden files whose names end like this.
fn golden_files(end: &str) -> Vec<Vec<u8>> {
    let files = golden::files().into_iter().filter(|(name, bytes)| name.ends_with(end) && !bytes.is_empty());
    let mut files: Vec<_> = files.map(|(_, bytes)| bytes).filter(|bytes| bytes.len() < 48 << 10).collect();
    files.sort();
    files.dedup();
    files
}

fn batch(codec: Codec, records: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new().codec(codec);
    for i in 0..records {
        builder.push(1_000 + i, Some(&i.to_be_bytes()), Some(&[i as u8; 40]), &[("k", Some(b"v"))]);
    }
    builder.build()
}

fn batches() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> =
        CODECS.iter().flat_map(|codec| [batch(*codec, 1), batch(*codec, 40)]).collect();
    for log in golden_files(".log") {
        all.extend(Batches::in_memory(&log).map_while(Result::ok).map(|batch| batch.bytes().to_vec()));
    }
    all.sort();
    all.dedup();
    all
}

/// Puts the right checksum into each batch that is there.
fn mend_batches(mut bytes: &mut [u8]) {
    while bytes.len() >= 61 {
        let size = i32::from_be_bytes(bytes[8..12].try_into().expect("four bytes"));
        let size = usize::try_from(size).map_or(0, |size| size + 12);
        if size < 61 || size > bytes.len() {
            return;
        }
        let (batch, rest) = bytes.split_at_mut(size);
        let crc = computed_crc(batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes = rest;
    }
}

/// Whether any batch is compressed, or says so.
fn is_packed(bytes: &[u8]) -> bool {
    Batches::in_memory(bytes).map_while(Result::ok).any(|batch| batch.attributes().bits() & 7 != 0)
}

/// Reads every record of every batch.
fn read_batches(bytes: &[u8]) -> String {
    for batch in Batches::in_memory(bytes) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return error.to_string(),
        };
        let _judged = batch.crc_matches();
        if batch.header().is_none() {
            match legacy_entries(batch, UNPACKED, |_| {}) {
                Ok(()) => continue,
                Err(error) => return error.to_string(),
            }
        }
        let mut records = match RecordStream::new(batch.bytes(), UNPACKED) {
            Ok(records) => records,
            Err(error) => return error.to_string(),
        };
        loop {
            match records.next() {
                Ok(Some(record)) => {
                    let _all = record.headers.count();
                }
                Ok(None) => break,
                Err(error) => return error.to_string(),
            }
        }
    }
    "records".into()
}

#[test]
fn batches_are_refused_or_read() {
    let rules = Rules { decompressed_bytes: UNPACKED, one_batch: false, ..Rules::default() };
    fuzz("batch", batches(), Until::asked_or(20_000), mend_batches, |input| {
        let allowed = if is_packed(input) { packed(input) + 2 * UNPACKED } else { twice(input) };
        counted(allowed, || match arrival(input, &rules, WallMs::new(2_000)) {
            Ok(arrived) => format!("taken: {:?}; {}", arrived.codec, read_batches(input)),
            Err(error) => format!("{error}; {}", read_batches(input)),
        })
    });
}

/// A log whose only segment, with or without what lies beside it, is the input: opened, which recovers it, and read.
fn open_segment(io: &mut SimIo, settings: LogSettings) -> String {
    let (now, hint) = (io.clock().now(), OpenHint { topic_id: Some(Uuid::ZERO), ..OpenHint::default() });
    let (mut log, report) = match Log::open(io, now, Path::new("/data/a-0"), 1, settings, hint) {
        Ok(opened) => opened,
        Err(error) => return error.to_string(),
    };
    let (start, end) = (log.log_start(), log.log_end());
    let read = match log.read(now, start, end, 1 << 20) {
        Ok(Read::Ready(_)) => "read".to_owned(),
        Ok(Read::Pending(_)) => {
            let mut done = Vec::new();
            for _ in 0..1000 {
                log.step(io.clock().now(), io);
                if io.in_flight() == 0 {
                    break;
                }
                io.advance(&mut done);
                for completion in done.drain(..) {
                    log.complete(io.clock().now(), completion, io);
                }
            }
            "read from disk".to_owned()
        }
        Err(error) => error.to_string(),
    };
    let verdicts: Vec<_> = report.findings.iter().map(|finding| finding.verdict).collect();
    format!("{verdicts:?}, {read}")
}

#[test]
fn segments_are_recovered_whatever_they_hold() {
    let settings = tiny(Durability::Each);
    let mut corpus = golden_files(".log");
    corpus.push([batch(Codec::None, 3), batch(Codec::Lz4, 30)].concat());
    // The log itself, its limits tiny, and the simulated disk.
    let empty = measure(|| {
        let mut disk = SimDisk::new();
        disk.put("/data/a-0/00000000000000000000.log", b"");
        open_segment(&mut SimIo::new(disk, 1), settings);
    });
    fuzz("segment", corpus, Until::asked_or(3000), mend_batches, |input| {
        let mut disk = SimDisk::new();
        disk.put("/data/a-0/00000000000000000000.log", input);
        let mut io = SimIo::new(disk, 1);
        let allowed = empty.bytes_max + SEGMENT_FACTOR * input.len() as u64 + WINDOWS;
        counted(allowed, || open_segment(&mut io, settings))
    });
}

/// Windows of fixed size: what is read and written at once, checkpoint slots, a block's padding.
const WINDOWS: u64 = 64 << 10;
/// What is found is written again, kept by the simulated disk with its past, and read: several copies, none of
/// which comes from a claim.
const SEGMENT_FACTOR: u64 = 16;

#[test]
fn indexes_of_any_bytes_are_checked_and_searched() {
    let mut corpus = golden_files("index");
    corpus.push(vec![0; 64]);
    fuzz(
        "indexes",
        corpus,
        Until::asked_or(20_000),
        |_| {},
        |input| {
            counted(twice(input), || {
                let base = Offset::new(5);
                let (offsets, times, aborted) =
                    (OffsetIndex::new(input, base), TimeIndex::new(input, base), TxnIndex::new(input));
                let checked = (offsets.check().is_ok(), times.check().is_ok(), aborted.check(base).is_ok());
                for at in [i64::MIN, -1, 0, 5, 77, i64::MAX] {
                    let _found = (offsets.lookup(Offset::new(at)), times.lookup(WallMs::new(at)));
                    let _kept = (offsets.len_below(Offset::new(at)), times.len_below(Offset::new(at)));
                    let _aborted = aborted.len_below(Offset::new(at));
                }
                let entries = offsets.entries().count() + times.entries().count() + aborted.entries().count();
                let resumed = IndexBuilder::resume(base, 4096, input, &[]).is_full(36);
                let _times = IndexBuilder::resume(base, 4096, &[], input);
                format!("{checked:?} {} {resumed}", entries > 0)
            })
        },
    );
}

#[test]
fn snapshots_are_refused_or_read() {
    let mend = |bytes: &mut [u8]| {
        if bytes.len() >= 6 {
            let crc = crc32c(&bytes[6..]);
            bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        }
    };
    fuzz("snapshot", golden_files(".snapshot"), Until::asked_or(20_000), mend, |input| {
        counted(twice(input), || {
            let snapshot = Snapshot::new(input);
            let entries = snapshot.entries().count() * SNAPSHOT_ENTRY_BYTES <= input.len();
            assert!(entries, "more entries than there are bytes for");
            match snapshot.check() {
                Ok(()) => "a snapshot".into(),
                Err(error) => error.to_string(),
            }
        })
    });
}

/// A line that was read becomes an entry of a map, which takes more than its text.
const ENTRY_FACTOR: u64 = 32;

#[test]
fn checkpoints_are_refused_or_read() {
    let mut corpus = golden_files("checkpoint");
    for end in ["meta.properties", "partition.metadata", ".kafka_cleanshutdown"] {
        corpus.extend(golden_files(end));
    }
    corpus.push(b"0\n2\norders 0 17\nletters 3 4\n".to_vec());
    corpus.push(
        [Checkpoint::default().encode(), Checkpoint { sequence: 1, ..Checkpoint::default() }.encode()]
            .concat(),
    );
    let mend = |bytes: &mut [u8]| {
        for slot in bytes.chunks_mut(4096).filter(|slot| slot.len() >= 100) {
            let crc = crc32fast::hash(&slot[..96]);
            slot[96..100].copy_from_slice(&crc.to_be_bytes());
        }
    };
    fuzz("checkpoints", corpus, Until::asked_or(20_000), mend, |input| {
        let slots = counted(twice(input), || format!("{}", Checkpoint::newest(input).is_some()));
        let allowed = ENTRY_FACTOR * input.len() as u64 + WORDS;
        let texts = counted(allowed, || {
            let text = String::from_utf8_lossy(input);
            let said = |said: Result<(), String>| said.err().unwrap_or_default();
            [
                said(OffsetCheckpoint::decode(&text).map(drop).map_err(|e| e.to_string())),
                said(EpochCache::decode(&text).map(drop).map_err(|e| e.to_string())),
                said(MetaProperties::decode(&text).map(drop).map_err(|e| e.to_string())),
                said(decode_partition_metadata(&text).map(drop).map_err(|e| e.to_string())),
                said(decode_clean_shutdown(&text).map(drop).map_err(|e| e.to_string())),
            ]
            .map(|said| said.chars().take(24).collect::<String>())
            .join("; ")
        });
        if slots.allocated > slots.allowed { slots } else { texts }
    });
}

#[test]
fn seals_are_refused_or_read() {
    let sealed = |count: i64| {
        let (mut builder, batch) = (SealBuilder::new(), batch(Codec::None, 40));
        for at in (0..count).map(Offset::new) {
            builder.batch(&batch, batch.len() as u64, at, at, LeaderEpoch::ZERO, WallMs::new(5));
        }
        builder.finish(WallMs::new(9)).encode()
    };
    let mend = |bytes: &mut [u8]| {
        if let Some(at) = bytes.len().checked_sub(4) {
            let crc = crc32fast::hash(&bytes[..at]);
            bytes[at..].copy_from_slice(&crc.to_be_bytes());
        }
    };
    let corpus = [1, 40, 600].map(sealed).to_vec();
    fuzz("seal", corpus, Until::asked_or(20_000), mend, |input| {
        counted(twice(input), || match Seal::decode(input) {
            Ok(seal) => format!("a seal, {:?}", seal.pieces().is_empty()),
            Err(error) => error.to_string(),
        })
    });
}

#[test]
fn packed_bytes_are_refused_or_unpacked() {
    let plain: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"x".to_vec(),
        vec![0; 100_000],
        (0..9000u32).map(|i| ((i * i) >> 3) as u8).collect(),
    ];
    let mut corpus = Vec::new();
    for (number, codec) in (0..).zip(CODECS) {
        for plain in &plain {
            let bytes = compress(codec, plain).expect("every codec is compiled in");
            corpus.push([&[number][..], &bytes[..bytes.len().min(60_000)]].concat());
        }
    }
    for packed in batches().iter().filter(|batch| is_packed(batch) && batch.len() > 61) {
        corpus.push([&[packed[22] & 7][..], &packed[61..]].concat());
    }
    fuzz(
        "decompression",
        corpus,
        Until::asked_or(20_000),
        |_| {},
        |input| {
            let Some((codec, bytes)) = input.split_first() else {
                return Outcome { said: "nothing".into(), allocated: 0, allowed: 0 };
            };
            let codec = CODECS[usize::from(*codec) % CODECS.len()];
            let allowed = if codec == Codec::None { twice(input) } else { packed(input) };
            counted(allowed, || {
                let mut decoder = Decoder::new(codec, bytes, UNPACKED);
                let (mut piece, mut all) = ([0; 1024], 0);
                loop {
                    match decoder.read(&mut piece) {
                        Ok(0) => return format!("{codec:?}: unpacked"),
                        Ok(n) => all += n as u64,
                        Err(error) => return format!("{codec:?}: {error}"),
                    }
                    assert!(all <= UNPACKED, "more than the limit");
                }
            })
        },
    );
}

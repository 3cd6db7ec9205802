//! Everything that is read from a disk, damaged by the thousand: no panic, no hang, and no allocation beyond twice the
//! input until it has been validated.
//!
//! A fixed number of inputs, always the same ones; with `HIGHWATER_FUZZ_SECONDS=60`, as many as fit into that time.
//!
//! An input that is not validated gets twice its size, and windows of a fixed size. Validated is, in each target: a batch
//! whose checksum is right, which may then take what its records have really unpacked to; packed bytes, as far as they have
//! been unpacked; a text of which every line was understood; a request that claims no more than it holds.

use std::path::{Path, PathBuf};

use allocation_counter::measure;
use bytes::Bytes;
use highwater_base::{LeaderEpoch, Mono, Now, Offset, Uuid, WallMs};
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
use highwater_io::{Park, PosixIo};
use highwater_tests::fuzz::{Outcome, Until, fuzz};
use highwater_tests::golden;
use highwater_tests::workload::tiny;
use highwater_wire::{APIS, DecodeError, Request};

/// Words of an error, and what a decoder needs besides its input.
const WORDS: u64 = 4 << 10;
/// Windows of a fixed size: a decoder's, and what is read and written at once.
const WINDOWS: u64 = 128 << 10;
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

/// How many bytes `bytes` unpack to before they end, fail, or reach the limit.
fn unpacked(codec: Codec, bytes: &[u8]) -> u64 {
    let mut decoder = Decoder::new(codec, bytes, UNPACKED);
    let (mut piece, mut all) = ([0; 4096], 0);
    while let Ok(n @ 1..) = decoder.read(&mut piece) {
        all += n as u64;
    }
    all
}

/// What a reader of these batches may take: of those with the right checksum, what the largest unpacks to, three times:
/// a buffer that doubles has the old and the new bytes for a moment.
fn allowed(bytes: &[u8]) -> u64 {
    let batches = Batches::in_memory(bytes).map_while(Result::ok);
    let packed = batches.filter(|batch| batch.crc_matches()).filter_map(|batch| {
        let codec = batch.attributes().codec().filter(|codec| *codec != Codec::None)?;
        Some(match batch.magic() {
            2 => unpacked(codec, batch.bytes().get(61..)?),
            // Of an inner set all that there is.
            _ => UNPACKED,
        })
    });
    twice(bytes) + packed.max().map_or(0, |most| 3 * most + WINDOWS)
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

/// Reads every record of every batch, up to one whose checksum is wrong, as everybody does who reads a log.
fn read_batches(bytes: &[u8]) -> String {
    for batch in Batches::in_memory(bytes) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return error.to_string(),
        };
        if !batch.crc_matches() {
            return "a wrong checksum".into();
        }
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
        counted(allowed(input), || match arrival(input, &rules, WallMs::new(2_000)) {
            Ok(arrived) => format!("taken: {:?}; {}", arrived.codec, read_batches(input)),
            Err(error) => format!("{error}; {}", read_batches(input)),
        })
    });
}

/// A log on real files, so that what a simulated disk keeps is not counted; removed when dropped.
struct Files(PathBuf);

impl Files {
    fn new() -> Files {
        let memory = Path::new("/dev/shm");
        let top = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        Files(top.join(format!("highwater-fuzz-{}", std::process::id())))
    }

    /// Nothing but this segment.
    fn hold(&self, segment: &[u8]) {
        let dir = self.0.join("a-0");
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join("00000000000000000000.log"), segment).expect("written");
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Opens the log, which recovers it, and reads it from the start.
fn open_segment(io: &mut dyn Park, dir: &Path, settings: LogSettings) -> String {
    let now = Now { mono: Mono::ZERO, wall: WallMs::new(1_767_225_600_000) };
    let hint = OpenHint { topic_id: Some(Uuid::ZERO), ..OpenHint::default() };
    let (mut log, report) = match Log::open(io, now, dir, 1, settings, hint) {
        Ok(opened) => opened,
        Err(error) => return without_paths(error.to_string()),
    };
    let (start, end) = (log.log_start(), log.log_end());
    let read = match log.read(now, start, end, 1 << 20) {
        Ok(Read::Ready(_)) => "read".to_owned(),
        Ok(Read::Pending(_)) => {
            let mut done = Vec::new();
            for _ in 0..1000 {
                log.step(now, io);
                if io.in_flight() == 0 {
                    break;
                }
                io.park(None, &mut done);
                for completion in done.drain(..) {
                    log.complete(now, completion, io);
                }
            }
            "read from disk".to_owned()
        }
        Err(error) => without_paths(error.to_string()),
    };
    let verdicts: Vec<_> = report.findings.iter().map(|finding| finding.verdict).collect();
    format!("{verdicts:?}, {read}")
}

/// Words with a path in them differ from run to run.
fn without_paths(said: String) -> String {
    said.split(' ').filter(|word| !word.contains('/')).collect::<Vec<_>>().join(" ")
}

#[test]
fn segments_are_recovered_whatever_they_hold() {
    let settings = LogSettings { direct: false, ..tiny(Durability::Each) };
    let mut corpus = golden_files(".log");
    corpus.push([batch(Codec::None, 3), batch(Codec::Lz4, 30)].concat());
    let files = Files::new();
    let dir = files.0.join("a-0");
    let open = || {
        let mut io = PosixIo::new().expect("descriptors");
        open_segment(&mut io, &dir, settings)
    };
    // The log itself, its limits tiny.
    files.hold(b"");
    let empty = measure(|| drop(open()));
    fuzz("segment", corpus, Until::asked_or(3000), mend_batches, |input| {
        files.hold(input);
        counted(empty.bytes_max + twice(input) + WINDOWS, open)
    });
}

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

/// A text that was understood becomes entries of a map, which take more than their lines.
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
        let Ok(text) = std::str::from_utf8(input) else { return slots };
        // Each by itself: one that is refused has no allowance but twice the input.
        fn judged<T, E: ToString>(input: &[u8], decode: impl FnOnce() -> Result<T, E>) -> Outcome {
            let mut read = false;
            let outcome = counted(twice(input), || {
                let decoded = decode();
                read = decoded.is_ok();
                decoded.err().map(|error| error.to_string().chars().take(24).collect()).unwrap_or_default()
            });
            let allowed = if read { ENTRY_FACTOR * input.len() as u64 + WORDS } else { outcome.allowed };
            Outcome { allowed, ..outcome }
        }
        let texts = [
            judged(input, || OffsetCheckpoint::decode(text)),
            judged(input, || EpochCache::decode(text)),
            judged(input, || MetaProperties::decode(text)),
            judged(input, || decode_partition_metadata(text)),
            judged(input, || decode_clean_shutdown(text)),
        ];
        let said = texts.each_ref().map(|outcome| outcome.said.clone()).join("; ");
        let worst = texts
            .into_iter()
            .chain([slots])
            .max_by_key(|o| (o.allocated.saturating_sub(o.allowed), o.allocated));
        Outcome { said, ..worst.expect("six of them") }
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
    for times in [100, 500, 2000, 16_000] {
        // Blocks of up to 4 MiB, as other writers make them: a zero, over and over, then five more bytes.
        let length = vec![255; times];
        let block = [&[0x1f, 0, 1, 0][..], &length, &[7, 0x50, 1, 2, 3, 4, 5]].concat();
        let header = [4, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
        let size = (block.len() as u32).to_le_bytes();
        let frame = [&[3][..], &header, &size, &block, &[0; 4]].concat();
        assert!(unpacked(Codec::Lz4, &frame[1..]) == (255 * times as u64 + 32) || times > 1000);
        corpus.push(frame);
        let zeros = compress(Codec::Snappy, &vec![0; 255 * times]).expect("every codec is compiled in");
        corpus.push([&[2][..], &zeros].concat());
    }
    for packed in batches().iter().filter(|batch| batch.len() > 61 && batch[16] == 2 && batch[22] & 7 != 0) {
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
            counted(twice(input) + WINDOWS + unpacked(codec, bytes), || {
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

/// A frame of this API and version: a client's name, then the body.
fn request(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 7, 0, 2, b'c', b'l'], body].concat()
}

/// A request that was accepted becomes a value of the codec crate, whose parts are larger than their bytes.
const FIELD_FACTOR: u64 = 64;

#[test]
fn requests_are_refused_or_understood() {
    let mut corpus = Vec::new();
    for row in APIS {
        for version in row.served_min..=row.max {
            corpus.extend([0, 3, 60].map(|len| request(row.key, version, &vec![0; len])));
            corpus.push(request(
                row.key,
                version,
                b"\0\x02\0\x02\0\0\0\x02\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0",
            ));
        }
    }
    fuzz(
        "request",
        corpus,
        Until::asked_or(50_000),
        |_| {},
        |input| {
            let frame = Bytes::copy_from_slice(input);
            let mut accepted = false;
            let outcome = counted(twice(input), || {
                let decoded = Request::decode(frame);
                accepted = !matches!(decoded, Err(DecodeError::Header(_) | DecodeError::Bounds { .. }));
                match decoded {
                    Ok(request) => format!("{:?} {}", request.header.api, request.header.version),
                    Err(error) => error.to_string(),
                }
            });
            let allowed = if accepted { FIELD_FACTOR * input.len() as u64 + WORDS } else { outcome.allowed };
            Outcome { allowed, ..outcome }
        },
    );
}

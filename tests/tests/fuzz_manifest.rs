//! The manifest of a data directory, damaged by the thousand: it is ignored or believed, without a panic, and takes no more memory
//! than its bytes twice until its checksum is right. Inputs as in `fuzz.rs`.

use std::path::Path;

use allocation_counter::measure;
use highwater_base::{ProducerEpoch, ProducerId};
use highwater_engine::batch::BatchBuilder;
use highwater_engine::{Engine, EngineConfig, Manifest};
use highwater_io::PosixIo;
use highwater_tests::fuzz::{Outcome, Until, fuzz};
use highwater_tests::loop_disk::Scratch;

/// The line that says why it is ignored, and what a read takes besides its bytes.
const FIXED: u64 = 128 << 10;
/// Of a manifest whose checksum is right: its entries as values, and the paths and the facts of what they list.
const ENTRY_FACTOR: u64 = 64;

const NAME: &str = "highwater.manifest";

/// What a clean stop writes of so many logs in `dir`.
fn manifest_of(dir: &Path, logs: usize) -> Vec<u8> {
    drop(std::fs::remove_dir_all(dir));
    let engine = Engine::open(EngineConfig::at(dir)).expect("an engine");
    for number in 0..logs {
        let log = engine.log(&format!("orders-{number}")).expect("a log");
        for sequence in 0..number as i32 {
            let batch = BatchBuilder::new()
                .producer(ProducerId::new(7), ProducerEpoch::new(0), sequence)
                .record(1_700_000_000_000, Some(b"key"), Some(&[9; 3000]));
            log.append(batch.build()).expect("an append");
        }
    }
    engine.close().expect("a clean stop");
    std::fs::read(dir.join(NAME)).expect("the manifest of a clean stop")
}

#[test]
fn manifests_are_ignored_or_believed() {
    let memory = Path::new("/dev/shm");
    let top = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let scratch = Scratch::new(&top, "highwater-fuzz-manifest").expect("a directory");
    let dir = scratch.path();
    let corpus = [0, 1, 2, 9].map(|logs| manifest_of(dir, logs)).to_vec();
    let io = std::cell::RefCell::new(PosixIo::new().expect("descriptors"));
    let mend = |bytes: &mut [u8]| {
        if let Some(at) = bytes.len().checked_sub(4) {
            let crc = crc32fast::hash(&bytes[..at]);
            bytes[at..].copy_from_slice(&crc.to_be_bytes());
        }
    };
    fuzz("manifest", corpus, Until::asked_or(20_000), mend, |input| {
        std::fs::write(dir.join(NAME), input).expect("written");
        let mut said = String::new();
        let info = measure(|| {
            let (manifest, ignored) =
                Manifest::load(&mut *io.borrow_mut(), dir).expect("a directory that can be read");
            let known = manifest.log("orders-1").is_some();
            said =
                ignored.map_or_else(|| format!("believed, {known}"), |why| why.split(": ").skip(1).collect());
        });
        let sound = input.len() >= 20
            && crc32fast::hash(&input[..input.len() - 4]).to_be_bytes() == input[input.len() - 4..];
        let factor = if sound { ENTRY_FACTOR } else { 2 };
        Outcome { said, allocated: info.bytes_max, allowed: factor * input.len() as u64 + FIXED }
    });
}

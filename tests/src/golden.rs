//! The files that Apache Kafka wrote: `tests/golden`.

use std::io::Read as _;
use std::path::Path;

/// Every file of the archive, by its name in it.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/kafka-4.3.1.tar.zst");
    let packed = std::fs::read(packed).expect("tests/golden is part of the repository");
    let mut tar = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::new(&packed[..]).expect("a zstd frame");
    decoder.read_to_end(&mut tar).expect("the archive unpacks");
    tar_files(&tar)
}

fn tar_files(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    const BLOCK: usize = 512;
    let text = |field: &[u8]| {
        let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
        String::from_utf8(field[..end].to_vec()).expect("UTF-8")
    };
    let mut files = Vec::new();
    let mut at = 0;
    while let Some(header) = tar.get(at..at + BLOCK).filter(|header| header[0] != 0) {
        let size = usize::from_str_radix(text(&header[124..136]).trim(), 8).expect("a size");
        let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if matches!(header[156], b'0' | 0) {
            files.push((name, tar[at + BLOCK..at + BLOCK + size].to_vec()));
        }
        at += BLOCK + size.div_ceil(BLOCK) * BLOCK;
    }
    files
}

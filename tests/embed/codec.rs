//! The default build has no codec: a compressed batch is refused by name, with the feature that would take it, or
//! passed through as it is where its records are not looked into.

use highwater_engine::batch::{BatchBuilder, computed_crc};
use highwater_engine::{
    AppendError, Engine, EngineConfig, EngineError, LogSettings, MemoryDisk, Offset, RecordCheck,
};

fn main() -> Result<(), EngineError> {
    let mut batch = BatchBuilder::new().record(1_700_000_000_000, None, Some(b"not really zstd")).build();
    batch[22] |= 4; // zstd, in the low bits of the attributes
    let crc = computed_crc(&batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());

    let trusting = LogSettings { records: RecordCheck::Header, ..LogSettings::default() };
    let engine = Engine::open(EngineConfig::at("data").in_memory(MemoryDisk::new()))?;
    let error = engine.log("checked")?.append(batch.clone()).unwrap_err();
    println!("{error}");
    assert!(error.to_string().contains("the codec zstd is not compiled in: build with the feature \"zstd\""));
    let EngineError::Append(AppendError::Batch(error)) = error else { panic!("{error:?}") };
    assert_eq!(error.kafka_code(), 76, "UNSUPPORTED_COMPRESSION_TYPE");

    let passed = engine.log_with("passed", trusting)?;
    passed.append(batch.clone())?;
    assert_eq!(passed.read(Offset::ZERO, 1 << 20)?.to_vec()[22..], batch[22..]);
    let error = passed.records(Offset::ZERO, 1 << 20).unwrap_err();
    assert!(error.to_string().contains("not compiled in"), "{error}");
    engine.close()
}

//! CRC-32C (Castagnoli), the checksum of record batches and producer snapshots.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// The CRC-32C of `bytes`.
///
/// ```
/// assert_eq!(highwater_engine::batch::crc32c(b"123456789"), 0xe306_9283);
/// ```
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The CRC-32C of bytes that come in pieces.
#[derive(Clone, Debug)]
pub(crate) struct Crc32c(Digest);

impl Crc32c {
    pub(crate) fn new() -> Crc32c {
        Crc32c(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> u32 {
        self.0.finalize() as u32
    }
}

/// Which instructions compute it on this machine, for a log line.
///
/// ```
/// assert!(!highwater_engine::batch::crc32c_target().is_empty());
/// ```
pub fn crc32c_target() -> String {
    crc_fast::get_calculator_target(CrcAlgorithm::Crc32Iscsi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_s_own_constant_comes_out() {
        assert_eq!(crc32c(b"Some String"), 608_512_271);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_machine_with_carry_less_multiplication_uses_it() {
        if std::arch::is_x86_feature_detected!("pclmulqdq") {
            let target = crc32c_target();
            assert!(!target.contains("table") && !target.contains("software"), "{target}");
        }
    }
}

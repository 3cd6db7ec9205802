//! Zigzag varints, as records use them (the wire protocol's are unsigned: not these).

/// The most bytes of a 32-bit varint.
pub const MAX_VARINT: usize = 5;
/// The most bytes of a 64-bit varint.
pub const MAX_VARLONG: usize = 10;

/// Why no varint could be read.
///
/// ```
/// use highwater_engine::batch::{VarintError, read_varint};
/// assert_eq!(read_varint(&[0x80]), Err(VarintError::Short));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VarintError {
    /// The bytes end inside it.
    Short,
    /// It does not end after 5 (or 10) bytes.
    Long,
}

/// Reads a zigzag varint at the front of `bytes`: the value and how many bytes it took.
///
/// ```
/// use highwater_engine::batch::read_varint;
/// assert_eq!(read_varint(&[0x0c, 9]), Ok((6, 1)));
/// ```
#[inline]
pub fn read_varint(bytes: &[u8]) -> Result<(i32, usize), VarintError> {
    // One byte is what nearly every length and delta takes.
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        return Ok((unzigzag32(u32::from(first)), 1));
    }
    let (raw, used) = read_unsigned(bytes, MAX_VARINT)?;
    // Bits beyond the 32nd are dropped, as Kafka's reader drops them.
    Ok((unzigzag32(raw as u32), used))
}

/// Reads a zigzag varlong at the front of `bytes`: the value and how many bytes it took.
///
/// ```
/// use highwater_engine::batch::read_varlong;
/// assert_eq!(read_varlong(&[0xe1, 0xbf, 0x22]), Ok((-282_609, 3)));
/// ```
#[inline]
pub fn read_varlong(bytes: &[u8]) -> Result<(i64, usize), VarintError> {
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        return Ok((unzigzag64(u64::from(first)), 1));
    }
    let (raw, used) = read_unsigned(bytes, MAX_VARLONG)?;
    Ok((unzigzag64(raw), used))
}

/// Appends a zigzag varint.
///
/// ```
/// let mut out = Vec::new();
/// highwater_engine::batch::write_varint(&mut out, -1);
/// assert_eq!(out, [1]);
/// ```
pub fn write_varint(out: &mut Vec<u8>, value: i32) {
    write_unsigned(out, u64::from((value << 1 ^ value >> 31) as u32));
}

/// Appends a zigzag varlong.
///
/// ```
/// let mut out = Vec::new();
/// highwater_engine::batch::write_varlong(&mut out, -282_609);
/// assert_eq!(out, [0xe1, 0xbf, 0x22]);
/// ```
pub fn write_varlong(out: &mut Vec<u8>, value: i64) {
    write_unsigned(out, (value << 1 ^ value >> 63) as u64);
}

/// How many bytes a zigzag varlong takes; a varint's length is that of the same value.
pub(crate) fn varlong_len(value: i64) -> usize {
    let bits = 64 - ((value << 1 ^ value >> 63) as u64 | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[inline]
fn read_unsigned(bytes: &[u8], most: usize) -> Result<(u64, usize), VarintError> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(most).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Ok((value, i + 1));
        }
    }
    Err(if bytes.len() < most { VarintError::Short } else { VarintError::Long })
}

fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const fn unzigzag32(raw: u32) -> i32 {
    (raw >> 1) as i32 ^ -((raw & 1) as i32)
}

const fn unzigzag64(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_survive_the_round_trip() {
        let edges = [0, 1, -1, 63, -64, 64, -65, 8191, -8192, i64::from(i32::MAX), i64::from(i32::MIN)];
        for value in edges {
            let mut out = Vec::new();
            write_varint(&mut out, value as i32);
            assert_eq!(read_varint(&out), Ok((value as i32, out.len())));
            assert_eq!(varlong_len(value), out.len());
        }
        for value in edges.into_iter().chain([i64::MAX, i64::MIN]) {
            let mut out = Vec::new();
            write_varlong(&mut out, value);
            assert_eq!(read_varlong(&out), Ok((value, out.len())));
            assert_eq!(varlong_len(value), out.len());
        }
    }

    #[test]
    fn a_varint_without_an_end_is_an_error() {
        assert_eq!(read_varint(&[0x80; 4]), Err(VarintError::Short));
        assert_eq!(read_varint(&[0x80; 5]), Err(VarintError::Long));
        assert_eq!(read_varlong(&[0xff; 9]), Err(VarintError::Short));
        assert_eq!(read_varlong(&[0xff; 11]), Err(VarintError::Long));
        assert_eq!(read_varint(&[]), Err(VarintError::Short));
    }
}

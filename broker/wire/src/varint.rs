//! Variable-length integers: Protocol Buffers' base-128 groups, least significant first.
//!
//! Records use the zigzag form (KIP-98), messages the unsigned one (KIP-482).

/// Reads an unsigned varint of at most 32 bits from the front of `buf`.
///
/// `None` when `buf` ends early, or when the value does not fit in five bytes and 32 bits.
#[inline]
pub(crate) fn read_unsigned(buf: &mut &[u8]) -> Option<u32> {
    let (&first, rest) = buf.split_first()?;
    if first < 0x80 {
        *buf = rest;
        return Some(u32::from(first));
    }
    u32::try_from(read_groups(buf, 5)?).ok()
}

/// Reads a zigzag varint of at most 32 bits from the front of `buf`.
#[inline]
pub(crate) fn read_int(buf: &mut &[u8]) -> Option<i32> {
    let raw = read_unsigned(buf)?;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Reads a zigzag varint of at most 64 bits from the front of `buf`.
#[inline]
pub(crate) fn read_long(buf: &mut &[u8]) -> Option<i64> {
    let raw = read_groups(buf, 10)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Reads up to `max_bytes` groups; bits above the 64th are an error, not lost.
fn read_groups(buf: &mut &[u8], max_bytes: usize) -> Option<u64> {
    let mut value = 0u64;
    for (i, &byte) in buf.iter().take(max_bytes).enumerate() {
        let group = u64::from(byte & 0x7f);
        let shift = 7 * i as u32;
        if shift == 63 && group > 1 {
            return None;
        }
        value |= group << shift;
        if byte < 0x80 {
            *buf = &buf[i + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends `value` as an unsigned varint.
pub(crate) fn put_unsigned(out: &mut Vec<u8>, value: u32) {
    put_groups(out, u64::from(value));
}

/// Appends `value` as a zigzag varint.
pub(crate) fn put_int(out: &mut Vec<u8>, value: i32) {
    put_groups(out, u64::from(((value << 1) ^ (value >> 31)) as u32));
}

/// Appends `value` as a zigzag varint of up to 64 bits.
pub(crate) fn put_long(out: &mut Vec<u8>, value: i64) {
    put_groups(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put_groups(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bytes `put_unsigned` would write.
pub(crate) fn unsigned_size(value: u32) -> usize {
    (32 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// The bytes `put_int` would write.
pub(crate) fn int_size(value: i32) -> usize {
    unsigned_size(((value << 1) ^ (value >> 31)) as u32)
}

/// The bytes `put_long` would write.
pub(crate) fn long_size(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unsigned_round_trips(value: u32) {
            let mut out = Vec::new();
            put_unsigned(&mut out, value);
            prop_assert_eq!(out.len(), unsigned_size(value));
            let mut rest = &out[..];
            prop_assert_eq!(read_unsigned(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn int_round_trips(value: i32) {
            let mut out = Vec::new();
            put_int(&mut out, value);
            prop_assert_eq!(out.len(), int_size(value));
            let mut rest = &out[..];
            prop_assert_eq!(read_int(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn long_round_trips(value: i64) {
            let mut out = Vec::new();
            put_long(&mut out, value);
            prop_assert_eq!(out.len(), long_size(value));
            let mut rest = &out[..];
            prop_assert_eq!(read_long(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn an_unfinished_or_overlong_varint_is_refused() {
        assert_eq!(read_unsigned(&mut &[][..]), None);
        assert_eq!(read_unsigned(&mut &[0x80][..]), None);
        assert_eq!(
            read_unsigned(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]),
            None
        );
        assert_eq!(
            read_unsigned(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0][..]),
            None
        );
        assert_eq!(read_long(&mut &[0xff; 10][..]), None);
        let mut eleven = [0x80u8; 11];
        eleven[10] = 0;
        assert_eq!(read_long(&mut &eleven[..]), None);
    }

    #[test]
    fn extremes() {
        for value in [0, -1, 1, i64::MAX, i64::MIN, i64::from(i32::MAX)] {
            let mut out = Vec::new();
            put_long(&mut out, value);
            assert_eq!(read_long(&mut &out[..]), Some(value));
        }
        assert_eq!(
            read_unsigned(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]),
            Some(u32::MAX)
        );
    }
}

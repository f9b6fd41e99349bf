//! Reads the primitive types of Kafka's protocol from a slice. Every length is checked against what
//! is there, so that no answer can make the harness allocate or read beyond it.

/// The answer ends too early, or a length in it cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

type Read<T> = Result<T, Truncated>;

#[derive(Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.0.len()
    }

    pub fn take(&mut self, bytes: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)
            .map(|bytes| bytes.try_into().expect("N bytes were taken"))
    }

    pub fn i8(&mut self) -> Read<i8> {
        self.array().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Read<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Read<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Read<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub fn uvarint(&mut self) -> Read<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Truncated)
    }

    /// A zigzag varint, as records have them.
    pub fn varint(&mut self) -> Read<i64> {
        let raw = self.uvarint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// An array's length, refused if its elements of at least `element_bytes` could not fit. Null
    /// counts as empty.
    pub fn array_len(&mut self, element_bytes: usize) -> Read<usize> {
        let length = self.i32()?;
        self.checked_len(i64::from(length.max(0)) as u64, element_bytes)
    }

    pub fn compact_array_len(&mut self, element_bytes: usize) -> Read<usize> {
        let length = self.uvarint()?.saturating_sub(1);
        self.checked_len(length, element_bytes)
    }

    fn checked_len(&self, length: u64, element_bytes: usize) -> Read<usize> {
        let length = usize::try_from(length).map_err(|_| Truncated)?;
        let bytes = length.checked_mul(element_bytes).ok_or(Truncated)?;
        if bytes > self.0.len() {
            Err(Truncated)
        } else {
            Ok(length)
        }
    }

    pub fn nullable_string(&mut self) -> Read<Option<&'a str>> {
        let length = self.i16()?;
        if length < 0 {
            return Ok(None);
        }
        utf8(self.take(length as usize)?).map(Some)
    }

    pub fn string(&mut self) -> Read<&'a str> {
        self.nullable_string()?.ok_or(Truncated)
    }

    pub fn compact_nullable_string(&mut self) -> Read<Option<&'a str>> {
        self.compact_nullable_bytes()?.map(utf8).transpose()
    }

    pub fn compact_string(&mut self) -> Read<&'a str> {
        self.compact_nullable_string()?.ok_or(Truncated)
    }

    pub fn compact_nullable_bytes(&mut self) -> Read<Option<&'a [u8]>> {
        match self.uvarint()? {
            0 => Ok(None),
            length => self
                .take(usize::try_from(length - 1).map_err(|_| Truncated)?)
                .map(Some),
        }
    }

    pub fn skip_tags(&mut self) -> Read<()> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let length = self.uvarint()?;
            self.take(usize::try_from(length).map_err(|_| Truncated)?)?;
        }
        Ok(())
    }
}

fn utf8(bytes: &[u8]) -> Read<&str> {
    std::str::from_utf8(bytes).map_err(|_| Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        assert_eq!(
            Reader::new(&[0x7f, 0xff, 0xff, 0xff, 1]).array_len(1),
            Err(Truncated)
        );
        assert_eq!(Reader::new(&[0xff; 4]).array_len(8), Ok(0));
        assert_eq!(Reader::new(&[3, 1]).compact_array_len(1), Err(Truncated));
        assert_eq!(Reader::new(&[2, 1]).compact_array_len(1), Ok(1));
        assert_eq!(Reader::new(&[0, 5, b'a']).string(), Err(Truncated));
        assert_eq!(Reader::new(&[0xff, 0xff]).string(), Err(Truncated));
        assert_eq!(Reader::new(&[0xff, 0xff]).nullable_string(), Ok(None));
        assert_eq!(Reader::new(&[0xff; 11]).uvarint(), Err(Truncated));
        assert_eq!(Reader::new(&[1, 0, 9]).skip_tags(), Err(Truncated));
    }

    #[test]
    fn varints() {
        assert_eq!(Reader::new(&[0x96, 0x01]).uvarint(), Ok(150));
        assert_eq!(Reader::new(&[0x01]).varint(), Ok(-1));
        assert_eq!(Reader::new(&[0x80, 0x01]).varint(), Ok(64));
        let least = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&least).varint(), Ok(i64::MIN));
    }
}

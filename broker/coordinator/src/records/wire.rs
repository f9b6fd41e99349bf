//! Kafka's primitive types over a byte slice, with every length checked before it is used.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ReplayError;

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Reader { rest: input }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Fails if anything is left.
    pub(crate) fn end(&self) -> Result<(), ReplayError> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(ReplayError::TrailingBytes(more)),
        }
    }

    pub(crate) fn take(
        &mut self,
        length: usize,
        what: &'static str,
    ) -> Result<&'a [u8], ReplayError> {
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(ReplayError::Truncated(what))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ReplayError> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(ReplayError::Truncated(what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn i16(&mut self, what: &'static str) -> Result<i16, ReplayError> {
        self.array(what).map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, ReplayError> {
        self.array(what).map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, ReplayError> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// An unsigned varint of at most 32 bits.
    pub(crate) fn uvarint(&mut self, what: &'static str) -> Result<u32, ReplayError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array(what)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ReplayError::BadLength(what))
    }

    pub(crate) fn string(&mut self, what: &'static str) -> Result<String, ReplayError> {
        self.nullable_string(what)?
            .ok_or(ReplayError::BadLength(what))
    }

    pub(crate) fn nullable_string(
        &mut self,
        what: &'static str,
    ) -> Result<Option<String>, ReplayError> {
        match self.i16(what)? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| ReplayError::BadLength(what))?;
                self.text(length, what).map(Some)
            }
        }
    }

    pub(crate) fn compact_string(&mut self, what: &'static str) -> Result<String, ReplayError> {
        self.nullable_compact_string(what)?
            .ok_or(ReplayError::BadLength(what))
    }

    pub(crate) fn nullable_compact_string(
        &mut self,
        what: &'static str,
    ) -> Result<Option<String>, ReplayError> {
        match self.uvarint(what)?.checked_sub(1) {
            None => Ok(None),
            Some(length) => self.text(length as usize, what).map(Some),
        }
    }

    fn text(&mut self, length: usize, what: &'static str) -> Result<String, ReplayError> {
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| ReplayError::NotUtf8(what))
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<Bytes, ReplayError> {
        let length = usize::try_from(self.i32(what)?).map_err(|_| ReplayError::BadLength(what))?;
        self.take(length, what).map(Bytes::copy_from_slice)
    }

    pub(crate) fn compact_bytes(&mut self, what: &'static str) -> Result<Bytes, ReplayError> {
        let length = self
            .uvarint(what)?
            .checked_sub(1)
            .ok_or(ReplayError::BadLength(what))?;
        self.take(length as usize, what).map(Bytes::copy_from_slice)
    }

    /// Walks over tagged fields, handing each tag and its bytes to `field`.
    pub(crate) fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &[u8]) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        for _ in 0..self.uvarint("tagged fields")? {
            let tag = self.uvarint("tag")?;
            let size = self.uvarint("tag size")?;
            field(tag, self.take(size as usize, "tagged field")?)?;
        }
        Ok(())
    }
}

/// # Panics
/// If the string is longer than the 32,767 bytes that the format, and a request, can carry.
pub(crate) fn put_string(out: &mut BytesMut, text: &str) {
    let length = i16::try_from(text.len()).expect("a string of the wire is below 32 KiB");
    out.put_i16(length);
    out.put_slice(text.as_bytes());
}

pub(crate) fn put_nullable_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).expect("bytes of the wire are below 2 GiB"));
    out.put_slice(bytes);
}

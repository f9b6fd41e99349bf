//! Bytes of our own rows: fixed-width big-endian fields between a version byte and a CRC-32 (IEEE).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_log::StoreError;

/// Writes one row.
pub struct RowWriter(BytesMut);

impl RowWriter {
    pub fn new(version: u8, capacity: usize) -> RowWriter {
        let mut row = BytesMut::with_capacity(capacity + 5);
        row.put_u8(version);
        RowWriter(row)
    }
    pub fn u8(&mut self, v: u8) -> &mut Self {
        self.0.put_u8(v);
        self
    }
    pub fn i16(&mut self, v: i16) -> &mut Self {
        self.0.put_i16(v);
        self
    }
    pub fn i32(&mut self, v: i32) -> &mut Self {
        self.0.put_i32(v);
        self
    }
    pub fn u32(&mut self, v: u32) -> &mut Self {
        self.0.put_u32(v);
        self
    }
    pub fn i64(&mut self, v: i64) -> &mut Self {
        self.0.put_i64(v);
        self
    }
    pub fn u64(&mut self, v: u64) -> &mut Self {
        self.0.put_u64(v);
        self
    }
    pub fn finish(mut self) -> Bytes {
        let crc = crc32fast::hash(&self.0);
        self.0.put_u32(crc);
        self.0.freeze()
    }
}

/// Reads what [`RowWriter`] wrote; every step may find the row too short.
pub struct RowReader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

macro_rules! read {
    ($($name:ident: $kind:ty = $get:ident),*) => {$(
        pub fn $name(&mut self) -> Result<$kind, StoreError> {
            if self.rest.len() < size_of::<$kind>() {
                return Err(self.damaged("too short"));
            }
            Ok(self.rest.$get())
        }
    )*};
}

impl<'a> RowReader<'a> {
    pub fn new(
        what: &'static str,
        version: u8,
        row: &'a [u8],
    ) -> Result<RowReader<'a>, StoreError> {
        let mut reader = RowReader { what, rest: row };
        let Some((body, crc)) = row.split_last_chunk::<4>() else {
            return Err(reader.damaged("too short"));
        };
        if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
            return Err(reader.damaged("its checksum does not match"));
        }
        reader.rest = body;
        match reader.u8()? {
            v if v == version => Ok(reader),
            v => Err(reader.damaged(&format!("version {v} is not known to this release"))),
        }
    }

    read!(u8: u8 = get_u8, i16: i16 = get_i16, i32: i32 = get_i32, u32: u32 = get_u32, i64: i64 = get_i64, u64: u64 = get_u64);

    /// A count of things that take at least `min_bytes` each: never more than the row can hold.
    pub fn count(&mut self, min_bytes: usize) -> Result<usize, StoreError> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / min_bytes {
            return Err(self.damaged("a count exceeds its size"));
        }
        Ok(count)
    }

    pub fn end(&self) -> Result<(), StoreError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.damaged("bytes are left over"))
        }
    }

    pub fn damaged(&self, detail: &str) -> StoreError {
        StoreError::Damaged {
            what: self.what.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

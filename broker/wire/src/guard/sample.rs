//! Random requests that follow the schemas, for tests and fuzz targets.

use super::Api;
use super::schema::{Field, Kind};
use crate::varint::put_unsigned;

/// Writes a random body of an API's version, from a source of random numbers.
///
/// It is canonical: a decoder that keeps unknown tagged fields encodes it to the same bytes again.
/// Arrays have up to `array_max` elements.
pub fn body(api: &Api, version: i16, array_max: usize, random: &mut dyn FnMut() -> u64) -> Vec<u8> {
    let mut writer = Writer {
        out: Vec::new(),
        version,
        flexible: api.is_flexible(version),
        array_max: array_max as u64,
        random,
    };
    writer.message(api.fields());
    writer.out
}

struct Writer<'r> {
    out: Vec<u8>,
    version: i16,
    flexible: bool,
    array_max: u64,
    random: &'r mut dyn FnMut() -> u64,
}

impl Writer<'_> {
    fn below(&mut self, end: u64) -> u64 {
        (self.random)() % end
    }

    fn message(&mut self, fields: &'static [Field]) {
        let version = self.version;
        let present = |field: &&Field| field.versions.contains(version);
        for field in fields.iter().filter(present) {
            if field.tag.is_none() {
                let null = field.is_nullable(version) && self.below(4) == 0;
                self.field(field, null);
            }
        }
        if self.flexible {
            let known = fields
                .iter()
                .filter(|field| present(field) && field.tag.is_some());
            self.tagged(known);
        }
    }

    /// Some of the known tagged fields, and unknown ones after them.
    fn tagged(&mut self, known: impl Iterator<Item = &'static Field>) {
        const UNKNOWN_TAG: u32 = 1000;
        let mut values = Vec::new();
        for field in known {
            if self.below(2) == 0 {
                let before = std::mem::take(&mut self.out);
                self.field(field, false);
                let value = std::mem::replace(&mut self.out, before);
                values.push((field.tag.unwrap_or_default(), value));
            }
        }
        if self.below(8) == 0 {
            let size = self.below(5) as usize;
            values.push((UNKNOWN_TAG + size as u32, vec![9; size]));
        }
        put_unsigned(&mut self.out, values.len() as u32);
        for (tag, value) in values {
            put_unsigned(&mut self.out, tag);
            put_unsigned(&mut self.out, value.len() as u32);
            self.out.extend_from_slice(&value);
        }
    }

    fn field(&mut self, field: &'static Field, null: bool) {
        match field.kind {
            Kind::Boolean => {
                let value = self.below(2) as u8;
                self.out.push(value);
            }
            Kind::Fixed(size) => self.fixed(size),
            Kind::String => self.string(null),
            Kind::Bytes => {
                let size = self.long_length(null, 300);
                self.text(size);
            }
            Kind::Fixeds(size) => {
                for _ in 0..self.long_length(null, self.array_max) {
                    self.fixed(size);
                }
            }
            Kind::Strings => {
                for _ in 0..self.long_length(null, self.array_max) {
                    self.string(false);
                }
            }
            Kind::Structs(fields) => {
                for _ in 0..self.long_length(null, self.array_max) {
                    self.message(fields);
                }
            }
            Kind::Struct(fields) => {
                if field.is_nullable(self.version) {
                    self.out.push(if null { 0xff } else { 1 });
                }
                if !null {
                    self.message(fields);
                }
            }
        }
    }

    fn fixed(&mut self, size: u8) {
        for _ in 0..size {
            let byte = self.below(256) as u8;
            self.out.push(byte);
        }
    }

    fn string(&mut self, null: bool) {
        let size = self.below(40);
        match (self.flexible, null) {
            (true, true) => self.out.push(0),
            (true, false) => put_unsigned(&mut self.out, size as u32 + 1),
            (false, true) => self.out.extend_from_slice(&(-1i16).to_be_bytes()),
            (false, false) => self.out.extend_from_slice(&(size as i16).to_be_bytes()),
        }
        if !null {
            self.text(size);
        }
    }

    /// Writes the length of bytes or an array, and returns it: zero for null.
    fn long_length(&mut self, null: bool, max: u64) -> u64 {
        let length = self.below(max + 1);
        match (self.flexible, null) {
            (true, true) => self.out.push(0),
            (true, false) => put_unsigned(&mut self.out, length as u32 + 1),
            (false, true) => self.out.extend_from_slice(&(-1i32).to_be_bytes()),
            (false, false) => self.out.extend_from_slice(&(length as i32).to_be_bytes()),
        }
        if null { 0 } else { length }
    }

    fn text(&mut self, size: u64) {
        for _ in 0..size {
            let letter = b'a' + self.below(26) as u8;
            self.out.push(letter);
        }
    }
}

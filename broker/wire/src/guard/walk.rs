//! The walk of [`check`]. On the hot path: no allocation.

use super::schema::{self, Field, Kind};
use super::{GuardError, GuardLimits};
use crate::varint::read_unsigned;

/// Checks a request's body, which begins after the request header.
///
/// Returns the bytes that the message takes; Kafka ignores what follows, and so does the decoder.
/// An API without a schema, and a version that `kafka-protocol` does not know, are errors.
pub fn check(
    api_key: i16,
    version: i16,
    body: &[u8],
    limits: &GuardLimits,
) -> Result<usize, GuardError> {
    let api = schema::find(api_key).ok_or(GuardError::UnknownApi(api_key))?;
    if !api.versions().contains(&version) {
        return Err(GuardError::UnsupportedVersion { api_key, version });
    }
    let mut walk = Walk {
        rest: body,
        version,
        flexible: api.is_flexible(version),
        elements_left: limits.max_elements,
        limits,
    };
    walk.message(api.name(), api.fields())?;
    Ok(body.len() - walk.rest.len())
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements_left: usize,
    limits: &'a GuardLimits,
}

impl Walk<'_> {
    /// The fields of a message or a struct, and its tagged fields.
    fn message(&mut self, name: &'static str, fields: &'static [Field]) -> Result<(), GuardError> {
        for field in fields {
            if field.tag.is_none() && field.versions.contains(self.version) {
                self.field(field)?;
            }
        }
        if self.flexible {
            self.tagged(name, fields)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &'static Field) -> Result<(), GuardError> {
        let name = field.name;
        match field.kind {
            Kind::Boolean => self.skip(name, 1),
            Kind::Fixed(size) => self.skip(name, usize::from(size)),
            Kind::String => self.string(field, field.is_nullable(self.version)),
            Kind::Bytes => {
                let size = self.long_length(field)?;
                self.skip(name, size.unwrap_or(0))
            }
            Kind::Fixeds(size) => {
                let count = self.count(field)?;
                self.skip(name, count * usize::from(size))
            }
            Kind::Strings => {
                for _ in 0..self.count(field)? {
                    self.string(field, false)?;
                }
                Ok(())
            }
            Kind::Structs(fields) => {
                for _ in 0..self.count(field)? {
                    self.message(name, fields)?;
                }
                Ok(())
            }
            Kind::Struct(fields) => {
                if !field.is_nullable(self.version) || self.is_present(name)? {
                    self.message(name, fields)?;
                }
                Ok(())
            }
        }
    }

    /// A nullable struct begins with 1, or with -1 for null.
    fn is_present(&mut self, name: &'static str) -> Result<bool, GuardError> {
        match self.take(name, 1)?[0] as i8 {
            1 => Ok(true),
            -1 => Ok(false),
            _ => Err(GuardError::Malformed { field: name }),
        }
    }

    fn string(&mut self, field: &'static Field, nullable: bool) -> Result<(), GuardError> {
        let name = field.name;
        let size = if self.flexible {
            self.varint(name)?.checked_sub(1)
        } else {
            let &[high, low] = self.chunk(name)?;
            optional(name, i32::from(i16::from_be_bytes([high, low])))?
        };
        match size {
            None if !nullable => Err(GuardError::Null { field: name }),
            None => Ok(()),
            Some(size) if size > i16::MAX as u32 => Err(GuardError::Malformed { field: name }),
            Some(size) => self.skip(name, size as usize),
        }
    }

    /// The count of an array, zero for null: within the budget, and no more than the bytes left can
    /// hold at each element's smallest.
    fn count(&mut self, field: &'static Field) -> Result<usize, GuardError> {
        let Some(count) = self.long_length(field)? else {
            return Ok(0);
        };
        let element_min = field.element_size_min(self.version, self.flexible);
        self.spend(field.name, count, element_min)?;
        Ok(count)
    }

    fn spend(
        &mut self,
        name: &'static str,
        count: usize,
        element_min: usize,
    ) -> Result<(), GuardError> {
        debug_assert!(element_min > 0, "no element is empty");
        if count > self.rest.len() / element_min {
            return Err(GuardError::Count {
                field: name,
                count: count as u32,
            });
        }
        self.elements_left =
            self.elements_left
                .checked_sub(count)
                .ok_or(GuardError::TooManyElements {
                    max: self.limits.max_elements,
                })?;
        Ok(())
    }

    /// The length of bytes or an array: a varint one too high, or an int32; `None` for null.
    fn long_length(&mut self, field: &'static Field) -> Result<Option<usize>, GuardError> {
        let name = field.name;
        let length = if self.flexible {
            self.varint(name)?.checked_sub(1)
        } else {
            optional(name, i32::from_be_bytes(*self.chunk(name)?))?
        };
        if length.is_none() && !field.is_nullable(self.version) {
            return Err(GuardError::Null { field: name });
        }
        Ok(length.map(|length| length as usize))
    }

    /// Tagged fields: known ones must have a version and take exactly their size, others are skipped.
    fn tagged(&mut self, name: &'static str, fields: &'static [Field]) -> Result<(), GuardError> {
        const TAGGED_FIELD_BYTES_MIN: usize = 2;
        let count = self.varint(name)? as usize;
        self.spend(name, count, TAGGED_FIELD_BYTES_MIN)?;
        for _ in 0..count {
            let tag = self.varint(name)?;
            if i32::try_from(tag).is_err() {
                return Err(GuardError::Tag { tag }); // Kafka's tags are signed
            }
            let size = self.varint(name)? as usize;
            let value = self.take(name, size)?;
            let Some(field) = fields.iter().find(|field| field.tag == Some(tag)) else {
                continue;
            };
            if !field.versions.contains(self.version) {
                return Err(GuardError::Tag { tag });
            }
            let mut inner = Walk {
                rest: value,
                ..*self
            };
            inner.field(field)?;
            if !inner.rest.is_empty() {
                return Err(GuardError::Tag { tag });
            }
            self.elements_left = inner.elements_left;
        }
        Ok(())
    }

    fn varint(&mut self, name: &'static str) -> Result<u32, GuardError> {
        read_unsigned(&mut self.rest).ok_or(if self.rest.len() < 5 {
            GuardError::Truncated { field: name }
        } else {
            GuardError::Malformed { field: name }
        })
    }

    fn chunk<const N: usize>(&mut self, name: &'static str) -> Result<&[u8; N], GuardError> {
        let (chunk, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(GuardError::Truncated { field: name })?;
        self.rest = rest;
        Ok(chunk)
    }

    fn skip(&mut self, name: &'static str, size: usize) -> Result<(), GuardError> {
        self.take(name, size).map(|_| ())
    }
}

impl<'a> Walk<'a> {
    fn take(&mut self, name: &'static str, size: usize) -> Result<&'a [u8], GuardError> {
        let (front, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(GuardError::Truncated { field: name })?;
        self.rest = rest;
        Ok(front)
    }
}

/// A length of the older encoding: -1 is null, below is nothing.
fn optional(name: &'static str, length: i32) -> Result<Option<u32>, GuardError> {
    match length {
        -1 => Ok(None),
        _ => u32::try_from(length)
            .map(Some)
            .map_err(|_| GuardError::Malformed { field: name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GuardLimits = GuardLimits { max_elements: 10 };

    #[test]
    fn twelve_bytes_cannot_ask_for_gigabytes() {
        // Produce 3: null transactional id, acks, timeout, then 2^31 - 1 topics
        let body = [0xff, 0xff, 0, 1, 0, 0, 0, 9, 0x7f, 0xff, 0xff, 0xff];
        let refused = GuardError::Count {
            field: "TopicData",
            count: i32::MAX as u32,
        };
        assert_eq!(check(0, 3, &body, &LIMITS), Err(refused));
        // Produce 9, where the count is a varint
        let body = [0, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(matches!(
            check(0, 9, &body, &LIMITS),
            Err(GuardError::Count { .. })
        ));
    }

    #[test]
    fn elements_are_counted_over_all_arrays() {
        // DescribeGroups 0: one array of empty strings
        let groups = |count: u8| {
            let mut body = vec![0, 0, 0, count];
            body.resize(4 + 2 * usize::from(count), 0);
            body
        };
        assert_eq!(check(15, 0, &groups(10), &LIMITS), Ok(24));
        assert_eq!(
            check(15, 0, &groups(11), &LIMITS),
            Err(GuardError::TooManyElements { max: 10 })
        );
        // ListGroups 5: two arrays of six
        let body = [7, 1, 1, 1, 1, 1, 1, 7, 1, 1, 1, 1, 1, 1, 0];
        assert_eq!(
            check(16, 5, &body, &LIMITS),
            Err(GuardError::TooManyElements { max: 10 })
        );
    }

    #[test]
    fn null_is_allowed_only_where_kafka_says_so() {
        let null = [0xff; 4];
        assert_eq!(
            check(3, 0, &null, &LIMITS),
            Err(GuardError::Null { field: "Topics" })
        );
        assert_eq!(check(3, 1, &null, &LIMITS), Ok(4));
        assert_eq!(
            check(15, 0, &null, &LIMITS),
            Err(GuardError::Null { field: "Groups" })
        );
        // a topic's name is null beside an id, from Metadata 10 on
        let mut body = vec![2];
        body.extend_from_slice(&[0; 16 + 1 + 1]);
        body.extend_from_slice(&[0; 4]);
        assert_eq!(check(3, 10, &body, &LIMITS), Ok(23));
        let by_name = [2, 0, 0, 0, 0, 0, 0];
        let refused = Err(GuardError::Null { field: "Name" });
        assert_eq!(check(3, 9, &by_name, &LIMITS), refused);
        // all topics of a group, from OffsetFetch 2 on
        let all = [0, 1, b'g', 0xff, 0xff, 0xff, 0xff];
        let refused = Err(GuardError::Null { field: "Topics" });
        assert_eq!(check(9, 1, &all, &LIMITS), refused);
        assert_eq!(check(9, 2, &all, &LIMITS), Ok(7));
        let below = (-2i32).to_be_bytes();
        assert_eq!(
            check(3, 1, &below, &LIMITS),
            Err(GuardError::Malformed { field: "Topics" })
        );
    }

    #[test]
    fn a_known_tag_takes_exactly_its_size() {
        // Fetch 15 without topics, then its tagged fields
        let fetch = |tags: &[u8]| {
            let mut body = vec![0; 4 + 4 + 4 + 1 + 4 + 4];
            body.extend_from_slice(&[1, 1, 1]);
            body.extend_from_slice(tags);
            body
        };
        let size = fetch(&[]).len();
        assert_eq!(
            check(1, 15, &fetch(&[1, 0, 3, 3, b'i', b'd']), &LIMITS),
            Ok(size + 6)
        );
        let wrong = Err(GuardError::Tag { tag: 0 });
        assert_eq!(
            check(1, 15, &fetch(&[1, 0, 4, 3, b'i', b'd', 0]), &LIMITS),
            wrong
        );
        assert!(check(1, 15, &fetch(&[1, 0, 2, 3, b'i', b'd']), &LIMITS).is_err());
        let mut state = vec![1, 1, 13];
        state.resize(3 + 13, 0);
        assert_eq!(check(1, 15, &fetch(&state), &LIMITS), Ok(size + 16));
        // unknown, skipped
        assert_eq!(check(1, 15, &fetch(&[1, 9, 1, 0]), &LIMITS), Ok(size + 4));
        // unknown, and beyond 31 bits
        let negative = Err(GuardError::Tag { tag: u32::MAX });
        assert_eq!(
            check(
                1,
                15,
                &fetch(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
                &LIMITS
            ),
            negative
        );
        // twelve of them, above the budget
        let mut many = vec![12];
        many.extend_from_slice(&[9, 0].repeat(12));
        assert_eq!(
            check(1, 15, &fetch(&many), &LIMITS),
            Err(GuardError::TooManyElements { max: 10 })
        );
    }

    #[test]
    fn unknown_apis_and_versions_are_errors() {
        assert_eq!(check(4, 0, &[], &LIMITS), Err(GuardError::UnknownApi(4)));
        assert_eq!(
            check(i16::MIN, 0, &[], &LIMITS),
            Err(GuardError::UnknownApi(i16::MIN))
        );
        for version in [-1, 2, 14] {
            assert_eq!(
                check(0, version, &[], &LIMITS),
                Err(GuardError::UnsupportedVersion {
                    api_key: 0,
                    version
                })
            );
        }
    }
}

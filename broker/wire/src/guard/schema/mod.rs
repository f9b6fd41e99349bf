//! The requests' schemas: Kafka's message definitions, field by field, for the versions that
//! `kafka-protocol` has.
//!
//! A schema is a table of constants. A field without `since` and `until` is in every version of its
//! message; with `tag` it is a tagged field; `nullable` allows null, in every version or from one on.
//! The files beside this one hold the tables by area.

mod cluster;
mod data;
mod group;
mod security;
mod topic;
mod txn;

use std::ops::RangeInclusive;

/// A version that never comes: for no flexible versions, and for what is never null.
const NEVER: i16 = i16::MAX;

/// One request of the protocol.
#[derive(Debug)]
pub struct Api {
    key: i16,
    name: &'static str,
    version_min: i16,
    version_max: i16,
    /// The first version with compact lengths and tagged fields (KIP-482).
    flexible_since: i16,
    fields: &'static [Field],
}

impl Api {
    /// Kafka's api key.
    pub fn key(&self) -> i16 {
        self.key
    }

    /// Kafka's name for it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The versions that have a schema here.
    pub fn versions(&self) -> RangeInclusive<i16> {
        self.version_min..=self.version_max
    }

    /// Whether a version has compact lengths, tagged fields, and request header version 2.
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_since
    }

    const fn version_range(mut self, min: i16, max: i16) -> Api {
        self.version_min = min;
        self.version_max = max;
        self
    }

    const fn flexible_since(mut self, version: i16) -> Api {
        self.flexible_since = version;
        self
    }

    const fn of(mut self, fields: &'static [Field]) -> Api {
        self.fields = fields;
        self
    }

    pub(super) fn fields(&self) -> &'static [Field] {
        self.fields
    }
}

/// A field of a message or struct.
#[derive(Debug)]
pub(super) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub versions: Versions,
    pub tag: Option<u32>,
    nullable_since: i16,
}

/// Versions from and to, both included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Versions {
    since: i16,
    until: i16,
}

impl Versions {
    pub fn contains(self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

/// What a field's bytes look like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Boolean,
    /// A value of so many bytes.
    Fixed(u8),
    String,
    Bytes,
    Struct(&'static [Field]),
    /// An array of values of so many bytes each.
    Fixeds(u8),
    Strings,
    Structs(&'static [Field]),
}

impl Field {
    const fn new(name: &'static str, kind: Kind) -> Field {
        Field {
            name,
            kind,
            versions: Versions {
                since: 0,
                until: i16::MAX,
            },
            tag: None,
            nullable_since: NEVER,
        }
    }

    const fn since(mut self, version: i16) -> Field {
        self.versions.since = version;
        self
    }

    const fn until(mut self, version: i16) -> Field {
        self.versions.until = version;
        self
    }

    const fn tag(mut self, tag: u32) -> Field {
        self.tag = Some(tag);
        self
    }

    const fn nullable(self) -> Field {
        self.nullable_since(0)
    }

    const fn nullable_since(mut self, version: i16) -> Field {
        self.nullable_since = version;
        self
    }

    /// The fields of a struct, or of an array's elements.
    const fn of(mut self, fields: &'static [Field]) -> Field {
        self.kind = match self.kind {
            Kind::Struct(_) => Kind::Struct(fields),
            Kind::Structs(_) => Kind::Structs(fields),
            _ => panic!("only structs have fields"),
        };
        self
    }

    pub fn is_nullable(&self, version: i16) -> bool {
        version >= self.nullable_since
    }

    /// The fewest bytes an element of this array takes.
    pub fn element_size_min(&self, version: i16, flexible: bool) -> usize {
        match self.kind {
            Kind::Fixeds(size) => usize::from(size),
            Kind::Strings => string_size_min(flexible),
            Kind::Structs(fields) => size_min(fields, version, flexible),
            _ => unreachable!("{} is no array", self.name),
        }
    }

    fn size_min(&self, version: i16, flexible: bool) -> usize {
        match self.kind {
            Kind::Boolean => 1,
            Kind::Fixed(size) => usize::from(size),
            Kind::String => string_size_min(flexible),
            Kind::Struct(_) if self.is_nullable(version) => 1,
            Kind::Struct(fields) => size_min(fields, version, flexible),
            _ if flexible => 1,
            Kind::Bytes | Kind::Fixeds(_) | Kind::Strings | Kind::Structs(_) => 4,
        }
    }
}

fn string_size_min(flexible: bool) -> usize {
    if flexible { 1 } else { 2 }
}

/// The fewest bytes of a struct: its fields, and one for the count of its tagged fields.
fn size_min(fields: &[Field], version: i16, flexible: bool) -> usize {
    let present = fields
        .iter()
        .filter(|field| field.tag.is_none() && field.versions.contains(version));
    usize::from(flexible)
        + present
            .map(|field| field.size_min(version, flexible))
            .sum::<usize>()
}

const fn api(key: i16, name: &'static str) -> Api {
    Api {
        key,
        name,
        version_min: 0,
        version_max: 0,
        flexible_since: NEVER,
        fields: &[],
    }
}

/// Constructors named after the types of Kafka's message definitions.
macro_rules! fixed {
    ($($one:ident, $many:ident = $size:literal;)*) => {
        $(
            #[allow(dead_code, reason = "not every type has both in the requests served")]
            const fn $one(name: &'static str) -> Field {
                Field::new(name, Kind::Fixed($size))
            }
            #[allow(dead_code, reason = "not every type has both in the requests served")]
            const fn $many(name: &'static str) -> Field {
                Field::new(name, Kind::Fixeds($size))
            }
        )*
    };
}

fixed! {
    int8, int8s = 1;
    int16, int16s = 2;
    int32, int32s = 4;
    int64, int64s = 8;
    float64, float64s = 8;
    uuid, uuids = 16;
}

const fn boolean(name: &'static str) -> Field {
    Field::new(name, Kind::Boolean)
}

const fn string(name: &'static str) -> Field {
    Field::new(name, Kind::String)
}

const fn strings(name: &'static str) -> Field {
    Field::new(name, Kind::Strings)
}

const fn bytes(name: &'static str) -> Field {
    Field::new(name, Kind::Bytes)
}

const fn structure(name: &'static str) -> Field {
    Field::new(name, Kind::Struct(&[]))
}

const fn array(name: &'static str) -> Field {
    Field::new(name, Kind::Structs(&[]))
}

const AREAS: [&[Api]; 6] = [
    data::APIS,
    group::APIS,
    txn::APIS,
    topic::APIS,
    cluster::APIS,
    security::APIS,
];

const KEY_COUNT: usize = 93;

static BY_KEY: [Option<&'static Api>; KEY_COUNT] = by_key();

const fn by_key() -> [Option<&'static Api>; KEY_COUNT] {
    let mut table = [const { None }; KEY_COUNT];
    let mut area = 0;
    while area < AREAS.len() {
        let mut i = 0;
        while i < AREAS[area].len() {
            let api = &AREAS[area][i];
            assert!(table[api.key as usize].is_none(), "one schema per key");
            table[api.key as usize] = Some(api);
            i += 1;
        }
        area += 1;
    }
    table
}

/// The schema of an api key.
pub fn find(key: i16) -> Option<&'static Api> {
    *BY_KEY.get(usize::try_from(key).ok()?)?
}

/// The APIs that have a schema, by key.
pub fn apis() -> impl Iterator<Item = &'static Api> {
    BY_KEY.iter().filter_map(|api| *api)
}

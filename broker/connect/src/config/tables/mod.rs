//! The tables of keys. Transforms and predicates have theirs beside their code
//! ([`crate::transform`]); sinks bring their own.

pub mod connector;
pub mod storage;
pub mod worker;
mod worker_modes;

pub use connector::{CLIENT_PREFIXES, CONNECTOR};
pub use worker::WORKER;
pub use worker_modes::{DISTRIBUTED, STANDALONE};

use super::{DefaultValue, Definition, Importance, Kind};

pub(crate) const REQUIRED: DefaultValue = DefaultValue::Required;
pub(crate) const NULL: DefaultValue = DefaultValue::Null;

pub(crate) const fn text(value: &'static str) -> DefaultValue {
    DefaultValue::Text(value)
}

pub(crate) const fn high(
    name: &'static str,
    kind: Kind,
    default: DefaultValue,
    doc: &'static str,
) -> Definition {
    Definition::new(name, kind, default, Importance::High, doc)
}

pub(crate) const fn medium(
    name: &'static str,
    kind: Kind,
    default: DefaultValue,
    doc: &'static str,
) -> Definition {
    Definition::new(name, kind, default, Importance::Medium, doc)
}

pub(crate) const fn low(
    name: &'static str,
    kind: Kind,
    default: DefaultValue,
    doc: &'static str,
) -> Definition {
    Definition::new(name, kind, default, Importance::Low, doc)
}

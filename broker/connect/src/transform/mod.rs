//! Single message transforms and predicates: Kafka Connect's own, Debezium's ExtractNewRecordState, and
//! HashField. One file per transform, its keys and its code together.
//!
//! To add one: a file with `TABLE` and a type that is a [`Transform`] (or an [`Operation`] if it changes
//! only the key or the value), and a row in [`registry::TRANSFORMS`].

mod cast;
mod chain;
mod extract_field;
mod extract_new_record_state;
mod field_path;
mod filter;
mod flatten;
mod hash_field;
mod header_from;
mod headers;
mod hoist_field;
mod insert_field;
mod mask_field;
mod operand;
mod predicate;
mod regex_router;
mod registry;
mod replace_field;
mod set_schema_metadata;
mod timestamp_converter;
mod timestamp_router;
mod value_to_key;

pub use chain::{Chain, validate};
pub use operand::{Operation, Side};
pub use predicate::Predicate;
pub use registry::{PREDICATES, PredicateClass, TRANSFORMS, TransformClass};

use crate::config::tables::{low, text};
use crate::config::{Definition, Kind};
use crate::data::SinkRecord;
use crate::error::ConnectError;

/// Changes a record, or drops it (`None`). It may remember schemas, hence `&mut`.
pub trait Transform: Send {
    fn apply(&mut self, record: SinkRecord) -> Result<Option<SinkRecord>, ConnectError>;
}

/// A key of most transforms (KIP-1040).
const REPLACE_NULL: &str = "replace.null.with.default";
const REPLACE_NULL_DEF: Definition = low(
    REPLACE_NULL,
    Kind::Boolean,
    text("true"),
    "Whether a null in a field that has a default becomes that default.",
);

/// A key of transforms that name a field in fields (KIP-821).
const SYNTAX: &str = "field.syntax.version";
const SYNTAX_DEF: Definition = crate::config::tables::high(
    SYNTAX,
    Kind::String,
    text("V1"),
    "V1: the name of a field. V2: a path with dots; a name that has dots itself stands between backticks.",
)
.one_of(&["V1", "V2"]);

//! Connect's data model: what converters make of bytes, what transforms change and sinks write.

mod decimal;
mod number;
mod record;
mod schema;
mod structure;
mod value;

pub use decimal::Decimal;
pub use number::{java_f32, java_f64};
pub use record::{Header, RawHeader, RawRecord, SchemaAndValue, SinkRecord, TimestampType};
pub use schema::{Logical, Schema, SchemaRef, Type};
pub use structure::Struct;
pub use value::{Map, Value};

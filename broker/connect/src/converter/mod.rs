//! Converters: between the bytes of records and Connect's data.

mod json;
mod primitive;
mod simple_header;
mod text;

use bytes::Bytes;

use crate::config::tables::connector::CONVERTER;
use crate::config::{Props, Settings, classes};
use crate::data::{Header, RawRecord, SchemaAndValue, SchemaRef, SinkRecord, Value};
use crate::error::{ConnectError, ErrorKind};
use std::sync::Arc;

pub use json::{DecimalFormat, JsonConverter, JsonOptions, pieces as json_pieces, write_json};
pub use simple_header::parse_string;

/// Reads and writes keys, values or headers. A converter remembers schemas, hence `&mut`.
pub trait Converter: Send {
    /// The class name that dead letters carry.
    fn class_name(&self) -> &'static str;

    /// Data of the bytes; `None` is Kafka's null.
    fn to_connect(&mut self, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError>;

    /// Bytes of the data; `None` is Kafka's null. The name is Kafka Connect's.
    #[allow(clippy::wrong_self_convention)]
    fn from_connect(
        &mut self,
        schema: Option<&SchemaRef>,
        value: &Value,
    ) -> Result<Option<Bytes>, ConnectError>;
}

/// What is converted. Kafka Connect's converters that do both have one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    String,
    ByteArray,
    Json,
    SimpleHeader,
    Number(primitive::Number),
}

fn class(name: &str, header: bool) -> Result<Class, ConnectError> {
    let refuse = |why: &str| Err(ConnectError::new(ErrorKind::Config, why));
    let name = name.trim();
    let class = match classes::simple_name(name) {
        "StringConverter" => Class::String,
        "ByteArrayConverter" => Class::ByteArray,
        "JsonConverter" => Class::Json,
        "SimpleHeaderConverter" if header => Class::SimpleHeader,
        "AvroConverter" | "JsonSchemaConverter" | "ProtobufConverter" => {
            return refuse(&format!(
                "Converter {name} is not supported: it needs a schema registry, which is not built"
            ));
        }
        simple => match primitive::Number::of_class(simple) {
            Some(number) => Class::Number(number),
            None => return refuse(&format!("Converter {name} is not known")),
        },
    };
    Ok(class)
}

/// That there is such a converter.
pub fn check_class(name: &str, header: bool) -> Result<(), ConnectError> {
    class(name, header).map(|_| ())
}

/// The converter of this class. `props` are its keys without their prefix.
pub fn build(name: &str, props: &Props, header: bool) -> Result<Box<dyn Converter>, ConnectError> {
    let class = class(name, header)?;
    let settings = Settings::parse_strictly(CONVERTER, props)?;
    Ok(match class {
        Class::String => Box::new(text::StringConverter::new(&settings)?),
        Class::ByteArray => Box::new(primitive::ByteArrayConverter),
        Class::Json => Box::new(JsonConverter::new(&settings)),
        Class::SimpleHeader => Box::new(simple_header::SimpleHeaderConverter),
        Class::Number(number) => Box::new(primitive::NumberConverter(number)),
    })
}

/// Where in a record a conversion failed: the stages of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Key,
    Value,
    Header,
}

/// The three converters of a task.
pub struct Converters {
    pub key: Box<dyn Converter>,
    pub value: Box<dyn Converter>,
    pub header: Box<dyn Converter>,
}

impl Converters {
    /// Converts key, value and headers, in Kafka Connect's order: the first failure counts.
    pub fn convert(&mut self, raw: Arc<RawRecord>) -> Result<SinkRecord, (Part, ConnectError)> {
        let key = self.key.to_connect(raw.key.as_ref());
        let key = key.map_err(|e| (Part::Key, e))?;
        let value = self.value.to_connect(raw.value.as_ref());
        let value = value.map_err(|e| (Part::Value, e))?;
        let mut headers = Vec::with_capacity(raw.headers.len());
        for header in &raw.headers {
            let value = self.header.to_connect(header.value.as_ref());
            headers.push(Header {
                key: header.key.clone(),
                value: value.map_err(|e| (Part::Header, e))?,
            });
        }
        Ok(SinkRecord::new(raw, key, value, headers))
    }
}

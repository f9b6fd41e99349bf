//! `org.apache.kafka.connect.storage.StringConverter`

use bytes::Bytes;

use super::Converter;
use crate::config::Settings;
use crate::data::{Schema, SchemaAndValue, SchemaRef, Type, Value};
use crate::error::ConnectError;

#[derive(Clone, Copy)]
enum Encoding {
    Utf8,
    Ascii,
    Latin1,
}

/// What is not text in the encoding becomes U+FFFD, as in Java.
pub(super) struct StringConverter {
    encoding: Encoding,
    schema: SchemaRef,
}

impl StringConverter {
    pub(super) fn new(settings: &Settings) -> Result<StringConverter, ConnectError> {
        let name = settings.required_text("converter.encoding");
        let encoding = match name.to_ascii_uppercase().as_str() {
            "US-ASCII" => Encoding::Ascii,
            "ISO-8859-1" => Encoding::Latin1,
            _ => Encoding::Utf8,
        };
        Ok(StringConverter {
            encoding,
            schema: Schema::new(Type::String).optional().into(),
        })
    }
}

impl Converter for StringConverter {
    fn class_name(&self) -> &'static str {
        "org.apache.kafka.connect.storage.StringConverter"
    }

    fn to_connect(&mut self, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError> {
        let value = bytes.map_or(Value::Null, |bytes| {
            Value::String(match self.encoding {
                Encoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
                Encoding::Latin1 => bytes.iter().map(|b| char::from(*b)).collect(),
                Encoding::Ascii => bytes
                    .iter()
                    .map(|b| {
                        if b.is_ascii() {
                            char::from(*b)
                        } else {
                            '\u{fffd}'
                        }
                    })
                    .collect(),
            })
        });
        Ok(SchemaAndValue {
            schema: Some(self.schema.clone()),
            value,
        })
    }

    fn from_connect(
        &mut self,
        _schema: Option<&SchemaRef>,
        value: &Value,
    ) -> Result<Option<Bytes>, ConnectError> {
        if value.is_null() {
            return Ok(None);
        }
        let text = value.java_string();
        Ok(Some(match self.encoding {
            Encoding::Utf8 => text.into(),
            Encoding::Ascii => text.chars().map(|c| narrow(c, 0x7f)).collect(),
            Encoding::Latin1 => text.chars().map(|c| narrow(c, 0xff)).collect(),
        }))
    }
}

fn narrow(c: char, most: u32) -> u8 {
    match u32::from(c) {
        code if code <= most => code as u8,
        _ => b'?',
    }
}

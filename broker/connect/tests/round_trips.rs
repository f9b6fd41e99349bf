//! Data that is written and read again is the same.

use std::sync::Arc;

use ottla_connect::config::Props;
use ottla_connect::converter::{Converter, build};
use ottla_connect::data::{Decimal, Logical, Map, Schema, SchemaRef, Struct, Type, Value};
use proptest::prelude::*;

fn json(schemas: bool, decimals: &str) -> Box<dyn Converter> {
    let mut props = Props::new();
    props.insert("schemas.enable".into(), schemas.to_string());
    props.insert("decimal.format".into(), decimals.into());
    build("JsonConverter", &props, false).unwrap()
}

fn leaf() -> impl Strategy<Value = (Schema, Value)> {
    prop_oneof![
        any::<i8>().prop_map(|v| (Schema::new(Type::Int8), Value::Int8(v))),
        any::<i16>().prop_map(|v| (Schema::new(Type::Int16), Value::Int16(v))),
        any::<i32>().prop_map(|v| (Schema::new(Type::Int32), Value::Int32(v))),
        any::<i64>().prop_map(|v| (Schema::new(Type::Int64), Value::Int64(v))),
        any::<f32>()
            .prop_filter("a number", |v| !v.is_nan())
            .prop_map(|v| (Schema::new(Type::Float32), Value::Float32(v))),
        any::<f64>()
            .prop_filter("a number", |v| !v.is_nan())
            .prop_map(|v| (Schema::new(Type::Float64), Value::Float64(v))),
        any::<bool>().prop_map(|v| (Schema::new(Type::Boolean), Value::Boolean(v))),
        any::<String>().prop_map(|v| (Schema::new(Type::String), Value::String(v))),
        any::<Vec<u8>>().prop_map(|v| (Schema::new(Type::Bytes), Value::Bytes(v.into()))),
        (any::<i128>(), 0..20i32).prop_map(|(v, s)| (
            Schema::decimal(s),
            Value::Decimal(Decimal::new(v, s).unwrap())
        )),
        any::<i32>().prop_map(|v| (Schema::logical(Logical::Date), Value::Date(v))),
        any::<i64>().prop_map(|v| (Schema::logical(Logical::Timestamp), Value::Timestamp(v))),
    ]
}

/// A schema and a value under it, structs, arrays and maps within each other.
fn typed() -> impl Strategy<Value = (SchemaRef, Value)> {
    let leaf = leaf().prop_map(|(s, v)| (Arc::new(s), v));
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(("[a-z]{1,6}", inner.clone(), any::<bool>()), 0..5).prop_map(
                |fields| {
                    let mut schema = Schema::new(Type::Struct);
                    let mut values = vec![];
                    for (name, (field, value), null) in fields {
                        if schema.fields.contains_key(&name) {
                            continue;
                        }
                        let field = field.as_ref().clone().with_optional(null);
                        schema = schema.field(name, field);
                        values.push(if null { Value::Null } else { value });
                    }
                    let schema = Arc::new(schema.named("a.B"));
                    (schema.clone(), Value::Struct(Struct::of(schema, values)))
                }
            ),
            (inner.clone(), 0..4usize).prop_map(|((element, value), n)| {
                (
                    Arc::new(Schema::array(element)),
                    Value::Array(vec![value; n]),
                )
            }),
            (inner.clone(), prop::collection::vec(any::<String>(), 0..4)).prop_map(
                |((element, value), keys)| {
                    let map: Map = keys.into_iter().map(|k| (k, value.clone())).collect();
                    (
                        Arc::new(Schema::map(Schema::new(Type::String), element)),
                        Value::Map(map),
                    )
                }
            ),
            (inner, any::<i32>()).prop_map(|((element, value), key)| {
                let pairs = vec![(Value::Int32(key), value)];
                (
                    Arc::new(Schema::map(Schema::new(Type::Int32), element)),
                    Value::Pairs(pairs),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn json_with_schemas((schema, value) in typed(), numeric in any::<bool>()) {
        let mut converter = json(true, if numeric { "NUMERIC" } else { "BASE64" });
        let bytes = converter.from_connect(Some(&schema), &value).unwrap().unwrap();
        let read = converter.to_connect(Some(&bytes)).unwrap();
        prop_assert_eq!(read.schema.as_ref(), Some(&schema));
        prop_assert_eq!(&read.value, &value);
        prop_assert_eq!(read.value.check(&schema, "value"), Ok(()));
        // serde_json reads the same text.
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
    }

    #[test]
    fn no_bytes_make_a_converter_panic(bytes in any::<Vec<u8>>(), text in "\\PC{0,60}") {
        for name in ["JsonConverter", "StringConverter", "LongConverter", "SimpleHeaderConverter", "DoubleConverter"] {
            let mut converter = build(name, &Props::new(), true).unwrap();
            let _ = converter.to_connect(Some(&bytes.clone().into()));
            let _ = converter.to_connect(Some(&text.clone().into_bytes().into()));
        }
    }

    #[test]
    fn headers_of_arrays_and_maps(text in "[\\[\\]{}:,\"\\\\0-9a-c. -]{0,40}") {
        let mut converter = build("SimpleHeaderConverter", &Props::new(), true).unwrap();
        let read = converter.to_connect(Some(&text.into_bytes().into())).unwrap();
        if let Some(schema) = &read.schema {
            prop_assert_eq!(read.value.check(schema, "header"), Ok(()));
        }
    }

    #[test]
    fn numbers_keep_their_bytes(long in any::<i64>(), double in any::<f64>(), int in any::<i32>()) {
        for (name, bytes) in [
            ("LongConverter", long.to_be_bytes().to_vec()),
            ("DoubleConverter", double.to_be_bytes().to_vec()),
            ("IntegerConverter", int.to_be_bytes().to_vec()),
            ("ByteArrayConverter", double.to_be_bytes().to_vec()),
        ] {
            let mut converter = build(name, &Props::new(), false).unwrap();
            let read = converter.to_connect(Some(&bytes.clone().into())).unwrap();
            let written = converter.from_connect(read.schema.as_ref(), &read.value).unwrap();
            prop_assert_eq!(written.unwrap(), bytes);
        }
    }
}

//! Mappings from schemas.

use ottla_connect::data::{Logical, Schema, Type};
use serde_json::{Map, Value, json};

/// How deep schemas may lie in each other.
const DEPTH_MAX: usize = 50;

/// The mapping of a document's schema, or `None` if it is no struct.
pub fn of_document(schema: &Schema, compact_maps: bool) -> Option<Value> {
    (schema.kind == Type::Struct).then(|| of(schema, compact_maps, DEPTH_MAX))
}

fn of(schema: &Schema, compact: bool, depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else {
        return json!({"type": "object"});
    };
    if let Some(logical) = schema.logical_type() {
        return json!({"type": match logical {
            Logical::Decimal => "double",
            Logical::Date | Logical::Time | Logical::Timestamp => "date",
        }});
    }
    let kind = match schema.kind {
        Type::Boolean => "boolean",
        Type::Int8 => "byte",
        Type::Int16 => "short",
        Type::Int32 => "integer",
        Type::Int64 => "long",
        Type::Float32 => "float",
        Type::Float64 => "double",
        Type::Bytes => "binary",
        Type::String => {
            let keyword = json!({"type": "keyword", "ignore_above": 256});
            return json!({"type": "text", "fields": {"keyword": keyword}});
        }
        // A field may have many values of its type.
        Type::Array => match &schema.value {
            Some(element) => return of(element, compact, depth),
            None => "object",
        },
        Type::Map => {
            let text = schema.key.as_ref().is_none_or(|k| k.kind == Type::String);
            match (&schema.key, &schema.value) {
                (Some(key), Some(value)) if !(compact && text) => {
                    let (key, value) = (of(key, compact, depth), of(value, compact, depth));
                    return json!({"properties": {"key": key, "value": value}});
                }
                _ => "object",
            }
        }
        Type::Struct => {
            let fields = schema.fields.iter();
            let fields: Map<String, Value> = fields
                .map(|(name, field)| (name.clone(), of(field, compact, depth)))
                .collect();
            return json!({"properties": fields});
        }
    };
    json!({"type": kind})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_field() {
        let schema = Schema::new(Type::Struct)
            .field("id", Schema::new(Type::Int64))
            .field("name", Schema::new(Type::String))
            .field("price", Schema::decimal(2))
            .field("at", Schema::logical(Logical::Timestamp))
            .field("tags", Schema::array(Schema::new(Type::Int16)))
            .field(
                "by",
                Schema::map(Schema::new(Type::String), Schema::new(Type::Int32)),
            )
            .field(
                "in",
                Schema::new(Type::Struct).field("ok", Schema::new(Type::Boolean)),
            );
        let keyword = json!({"type": "keyword", "ignore_above": 256});
        let text = json!({"type": "text", "fields": {"keyword": keyword}});
        let mut expected = json!({"properties": {
            "id": {"type": "long"}, "name": text, "price": {"type": "double"}, "at": {"type": "date"},
            "tags": {"type": "short"}, "by": {"type": "object"},
            "in": {"properties": {"ok": {"type": "boolean"}}}}});
        assert_eq!(of_document(&schema, true), Some(expected.clone()));
        expected["properties"]["by"] =
            json!({"properties": {"key": text, "value": {"type": "integer"}}});
        assert_eq!(of_document(&schema, false), Some(expected));
        assert_eq!(of_document(&Schema::new(Type::Int8), true), None);
    }
}

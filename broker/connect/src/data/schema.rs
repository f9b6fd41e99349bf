//! Schemas, as `org.apache.kafka.connect.data.Schema`.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;

use super::Value;

/// Schemas are shared: a converter makes one and thousands of records point at it.
pub type SchemaRef = Arc<Schema>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Boolean,
    String,
    Bytes,
    Array,
    Map,
    Struct,
}

impl Type {
    pub const ALL: [Type; 12] = [
        Type::Int8,
        Type::Int16,
        Type::Int32,
        Type::Int64,
        Type::Float32,
        Type::Float64,
        Type::Boolean,
        Type::String,
        Type::Bytes,
        Type::Array,
        Type::Map,
        Type::Struct,
    ];

    /// The name in Connect's messages and in the `spec` of Cast, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Type::Int8 => "int8",
            Type::Int16 => "int16",
            Type::Int32 => "int32",
            Type::Int64 => "int64",
            Type::Float32 => "float32",
            Type::Float64 => "float64",
            Type::Boolean => "boolean",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Array => "array",
            Type::Map => "map",
            Type::Struct => "struct",
        }
    }

    pub fn from_name(name: &str) -> Option<Type> {
        Type::ALL
            .into_iter()
            .find(|t| t.name().eq_ignore_ascii_case(name))
    }

    pub fn is_primitive(self) -> bool {
        !matches!(self, Type::Array | Type::Map | Type::Struct)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The logical types that Connect itself defines, by schema name over a base type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    Decimal,
    Date,
    Time,
    Timestamp,
}

impl Logical {
    pub const ALL: [Logical; 4] = [
        Logical::Decimal,
        Logical::Date,
        Logical::Time,
        Logical::Timestamp,
    ];

    pub fn schema_name(self) -> &'static str {
        match self {
            Logical::Decimal => "org.apache.kafka.connect.data.Decimal",
            Logical::Date => "org.apache.kafka.connect.data.Date",
            Logical::Time => "org.apache.kafka.connect.data.Time",
            Logical::Timestamp => "org.apache.kafka.connect.data.Timestamp",
        }
    }

    pub fn base(self) -> Type {
        match self {
            Logical::Decimal => Type::Bytes,
            Logical::Date | Logical::Time => Type::Int32,
            Logical::Timestamp => Type::Int64,
        }
    }
}

/// The parameter of a Decimal schema that holds its scale.
pub const SCALE: &str = "scale";

#[derive(Clone, Debug)]
pub struct Schema {
    pub kind: Type,
    pub optional: bool,
    pub default: Option<Value>,
    pub name: Option<String>,
    pub version: Option<i32>,
    pub doc: Option<String>,
    pub parameters: IndexMap<String, String>,
    /// Of a struct, in order.
    pub fields: IndexMap<String, SchemaRef>,
    /// Of a map.
    pub key: Option<SchemaRef>,
    /// Of an array's elements or a map's values.
    pub value: Option<SchemaRef>,
}

/// As Connect compares them: the order of fields counts, that of parameters does not.
impl PartialEq for Schema {
    fn eq(&self, other: &Schema) -> bool {
        self.kind == other.kind
            && self.optional == other.optional
            && self.version == other.version
            && self.name == other.name
            && self.doc == other.doc
            && self.default == other.default
            && self.parameters == other.parameters
            && self.key == other.key
            && self.value == other.value
            && self.fields.iter().eq(other.fields.iter())
    }
}

impl Schema {
    pub fn new(kind: Type) -> Schema {
        Schema {
            kind,
            optional: false,
            default: None,
            name: None,
            version: None,
            doc: None,
            parameters: IndexMap::new(),
            fields: IndexMap::new(),
            key: None,
            value: None,
        }
    }

    pub fn optional(mut self) -> Schema {
        self.optional = true;
        self
    }

    pub fn with_optional(mut self, optional: bool) -> Schema {
        self.optional = optional;
        self
    }

    pub fn with_default(mut self, default: Value) -> Schema {
        self.default = Some(default);
        self
    }

    pub fn named(mut self, name: impl Into<String>) -> Schema {
        self.name = Some(name.into());
        self
    }

    pub fn field(mut self, name: impl Into<String>, schema: impl Into<SchemaRef>) -> Schema {
        self.fields.insert(name.into(), schema.into());
        self
    }

    pub fn array(element: impl Into<SchemaRef>) -> Schema {
        let mut schema = Schema::new(Type::Array);
        schema.value = Some(element.into());
        schema
    }

    pub fn map(key: impl Into<SchemaRef>, value: impl Into<SchemaRef>) -> Schema {
        let mut schema = Schema::new(Type::Map);
        schema.key = Some(key.into());
        schema.value = Some(value.into());
        schema
    }

    /// Connect's schema of a logical type, in version 1. A Decimal needs its scale besides.
    pub fn logical(logical: Logical) -> Schema {
        let mut schema = Schema::new(logical.base()).named(logical.schema_name());
        schema.version = Some(1);
        schema
    }

    pub fn decimal(scale: i32) -> Schema {
        let mut schema = Schema::logical(Logical::Decimal);
        schema.parameters.insert(SCALE.into(), scale.to_string());
        schema
    }

    /// Which logical type this schema is of: its name says so, over the right base type.
    pub fn logical_type(&self) -> Option<Logical> {
        let name = self.name.as_deref()?;
        Logical::ALL
            .into_iter()
            .find(|l| l.schema_name() == name && l.base() == self.kind)
    }

    pub fn scale(&self) -> Option<i32> {
        self.parameters.get(SCALE)?.parse().ok()
    }

    /// Name, version, doc and parameters without the fields: what a transform that rebuilds a struct
    /// keeps. Optional and default are kept apart, because not every transform keeps them.
    pub fn basics(&self, kind: Type) -> Schema {
        Schema {
            name: self.name.clone(),
            version: self.version,
            doc: self.doc.clone(),
            parameters: self.parameters.clone(),
            ..Schema::new(kind)
        }
    }

    pub fn field_schema(&self, name: &str) -> Option<&SchemaRef> {
        self.fields.get(name)
    }
}

use std::sync::Arc;

use super::*;
use crate::config::Props;
use crate::config::tables::storage::PARTITIONING;
use crate::data::{Map, RawRecord, SchemaAndValue, SinkRecord, TimestampType, Value};

/// 2026-01-03T15:04:05.678Z
const TIME: i64 = 1_767_452_645_678;

fn record(value: Value) -> SinkRecord {
    let raw = RawRecord {
        topic: "orders".into(),
        partition: 3,
        offset: 42,
        timestamp: Some(TIME),
        timestamp_type: TimestampType::CreateTime,
        key: None,
        value: None,
        headers: vec![],
    };
    let value = SchemaAndValue::schemaless(value);
    SinkRecord::new(Arc::new(raw), SchemaAndValue::NULL, value, vec![])
}

fn map(entries: &[(&str, Value)]) -> Value {
    Value::Map(
        entries
            .iter()
            .map(|(k, v)| (k.to_string(), v.clone()))
            .collect::<Map>(),
    )
}

fn of(keys: &[(&str, &str)]) -> Result<Partitioner, ConnectError> {
    let props: Props = keys
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    partitioner(&Settings::parse_strictly(PARTITIONING, &props)?)
}

#[test]
fn paths_of_every_partitioner() {
    let value = map(&[
        ("country", "fr".into()),
        ("n", Value::Int64(7)),
        ("at", "2026-03-01T23:30:00Z".into()),
        ("in", map(&[("ms", Value::Int64(0))])),
    ]);
    let class = |name: &'static str| ("partitioner.class", name);
    let time_based = class("io.confluent.connect.storage.partitioner.TimeBasedPartitioner");
    for (keys, path) in [
        (vec![], "partition=3"),
        (
            vec![
                class("FieldPartitioner"),
                ("partition.field.name", "country,n"),
            ],
            "country=fr/n=7",
        ),
        (vec![class("DailyPartitioner")], "year=2026/month=02/day=01"),
        (
            vec![
                class("HourlyPartitioner"),
                ("timestamp.extractor", "Record"),
            ],
            "year=2026/month=01/day=03/hour=15",
        ),
        (
            vec![
                time_based,
                ("path.format", "'dt'=YYYY-MM-dd/'hour'=HH"),
                ("partition.duration.ms", "600000"),
                ("timestamp.extractor", "RecordField"),
                ("timestamp.field", "at"),
                ("timezone", "Europe/Paris"),
                ("locale", "fr-FR"),
            ],
            "dt=2026-03-02/hour=00",
        ),
        (
            vec![
                time_based,
                ("path.format", "YYYY/mm"),
                ("partition.duration.ms", "600000"),
                ("timestamp.extractor", "RecordField"),
                ("timestamp.field", "in.ms"),
            ],
            "1970/00",
        ),
    ] {
        let encoded = of(&keys)
            .unwrap()
            .encode(&record(value.clone()), 1_769_904_000_000);
        assert_eq!(encoded.unwrap(), path, "{keys:?}");
    }
    let by_field = of(&[class("FieldPartitioner"), ("partition.field.name", "x")]).unwrap();
    assert!(by_field.encode(&record(value), 0).is_err());
}

#[test]
fn what_a_partitioner_needs_is_said() {
    for (keys, message) in [
        (
            vec![("partitioner.class", "com.acme.Mine")],
            "partitioner.class Mine is not supported",
        ),
        (
            vec![("partitioner.class", "FieldPartitioner")],
            "FieldPartitioner needs partition.field.name",
        ),
        (
            vec![("partitioner.class", "TimeBasedPartitioner")],
            "TimeBasedPartitioner needs partition.duration.ms",
        ),
        (
            vec![
                ("partitioner.class", "TimeBasedPartitioner"),
                ("partition.duration.ms", "1"),
            ],
            "TimeBasedPartitioner needs path.format",
        ),
        (
            vec![("path.format", "year=YYYY")],
            "is no letter of a date pattern",
        ),
        (vec![("timezone", "Nowhere")], "is no time zone"),
        (vec![("path.fromat", "x")], "Did you mean path.format?"),
        (
            vec![
                ("timestamp.extractor", "Mine"),
                ("partitioner.class", "DailyPartitioner"),
            ],
            "timestamp.extractor Mine is not supported",
        ),
    ] {
        let error = of(&keys).unwrap_err().to_string();
        assert!(error.contains(message), "{keys:?}: {error}");
    }
}

#[test]
fn names_of_objects() {
    let naming = Naming::Confluent {
        topics_dir: "topics".into(),
        directory_delimiter: "/".into(),
        file_delimiter: "+".into(),
        pad_width: 10,
        partitioner: Partitioner::Default,
    };
    let output = naming.output(&record(Value::Null), 0).unwrap();
    let name = naming.object("orders", 3, &output, 42, ".json.gz");
    assert_eq!(
        name.unwrap(),
        "topics/orders/partition=3/orders+3+0000000042.json.gz"
    );
    for output in ["a/../b", "a\nb", &"x".repeat(2000)] {
        assert!(naming.object("orders", 3, output, 42, "").is_err());
    }
}

#[test]
fn names_by_aivens_template() {
    let text = "{{topic}}/{{ partition:padding=true }}-{{start_offset:padding=true}}-\
                {{timestamp:unit=yyyy}}/{{timestamp:unit=HH}}/{{utc_date}}/{{start_offset}}";
    let template = Template::parse(text)
        .unwrap()
        .with_prefix("p{{timestamp:unit=MM}}/")
        .unwrap();
    assert!(!template.is_stable());
    let template = template.with_times(TimestampExtractor::Record, "+10:00".parse().unwrap());
    assert!(template.is_stable());
    let naming = Naming::Aiven(template);
    let output = naming.output(&record(Value::Null), 0).unwrap();
    assert_eq!(
        naming.object("orders", 3, &output, 42, ".gz").unwrap(),
        "p01/orders/0000000003-00000000000000000042-2026/01/2026-01-03/42.gz"
    );
    for (text, message) in [
        (
            "{{topic}}-{{partition}}",
            "the template must have {{start_offset}}, so that no two objects have the same name",
        ),
        ("{{topic", "{{ has no }} after it"),
        ("{{tpoic}}", "unknown variable {{tpoic}}"),
        (
            "{{key}}",
            "{{key}} is not supported: each record would overwrite the object of the one before",
        ),
        (
            "{{timestamp}}",
            "{{timestamp}}: unit=yyyy, unit=MM, unit=dd or unit=HH is needed",
        ),
        (
            "{{partition:padding=yes}}",
            "{{partition:padding=yes}}: the parameter is padding=true or padding=false",
        ),
    ] {
        assert_eq!(Template::parse(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn names_of_indexes() {
    let name = IndexName::parse("audit-%{+YYYY.MM.dd}").unwrap();
    assert_eq!(
        name.index("Orders", Some(TIME)).unwrap(),
        "audit-2026.01.03"
    );
    assert_eq!(name.index("Orders", None), Err(IndexNameError::NoTime));
    let name = IndexName::parse("${topic}-%{+xxxx.ww}").unwrap();
    assert_eq!(name.index("Orders", Some(TIME)).unwrap(), "orders-2026.01");
    assert!(matches!(
        name.index("_x", Some(TIME)),
        Err(IndexNameError::Invalid(..))
    ));
    for text in ["a-%{YYYY}", "a-%{+YYYY", "a-%{+b}", "${x}"] {
        assert!(IndexName::parse(text).is_err(), "{text}");
    }
}

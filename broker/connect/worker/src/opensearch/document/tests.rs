use std::sync::Arc;

use ottla_connect::data::{Header, Map, RawRecord, SchemaAndValue, TimestampType};

use super::*;

fn documents() -> Documents {
    Documents {
        indexes: Indexes {
            name: None,
            of_topics: [("mapped".to_owned(), "other".to_owned())].into(),
            prefix: String::new(),
            suffix: String::new(),
            fixed: None,
        },
        ignored_key: IdStrategy::TopicPartitionOffset,
        key_ignore: false,
        topic_key_ignore: HashSet::from(["events".to_owned()]),
        on_null: OnNull::Delete,
        upsert: false,
        data_stream: None,
        compact_maps: true,
        version_header: None,
        schema_ignore: false,
        topic_schema_ignore: HashSet::new(),
    }
}

fn record(topic: &str, key: Value, value: Value) -> SinkRecord {
    let raw = RawRecord {
        topic: topic.into(),
        partition: 3,
        offset: 42,
        timestamp: Some(1000),
        timestamp_type: TimestampType::CreateTime,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    let data = SchemaAndValue::schemaless;
    SinkRecord::new(Arc::new(raw), data(key), data(value), Vec::new())
}

fn object(field: &str, value: i64) -> Value {
    Value::Map(Map::from_iter([(field.to_owned(), Value::Int64(value))]))
}

fn lines(documents: &Documents, record: &SinkRecord) -> String {
    let mut out = Vec::new();
    documents
        .write(record, &mut out)
        .expect("a document")
        .expect("an action");
    String::from_utf8(out).expect("text")
}

fn fault(documents: &Documents, record: &SinkRecord) -> String {
    documents
        .write(record, &mut Vec::new())
        .expect_err("no document")
        .to_string()
}

#[test]
fn ids_and_versions_follow_from_the_record() {
    let documents = documents();
    let versioned = r#""version":42,"version_type":"external"}}"#;
    assert_eq!(
        lines(&documents, &record("T", "k\"1".into(), object("a", 1))),
        format!("{{\"index\":{{\"_index\":\"t\",\"_id\":\"k\\\"1\",{versioned}\n{{\"a\":1}}\n")
    );
    assert_eq!(
        lines(
            &documents,
            &record("events", Value::Null, "{\"a\": [1,\n2]}".into())
        ),
        format!(
            "{{\"index\":{{\"_index\":\"events\",\"_id\":\"events+3+42\",{versioned}\n{{\"a\":[1,2]}}\n"
        )
    );
    assert_eq!(
        lines(&documents, &record("mapped", Value::Int32(7), Value::Null)),
        format!("{{\"delete\":{{\"_index\":\"other\",\"_id\":\"7\",{versioned}\n")
    );
    let upsert = Documents {
        upsert: true,
        ..documents
    };
    assert_eq!(
        lines(&upsert, &record("t", "k".into(), object("a", 1))),
        "{\"update\":{\"_index\":\"t\",\"_id\":\"k\",\"retry_on_conflict\":3}}\n\
         {\"doc\":{\"a\":1},\"doc_as_upsert\":true}\n"
    );
    assert_eq!(
        lines(&upsert, &record("t", "k".into(), Value::Null)),
        "{\"delete\":{\"_index\":\"t\",\"_id\":\"k\"}}\n"
    );
}

#[test]
fn what_is_no_document_says_why() {
    let documents = documents();
    for (key, value, expected) in [
        (Value::Null, object("a", 1), "the key is null"),
        (
            Value::Boolean(true),
            object("a", 1),
            "boolean cannot be a document's id",
        ),
        (
            "x".repeat(513).as_str().into(),
            object("a", 1),
            "1 to 512 bytes, not 513",
        ),
        ("k".into(), Value::Int64(1), "must be an object, not int64"),
        ("k".into(), "[1]".into(), "it is another JSON value"),
    ] {
        let said = fault(&documents, &record("t", key, value));
        assert!(said.contains(expected), "{said}");
    }
    // A delete without a key, or by a place, has nothing to delete.
    let nothing = record("events", "k".into(), Value::Null);
    assert_eq!(documents.write(&nothing, &mut Vec::new()), Ok(None));
}

#[test]
fn a_data_streams_documents_have_a_time() {
    let with = |time| Documents {
        data_stream: Some(time),
        key_ignore: true,
        ..documents()
    };
    let field = with(StreamTime::Field("at".into()));
    let head = "{\"create\":{\"_index\":\"t\",\"_id\":\"t+3+42\"}}\n";
    let of = |documents: &Documents, value| {
        let lines = lines(documents, &record("t", Value::Null, value));
        lines
            .strip_prefix(head)
            .expect("the first line")
            .trim_end()
            .to_owned()
    };
    assert_eq!(of(&field, object("a", 1)), r#"{"at":1000,"a":1}"#);
    assert_eq!(of(&field, Value::Map(Map::new())), r#"{"at":1000}"#);
    assert_eq!(of(&field, object("at", 5)), r#"{"at":5}"#);
    let first = with(StreamTime::FirstOf(vec!["x".into(), "at".into()]));
    assert_eq!(of(&first, object("at", 5)), r#"{"@timestamp":5,"at":5}"#);
    assert_eq!(of(&first, object("a", 5)), r#"{"@timestamp":1000,"a":5}"#);
}

#[test]
fn a_header_may_have_the_version() {
    let documents = Documents {
        version_header: Some("v".into()),
        ..documents()
    };
    let mut record = record("t", "k".into(), object("a", 1));
    assert!(fault(&documents, &record).contains("there is no header v"));
    for (value, expected) in [
        (Value::Int64(9), Some(9)),
        ("8".into(), Some(8)),
        (Value::Int64(-1), None),
    ] {
        record.headers = vec![Header {
            key: "v".into(),
            value: SchemaAndValue::schemaless(value),
        }];
        match expected {
            Some(version) => {
                assert!(lines(&documents, &record).contains(&format!("\"version\":{version},")))
            }
            None => assert!(fault(&documents, &record).contains("no version from 0 on")),
        }
    }
}

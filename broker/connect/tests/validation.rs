//! Configurations as people write them, and what is wrong with those that are not right.

use ottla_connect::config::providers::{Lookup, Providers};
use ottla_connect::config::tables::storage::{PARTITIONING, ROTATING};
use ottla_connect::config::tables::{CONNECTOR, DISTRIBUTED, STANDALONE, WORKER};
use ottla_connect::config::validate::{ConfigInfos, connector};
use ottla_connect::config::{DefaultValue, Definition, Props, Settings, files};
use ottla_connect::transform::{PREDICATES, TRANSFORMS};

struct Environment;
impl Lookup for Environment {
    fn environment(&self, name: &str) -> Option<String> {
        (name == "SECRET").then(|| "not to be seen".into())
    }
    fn file(&self, _: &str) -> Result<String, String> {
        Err("no files".into())
    }
}

/// As a sink with Confluent's keys of paths and rotation would ask.
fn validate(config: &Props) -> ConfigInfos {
    let resolved = Providers::default().resolve(config, &Environment).unwrap();
    let mut validation = connector(config, &resolved);
    validation.table("", PARTITIONING, None);
    validation.table("", ROTATING, None);
    validation.finish("S3SinkConnector")
}

fn published() -> Props {
    let file = include_str!("files/confluent-s3.properties");
    files::parse("confluent-s3.properties", file)
        .unwrap()
        .config
}

fn with(changes: &[(&str, &str)]) -> Props {
    let mut props = published();
    for (key, value) in changes {
        props.insert((*key).into(), (*value).into());
    }
    props
}

#[test]
fn a_published_file_is_right() {
    let infos = validate(&published());
    assert_eq!(infos.errors().collect::<Vec<_>>(), []);
    assert_eq!(infos.error_count, 0);
    let groups: Vec<_> = infos.groups.iter().map(String::as_str).collect();
    assert_eq!(
        groups,
        [
            "Common",
            "Transforms",
            "Predicates",
            "Error Handling",
            "Transforms: mask",
            "Transforms: route",
            "Predicates: prod",
            "Storage",
            "Partitioner",
            "Connector"
        ]
    );
}

#[test]
fn every_wrong_key_is_named() {
    for (key, value, message) in [
        (
            "flush.sise",
            "5",
            "Configuration is not defined: flush.sise. Did you mean flush.size?",
        ),
        (
            "transforms.mask.feilds",
            "a",
            "Configuration is not defined: transforms.mask.feilds. Did you mean transforms.mask.fields?",
        ),
        (
            "quite.another.thing",
            "5",
            "Configuration is not defined: quite.another.thing",
        ),
        (
            "flush.size",
            "many",
            "Invalid value many for configuration flush.size: Not a number of type INT",
        ),
        (
            "flush.size",
            "0",
            "Invalid value 0 for configuration flush.size: Value must be at least 1",
        ),
        (
            "errors.tolerance",
            "some",
            "Invalid value some for configuration errors.tolerance: String must be one of: none, all",
        ),
        (
            "topics.regex",
            "x",
            "topics and topics.regex are mutually exclusive options, but both are set.",
        ),
        (
            "errors.deadletterqueue.topic.name",
            "orders",
            "The DLQ topic 'orders' may not be included in the list of topics ('topics') consumed by the connector",
        ),
        (
            "value.converter",
            "io.confluent.connect.avro.AvroConverter",
            "Converter io.confluent.connect.avro.AvroConverter is not supported: it needs a schema registry, which is not built",
        ),
        (
            "connector.plugin.version",
            "1",
            "connector.plugin.version is not supported: there is one version of each plugin, the one that is built in",
        ),
        (
            "transforms.mask.type",
            "x.Y",
            "Transformation x.Y is not supported",
        ),
        (
            "transforms.route.predicate",
            "absent",
            "No such predicate: absent; it must be one of \"predicates\"",
        ),
        (
            "transforms.mask.replacement",
            "",
            "Invalid value  for configuration transforms.mask.replacement: String must be non-empty",
        ),
        (
            "path.format",
            "year=YYYY",
            "Invalid value year=YYYY for configuration path.format: 'r' is no letter of a date pattern; put text between single quotes",
        ),
        (
            "flush.size",
            "${env:SECRET}",
            "Invalid value [hidden] for configuration flush.size: Not a number of type INT",
        ),
    ] {
        let infos = validate(&with(&[(key, value)]));
        let errors: Vec<_> = infos.errors().map(|(_, e)| e).collect();
        assert!(errors.contains(&message), "{key}={value}: {errors:?}");
        assert_eq!(infos.error_count, errors.len());
    }
}

/// The members are those of Kafka Connect's answer, by name, and no other.
#[test]
fn the_answer_has_kafka_connects_shape() {
    let json = serde_json::to_value(validate(&with(&[("tasks.max", "x"), ("odd", "1")]))).unwrap();
    let names = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&json), ["name", "error_count", "groups", "configs"]);
    let configs = json["configs"].as_array().unwrap();
    let of = |name: &str| configs.iter().find(|c| c["value"]["name"] == name).unwrap();
    let tasks = serde_json::json!({
        "definition": {
            "name": "tasks.max", "type": "INT", "required": false, "default_value": "1",
            "importance": "HIGH", "documentation": "Tasks of this connector at most.",
            "group": "Common", "width": "SHORT", "display_name": "Tasks max", "dependents": [],
            "order": 4
        },
        "value": {
            "name": "tasks.max", "value": "x", "recommended_values": [],
            "errors": ["Invalid value x for configuration tasks.max: Not a number of type INT"],
            "visible": true
        }
    });
    assert_eq!(of("tasks.max"), &tasks);
    assert_eq!(names(of("tasks.max")), ["definition", "value"]);
    let odd = of("odd");
    assert!(odd["definition"].is_null());
    assert_eq!(json["error_count"], 2);
}

#[test]
fn secrets_are_never_in_an_answer() {
    let infos = validate(&with(&[
        ("topics.dir", "${env:SECRET}"),
        ("name", "${env:SECRET}"),
    ]));
    let json = serde_json::to_string(&infos).unwrap();
    assert!(!json.contains("not to be seen"));
    assert!(json.contains("${env:SECRET}"));
}

/// Defaults are values that the key would take, and no key is there twice.
#[test]
fn tables_are_sound() {
    let mut tables: Vec<&[Definition]> = vec![
        CONNECTOR,
        WORKER,
        STANDALONE,
        DISTRIBUTED,
        PARTITIONING,
        ROTATING,
    ];
    tables.extend(TRANSFORMS.iter().map(|t| t.table));
    tables.extend(PREDICATES.iter().map(|p| p.table));
    for table in tables {
        for (i, def) in table.iter().enumerate() {
            assert!(
                !table[..i].iter().any(|d| d.name == def.name),
                "{} twice",
                def.name
            );
            assert!(def.doc.ends_with('.'), "{}", def.name);
            if let DefaultValue::Text(text) = def.default {
                let fault = def.check.fault(text);
                assert!(
                    fault.is_none() || text.is_empty(),
                    "{}: {fault:?}",
                    def.name
                );
                let props = Props::new();
                let required: Vec<_> = vec![*def];
                assert!(Settings::parse(&required, &props).is_ok(), "{}", def.name);
            }
        }
    }
}

#[test]
fn a_worker_file_is_right() {
    let text = "bootstrap.servers=b1:9092,b2:9092\ngroup.id=connect-cluster\n\
        key.converter=org.apache.kafka.connect.json.JsonConverter\n\
        value.converter=org.apache.kafka.connect.json.JsonConverter\n\
        offset.storage.topic=connect-offsets\nconfig.storage.topic=connect-configs\n\
        status.storage.topic=connect-status\noffset.flush.interval.ms=10000\nplugin.path=/usr/share/java\n";
    let props = files::parse_properties("worker.properties", text).unwrap();
    assert!(Settings::parse(WORKER, &props).is_ok());
    let distributed = Settings::parse(DISTRIBUTED, &props).unwrap();
    assert_eq!(distributed.long("session.timeout.ms"), 10_000);
    let mut eager = props.clone();
    eager.insert("connect.protocol".into(), "eager".into());
    let problems = Settings::parse(DISTRIBUTED, &eager).unwrap_err();
    assert_eq!(
        problems[0].message,
        "Value eager of connect.protocol is not supported: eager rebalancing stops every task \
         (supported: sessioned, compatible)"
    );
}

use super::*;
use crate::config::Props;
use crate::config::tables::CONNECTOR;
use crate::converter::{Converters, build};
use crate::data::{RawHeader, TimestampType};
use crate::transform::Chain;

fn handler(keys: &[(&str, &str)]) -> ErrorHandler {
    let mut props: Props = keys
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    props.insert("name".into(), "sink".into());
    props.insert("connector.class".into(), "x".into());
    ErrorHandler {
        policy: ErrorPolicy::of(&Settings::parse(CONNECTOR, &props).unwrap()),
        connector: "sink".into(),
        task: 2,
    }
}

fn raw(value: &'static str) -> Arc<RawRecord> {
    Arc::new(RawRecord {
        topic: "orders".into(),
        partition: 3,
        offset: 42,
        timestamp: Some(1000),
        timestamp_type: TimestampType::CreateTime,
        key: Some("k".into()),
        value: Some(value.into()),
        headers: vec![RawHeader {
            key: "own".into(),
            value: None,
        }],
    })
}

fn pipeline(transforms: &[(&str, &str)]) -> Pipeline {
    let none = Props::new();
    let json: Props = [("schemas.enable".to_owned(), "false".to_owned())].into();
    let transforms: Props = transforms
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    Pipeline {
        converters: Converters {
            key: build("StringConverter", &none, false).unwrap(),
            value: build("JsonConverter", &json, false).unwrap(),
            header: build("SimpleHeaderConverter", &none, true).unwrap(),
        },
        transforms: Chain::build(&transforms).unwrap(),
    }
}

const CONTEXT: [(&str, &str); 3] = [
    ("errors.tolerance", "all"),
    ("errors.deadletterqueue.topic.name", "dead"),
    ("errors.deadletterqueue.context.headers.enable", "true"),
];

/// The names, their order and their values are those of Kafka Connect's DeadLetterQueueReporter.
#[test]
fn a_dead_letter_has_the_bytes_that_came_and_says_what_failed() {
    let failure = pipeline(&[]).process(raw("{\"a\":")).unwrap_err();
    let decision = handler(&CONTEXT).decide(&failure, &mut Attempts::start(0), 0, 0.5);
    let Decision::Skip {
        dead_letter: Some(letter),
        log: None,
    } = decision
    else {
        panic!("{decision:?}");
    };
    assert_eq!(letter.topic, "dead");
    assert_eq!(letter.timestamp, Some(1000));
    assert_eq!(
        (letter.key.as_deref(), letter.value.as_deref()),
        (Some(&b"k"[..]), Some(&b"{\"a\":"[..]))
    );
    let headers: Vec<_> = letter
        .headers
        .iter()
        .map(|h| {
            (
                h.key.as_str(),
                h.value.as_deref().map(|v| std::str::from_utf8(v).unwrap()),
            )
        })
        .collect();
    let message = "Converting byte[] to Kafka Connect data failed due to serialization error: ";
    let trace = format!(
        "org.apache.kafka.connect.errors.DataException: {message}\n\
         Caused by: org.apache.kafka.common.errors.SerializationException: EOF while parsing a value at line 1 column 5\n"
    );
    assert_eq!(
        headers,
        [
            ("own", None),
            ("__connect.errors.topic", Some("orders")),
            ("__connect.errors.partition", Some("3")),
            ("__connect.errors.offset", Some("42")),
            ("__connect.errors.connector.name", Some("sink")),
            ("__connect.errors.task.id", Some("2")),
            ("__connect.errors.stage", Some("VALUE_CONVERTER")),
            (
                "__connect.errors.class.name",
                Some("org.apache.kafka.connect.json.JsonConverter")
            ),
            (
                "__connect.errors.exception.class.name",
                Some("org.apache.kafka.connect.errors.DataException")
            ),
            ("__connect.errors.exception.message", Some(message)),
            (
                "__connect.errors.exception.stacktrace",
                Some(trace.as_str())
            ),
        ]
    );
}

#[test]
fn a_failed_transform_is_named() {
    let keys = [
        ("transforms", "up,out"),
        (
            "transforms.up.type",
            "org.apache.kafka.connect.transforms.Cast$Value",
        ),
        ("transforms.up.spec", "a:int32"),
        ("transforms.out.type", "Filter"),
    ];
    let mut pipeline = pipeline(&keys);
    let failure = pipeline.process(raw("{\"a\":\"x\"}")).unwrap_err();
    assert_eq!(failure.stage, Stage::Transformation);
    assert_eq!(
        failure.class,
        "org.apache.kafka.connect.transforms.Cast$Value"
    );
    assert_eq!(pipeline.process(raw("{\"a\":1}")).unwrap(), None);
}

#[test]
fn without_tolerance_the_task_fails_and_nothing_is_dead_lettered() {
    let failure = pipeline(&[]).process(raw("no")).unwrap_err();
    let handler = handler(&[
        ("errors.deadletterqueue.topic.name", "dead"),
        ("errors.log.include.messages", "true"),
    ]);
    let decision = handler.decide(&failure, &mut Attempts::start(0), 0, 0.5);
    let Decision::Fail { error, log } = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(error.message, "Tolerance exceeded in error handler");
    assert_eq!(error.cause.unwrap().kind, ErrorKind::Data);
    assert!(
        log.starts_with(
            "Error encountered in task sink-2. Executing stage 'VALUE_CONVERTER' with class \
             'org.apache.kafka.connect.json.JsonConverter', where consumed record is {topic='orders', \
             partition=3, offset=42, timestamp=1000, timestampType=CreateTime}. "
        ),
        "{log}"
    );
}

#[test]
fn retriable_failures_are_tried_again_until_time_is_up() {
    let keys = [
        ("errors.retry.timeout", "10000"),
        ("errors.retry.delay.max.ms", "1000"),
        ("errors.tolerance", "all"),
    ];
    let handler = handler(&keys);
    let mut failure = Failure {
        stage: Stage::TaskPut,
        class: SINK_TASK_CLASS.into(),
        error: ConnectError::retriable("busy"),
        record: raw("x"),
    };
    let mut attempts = Attempts::start(0);
    let mut now = 0;
    let mut delays = Vec::new();
    while let Decision::Retry { after_ms } = handler.decide(&failure, &mut attempts, now, 0.9) {
        delays.push(after_ms);
        now += after_ms;
    }
    assert_eq!(delays[..3], [300, 600, 900]);
    assert_eq!(now, 10_000, "{delays:?}");
    let decision = handler.decide(&failure, &mut attempts, now, 0.9);
    assert!(
        matches!(
            decision,
            Decision::Skip {
                dead_letter: None,
                log: None
            }
        ),
        "{decision:?}"
    );
    // What is not of the record is not skipped.
    failure.stage = Stage::KafkaConsume;
    failure.error = ConnectError::data("bad");
    let decision = handler.decide(&failure, &mut attempts, now, 0.9);
    assert!(matches!(decision, Decision::Fail { .. }), "{decision:?}");
}

#[test]
fn retries_without_end_never_overflow() {
    let handler = handler(&[("errors.retry.timeout", "-1")]);
    let failure = Failure {
        stage: Stage::TaskPut,
        class: SINK_TASK_CLASS.into(),
        error: ConnectError::retriable("busy"),
        record: raw("x"),
    };
    let mut attempts = Attempts::start(i64::MIN);
    for _ in 0..200 {
        let decision = handler.decide(&failure, &mut attempts, i64::MAX, 0.5);
        let Decision::Retry { after_ms } = decision else {
            panic!("{decision:?}");
        };
        assert!((0..=60_000).contains(&after_ms));
    }
}

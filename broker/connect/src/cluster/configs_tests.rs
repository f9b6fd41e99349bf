use super::*;
use proptest::prelude::*;

fn replay(image: &mut Configs, entries: &[Entry]) {
    for entry in entries {
        let offset = image.offset();
        let done = image.replay(offset, &entry.key, entry.value.as_deref());
        assert_eq!(done, Ok(None), "{}", entry.key);
    }
}

fn of(records: &[(&str, Option<&str>)]) -> Configs {
    let mut image = Configs::default();
    for (i, (key, value)) in records.iter().enumerate() {
        image
            .replay(i as i64, key, value.map(str::as_bytes))
            .unwrap();
    }
    image
}

fn props(pairs: &[(&str, &str)]) -> Props {
    pairs
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

/// As Kafka Connect 3.9 writes them.
const KAFKAS: &[(&str, Option<&str>)] = &[
    (
        "session-key",
        Some(r#"{"key":"9Un=","algorithm":"HmacSHA256","creation-timestamp":1}"#),
    ),
    (
        "target-state-s3-sink",
        Some(r#"{"state":"STARTED","state.v2":"STARTED"}"#),
    ),
    (
        "connector-s3-sink",
        Some(r#"{"properties":{"connector.class":"x.S3SinkConnector","tasks.max":"2"}}"#),
    ),
    (
        "task-s3-sink-0",
        Some(r#"{"properties":{"task.class":"x.S3SinkTask"}}"#),
    ),
    (
        "task-s3-sink-1",
        Some(r#"{"properties":{"task.class":"x.S3SinkTask"}}"#),
    ),
    ("commit-s3-sink", Some(r#"{"tasks":2}"#)),
    ("task-count-record-s3-sink", Some(r#"{"task-count":2}"#)),
    ("logger-cluster-org.x", Some(r#"{"level":"DEBUG"}"#)),
];

#[test]
fn a_topic_of_kafka_connect_is_taken_over() {
    let image = of(KAFKAS);
    assert_eq!(image.names(), ["s3-sink"]);
    assert_eq!(image.offset(), 8);
    let connector = image.get("s3-sink").unwrap();
    assert_eq!(
        (connector.task_count(), connector.target),
        (2, Target::Running)
    );
    assert_eq!(connector.applied, connector.config);
    assert!(connector.is_behind(), "its tasks are to be written anew");
    let names: Vec<String> = image.units().iter().map(Unit::to_string).collect();
    assert_eq!(names, ["s3-sink", "s3-sink-0", "s3-sink-1"]);
}

#[test]
fn tasks_come_into_force_with_their_commit() {
    let mut image = of(KAFKAS);
    let config = props(&[
        ("connector.class", "x.S3SinkConnector"),
        ("tasks.max", "1"),
        ("k", "v"),
    ]);
    replay(&mut image, &[connector_entry("s3-sink", &config)]);
    let connector = image.get("s3-sink").unwrap();
    assert_eq!(
        (connector.task_count(), connector.applied.get("k")),
        (2, None)
    );
    let wanted = connector.wanted_tasks();
    assert_eq!(wanted[0]["task.class"], "x.S3SinkTask");
    replay(&mut image, &task_entries("s3-sink", &wanted));
    let connector = image.get("s3-sink").unwrap();
    assert_eq!(connector.task_count(), 1);
    assert_eq!(connector.applied, config);
    assert!(!connector.is_behind());
}

#[test]
fn a_commit_without_its_tasks_runs_none_until_they_are_written() {
    let mut image = of(&[KAFKAS[2], KAFKAS[3], KAFKAS[5]]);
    let connector = image.get("s3-sink").unwrap();
    assert!(connector.inconsistent && connector.is_behind());
    assert_eq!(connector.task_count(), 0);
    let wanted = connector.wanted_tasks();
    replay(&mut image, &task_entries("s3-sink", &wanted));
    assert_eq!(image.get("s3-sink").unwrap().task_count(), 2);
}

#[test]
fn states_and_removal() {
    let mut image = of(KAFKAS);
    replay(&mut image, &[target_entry("s3-sink", Target::Stopped)]);
    let connector = image.get("s3-sink").unwrap();
    assert_eq!(connector.target, Target::Stopped);
    assert!(connector.wanted_tasks().is_empty());
    let stopped = target_entry("s3-sink", Target::Stopped).value.unwrap();
    assert_eq!(stopped, br#"{"state":"PAUSED","state.v2":"STOPPED"}"#);
    // Before Kafka 3.5.
    image
        .replay(20, "target-state-s3-sink", Some(br#"{"state":"PAUSED"}"#))
        .unwrap();
    assert_eq!(image.get("s3-sink").unwrap().target, Target::Paused);
    replay(&mut image, &removal("s3-sink"));
    assert!(image.names().is_empty() && image.units().is_empty());
    let mut again = of(KAFKAS);
    replay(&mut again, &removal("s3-sink"));
    let new = connector_entry("s3-sink", &props(&[("a", "b")]));
    replay(&mut again, &[new]);
    assert_eq!(again.get("s3-sink").unwrap().task_count(), 0);
}

#[test]
fn restarts_are_said_once_and_are_no_state() {
    let restart = Restart {
        connector: "a-b".into(),
        include_tasks: true,
        only_failed: false,
    };
    let entry = restart_entry(&restart);
    let mut image = Configs::default();
    let said = image.replay(0, &entry.key, entry.value.as_deref());
    assert_eq!(said, Ok(Some(restart)));
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let mut image = of(KAFKAS);
    let before = image.get("s3-sink").cloned();
    for value in [
        "{",
        "[]",
        r#"{"properties":3}"#,
        r#"{"tasks":-1}"#,
        r#"{"state":"?"}"#,
    ] {
        for key in [
            "connector-s3-sink",
            "commit-s3-sink",
            "target-state-s3-sink",
        ] {
            let offset = image.offset();
            assert!(
                image.replay(offset, key, Some(value.as_bytes())).is_err(),
                "{key} {value}"
            );
            assert_eq!(image.offset(), offset + 1);
        }
    }
    assert_eq!(image.get("s3-sink").cloned(), before);
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize),
    Target(usize, Target),
    Remove(usize),
    Commit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let target = prop_oneof![
        Just(Target::Running),
        Just(Target::Paused),
        Just(Target::Stopped)
    ];
    prop_oneof![
        (0usize..3, 0usize..4).prop_map(|(c, n)| Step::Put(c, n)),
        (0usize..3, target).prop_map(|(c, t)| Step::Target(c, t)),
        (0usize..3).prop_map(Step::Remove),
        (0usize..3).prop_map(Step::Commit),
    ]
}

proptest! {
    /// What a leader writes, compacted up to any point as the broker's cleaner may, is read as the same
    /// once the leader has written what is behind.
    #[test]
    fn a_compacted_topic_says_the_same(steps in proptest::collection::vec(step(), 1..30), cut in 0usize..60) {
        let (mut image, mut log) = (Configs::default(), Vec::<Entry>::new());
        for step in steps {
            let name = |c: usize| format!("c-{c}");
            let entries = match step {
                Step::Put(c, n) => {
                    let tasks = n.to_string();
                    vec![connector_entry(&name(c), &props(&[("tasks.max", &tasks), ("n", &log.len().to_string())]))]
                }
                Step::Target(c, target) if image.get(&name(c)).is_some() => vec![target_entry(&name(c), target)],
                Step::Remove(c) => removal(&name(c)).to_vec(),
                Step::Commit(c) => image
                    .get(&name(c))
                    .map_or(Vec::new(), |found| task_entries(&name(c), &found.wanted_tasks())),
                Step::Target(..) => Vec::new(),
            };
            replay(&mut image, &entries);
            log.extend(entries);
        }
        let kept = log.iter().enumerate().filter(|(i, e)| *i >= cut || !log[i + 1..].iter().any(|l| l.key == e.key));
        let mut read = Configs::default();
        for (i, entry) in kept {
            read.replay(i as i64, &entry.key, entry.value.as_deref()).unwrap();
        }
        prop_assert_eq!(image.names(), read.names());
        for image in [&mut image, &mut read] {
            for name in image.names() {
                let wanted = image.get(&name).unwrap().wanted_tasks();
                if image.get(&name).unwrap().is_behind() {
                    replay(image, &task_entries(&name, &wanted));
                }
            }
        }
        prop_assert_eq!(image.units(), read.units());
        for name in image.names() {
            let (a, b) = (image.get(&name).unwrap(), read.get(&name).unwrap());
            prop_assert_eq!((&a.config, a.target, &a.tasks), (&b.config, b.target, &b.tasks));
        }
    }
}

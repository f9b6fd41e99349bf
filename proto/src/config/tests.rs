//! Configs of topics and brokers as the APIs see them.

use std::collections::BTreeMap;

use super::definitions::{Effect, Kind, Update, broker, topic};
use super::testing::Random;
use super::*;

type Configs = BTreeMap<String, String>;
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn configs(pairs: &[(&str, &str)]) -> Configs {
    pairs
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

fn server(overrides: &[&str]) -> ServerConfig {
    let overrides: Vec<_> = overrides.iter().map(|s| s.to_string()).collect();
    ServerConfig::load(None, [], &overrides).unwrap().0
}

#[test]
fn the_topic_table_is_sorted_and_its_synonyms_exist() {
    assert!(topic::TOPIC.is_sorted_by(|a, b| a.name < b.name));
    for def in topic::TOPIC {
        assert!(topic::find(def.name).is_some());
        for synonym in def.synonyms {
            assert!(broker::find(synonym.key).is_some(), "{}", synonym.key);
        }
    }
    assert!(topic::find("retention").is_none());
    for def in broker::all() {
        assert!(def.synonyms.is_empty() || def.synonyms.iter().any(|s| s.key == def.name));
    }
}

#[test]
fn the_tables_keep_their_rules() {
    for def in topic::TOPIC.iter().chain(broker::all()) {
        assert!(def.doc.ends_with('.'), "{}", def.name);
        assert!(
            def.kind != Kind::Password || def.default.is_none(),
            "{}",
            def.name
        );
    }
    // What is altered while the broker runs must matter to it, or show in the configs of topics.
    let supplies = |key| {
        let mut synonyms = topic::TOPIC.iter().flat_map(|def| def.synonyms);
        synonyms.any(|synonym| synonym.key == key)
    };
    for def in broker::all().filter(|def| def.update != Update::ReadOnly) {
        let idle = matches!(def.effect, Effect::NoEffect(_));
        assert!(!idle || supplies(def.name), "{}", def.name);
    }
    // A topic's default and that of the broker key behind it are the same.
    let server = server(&[]);
    for def in topic::TOPIC {
        if def.synonyms.is_empty() {
            continue;
        }
        assert_eq!(
            server.values().first_of(def.synonyms).as_deref(),
            def.default,
            "{}",
            def.name
        );
    }
}

#[test]
fn a_topic_takes_its_own_config_else_the_brokers() {
    let broker = server(&["log.cleanup.policy=compact", "message.max.bytes=9"]);
    let plain = topic_config(&broker, &configs(&[])).unwrap();
    assert!(plain.cleanup_compact && !plain.cleanup_delete);
    assert_eq!(plain.max_message_bytes, 9);
    assert_eq!(plain.message_timestamp_type, TimestampType::CreateTime);
    assert_eq!(plain.message_timestamp_before_max_ms, i64::MAX as u64);
    assert_eq!(plain.message_timestamp_after_max_ms, 3_600_000);

    let own = configs(&[
        ("cleanup.policy", "delete, compact"),
        ("max.message.bytes", " 5 "),
        ("message.timestamp.type", "LogAppendTime"),
    ]);
    let own = topic_config(&broker, &own).unwrap();
    assert!(own.cleanup_compact && own.cleanup_delete);
    assert_eq!(own.max_message_bytes, 5);
    assert_eq!(own.message_timestamp_type, TimestampType::LogAppendTime);
}

/// What DescribeConfigs says of a topic without configs of its own.
fn described(server: &ServerConfig, key: &str) -> String {
    let entries = describe_topic(server, &configs(&[]));
    entry(&entries, key).value.unwrap()
}

#[test]
fn ms_win_over_minutes_and_minutes_over_hours() {
    let retention = |overrides: &[&str]| described(&server(overrides), "retention.ms");
    let (hours, minutes, ms) = (
        "log.retention.hours=1",
        "log.retention.minutes=2",
        "log.retention.ms=3",
    );
    assert_eq!(retention(&[]), "604800000");
    assert_eq!(retention(&[hours]), "3600000");
    assert_eq!(retention(&[hours, minutes]), "120000");
    assert_eq!(retention(&[ms, hours, minutes]), "3");
    assert_eq!(retention(&["log.retention.hours=-1"]), "-1");
    assert_eq!(
        retention(&["log.retention.hours=2147483647"]),
        "7730941129200000"
    );
}

#[test]
fn dynamic_broker_configs_reach_topics() {
    let broker = server(&["log.retention.hours=2"]);
    let cluster = configs(&[("log.retention.ms", "7"), ("message.max.bytes", "9")]);
    let broker = broker.with_dynamic(&cluster, &configs(&[])).unwrap();
    assert_eq!(described(&broker, "retention.ms"), "7");
    let config = topic_config(&broker, &configs(&[])).unwrap();
    assert_eq!(config.max_message_bytes, 9);
}

#[test]
fn a_wrong_topic_config_is_refused_with_a_reason() {
    for (key, value, message) in [
        (
            "retention.ms",
            "abc",
            "Invalid value abc for configuration retention.ms: not a whole number",
        ),
        (
            "retention.ms",
            "-2",
            "Invalid value -2 for configuration retention.ms: must be at least -1",
        ),
        (
            "compression.type",
            "zstd",
            "only producer is supported: Ottla keeps batches as the producer",
        ),
        (
            "compression.type",
            "uncompressed",
            "only producer is supported",
        ),
        ("remote.storage.enable", "true", "not built: tiered storage"),
        (
            "unclean.leader.election.enable",
            "true",
            "only false is supported",
        ),
        (
            "leader.replication.throttled.replicas",
            "*",
            "not built: replication throttles",
        ),
        (
            "cleanup.policy",
            "compact,none",
            "each element must be one of: compact, delete",
        ),
        ("segment.bytes", "100", "must be at least 1048576"),
        (
            "retention.m",
            "1",
            "Unknown topic config name: retention.m (did you mean retention.ms?)",
        ),
        (
            "log.retention.ms",
            "1",
            "Unknown topic config name: log.retention.ms",
        ),
        ("", "", "Unknown topic config name: "),
    ] {
        let error = validate_topic_config(key, value).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(!error.is_invalid_request());
    }
    for (key, value) in [
        ("compression.type", "producer"),
        ("remote.storage.enable", "false"),
        ("local.retention.ms", "-2"),
        ("flush.ms", "1000"),
        ("cleanup.policy", ""),
        ("leader.replication.throttled.replicas", ""),
    ] {
        assert_eq!(validate_topic_config(key, value), Ok(()), "{key}={value}");
    }
    let broker = server(&[]);
    let odd = configs(&[
        ("min.compaction.lag.ms", "2"),
        ("max.compaction.lag.ms", "1"),
    ]);
    let error = validate_topic_configs(&broker, &odd)
        .unwrap_err()
        .to_string();
    assert!(error.contains("min.compaction.lag.ms (2) is more than max.compaction.lag.ms (1)"));
    assert!(topic_config(&broker, &odd).is_ok());
}

fn entry(entries: &[ConfigEntry], name: &str) -> ConfigEntry {
    entries
        .iter()
        .find(|entry| entry.name == name)
        .unwrap()
        .clone()
}

/// Name, value and source of each synonym.
fn synonyms(entry: &ConfigEntry) -> Vec<(&str, &str, Source)> {
    let each = |s: &ConfigSynonym| (s.name, s.source);
    let values = entry
        .synonyms
        .iter()
        .map(|s| s.value.as_deref().unwrap_or("null"));
    let rest = entry.synonyms.iter().map(each);
    rest.zip(values)
        .map(|((name, source), value)| (name, value, source))
        .collect()
}

#[test]
fn a_topic_is_described_with_sources_and_synonyms() {
    let broker = server(&["log.retention.hours=2", "log.retention.minutes=3"]);
    let cluster = configs(&[("log.retention.ms", "7")]);
    let broker = broker.with_dynamic(&cluster, &configs(&[])).unwrap();
    let own = configs(&[("retention.ms", "9"), ("preallocate", "TRUE")]);
    let entries = describe_topic(&broker, &own);
    assert_eq!(entries.len(), topic::TOPIC.len());

    let retention = entry(&entries, "retention.ms");
    assert_eq!(retention.value.as_deref(), Some("9"));
    assert_eq!(
        (retention.source, retention.kind),
        (Source::DynamicTopic, Kind::Long)
    );
    assert!(!retention.read_only && !retention.is_sensitive);
    assert_eq!(
        synonyms(&retention),
        [
            ("retention.ms", "9", Source::DynamicTopic),
            ("log.retention.ms", "7", Source::DynamicDefaultBroker),
            ("log.retention.minutes", "3", Source::StaticBroker),
            ("log.retention.hours", "2", Source::StaticBroker),
            ("log.retention.hours", "168", Source::Default),
        ]
    );
    assert_eq!(
        entry(&entries, "preallocate").value.as_deref(),
        Some("true")
    );

    let entries = describe_topic(&server(&["log.retention.hours=2"]), &configs(&[]));
    let retention = entry(&entries, "retention.ms");
    assert_eq!(retention.value.as_deref(), Some("7200000"));
    assert_eq!(retention.source, Source::StaticBroker);
    assert_eq!(
        synonyms(&retention),
        [
            ("log.retention.hours", "2", Source::StaticBroker),
            ("log.retention.hours", "168", Source::Default),
        ]
    );
    let policy = entry(&entries, "cleanup.policy");
    assert_eq!(
        (policy.source, policy.value.as_deref()),
        (Source::Default, Some("delete"))
    );
    assert_eq!(
        synonyms(&policy),
        [("log.cleanup.policy", "delete", Source::Default)]
    );
    assert_eq!(entry(&entries, "remote.storage.enable").synonyms, []);
}

#[test]
fn a_broker_is_described() {
    let base = server(&["max.connections=10", "broker.rack=a"]);
    let dynamic = configs(&[("max.connections", "30")]);
    let broker = base
        .with_dynamic(&configs(&[("max.connections", "20")]), &dynamic)
        .unwrap();
    let entries = describe_broker(&broker);
    assert_eq!(entries.len(), broker::all().count());
    let connections = entry(&entries, "max.connections");
    assert_eq!(connections.value.as_deref(), Some("30"));
    assert!(!connections.read_only);
    assert_eq!(
        synonyms(&connections),
        [
            ("max.connections", "30", Source::DynamicBroker),
            ("max.connections", "20", Source::DynamicDefaultBroker),
            ("max.connections", "10", Source::StaticBroker),
            ("max.connections", "2147483647", Source::Default),
        ]
    );
    let rack = entry(&entries, "broker.rack");
    assert!(rack.read_only && rack.source == Source::StaticBroker);
    // The embedded default takes the place of the table's.
    let node = entry(&entries, "node.id");
    assert_eq!(synonyms(&node), [("node.id", "1", Source::Default)]);
    let password = entry(&entries, "ssl.key.password");
    assert!(password.is_sensitive && password.value.is_none());
    // Null, though hours supply a topic's default.
    let ms = entry(&entries, "log.retention.ms");
    assert_eq!(ms.value, None);
    assert_eq!(
        synonyms(&ms),
        [("log.retention.hours", "168", Source::Default)]
    );

    let shared = describe_cluster_default(&configs(&[("max.connections", "20")]));
    assert_eq!(shared.len(), 1);
    assert_eq!(shared[0].source, Source::DynamicDefaultBroker);
}

fn op(op: AlterOp, key: &str, value: &str) -> Alteration {
    Alteration {
        op,
        key: key.into(),
        value: Some(value.into()),
    }
}

#[test]
fn alterations_of_a_topic() {
    use AlterOp::*;
    let run = |current: &[(&str, &str)], ops: &[Alteration]| {
        alter(&configs(current), ops, Scope::Topic).map_err(|error| error.to_string())
    };
    let policy = "cleanup.policy";
    let cases: &[(Pairs, Alteration, Pairs)] = &[
        (
            &[],
            op(Set, "retention.ms", " 5 "),
            &[("retention.ms", "5")],
        ),
        (
            &[("retention.ms", "5")],
            op(Set, "retention.ms", "6"),
            &[("retention.ms", "6")],
        ),
        (
            &[("retention.ms", "5")],
            op(Delete, "retention.ms", ""),
            &[],
        ),
        (
            &[],
            op(Delete, "leader.replication.throttled.replicas", ""),
            &[],
        ),
        (&[("gone.since", "5")], op(Delete, "gone.since", ""), &[]),
        (
            &[(policy, "compact")],
            op(Append, policy, "delete"),
            &[(policy, "compact,delete")],
        ),
        (
            &[(policy, "compact")],
            op(Append, policy, "compact"),
            &[(policy, "compact")],
        ),
        // Unset is the default, `delete`.
        (
            &[],
            op(Append, policy, "compact"),
            &[(policy, "delete,compact")],
        ),
        (
            &[(policy, "compact,delete")],
            op(Subtract, policy, "compact"),
            &[(policy, "delete")],
        ),
        (
            &[(policy, "delete")],
            op(Subtract, policy, "compact"),
            &[(policy, "delete")],
        ),
        (&[], op(Subtract, policy, "delete"), &[(policy, "")]),
    ];
    for (current, alteration, expected) in cases {
        let found = run(current, std::slice::from_ref(alteration));
        assert_eq!(found, Ok(configs(expected)), "{alteration:?}");
    }
    let bad = |ops: &[Alteration]| run(&[], ops).unwrap_err();
    assert_eq!(
        bad(&[op(Append, "retention.ms", "1")]),
        "Can't APPEND to key retention.ms because its type is not LIST."
    );
    assert!(bad(&[op(Subtract, "retention.ms", "1")]).starts_with("Can't SUBTRACT to key"));
    assert!(bad(&[op(Append, policy, "none")]).contains("each element must be one of"));
    // Each half fits into a request of any version, both together into no answer of some.
    let (list, half) = ("leader.replication.throttled.replicas", "x".repeat(20_000));
    let whole = run(&[(list, &half)], &[op(Append, list, &"y".repeat(20_000))]);
    assert!(whole.unwrap_err().contains("must be no longer than 32767"));
    assert!(bad(&[op(Set, "no.such", "1")]).starts_with("Unknown topic config name: no.such"));
    assert!(bad(&[op(Delete, "no.such", "1")]).starts_with("Unknown topic config name: no.such"));
    let twice = [op(Set, "flush.ms", "1"), op(Delete, "flush.ms", "")];
    assert_eq!(bad(&twice), "Error due to duplicate config keys: flush.ms");
    let null = Alteration {
        op: Set,
        key: "flush.ms".into(),
        value: None,
    };
    assert_eq!(bad(&[null]), "Null value not supported for: flush.ms");
}

#[test]
fn alterations_of_a_broker() {
    use AlterOp::*;
    let run = |alteration, scope| alter(&configs(&[]), &[alteration], scope);
    for scope in [Scope::Broker, Scope::ClusterDefault] {
        let done = run(op(Set, "log.retention.ms", "5"), scope);
        assert_eq!(done, Ok(configs(&[("log.retention.ms", "5")])));
        let error = run(op(Set, "listeners", "PLAINTEXT://:1"), scope).unwrap_err();
        assert!(error.is_invalid_request());
        assert!(
            error
                .to_string()
                .starts_with("Cannot update these configs dynamically: listeners")
        );
        assert!(run(op(Set, "compression.type", "gzip"), scope).is_err());
        assert!(run(op(Set, "num.io.threads", "4"), scope).is_err());
        assert!(run(op(Set, "retention.ms", "4"), scope).is_err());
    }
    let throttle = || op(Set, "follower.replication.throttled.rate", "1");
    let error = run(throttle(), Scope::Broker).unwrap_err().to_string();
    assert!(
        error.ends_with("not built: replication throttles"),
        "{error}"
    );
    let error = run(throttle(), Scope::ClusterDefault).unwrap_err();
    assert_eq!(
        error,
        ConfigError::PerBrokerOnly("follower.replication.throttled.rate".into())
    );

    let all = [("flush.ms".to_owned(), Some("1".to_owned()))];
    assert_eq!(
        replace(&all, Scope::Topic),
        Ok(configs(&[("flush.ms", "1")]))
    );
}

/// What `alter` lets through, `with_dynamic` and `topic_config` can work with.
#[test]
fn what_is_accepted_can_be_used() {
    let values = [
        "",
        "0",
        "-1",
        "1",
        "true",
        "FALSE",
        "compact",
        "delete,compact",
        "0.5",
        "x",
        "1e9",
        "LogAppendTime",
        "producer",
        "9223372036854775807",
        "2147483648",
        " 7 ",
        "+7",
        "a:1",
    ];
    let broker_keys: Vec<_> = broker::all().map(|def| def.name).collect();
    let base = server(&[]);
    let mut random = Random::new(4);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let value = values[random.below(values.len())];
        let kind = [AlterOp::Set, AlterOp::Append, AlterOp::Subtract][random.below(3)];
        let key = topic::TOPIC[random.below(topic::TOPIC.len())].name;
        if let Ok(own) = alter(&configs(&[]), &[op(kind, key, value)], Scope::Topic) {
            topic_config(&base, &own).unwrap();
            assert_eq!(describe_topic(&base, &own).len(), topic::TOPIC.len());
            accepted += 1;
        }
        let key = broker_keys[random.below(broker_keys.len())];
        if let Ok(own) = alter(&configs(&[]), &[op(kind, key, value)], Scope::Broker)
            && let Ok(changed) = base.with_dynamic(&configs(&[]), &own)
        {
            topic_config(&changed, &configs(&[])).unwrap();
            accepted += 1;
        }
    }
    assert!(accepted > 1_000);
}

mod refused;

use std::collections::BTreeMap;

use super::*;
use crate::config::testing::Random;

fn load(
    file: Option<&str>,
    env: &[(&str, &str)],
    overrides: &[&str],
) -> Result<(ServerConfig, Vec<Notice>), ConfigErrors> {
    let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    let overrides: Vec<_> = overrides.iter().map(|s| s.to_string()).collect();
    ServerConfig::load(
        file.map(|text| ("server.properties", text)),
        env,
        &overrides,
    )
}

fn errors(file: Option<&str>, env: &[(&str, &str)], overrides: &[&str]) -> Vec<String> {
    match load(file, env, overrides) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// A combined server as Kafka's own sample file sets one up.
const SAMPLE: &str = "\
# Server basics
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093

listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\\
    SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600

log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1

offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1

#log.flush.interval.messages=10000
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

#[test]
fn kafkas_sample_file_is_taken_as_it_is() {
    let (config, notices) = load(Some(SAMPLE), &[], &[]).unwrap();
    assert_eq!(
        config.roles,
        Roles {
            broker: true,
            controller: true
        }
    );
    assert_eq!(config.node_id, 1);
    let shown = |l: &[Listener]| l.iter().map(Listener::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&config.listeners.broker), ["PLAINTEXT://:9092"]);
    assert_eq!(shown(&config.listeners.controller), ["CONTROLLER://:9093"]);
    assert_eq!(
        shown(&config.listeners.advertised),
        ["PLAINTEXT://localhost:9092"]
    );
    assert_eq!(
        shown(&config.listeners.advertised_controller),
        ["CONTROLLER://localhost:9093"]
    );
    assert_eq!(config.listeners.inter_broker_name, "PLAINTEXT");
    let quorum = HostPort {
        host: "localhost".into(),
        port: 9093,
    };
    assert_eq!(config.quorum_bootstrap_servers, [quorum]);
    assert_eq!(config.log_dir, PathBuf::from("/tmp/kraft-combined-logs"));
    assert_eq!(config.offsets.replication_factor, 1);
    assert_eq!(config.offsets.num_partitions, 50);
    assert_eq!(config.groups.initial_rebalance_delay_ms, 3_000);
    assert_eq!(config.transactions.min_insync_replicas, 1);
    assert_eq!(config.connections.request_max_bytes, 100 << 20);
    let line = notices_line(&notices).unwrap();
    assert!(line.starts_with("accepted without effect: "), "{line}");
    assert!(
        line.contains("share.coordinator.state.topic.min.isr"),
        "{line}"
    );
    // Only what has no effect, and what was set.
    for absent in ["\n", "num.partitions", "log.retention", "log.segment.bytes"] {
        assert!(!line.contains(absent), "{absent:?} in {line}");
    }
}

#[test]
fn what_is_in_effect_in_part_is_said_apart() {
    let topic = "transaction.state.log.num.partitions=3";
    let (_, notices) = load(None, &[], &["log.index.interval.bytes=1", topic]).unwrap();
    assert_eq!(
        notices_line(&notices).unwrap(),
        "accepted without effect: log.index.interval.bytes (records are rows of RocksDB, not \
         segment files); in effect in part: transaction.state.log.num.partitions (transactions are \
         not built yet; the topic exists only if a client asks for it by name)"
    );
    let (_, notices) = load(None, &[], &[topic]).unwrap();
    let line = notices_line(&notices).unwrap();
    assert!(line.starts_with("in effect in part: "), "{line}");
    assert_eq!(notices_line(&[]), None);
}

#[test]
fn a_broker_of_a_cluster_from_the_environment_of_a_container() {
    let env = [
        ("KAFKA_NODE_ID", "4"),
        ("KAFKA_PROCESS_ROLES", "broker"),
        (
            "KAFKA_LISTENERS",
            "PLAINTEXT://:19092,PLAINTEXT_HOST://:9092",
        ),
        (
            "KAFKA_ADVERTISED_LISTENERS",
            "PLAINTEXT://broker-1:19092,PLAINTEXT_HOST://localhost:9092",
        ),
        ("KAFKA_INTER_BROKER_LISTENER_NAME", "PLAINTEXT"),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        (
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT",
        ),
        (
            "KAFKA_CONTROLLER_QUORUM_VOTERS",
            "1@c-1:9093,2@c-2:9093,3@c-3:9093",
        ),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
        ("KAFKA_HEAP_OPTS", "-Xmx1G"),
        ("KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1"),
        ("PATH", "/usr/bin"),
    ];
    let (config, notices) = load(None, &env, &[]).unwrap();
    let keys: Vec<_> = notices.iter().map(|notice| notice.key.as_str()).collect();
    assert!(keys.is_empty(), "{keys:?}");
    assert_eq!(config.node_id, 4);
    assert_eq!(
        config.roles,
        Roles {
            broker: true,
            controller: false
        }
    );
    assert_eq!(config.quorum_voters.len(), 3);
    assert_eq!(
        config.quorum_voters[1],
        QuorumVoter {
            id: 2,
            host: "c-2".into(),
            port: 9093
        }
    );
    assert_eq!(config.listeners.advertised[1].host, "localhost");
    assert_eq!(config.groups.initial_rebalance_delay_ms, 0);
    // A member of a cluster gets Kafka's default, not that of a laptop.
    assert_eq!(config.offsets.replication_factor, 3);
    let origin = config.values().origin("node.id").unwrap().to_string();
    assert_eq!(origin, "environment KAFKA_NODE_ID");
}

#[test]
fn without_a_word_it_is_a_cluster_of_its_own() {
    let (config, notices) = load(None, &[], &[]).unwrap();
    assert_eq!(notices, []);
    assert_eq!(
        config.roles,
        Roles {
            broker: true,
            controller: true
        }
    );
    assert_eq!(
        config.listeners.advertised[0].to_string(),
        "PLAINTEXT://127.0.0.1:9092"
    );
    assert_eq!(config.listeners.controller, []);
    assert_eq!(config.log_dir, PathBuf::from("./ottla-data"));
    assert_eq!(config.offsets.replication_factor, 1);
    assert!(config.topic_creation.auto_create);
    let metrics = HostPort {
        host: "127.0.0.1".into(),
        port: 9644,
    };
    assert_eq!(config.metrics_listener, Some(metrics));
    assert_eq!(config.connections.max_idle_ms, Some(600_000));
    assert_eq!(config.connections.queued_max_request_bytes, None);

    let (config, _) = load(None, &[], &["ottla.metrics.listener=", "log.dirs=/data"]).unwrap();
    assert_eq!(config.metrics_listener, None);
    assert_eq!(config.log_dir, PathBuf::from("/data"));
}

#[test]
fn later_sources_win() {
    let file = format!("{SAMPLE}\nnum.partitions=2\nnum.partitions=3\n");
    let of = |config: ServerConfig| {
        let origin = config
            .values()
            .origin("num.partitions")
            .unwrap()
            .to_string();
        (config.topic_creation.num_partitions, origin)
    };
    let env = [("KAFKA_NUM_PARTITIONS", "4")];
    let (config, _) = load(Some(&file), &[], &[]).unwrap();
    let line = file.lines().count();
    assert_eq!(of(config), (3, format!("server.properties:{line}")));
    let (config, _) = load(Some(&file), &env, &[]).unwrap();
    assert_eq!(of(config), (4, "environment KAFKA_NUM_PARTITIONS".into()));
    let (config, _) = load(Some(&file), &env, &["num.partitions=5", "num.partitions=6"]).unwrap();
    assert_eq!(of(config), (6, "--override".into()));
    // A wrong value that is overridden does no harm.
    load(
        Some(&file),
        &[("KAFKA_NUM_PARTITIONS", "x")],
        &["num.partitions=6"],
    )
    .unwrap();
}

#[test]
fn every_mistake_is_reported_on_its_own_line() {
    let file = format!("num.partitons=3\n{SAMPLE}log.retention.hours=abc\nretention.ms=1\n");
    let lines = file.lines().count();
    let found = errors(
        Some(&file),
        &[
            ("KAFKA_NUM_PARTITONS", "1"),
            ("KAFKA_CFG_NODE_ID", "1"),
            ("KAFKA_SSL_KEY_PASSWORD", "hunter2"),
        ],
        &["nonsense", "fetch.max.bytes=10", "=1"],
    );
    let expected = [
        "--override: nonsense: not of the form key=value".to_owned(),
        "--override: =1: not of the form key=value".into(),
        format!(
            "server.properties:{}: log.retention.hours=abc: not a whole number",
            lines - 1
        ),
        format!(
            "server.properties:{lines}: retention.ms is a config of topics; its default for all \
             topics is log.retention.ms"
        ),
        "environment KAFKA_CFG_NODE_ID: cfg.node.id is not a configuration key; did you mean \
         node.id (KAFKA_NODE_ID)?"
            .into(),
        "environment KAFKA_NUM_PARTITONS: num.partitons is not a configuration key; did you mean \
         num.partitions (KAFKA_NUM_PARTITIONS)?"
            .into(),
        "environment KAFKA_SSL_KEY_PASSWORD: ssl.key.password=[hidden]: not built: TLS".into(),
        "--override: fetch.max.bytes=10: must be at least 1024".into(),
    ];
    assert_eq!(found, expected);
    let found = errors(Some("num.partitons=1"), &[], &[]);
    assert_eq!(
        found[0],
        "server.properties:1: num.partitons is not a configuration key; did you mean \
         num.partitions?"
    );
}

#[test]
fn one_mistake_does_not_drag_others_along() {
    for (overrides, place) in [
        (["node.id=one"], "node.id=one"),
        (["process.roles=both"], "process.roles=both"),
        (
            ["broker.session.timeout.ms=0"],
            "broker.session.timeout.ms=0",
        ),
    ] {
        let found = errors(Some(SAMPLE), &[], &overrides);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(place), "{found:#?}");
    }
    let found = errors(Some("a=\\u12"), &[], &[]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("server.properties:1: \\u must be"),
        "{found:#?}"
    );
}

#[test]
fn an_error_is_one_line_whatever_was_in_the_file() {
    let found = errors(
        Some("a\\nb\\u001b=1\nprocess.roles=broker,controller\nnode.id=1"),
        &[],
        &[],
    );
    assert_eq!(
        found,
        ["server.properties:1: a?b? is not a configuration key"]
    );
}

#[test]
fn a_file_for_zookeeper_is_told_apart() {
    let file = "broker.id=0\nzookeeper.connect=localhost:2181\nlog.dirs=/tmp/kafka-logs\n";
    let found = errors(Some(file), &[], &[]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].contains("process.roles: is required: this file is for a Kafka with ZooKeeper")
    );
}

#[test]
fn keys_of_other_versions_and_parts_are_accepted_and_named() {
    let overrides = [
        "zookeeper.session.timeout.ms=1",
        "inter.broker.protocol.version=3.9",
        "confluent.support.metrics.enable=false",
        "listener.name.plaintext.num.network.threads=4",
        "ssl.client.auth=none",
        "sasl.enabled.mechanisms=",
    ];
    let (_, notices) = load(None, &[], &overrides).unwrap();
    let keys: Vec<_> = notices.iter().map(|notice| notice.key.as_str()).collect();
    let expected: Vec<_> = overrides[..4]
        .iter()
        .map(|o| o.split('=').next().unwrap())
        .collect();
    assert_eq!(keys, expected);
}

#[test]
fn addresses() {
    let listeners = "listeners=PLAINTEXT://[::1]:9092,OTHER://host_1.example:0";
    let map = "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,OTHER:PLAINTEXT";
    let (mut config, _) = load(None, &[], &[listeners, map]).unwrap();
    assert_eq!(config.listeners.broker[0].host, "::1");
    assert_eq!(
        config.listeners.broker[0].to_string(),
        "PLAINTEXT://[::1]:9092"
    );
    assert_eq!(config.listeners.broker[1].port, 0);
    config.set_own_host("me");
    assert_eq!(config.listeners.advertised[0].host, "::1");

    let (mut config, _) = load(None, &[], &["listeners=PLAINTEXT://:9092"]).unwrap();
    assert_eq!(config.listeners.advertised[0].host, "");
    config.set_own_host("me");
    assert_eq!(config.listeners.advertised[0].host, "me");
    assert_eq!(config.listeners.broker[0].host, "");
    let config = config
        .with_dynamic(&BTreeMap::new(), &BTreeMap::new())
        .unwrap();
    assert_eq!(config.listeners.advertised[0].host, "me");
}

#[test]
fn dynamic_configs_lie_on_top_and_can_be_taken_off() {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    };
    let (base, _) = load(None, &[], &["max.connections=10"]).unwrap();
    let cluster = map(&[("max.connections", "20"), ("max.connections.per.ip", "5")]);
    let config = base
        .with_dynamic(&cluster, &map(&[("max.connections", "30")]))
        .unwrap();
    assert_eq!(config.connections.max_connections, 30);
    assert_eq!(config.connections.max_connections_per_ip, 5);
    assert_eq!(
        config
            .with_dynamic(&cluster, &map(&[]))
            .unwrap()
            .connections
            .max_connections,
        20
    );
    assert_eq!(config.with_dynamic(&map(&[]), &map(&[])).unwrap(), base);

    let refused = |pairs| {
        base.with_dynamic(&map(pairs), &map(&[]))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(&[("num.partitions", "2")]),
        "cluster-wide dynamic config: num.partitions: read at start-up only"
    );
    assert!(refused(&[("max.connections", "-1")]).contains("must be at least 0"));
    assert!(refused(&[("max.conections", "1")]).contains("did you mean max.connections?"));
}

/// Whatever a file holds, there is an answer, and each error is one line.
#[test]
fn no_file_makes_it_panic() {
    let keys: Vec<_> = crate::config::definitions::broker::all()
        .map(|def| def.name)
        .collect();
    let values = [
        "",
        "0",
        "-1",
        "1",
        "true",
        "x",
        "a,b",
        "9223372036854775807",
        "99999999999999999999999",
        "PLAINTEXT://:1",
        "A://b:c",
        "1@b:2",
        "://",
        "[",
        "1e400",
        "-",
        ":",
        "@",
        "é",
        "a:1,b:2",
    ];
    let mut random = Random::new(3);
    for _ in 0..2_000 {
        let mut file = String::new();
        for _ in 0..random.below(12) {
            let key = keys[random.below(keys.len())];
            file.push_str(&format!("{key}={}\n", values[random.below(values.len())]));
        }
        if random.below(2) == 0 {
            file.push_str(SAMPLE);
        }
        if let Err(errors) = load(Some(&file), &[], &[]) {
            assert_eq!(errors.to_string().lines().count(), errors.0.len(), "{file}");
        }
    }
}

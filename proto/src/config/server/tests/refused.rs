//! Configurations that are wrong as a whole.

use super::{SAMPLE, errors};

/// Each row changes the sample by overrides, and names what the one message must contain.
#[test]
fn what_does_not_fit_together_is_refused() {
    let cases: &[(&[&str], &str)] = &[
        (&["process.roles="], "process.roles: is required"),
        (
            &["process.roles=zookeeper"],
            "each element must be one of: broker, controller",
        ),
        (&["node.id=-1"], "node.id: is required"),
        (
            &["broker.id=2"],
            "broker.id: node.id is 1 and broker.id is 2",
        ),
        (&["log.dirs=/a,/b"], "log.dirs: names 2 directories"),
        (
            &["listeners=PLAINTEXT://:9092"],
            "a controller needs a listener",
        ),
        (
            &["listeners=PLAINTEXT://:9092,CONTROLLER://:9092"],
            "have the same port",
        ),
        (
            &[
                "listeners=PLAINTEXT:9092,CONTROLLER://:9093",
                "advertised.listeners=CONTROLLER://c:9093",
            ],
            "listeners: PLAINTEXT:9092: not of the form name://host:port",
        ),
        (
            &[
                "listeners=PLAINTEXT://:99999,CONTROLLER://:9093,A://:1",
                "advertised.listeners=",
            ],
            "not of the form name://host:port",
        ),
        (
            &["listeners=PLAINTEXT://:9092,CONTROLLER://:9093,X://:9094"],
            "has no protocol for X",
        ),
        (
            &["listeners=PLAINTEXT://:9092,CONTROLLER://:9093,SSL://:9094"],
            "not built: TLS and SASL",
        ),
        (
            &["listeners=PLAINTEXT://:1,plaintext://:2,CONTROLLER://:3"],
            "PLAINTEXT occurs twice",
        ),
        (
            &["listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,A:B"],
            "A:B: not of the form name:protocol",
        ),
        (
            &["advertised.listeners=PLAINTEXT://0.0.0.0:9092"],
            "nobody can connect to 0.0.0.0",
        ),
        (
            &[
                "advertised.listeners=",
                "listeners=PLAINTEXT://[::]:9092,CONTROLLER://:9093",
            ],
            "nobody can connect to ::",
        ),
        (
            &["inter.broker.listener.name=OTHER"],
            "OTHER must be one of advertised.listeners",
        ),
        (
            &["inter.broker.listener.name=CONTROLLER"],
            "CONTROLLER is a listener of controllers",
        ),
        (&["security.inter.broker.protocol=PLAINTEXT"], "only one of"),
        (
            &["controller.quorum.voters=1:9093"],
            "not of the form id@host:port",
        ),
        (
            &["controller.quorum.voters=1@a:1,1@b:1"],
            "the voter 1 occurs twice",
        ),
        (
            &["controller.quorum.voters=2@a:1,3@b:1"],
            "none has the id 1",
        ),
        (
            &[
                "controller.quorum.voters=1@a:1,2@b:1",
                "controller.listener.names=",
                "listeners=PLAINTEXT://:9092",
                "advertised.listeners=PLAINTEXT://a:9092",
            ],
            "controller.listener.names: is required",
        ),
        (
            &["controller.quorum.bootstrap.servers=localhost"],
            "not of the form host:port",
        ),
        (
            &[
                "process.roles=broker",
                "listeners=PLAINTEXT://:9092",
                "controller.quorum.bootstrap.servers=",
            ],
            "a broker needs the addresses",
        ),
        (
            &["process.roles=broker"],
            "CONTROLLER is a listener of controllers",
        ),
        (&["process.roles=controller"], "it does not name PLAINTEXT"),
        (
            &[
                "controller.listener.names=PLAINTEXT,CONTROLLER",
                "inter.broker.listener.name=",
                "process.roles=broker,controller",
            ],
            "there is no listener for the broker",
        ),
        (
            &["ottla.metrics.listener=9644"],
            "ottla.metrics.listener: 9644: not of the form",
        ),
        (
            &["max.connections.per.ip.overrides=10.0.0.1:1,b"],
            "b: not of the form address:count",
        ),
        (
            &["max.connections.per.ip.overrides=localhost:1"],
            "with an IP address",
        ),
        (
            &["queued.max.request.bytes=1"],
            "must be at least socket.request.max.bytes",
        ),
        (
            &["broker.heartbeat.interval.ms=9000"],
            "must be less than broker.session.timeout.ms",
        ),
        (
            &["group.min.session.timeout.ms=2000000"],
            "is more than group.max.session.timeout.ms",
        ),
        (&["group.consumer.assignors="], "must name at least one"),
        (
            &["group.coordinator.rebalance.protocols=consumer"],
            "must have classic in it",
        ),
        (
            &["log.retention.ms=0"],
            "log.retention.ms: must be -1, or at least 1",
        ),
        (
            &[
                "log.cleaner.min.compaction.lag.ms=2",
                "log.cleaner.max.compaction.lag.ms=1",
            ],
            "2 is more than log.cleaner.max.compaction.lag.ms",
        ),
        // Without effect, and yet a mistake.
        (
            &["replica.fetch.wait.max.ms=30001"],
            "30001 is more than replica.socket.timeout.ms",
        ),
        (&["log.cleaner.threads=two"], "not a whole number"),
        (&["log.retention.bytes=1.5"], "not a whole number"),
        (
            &["group.consumer.migration.policy=sideways"],
            "must be one of: bidirectional",
        ),
        (
            &["listener.name.plaintext.num.io.threads=many"],
            "not a whole number",
        ),
        (
            &["authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"],
            "not built: authorization (ACLs)",
        ),
        (
            &["unclean.leader.election.enable=true"],
            "only false is supported",
        ),
        (
            &["sasl.unheard.of=1"],
            "sasl.unheard.of: not built: SASL authentication",
        ),
        (
            &["listener.name.plaintext.ssl.keystore.location=/k"],
            "not built: TLS",
        ),
        (
            &["listener.name.plaintext.plain.sasl.jaas.config=x"],
            "listener.name.plaintext.plain.sasl.jaas.config=[hidden]: not built: SASL",
        ),
        (
            &["listener.name.plaintext.max.connections=1"],
            "not built: values per listener",
        ),
        (
            &["listener.name.other.num.io.threads=1"],
            "there is no listener other",
        ),
        (
            &["listener.name.plaintext.nonsense=1"],
            "is not a configuration key",
        ),
    ];
    for (overrides, expected) in cases {
        let found = errors(Some(SAMPLE), &[], overrides);
        assert!(
            found.iter().any(|e| e.contains(expected)),
            "{overrides:?}: {found:#?}"
        );
    }
}

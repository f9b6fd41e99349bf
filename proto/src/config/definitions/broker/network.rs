//! Listeners, connections and requests.

use super::super::{ALONE, ConfigDef, Valid, int, list, long, text, text_unset};
use super::{BOUNDED_WAITS, THREADS};

pub(super) static DEFS: &[ConfigDef] = &[
    list(
        "listeners",
        "PLAINTEXT://:9092",
        "Where the server listens, as `name://host:port`, comma separated. An empty host or \
         0.0.0.0 is every interface.",
    )
    .high(),
    list(
        "advertised.listeners",
        "",
        "The addresses that clients are told, as `name://host:port`; those of `listeners` if unset.",
    )
    .high(),
    text(
        "listener.security.protocol.map",
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        "The security protocol of each listener name, as `name:protocol`. A listener in use must \
         map to PLAINTEXT.",
    )
    .high(),
    text_unset(
        "inter.broker.listener.name",
        "The listener that brokers use among themselves; PLAINTEXT if unset.",
    )
    .no_effect(ALONE),
    text(
        "security.inter.broker.protocol",
        "PLAINTEXT",
        "The security protocol between brokers, if `inter.broker.listener.name` is unset.",
    )
    .valid(Valid::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]))
    .only(&["PLAINTEXT"], "not built: TLS and SASL"),
    list(
        "controller.listener.names",
        "",
        "The listeners of the controller, comma separated. Clients never use them.",
    )
    .high(),
    int(
        "socket.send.buffer.bytes",
        "-1",
        "SO_SNDBUF of a connection; -1, Ottla's default, leaves it to the system (Kafka's is 102400).",
    )
    .at_least(-1)
    .high(),
    int(
        "socket.receive.buffer.bytes",
        "-1",
        "SO_RCVBUF of a connection; -1, Ottla's default, leaves it to the system (Kafka's is 102400).",
    )
    .at_least(-1)
    .high(),
    int(
        "socket.request.max.bytes",
        "104857600",
        "The largest request. A connection that announces a larger one is closed. At most five \
         eighths of queued.max.request.bytes, or half of that if it is more; without records \
         (all but Produce) 16 MiB, or an eighth.",
    )
    .at_least(1024)
    .high(),
    int(
        "socket.listen.backlog.size",
        "50",
        "Connections that may wait to be accepted.",
    )
    .at_least(1),
    long(
        "socket.connection.setup.timeout.ms",
        "10000",
        "How long a connection to another node may take to open.",
    )
    .at_least(1)
    .no_effect(ALONE),
    long(
        "socket.connection.setup.timeout.max.ms",
        "30000",
        "The longest that the previous timeout grows to after failures.",
    )
    .at_least(1)
    .no_effect(ALONE),
    int(
        "max.connections",
        "2147483647",
        "Connections that the broker holds at once, over all listeners.",
    )
    .at_least(0)
    .cluster_wide(),
    int(
        "max.connections.per.ip",
        "2147483647",
        "Connections that the broker holds at once from one address.",
    )
    .at_least(0)
    .cluster_wide(),
    text(
        "max.connections.per.ip.overrides",
        "",
        "Other limits for some IP addresses, as `address:count`, comma separated. A host name is \
         refused: it is not looked up.",
    )
    .cluster_wide(),
    int(
        "max.connection.creation.rate",
        "2147483647",
        "New connections that the broker accepts in a second, over all listeners. Those beyond it \
         wait.",
    )
    .at_least(0)
    .cluster_wide(),
    long(
        "connections.max.idle.ms",
        "600000",
        "A connection that is idle for longer is closed; -1 is never.",
    )
    .at_least(-1),
    int(
        "connection.failed.authentication.delay.ms",
        "100",
        "How long a connection whose authentication failed is kept open.",
    )
    .at_least(0)
    .low()
    .no_effect("no listener authenticates"),
    int(
        "num.network.threads",
        "3",
        "Threads that read requests and write answers.",
    )
    .at_least(1)
    .high()
    .no_effect(THREADS),
    int(
        "num.io.threads",
        "8",
        "Threads that process requests.",
    )
    .at_least(1)
    .high()
    .no_effect(THREADS),
    int(
        "queued.max.requests",
        "500",
        "Requests that may wait for a thread at once.",
    )
    .at_least(1)
    .high()
    .no_effect("a request is worked on as soon as it is read: none is queued"),
    long(
        "queued.max.request.bytes",
        "-1",
        "Bytes of requests, of those over 16 KiB, that may be in memory unprocessed at once; beyond \
         it, connections wait to be read. -1 is three 32nds of the memory (ottla.memory.bytes).",
    )
    .at_least(-1),
    int(
        "request.timeout.ms",
        "30000",
        "How long a request to another node may take.",
    )
    .at_least(1)
    .high()
    .no_effect(ALONE),
    int(
        "fetch.max.bytes",
        "57671680",
        "The most that one fetch returns, whatever the client asks for.",
    )
    .at_least(1024),
    int(
        "max.request.partition.size.limit",
        "2000",
        "Partitions that one DescribeTopicPartitions answer holds.",
    )
    .at_least(1),
    int(
        "max.incremental.fetch.session.cache.slots",
        "1000",
        "Incremental fetch sessions that the broker holds (KIP-227).",
    )
    .at_least(0)
    .no_effect("every fetch is a full one: no session is kept"),
    int(
        "fetch.purgatory.purge.interval.requests",
        "1000",
        "Requests after which Kafka sweeps its waiting fetches.",
    )
    .no_effect(BOUNDED_WAITS),
    int(
        "producer.purgatory.purge.interval.requests",
        "1000",
        "Requests after which Kafka sweeps its waiting produces.",
    )
    .no_effect(BOUNDED_WAITS),
    int(
        "delete.records.purgatory.purge.interval.requests",
        "1",
        "Requests after which Kafka sweeps its waiting DeleteRecords.",
    )
    .no_effect(BOUNDED_WAITS),
];

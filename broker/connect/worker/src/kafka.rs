//! Clients of the brokers, from Kafka's keys.
//!
//! The client library has Kafka's names for most keys; the rest is translated or refused here, so that no
//! key of a file is ignored in silence.

use ottla_connect::config::{Props, with_prefix};
use ottla_connect::error::ConnectError;
use rdkafka::ClientConfig;

/// Keys that go to every client as they are.
const COMMON: &[&str] = &[
    "bootstrap.servers",
    "client.id",
    "client.dns.lookup",
    "client.rack",
    "connections.max.idle.ms",
    "metadata.max.age.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "security.protocol",
    "socket.connection.setup.timeout.ms",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.password",
];

const CONSUMER: &[&str] = &[
    "auto.offset.reset",
    "check.crcs",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "group.id",
    "group.instance.id",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "session.timeout.ms",
];

const PRODUCER: &[&str] = &[
    "acks",
    "batch.size",
    "compression.type",
    "delivery.timeout.ms",
    "linger.ms",
    "request.timeout.ms",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Consumer,
    Producer,
    Admin,
}

impl Role {
    fn prefix(self) -> &'static str {
        match self {
            Role::Consumer => "consumer.",
            Role::Producer => "producer.",
            Role::Admin => "admin.",
        }
    }

    fn overrides(self) -> &'static str {
        match self {
            Role::Consumer => "consumer.override.",
            Role::Producer => "producer.override.",
            Role::Admin => "admin.override.",
        }
    }
}

/// `connector.client.config.override.policy`
fn check_policy(worker: &Props, key: &str) -> Result<(), ConnectError> {
    let policy = worker.get("connector.client.config.override.policy");
    let policy = policy.map_or("All", String::as_str);
    let policy = policy.rsplit('.').next().unwrap_or(policy);
    let principal = ["sasl.jaas.config", "sasl.mechanism", "security.protocol"];
    let allowed = match policy
        .strip_suffix("ConnectorClientConfigOverridePolicy")
        .unwrap_or(policy)
    {
        "None" => false,
        "Principal" => principal.contains(&key),
        "Allowlist" => {
            let list = worker.get("connector.client.config.override.allowlist");
            list.is_some_and(|l| l.split(',').any(|k| k.trim() == key))
        }
        _ => true,
    };
    if allowed {
        return Ok(());
    }
    Err(ConnectError::config(format!(
        "The '{policy}' policy does not allow '{key}' to be overridden in the connector configuration."
    )))
}

/// The keys of a client: the worker's, then those under the role's prefix, then the connector's.
pub fn client_keys(role: Role, worker: &Props, connector: &Props) -> Result<Props, ConnectError> {
    let mut keys = Props::new();
    let everybody = [
        "bootstrap.servers",
        "client.dns.lookup",
        "security.protocol",
    ];
    for (key, value) in worker {
        let security = key.starts_with("sasl.") || key.starts_with("ssl.");
        if security || everybody.contains(&key.as_str()) {
            keys.insert(key.clone(), value.clone());
        }
    }
    keys.extend(with_prefix(worker, role.prefix()));
    for (key, value) in with_prefix(connector, role.overrides()) {
        check_policy(worker, &key)?;
        keys.insert(key, value);
    }
    Ok(keys)
}

/// The client library's configuration, or the key that it cannot follow.
pub fn client_config(role: Role, keys: &Props) -> Result<ClientConfig, ConnectError> {
    let mut config = ClientConfig::new();
    for (key, value) in keys {
        let value = value.trim();
        let own = match role {
            Role::Consumer => CONSUMER,
            Role::Producer => PRODUCER,
            Role::Admin => &[],
        };
        if COMMON.contains(&key.as_str()) || own.contains(&key.as_str()) {
            config.set(key, value);
        } else {
            translate(role, key, value, &mut config)?;
        }
    }
    Ok(config)
}

/// Keys whose name or value differs.
fn translate(
    role: Role,
    key: &str,
    value: &str,
    config: &mut ClientConfig,
) -> Result<(), ConnectError> {
    match (role, key) {
        (Role::Consumer, "fetch.max.wait.ms") => {
            config.set("fetch.wait.max.ms", value);
        }
        // How many records a poll gives is decided by bytes here.
        (Role::Consumer, "max.poll.records" | "receive.buffer.bytes" | "send.buffer.bytes") => {}
        (Role::Consumer, "partition.assignment.strategy") => {
            config.set(key, strategies(value)?);
        }
        (Role::Producer, "max.request.size") => {
            config.set("message.max.bytes", value);
        }
        (Role::Producer, "buffer.memory") => {
            let bytes: u64 = value.parse().map_err(|_| bad(key, value, "a number"))?;
            let kilobytes = (bytes / 1024).clamp(1, i32::MAX as u64);
            config.set("queue.buffering.max.kbytes", kilobytes.to_string());
        }
        (_, "request.timeout.ms" | "default.api.timeout.ms") => {
            config.set("socket.timeout.ms", value);
        }
        (_, "sasl.jaas.config") => jaas(value, config)?,
        (_, "ssl.truststore.type" | "ssl.keystore.type") if value.eq_ignore_ascii_case("PEM") => {}
        (_, "ssl.truststore.certificates") => {
            config.set("ssl.ca.pem", value);
        }
        (_, "ssl.truststore.location") if value.ends_with(".pem") => {
            config.set("ssl.ca.location", value);
        }
        (_, "ssl.keystore.certificate.chain") => {
            config.set("ssl.certificate.pem", value);
        }
        (_, "ssl.keystore.key") => {
            config.set("ssl.key.pem", value);
        }
        _ => {
            let name = format!("{}{key}", role.prefix());
            return Err(ConnectError::config(format!(
                "{name} is not supported by this worker's clients (stores of keys are read as PEM)"
            )));
        }
    }
    Ok(())
}

fn bad(key: &str, value: &str, what: &str) -> ConnectError {
    ConnectError::config(format!(
        "Invalid value {value} for configuration {key}: not {what}"
    ))
}

fn strategies(value: &str) -> Result<String, ConnectError> {
    let names = value.split(',').map(|class| {
        let simple = class.trim().rsplit('.').next().unwrap_or_default();
        match simple {
            "RangeAssignor" => Ok("range"),
            "RoundRobinAssignor" => Ok("roundrobin"),
            "CooperativeStickyAssignor" => Ok("cooperative-sticky"),
            _ => Err(bad(
                "partition.assignment.strategy",
                simple,
                "an assignor that is built in",
            )),
        }
    });
    Ok(names.collect::<Result<Vec<_>, _>>()?.join(","))
}

/// `... PlainLoginModule required username="u" password="p";`
fn jaas(value: &str, config: &mut ClientConfig) -> Result<(), ConnectError> {
    let known = ["PlainLoginModule", "ScramLoginModule"];
    if !known.iter().any(|module| value.contains(module)) {
        let message = "sasl.jaas.config: only PlainLoginModule and ScramLoginModule are supported";
        return Err(ConnectError::config(message));
    }
    for (option, key) in [("username", "sasl.username"), ("password", "sasl.password")] {
        let start = value.find(&format!("{option}=\""));
        let rest = start.map(|at| &value[at + option.len() + 2..]);
        let Some(text) = rest.and_then(|r| r.split('"').next()) else {
            return Err(ConnectError::config(format!(
                "sasl.jaas.config has no {option}=\"...\""
            )));
        };
        config.set(key, text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn props(pairs: &[(&str, &str)]) -> Props {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    #[test]
    fn worker_then_prefix_then_connector() {
        let worker = props(&[
            ("bootstrap.servers", "a:1"),
            ("key.converter", "x"),
            ("consumer.fetch.max.wait.ms", "7"),
            ("consumer.auto.offset.reset", "latest"),
            ("producer.linger.ms", "5"),
        ]);
        let connector = props(&[("consumer.override.auto.offset.reset", "earliest")]);
        let keys = client_keys(Role::Consumer, &worker, &connector).unwrap();
        let config = client_config(Role::Consumer, &keys).unwrap();
        assert_eq!(config.get("bootstrap.servers"), Some("a:1"));
        assert_eq!(config.get("auto.offset.reset"), Some("earliest"));
        assert_eq!(config.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(config.get("key.converter"), None);
        assert_eq!(config.get("linger.ms"), None);
    }

    #[test]
    fn overrides_follow_the_policy_and_unknown_keys_are_errors() {
        let mut worker = props(&[("connector.client.config.override.policy", "None")]);
        let connector = props(&[("consumer.override.fetch.min.bytes", "1")]);
        assert!(client_keys(Role::Consumer, &worker, &connector).is_err());
        worker.insert(
            "connector.client.config.override.policy".into(),
            "Allowlist".into(),
        );
        worker.insert(
            "connector.client.config.override.allowlist".into(),
            "fetch.min.bytes".into(),
        );
        assert!(client_keys(Role::Consumer, &worker, &connector).is_ok());
        let error = client_config(Role::Consumer, &props(&[("interceptor.classes", "x")]));
        assert!(
            error
                .unwrap_err()
                .message
                .contains("consumer.interceptor.classes")
        );
    }

    #[test]
    fn passwords_come_out_of_jaas() {
        let text = "org.apache.kafka.common.security.plain.PlainLoginModule required \
                    username=\"me\" password=\"p w\";";
        let config = client_config(Role::Producer, &props(&[("sasl.jaas.config", text)])).unwrap();
        assert_eq!(config.get("sasl.username"), Some("me"));
        assert_eq!(config.get("sasl.password"), Some("p w"));
    }
}

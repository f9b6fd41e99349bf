//! Which environment variables are configuration keys.
//!
//! The convention is that of Kafka's container image (KIP-975): `KAFKA_`, then the key in capitals,
//! with `_` for a dot, `__` for an underscore and `___` for a hyphen.

/// The configuration key that a variable sets; `None` if it is none of ours to read.
pub fn key_of(variable: &str, value: &str) -> Option<String> {
    let name = variable
        .strip_prefix("KAFKA_")
        .filter(|name| !name.is_empty())?;
    if NOT_KEYS.contains(&name) || is_service_link(variable, value) {
        return None;
    }
    Some(decode(name))
}

fn decode(name: &str) -> String {
    let mut key = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        let (part, len) = if rest.starts_with("___") {
            ('-', 3)
        } else if rest.starts_with("__") {
            ('_', 2)
        } else if rest.starts_with('_') {
            ('.', 1)
        } else {
            let c = rest.chars().next().expect("rest is not empty");
            (c.to_ascii_lowercase(), c.len_utf8())
        };
        key.push(part);
        rest = &rest[len..];
    }
    key
}

/// Variables that Kafka's scripts and images read, and that are not configuration keys.
const NOT_KEYS: &[&str] = &[
    "ADVERTISED_HOSTNAME",
    "CLUSTER_ID",
    "DEBUG",
    "GC_LOG_OPTS",
    "HEAP_OPTS",
    "HOME",
    "JMX_HOSTNAME",
    "JMX_OPTS",
    "JMX_PORT",
    "JVM_PERFORMANCE_OPTS",
    "LOG4J_CMD_OPTS",
    "LOG4J_LOGGERS",
    "LOG4J_OPTS",
    "LOG4J_ROOT_LOGLEVEL",
    "MODE",
    "OPTS",
    "SCALA_VERSION",
    "TOOLS_LOG4J_LOGLEVEL",
    "USER",
    "VERSION",
];

/// Kubernetes and Docker links describe a service called `kafka` to every container beside it, in
/// variables such as `KAFKA_SERVICE_HOST`, `KAFKA_PORT=tcp://10.0.0.1:9092` and
/// `KAFKA_PORT_9092_TCP_ADDR`.
fn is_service_link(variable: &str, value: &str) -> bool {
    if variable.ends_with("_SERVICE_HOST")
        || variable.ends_with("_SERVICE_PORT")
        || variable.contains("_SERVICE_PORT_")
    {
        return true;
    }
    let scheme = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|s| value.starts_with(s));
    if variable.ends_with("_PORT") && scheme {
        return true;
    }
    let Some((_, rest)) = variable.rsplit_once("_PORT_") else {
        return false;
    };
    let mut parts = rest.split('_');
    let number = parts
        .next()
        .is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    number && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
}

/// The variable that would set a key, for messages.
pub fn variable_of(key: &str) -> String {
    let mut variable = "KAFKA_".to_owned();
    for c in key.chars() {
        match c {
            '.' => variable.push('_'),
            '_' => variable.push_str("__"),
            '-' => variable.push_str("___"),
            c => variable.push(c.to_ascii_uppercase()),
        }
    }
    variable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::definitions::broker;

    #[test]
    fn variables_become_keys() {
        for (variable, value, key) in [
            ("KAFKA_LOG_DIRS", "/data", Some("log.dirs")),
            ("KAFKA_NODE_ID", "1", Some("node.id")),
            ("KAFKA_A__B___C_D", "", Some("a_b-c.d")),
            (
                "KAFKA_OTTLA_METRICS_LISTENER",
                "",
                Some("ottla.metrics.listener"),
            ),
            ("KAFKA_PORT", "9092", Some("port")),
            ("KAFKA_PORT", "tcp://10.0.0.1:9092", None),
            ("KAFKA_PORT_9092_TCP", "tcp://10.0.0.1:9092", None),
            ("KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1", None),
            ("KAFKA_SERVICE_HOST", "10.0.0.1", None),
            ("KAFKA_BROKER_SERVICE_PORT", "9092", None),
            ("KAFKA_SERVICE_PORT_CLIENTS", "9092", None),
            ("KAFKA_HEAP_OPTS", "-Xmx1G", None),
            ("KAFKA_OPTS", "", None),
            ("KAFKA_", "", None),
            ("PATH", "/bin", None),
            ("kafka_node_id", "1", None),
        ] {
            assert_eq!(
                key_of(variable, value).as_deref(),
                key,
                "{variable}={value}"
            );
        }
    }

    #[test]
    fn every_key_has_a_variable() {
        for def in broker::all() {
            assert_eq!(
                key_of(&variable_of(def.name), "1").as_deref(),
                Some(def.name)
            );
        }
    }
}

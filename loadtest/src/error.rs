//! What can go wrong, said so that the reader knows what to do next.

use std::fmt;
use std::io;

use kafka_protocol::ResponseError;

/// The one error type of the harness: every scenario ends in a report or in one of these.
#[derive(Debug)]
pub enum LoadError {
    /// No TCP connection could be made.
    Connect { address: String, cause: io::Error },
    /// The peer closed or broke a connection while something was expected from it.
    Lost { address: String, cause: io::Error },
    /// The peer answered with an error code of Kafka's.
    Broker {
        doing: String,
        error: ResponseError,
        detail: Option<String>,
    },
    /// The peer sent bytes that are not a valid answer.
    Malformed { address: String, what: String },
    /// The peer does not serve the one version of an API that the harness speaks.
    Unsupported {
        address: String,
        api: &'static str,
        version: i16,
    },
    /// A wait had a bound and reached it.
    Timeout(String),
    /// The options contradict each other or what the cluster has.
    Usage(String),
    /// A file, a process or /proc.
    System { doing: String, cause: io::Error },
    /// The records read back are not the records that were acknowledged.
    NotVerified(String),
}

pub type Result<T> = std::result::Result<T, LoadError>;

impl LoadError {
    /// An answer's error code, or `Ok` for 0.
    pub fn check(code: i16, doing: impl FnOnce() -> String) -> Result<()> {
        match ResponseError::try_from_code(code) {
            None => Ok(()),
            Some(error) => Err(LoadError::Broker {
                doing: doing(),
                error,
                detail: None,
            }),
        }
    }

    pub fn system(doing: impl Into<String>, cause: io::Error) -> Self {
        LoadError::System {
            doing: doing.into(),
            cause,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Connect { address, cause } => write!(
                f,
                "cannot connect to {address}: {cause}. Start the broker, or name one that runs \
                 with --bootstrap HOST:PORT (for a broker that was discovered, check its \
                 advertised.listeners)"
            ),
            LoadError::Lost { address, cause } => write!(
                f,
                "the connection to {address} broke: {cause}. If this is the first request, the \
                 port may speak TLS or another protocol; otherwise see the broker's log"
            ),
            LoadError::Broker {
                doing,
                error,
                detail,
            } => {
                write!(f, "{doing}: {error} ({})", error.code())?;
                if let Some(detail) = detail {
                    write!(f, ", {}", detail.trim_end_matches('.'))?;
                }
                write!(f, ". {}", advice(*error))
            }
            LoadError::Malformed { address, what } => {
                write!(f, "{address} sent a malformed answer: {what}")
            }
            LoadError::Unsupported {
                address,
                api,
                version,
            } => write!(
                f,
                "{address} does not serve {api} version {version}, which the harness speaks; \
                 brokers from Kafka 2.7 on do"
            ),
            LoadError::Timeout(what) => write!(f, "timed out: {what}"),
            LoadError::Usage(what) => f.write_str(what),
            LoadError::System { doing, cause } => write!(f, "{doing}: {cause}"),
            LoadError::NotVerified(what) => {
                write!(f, "the run did not verify, no figures are reported: {what}")
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// What a person can do about an error code.
pub fn advice(error: ResponseError) -> &'static str {
    use ResponseError as E;
    match error {
        E::MessageTooLarge | E::RecordListTooLarge => {
            "Lower --batch-bytes, or raise max.message.bytes of the topic"
        }
        E::TopicAlreadyExists => "Choose another --topic, or delete this one",
        E::InvalidTopicException => "Choose another --topic: letters, digits, '.', '_' and '-'",
        E::InvalidReplicationFactor => {
            "Lower --replication-factor, or start as many brokers as it asks for"
        }
        E::InvalidPartitions => "Give --partitions between 1 and what the broker allows",
        E::NotEnoughReplicas | E::NotEnoughReplicasAfterAppend => {
            "Start the missing replicas, or lower min.insync.replicas"
        }
        E::TopicAuthorizationFailed
        | E::ClusterAuthorizationFailed
        | E::TransactionalIdAuthorizationFailed => {
            "Grant the user Create, Describe, Write and Read on the topic"
        }
        E::SaslAuthenticationFailed | E::UnsupportedSaslMechanism | E::IllegalSaslState => {
            "The listener wants SASL: name a PLAINTEXT listener with --bootstrap"
        }
        E::UnknownTopicOrPartition => "Create the topic first, or check --topic",
        E::UnsupportedVersion => "The broker is too old for the harness",
        E::PolicyViolation => "The broker's create.topic.policy refused this",
        error if error.is_retriable() => "Retriable: the broker or its leader was not ready",
        _ => "See the broker's log",
    }
}

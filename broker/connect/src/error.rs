//! What can go wrong with a record.

use std::fmt;

/// What kind of failure it is, named as Kafka Connect names its exceptions, because dead letters
/// carry the class name and people search for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The record cannot be read, changed or written as asked.
    Data,
    /// Bytes are not what the converter reads.
    Serialization,
    /// A configuration makes no sense.
    Config,
    /// It may work the next time.
    Retriable,
    /// Anything else.
    Connect,
}

impl ErrorKind {
    pub fn class_name(self) -> &'static str {
        match self {
            ErrorKind::Data => "org.apache.kafka.connect.errors.DataException",
            ErrorKind::Serialization => "org.apache.kafka.common.errors.SerializationException",
            ErrorKind::Config => "org.apache.kafka.common.config.ConfigException",
            ErrorKind::Retriable => "org.apache.kafka.connect.errors.RetriableException",
            ErrorKind::Connect => "org.apache.kafka.connect.errors.ConnectException",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectError {
    pub kind: ErrorKind,
    pub message: String,
    pub cause: Option<Box<ConnectError>>,
}

impl ConnectError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> ConnectError {
        ConnectError {
            kind,
            message: message.into(),
            cause: None,
        }
    }

    pub fn data(message: impl Into<String>) -> ConnectError {
        ConnectError::new(ErrorKind::Data, message)
    }

    pub fn config(message: impl Into<String>) -> ConnectError {
        ConnectError::new(ErrorKind::Config, message)
    }

    pub fn retriable(message: impl Into<String>) -> ConnectError {
        ConnectError::new(ErrorKind::Retriable, message)
    }

    pub fn because(mut self, cause: ConnectError) -> ConnectError {
        self.cause = Some(Box::new(cause));
        self
    }

    /// The error and its causes, laid out as Java prints a stack trace, without frames.
    pub fn trace(&self) -> String {
        let mut text = format!("{}: {}\n", self.kind.class_name(), self.message);
        let mut cause = &self.cause;
        while let Some(error) = cause {
            text += &format!(
                "Caused by: {}: {}\n",
                error.kind.class_name(),
                error.message
            );
            cause = &error.cause;
        }
        text
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConnectError {}

//! What can be wrong with a record batch.

use crate::compress::{Codec, DecompressError};

/// Why a batch is refused. Each variant is one of Kafka's error codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// CORRUPT_MESSAGE: damaged on its way; sending it again may help.
    #[error("record batch is corrupt: {0}")]
    Corrupt(&'static str),
    /// MESSAGE_TOO_LARGE.
    #[error("record batch of {size_bytes} bytes exceeds the limit of {max_bytes} bytes")]
    TooLarge { size_bytes: usize, max_bytes: usize },
    /// MESSAGE_TOO_LARGE, which makes a producer split its batch.
    #[error("records exceed the limit of {max_bytes} bytes when decompressed")]
    DecompressedTooLarge { max_bytes: usize },
    /// INVALID_RECORD: whole, but not something a client may append.
    #[error("invalid record batch: {0}")]
    InvalidRecord(&'static str),
    /// INVALID_RECORD: Kafka's answer to message formats 0 and 1 in Produce 3 and later.
    #[error("message format {0} is not supported, only record batches with magic 2")]
    UnsupportedMagic(i8),
    /// INVALID_TIMESTAMP.
    #[error("timestamp {timestamp_ms} is outside [{min_ms}, {max_ms}]")]
    InvalidTimestamp {
        timestamp_ms: i64,
        min_ms: i64,
        max_ms: i64,
    },
    /// INVALID_TIMESTAMP: only a broker marks a batch so.
    #[error("producers must not set the timestamp type to LogAppendTime")]
    InvalidTimestampType,
    /// UNSUPPORTED_COMPRESSION_TYPE.
    #[error("compression codec {0} is not supported here")]
    UnsupportedCompression(i16),
}

impl From<DecompressError> for BatchError {
    fn from(error: DecompressError) -> Self {
        match error {
            DecompressError::TooLarge { max_bytes } => Self::DecompressedTooLarge { max_bytes },
            DecompressError::Malformed(codec) => Self::InvalidRecord(match codec {
                Codec::None => "records are malformed",
                Codec::Gzip => "gzip data is malformed",
                Codec::Snappy => "snappy data is malformed",
                Codec::Lz4 => "lz4 data is malformed",
                Codec::Zstd => "zstd data is malformed",
            }),
        }
    }
}

//! DescribeLogDirs v1 to v4 (KIP-113, KIP-827). There is one log directory, and no replica moves
//! between directories. A partition's size is exact to the grain of its index. A directory whose
//! storage has failed is told with KAFKA_STORAGE_ERROR and no partitions, as Kafka does.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use nix::sys::statvfs::statvfs;
use ottla_log::Trouble;

use super::RequestContext;
use super::errors::NONE;
use crate::services::Services;
use crate::topics::ServedTopic;

/// The directory with the size and the free space of its volume.
struct Volume {
    path: String,
    total_bytes: i64,
    usable_bytes: i64,
}

pub(super) async fn handle(
    services: &Services,
    _: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let dir = services.metadata.config().log_dir.clone();
    let looked = tokio::task::spawn_blocking(move || look(dir)).await;
    let volume = looked.unwrap_or_else(|error| Err(io::Error::other(error)));
    let failed = matches!(
        services.topics.groups().trouble(),
        Some(Trouble::Failed(_))
    );
    let result = match volume {
        Ok(volume) if failed => DescribeLogDirsResult::default()
            .with_error_code(ResponseError::KafkaStorageError.code())
            .with_log_dir(StrBytes::from_string(volume.path)),
        Ok(volume) => DescribeLogDirsResult::default()
            .with_error_code(NONE)
            .with_log_dir(StrBytes::from_string(volume.path))
            .with_topics(topics(services, request.topics))
            .with_total_bytes(volume.total_bytes)
            .with_usable_bytes(volume.usable_bytes),
        Err(error) => {
            let dir = services
                .metadata
                .config()
                .log_dir
                .to_string_lossy()
                .into_owned();
            tracing::error!(%error, dir, "the log directory cannot be looked at");
            DescribeLogDirsResult::default()
                .with_error_code(ResponseError::KafkaStorageError.code())
                .with_log_dir(StrBytes::from_string(dir))
        }
    };
    DescribeLogDirsResponse::default()
        .with_error_code(NONE)
        .with_results(vec![result])
}

fn look(dir: PathBuf) -> io::Result<Volume> {
    let volume = statvfs(&dir)?;
    let bytes = |blocks: u64| {
        i64::try_from(blocks.saturating_mul(volume.fragment_size())).unwrap_or(i64::MAX)
    };
    Ok(Volume {
        path: std::path::absolute(&dir)?.to_string_lossy().into_owned(),
        total_bytes: bytes(volume.blocks()),
        usable_bytes: bytes(volume.blocks_available()),
    })
}

/// Null asks for all. What is not here is not in the answer.
fn topics(
    services: &Services,
    asked: Option<Vec<DescribableLogDirTopic>>,
) -> Vec<DescribeLogDirsTopic> {
    match asked {
        None => services
            .topics
            .all()
            .iter()
            .map(|topic| describe(topic, 0..topic.partitions()))
            .collect(),
        Some(asked) => {
            let wanted = wanted(asked).into_iter();
            let found = wanted.filter_map(|(name, partitions)| {
                Some((services.topics.by_name(&name).ok()?, partitions))
            });
            found
                .map(|(topic, partitions)| describe(&topic, partitions))
                .collect()
        }
    }
}

/// Each partition once.
fn wanted(asked: Vec<DescribableLogDirTopic>) -> HashMap<StrBytes, BTreeSet<i32>> {
    let mut wanted: HashMap<_, BTreeSet<_>> = HashMap::new();
    for topic in asked {
        wanted
            .entry(topic.topic.0)
            .or_default()
            .extend(topic.partitions);
    }
    wanted
}

fn describe(
    topic: &ServedTopic,
    partitions: impl IntoIterator<Item = i32>,
) -> DescribeLogDirsTopic {
    let partition = |index| {
        let size_bytes = topic.replica(index).ok()?.partition.size_bytes();
        let partition = DescribeLogDirsPartition::default().with_partition_index(index);
        Some(
            partition
                .with_partition_size(i64::try_from(size_bytes).unwrap_or(i64::MAX))
                .with_offset_lag(0),
        )
    };
    DescribeLogDirsTopic::default()
        .with_name(TopicName(StrBytes::from_string(
            topic.topic.name.to_string(),
        )))
        .with_partitions(partitions.into_iter().filter_map(partition).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = look(dir.path().to_owned()).unwrap();
        assert_eq!(volume.path, dir.path().to_string_lossy());
        assert!(volume.total_bytes > 0 && (0..=volume.total_bytes).contains(&volume.usable_bytes));
        assert!(look(dir.path().join("absent")).is_err());
    }

    #[test]
    fn each_partition_once() {
        let topic = |name, partitions: &[i32]| {
            let name = TopicName(StrBytes::from_static_str(name));
            DescribableLogDirTopic::default()
                .with_topic(name)
                .with_partitions(partitions.to_vec())
        };
        let wanted = wanted(vec![
            topic("a", &[1, 0, 1]),
            topic("b", &[0]),
            topic("a", &[1, 2]),
        ]);
        let expected = [("a", vec![0, 1, 2]), ("b", vec![0])];
        let expected = expected.map(|(name, partitions)| {
            (
                StrBytes::from_static_str(name),
                partitions.into_iter().collect(),
            )
        });
        assert_eq!(wanted, HashMap::from(expected));
    }
}

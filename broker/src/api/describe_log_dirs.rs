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
#[derive(Debug)]
struct Volume {
    path: String,
    total_bytes: i64,
    usable_bytes: i64,
}

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    context.wait_for_place(services).await;
    let dir = services.metadata.config().log_dir.clone();
    let looked = tokio::task::spawn_blocking(move || look(dir)).await;
    let failing = matches!(
        services.topics.groups().trouble(),
        Some(Trouble::Failed(_))
    );
    match looked.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(volume) if failing => response(failed(volume.path)),
        Ok(volume) => response(found(volume, topics(services, request.topics))),
        Err(error) => {
            let config = services.metadata.config();
            let dir = config.log_dir.to_string_lossy().into_owned();
            tracing::error!(%error, dir, "the log directory cannot be looked at");
            response(failed(dir))
        }
    }
}

fn response(result: DescribeLogDirsResult) -> DescribeLogDirsResponse {
    DescribeLogDirsResponse::default()
        .with_error_code(NONE)
        .with_results(vec![result])
}

fn found(volume: Volume, topics: Vec<DescribeLogDirsTopic>) -> DescribeLogDirsResult {
    DescribeLogDirsResult::default()
        .with_error_code(NONE)
        .with_log_dir(StrBytes::from_string(volume.path))
        .with_topics(topics)
        .with_total_bytes(volume.total_bytes)
        .with_usable_bytes(volume.usable_bytes)
}

fn failed(dir: String) -> DescribeLogDirsResult {
    DescribeLogDirsResult::default()
        .with_error_code(ResponseError::KafkaStorageError.code())
        .with_log_dir(StrBytes::from_string(dir))
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
    let sized = |index| {
        let replica = topic.replica(index).ok()?;
        Some((index, replica.partition.size_bytes()))
    };
    described(&topic.topic.name, partitions.into_iter().filter_map(sized))
}

/// Partitions with their sizes in bytes.
fn described(
    topic: &str,
    partitions: impl IntoIterator<Item = (i32, u64)>,
) -> DescribeLogDirsTopic {
    let partition = |(index, size_bytes)| {
        DescribeLogDirsPartition::default()
            .with_partition_index(index)
            .with_partition_size(i64::try_from(size_bytes).unwrap_or(i64::MAX))
            .with_offset_lag(0)
    };
    DescribeLogDirsTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(partitions.into_iter().map(partition).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::responses::{int32, int64, list, text};
    use super::*;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<DescribeLogDirsResponse> {
        let topic = (text(), list((int32(), any::<u64>())));
        let topic = topic.prop_map(|(name, partitions)| described(&name, partitions));
        let volume = (text(), int64(), int64());
        let volume = volume.prop_map(|(path, total_bytes, usable_bytes)| Volume {
            path,
            total_bytes,
            usable_bytes,
        });
        let found = (volume, list(topic));
        let found = found.prop_map(|(volume, topics)| super::found(volume, topics));
        prop_oneof![3 => found, 1 => text().prop_map(failed)]
            .prop_map(response)
            .boxed()
    }

    pub(in crate::api) fn as_of(
        version: i16,
        mut response: DescribeLogDirsResponse,
    ) -> DescribeLogDirsResponse {
        if version < 4 {
            for dir in &mut response.results {
                let lacking = DescribeLogDirsResult::default();
                dir.total_bytes = lacking.total_bytes;
                dir.usable_bytes = lacking.usable_bytes;
            }
        }
        response
    }

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

//! DescribeTopicPartitions v0 (KIP-966): topics in name order, a page of partitions at a time. A next
//! cursor says where the following page begins.

use std::collections::BTreeSet;
use std::ops::Range;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_request::Cursor;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor as NextCursor, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use ottla_proto::metadata::{Image, Topic, is_internal_topic};
use uuid::Uuid;

use super::RequestContext;
use super::brokers::{ClusterView, Placement, TOPIC_OPERATIONS, unknown_topic};
use super::errors::NONE;
use crate::services::Services;

pub(super) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let limit = request
        .response_partition_limit
        .min(services.metadata.config().fetch.describe_partitions_max as i32)
        .max(1);
    let names: Vec<_> = request
        .topics
        .into_iter()
        .map(|topic| topic.name.0)
        .collect();
    if !is_valid(&names, request.cursor.as_ref()) {
        let topics = names
            .into_iter()
            .map(|name| refused(name, ResponseError::InvalidRequest));
        return DescribeTopicPartitionsResponse::default().with_topics(topics.collect());
    }
    let mut view = ClusterView::new(
        services,
        &context.peer.listener,
        ResponseError::ListenerNotFound,
    );
    let image = view.image.clone();
    let start = request
        .cursor
        .map(|cursor| (cursor.topic_name.0, cursor.partition_index as usize));
    let page = page(&image, names, start, limit as usize);
    let topics = page.topics.into_iter().map(|entry| match entry {
        Entry::Found(topic, range) => described(topic, view.placements(topic, range)),
        Entry::Unknown(name) => {
            let error = unknown_topic(&name);
            refused(name, error)
        }
    });
    let topics = topics.collect();
    response(topics, page.next)
}

fn response(
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<(StrBytes, usize)>,
) -> DescribeTopicPartitionsResponse {
    let next = next.map(|(name, index)| {
        NextCursor::default()
            .with_topic_name(TopicName(name))
            .with_partition_index(index as i32)
    });
    DescribeTopicPartitionsResponse::default()
        .with_topics(topics)
        .with_next_cursor(next)
}

/// A cursor is one of the topics asked for, if any are.
fn is_valid(names: &[StrBytes], cursor: Option<&Cursor>) -> bool {
    cursor.is_none_or(|cursor| {
        cursor.partition_index >= 0 && (names.is_empty() || names.contains(&cursor.topic_name.0))
    })
}

#[derive(Debug, PartialEq)]
enum Entry<'a> {
    Found(&'a Topic, Range<usize>),
    Unknown(StrBytes),
}

struct Page<'a> {
    topics: Vec<Entry<'a>>,
    /// Partitions that still fit.
    left: usize,
    next: Option<(StrBytes, usize)>,
}

/// Up to `limit` partitions from `start` on; of all topics if none is named.
fn page(
    image: &Image,
    names: Vec<StrBytes>,
    start: Option<(StrBytes, usize)>,
    limit: usize,
) -> Page<'_> {
    let (from, first_index) = start.unwrap_or_default();
    let first_index = |name: &str| if *name == *from { first_index } else { 0 };
    let mut page = Page {
        topics: Vec::new(),
        left: limit,
        next: None,
    };
    if names.is_empty() {
        image
            .topics_from(&from)
            .all(|topic| page.take(&topic.name, Some(topic), first_index(&topic.name)));
    } else {
        let names: BTreeSet<_> = names
            .iter()
            .map(|name| &**name)
            .filter(|name| *name >= &*from)
            .collect();
        names.into_iter().all(|name| {
            page.take(
                name,
                image.topic(name).map(|topic| &**topic),
                first_index(name),
            )
        });
    }
    page
}

impl<'a> Page<'a> {
    /// Adds what fits of a topic. False once the page is full.
    fn take(&mut self, name: &str, topic: Option<&'a Topic>, first: usize) -> bool {
        let name = || StrBytes::from_string(name.to_owned());
        if self.left == 0 {
            self.next = Some((name(), 0));
            return false;
        }
        let Some(topic) = topic else {
            self.topics.push(Entry::Unknown(name()));
            return true;
        };
        let count = topic.partitions.len();
        let first = first.min(count);
        let end = count.min(first + self.left);
        self.left -= end - first;
        self.topics.push(Entry::Found(topic, first..end));
        self.next = (end < count).then(|| (name(), end));
        self.next.is_none()
    }
}

fn described(
    topic: &Topic,
    partitions: Vec<(i32, Placement)>,
) -> DescribeTopicPartitionsResponseTopic {
    let partition = |(index, placement): (i32, Placement)| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(placement.error_code)
            .with_partition_index(index)
            .with_leader_id(placement.leader)
            .with_leader_epoch(placement.leader_epoch)
            .with_replica_nodes(placement.replicas)
            .with_isr_nodes(placement.in_sync)
            // Raft elects from the members alone: there is no second list of who may lead.
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
            .with_offline_replicas(placement.offline)
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(NONE)
        .with_name(Some(TopicName(StrBytes::from_string(
            topic.name.to_string(),
        ))))
        .with_topic_id(topic.id)
        .with_is_internal(is_internal_topic(&topic.name))
        .with_partitions(partitions.into_iter().map(partition).collect())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn refused(name: StrBytes, error: ResponseError) -> DescribeTopicPartitionsResponseTopic {
    let is_internal = is_internal_topic(&name);
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(TopicName(name)))
        .with_topic_id(Uuid::nil())
        .with_is_internal(is_internal)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::responses::{
        error, id, int32, list, placement, str_bytes, text,
    };
    use super::*;
    use proptest::option;
    use proptest::prelude::*;
    use ottla_proto::metadata::{MetadataRecord, records, restore};
    use std::sync::Arc;

    pub(in crate::api) fn responses(_: i16) -> BoxedStrategy<DescribeTopicPartitionsResponse> {
        let found = (text(), id(), list((int32(), placement())));
        let found = found.prop_map(|(name, id, partitions)| {
            let topic = Topic {
                name: name.into(),
                id,
                partitions: vec![],
            };
            described(&topic, partitions)
        });
        let unknown = (str_bytes(), error()).prop_map(|(name, error)| refused(name, error));
        let next = option::of((str_bytes(), any::<u16>().prop_map(usize::from)));
        (list(prop_oneof![3 => found, 1 => unknown]), next)
            .prop_map(|(topics, next)| response(topics, next))
            .boxed()
    }

    pub(in crate::api) fn as_of(
        _: i16,
        response: DescribeTopicPartitionsResponse,
    ) -> DescribeTopicPartitionsResponse {
        response
    }

    /// Topics a, b and c with 3, 1 and 4 partitions.
    fn image() -> Arc<Image> {
        let group = records::Group {
            group_id: 1,
            members: vec![1],
            removed: false,
            founders: vec![1 << 32],
            ..records::Group::default()
        };
        let mut all = vec![MetadataRecord::Group(group)];
        let mut partition_id = 0;
        for (topic, (name, partitions)) in (1..).zip([("a", 3), ("b", 1), ("c", 4)]) {
            let topic_id = Uuid::from_u128(topic);
            all.push(MetadataRecord::Topic(records::Topic {
                name: name.to_owned(),
                topic_id: Some(topic_id.into()),
            }));
            for index in 0..partitions {
                partition_id += 1;
                all.push(MetadataRecord::Partition(records::Partition {
                    topic_id: Some(topic_id.into()),
                    index,
                    partition_id,
                    group_id: 1,
                }));
            }
        }
        restore(0, &all).unwrap()
    }

    fn fixed(name: &'static str) -> StrBytes {
        StrBytes::from_static_str(name)
    }

    /// The page in words, and where the next begins.
    fn show(
        names: &[&'static str],
        start: Option<(&'static str, usize)>,
        limit: usize,
    ) -> (Vec<String>, Option<(String, usize)>) {
        let image = image();
        let names = names.iter().map(|name| fixed(name)).collect();
        let page = page(
            &image,
            names,
            start.map(|(name, index)| (fixed(name), index)),
            limit,
        );
        let show = |entry: &Entry| match entry {
            Entry::Found(topic, range) => format!("{} {range:?}", topic.name),
            Entry::Unknown(name) => format!("{} unknown", &**name),
        };
        (
            page.topics.iter().map(show).collect(),
            page.next.map(|(name, index)| (name.to_string(), index)),
        )
    }

    #[test]
    fn pages_follow_each_other() {
        let next = |name: &str, index| Some((name.to_owned(), index));
        assert_eq!(
            show(&[], None, 2),
            (vec!["a 0..2".to_owned()], next("a", 2))
        );
        assert_eq!(
            show(&[], Some(("a", 2)), 2),
            (vec!["a 2..3".to_owned(), "b 0..1".to_owned()], next("c", 0))
        );
        assert_eq!(
            show(&[], Some(("c", 0)), 4),
            (vec!["c 0..4".to_owned()], None)
        );
        assert_eq!(show(&[], None, 100).0.len(), 3);
    }

    #[test]
    fn topics_come_in_order_and_once() {
        let (topics, next) = show(&["c", "x", "a", "c"], None, 100);
        assert_eq!(topics, ["a 0..3", "c 0..4", "x unknown"]);
        assert_eq!(next, None);
        let (topics, _) = show(&["c", "x", "a"], Some(("c", 1)), 100);
        assert_eq!(topics, ["c 1..4", "x unknown"]);
        // The topic shrank by being made again, or went.
        assert_eq!(
            show(&["a"], Some(("a", 9)), 5),
            (vec!["a 3..3".to_owned()], None)
        );
        assert_eq!(
            show(&[], Some(("bb", 9)), 5),
            (vec!["c 0..4".to_owned()], None)
        );
    }

    #[test]
    fn a_cursor_is_one_of_the_topics() {
        let cursor = |name, index| {
            Cursor::default()
                .with_topic_name(TopicName(fixed(name)))
                .with_partition_index(index)
        };
        assert!(is_valid(&[], None));
        assert!(is_valid(&[], Some(&cursor("z", 0))));
        assert!(is_valid(&[fixed("a")], Some(&cursor("a", 3))));
        assert!(!is_valid(&[fixed("a")], Some(&cursor("b", 0))));
        assert!(!is_valid(&[], Some(&cursor("a", -1))));
    }
}

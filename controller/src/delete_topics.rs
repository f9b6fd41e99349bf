//! DeleteTopics, by name or by id (KIP-516).
use std::collections::BTreeSet;

use ottla_proto::config::ServerConfig;
use ottla_proto::metadata::{Image, MetadataRecord, records};
use thiserror::Error;
use uuid::Uuid;

use crate::Decision;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicKey {
    Name(String),
    Id(Uuid),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    pub name: String,
    pub topic_id: Uuid,
}

/// One per key, in the order of the request.
pub type Reply = Vec<(TopicKey, Result<DeletedTopic, DeleteTopicError>)>;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeleteTopicError {
    /// UNKNOWN_TOPIC_OR_PARTITION
    #[error("This server does not host this topic-partition.")]
    UnknownName,
    /// UNKNOWN_TOPIC_ID
    #[error("This server does not host this topic ID.")]
    UnknownId,
    /// INVALID_REQUEST
    #[error("The request names this topic more than once")]
    Duplicate,
    /// TOPIC_DELETION_DISABLED
    #[error("Topic deletion is disabled: delete.topic.enable is false")]
    Disabled,
}

pub fn decide(image: &Image, server: &ServerConfig, keys: &[TopicKey]) -> Decision<Reply> {
    let find = |key: &TopicKey| match key {
        TopicKey::Name(name) => image.topic(name).ok_or(DeleteTopicError::UnknownName),
        TopicKey::Id(id) => image.topic_by_id(*id).ok_or(DeleteTopicError::UnknownId),
    };
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for topic in keys.iter().flat_map(find) {
        if !seen.insert(topic.id) {
            twice.insert(topic.id);
        }
    }
    let mut records = Vec::new();
    let mut delete = |key| {
        if !server.topic_creation.delete_enabled {
            return Err(DeleteTopicError::Disabled);
        }
        let topic = find(key)?;
        if twice.contains(&topic.id) {
            return Err(DeleteTopicError::Duplicate);
        }
        records.push(MetadataRecord::RemoveTopic(records::RemoveTopic {
            topic_id: Some(topic.id.into()),
        }));
        Ok(DeletedTopic {
            name: topic.name.to_string(),
            topic_id: topic.id,
        })
    };
    let reply = keys.iter().map(|key| (key.clone(), delete(key))).collect();
    Decision { records, reply }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{ClusterImage, server};

    fn name(name: &str) -> TopicKey {
        TopicKey::Name(name.to_owned())
    }

    #[test]
    fn deletes_by_name_and_by_id() {
        let mut cluster = ClusterImage::with_brokers(3);
        for topic in ["a", "b", "c"] {
            cluster.create(topic, 2, 3);
        }
        let id = cluster.image().topic("b").unwrap().id;
        let keys = [
            name("a"),
            TopicKey::Id(id),
            name("x"),
            TopicKey::Id(Uuid::nil()),
        ];
        let decision = decide(&cluster.image(), &server(&[]), &keys);
        let reply = cluster.apply(decision);
        let names = reply
            .into_iter()
            .map(|(_, result)| result.map(|topic| topic.name));
        let expected = [
            Ok("a".to_owned()),
            Ok("b".to_owned()),
            Err(DeleteTopicError::UnknownName),
            Err(DeleteTopicError::UnknownId),
        ];
        assert!(names.eq(expected));
        let image = cluster.image();
        assert!(image.topics().map(|t| &*t.name).eq(["c"]));
        // Made again, a topic is another one.
        cluster.create("b", 1, 3);
        let again = cluster.image();
        let again = again.topic("b").unwrap();
        assert!(again.id != id && again.partitions[0].id.0 == 7);
    }

    #[test]
    fn a_topic_named_twice_stays() {
        let mut cluster = ClusterImage::with_brokers(1);
        cluster.create("a", 1, 1);
        let id = cluster.image().topic("a").unwrap().id;
        let decision = decide(
            &cluster.image(),
            &server(&[]),
            &[name("a"), TopicKey::Id(id)],
        );
        assert!(decision.records.is_empty());
        for (_, result) in decision.reply {
            assert_eq!(result, Err(DeleteTopicError::Duplicate));
        }
    }

    #[test]
    fn deletion_can_be_disabled() {
        let mut cluster = ClusterImage::with_brokers(1);
        cluster.create("a", 1, 1);
        let server = server(&["delete.topic.enable=false"]);
        let decision = decide(&cluster.image(), &server, &[name("a")]);
        let disabled = Err(DeleteTopicError::Disabled);
        assert_eq!(decision, Decision::reply(vec![(name("a"), disabled)]));
    }
}

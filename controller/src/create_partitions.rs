//! CreatePartitions (KIP-195): more partitions for topics that exist.
use std::collections::BTreeMap;

use ottla_proto::ids::{GroupId, NodeId, PartitionId};
use ottla_proto::limits::{PARTITIONS_PER_CLUSTER, PARTITIONS_PER_REQUEST, PARTITIONS_PER_TOPIC};
use ottla_proto::metadata::{Image, MetadataRecord, Topic};
use thiserror::Error;

use crate::Decision;
use crate::assignment::{self, AssignmentError};
use crate::create_topics::partition_record;
use crate::placement::{PlacementError, Placer};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreatePartitions {
    pub topics: Vec<MorePartitions>,
    pub validate_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MorePartitions {
    pub name: String,
    /// How many partitions the topic is to have afterwards.
    pub count: i32,
    /// Replicas of each new partition, preferred leader first; `None` leaves placement to the
    /// controller.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

/// By topic name, once each, in the order of the request.
pub type Reply = Vec<(String, Result<(), CreatePartitionsError>)>;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CreatePartitionsError {
    /// UNKNOWN_TOPIC_OR_PARTITION
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    /// INVALID_REQUEST
    #[error("Duplicate topic name.")]
    Duplicate,
    /// INVALID_PARTITIONS
    #[error("The topic {name} has {current} partition(s); {asked} would not be an increase")]
    NoIncrease {
        name: String,
        current: usize,
        asked: i32,
    },
    /// INVALID_PARTITIONS
    #[error("Number of partitions {0} is more than {PARTITIONS_PER_TOPIC}, a topic's maximum")]
    TooManyPartitions(usize),
    /// POLICY_VIOLATION
    #[error("The request makes more than {PARTITIONS_PER_REQUEST} partitions: split it")]
    RequestTooLarge,
    /// POLICY_VIOLATION
    #[error("The cluster would have more than {PARTITIONS_PER_CLUSTER} partitions")]
    ClusterFull,
    /// INVALID_REPLICA_ASSIGNMENT
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// INVALID_REPLICATION_FACTOR, and POLICY_VIOLATION for too many groups
    #[error(transparent)]
    Placement(#[from] PlacementError),
}

pub fn decide(image: &Image, request: &CreatePartitions) -> Decision<Reply> {
    let mut names = BTreeMap::new();
    for topic in &request.topics {
        *names.entry(topic.name.as_str()).or_insert(0) += 1;
    }
    let mut growth = Growth {
        image,
        placer: Placer::new(image),
        partitions: 0,
        records: Vec::new(),
    };
    let mut reply = Vec::with_capacity(names.len());
    for topic in &request.topics {
        let result = match names.remove(topic.name.as_str()) {
            None => continue,
            Some(1) => growth.grow(topic),
            Some(_) => Err(CreatePartitionsError::Duplicate),
        };
        reply.push((topic.name.clone(), result));
    }
    if request.validate_only {
        return Decision::reply(reply);
    }
    let mut records = growth.placer.into_new_groups();
    records.append(&mut growth.records);
    Decision { records, reply }
}

/// What the topics of one request have taken so far.
struct Growth<'a> {
    image: &'a Image,
    placer: Placer,
    partitions: usize,
    records: Vec<MetadataRecord>,
}

impl Growth<'_> {
    fn grow(&mut self, request: &MorePartitions) -> Result<(), CreatePartitionsError> {
        let topic = self.image.topic(&request.name);
        let topic = topic.ok_or(CreatePartitionsError::UnknownTopic)?;
        let current = topic.partitions.len();
        let target = usize::try_from(request.count).ok();
        let target = target.filter(|target| *target > current).ok_or_else(|| {
            let (name, asked) = (request.name.clone(), request.count);
            CreatePartitionsError::NoIncrease {
                name,
                current,
                asked,
            }
        })?;
        self.check_room(target, target - current)?;
        let before = self.placer.clone();
        let placed = self.place(topic, target - current, request.assignments.as_deref());
        let groups = match placed {
            Ok(groups) => groups,
            Err(error) => {
                self.placer = before;
                return Err(error);
            }
        };
        for (index, group) in (current..).zip(groups) {
            let index = i32::try_from(index).expect("bounded per topic");
            let id = self.image.next_partition_id().0 + self.partitions as u64;
            self.partitions += 1;
            self.records
                .push(partition_record(topic.id, index, PartitionId(id), group));
        }
        Ok(())
    }

    fn check_room(&self, target: usize, new: usize) -> Result<(), CreatePartitionsError> {
        if target > PARTITIONS_PER_TOPIC {
            return Err(CreatePartitionsError::TooManyPartitions(target));
        }
        if self.partitions + new > PARTITIONS_PER_REQUEST {
            return Err(CreatePartitionsError::RequestTooLarge);
        }
        if self.image.partition_count() + self.partitions + new > PARTITIONS_PER_CLUSTER {
            return Err(CreatePartitionsError::ClusterFull);
        }
        Ok(())
    }

    fn place(
        &mut self,
        topic: &Topic,
        new: usize,
        assignments: Option<&[Vec<NodeId>]>,
    ) -> Result<Vec<GroupId>, CreatePartitionsError> {
        let groups = topic.partitions.iter().map(|p| self.image.group(p.group));
        let members = groups.map(|group| &group.expect("replay keeps a partition's group").members);
        let members: Vec<_> = members.collect();
        let replication_factor = members.first().map_or(1, |members| members.len());
        let Some(assignments) = assignments else {
            let leaders: Vec<_> = members.iter().map(|members| members[0]).collect();
            return Ok(self.placer.place(replication_factor, new, &leaders)?);
        };
        if assignments.len() != new {
            let found = assignments.len();
            let expected = new;
            return Err(AssignmentError::Count { found, expected }.into());
        }
        let mut groups = Vec::with_capacity(new);
        for (at, replicas) in assignments.iter().enumerate() {
            let index = i32::try_from(topic.partitions.len() + at).expect("bounded per topic");
            assignment::check(self.image, index, replicas, replication_factor)?;
            groups.push(self.placer.place_on(replicas)?);
        }
        Ok(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::ClusterImage;

    fn grow(
        cluster: &mut ClusterImage,
        name: &str,
        count: i32,
    ) -> Result<(), CreatePartitionsError> {
        let (name, assignments) = (name.to_owned(), None);
        grow_by(
            cluster,
            MorePartitions {
                name,
                count,
                assignments,
            },
        )
    }

    fn grow_by(
        cluster: &mut ClusterImage,
        topic: MorePartitions,
    ) -> Result<(), CreatePartitionsError> {
        let (topics, validate_only) = (vec![topic], false);
        let decision = decide(
            &cluster.image(),
            &CreatePartitions {
                topics,
                validate_only,
            },
        );
        let [(_, result)] = cluster.apply(decision).try_into().unwrap();
        result
    }

    #[test]
    fn adds_partitions_where_the_topic_leads_least() {
        let mut cluster = ClusterImage::with_brokers(3);
        cluster.create("a", 2, 3);
        assert_eq!(grow(&mut cluster, "a", 4), Ok(()));
        assert_eq!(cluster.leaders("a"), [1, 2, 3, 1]);
        let ids: Vec<_> = cluster.image().partitions().map(|(id, _)| id.0).collect();
        assert_eq!(ids, [1, 2, 3, 4]);
    }

    #[test]
    fn takes_assignments() {
        let mut cluster = ClusterImage::with_brokers(3);
        cluster.create("a", 1, 3);
        let mut request = MorePartitions {
            name: "a".to_owned(),
            count: 3,
            assignments: Some(vec![vec![3, 1, 2], vec![2, 1, 3]]),
        };
        assert_eq!(grow_by(&mut cluster, request.clone()), Ok(()));
        assert_eq!(cluster.leaders("a"), [1, 3, 2]);
        let refused = |error| Err(CreatePartitionsError::Assignment(error));
        request.count = 4;
        let (found, expected) = (2, 1);
        let count = refused(AssignmentError::Count { found, expected });
        assert_eq!(grow_by(&mut cluster, request.clone()), count);
        request.assignments = Some(vec![vec![1]]);
        let (index, replicas, expected) = (3, 1, 3);
        let uneven = refused(AssignmentError::Uneven {
            index,
            replicas,
            expected,
        });
        assert_eq!(grow_by(&mut cluster, request.clone()), uneven);
        request.assignments = Some(vec![vec![1, 2, 9]]);
        let unknown = refused(AssignmentError::UnknownBroker(3, 9));
        assert_eq!(grow_by(&mut cluster, request), unknown);
    }

    #[test]
    fn refuses() {
        let mut cluster = ClusterImage::with_brokers(3);
        cluster.create("a", 3, 3);
        for asked in [3, 2, 0, -1] {
            let error = grow(&mut cluster, "a", asked).unwrap_err();
            assert!(matches!(
                error,
                CreatePartitionsError::NoIncrease { current: 3, .. }
            ));
        }
        let mut refused = |name, count| grow(&mut cluster, name, count).unwrap_err();
        assert_eq!(refused("b", 4), CreatePartitionsError::UnknownTopic);
        assert_eq!(refused("a", 20_000), CreatePartitionsError::RequestTooLarge);
        let huge = CreatePartitionsError::TooManyPartitions(60_000);
        assert_eq!(refused("a", 60_000), huge);
    }

    #[test]
    fn duplicates_and_validation_change_nothing() {
        let mut cluster = ClusterImage::with_brokers(3);
        cluster.create("a", 1, 3);
        let (name, count, assignments) = ("a".to_owned(), 2, None);
        let topic = MorePartitions {
            name,
            count,
            assignments,
        };
        let validate_only = true;
        let topics = vec![topic.clone()];
        let decision = decide(
            &cluster.image(),
            &CreatePartitions {
                topics,
                validate_only,
            },
        );
        assert_eq!(decision, Decision::reply(vec![("a".to_owned(), Ok(()))]));
        let (topics, validate_only) = (vec![topic.clone(), topic], false);
        let decision = decide(
            &cluster.image(),
            &CreatePartitions {
                topics,
                validate_only,
            },
        );
        let duplicate = Err(CreatePartitionsError::Duplicate);
        assert_eq!(decision, Decision::reply(vec![("a".to_owned(), duplicate)]));
    }
}

//! Replicas that a request names itself, for new partitions.
use std::collections::BTreeSet;

use ottla_proto::ids::NodeId;
use ottla_proto::limits::GROUP_MEMBERS;
use ottla_proto::metadata::Image;
use thiserror::Error;

/// Each is Kafka's INVALID_REPLICA_ASSIGNMENT.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AssignmentError {
    #[error("The manual partition assignment of partition {0} has no replicas")]
    Empty(i32),
    #[error("The manual partition assignment of partition {0} names broker {1} twice")]
    Duplicate(i32, NodeId),
    #[error("The manual partition assignment of partition {0} names broker {1}, which is unknown")]
    UnknownBroker(i32, NodeId),
    #[error(
        "The manual partition assignment of partition {index} has {replicas} replica(s), where \
         {expected} were expected as for the partitions before it"
    )]
    Uneven {
        index: i32,
        replicas: usize,
        expected: usize,
    },
    #[error(
        "The manual partition assignment of partition {0} has {1} replicas: 1, 3 and 5 are \
         supported, because a majority needs an odd number"
    )]
    Unsupported(i32, usize),
    #[error("The manual partition assignment of partition {0} has no majority of live brokers")]
    NotLive(i32),
    #[error("The manual partition assignment is for partitions {found}, and not for {expected}")]
    Indexes { found: String, expected: String },
    #[error("Manual partition assignments are given for {found} of {expected} new partition(s)")]
    Count { found: usize, expected: usize },
}

/// Whether these replicas can be partition `index`, where each partition has `expected` of them.
pub fn check(
    image: &Image,
    index: i32,
    replicas: &[NodeId],
    expected: usize,
) -> Result<(), AssignmentError> {
    if replicas.is_empty() {
        return Err(AssignmentError::Empty(index));
    }
    if replicas.len() != expected {
        let replicas = replicas.len();
        return Err(AssignmentError::Uneven {
            index,
            replicas,
            expected,
        });
    }
    if replicas.len() > GROUP_MEMBERS || replicas.len().is_multiple_of(2) {
        return Err(AssignmentError::Unsupported(index, replicas.len()));
    }
    let (mut seen, mut live) = (BTreeSet::new(), 0);
    for id in replicas {
        if !seen.insert(id) {
            return Err(AssignmentError::Duplicate(index, *id));
        }
        match image.broker(*id) {
            None => return Err(AssignmentError::UnknownBroker(index, *id)),
            Some(broker) => live += usize::from(broker.is_active()),
        }
    }
    match live > replicas.len() / 2 {
        true => Ok(()),
        false => Err(AssignmentError::NotLive(index)),
    }
}

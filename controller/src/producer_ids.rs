//! AllocateProducerIds (KIP-730): blocks of producer ids, which brokers hand out one by one.
use ottla_proto::ids::NodeId;
use ottla_proto::limits::PRODUCER_ID_BLOCK;
use ottla_proto::metadata::{Image, MetadataRecord, records};
use thiserror::Error;

use crate::Decision;
use crate::brokers::{StaleBroker, check_epoch};

/// `first..first + len`; nobody else has these ids, or ever will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    pub first: i64,
    pub len: i64,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AllocateError {
    #[error(transparent)]
    StaleBroker(#[from] StaleBroker),
    /// UNKNOWN_SERVER_ERROR
    #[error("All producer ids are used up")]
    Exhausted,
}

pub fn decide(
    image: &Image,
    broker_id: NodeId,
    broker_epoch: i64,
) -> Decision<Result<ProducerIdBlock, AllocateError>> {
    match allocate(image, broker_id, broker_epoch) {
        Err(error) => Decision::reply(Err(error)),
        Ok(block) => Decision {
            records: vec![MetadataRecord::ProducerIds(records::ProducerIds {
                broker_id,
                broker_epoch,
                next_producer_id: block.first + block.len,
            })],
            reply: Ok(block),
        },
    }
}

fn allocate(
    image: &Image,
    broker_id: NodeId,
    broker_epoch: i64,
) -> Result<ProducerIdBlock, AllocateError> {
    check_epoch(image, broker_id, broker_epoch)?;
    let first = image.next_producer_id();
    let after = first.checked_add(PRODUCER_ID_BLOCK);
    after.ok_or(AllocateError::Exhausted)?;
    let len = PRODUCER_ID_BLOCK;
    Ok(ProducerIdBlock { first, len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::ClusterImage;

    #[test]
    fn blocks_follow_each_other() {
        let mut cluster = ClusterImage::with_brokers(2);
        let epoch = |cluster: &ClusterImage, id| cluster.image().broker(id).unwrap().epoch;
        for (id, first) in [(1, 0), (2, 1000), (1, 2000)] {
            let decision = decide(&cluster.image(), id, epoch(&cluster, id));
            let len = 1000;
            assert_eq!(cluster.apply(decision), Ok(ProducerIdBlock { first, len }));
        }
    }

    #[test]
    fn refuses_brokers_that_are_not_registered() {
        let cluster = ClusterImage::with_brokers(1);
        for (id, epoch) in [(1, 99), (2, 0)] {
            let decision = decide(&cluster.image(), id, epoch);
            assert!(decision.records.is_empty());
            assert!(matches!(decision.reply, Err(AllocateError::StaleBroker(_))));
        }
    }

    #[test]
    fn ends_before_the_numbers_do() {
        let mut cluster = ClusterImage::with_brokers(1);
        let record = MetadataRecord::ProducerIds(records::ProducerIds {
            broker_id: 1,
            broker_epoch: 0,
            next_producer_id: i64::MAX - 5,
        });
        let records = vec![record];
        cluster.apply(Decision { records, reply: () });
        let decision = decide(&cluster.image(), 1, 0);
        assert_eq!(decision, Decision::reply(Err(AllocateError::Exhausted)));
    }
}

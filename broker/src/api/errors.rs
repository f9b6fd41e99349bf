//! Domain errors to Kafka's error codes: the one place.

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use ottla_controller::alter_configs::AlterConfigError;
use ottla_controller::create_partitions::CreatePartitionsError;
use ottla_controller::create_topics::CreateTopicError;
use ottla_controller::delete_topics::DeleteTopicError;
use ottla_controller::{ControllerError, PlacementError};
use ottla_coordinator::GroupError;
use ottla_log::StoreError;
use ottla_proto::config::ConfigError;
use ottla_proto::limits::ERROR_MESSAGE_BYTES;
use ottla_raft::{AppendError, Outcome};
use ottla_wire::batch::BatchError;

use crate::coordinator::CoordinatorError;
use crate::topics::Unavailable;

pub(super) const NONE: i16 = 0;

/// Nothing was written, and later there may be room: Java's client and librdkafka both keep such a batch
/// and its sequence number, and send it again until `delivery.timeout.ms` is over. Neither does so for
/// THROTTLING_QUOTA_EXCEEDED, and KAFKA_STORAGE_ERROR would make them look for another leader.
const TOO_MANY_PRODUCERS: ResponseError = ResponseError::NotEnoughReplicas;

/// An error code with what the client's log will show.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub code: i16,
    pub message: Option<String>,
}

impl Refusal {
    pub fn new(error: ResponseError, message: impl Into<String>) -> Refusal {
        Refusal {
            code: error.code(),
            message: Some(message.into()),
        }
    }

    /// The message as it goes out. What quotes a request can be longer than its field.
    pub fn text(self) -> Option<StrBytes> {
        let mut text = self.message?;
        text.truncate(text.floor_char_boundary(ERROR_MESSAGE_BYTES));
        Some(StrBytes::from_string(text))
    }
}

impl From<ResponseError> for Refusal {
    fn from(error: ResponseError) -> Refusal {
        Refusal {
            code: error.code(),
            message: None,
        }
    }
}

impl From<Unavailable> for Refusal {
    fn from(error: Unavailable) -> Refusal {
        match error {
            Unavailable::UnknownTopic => ResponseError::UnknownTopicOrPartition.into(),
            Unavailable::UnknownTopicId => ResponseError::UnknownTopicId.into(),
            Unavailable::UnknownPartition => ResponseError::UnknownTopicOrPartition.into(),
            Unavailable::Offline => ResponseError::KafkaStorageError.into(),
            Unavailable::NotLeader => ResponseError::NotLeaderOrFollower.into(),
            Unavailable::FencedEpoch => ResponseError::FencedLeaderEpoch.into(),
            Unavailable::UnknownEpoch => ResponseError::UnknownLeaderEpoch.into(),
        }
    }
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Refusal {
        let code = match &error {
            BatchError::Corrupt(_) => ResponseError::CorruptMessage,
            BatchError::TooLarge { .. } | BatchError::DecompressedTooLarge { .. } => {
                ResponseError::MessageTooLarge
            }
            BatchError::InvalidRecord(_) | BatchError::UnsupportedMagic(_) => {
                ResponseError::InvalidRecord
            }
            BatchError::InvalidTimestamp { .. } | BatchError::InvalidTimestampType => {
                ResponseError::InvalidTimestamp
            }
            BatchError::UnsupportedCompression(_) => ResponseError::UnsupportedCompressionType,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Refusal {
        let code = match error {
            AppendError::NotLeader => ResponseError::NotLeaderOrFollower,
            // The record may be in the log: the client tries again, and idempotence sorts it out.
            AppendError::Unknown => ResponseError::RequestTimedOut,
            AppendError::Stopped => ResponseError::KafkaStorageError,
            AppendError::TooManyProducers => TOO_MANY_PRODUCERS,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        // The store logs what happens to it, once.
        let code = match error {
            StoreError::Damaged { .. } => ResponseError::CorruptMessage,
            _ => ResponseError::KafkaStorageError,
        };
        Refusal::new(code, error.to_string())
    }
}

/// The offset a command brought, or why not.
pub(super) fn offset_of(outcome: &Outcome) -> Result<i64, Refusal> {
    match outcome {
        Outcome::Appended { base_offset } | Outcome::Duplicate { base_offset } => Ok(*base_offset),
        Outcome::Trimmed { log_start_offset } => Ok(*log_start_offset),
        Outcome::OutOfOrderSequence { expected } => {
            let message = format!("the next sequence number of this producer is {expected}");
            Err(Refusal::new(
                ResponseError::OutOfOrderSequenceNumber,
                message,
            ))
        }
        Outcome::InvalidProducerEpoch { current } => {
            let message = format!("this producer id is at epoch {current}");
            Err(Refusal::new(ResponseError::InvalidProducerEpoch, message))
        }
        Outcome::TooManyProducers => Err(AppendError::TooManyProducers.into()),
        Outcome::OffsetOutOfRange => Err(ResponseError::OffsetOutOfRange.into()),
        Outcome::Removed | Outcome::ProducersForgotten | Outcome::UnknownPartition => {
            Err(ResponseError::UnknownTopicOrPartition.into())
        }
    }
}

impl From<CoordinatorError> for Refusal {
    fn from(error: CoordinatorError) -> Refusal {
        let code = match error {
            CoordinatorError::NotCoordinator => ResponseError::NotCoordinator,
            CoordinatorError::LoadInProgress => ResponseError::CoordinatorLoadInProgress,
            CoordinatorError::NotAvailable => ResponseError::CoordinatorNotAvailable,
            CoordinatorError::InvalidGroupId => ResponseError::InvalidGroupId,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<GroupError> for Refusal {
    fn from(error: GroupError) -> Refusal {
        let code = match error {
            GroupError::CoordinatorNotAvailable => ResponseError::CoordinatorNotAvailable,
            GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
            GroupError::InconsistentGroupProtocol => ResponseError::InconsistentGroupProtocol,
            GroupError::InvalidGroupId => ResponseError::InvalidGroupId,
            GroupError::UnknownMemberId => ResponseError::UnknownMemberId,
            GroupError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
            GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
            GroupError::OffsetMetadataTooLarge => ResponseError::OffsetMetadataTooLarge,
            GroupError::NonEmptyGroup => ResponseError::NonEmptyGroup,
            GroupError::GroupIdNotFound => ResponseError::GroupIdNotFound,
            GroupError::MemberIdRequired => ResponseError::MemberIdRequired,
            GroupError::GroupMaxSizeReached => ResponseError::GroupMaxSizeReached,
            GroupError::FencedInstanceId => ResponseError::FencedInstanceId,
            GroupError::GroupSubscribedToTopic => ResponseError::GroupSubscribedToTopic,
            GroupError::UnstableOffsetCommit => ResponseError::UnstableOffsetCommit,
            GroupError::InvalidRequest => ResponseError::InvalidRequest,
            GroupError::UnknownServerError => ResponseError::UnknownServerError,
        };
        Refusal::new(code, error.to_string())
    }
}

/// The code of a group operation's outcome.
pub(super) fn group_code(error: Option<GroupError>) -> i16 {
    error.map_or(NONE, |error| Refusal::from(error).code)
}

/// The request as a whole did not go through.
impl From<&ControllerError> for Refusal {
    fn from(error: &ControllerError) -> Refusal {
        use ottla_controller::AppendError;
        let code = match error {
            ControllerError::Append(AppendError::NotController) => ResponseError::NotController,
            ControllerError::Append(AppendError::Timeout) => ResponseError::RequestTimedOut,
            ControllerError::Append(AppendError::Storage(_)) => ResponseError::KafkaStorageError,
            ControllerError::TooLarge(_) => ResponseError::PolicyViolation,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<&CreateTopicError> for Refusal {
    fn from(error: &CreateTopicError) -> Refusal {
        let code = match error {
            CreateTopicError::Name(_) => ResponseError::InvalidTopicException,
            CreateTopicError::Prohibited => ResponseError::TopicAuthorizationFailed,
            CreateTopicError::Exists(_) => ResponseError::TopicAlreadyExists,
            CreateTopicError::Duplicate | CreateTopicError::CountsWithAssignments => {
                ResponseError::InvalidRequest
            }
            CreateTopicError::NoPartitions(_) | CreateTopicError::TooManyPartitions(_) => {
                ResponseError::InvalidPartitions
            }
            CreateTopicError::RequestTooLarge | CreateTopicError::ClusterFull => {
                ResponseError::PolicyViolation
            }
            CreateTopicError::Assignment(_) => ResponseError::InvalidReplicaAssignment,
            CreateTopicError::Placement(e) => placement(e),
            CreateTopicError::Config(e) => config(e),
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<&CreatePartitionsError> for Refusal {
    fn from(error: &CreatePartitionsError) -> Refusal {
        use CreatePartitionsError as E;
        let code = match error {
            E::UnknownTopic => ResponseError::UnknownTopicOrPartition,
            E::Duplicate => ResponseError::InvalidRequest,
            E::NoIncrease { .. } | E::TooManyPartitions(_) => ResponseError::InvalidPartitions,
            E::RequestTooLarge | E::ClusterFull => ResponseError::PolicyViolation,
            E::Assignment(_) => ResponseError::InvalidReplicaAssignment,
            E::Placement(e) => placement(e),
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<&DeleteTopicError> for Refusal {
    fn from(error: &DeleteTopicError) -> Refusal {
        let code = match error {
            DeleteTopicError::UnknownName => ResponseError::UnknownTopicOrPartition,
            DeleteTopicError::UnknownId => ResponseError::UnknownTopicId,
            DeleteTopicError::Duplicate => ResponseError::InvalidRequest,
            DeleteTopicError::Disabled => ResponseError::TopicDeletionDisabled,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<&AlterConfigError> for Refusal {
    fn from(error: &AlterConfigError) -> Refusal {
        let code = match error {
            AlterConfigError::UnknownTopic(_) => ResponseError::UnknownTopicOrPartition,
            AlterConfigError::UnknownBroker(_) => ResponseError::BrokerNotAvailable,
            AlterConfigError::Duplicate(_) => ResponseError::InvalidRequest,
            AlterConfigError::Config(e) => config(e),
            AlterConfigError::Together(_) | AlterConfigError::TooLong { .. } => {
                ResponseError::InvalidConfig
            }
        };
        Refusal::new(code, error.to_string())
    }
}

fn config(error: &ConfigError) -> ResponseError {
    match error.is_invalid_request() {
        true => ResponseError::InvalidRequest,
        false => ResponseError::InvalidConfig,
    }
}

fn placement(error: &PlacementError) -> ResponseError {
    match error {
        PlacementError::TooManyGroups(_) => ResponseError::PolicyViolation,
        _ => ResponseError::InvalidReplicationFactor,
    }
}

//! What the tests of the guard and the fuzz targets share.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable};

/// A request as `kafka-protocol` sees it.
pub struct Decoded {
    /// Bytes of the body that it did not take.
    pub left_bytes: usize,
    /// The message encoded again, or why it cannot be.
    pub again: Result<Vec<u8>, String>,
}

/// Decodes `body` with `kafka-protocol`.
pub fn decode(key: i16, version: i16, body: Bytes) -> Result<(), String> {
    visit::<DecodeOnly>(key, version, body)
}

/// Decodes `body` with `kafka-protocol`, and encodes it again.
pub fn round_trip(key: i16, version: i16, body: Bytes) -> Result<Decoded, String> {
    visit::<RoundTrip>(key, version, body)
}

trait Visit {
    type Output;
    fn visit<T: Decodable + Encodable>(version: i16, body: Bytes) -> Result<Self::Output, String>;
}

struct DecodeOnly;

impl Visit for DecodeOnly {
    type Output = ();
    fn visit<T: Decodable + Encodable>(version: i16, mut body: Bytes) -> Result<(), String> {
        T::decode(&mut body, version)
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

struct RoundTrip;

impl Visit for RoundTrip {
    type Output = Decoded;
    fn visit<T: Decodable + Encodable>(version: i16, mut body: Bytes) -> Result<Decoded, String> {
        let message = T::decode(&mut body, version).map_err(|error| error.to_string())?;
        let mut out = BytesMut::new();
        let again = message.encode(&mut out, version);
        Ok(Decoded {
            left_bytes: body.len(),
            again: again.map(|()| out.to_vec()).map_err(|e| e.to_string()),
        })
    }
}

macro_rules! requests {
    ($($api:ident: $request:ty,)*) => {
        fn visit<V: Visit>(key: i16, version: i16, body: Bytes) -> Result<V::Output, String> {
            match ApiKey::try_from(key) {
                $(Ok(ApiKey::$api) => V::visit::<$request>(version, body),)*
                _ => panic!("api key {key} has a schema and no type here"),
            }
        }
    };
}

requests! {
    Produce: ProduceRequest,
    Fetch: FetchRequest,
    ListOffsets: ListOffsetsRequest,
    Metadata: MetadataRequest,
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest,
    DescribeTopicPartitions: DescribeTopicPartitionsRequest,
    DescribeProducers: DescribeProducersRequest,
    OffsetCommit: OffsetCommitRequest,
    OffsetFetch: OffsetFetchRequest,
    FindCoordinator: FindCoordinatorRequest,
    JoinGroup: JoinGroupRequest,
    Heartbeat: HeartbeatRequest,
    LeaveGroup: LeaveGroupRequest,
    SyncGroup: SyncGroupRequest,
    DescribeGroups: DescribeGroupsRequest,
    ListGroups: ListGroupsRequest,
    DeleteGroups: DeleteGroupsRequest,
    OffsetDelete: OffsetDeleteRequest,
    ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest,
    ConsumerGroupDescribe: ConsumerGroupDescribeRequest,
    InitProducerId: InitProducerIdRequest,
    AddPartitionsToTxn: AddPartitionsToTxnRequest,
    AddOffsetsToTxn: AddOffsetsToTxnRequest,
    EndTxn: EndTxnRequest,
    TxnOffsetCommit: TxnOffsetCommitRequest,
    DescribeTransactions: DescribeTransactionsRequest,
    ListTransactions: ListTransactionsRequest,
    WriteTxnMarkers: WriteTxnMarkersRequest,
    CreateTopics: CreateTopicsRequest,
    DeleteTopics: DeleteTopicsRequest,
    DeleteRecords: DeleteRecordsRequest,
    CreatePartitions: CreatePartitionsRequest,
    DescribeConfigs: DescribeConfigsRequest,
    AlterConfigs: AlterConfigsRequest,
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest,
    ListConfigResources: ListConfigResourcesRequest,
    ElectLeaders: ElectLeadersRequest,
    AlterPartitionReassignments: AlterPartitionReassignmentsRequest,
    ListPartitionReassignments: ListPartitionReassignmentsRequest,
    ApiVersions: ApiVersionsRequest,
    DescribeCluster: DescribeClusterRequest,
    DescribeQuorum: DescribeQuorumRequest,
    UnregisterBroker: UnregisterBrokerRequest,
    UpdateFeatures: UpdateFeaturesRequest,
    DescribeLogDirs: DescribeLogDirsRequest,
    AlterReplicaLogDirs: AlterReplicaLogDirsRequest,
    GetTelemetrySubscriptions: GetTelemetrySubscriptionsRequest,
    PushTelemetry: PushTelemetryRequest,
    SaslHandshake: SaslHandshakeRequest,
    SaslAuthenticate: SaslAuthenticateRequest,
    DescribeAcls: DescribeAclsRequest,
    CreateAcls: CreateAclsRequest,
    DeleteAcls: DeleteAclsRequest,
    DescribeUserScramCredentials: DescribeUserScramCredentialsRequest,
    AlterUserScramCredentials: AlterUserScramCredentialsRequest,
    DescribeClientQuotas: DescribeClientQuotasRequest,
    AlterClientQuotas: AlterClientQuotasRequest,
}

//! Kafka's APIs. The table below is the one list of what is served: it gives dispatch, the
//! ApiVersions answer, the version check and the metric labels. API versions and wire error codes
//! stop at this folder; a handler authorises, calls, and maps.
//!
//! To serve another API: one file here, one row in the table, a schema in `ottla_wire::guard`.

mod brokers;
mod configs;
mod errors;
mod reply;
mod request;
#[cfg(test)]
mod responses;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Decodable;
use ottla_wire::guard;
use tokio::sync::{OnceCell, watch};

use crate::board::RequestCounts;
use crate::services::Services;
pub use errors::create_topic_error_code;
pub use reply::Reply;
pub use request::{Malformed, Peer, RequestContext};

/// One row of the table.
pub struct Api {
    pub key: ApiKey,
    pub name: &'static str,
    /// Versions listed in ApiVersions.
    pub advertised: (i16, i16),
    /// Lowest version that is answered. Produce lists 0 to 2 and refuses them: librdkafka before 2.x
    /// turns compression off unless the list begins at 0 (as Kafka 4 does).
    pub served_from: i16,
    pub counts: RequestCounts,
}

/// An answer on its way. What had to be done in the connection's order is done when this exists.
pub struct Pending {
    pub api: &'static Api,
    pub answer: BoxFuture<'static, Result<Reply, Malformed>>,
    /// The request's frame stays in memory until the answer is there.
    pub holds_frame: bool,
}

impl Pending {
    fn holding(
        api: &'static Api,
        answer: impl Future<Output = Result<Reply, Malformed>> + Send + 'static,
    ) -> Pending {
        Pending {
            api,
            answer: Box::pin(answer),
            holds_frame: true,
        }
    }
}

macro_rules! apis {
    ($($key:ident = $module:ident, $request:ident, $low:literal..=$high:literal;)*) => {
        $(mod $module;)*

        pub static APIS: [Api; 2 + [$(stringify!($key)),*].len()] = [
            Api { key: ApiKey::Produce, name: "Produce", advertised: (0, 13), served_from: 3, counts: RequestCounts::new() },
            Api { key: ApiKey::Fetch, name: "Fetch", advertised: (4, 17), served_from: 4, counts: RequestCounts::new() },
            $(Api { key: ApiKey::$key, name: stringify!($key), advertised: ($low, $high), served_from: $low, counts: RequestCounts::new() },)*
        ];

        /// Decodes and answers every API but Produce and Fetch, which have two stages.
        async fn answer(services: &Services, context: &RequestContext, mut body: Bytes) -> Result<Reply, Malformed> {
            let version = context.version;
            match context.api.key {
                $(ApiKey::$key => {
                    let request = $request::decode(&mut body, version).map_err(Malformed::decode)?;
                    drop(body);
                    let response = $module::handle(services, context, request).await;
                    Reply::encode(context, &response)
                })*
                key => unreachable!("{key:?} is not in the table"),
            }
        }

        /// Tries random responses of one version: see `responses.rs`.
        #[cfg(test)]
        fn try_responses(api: &'static Api, version: i16) -> Result<u32, String> {
            match api.key {
                ApiKey::Produce => {
                    let responses = produce::tests::responses(version);
                    responses::come_back(api, version, responses, produce::tests::as_of)
                }
                ApiKey::Fetch => fetch::tests::come_back(api, version),
                $(ApiKey::$key => {
                    let responses = $module::tests::responses(version);
                    responses::come_back(api, version, responses, $module::tests::as_of)
                })*
                key => Err(format!("{key:?} is in the table and not tried")),
            }
        }
    };
}

mod fetch;
mod produce;

apis! {
    ListOffsets = list_offsets, ListOffsetsRequest, 1..=10;
    Metadata = metadata, MetadataRequest, 0..=13;
    OffsetCommit = offset_commit, OffsetCommitRequest, 2..=9;
    OffsetFetch = offset_fetch, OffsetFetchRequest, 1..=9;
    FindCoordinator = find_coordinator, FindCoordinatorRequest, 0..=6;
    JoinGroup = join_group, JoinGroupRequest, 0..=9;
    Heartbeat = heartbeat, HeartbeatRequest, 0..=4;
    LeaveGroup = leave_group, LeaveGroupRequest, 0..=5;
    SyncGroup = sync_group, SyncGroupRequest, 0..=5;
    DescribeGroups = describe_groups, DescribeGroupsRequest, 0..=6;
    ListGroups = list_groups, ListGroupsRequest, 0..=5;
    ApiVersions = api_versions, ApiVersionsRequest, 0..=4;
    CreateTopics = create_topics, CreateTopicsRequest, 2..=7;
    DeleteTopics = delete_topics, DeleteTopicsRequest, 1..=6;
    DeleteRecords = delete_records, DeleteRecordsRequest, 0..=2;
    InitProducerId = init_producer_id, InitProducerIdRequest, 0..=5;
    OffsetForLeaderEpoch = offset_for_leader_epoch, OffsetForLeaderEpochRequest, 2..=4;
    DescribeConfigs = describe_configs, DescribeConfigsRequest, 1..=4;
    AlterConfigs = alter_configs, AlterConfigsRequest, 0..=2;
    DescribeLogDirs = describe_log_dirs, DescribeLogDirsRequest, 1..=4;
    CreatePartitions = create_partitions, CreatePartitionsRequest, 0..=3;
    DeleteGroups = delete_groups, DeleteGroupsRequest, 0..=2;
    IncrementalAlterConfigs = incremental_alter_configs, IncrementalAlterConfigsRequest, 0..=1;
    ElectLeaders = elect_leaders, ElectLeadersRequest, 0..=2;
    AlterPartitionReassignments = alter_partition_reassignments, AlterPartitionReassignmentsRequest, 0..=1;
    ListPartitionReassignments = list_partition_reassignments, ListPartitionReassignmentsRequest, 0..=0;
    OffsetDelete = offset_delete, OffsetDeleteRequest, 0..=0;
    DescribeQuorum = describe_quorum, DescribeQuorumRequest, 0..=2;
    DescribeCluster = describe_cluster, DescribeClusterRequest, 0..=2;
    UnregisterBroker = unregister_broker, UnregisterBrokerRequest, 0..=0;
    DescribeProducers = describe_producers, DescribeProducersRequest, 0..=0;
    DescribeTopicPartitions = describe_topic_partitions, DescribeTopicPartitionsRequest, 0..=0;
}

/// What only the active controller decides or knows. Clients may send it to any broker (KIP-590).
fn is_for_controller(key: ApiKey) -> bool {
    use ApiKey::*;
    matches!(
        key,
        CreateTopics
            | DeleteTopics
            | CreatePartitions
            | AlterConfigs
            | IncrementalAlterConfigs
            | DescribeQuorum
            | ElectLeaders
            | AlterPartitionReassignments
            | ListPartitionReassignments
            | UnregisterBroker
    )
}

/// A request that another broker hands on; the whole response, its length included. Only for what
/// [`is_for_controller`].
pub fn forwarded(
    services: Arc<Services>,
    address: IpAddr,
    listener: String,
    frame: Bytes,
) -> BoxFuture<'static, Result<Bytes, Malformed>> {
    // Boxed: some handlers ask the controller, who answers this.
    Box::pin(async move { answer_forwarded(&services, address, &listener, frame).await })
}

async fn answer_forwarded(
    services: &Arc<Services>,
    address: IpAddr,
    listener: &str,
    frame: Bytes,
) -> Result<Bytes, Malformed> {
    let header = guard::header(&frame).map_err(Malformed::guard)?;
    let body = frame.slice(header.size_bytes..);
    let api = APIS.iter().find(|api| api.key as i16 == header.api_key);
    let api = api.filter(|api| is_for_controller(api.key));
    let api = api.ok_or(Malformed::NotServed(header.api_key))?;
    let version = header.api_version;
    if version < api.served_from || version > api.advertised.1 {
        let api = api.name;
        return Err(Malformed::Version { api, version });
    }
    let limits = &services.guard_limits;
    guard::check(header.api_key, version, &body, limits).map_err(Malformed::guard)?;
    let (_here, gone) = watch::channel(false);
    let context = RequestContext {
        api,
        version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.map(str::to_owned),
        peer: Arc::new(Peer {
            address,
            listener: listener.into(),
            gone,
        }),
        place: OnceCell::new(),
    };
    let reply = answer(services, &context, body).await?;
    Ok(reply.segments.concat().into())
}

/// Takes one frame (without its length). Waits only for room; what returns is to be awaited when
/// all answers before it on the connection are sent.
pub async fn start(
    services: &Arc<Services>,
    peer: &Arc<Peer>,
    frame: Bytes,
) -> Result<Pending, Malformed> {
    let header = guard::header(&frame).map_err(Malformed::guard)?;
    let body = frame.slice(header.size_bytes..);
    let api = APIS
        .iter()
        .find(|api| api.key as i16 == header.api_key)
        .ok_or(Malformed::NotServed(header.api_key))?;
    let context = RequestContext {
        api,
        version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.map(str::to_owned),
        peer: peer.clone(),
        place: OnceCell::new(),
    };
    api.counts.asked();
    if context.version < api.served_from || context.version > api.advertised.1 {
        return api_versions::unsupported(services, context);
    }
    guard::check(
        header.api_key,
        header.api_version,
        &body,
        &services.guard_limits,
    )
    .map_err(Malformed::guard)?;
    match api.key {
        ApiKey::Produce => {
            let request = decode::<ProduceRequest>(body, context.version)?;
            Ok(produce::start(services, context, request, frame.len()).await)
        }
        ApiKey::Fetch => {
            let request = decode::<FetchRequest>(body, context.version)?;
            let answer = fetch::handle(services.clone(), context, request);
            Ok(Pending::holding(api, answer))
        }
        _ => {
            let answer = answer_in_room(services.clone(), context, frame, body);
            Ok(Pending::holding(api, answer))
        }
    }
}

/// An answer whose memory is counted. Who waits for room holds a place, so that few answers wait.
async fn answer_in_room(
    services: Arc<Services>,
    context: RequestContext,
    frame: Bytes,
    body: Bytes,
) -> Result<Reply, Malformed> {
    if is_for_controller(context.api.key) && !services.metadata.is_leader() {
        let peer = &context.peer;
        let forwarded =
            services
                .controllers
                .forward(frame, &peer.listener, peer.address.to_string());
        match forwarded.await {
            Ok(frame) => return Ok(Reply::segments(vec![frame], None)),
            // The handler says it in the request's own words: NOT_CONTROLLER.
            Err(error) => {
                tracing::warn!(api = context.api.name, %error, "a request was not forwarded")
            }
        }
    } else {
        drop(frame);
    }
    let mut reply = answer(&services, &context, body).await?;
    let waits = context.place.initialized();
    reply.charge(&services.fetch_room, waits).await?;
    Ok(reply)
}

fn decode<T: Decodable>(mut body: Bytes, version: i16) -> Result<T, Malformed> {
    T::decode(&mut body, version).map_err(Malformed::decode)
}

//! Tries the responses of every API in the table, in every version that is served.
//!
//! Each module gives, beside its handler, random responses made by the functions that make the real
//! ones (`tests::responses`), and what a client of a version sees of a response (`tests::as_of`): the
//! fields that the version lacks go back to their defaults there, by name, and what must not be null
//! in the version is asserted. A response must encode (kafka-protocol refuses a field that the
//! version lacks, and the connection would close), decode to its last byte, and come back as seen.

use std::cell::Cell;
use std::fmt::Debug;

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use ottla_coordinator::{GroupError, GroupState, TopicResult};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use super::brokers::{Endpoint, Placement};
use super::errors::Refusal;
use super::{APIS, Api, Peer, Reply, RequestContext};
use crate::coordinator::CoordinatorError;

/// Random responses of one version of one API.
const CASES: u32 = 100;
const CORRELATION_ID: i32 = 0x0102_0304;
/// The longest string of the encodings before KIP-482.
const STRING_BYTES: usize = i16::MAX as usize;

pub(super) fn context(api: &'static Api, version: i16) -> RequestContext {
    let peer = Peer {
        address: [127, 0, 0, 1].into(),
        listener: "PLAINTEXT".into(),
        gone: tokio::sync::watch::channel(false).1,
    };
    RequestContext {
        api,
        version,
        correlation_id: CORRELATION_ID,
        client_id: None,
        place: Default::default(),
        peer: peer.into(),
    }
}

/// Tries random responses. Answers how many, or the smallest that failed.
pub(super) fn come_back<T>(
    api: &'static Api,
    version: i16,
    responses: BoxedStrategy<T>,
    as_of: fn(i16, T) -> T,
) -> Result<u32, String>
where
    T: Clone + Debug + PartialEq + Encodable + Decodable + HeaderVersion,
{
    come_back_as(api, version, responses, |context, response| {
        let reply = Reply::encode(context, &response).map_err(|e| e.to_string())?;
        Ok((reply, as_of(context.version, response)))
    })
}

/// The same for what has an encoder of its own: `encode` gives the reply and what is to be seen.
pub(super) fn come_back_as<O: Debug, T>(
    api: &'static Api,
    version: i16,
    outcomes: BoxedStrategy<O>,
    encode: impl Fn(&RequestContext, O) -> Result<(Reply, T), String>,
) -> Result<u32, String>
where
    T: Debug + PartialEq + Decodable + HeaderVersion,
{
    let context = context(api, version);
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let tries = Cell::new(0);
    let result = TestRunner::new(config).run(&outcomes, |outcome| {
        tries.set(tries.get() + 1);
        let (reply, expected) = encode(&context, outcome).map_err(TestCaseError::fail)?;
        let read = read::<T>(version, reply).map_err(TestCaseError::fail)?;
        prop_assert_eq!(read, expected);
        Ok(())
    });
    match result {
        Ok(()) => Ok(tries.get()),
        Err(error) => Err(format!("{} v{version}: {error}", api.name)),
    }
}

/// What a client reads: the length, the header, and a body with nothing after it.
fn read<T: Decodable + HeaderVersion>(version: i16, reply: Reply) -> Result<T, String> {
    let mut frame = Bytes::from(reply.segments.concat());
    let length = frame.get_i32();
    if length as usize != frame.len() {
        return Err(format!("{length} is told, {} bytes follow", frame.len()));
    }
    let header = ResponseHeader::decode(&mut frame, T::header_version(version));
    let header = header.map_err(|e| format!("the header does not decode: {e}"))?;
    if header.correlation_id != CORRELATION_ID {
        return Err(format!("correlation id {}", header.correlation_id));
    }
    let body = T::decode(&mut frame, version).map_err(|e| format!("does not decode: {e}"))?;
    match frame.is_empty() {
        true => Ok(body),
        false => Err(format!("{} bytes follow the body", frame.len())),
    }
}

/// Every row and every version: an API without `tests::responses` does not compile.
#[test]
fn every_response_of_every_version_comes_back() {
    let mut failures = Vec::new();
    let mut versions = 0;
    for api in &APIS {
        for version in api.served_from..=api.advertised.1 {
            match super::try_responses(api, version) {
                Ok(tried) if tried >= CASES => versions += 1,
                Ok(tried) => failures.push(format!("{} v{version}: only {tried}", api.name)),
                Err(failure) => failures.push(failure),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let served = APIS
        .iter()
        .map(|api| api.advertised.1 - api.served_from + 1);
    assert_eq!(versions, served.sum::<i16>());
}

/// The harness finds what it is for: a field that the version lacks, and a string that is too long.
#[test]
fn what_does_not_encode_is_found() {
    use kafka_protocol::messages::JoinGroupResponse;
    let api = APIS.iter().find(|api| api.name == "JoinGroup").unwrap();
    let tried = |response: JoinGroupResponse, version| {
        come_back(api, version, Just(response).boxed(), |_, response| response)
    };
    let joined = JoinGroupResponse::default().with_protocol_name(Some(StrBytes::default()));
    let skips = joined.clone().with_skip_assignment(true);
    assert!(
        tried(skips.clone(), 8)
            .unwrap_err()
            .contains("JoinGroup v8")
    );
    assert!(tried(skips, 9).is_ok());
    let long = StrBytes::from_string("x".repeat(STRING_BYTES + 1));
    let long = joined.clone().with_member_id(long);
    assert!(tried(long.clone(), 5).unwrap_err().contains("too long"));
    assert!(tried(long, 9).is_ok());
    // Not seen before v2: not what was sent.
    let throttled = joined.with_throttle_time_ms(5);
    assert!(tried(throttled.clone(), 1).is_err());
    assert!(tried(throttled, 2).is_ok());
}

// What responses are made of.

/// Any text that a field of any version can hold: empty, Unicode, the longest.
pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just(String::new()),
        1 => Just("x".repeat(STRING_BYTES)),
        4 => "[a-z._-]{1,20}",
        4 => any::<String>(),
    ]
}

/// The same as it stands in requests, which are echoed.
pub(super) fn str_bytes() -> impl Strategy<Value = StrBytes> {
    text().prop_map(StrBytes::from_string)
}

pub(super) fn payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..64).prop_map(Bytes::from)
}

pub(super) fn int8() -> impl Strategy<Value = i8> {
    any::<i8>()
}

pub(super) fn int16() -> impl Strategy<Value = i16> {
    prop_oneof![select(vec![i16::MIN, -1, 0, 1, i16::MAX]), any::<i16>()]
}

pub(super) fn int32() -> impl Strategy<Value = i32> {
    prop_oneof![select(vec![i32::MIN, -1, 0, 1, i32::MAX]), any::<i32>()]
}

pub(super) fn int64() -> impl Strategy<Value = i64> {
    prop_oneof![select(vec![i64::MIN, -1, 0, 1, i64::MAX]), any::<i64>()]
}

pub(super) fn id() -> impl Strategy<Value = Uuid> {
    prop_oneof![Just(0), Just(u128::MAX), any::<u128>()].prop_map(Uuid::from_u128)
}

/// None, one, or many.
pub(super) fn list<S: Strategy>(element: S) -> impl Strategy<Value = Vec<S::Value>> {
    vec(element, 0..6)
}

/// An error with or without a message, which may quote what no field can hold.
pub(super) fn refusal() -> impl Strategy<Value = Refusal> {
    let message = prop_oneof![text(), Just("\u{20ac}".repeat(STRING_BYTES))];
    (int16(), option::of(message)).prop_map(|(code, message)| Refusal { code, message })
}

pub(super) fn outcome<S: Strategy>(ok: S) -> impl Strategy<Value = Result<S::Value, Refusal>>
where
    S::Value: 'static,
{
    prop_oneof![3 => ok.prop_map(Ok), 1 => refusal().prop_map(Err)]
}

pub(super) fn error() -> impl Strategy<Value = ResponseError> {
    use ResponseError as E;
    select(vec![
        E::UnknownServerError,
        E::OffsetOutOfRange,
        E::UnknownTopicOrPartition,
        E::InvalidRequest,
        E::UnknownTopicId,
    ])
}

pub(super) fn group_error() -> impl Strategy<Value = GroupError> {
    use GroupError as E;
    select(vec![
        E::CoordinatorNotAvailable,
        E::IllegalGeneration,
        E::InconsistentGroupProtocol,
        E::InvalidGroupId,
        E::UnknownMemberId,
        E::InvalidSessionTimeout,
        E::RebalanceInProgress,
        E::OffsetMetadataTooLarge,
        E::NonEmptyGroup,
        E::GroupIdNotFound,
        E::MemberIdRequired,
        E::GroupMaxSizeReached,
        E::FencedInstanceId,
        E::GroupSubscribedToTopic,
        E::UnstableOffsetCommit,
        E::InvalidRequest,
        E::UnknownServerError,
    ])
}

pub(super) fn coordinator_error() -> impl Strategy<Value = CoordinatorError> {
    use CoordinatorError as E;
    select(vec![
        E::NotCoordinator,
        E::LoadInProgress,
        E::NotAvailable,
        E::InvalidGroupId,
    ])
}

/// What a coordinator answers, or that it cannot.
pub(super) fn coordinated<S: Strategy>(
    answer: S,
) -> impl Strategy<Value = Result<S::Value, CoordinatorError>>
where
    S::Value: 'static,
{
    prop_oneof![4 => answer.prop_map(Ok), 1 => coordinator_error().prop_map(Err)]
}

pub(super) fn placement() -> impl Strategy<Value = Placement> {
    let ids = || list(int32().prop_map(Into::into));
    let numbers = (int16(), int32(), int32());
    (numbers, ids(), ids(), ids()).prop_map(|(numbers, replicas, in_sync, offline)| Placement {
        error_code: numbers.0,
        leader: numbers.1.into(),
        leader_epoch: numbers.2,
        replicas,
        in_sync,
        offline,
    })
}

pub(super) fn group_state() -> impl Strategy<Value = GroupState> {
    use GroupState as S;
    select(vec![
        S::Empty,
        S::PreparingRebalance,
        S::CompletingRebalance,
        S::Stable,
        S::Dead,
    ])
}

pub(super) fn topic_results() -> impl Strategy<Value = Vec<TopicResult>> {
    let partitions = list((int32(), option::of(group_error())));
    list((text(), partitions).prop_map(|(name, partitions)| TopicResult { name, partitions }))
}

pub(super) fn endpoint() -> impl Strategy<Value = Endpoint> {
    let numbers = (int32(), int32(), any::<bool>());
    (numbers, str_bytes(), option::of(str_bytes())).prop_map(|(numbers, host, rack)| Endpoint {
        id: numbers.0.into(),
        host,
        port: numbers.1,
        rack,
        fenced: numbers.2,
    })
}

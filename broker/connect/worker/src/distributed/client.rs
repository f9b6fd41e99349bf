//! The few requests by which workers are a group, over one connection to the group's coordinator.
//!
//! The client library speaks this protocol for consumers only (docs/decisions/0021-workers-are-a-group.md).
//! Versions are ones that every broker since Kafka 2.3 has: FindCoordinator 2, JoinGroup 5, SyncGroup 3,
//! Heartbeat 3, LeaveGroup 3.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, RequestHeader, ResponseHeader, SyncGroupRequest, SyncGroupResponse,
    join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
    sync_group_request::SyncGroupRequestAssignment,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use ottla_connect::cluster::protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Largest answer: that of JoinGroup to the leader names what every worker runs.
const ANSWER_BYTES_MAX: usize = 32 << 20;

#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no answer after {0:?}")]
    Late(Duration),
    #[error("an answer that cannot be read: {0}")]
    Malformed(String),
    #[error("{what}: error {code}")]
    Code { what: &'static str, code: i16 },
}

pub struct Coordinator {
    stream: TcpStream,
    client_id: StrBytes,
    group: GroupId,
    next_id: i32,
}

impl Coordinator {
    /// Asks the first broker that answers who coordinates the group, and connects to that one.
    pub async fn find(
        bootstrap: &[String],
        client_id: &str,
        group: &str,
        wait: Duration,
    ) -> Result<Coordinator, GroupError> {
        let mut last = GroupError::Malformed("bootstrap.servers is empty".into());
        for address in bootstrap {
            let found = async {
                let mut any = Coordinator::connect(address, client_id, group, wait).await?;
                let request = FindCoordinatorRequest::default().with_key(any.group.0.clone());
                let answer = any.call(2, &request, wait).await?;
                check("FindCoordinator", answer.error_code)?;
                let address = format!("{}:{}", answer.host, answer.port);
                Coordinator::connect(&address, client_id, group, wait).await
            };
            match found.await {
                Ok(coordinator) => return Ok(coordinator),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect(
        address: &str,
        client_id: &str,
        group: &str,
        wait: Duration,
    ) -> Result<Coordinator, GroupError> {
        let connected = timeout(wait, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| GroupError::Late(wait))??;
        stream.set_nodelay(true)?;
        Ok(Coordinator {
            stream,
            client_id: StrBytes::from_string(client_id.to_owned()),
            group: GroupId(StrBytes::from_string(group.to_owned())),
            next_id: 0,
        })
    }

    pub async fn join(
        &mut self,
        member: &str,
        metadata: Bytes,
        session: Duration,
        rebalance: Duration,
        wait: Duration,
    ) -> Result<JoinGroupResponse, GroupError> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(protocol::NAME))
            .with_metadata(metadata);
        let request = JoinGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_session_timeout_ms(milliseconds(session))
            .with_rebalance_timeout_ms(milliseconds(rebalance))
            .with_member_id(StrBytes::from_string(member.to_owned()))
            .with_protocol_type(StrBytes::from_static_str(protocol::TYPE))
            .with_protocols(vec![protocol]);
        self.call(5, &request, wait).await
    }

    pub async fn sync(
        &mut self,
        member: &str,
        generation: i32,
        assignments: Vec<(String, Bytes)>,
        wait: Duration,
    ) -> Result<SyncGroupResponse, GroupError> {
        let assignments = assignments.into_iter().map(|(member, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(StrBytes::from_string(member))
                .with_assignment(assignment)
        });
        let request = SyncGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(generation)
            .with_member_id(StrBytes::from_string(member.to_owned()))
            .with_assignments(assignments.collect());
        self.call(3, &request, wait).await
    }

    /// The error code of the answer.
    pub async fn heartbeat(
        &mut self,
        member: &str,
        generation: i32,
        wait: Duration,
    ) -> Result<i16, GroupError> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(generation)
            .with_member_id(StrBytes::from_string(member.to_owned()));
        Ok(self.call(3, &request, wait).await?.error_code)
    }

    pub async fn leave(&mut self, member: &str, wait: Duration) -> Result<(), GroupError> {
        let member =
            MemberIdentity::default().with_member_id(StrBytes::from_string(member.to_owned()));
        let request = LeaveGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_members(vec![member]);
        let answer = self.call(3, &request, wait).await?;
        check("LeaveGroup", answer.error_code)
    }

    async fn call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        wait: Duration,
    ) -> Result<R::Response, GroupError> {
        let called = timeout(wait, self.exchange(version, request)).await;
        called.map_err(|_| GroupError::Late(wait))?
    }

    async fn exchange<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, GroupError> {
        let bad = |e: &dyn std::fmt::Display| GroupError::Malformed(e.to_string());
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(id)
            .with_client_id(Some(self.client_id.clone()));
        let mut frame = BytesMut::from(&[0; 4][..]);
        header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|e| bad(&e))?;
        let length = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await?;
        let length = self.stream.read_i32().await?;
        let length = usize::try_from(length).ok();
        let length = length.filter(|l| *l <= ANSWER_BYTES_MAX);
        let length = length.ok_or_else(|| bad(&"its length is out of range"))?;
        // Grows with what arrives, not with what is announced.
        let mut body = Vec::new();
        let mut limited = (&mut self.stream).take(length as u64);
        limited.read_to_end(&mut body).await?;
        if body.len() < length {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        let mut body = Bytes::from(body);
        let header = ResponseHeader::decode(&mut body, R::Response::header_version(version));
        if header.map_err(|e| bad(&e))?.correlation_id != id {
            return Err(bad(&"it answers another request"));
        }
        R::Response::decode(&mut body, version).map_err(|e| bad(&e))
    }
}

pub fn check(what: &'static str, code: i16) -> Result<(), GroupError> {
    match code {
        0 => Ok(()),
        code => Err(GroupError::Code { what, code }),
    }
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

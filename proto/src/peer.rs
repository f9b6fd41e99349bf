//! The service that brokers and controllers of one cluster call on each other (`proto/peer.proto`),
//! and the one rule that both its sides apply: [`answer_hello`] and [`check_reply`].
use tonic::Status;

#[allow(clippy::all, missing_docs)]
mod generated {
    pub mod metadata {
        pub mod v1 {
            pub use crate::metadata::records::*;
        }
    }
    pub mod peer {
        pub mod v1 {
            tonic::include_proto!("ottla.peer.v1");
        }
    }
}
pub use generated::peer::v1::*;

/// Oldest and newest version of the service that this build speaks.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 1..=1;

/// What a node says about itself in a hello, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    pub cluster_id: String,
    pub node_id: i32,
    /// -1: not registered as a broker.
    pub broker_epoch: i64,
}

impl PeerInfo {
    /// The request that introduces this node.
    pub fn hello(&self) -> HelloRequest {
        HelloRequest {
            cluster_id: self.cluster_id.clone(),
            node_id: self.node_id,
            broker_epoch: self.broker_epoch,
            min_version: *VERSIONS.start(),
            max_version: *VERSIONS.end(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// The called node's answer, or FAILED_PRECONDITION for a node of another cluster or without a
/// version in common.
pub fn answer_hello(me: &PeerInfo, request: &HelloRequest) -> Result<HelloReply, Status> {
    same_cluster(me, &request.cluster_id, request.node_id)?;
    let version = request.max_version.min(*VERSIONS.end());
    if version < request.min_version || version < *VERSIONS.start() {
        return Err(Status::failed_precondition(format!(
            "node {} speaks peer versions {} to {}, node {} speaks {} to {}: upgrade the older one",
            request.node_id,
            request.min_version,
            request.max_version,
            me.node_id,
            VERSIONS.start(),
            VERSIONS.end(),
        )));
    }
    Ok(HelloReply {
        cluster_id: me.cluster_id.clone(),
        node_id: me.node_id,
        broker_epoch: me.broker_epoch,
        version,
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// The caller's side: `expected_node_id` is whom the address was thought to belong to.
pub fn check_reply(me: &PeerInfo, expected_node_id: i32, reply: &HelloReply) -> Result<(), Status> {
    same_cluster(me, &reply.cluster_id, reply.node_id)?;
    if reply.node_id != expected_node_id {
        return Err(Status::failed_precondition(format!(
            "node {} answered where node {expected_node_id} was expected",
            reply.node_id
        )));
    }
    if !VERSIONS.contains(&reply.version) {
        return Err(Status::failed_precondition(format!(
            "node {} chose peer version {}, which this node does not speak",
            reply.node_id, reply.version
        )));
    }
    Ok(())
}

fn same_cluster(me: &PeerInfo, cluster_id: &str, node_id: i32) -> Result<(), Status> {
    if cluster_id == me.cluster_id {
        return Ok(());
    }
    // The id comes from a stranger: bound what reaches the log.
    let theirs: String = cluster_id.chars().take(64).collect();
    Err(Status::failed_precondition(format!(
        "node {node_id} belongs to cluster {theirs:?}, node {} to cluster {:?}",
        me.node_id, me.cluster_id
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn node(cluster_id: &str, node_id: i32) -> PeerInfo {
        PeerInfo {
            cluster_id: cluster_id.to_owned(),
            node_id,
            broker_epoch: 7,
        }
    }

    #[test]
    fn peers_of_one_cluster_agree_on_a_version() {
        let (a, b) = (node("c", 1), node("c", 2));
        let reply = answer_hello(&b, &a.hello()).unwrap();
        assert_eq!(
            (reply.node_id, reply.broker_epoch, reply.version),
            (2, 7, 1)
        );
        check_reply(&a, 2, &reply).unwrap();
        assert_eq!(
            check_reply(&a, 3, &reply).unwrap_err().code(),
            Code::FailedPrecondition
        );
    }

    #[test]
    fn a_newer_peer_falls_back_to_our_version() {
        let mut hello = node("c", 1).hello();
        hello.max_version = 9;
        assert_eq!(answer_hello(&node("c", 2), &hello).unwrap().version, 1);
    }

    #[test]
    fn refuses_strangers() {
        let me = node("c", 2);
        let other = answer_hello(&me, &node("d", 1).hello()).unwrap_err();
        assert_eq!(other.code(), Code::FailedPrecondition);
        let mut newer = node("c", 1).hello();
        (newer.min_version, newer.max_version) = (2, 3);
        assert_eq!(
            answer_hello(&me, &newer).unwrap_err().code(),
            Code::FailedPrecondition
        );
        let mut none = node("c", 1).hello();
        (none.min_version, none.max_version) = (0, 0);
        assert_eq!(
            answer_hello(&me, &none).unwrap_err().code(),
            Code::FailedPrecondition
        );
    }
}

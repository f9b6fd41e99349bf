//! How a cluster begins, and how a node finds the one it belongs to.
//!
//! The voters of `controller.quorum.voters` found a cluster together: the one with the lowest id, once
//! every voter says that it belongs to none. It draws the cluster id, and writes it down with all
//! founders before anyone hears of it. Everyone else takes both from a node that has them. So a voter
//! that lost its disk finds the cluster that is there instead of founding another one, and a cluster is
//! never founded twice: that would take all voters without data.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use ottla_proto::config::{HostPort, QuorumVoter};
use ottla_proto::ids::NodeId;
use ottla_proto::limits::{
    CLUSTER_ID_BYTES, FORMATION_CALL_WAIT_MS, FORMATION_PAUSE_MS, GROUP_MEMBERS,
};
use ottla_proto::peer::IntroduceReply;

use crate::identity::{Identity, IdentityError, Prepared, random_cluster_id};

/// How often a node that waits for others says so in the log, counted in rounds.
pub const ROUNDS_PER_LINE: u32 = 50;

#[derive(Debug, thiserror::Error)]
pub enum FormationError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(
        "the voters of controller.quorum.voters belong to different clusters: node {} to {}, node {} to {}",
        .0.0, .0.1, .1.0, .1.1
    )]
    Torn((NodeId, String), (NodeId, String)),
    #[error(
        "controller.quorum.bootstrap.servers: {0} and {1} are both node {2}; name each controller once"
    )]
    SameNode(String, String, NodeId),
    #[error("controller.quorum.bootstrap.servers does not name this controller, node {0}: {1}")]
    NotListed(NodeId, String),
    #[error(
        "controller.quorum.bootstrap.servers names this process, node {0}, which is only a broker"
    )]
    NotAController(NodeId),
}

/// Asks a voter who it is; `None`: no answer.
pub type Ask<'a> = dyn Fn(&HostPort) -> BoxFuture<'static, Option<IntroduceReply>> + Sync + 'a;

/// Asks, for as long as an answer may take.
pub async fn ask_within(ask: &Ask<'_>, address: &HostPort) -> Option<IntroduceReply> {
    let wait = Duration::from_millis(FORMATION_CALL_WAIT_MS);
    let answer = tokio::time::timeout(wait, ask(address));
    answer.await.ok()?.filter(is_sound)
}

/// Whether a node says of itself what can be.
fn is_sound(reply: &IntroduceReply) -> bool {
    reply.node_id >= 0
        && (reply.replica >> 32) as NodeId == reply.node_id
        && reply.cluster_id.len() <= CLUSTER_ID_BYTES
        && reply.founders.len() <= GROUP_MEMBERS
        && reply.voters.len() <= GROUP_MEMBERS
}

/// What a round of questions leads to.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// There is a cluster.
    Join(String, Vec<u64>),
    /// There is none, and this node is the one to found it, with these replicas.
    Found(Vec<u64>),
    /// For these voters.
    Wait(Vec<NodeId>),
}

/// Makes the folder part of its cluster, however long the other voters take.
pub async fn form(
    prepared: Prepared,
    voters: &[QuorumVoter],
    ask: &Ask<'_>,
) -> Result<Identity, FormationError> {
    let me = (prepared.node_id, prepared.replica_id());
    for round in 0.. {
        let others = voters.iter().filter(|voter| voter.id != me.0);
        let asked = others.map(|voter| {
            let address = voter.address();
            async move { Some((voter.id, ask_within(ask, &address).await?)) }
        });
        let answers = join_all(asked).await.into_iter().flatten().collect();
        match decide(me, voters, &answers)? {
            Next::Join(cluster_id, founders) => {
                tracing::info!(cluster_id, "joining the cluster");
                return Ok(prepared.join(cluster_id, founders, voters)?);
            }
            Next::Found(founders) => {
                let cluster_id = random_cluster_id();
                tracing::info!(cluster_id, "founding a cluster");
                return Ok(prepared.join(cluster_id, founders, voters)?);
            }
            Next::Wait(missing) if round % ROUNDS_PER_LINE == ROUNDS_PER_LINE - 1 => {
                tracing::info!(
                    ?missing,
                    "waiting for the other voters to found the cluster"
                );
            }
            Next::Wait(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(FORMATION_PAUSE_MS)).await;
    }
    unreachable!("rounds go on")
}

/// `me`: this node and its replica. Answers of impostors count as none.
fn decide(
    me: (NodeId, u64),
    voters: &[QuorumVoter],
    answers: &BTreeMap<NodeId, IntroduceReply>,
) -> Result<Next, FormationError> {
    let sound = || answers.iter().filter(|(id, reply)| reply.node_id == **id);
    let mut formed = sound().filter(|(_, reply)| !reply.cluster_id.is_empty());
    if let Some((id, first)) = formed.next() {
        if let Some((other, reply)) = formed.find(|(_, reply)| reply.cluster_id != first.cluster_id)
        {
            let told = |id: &NodeId, reply: &IntroduceReply| (*id, reply.cluster_id.clone());
            return Err(FormationError::Torn(told(id, first), told(other, reply)));
        }
        // Who is not among the founders has come later, perhaps with a new disk: it is added by the
        // quorum's leader.
        let founders = match first.founders.contains(&me.1) {
            true => first.founders.clone(),
            false => Vec::new(),
        };
        return Ok(Next::Join(first.cluster_id.clone(), founders));
    }
    let replica_of = |voter: &QuorumVoter| match voter.id == me.0 {
        true => Some(me.1),
        false => sound()
            .find(|(id, _)| **id == voter.id)
            .map(|(_, reply)| reply.replica),
    };
    let missing: Vec<NodeId> = {
        let missing = voters.iter().filter(|voter| replica_of(voter).is_none());
        missing.map(|voter| voter.id).collect()
    };
    let lowest = voters.iter().map(|voter| voter.id).min();
    if !missing.is_empty() {
        return Ok(Next::Wait(missing));
    }
    match lowest {
        None => Ok(Next::Found(vec![me.1])),
        Some(lowest) if lowest == me.0 => {
            let others = voters.iter().filter(|voter| voter.id != me.0);
            let founders = others.filter_map(replica_of);
            Ok(Next::Found(std::iter::once(me.1).chain(founders).collect()))
        }
        Some(lowest) => Ok(Next::Wait(vec![lowest])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(ids: &[NodeId]) -> Vec<QuorumVoter> {
        let voter = |id: &NodeId| QuorumVoter {
            id: *id,
            host: "h".into(),
            port: 1,
        };
        ids.iter().map(voter).collect()
    }

    fn replica(id: NodeId) -> u64 {
        (id as u64) << 32 | 9
    }

    fn says(id: NodeId, cluster_id: &str, founders: &[u64]) -> (NodeId, IntroduceReply) {
        let reply = IntroduceReply {
            node_id: id,
            replica: replica(id),
            cluster_id: cluster_id.into(),
            founders: founders.to_vec(),
            voters: Vec::new(),
        };
        (id, reply)
    }

    fn next(me: NodeId, answers: &[(NodeId, IntroduceReply)]) -> Next {
        let answers = answers.iter().cloned().collect();
        decide((me, replica(me)), &voters(&[2, 1, 3]), &answers).unwrap()
    }

    #[test]
    fn the_lowest_voter_founds_once_all_are_there() {
        assert_eq!(next(1, &[]), Next::Wait(vec![2, 3]));
        assert_eq!(next(1, &[says(2, "", &[])]), Next::Wait(vec![3]));
        let all = [says(2, "", &[]), says(3, "", &[])];
        assert_eq!(next(1, &all), Next::Found([1, 2, 3].map(replica).to_vec()));
        let all = [says(1, "", &[]), says(3, "", &[])];
        assert_eq!(next(2, &all), Next::Wait(vec![1]), "whatever it thinks");
        let alone = decide((5, replica(5)), &[], &BTreeMap::new()).unwrap();
        assert_eq!(alone, Next::Found(vec![replica(5)]));
    }

    #[test]
    fn who_comes_later_joins_and_founds_nothing() {
        let founders = [1, 2, 3].map(replica);
        let formed = says(3, "c", &founders);
        assert_eq!(
            next(1, std::slice::from_ref(&formed)),
            Next::Join("c".into(), founders.to_vec())
        );
        assert_eq!(
            next(1, &[says(2, "", &[]), formed]),
            Next::Join("c".into(), founders.to_vec())
        );
        // It founded the cluster with another disk.
        let before = [(1 << 32) | 4, replica(2), replica(3)];
        assert_eq!(
            next(1, &[says(2, "c", &before)]),
            Next::Join("c".into(), vec![])
        );
    }

    #[test]
    fn two_clusters_and_impostors() {
        let answers = [says(2, "c", &[]), says(3, "d", &[])].into_iter().collect();
        let torn = decide((1, replica(1)), &voters(&[1, 2, 3]), &answers);
        assert!(matches!(torn, Err(FormationError::Torn(..))), "{torn:?}");
        let (_, stranger) = says(7, "c", &[]);
        assert_eq!(
            next(1, &[(2, stranger), says(3, "", &[])]),
            Next::Wait(vec![2])
        );
        let long = says(2, &"c".repeat(CLUSTER_ID_BYTES + 1), &[]);
        assert!(!is_sound(&long.1) && is_sound(&says(2, "c", &[]).1));
    }
}

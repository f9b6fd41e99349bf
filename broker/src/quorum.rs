//! Finds the voters where only the controllers' addresses are configured
//! (`controller.quorum.bootstrap.servers` without `controller.quorum.voters`), as in the sample files of
//! Kafka 4 (KIP-853).
//!
//! A node that belongs to a cluster says who votes there, and that is taken. Where there is no cluster
//! yet, the addresses are the quorum: each is asked who it is until all have said so. What was found is
//! written down with the node's identity, so that the next start needs nobody; other addresses are
//! asked again.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use ottla_proto::config::{HostPort, QuorumVoter, ServerConfig};
use ottla_proto::ids::NodeId;
use ottla_proto::limits::FORMATION_PAUSE_MS;
use ottla_proto::peer::IntroduceReply;

use crate::formation::{Ask, FormationError, ROUNDS_PER_LINE, ask_within};
use crate::identity::list;

/// Whether a node has to find its quorum. A process that is broker and controller and names no address
/// but one is its own.
pub fn is_to_be_found(config: &ServerConfig) -> bool {
    let listed = config.quorum_bootstrap_servers.len();
    let is_all = config.roles.broker && config.roles.controller && listed == 1;
    config.quorum_voters.is_empty() && listed > 0 && !is_all
}

/// The voters, however long they take to answer. `known`: what was found before.
pub async fn find(
    config: &ServerConfig,
    known: &[QuorumVoter],
    ask: &Ask<'_>,
) -> Result<Vec<QuorumVoter>, FormationError> {
    let addresses = &config.quorum_bootstrap_servers;
    if !known.is_empty() && same_addresses(known, addresses) {
        return Ok(known.to_vec());
    }
    for round in 0.. {
        let asked = addresses.iter().map(|address| ask_within(ask, address));
        let found = match decide(addresses, &join_all(asked).await)? {
            Next::Voters(voters) => voters,
            Next::Wait(missing) => {
                if round % ROUNDS_PER_LINE == ROUNDS_PER_LINE - 1 {
                    tracing::info!(?missing, "waiting for the other controllers");
                }
                tokio::time::sleep(Duration::from_millis(FORMATION_PAUSE_MS)).await;
                continue;
            }
        };
        let votes = found.iter().any(|voter| voter.id == config.node_id);
        return match (config.roles.controller, votes) {
            (true, false) => Err(FormationError::NotListed(config.node_id, list(&found))),
            (false, true) => Err(FormationError::NotAController(config.node_id)),
            _ => {
                tracing::info!(voters = list(&found), "found the controllers");
                Ok(found)
            }
        };
    }
    unreachable!("rounds go on")
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Voters(Vec<QuorumVoter>),
    /// For these addresses.
    Wait(Vec<String>),
}

/// `answers`: one for each address.
fn decide(
    addresses: &[HostPort],
    answers: &[Option<IntroduceReply>],
) -> Result<Next, FormationError> {
    let formed = answers
        .iter()
        .flatten()
        .filter(|a| !a.cluster_id.is_empty());
    if let Some(voters) = formed.map(voters_of).find(|v| !v.is_empty()) {
        return Ok(Next::Voters(voters));
    }
    let mut voters: Vec<QuorumVoter> = Vec::new();
    let mut missing = Vec::new();
    for (address, answer) in addresses.iter().zip(answers) {
        let Some(answer) = answer else {
            missing.push(text(address));
            continue;
        };
        let id: NodeId = answer.node_id;
        if let Some(other) = voters.iter().find(|voter| voter.id == id) {
            return Err(FormationError::SameNode(
                text(&other.address()),
                text(address),
                id,
            ));
        }
        voters.push(QuorumVoter {
            id,
            host: address.host.clone(),
            port: address.port,
        });
    }
    Ok(match missing.is_empty() {
        true => Next::Voters(voters),
        false => Next::Wait(missing),
    })
}

/// None if one of them cannot be read.
fn voters_of(answer: &IntroduceReply) -> Vec<QuorumVoter> {
    let voters: Result<Vec<QuorumVoter>, ()> = answer.voters.iter().map(|v| v.parse()).collect();
    voters.unwrap_or_default()
}

fn same_addresses(voters: &[QuorumVoter], addresses: &[HostPort]) -> bool {
    let of_voters: BTreeSet<_> = voters.iter().map(|v| (v.host.as_str(), v.port)).collect();
    let listed: BTreeSet<_> = addresses
        .iter()
        .map(|a| (a.host.as_str(), a.port))
        .collect();
    of_voters == listed
}

fn text(address: &HostPort) -> String {
    format!("{}:{}", address.host, address.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [(&str, u16); 3] = [("a", 1), ("b", 2), ("::1", 3)];

    fn addresses() -> Vec<HostPort> {
        let address = |(host, port): (&str, u16)| HostPort {
            host: host.into(),
            port,
        };
        ADDRESSES.map(address).to_vec()
    }

    fn says(node_id: NodeId, cluster_id: &str, voters: &[&str]) -> Option<IntroduceReply> {
        Some(IntroduceReply {
            node_id,
            cluster_id: cluster_id.into(),
            voters: voters.iter().map(|v| v.to_string()).collect(),
            ..IntroduceReply::default()
        })
    }

    fn next(answers: [Option<IntroduceReply>; 3]) -> Next {
        decide(&addresses(), &answers).unwrap()
    }

    fn voters(texts: &[&str]) -> Vec<QuorumVoter> {
        texts.iter().map(|v| v.parse().unwrap()).collect()
    }

    #[test]
    fn the_addresses_are_the_quorum_once_all_have_answered() {
        let wait = next([says(7, "", &[]), None, says(5, "", &[])]);
        assert_eq!(wait, Next::Wait(vec!["b:2".into()]));
        let all = next([says(7, "", &[]), says(6, "", &[]), says(5, "", &[])]);
        let found = voters(&["7@a:1", "6@b:2", "5@[::1]:3"]);
        assert_eq!(all, Next::Voters(found.clone()));
        assert!(same_addresses(&found, &addresses()));
        assert!(!same_addresses(&found[..2], &addresses()));
    }

    #[test]
    fn a_cluster_says_who_votes_in_it() {
        let told = ["1@x:9", "2@y:9"];
        let joined = next([None, says(2, "c", &told), None]);
        assert_eq!(joined, Next::Voters(voters(&told)));
        // What cannot be read counts as nothing.
        let wait = next([None, says(2, "c", &["1"]), says(3, "c", &[])]);
        assert_eq!(wait, Next::Wait(vec!["a:1".into()]));
    }

    #[test]
    fn two_names_of_one_node_are_refused() {
        let twice = [says(1, "", &[]), says(2, "", &[]), says(1, "", &[])];
        let refused = decide(&addresses(), &twice).unwrap_err().to_string();
        assert!(
            refused.contains("a:1 and ::1:3 are both node 1"),
            "{refused}"
        );
    }
}

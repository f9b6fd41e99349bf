//! openraft's generics, fixed once. They stop at this crate.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EmptyNode;
use openraft::rt::deterministic_rng::DeterministicRng;

use crate::command::{Outcome, Payload};

/// Tokio, with random numbers (election timers) that come from a seed: a simulation's, or one that the
/// system draws. Everything that makes openraft start a task runs in [`seeded`].
pub(crate) type Runtime = DeterministicRng<openraft::impls::TokioRuntime>;

pub(crate) fn seeded<F: Future>(seed: u64, work: F) -> impl Future<Output = F::Output> {
    Runtime::scope(seed, work)
}

openraft::declare_raft_types!(
    /// One leader per term (`leader_id_std`), because the term is Kafka's leader epoch.
    pub TypeConfig:
        D = Payload,
        R = Vec<Outcome>,
        NodeId = u64,
        Node = EmptyNode,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

pub(crate) type CommittedLeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;
pub(crate) type Instant = openraft::type_config::alias::InstantOf<TypeConfig>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, EmptyNode>;
pub(crate) type EntryPayload = openraft::EntryPayload<Payload, u64, EmptyNode>;

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

pub(crate) fn membership(configs: Vec<BTreeSet<u64>>, nodes: BTreeSet<u64>) -> Option<Membership> {
    let nodes: BTreeMap<u64, EmptyNode> = nodes.into_iter().map(|n| (n, EmptyNode {})).collect();
    Membership::new(configs, nodes).ok()
}

/// Who leads in this leader epoch: one replica, whichever it is.
pub(crate) fn leader(epoch: i32) -> CommittedLeaderId {
    CommittedLeaderId::new(epoch as u64)
}

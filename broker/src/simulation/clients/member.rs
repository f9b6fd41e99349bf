//! A member of a consumer group (the classic protocol): it joins, is given partitions or gives them out, begins at
//! the committed offsets, reads, commits what it has read, and heartbeats; now and then it leaves, or falls silent.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use ottla_proto::ids::NodeId;
use ottla_tests::client::{OFFSET_FETCH, text};
use tokio::time::Instant;

use super::{Client, PARTITIONS, TOPIC, codes, topic};
use crate::simulation::world::World;

const JOIN_GROUP: i16 = 5;
const SYNC_GROUP: i16 = 3;
const HEARTBEAT: i16 = 3;
const LEAVE_GROUP: i16 = 4;
const OFFSET_COMMIT: i16 = 8;
const SESSION_TIMEOUT_MS: i32 = 2000;
const REBALANCE_TIMEOUT_MS: i32 = 3000;

pub struct Member {
    client: Client,
    group: &'static str,
    member_id: String,
}

/// A generation that this is a member of.
struct Generation {
    coordinator: NodeId,
    id: i32,
    /// Partition, and the next offset there.
    owned: Vec<(i32, i64)>,
}

/// Why a generation is over for this member.
enum Over {
    /// Whoever coordinates is another, or does not answer.
    Lost,
    /// The group goes on without this member.
    Forgotten,
    /// The group rebalances.
    Rebalance,
}

fn over(error_code: i16) -> Over {
    match error_code {
        codes::REBALANCE_IN_PROGRESS => Over::Rebalance,
        codes::UNKNOWN_MEMBER_ID | codes::ILLEGAL_GENERATION => Over::Forgotten,
        _ => Over::Lost,
    }
}

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

impl Member {
    pub fn new(world: &Arc<World>, id: NodeId, group: &'static str) -> Member {
        Member {
            client: Client::new(world, id),
            group,
            member_id: String::new(),
        }
    }

    pub async fn run(mut self, until: Instant) {
        let mut coordinator = None;
        while Instant::now() < until {
            if coordinator.is_none() {
                coordinator = self.client.coordinator(self.group).await;
            }
            let Some(at) = coordinator else {
                self.client.pause(20, 100).await;
                continue;
            };
            let ended = match self.join(at).await {
                Ok(generation) => self.work(generation, until).await,
                Err(over) => over,
            };
            match ended {
                Over::Rebalance => {}
                Over::Forgotten => self.member_id.clear(),
                Over::Lost => coordinator = None,
            }
            self.client.pause(10, 60).await;
        }
        if let Some(coordinator) = coordinator {
            self.leave(coordinator).await;
        }
    }

    async fn join(&mut self, coordinator: NodeId) -> Result<Generation, Over> {
        let joined = loop {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(Bytes::from_static(b"simulated"));
            let request = JoinGroupRequest::default()
                .with_group_id(group_id(self.group))
                .with_session_timeout_ms(SESSION_TIMEOUT_MS)
                .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
                .with_member_id(text(&self.member_id))
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol]);
            let patience = Duration::from_millis(REBALANCE_TIMEOUT_MS as u64 + 1000);
            let answer = self
                .client
                .ask_patiently(coordinator, JOIN_GROUP, &request, patience)
                .await
                .ok_or(Over::Lost)?;
            match answer.error_code {
                0 => break answer,
                codes::MEMBER_ID_REQUIRED => self.member_id = answer.member_id.to_string(),
                error => return Err(over(error)),
            }
        };
        self.member_id = joined.member_id.to_string();
        let owned = self.sync(coordinator, &joined).await?;
        let mut generation = Generation {
            coordinator,
            id: joined.generation_id,
            owned: Vec::new(),
        };
        let journal = &self.client.world.journal;
        for partition in &owned {
            journal.owns(self.group, generation.id, *partition, &self.member_id);
        }
        if !owned.is_empty() {
            let asked = fetch_offsets(&mut self.client, coordinator, self.group, &owned).await;
            generation.owned = asked.ok_or(Over::Lost)?;
        }
        Ok(generation)
    }

    /// The partitions that this member is given; the leader gives them out.
    async fn sync(
        &mut self,
        coordinator: NodeId,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<i32>, Over> {
        let mut members: Vec<_> = joined.members.iter().map(|m| m.member_id.clone()).collect();
        members.sort();
        let assignments = members.iter().enumerate().map(|(at, member)| {
            let mut given = BytesMut::new();
            let mine = |partition: &i32| *partition as usize % members.len() == at;
            (0..PARTITIONS).filter(mine).for_each(|p| given.put_i32(p));
            SyncGroupRequestAssignment::default()
                .with_member_id(member.clone())
                .with_assignment(given.freeze())
        });
        let request = SyncGroupRequest::default()
            .with_group_id(group_id(self.group))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(assignments.collect());
        let patience = Duration::from_millis(REBALANCE_TIMEOUT_MS as u64 + 1000);
        let answer = self
            .client
            .ask_patiently(coordinator, SYNC_GROUP, &request, patience)
            .await
            .ok_or(Over::Lost)?;
        if answer.error_code != 0 {
            return Err(over(answer.error_code));
        }
        let mut given = answer.assignment;
        let mut partitions = Vec::new();
        while given.remaining() >= 4 {
            partitions.push(given.get_i32());
        }
        Ok(partitions)
    }

    async fn work(&mut self, mut generation: Generation, until: Instant) -> Over {
        while Instant::now() < until {
            for at in 0..generation.owned.len() {
                let (partition, offset) = generation.owned[at];
                let Some(leader) = self.client.leader(partition).await else {
                    continue;
                };
                let Some(read) = self.client.fetch(leader, partition, offset).await else {
                    continue;
                };
                let Some(last) = read.records.last() else {
                    continue;
                };
                generation.owned[at].1 = last.offset + 1;
                if let Err(over) = self.commit(&generation, at).await {
                    return over;
                }
            }
            if let Err(over) = self.heartbeat(&generation).await {
                return over;
            }
            match self.client.random.below(60) {
                0 => {
                    self.leave(generation.coordinator).await;
                    return Over::Forgotten;
                }
                1 => {
                    self.client.world.journal.note("a member falls silent");
                    self.client.pause(1000, 4000).await;
                }
                _ => self.client.pause(50, 200).await,
            }
        }
        Over::Rebalance
    }

    async fn commit(&mut self, generation: &Generation, at: usize) -> Result<(), Over> {
        let (partition, offset) = generation.owned[at];
        let committed = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset);
        let of_topic = OffsetCommitRequestTopic::default()
            .with_name(topic(TOPIC))
            .with_partitions(vec![committed]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(self.group))
            .with_generation_id_or_member_epoch(generation.id)
            .with_member_id(text(&self.member_id))
            .with_topics(vec![of_topic]);
        let journal = &self.client.world.clone().journal;
        journal.note(format_args!(
            "{} {} in {} commits {offset} of {partition}",
            self.group, self.member_id, generation.id
        ));
        journal.commits(|commits| commits.sent(self.group, partition, offset));
        let asked = self
            .client
            .ask(generation.coordinator, OFFSET_COMMIT, &request);
        let answer = asked.await.ok_or(Over::Lost)?;
        let mut partitions = answer.topics.into_iter().flat_map(|t| t.partitions);
        match partitions.next().map_or(-1, |p| p.error_code) {
            0 => {
                journal.note(format_args!("{} has {offset} of {partition}", self.group));
                let now = journal.now();
                journal.commits(|c| c.acknowledge(self.group, partition, offset, now));
                Ok(())
            }
            error => Err(over(error)),
        }
    }

    async fn heartbeat(&mut self, generation: &Generation) -> Result<(), Over> {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(self.group))
            .with_generation_id(generation.id)
            .with_member_id(text(&self.member_id));
        let asked = self.client.ask(generation.coordinator, HEARTBEAT, &request);
        match asked.await.ok_or(Over::Lost)?.error_code {
            0 => Ok(()),
            error => Err(over(error)),
        }
    }

    async fn leave(&mut self, coordinator: NodeId) {
        let me = MemberIdentity::default().with_member_id(text(&self.member_id));
        let request = LeaveGroupRequest::default()
            .with_group_id(group_id(self.group))
            .with_members(vec![me]);
        self.client.world.journal.note("a member leaves");
        let _ = self.client.ask(coordinator, LEAVE_GROUP, &request).await;
        self.member_id.clear();
    }
}

/// Where to begin in these partitions: the committed offsets, which the journal is told. `None`: ask again, or
/// somebody else.
async fn fetch_offsets(
    client: &mut Client,
    coordinator: NodeId,
    group: &str,
    partitions: &[i32],
) -> Option<Vec<(i32, i64)>> {
    let asked = OffsetFetchRequestTopics::default()
        .with_name(topic(TOPIC))
        .with_partition_indexes(partitions.to_vec());
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(group_id(group))
        .with_topics(Some(vec![asked]));
    let request = OffsetFetchRequest::default().with_groups(vec![asked]);
    let asked_at = client.world.journal.now();
    let answer = client.ask(coordinator, OFFSET_FETCH, &request).await?;
    let found = answer.groups.into_iter().next()?;
    if found.error_code != 0 {
        return None;
    }
    let journal = &client.world.journal;
    let mut begin = Vec::new();
    for at in found.topics.into_iter().flat_map(|t| t.partitions) {
        let (partition, offset) = (at.partition_index, at.committed_offset);
        if at.error_code != 0 {
            return None;
        }
        journal.note(format_args!("{group} begins at {offset} of {partition}"));
        let when = (asked_at, journal.now());
        journal.commits(|commits| commits.read(group, partition, offset, when));
        begin.push((partition, offset.max(0)));
    }
    Some(begin)
}

/// Has the journal see what a group has committed in the end. Whether that worked out in time.
pub async fn read_commits(world: &Arc<World>, id: NodeId, group: &str, until: Instant) -> bool {
    let mut client = Client::new(world, id);
    let all: Vec<i32> = (0..PARTITIONS).collect();
    while Instant::now() < until {
        if let Some(coordinator) = client.coordinator(group).await
            && let Some(_) = fetch_offsets(&mut client, coordinator, group, &all).await
        {
            return true;
        }
        client.pause(20, 100).await;
    }
    false
}

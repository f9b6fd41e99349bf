//! Strings that no record can hold are refused, whichever field they come in.

use bytes::Bytes;
use ottla_coordinator::*;

fn join() -> JoinGroup {
    JoinGroup {
        group_id: "g".into(),
        member_id: String::new(),
        group_instance_id: None,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol {
            name: "range".into(),
            metadata: Bytes::new(),
        }],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        client_id: "c".into(),
        client_host: "/h".into(),
        requires_known_member_id: false,
        supports_skip_assignment: false,
        reason: None,
    }
}

fn refusal(change: impl FnOnce(&mut JoinGroup)) -> Option<GroupError> {
    let mut shard = Shard::new(GroupConfig::default());
    let mut request = join();
    change(&mut request);
    let decision = shard.handle(0, 1, Command::JoinGroup(request));
    match decision.replies.into_iter().next()? {
        (1, Response::Join(Err(refused))) => Some(refused.error),
        other => panic!("not a refusal: {other:?}"),
    }
}

#[test]
fn joins() {
    let long = || "x".repeat(40_000);
    let refused = Some(GroupError::InvalidRequest);
    assert_eq!(refusal(|_| {}), None);
    assert_eq!(
        refusal(|r| r.group_id = long()),
        Some(GroupError::InvalidGroupId)
    );
    assert_eq!(refusal(|r| r.group_instance_id = Some(long())), refused);
    assert_eq!(refusal(|r| r.protocol_type = long()), refused);
    assert_eq!(refusal(|r| r.protocols[0].name = long()), refused);
    assert_eq!(refusal(|r| r.client_id = long()), refused);
    assert_eq!(refusal(|r| r.client_host = long()), refused);
}

#[test]
fn commits() {
    let commit = |group: &str, topic: &str, metadata: &str| {
        let mut shard = Shard::new(GroupConfig {
            offset_metadata_bytes_max: 1 << 20,
            ..GroupConfig::default()
        });
        let decision = shard.handle(
            0,
            1,
            Command::CommitOffsets(CommitOffsets {
                group_id: group.to_owned(),
                generation_id: -1,
                member_id: String::new(),
                group_instance_id: None,
                producer: None,
                retention_time_ms: None,
                topics: vec![CommitTopic {
                    name: topic.to_owned(),
                    partitions: vec![CommitPartition {
                        partition: 0,
                        offset: 1,
                        leader_epoch: -1,
                        metadata: metadata.to_owned(),
                    }],
                }],
            }),
        );
        match &decision.replies[0].1 {
            Response::CommitOffsets(topics) => topics[0].partitions[0].1,
            other => panic!("not a commit: {other:?}"),
        }
    };
    let long = "x".repeat(40_000);
    assert_eq!(commit("g", "t", "m"), None);
    assert_eq!(commit(&long, "t", "m"), Some(GroupError::InvalidGroupId));
    assert_eq!(commit("g", &long, "m"), Some(GroupError::InvalidRequest));
    assert_eq!(
        commit("g", "t", &long),
        Some(GroupError::OffsetMetadataTooLarge)
    );
}

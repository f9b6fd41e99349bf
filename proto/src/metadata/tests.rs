//! Replay of random and of damaged histories.
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::records as pb;
use super::*;
use crate::ids::{GroupId, PartitionId};

fn id(n: u128) -> Option<pb::Uuid> {
    Some(Uuid::from_u128(n).into())
}

fn group(group_id: u32, members: &[i32]) -> MetadataRecord {
    MetadataRecord::Group(pb::Group {
        group_id,
        members: members.to_vec(),
        removed: false,
        founders: members.iter().map(|id| (*id as u64) << 32 | 5).collect(),
        ..pb::Group::default()
    })
}

fn topic(name: &str, n: u128) -> MetadataRecord {
    MetadataRecord::Topic(pb::Topic {
        name: name.to_owned(),
        topic_id: id(n),
    })
}

fn partition(n: u128, index: i32, partition_id: u64, group_id: u32) -> MetadataRecord {
    MetadataRecord::Partition(pb::Partition {
        topic_id: id(n),
        index,
        partition_id,
        group_id,
    })
}

fn remove(n: u128) -> MetadataRecord {
    MetadataRecord::RemoveTopic(pb::RemoveTopic { topic_id: id(n) })
}

fn register(broker_id: i32, broker_epoch: i64) -> MetadataRecord {
    MetadataRecord::RegisterBroker(pb::RegisterBroker {
        broker_id,
        broker_epoch,
        incarnation_id: id(9),
        rack: if broker_id % 2 == 0 {
            "a".to_owned()
        } else {
            String::new()
        },
        listeners: vec![pb::Listener {
            name: "PLAINTEXT".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
            security_protocol: pb::SecurityProtocol::Plaintext.into(),
        }],
        fenced: true,
        in_controlled_shutdown: false,
        log_dirs: vec![id(3).unwrap()],
    })
}

fn leader(group_id: u32, leader: i32, leader_epoch: i32) -> MetadataRecord {
    MetadataRecord::LeaderChange(pb::LeaderChange {
        group_id,
        leader,
        leader_epoch,
        in_sync: Vec::from_iter((leader >= 0).then_some(leader)),
    })
}

fn config(resource_type: pb::ConfigResource, name: &str, value: Option<&str>) -> MetadataRecord {
    MetadataRecord::Config(pb::Config {
        resource_type: resource_type.into(),
        resource_name: name.to_owned(),
        key: "retention.ms".to_owned(),
        value: value.map(str::to_owned),
    })
}

fn replayed(records: &[MetadataRecord]) -> Arc<Image> {
    replay_all(&Arc::default(), 0, records).unwrap()
}

#[test]
fn looks_up_what_was_replayed() {
    let image = replayed(&[
        group(1, &[4, 5, 6]),
        topic("orders", 7),
        partition(7, 0, 1, 1),
        partition(7, 1, 2, 1),
        leader(1, 5, 3),
        config(pb::ConfigResource::Topic, "orders", Some("1")),
        register(4, 0),
    ]);
    assert_eq!(image.applied_offset(), 6);
    let (topic, index) = image.partition_by_id(PartitionId(2)).unwrap();
    assert_eq!((&*topic.name, index), ("orders", 1));
    assert_eq!(image.topic_by_id(Uuid::from_u128(7)), image.topic("orders"));
    let group = image.group(GroupId(1)).unwrap();
    assert_eq!(
        (group.leader, group.leader_epoch, group.partitions),
        (Some(5), 3, 2)
    );
    assert_eq!(image.topic_configs("orders")["retention.ms"], "1");
    assert!(image.broker(4).unwrap().fenced);
    assert_eq!(image.next_partition_id(), PartitionId(3));
    assert_eq!(image.next_group_id(), GroupId(2));
    assert_eq!(image.next_broker_epoch(), 1);
}

#[test]
fn removing_a_topic_leaves_only_the_counter() {
    let image = replayed(&[
        group(1, &[4]),
        topic("orders", 7),
        partition(7, 0, 1, 1),
        config(pb::ConfigResource::Topic, "orders", Some("1")),
        remove(7),
    ]);
    assert_eq!((image.topic_count(), image.partition_count()), (0, 0));
    assert!(image.topic_configs("orders").is_empty());
    assert_eq!(image.group(GroupId(1)).unwrap().partitions, 0);
    assert!(image.is_removed_partition(PartitionId(1)));
    assert!(!image.is_removed_partition(PartitionId(2)));
}

#[test]
fn a_group_that_has_moved_keeps_its_leader_and_forgets_its_founders() {
    let moves = |members: &[i32], former: &[i32], leaving: &[i32]| {
        MetadataRecord::Group(pb::Group {
            group_id: 1,
            members: members.to_vec(),
            former: former.to_vec(),
            leaving: leaving.to_vec(),
            ..pb::Group::default()
        })
    };
    let mut history = vec![group(1, &[4, 5, 6]), leader(1, 5, 3)];
    let look = |history: &[MetadataRecord]| {
        let image = replayed(history);
        let group = image.group(GroupId(1)).unwrap();
        let adding: Vec<_> = group.adding().collect();
        (
            group.leader,
            group.founders.len(),
            adding,
            group.is_moving(),
        )
    };
    history.push(moves(&[6, 5, 4], &[], &[]));
    assert_eq!(
        look(&history),
        (Some(5), 3, vec![], false),
        "only another order"
    );
    history.push(moves(&[6, 7, 8], &[6, 5, 4], &[4, 5]));
    assert_eq!(look(&history), (Some(5), 3, vec![7, 8], true));
    let mut back = history.clone();
    back.push(moves(&[6, 5, 4], &[], &[7, 8]));
    assert_eq!(look(&back), (Some(5), 0, vec![], true));
    back.push(moves(&[6, 5, 4], &[], &[]));
    assert_eq!(look(&back), (Some(5), 0, vec![], false));
    history.extend([leader(1, 7, 4), moves(&[6, 7, 8], &[], &[])]);
    assert_eq!(look(&history), (Some(7), 0, vec![], false));
}

#[test]
fn a_late_leader_report_changes_nothing() {
    let image = replayed(&[group(1, &[4, 5, 6]), leader(1, 5, 3), leader(1, 4, 2)]);
    assert_eq!(image.group(GroupId(1)).unwrap().leader, Some(5));
    let image = replayed(&[group(1, &[4, 5, 6]), leader(1, 5, 3), leader(1, -1, 4)]);
    assert_eq!(image.group(GroupId(1)).unwrap().leader, None);
}

#[test]
fn refuses_what_does_not_fit() {
    let base = replayed(&[
        group(1, &[4]),
        topic("orders", 7),
        partition(7, 0, 1, 1),
        register(4, 5),
    ]);
    for (record, expected) in [
        (topic("orders", 8), "makes topic orders"),
        (topic("other", 7), "makes topic id"),
        (topic("other", 0), "impossible topic id"),
        (partition(7, 1, 1, 1), "makes partition p1"),
        (partition(7, 2, 2, 1), "impossible partition index"),
        (partition(7, -1, 2, 1), "impossible partition index"),
        (partition(7, 1, 2, 9), "names group g9"),
        (partition(7, 1, 2, 0), "impossible partition group"),
        (partition(7, 1, 0, 1), "impossible partition id"),
        (partition(7, 1, u64::MAX, 1), "impossible partition id"),
        (partition(8, 0, 2, 1), "names topic id"),
        (remove(8), "names topic id"),
        (group(1, &[]), "impossible member list"),
        (leader(2, 1, 1), "names group g2"),
        (register(6, 4), "impossible broker epoch"),
        (
            config(pb::ConfigResource::Topic, "other", Some("1")),
            "names topic other",
        ),
        (
            config(pb::ConfigResource::Unspecified, "orders", None),
            "impossible config resource",
        ),
        (
            MetadataRecord::Group(pb::Group {
                group_id: 1,
                members: vec![],
                removed: true,
                ..pb::Group::default()
            }),
            "impossible removed group",
        ),
        (
            MetadataRecord::Feature(pb::Feature {
                name: "f".to_owned(),
                level: 1 << 20,
            }),
            "impossible feature level",
        ),
    ] {
        let error = replay_all(&base, 10, [&topic("new", 99), &record]).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(base.topic("new").is_none());
    }
    assert!(matches!(
        replay_all(&base, 3, []),
        Err(ReplayError::OutOfOrder { .. })
    ));
}

#[test]
fn a_delta_shares_the_rest() {
    let records: Vec<_> = std::iter::once(group(1, &[4]))
        .chain((1..=1000).map(|n| topic(&format!("t{n:04}"), n)))
        .collect();
    let before = replayed(&records);
    let after = replay_all(&before, 2000, [&partition(7, 0, 1, 1)]).unwrap();
    let shared = before.topics().zip(after.topics());
    assert_eq!(shared.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
    assert!(before.topic("t0007").unwrap().partitions.is_empty());
}

/// Records that mostly fit; those that do not are skipped by the test.
fn any_record() -> impl Strategy<Value = MetadataRecord> {
    let n = 1u128..12;
    prop_oneof![
        (1u32..5, prop::collection::vec(1i32..6, 1..4)).prop_map(|(g, m)| group(g, &m)),
        n.clone().prop_map(|n| topic(&format!("t{n}"), n)),
        (n.clone(), 0i32..3, 1u64..60, 1u32..5).prop_map(|(n, i, p, g)| partition(n, i, p, g)),
        (n.clone(), 0i32..3, 1u32..5).prop_map(|(n, index, group_id)| {
            let topic_id = id(n);
            MetadataRecord::PartitionChange(pb::PartitionChange {
                topic_id,
                index,
                group_id,
            })
        }),
        n.clone().prop_map(remove),
        (1u32..5, -1i32..6, 0i32..9).prop_map(|(g, l, e)| leader(g, l, e)),
        (1i32..6, 0i64..20).prop_map(|(b, e)| register(b, e)),
        (
            1i32..6,
            0i64..20,
            any::<Option<bool>>(),
            any::<Option<bool>>()
        )
            .prop_map(
                |(broker_id, broker_epoch, fenced, in_controlled_shutdown)| {
                    MetadataRecord::BrokerChange(pb::BrokerChange {
                        broker_id,
                        broker_epoch,
                        fenced,
                        in_controlled_shutdown,
                    })
                }
            ),
        (1i32..6, 0i64..20).prop_map(|(broker_id, broker_epoch)| {
            MetadataRecord::UnregisterBroker(pb::UnregisterBroker {
                broker_id,
                broker_epoch,
            })
        }),
        (n, any::<bool>()).prop_map(|(n, set)| {
            let value = set.then_some("1");
            config(pb::ConfigResource::Topic, &format!("t{n}"), value)
        }),
        (0i32..3, any::<bool>()).prop_map(|(n, set)| {
            let name = if n == 0 { String::new() } else { n.to_string() };
            config(pb::ConfigResource::Broker, &name, set.then_some("1"))
        }),
        (0i64..9).prop_map(|n| {
            let (broker_id, broker_epoch, next_producer_id) = (1, 1, n * 1000);
            MetadataRecord::ProducerIds(pb::ProducerIds {
                broker_id,
                broker_epoch,
                next_producer_id,
            })
        }),
        (0i32..4).prop_map(|level| {
            let name = "f".to_owned();
            MetadataRecord::Feature(pb::Feature { name, level })
        }),
        (1u32..5).prop_map(|group_id| {
            MetadataRecord::Group(pb::Group {
                group_id,
                members: vec![],
                removed: true,
                ..pb::Group::default()
            })
        }),
    ]
}

proptest! {
    #[test]
    fn snapshots_and_bytes_rebuild_the_image(candidates in prop::collection::vec(any_record(), 0..200)) {
        let mut image = Arc::new(Image::default());
        let mut history = Vec::new();
        for record in candidates {
            prop_assert_eq!(decode(&encode(&record)).unwrap(), record.clone());
            if let Ok(next) = replay_all(&image, image.applied_offset() + 1, [&record]) {
                history.push(record);
                image = next;
            }
        }
        let at_once = replay_all(&Arc::default(), 0, &history).unwrap();
        prop_assert_eq!(&at_once, &image);
        let restored = restore(image.applied_offset(), &snapshot(&image)).unwrap();
        prop_assert_eq!(&restored, &image);
        for group in image.groups() {
            let placed = image.topics().flat_map(|t| &t.partitions).filter(|p| p.group == group.id);
            prop_assert_eq!(placed.count(), group.partitions as usize);
        }
        for (partition, home) in image.partitions() {
            let topic = image.topic_by_id(home.topic_id).unwrap();
            prop_assert_eq!(topic.partitions[home.index as usize].id, partition);
        }
    }

    /// Whoever begins behind what a snapshot covers gets the image of who read everything, also where
    /// changes stand among its parts and where another snapshot was begun and never finished.
    #[test]
    fn a_log_can_be_followed_from_its_snapshot(
        candidates in prop::collection::vec(any_record(), 1..120),
        covered in 0usize..100,
        abandoned in 0usize..100,
        part_records in 1usize..9,
        among in 0usize..4,
    ) {
        // One batch a record: every record of the log, with its place.
        let mut whole = Follower::default();
        let mut log: Vec<(i64, Content)> = Vec::new();
        let mut append = |whole: &mut Follower, content: Content| {
            let offset = log.len() as i64;
            let fits = whole.replay(offset, offset, content.clone()).is_ok();
            if fits {
                log.push((offset, content));
            }
            fits
        };
        let mut candidates = candidates.into_iter();
        let mut changes = |whole: &mut Follower, count: usize, append: &mut dyn FnMut(&mut Follower, Content) -> bool| {
            let more = candidates.by_ref().take(count);
            more.for_each(|record| { append(whole, Content::Changes(vec![record])); });
        };
        changes(&mut whole, abandoned, &mut append);
        let part = |covers, records: &[MetadataRecord], is_last| {
            Content::Snapshot(Part { covers, records: records.to_vec(), is_last })
        };
        let taken = whole.image().unwrap().clone();
        append(&mut whole, part(taken.applied_offset(), &snapshot(&taken), false));
        changes(&mut whole, covered, &mut append);
        let taken = whole.image().unwrap().clone();
        let covers = taken.applied_offset();
        let records = snapshot(&taken);
        for some in records.chunks(part_records) {
            append(&mut whole, part(covers, some, false));
            changes(&mut whole, among, &mut append);
        }
        append(&mut whole, part(covers, &[], true));
        changes(&mut whole, usize::MAX, &mut append);

        let mut late = Follower::new(covers + 1);
        for (offset, content) in log.into_iter().skip(covers as usize + 1) {
            late.replay(offset, offset, content).unwrap();
        }
        prop_assert_eq!(late.image(), whole.image());
    }

    #[test]
    fn decoding_survives_anything(bytes in prop::collection::vec(any::<u8>(), 0..200), framed: bool) {
        let mut value = bytes;
        if framed && value.len() >= 2 {
            value[..2].copy_from_slice(&[0, 1]);
        }
        if let Ok(record) = decode(&value) {
            let _ = replay_all(&Arc::default(), 0, [&record]);
        }
    }
}

#[test]
fn parts_of_snapshots_are_told_by_their_key() {
    let record = MetadataRecord::Feature(pb::Feature {
        name: "f".into(),
        level: 1,
    });
    let value = encode(&record);
    let key = snapshot_key(5);
    type Row<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);
    let part = |records: Vec<Row>| content(records);
    let changes = part(vec![(None, Some(&value))]).unwrap();
    assert_eq!(changes, Content::Changes(vec![record.clone()]));
    let last = part(vec![(Some(&key), Some(&value)), (Some(&key), None)]).unwrap();
    let expected = Part {
        covers: 5,
        records: vec![record],
        is_last: true,
    };
    assert_eq!(last, Content::Snapshot(expected));
    let other = snapshot_key(6);
    for wrong in [
        vec![(Some(&key[..]), Some(&value[..])), (None, Some(&value[..]))],
        vec![(Some(&key[..]), Some(&value[..])), (Some(&other[..]), None)],
        vec![(Some(&key[..]), None), (Some(&key[..]), Some(&value[..]))],
        vec![(Some(&key[..3]), Some(&value[..]))],
    ] {
        assert!(content(wrong).is_err());
    }
    // Only a snapshot's records: nothing is known before its end.
    let mut follower = Follower::new(6);
    assert!(follower.image().is_none());
    follower.replay(6, 6, changes).unwrap();
    assert!(follower.image().is_none());
}

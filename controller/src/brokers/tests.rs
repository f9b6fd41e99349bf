use ottla_proto::metadata::METADATA_VERSION;

use super::*;
use crate::features;
use crate::tests::{ClusterImage, registration};

fn beat(broker_epoch: i64, want_fence: bool, want_shut_down: bool) -> Heartbeat {
    Heartbeat {
        broker_id: 1,
        broker_epoch,
        want_fence,
        want_shut_down,
    }
}

fn lead(cluster: &mut ClusterImage, group_id: u32, leader: NodeId, leader_epoch: i32) {
    let record = MetadataRecord::LeaderChange(records::LeaderChange {
        group_id,
        leader,
        leader_epoch,
        in_sync: vec![leader],
    });
    let records = vec![record];
    cluster.apply(Decision { records, reply: () });
}

#[test]
fn each_start_has_an_epoch_of_its_own() {
    let mut cluster = ClusterImage::default();
    for (id, incarnation, is_alive, expected) in [
        (1, 1, false, Ok(0)),
        (1, 1, true, Ok(0)),
        (1, 9, true, Err(RegisterError::Duplicate(1))),
        (1, 2, true, Ok(1)),
        (2, 1, false, Ok(2)),
    ] {
        let mut request = registration(id, Some("r"), incarnation);
        if incarnation == 9 {
            // Another process of that name, with a data folder of its own.
            request.log_dirs = vec![Uuid::from_u128(9)];
        }
        let decision = register(&cluster.image(), is_alive, &request);
        assert_eq!(cluster.apply(decision), expected);
    }
    let image = cluster.image();
    let broker = image.broker(1).unwrap();
    assert_eq!(
        (broker.epoch, broker.fenced, broker.rack.as_deref()),
        (1, true, Some("r"))
    );
    assert_eq!(broker.listeners, registration(1, None, 1).listeners);
}

#[test]
fn an_epoch_is_not_used_again() {
    let mut cluster = ClusterImage::with_brokers(2);
    let decision = unregister(&cluster.image(), 2);
    assert_eq!(cluster.apply(decision), Ok(()));
    let decision = unregister(&cluster.image(), 2);
    assert_eq!(decision.reply, Err(StaleBroker::NotRegistered(2)));
    let decision = register(&cluster.image(), false, &registration(2, None, 9));
    assert_eq!(decision.reply, Ok(2));
}

#[test]
fn refuses_registrations() {
    let mut cluster = ClusterImage::default();
    let change = |change: fn(&mut RegisterBroker)| {
        let mut request = registration(1, None, 1);
        change(&mut request);
        request
    };
    for (request, expected) in [
        (
            change(|r| r.cluster_id = "d".to_owned()),
            "Expected cluster ID c",
        ),
        (change(|r| r.broker_id = -1), "negative"),
        (change(|r| r.incarnation_id = Uuid::nil()), "incarnation"),
        (change(|r| r.listeners.clear()), "no listener"),
        (
            change(|r| r.rack = Some("r".repeat(1 << 20))),
            "does not fit",
        ),
    ] {
        let decision = register(&cluster.image(), false, &request);
        assert!(decision.records.is_empty());
        let error = decision.reply.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let records = vec![features::record(METADATA_VERSION, 26)];
    cluster.apply(Decision { records, reply: () });
    let too_old = register(&cluster.image(), false, &registration(1, None, 1));
    let (feature, level) = (METADATA_VERSION.to_owned(), 26);
    assert_eq!(
        too_old.reply,
        Err(RegisterError::Feature { feature, level })
    );
}

#[test]
fn heartbeats_fence_and_unfence() {
    let mut cluster = ClusterImage::default();
    let decision = register(&cluster.image(), false, &registration(1, None, 1));
    cluster.apply(decision).unwrap();
    for (want_fence, changes) in [(true, 0), (false, 1), (false, 0), (true, 1), (false, 1)] {
        let decision = heartbeat(&cluster.image(), &beat(0, want_fence, false));
        assert_eq!(decision.records.len(), changes);
        assert_eq!(cluster.apply(decision).unwrap().is_fenced, want_fence);
        assert_eq!(cluster.image().broker(1).unwrap().fenced, want_fence);
    }
    let stale = heartbeat(&cluster.image(), &beat(4, false, false)).reply;
    let (id, current, found) = (1, 0, 4);
    assert_eq!(stale, Err(StaleBroker::Epoch { id, current, found }));
}

#[test]
fn a_broker_stops_once_others_lead() {
    let mut cluster = ClusterImage::with_brokers(3);
    cluster.create_on("a", &[&[1, 2, 3]]);
    lead(&mut cluster, 1, 1, 1);
    let ask = |cluster: &mut ClusterImage| {
        let decision = heartbeat(&cluster.image(), &beat(0, false, true));
        cluster.apply(decision).unwrap()
    };
    let not_yet = HeartbeatReply {
        is_fenced: false,
        should_shut_down: false,
    };
    assert_eq!(ask(&mut cluster), not_yet);
    let broker = cluster.image().broker(1).unwrap().clone();
    assert!(broker.in_controlled_shutdown && !broker.fenced && !broker.is_active());
    assert!(
        heartbeat(&cluster.image(), &beat(0, false, true))
            .records
            .is_empty()
    );
    lead(&mut cluster, 1, 2, 2);
    let now = HeartbeatReply {
        is_fenced: true,
        should_shut_down: true,
    };
    assert_eq!(ask(&mut cluster), now);
    assert!(cluster.image().broker(1).unwrap().fenced);
    // The next start begins anew.
    let decision = register(&cluster.image(), true, &registration(1, None, 1));
    cluster.apply(decision).unwrap();
    assert!(!cluster.image().broker(1).unwrap().in_controlled_shutdown);
}

#[test]
fn nobody_takes_over_from_the_only_member() {
    let mut cluster = ClusterImage::with_brokers(2);
    cluster.create_on("a", &[&[1]]);
    lead(&mut cluster, 1, 1, 1);
    let decision = heartbeat(&cluster.image(), &beat(0, false, true));
    assert!(decision.reply.unwrap().should_shut_down);
}

#[test]
fn fences_those_without_a_session() {
    let mut cluster = ClusterImage::with_brokers(3);
    let alive = |id, epoch| id == 2 && epoch == 1;
    let decision = fence_expired(&cluster.image(), &alive);
    assert_eq!(cluster.apply(decision), [1, 3]);
    assert!(fence_expired(&cluster.image(), &alive).records.is_empty());
}

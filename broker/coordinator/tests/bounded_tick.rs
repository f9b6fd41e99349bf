//! A tick with very much to do does a part of it, and says that more is due.

use ottla_coordinator::*;

#[test]
fn a_tick_is_bounded_and_the_next_goes_on() {
    let mut shard = Shard::new(GroupConfig {
        offsets_retention_ms: 1_000,
        offsets_retention_check_interval_ms: 1_000,
        ..GroupConfig::default()
    });
    let partitions = |count: i32| CommitTopic {
        name: "t".into(),
        partitions: (0..count)
            .map(|partition| CommitPartition {
                partition,
                offset: 1,
                leader_epoch: -1,
                metadata: String::new(),
            })
            .collect(),
    };
    let mut commit = |group: String, count: i32| {
        let request = CommitOffsets {
            group_id: group,
            generation_id: -1,
            member_id: String::new(),
            group_instance_id: None,
            producer: None,
            retention_time_ms: None,
            topics: vec![partitions(count)],
        };
        shard.handle(0, 1, Command::CommitOffsets(request));
    };
    for group in 0..10_000 {
        commit(format!("g{group}"), 1);
    }
    commit("large".into(), 30_000);
    let mut ticks = 0;
    let mut tombstones = 0;
    while shard.next_deadline_ms().is_some_and(|at| at <= 1_000) {
        let decision = shard.tick(1_000);
        assert!(decision.records.len() < 20_000);
        tombstones += decision.records.len();
        ticks += 1;
    }
    assert_eq!(tombstones, 40_000);
    assert!(ticks >= 4, "{ticks}");
    assert!(shard.snapshot().is_empty());
    assert_eq!(shard.next_deadline_ms(), None);
}

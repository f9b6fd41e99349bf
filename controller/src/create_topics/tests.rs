use super::*;
use crate::tests::{ClusterImage, server};

fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        num_partitions,
        replication_factor,
        ..NewTopic::default()
    }
}

fn manual(name: &str, assignments: &[(i32, &[NodeId])]) -> NewTopic {
    let assignments = assignments
        .iter()
        .map(|(index, ids)| (*index, ids.to_vec()));
    NewTopic {
        assignments: assignments.collect(),
        ..topic(name, -1, -1)
    }
}

fn create(cluster: &mut ClusterImage, topics: Vec<NewTopic>) -> Reply {
    let validate_only = false;
    cluster.create_topics(CreateTopics {
        topics,
        validate_only,
    })
}

fn create_one(
    cluster: &mut ClusterImage,
    topic: NewTopic,
) -> Result<CreatedTopic, CreateTopicError> {
    let [(_, result)] = create(cluster, vec![topic]).try_into().unwrap();
    result
}

#[test]
fn makes_what_was_asked_for() {
    let mut cluster = ClusterImage::with_brokers(3);
    let mut asked = topic("orders", 4, 3);
    asked.configs = vec![("retention.ms".to_owned(), Some("5".to_owned()))];
    let created = create_one(&mut cluster, asked).unwrap();
    assert_eq!((created.num_partitions, created.replication_factor), (4, 3));
    assert_eq!(created.note, None);
    let image = cluster.image();
    let made = image.topic("orders").unwrap();
    assert_eq!((made.id, made.partitions.len()), (created.topic_id, 4));
    assert_eq!(image.topic_configs("orders"), &created.configs);
    assert_eq!(created.configs["retention.ms"], "5");
    assert_eq!(cluster.leaders("orders"), [1, 2, 3, 1]);
}

#[test]
fn defaults_come_from_the_server() {
    let cluster = ClusterImage::with_brokers(3);
    let server = server(&["num.partitions=7", "default.replication.factor=3"]);
    let topics = vec![topic("a", -1, -1), topic("b", -1, 1), topic("c", 2, -1)];
    let validate_only = true;
    let request = CreateTopics {
        topics,
        validate_only,
    };
    let decision = decide(&cluster.image(), &server, &request, &mut Uuid::new_v4);
    assert!(decision.records.is_empty());
    let shapes = decision.reply.into_iter().map(|(_, created)| {
        let created = created.unwrap();
        (created.num_partitions, created.replication_factor)
    });
    assert!(shapes.eq([(7, 3), (7, 1), (2, 3)]));
}

#[test]
fn rounds_even_factors_up_and_says_so() {
    let mut cluster = ClusterImage::with_brokers(3);
    let created = create_one(&mut cluster, topic("a", 1, 2)).unwrap();
    assert_eq!(created.replication_factor, 3);
    assert!(created.note.unwrap().contains("rounded up to 3"));
    let error = create_one(&mut cluster, topic("b", 1, 4)).unwrap_err();
    assert!(matches!(
        error,
        CreateTopicError::Placement(PlacementError::RoundedUp { .. })
    ));
}

#[test]
fn refuses() {
    let mut cluster = ClusterImage::with_brokers(3);
    create(&mut cluster, vec![topic("old", 1, 1), topic("o.l", 1, 1)]);
    let before = cluster.image();
    for (request, expected) in [
        (topic("old", 1, 1), "already exists"),
        (topic("o_l", 1, 1), "collides with that of topic o.l"),
        (topic("a b", 1, 1), "is invalid"),
        (topic(CLUSTER_METADATA_TOPIC, 1, 1), "the cluster's own"),
        (topic("new", 0, 1), "at least 1"),
        (topic("new", -2, 1), "at least 1"),
        (topic("new", 60_000, 1), "more than 50000"),
        (topic("new", 20_000, 1), "split it"),
        (topic("new", 1, 0), "at least 1"),
        (topic("new", 1, 5), "only 3 broker(s)"),
        (topic("new", 1, 7), "more than 5"),
        (
            manual("new", &[(1, &[1])]),
            "for partitions 1, and not for 0 to 0",
        ),
        (
            manual("new", &[(0, &[1]), (2, &[1])]),
            "for partitions 0, 2, and",
        ),
        (
            manual("new", &[(0, &[1]), (0, &[1])]),
            "for partitions 0, 0, and",
        ),
        (
            manual("new", &[(-1, &[1]), (0, &[1])]),
            "for partitions -1, 0, and",
        ),
        (manual("new", &[(0, &[])]), "has no replicas"),
        (manual("new", &[(0, &[1, 2])]), "1, 3 and 5 are supported"),
        (manual("new", &[(0, &[1, 2, 1])]), "broker 1 twice"),
        (
            manual("new", &[(0, &[1, 2, 9])]),
            "broker 9, which is unknown",
        ),
        (
            manual("new", &[(0, &[1]), (1, &[1, 2, 3])]),
            "where 1 were expected",
        ),
        (
            NewTopic {
                num_partitions: 1,
                ..manual("new", &[(0, &[1])])
            },
            "must be -1",
        ),
        (
            NewTopic {
                replication_factor: 1,
                ..manual("new", &[(0, &[1])])
            },
            "must be -1",
        ),
    ] {
        let error = create_one(&mut cluster, request).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    for (key, value) in [
        ("retention.ms", Some("x")),
        ("retention.mss", Some("1")),
        ("retention.ms", None),
    ] {
        let configs = vec![(key.to_owned(), value.map(str::to_owned))];
        let request = NewTopic {
            configs,
            ..topic("new", 1, 1)
        };
        let error = create_one(&mut cluster, request).unwrap_err();
        assert!(matches!(error, CreateTopicError::Config(_)), "{error}");
    }
    assert_eq!(cluster.image().topic_count(), before.topic_count());
    assert!(
        cluster.image().groups().eq(before.groups()),
        "no group is left behind"
    );
}

#[test]
fn one_bad_topic_does_not_stop_the_others() {
    let mut cluster = ClusterImage::with_brokers(3);
    let topics = vec![
        topic("a.b", 1, 1),
        topic("a_b", 1, 1),
        topic("c", 1, 1),
        topic("d", 1, 9),
        topic("c", 2, 1),
    ];
    let reply = create(&mut cluster, topics);
    let names: Vec<_> = reply.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a.b", "a_b", "c", "d"]);
    assert!(reply[0].1.is_ok());
    let collides = NameError::Collides("a.b".to_owned());
    assert_eq!(reply[1].1, Err(CreateTopicError::Name(collides)));
    assert_eq!(reply[2].1, Err(CreateTopicError::Duplicate));
    assert!(cluster.image().topics().map(|t| &*t.name).eq(["a.b"]));
}

#[test]
fn assignments_are_kept() {
    let mut cluster = ClusterImage::with_brokers(4);
    let asked = manual("a", &[(1, &[4, 2, 1]), (0, &[2, 3, 4])]);
    let created = create_one(&mut cluster, asked).unwrap();
    assert_eq!((created.num_partitions, created.replication_factor), (2, 3));
    let image = cluster.image();
    let members = |index| {
        let group = image.partition("a", index).unwrap().group;
        image.group(group).unwrap().members.to_vec()
    };
    assert_eq!((members(0), members(1)), (vec![2, 3, 4], vec![4, 2, 1]));
    // The same replicas again need no group of their own.
    create_one(&mut cluster, manual("b", &[(0, &[2, 4, 3])])).unwrap();
    assert_eq!(cluster.image().groups().count(), 2);
}

#[test]
fn replicas_need_a_live_majority() {
    let mut cluster = ClusterImage::with_brokers(3);
    cluster.fence(3);
    create_one(&mut cluster, manual("a", &[(0, &[1, 2, 3])])).unwrap();
    create_one(&mut cluster, topic("b", 3, 3)).unwrap();
    assert!(cluster.leaders("b").iter().all(|leader| *leader != 3));
    let error = create_one(&mut cluster, manual("c", &[(0, &[3])])).unwrap_err();
    assert_eq!(
        error,
        CreateTopicError::Assignment(AssignmentError::NotLive(0))
    );
}

#[test]
fn topics_that_make_themselves() {
    let mut cluster = ClusterImage::with_brokers(3);
    let server = server(&[
        "offsets.topic.num.partitions=9",
        "offsets.topic.segment.bytes=50000000",
        "transaction.state.log.min.isr=2",
    ]);
    let mut make = |name: &str| create_one(&mut cluster, auto_topic(&server, name)).unwrap();
    let offsets = make("__consumer_offsets");
    assert_eq!(
        (offsets.num_partitions, &*offsets.configs["cleanup.policy"]),
        (9, "compact")
    );
    assert_eq!(offsets.configs["compression.type"], "producer");
    assert_eq!(offsets.configs["segment.bytes"], "50000000");
    let transactions = make("__transaction_state");
    assert_eq!(transactions.configs["min.insync.replicas"], "2");
    assert!(make("orders").configs.is_empty());
}

#[test]
fn five_thousand_partitions_at_once() {
    let mut cluster = ClusterImage::with_brokers(3);
    create_one(&mut cluster, topic("wide", 5000, 3)).unwrap();
    let many = (0..2500).map(|n| topic(&format!("t.{n}"), 2, 3)).collect();
    let reply = create(&mut cluster, many);
    assert!(reply.iter().all(|(_, created)| created.is_ok()));
    let image = cluster.image();
    assert_eq!(
        (image.topic_count(), image.partition_count()),
        (2501, 10_000)
    );
    let spread: Vec<_> = image.groups().map(|group| group.partitions).collect();
    assert_eq!(spread.iter().sum::<u32>(), 10_000);
    assert!(
        spread.iter().all(|n| (3333..=3334).contains(n)),
        "{spread:?}"
    );
}

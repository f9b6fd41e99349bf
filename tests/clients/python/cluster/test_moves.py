"""Three brokers: leaderships and replicas moved on request, under clients that must not notice."""

import pytest
from conftest import wait_for
from confluent_kafka import KafkaError
from kafka import KafkaAdminClient
from kafka import TopicPartition as Place

from .test_cluster import admin, cluster, finish, loaded, make, placed, wait_until_whole

FIXTURES = (admin, cluster)
PREFERRED = 0


@pytest.fixture
def mover(cluster):
    client = KafkaAdminClient(bootstrap_servers=cluster.bootstrap.split(","))
    yield client
    client.close()


def moves(mover, topic, plan):
    """Gives every partition the replicas that its present ones stand for in the plan."""

    def named(partition):
        return Place(topic, partition)

    return {named(p): plan[tuple(replicas)] for p, replicas in replicas_of(mover, topic).items()}


def replicas_of(mover, topic):
    found = mover.describe_topics([topic])[0]["partitions"]
    return {p["partition_index"]: p["replica_nodes"] for p in found}


def move(mover, topic, plan):
    wanted = moves(mover, topic, plan)
    refused = {place: error for place, error in mover.alter_partition_reassignments(wanted).items() if error}
    assert not refused
    wait_for(lambda: not mover.list_partition_reassignments(), "the end of the move", 60)
    assert replicas_of(mover, topic) == {place.partition: replicas for place, replicas in wanted.items()}


@pytest.mark.timeout(120)
def test_preferred_leaders_are_elected(cluster, admin, mover, name):
    make(admin, name)
    wait_until_whole(admin, name)
    cluster.nodes[1].kill9()
    cluster.nodes[1].start()
    wait_until_whole(admin, name)

    def elected():
        answer = mover.elect_leaders(PREFERRED, {name: list(placed(admin, name))}, raise_errors=False)
        [topic] = answer.replica_election_results
        codes = {partition.error_code for partition in topic.partition_result}
        # Who has just come back follows closely a moment later.
        later = {KafkaError.PREFERRED_LEADER_NOT_AVAILABLE}
        assert codes <= {0, KafkaError.ELECTION_NOT_NEEDED} | later
        return not codes & later

    wait_for(elected, "the elections", 30)
    wait_for(lambda: all(p.leader == p.replicas[0] for p in placed(admin, name).values()), "the new leaders", 20)


@pytest.mark.timeout(300)
def test_replicas_move_under_load(cluster, admin, mover, name):
    make(admin, name, replicas=1)
    with loaded(cluster, name) as load:
        load.wait_for_progress()
        more = {(1,): [1, 2, 3], (2,): [2, 3, 1], (3,): [3, 1, 2]}
        away = {(1, 2, 3): [2], (2, 3, 1): [3], (3, 1, 2): [1]}
        further = {(1,): [2], (2,): [3], (3,): [1]}
        for plan in (more, away, further):
            move(mover, name, plan)
            load.wait_for_progress()
    finish(load, cluster)


@pytest.mark.timeout(120)
def test_part_of_a_group_does_not_move(cluster, admin, mover, name):
    make(admin, name)
    wait_until_whole(admin, name)
    [result] = mover.alter_partition_reassignments({Place(name, 0): [1]}).values()
    assert result.errno == KafkaError.INVALID_REPLICA_ASSIGNMENT
    assert not mover.list_partition_reassignments()

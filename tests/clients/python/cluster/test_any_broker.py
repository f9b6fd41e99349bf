"""Three brokers: whichever is asked, a change is made once and all of them tell the same of it.

Clients send changes to the active controller if they know it. Here every request goes to one broker, as it
does where the controller has just moved, so the brokers that are not it have to forward.
"""

import pytest
from confluent_kafka import KafkaError
from conftest import wait_for
from kafka import KafkaAdminClient, TopicPartition, errors
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions

from .test_cluster import cluster

FIXTURES = (cluster,)
NODES = (1, 2, 3)
PREFERRED = 0


@pytest.fixture
def brokers(cluster):
    """{node: an admin client that asks this node, whatever it asks}"""
    clients = {node: client_of(cluster.nodes[node].bootstrap, node) for node in NODES}
    yield clients
    for client in clients.values():
        client.close()


def client_of(bootstrap, node):
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    manager = client._manager
    send = manager.send
    manager.send = lambda request, node_id=None, **options: send(request, node_id=node, **options)
    return client


def partitions(client, topic):
    """{partition: its replicas}, as the broker knows them; nothing while it does not know the topic."""
    (found,) = client.describe_topics([topic])
    return {p["partition_index"]: p["replica_nodes"] for p in found["partitions"] if not found["error_code"]}


def value(client, topic, key):
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    return client.describe_configs([resource], config_filter="all")["topic"][topic][key]["value"]


def wait_for_all(brokers, told, what):
    """All brokers tell the same at last, and something true."""

    def agreed():
        first, *others = [told(client) for client in brokers.values()]
        return first and all(other == first for other in others)

    wait_for(agreed, f"the same of all brokers: {what}")


@pytest.mark.parametrize("asked", NODES)
def test_a_topic_lives_through_any_broker(asked, brokers, name):
    client = brokers[asked]
    client.create_topics({name: {"num_partitions": 3, "replication_factor": 3, "configs": {"retention.ms": "5000"}}})
    wait_for_all(brokers, lambda broker: sorted(partitions(broker, name)) == [0, 1, 2], "three partitions")
    wait_for_all(brokers, lambda broker: partitions(broker, name), "the replicas")
    assert {value(broker, name, "retention.ms") for broker in brokers.values()} == {"5000"}
    with pytest.raises(errors.TopicAlreadyExistsError):
        client.create_topics({name: {"num_partitions": 3, "replication_factor": 3}})

    client.create_partitions({name: NewPartitions(5)})
    wait_for_all(brokers, lambda broker: len(partitions(broker, name)) == 5, "five partitions")
    with pytest.raises(errors.InvalidPartitionsError):
        client.create_partitions({name: NewPartitions(4)})

    client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs={"retention.ms": "6000"})])
    wait_for_all(brokers, lambda broker: value(broker, name, "retention.ms") == "6000", "the retention")
    client.delete_topics([name])
    wait_for_all(brokers, lambda broker: name not in broker.list_topics(), "the deletion")
    with pytest.raises(errors.UnknownTopicOrPartitionError):
        client.delete_topics([name])


@pytest.mark.parametrize("asked", NODES)
def test_elections_and_moves_through_any_broker(asked, brokers, name):
    client = brokers[asked]
    client.create_topics({name: {"num_partitions": 1, "replication_factor": 3}})
    wait_for_all(brokers, lambda broker: partitions(broker, name), "the replicas")
    place = TopicPartition(name, 0)

    def elected():
        answer = client.elect_leaders(PREFERRED, {name: [0]}, raise_errors=False)
        ((_, ((_, code, _),)),) = answer.replica_election_results
        # Its group may have been made for it, and has no leader yet; or one that the others follow in a moment.
        later = {KafkaError.ELIGIBLE_LEADERS_NOT_AVAILABLE, KafkaError.PREFERRED_LEADER_NOT_AVAILABLE}
        assert code in {0, KafkaError.ELECTION_NOT_NEEDED} | later
        return code not in later

    wait_for(elected, "the election", 30)
    present = partitions(client, name)[0]
    assert client.alter_partition_reassignments({place: present}) == {place: None}
    (error,) = client.alter_partition_reassignments({place: [1, 2, 9]}).values()
    assert error.errno == KafkaError.INVALID_REPLICA_ASSIGNMENT
    assert client.list_partition_reassignments() == {}


def test_all_tell_the_same_of_the_cluster(brokers):
    def described(broker):
        found = broker.describe_cluster()
        nodes = sorted((node["broker_id"], node["host"], node["port"]) for node in found["brokers"])
        return found["cluster_id"], found["controller_id"], nodes

    def voters(broker):
        (topic,) = broker.describe_metadata_quorum()["topics"]
        (quorum,) = topic["partitions"]
        return quorum["leader_id"], sorted(voter["replica_id"] for voter in quorum["current_voters"])

    wait_for_all(brokers, described, "the cluster")
    wait_for_all(brokers, voters, "the metadata quorum")
    assert voters(brokers[1])[1] == list(NODES)


def test_all_name_the_same_coordinator(brokers, name):
    def coordinator(broker):
        try:
            return broker._manager.run(broker._find_coordinator_id, name)
        except errors.CoordinatorNotAvailableError:
            return None

    wait_for_all(brokers, coordinator, "the coordinator")
    at = coordinator(brokers[1])
    for node, broker in brokers.items():
        if node != at:
            with pytest.raises(errors.NotCoordinatorError):
                broker.list_group_offsets(name)
    assert brokers[at].list_group_offsets(name) == {name: {}}

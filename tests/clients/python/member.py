"""A consumer in a process of its own, so that a test can kill it: member BOOTSTRAP GROUP TOPIC

Prints "assigned" with its partitions at every assignment, and one line per message.
"""

import sys

from confluent_kafka import Consumer


def main():
    bootstrap, group, topic = sys.argv[1:]
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "session.timeout.ms": 2000,
            "heartbeat.interval.ms": 300,
            "auto.offset.reset": "earliest",
        }
    )

    def assigned(_, partitions):
        print("assigned", *sorted(p.partition for p in partitions), flush=True)

    consumer.subscribe([topic], on_assign=assigned)
    while True:
        message = consumer.poll(1)
        if message and not message.error():
            print("message", message.partition(), message.offset(), flush=True)


main()

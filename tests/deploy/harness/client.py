"""Clients with their defaults: client.py BOOTSTRAP TOPIC. Produces and consumes until a line comes on standard
input, then says as JSON what an application was shown: errors, what was acknowledged, what was read.
"""

import json
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition

PAUSE_S = 0.002
PATIENCE_S = 60
FIRST = 100


def main():
    bootstrap, topic = sys.argv[1:]
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    errors, acknowledged, read = [], {}, set()

    def delivered(error, message):
        if error:
            errors.append(f"produce: {error}")
        else:
            acknowledged[message.value().decode()] = (message.partition(), message.offset())

    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0})
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "fraud", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])

    def take(wait_s):
        message = consumer.poll(wait_s)
        if message is not None and message.error():
            errors.append(f"consume: {message.error()}")
        elif message is not None:
            read.add(message.value().decode())

    sent = 0
    said = False
    while not ended.is_set():
        producer.produce(topic, key=str(sent % 17), value=f"payment {sent}", on_delivery=delivered)
        sent += 1
        producer.poll(0)
        take(0)
        time.sleep(PAUSE_S)
        if not said and len(read) > FIRST:
            said = True
            print("both work", flush=True)
    left = producer.flush(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while len(read) < len(acknowledged) and time.monotonic() < deadline:
        take(0.1)
    consumer.close()
    print(json.dumps({
        "errors": errors,
        "sent": sent,
        "left": left,
        "acknowledged": len(acknowledged),
        "read": len(read),
        "missing": sorted(set(acknowledged) - read)[:10],
        "stored_as_acknowledged": stored(bootstrap, topic) == acknowledged,
    }))


def stored(bootstrap, topic):
    """Every record of the topic, once: where it is. A record that is there twice has a second name."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "audit", "enable.partition.eof": True})
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    found, ends = {}, set()
    deadline = time.monotonic() + PATIENCE_S
    while len(ends) < len(partitions) and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            ends.add(message.partition())
            continue
        name = message.value().decode()
        place = (message.partition(), message.offset())
        found[name if name not in found else f"{name} again at {place}"] = place
    consumer.close()
    return found


main()

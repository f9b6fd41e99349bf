"""Free ports, and waiting for a condition."""

import random
import socket
import time


def free_ports(count):
    """Ports that nobody listens on right now, outside the range of outgoing connections."""
    found = set()
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    return list(found)


def wait_for(what, condition, limit_s=60):
    """What `condition` returns, once that is true."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit_s} s")
        time.sleep(0.05)
    return found

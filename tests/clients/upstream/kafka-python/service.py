"""Stands in for test/service.py, which kafka-python's source distribution leaves out.

The integration tests need it only for its names when KAFKA_URI points them to a running broker.
"""


class ExternalService:
    """A broker that somebody else starts and stops."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def stop(self):
        pass


class SpawnedService:
    """The tests that start a broker of their own cannot run here."""

    def __init__(self, *arguments, **options):
        raise RuntimeError("this test starts a broker of its own")

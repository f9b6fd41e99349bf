"""Fixtures of all files here."""

import pytest

from harness import chart


@pytest.fixture(scope="session")
def for_clusters(tmp_path_factory):
    """The chart, letting several brokers through."""
    return chart.for_clusters(tmp_path_factory.mktemp("chart"))

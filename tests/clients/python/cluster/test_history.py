"""The checker finds each violation: otherwise the suite would prove nothing."""

import pytest

from .history import Acked, violations

ACKED = [Acked(sequence, sequence, 0.0) for sequence in range(4)]
GOOD = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_good_history():
    assert violations(ACKED, GOOD) == []
    assert violations(ACKED, GOOD[:4]) == []


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (GOOD[:3], "record 3 was acknowledged at 3 and is at []"),
        ([(0, 0), (1, 1), (2, 1), (3, 2), (4, 3)], "record 1 follows record 1"),
        ([(0, 0), (1, 2), (2, 1), (3, 3)], "record 2 follows record 0"),
        ([(0, 0), (1, 1), (3, 2), (4, 3)], "offsets are not dense"),
        ([(0, 1), (1, 2), (2, 3)], "record 0 was acknowledged at 0 and is at []"),
        ([(0, 0), (1, 1), (2, 3)], "record 3 follows record 1"),
    ],
)
def test_a_bad_history(log, says):
    assert says in violations(ACKED, log)

"""What every client suite shares: the broker under test, the cache of installed clients, the suites."""

import pathlib
import sys

# What the suites share.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))

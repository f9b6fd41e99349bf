"""What the tests of deploy/ are made of."""

import pathlib
import sys

# What the suites share.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))

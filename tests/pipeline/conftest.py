"""Lets the tests of this package, and the processes that they start, import what they share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

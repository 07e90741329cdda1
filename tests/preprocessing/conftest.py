"""Lets the tests of this package, and the workers that they spawn, import `analytic_source`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

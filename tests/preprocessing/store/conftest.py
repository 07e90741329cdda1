"""Fixtures that the tests of stores share."""

import numpy as np
import pytest

from pelagos.preprocessing.array_types import Float32s
from tests.preprocessing.sharded_array import SHAPE


@pytest.fixture
def values() -> Float32s:
    """What sharded arrays are filled with."""
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)

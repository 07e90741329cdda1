"""On which levels, and in which precision, budgets are tested."""

import pytest
import torch


@pytest.fixture(params=["pressure", "hybrid"])
def vertical(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    kind = request.param
    assert isinstance(kind, torch.dtype)
    return kind

"""Fixtures that all tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference fixtures and real files; a user's clone has none."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference files in {SHARED.name}/ beside the repository")
    return SHARED


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Leave no test the threads that a run before it asked for: on some processors they change what is rounded."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)

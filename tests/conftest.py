"""Fixtures that all tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference fixtures and real files; a user's clone has none."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference files in {SHARED.name}/ beside the repository")
    return SHARED

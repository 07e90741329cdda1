"""Fixtures of the sources' tests."""

from typing import Any

import pytest

from pelagos.preprocessing.sources.arrays.lazy_array import LazyArray


@pytest.fixture
def elements_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all blocks that are read from disk."""
    sizes: list[int] = []
    original = LazyArray._block

    class Counted:
        def __init__(self, part: Any) -> None:
            self.part = part

        def read(self, index: Any) -> Any:
            values = self.part.read(index)
            sizes.append(values.size)
            return values

    monkeypatch.setattr(LazyArray, "_block", lambda self, part, index: original(self, Counted(part), index))
    return sizes

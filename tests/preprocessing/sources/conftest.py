"""Fixtures of the sources' tests."""

from dataclasses import dataclass
from typing import Any

import pytest
from numpy.typing import NDArray

from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader, ArrayView, Index
from pelagos.preprocessing.sources.arrays.lazy_array import LazyArray


@pytest.fixture
def elements_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all blocks that are read from disk."""
    sizes: list[int] = []
    original = LazyArray._block

    @dataclass(frozen=True)
    class Counted(ArrayView):
        def read(self, index: Index) -> NDArray[Any]:
            values = self.reader.read(index)
            sizes.append(values.size)
            return values

    def counted(self: LazyArray, reader: ArrayReader, index: dict[str, Any]) -> NDArray[Any]:
        return original(self, Counted(reader), index)

    monkeypatch.setattr(LazyArray, "_block", counted)
    return sizes

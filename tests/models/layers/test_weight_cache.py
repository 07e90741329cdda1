"""What is cached between calls: the same tensors, within a bound of memory, and never a stale one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pelagos.models.layers import weight_cache
from pelagos.models.layers.weight_cache import cache_tensors


def counted() -> tuple[list[int], Callable[[int], tuple[Tensor]]]:
    """Which arguments a cached function of 1 MiB results was computed for, and the function."""
    computed: list[int] = []

    @cache_tensors
    def build(number: int) -> tuple[Tensor]:
        computed.append(number)
        return (torch.full((2**18,), float(number)),)

    return computed, build


def test_results_are_computed_once() -> None:
    computed, build = counted()
    assert build(1)[0] is build(1)[0]
    assert computed == [1]


def test_the_oldest_results_make_room_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_cache, "CACHE_BYTES", 3 * 2**20)
    computed, build = counted()
    for number in (1, 2, 3, 1, 4):
        build(number)
    for number in (1, 3, 4, 2):
        build(number)
    assert computed == [1, 2, 3, 4, 2]


def test_a_result_beyond_the_bound_is_kept_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_cache, "CACHE_BYTES", 10)
    computed, build = counted()
    for number in (1, 1, 2, 2, 1):
        build(number)
    assert computed == [1, 2, 1]

"""What is cached between calls: the same tensors, within a bound of memory, and never a stale one."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pelagos.models.layers import weight_cache
from pelagos.models.layers.weight_cache import CachingModule, WeightCache, cache_tensors


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


def test_results_made_in_inference_mode_can_be_trained_with() -> None:
    _, build = counted()
    with torch.inference_mode():
        build(1)
    weight = torch.ones(2**18, requires_grad=True)
    (weight * build(1)[0]).sum().backward()
    assert weight.grad is not None


# A tensor computed from weights


class Doubled(CachingModule):
    """A layer that uses twice its weight, and counts how often that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self._cache = WeightCache()
        self.computed = 0

    def forward(self) -> Tensor:
        return self._cache([self.weight], self._double)

    def _double(self) -> Tensor:
        self.computed += 1
        return 2 * self.weight


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_derived_tensor_is_computed_once_without_gradients(
    context: Callable[[], AbstractContextManager[object]],
) -> None:
    layer = Doubled()
    with context():
        assert layer() is layer()
    assert layer.computed == 1


def test_a_derived_tensor_is_computed_anew_with_gradients_and_after_them() -> None:
    layer = Doubled()
    with torch.no_grad():
        cached = layer()
    first, second = layer(), layer()
    assert first is not second
    # Each has a graph of its own: a cached one could be walked only once.
    for out in (first, second):
        out.sum().backward()
    with torch.no_grad():
        assert layer() is not cached


CHANGES: dict[str, Callable[[Doubled], object]] = {
    "in place": lambda layer: layer.weight.add_(1),
    "load_state_dict": lambda layer: layer.load_state_dict({"weight": torch.full((3,), 2.0)}),
    "assign": lambda layer: layer.load_state_dict({"weight": torch.full((3,), 2.0)}, assign=True),
    "another parameter": lambda layer: setattr(layer, "weight", nn.Parameter(torch.full((3,), 2.0))),
    "precision": lambda layer: layer.double(),
    "data, then eval": lambda layer: (layer.weight.data.mul_(2), layer.eval()),
    "data, then train": lambda layer: (layer.weight.data.mul_(2), layer.train()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_derived_tensor_is_never_stale(name: str) -> None:
    layer = Doubled().eval()
    with torch.no_grad():
        layer()
        CHANGES[name](layer)
        assert_close(layer(), 2 * layer.weight, rtol=0, atol=0)


def test_a_copy_of_a_network_has_a_cache_of_its_own() -> None:
    layer = Doubled()
    with torch.no_grad():
        cached = layer()
        other = copy.deepcopy(layer)
        assert other() is not cached
        other.weight.zero_()
        assert_close(other(), torch.zeros(3))
        assert layer() is cached


def test_a_cache_holds_no_weights_of_the_state_dict() -> None:
    layer = Doubled()
    with torch.no_grad():
        layer()
    assert set(layer.state_dict()) == {"weight"}

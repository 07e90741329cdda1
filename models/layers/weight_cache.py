"""Caches of tensors: those computed from weights, and those that depend on sizes alone."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from typing import Any, Self, TypeVar, TypeVarTuple

import torch
from torch import Tensor, nn

Inputs = TypeVarTuple("Inputs")
CachedTensors = TypeVar("CachedTensors", bound=tuple[Tensor, ...])
CACHE_BYTES = 2**28
"""Holds the masks of a grid of 720 x 1440 pixels at all levels, of which the largest takes 72 MB."""


class WeightCache:
    """Caches one tensor computed from weights while no gradient is recorded.

    With gradients on, the tensor is computed afresh and the cached one dropped, so that neither an
    optimiser that writes past autograd's version counter nor a second pass through one graph can meet a
    stale one. The owner calls `clear` when it moves or switches between training and evaluation.

    One write goes unnoticed: through `parameter.data`, in evaluation, between two calls without gradients.
    Code that does this must call the network's `eval()` (or `train()`) again, which clears all its caches.
    Optimisers, `load_state_dict`, weight averages and moves between devices need no such care.
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._value: Tensor | None = None

    def clear(self) -> None:
        """Forget the tensor."""
        self._key, self._value = (), None

    def __deepcopy__(self, memo: dict[int, object]) -> "WeightCache":
        # A copied network has weights of its own, at other addresses.
        return WeightCache()

    def __call__(self, weights: Sequence[Tensor], compute: Callable[[], Tensor]) -> Tensor:
        """The cached tensor if no weight has changed since it was computed, otherwise a new one."""
        # A compiled graph must contain the computation: it would freeze a cached tensor as a constant.
        if torch.compiler.is_compiling():
            return compute()
        # Inference tensors have no version counter that would tell of a change.
        if torch.is_grad_enabled() or any(weight.is_inference() for weight in weights):
            self.clear()
            return compute()
        key = tuple((w.data_ptr(), w._version, w.device, w.dtype) for w in weights)
        if self._value is None or key != self._key:
            self._key, self._value = key, compute()
        return self._value


class CachingModule(nn.Module):
    """A module with a tensor computed from its weights; subclasses set `_cache`."""

    _cache: WeightCache

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation."""
        self._cache.clear()
        return super().train(mode)

    # PyTorch sends every move between devices and precisions through this method.
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._cache.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


_all_results: list[OrderedDict[tuple[object, ...], Any]] = []


@contextmanager
def separate_caches() -> Iterator[None]:
    """The context whose calls find nothing that was cached before, and leave nothing: for tensors without values."""
    before = [OrderedDict(results) for results in _all_results]
    for results in _all_results:
        results.clear()
    try:
        yield
    finally:
        for results, kept in zip(_all_results, before, strict=True):
            results.clear()
            results.update(kept)


def cache_tensors(build: Callable[[*Inputs], CachedTensors]) -> Callable[[*Inputs], CachedTensors]:
    """Caches the latest results of a function whose tensors depend on its arguments alone.

    All results of one function together take at most `CACHE_BYTES`, except that the latest is always cached.
    """
    # The bound is in bytes, not in results: one mask takes a few kilobytes or 72 MB.
    results: OrderedDict[tuple[object, ...], CachedTensors] = OrderedDict()
    _all_results.append(results)
    lock = Lock()

    def cached(*args: *Inputs) -> CachedTensors:
        with lock:
            if args not in results:
                # Tensors made in inference mode could not be used in training later.
                with torch.inference_mode(mode=False):
                    results[args] = build(*args)
                while len(results) > 1 and _total_bytes(results.values()) > CACHE_BYTES:
                    results.popitem(last=False)
            results.move_to_end(args)
            return results[args]

    @wraps(build)
    def call(*args: *Inputs) -> CachedTensors:
        # In a compiled graph the tensors cost nothing or are fused, and a lock would break the graph.
        return (build if torch.compiler.is_compiling() else cached)(*args)

    return call


def _total_bytes(results: Iterable[tuple[Tensor, ...]]) -> int:
    return sum(tensor.nbytes for tensors in results for tensor in tensors)

"""Memo: a tensor computed from weights, kept for as long as they do not change."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from threading import Lock
from typing import Self, TypeVar, TypeVarTuple

import torch
from torch import Tensor, nn

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result", bound=tuple[Tensor, ...])
KEPT_BYTES = 2**28
"""Enough for the masks of a grid of 720 x 1440 pixels at all levels."""


class Memo:
    """Keeps one derived tensor while no gradient is asked for.

    With gradients on, the tensor is computed afresh and the kept one dropped: so neither an optimiser
    that writes past autograd's version counter nor a second pass through one graph can meet a stale one.
    The owner calls `clear` when it moves or changes between training and evaluation.

    One write is not seen: through `parameter.data`, in evaluation, between two calls without gradients.
    Whoever writes so calls the network's `eval()` (or `train()`) again, which forgets all of its memos;
    optimisers, `load_state_dict`, averages of weights and moves to devices need no such care.
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._value: Tensor | None = None

    def clear(self) -> None:
        """Forget the tensor."""
        self._key, self._value = (), None

    def __deepcopy__(self, memo: dict[int, object]) -> "Memo":
        return Memo()

    def __call__(self, weights: Sequence[Tensor], compute: Callable[[], Tensor]) -> Tensor:
        """The kept tensor where all weights are as they were when it was computed, else a new one."""
        if torch.compiler.is_compiling():
            return compute()
        if torch.is_grad_enabled() or any(weight.is_inference() for weight in weights):
            self.clear()
            return compute()
        key = tuple((w.data_ptr(), w._version, w.device, w.dtype) for w in weights)
        if self._value is None or key != self._key:
            self._key, self._value = key, compute()
        return self._value


class Derived(nn.Module):
    """A module that keeps a tensor derived from its weights; `_memo` is set by whoever makes it."""

    _memo: Memo

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation."""
        self._memo.clear()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._memo.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def kept(build: Callable[[*Arguments], Result]) -> Callable[[*Arguments], Result]:
    """The function with its latest results kept, for tensors that depend on its arguments alone.

    Together they take at most `KEPT_BYTES`, or are one result. In a graph that is being compiled the tensors are
    made anew: there they cost nothing or are fused.
    """
    results: OrderedDict[tuple[object, ...], Result] = OrderedDict()
    lock = Lock()

    def remembered(*args: *Arguments) -> Result:
        with lock:
            if args not in results:
                # Tensors that are made in inference mode could not be used in training later.
                with torch.inference_mode(mode=False):
                    results[args] = build(*args)
                while len(results) > 1 and _bytes(results.values()) > KEPT_BYTES:
                    results.popitem(last=False)
            results.move_to_end(args)
            return results[args]

    @wraps(build)
    def call(*args: *Arguments) -> Result:
        return (build if torch.compiler.is_compiling() else remembered)(*args)

    return call


def _bytes(results: Iterable[tuple[Tensor, ...]]) -> int:
    return sum(tensor.nbytes for tensors in results for tensor in tensors)

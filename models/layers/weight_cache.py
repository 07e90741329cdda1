"""Memo: a tensor computed from weights, kept for as long as they do not change."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import torch
from torch import Tensor, nn


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """The context in which autocast does not lower the precision of operations on the tensor's device."""
    device = tensor.device.type
    # Entering autocast's context takes as long as a small operation.
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


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

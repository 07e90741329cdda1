"""Counts the kernels that a network would start on a GPU, where there is none."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

_PRETENDED = FakeTensorMode()
"""One for all tests: networks keep tables of sizes, whose tensors must not be of another."""
_NO_KERNEL = ("detach", "empty", "view", "alias", "lift_fresh", "prim::")


class KernelCounter(TorchDispatchMode):
    """Counts operations on tensors that are no views of others; attention counts as one, which GPUs have a kernel for.

    Attributes:
        found: how often each operation was called.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count it."""
        if not func.is_view and not any(word in func.name() for word in _NO_KERNEL):
            self.found[func.name().removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors that are made in this context have no values, and say that they are on a GPU; autocast believes them."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    with _PRETENDED, torch.device("cuda"):
        yield


def count_kernels(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> Counter[str]:
    """The kernels of a call under autocast in bf16."""

    def attention(q: Tensor, *_: Any, **__: Any) -> Tensor:
        counter.found["attention"] += 1
        return torch.empty_like(q)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    with torch.autocast("cuda", torch.bfloat16), KernelCounter() as counter:
        call()
    found: Counter[str] = counter.found
    return found

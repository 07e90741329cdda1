"""Pretended GPU: a device without memory or arithmetic, on which tensors have shapes, types and sizes alone.

What a step would hold on a GPU is then known on a machine that has none, in seconds and for networks of any size.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock
from weakref import finalize

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from pelagos.models.layers.device_constants import forget_constants
from pelagos.models.layers.weight_cache import separate_caches

DEVICE = torch.device("cuda", 0)
_BLOCK = 512
"""PyTorch's allocator hands out multiples of this many bytes."""


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """The context in which tensors on the device that it gives take no memory.

    Autocast treats them as it does those of a GPU. Attention is taken to be PyTorch's memory-efficient kernel, which is
    the one that takes a bias with a gradient. Passes backward need `pretended_backward`.
    """
    with ExitStack() as held:
        # Where a GPU is missing, autocast would be silently off.
        held.enter_context(
            mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False)
        )
        held.enter_context(mock.patch("torch.cuda.is_bf16_supported", return_value=True))
        # Without a GPU PyTorch would choose the one that keeps all logits.
        held.enter_context(mock.patch("torch.nn.functional.scaled_dot_product_attention", _attention))
        # Tables without values must not stay where networks look for real ones.
        held.enter_context(separate_caches())
        held.callback(forget_constants)
        forget_constants()
        held.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield DEVICE


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    """As `torch.nn.functional.scaled_dot_product_attention`, by the memory-efficient kernel."""
    if attn_mask is not None:
        attn_mask = attn_mask.expand(*query.shape[:-1], key.shape[-2])
    attend = torch.ops.aten._scaled_dot_product_efficient_attention
    # The third last argument asks for what the backward pass needs.
    out: Tensor = attend(query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)[0]
    return out


class WorkMeter(TorchDispatchMode):
    """Counts bytes and operations of what is computed on the pretended device while the context lasts.

    Tensors count from when they are made until they go. Operations are those of matrix products, convolutions and
    attention, as PyTorch's `FlopCounterMode` counts them, which cannot be used: it holds on to the graph.

    Attributes:
        now: bytes of the tensors that live.
        peak: the most that lived at once.
        flops: operations.
        kernels: operators that make a tensor, or write into one: about as many kernels are launched.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self.flops = self.kernels = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator, and count what it does and makes."""
        named = kwargs or {}
        result = func(*args, **named)
        if func is torch.ops.prim.device.default:
            return result  # half of all calls
        if formula := flop_registry.get(func._overloadpacket):
            self.flops += int(formula(*args, **named, out_val=result))
        self.kernels += not func.is_view and "empty" not in func.name()
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.device.type == DEVICE.type:
                self.count(tensor)
        return result

    def leave_out(self, tensor: Tensor) -> None:
        """Count a tensor, and its views, for nothing."""
        storage = tensor.untyped_storage()
        self._forget(storage._cdata)
        self._sizes[storage._cdata] = 0
        finalize(storage, self._forget, storage._cdata)

    def count(self, tensor: Tensor) -> None:
        """Count a tensor, unless one with the same storage is counted or left out."""
        # Views share their storage, which counts once.
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = size = -(-storage.nbytes() // _BLOCK) * _BLOCK
            self.now += size
            self.peak = max(self.peak, self.now)
            finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)

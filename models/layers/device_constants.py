"""Device constants: small tensors that a network or loss needs at every call, made once for each device.

A list as an index, or a tensor from the host, is a copy to the device that makes the host wait, at each use anew.
"""

from functools import lru_cache

import torch
from torch import Tensor

_MOST = (
    512  # tensors: a large network of 70 channels needs some hundred; area weights at 0.25 degrees take 4 MB
)


def constant(
    values: tuple[int, ...] | tuple[bool, ...] | Tensor | float,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The tensor of some values on a device, which nobody may change.

    >>> constant((2, 0), torch.device("cpu"))
    tensor([2, 0])
    """
    if dtype is None and isinstance(values, tuple):
        # (True, False) equals (1, 0) as a key, but one is a mask and the other an index.
        dtype = torch.bool if all(isinstance(value, bool) for value in values) else torch.int64
    # A compiler traces how a constant is made; what it finds in a cache would be an input from elsewhere.
    return _made(values, device, dtype) if torch.compiler.is_compiling() else _kept(values, device, dtype)


def forget_constants() -> None:
    """Make all anew when they are next asked for."""
    _kept.cache_clear()


def _made(
    values: tuple[float, ...] | Tensor | float, device: torch.device, dtype: torch.dtype | None
) -> Tensor:
    return torch.as_tensor(values, dtype=dtype, device=device)


@lru_cache(_MOST)
def _kept(
    values: tuple[float, ...] | Tensor | float, device: torch.device, dtype: torch.dtype | None
) -> Tensor:
    # A tensor of inference mode could not be part of a graph later.
    with torch.inference_mode(False):
        return _made(values, device, dtype)

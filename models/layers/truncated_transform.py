"""Truncated Fourier transforms as products of matrices, which compute the lowest modes of a grid and no others.

For the few modes of a neural operator they are faster on a CPU than fast transforms of all, and zeros behind an axis
cost nothing: they change the frequencies alone.

Shapes: B batch, C channels, * the axes of the grid, K modes of an axis.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

MODES_PER_OCTAVE = 4
"""A fast transform takes log2(N) operations a point and axis, a product one a mode. On 128 points an axis, 16 modes of
either sign take a product 0.45 of the fast transform's time, 42 modes 1.2."""
_products = ContextVar("products", default=True)


@contextmanager
def fast_transforms_only() -> Iterator[None]:
    """The context without products, in which operations are counted alike on every device."""
    token = _products.set(False)
    try:
        yield
    finally:
        _products.reset(token)


@dataclass(frozen=True)
class TransformAxis:
    """An axis of a grid, and the modes of it that are wanted.

    Attributes:
        points: of the axis.
        period: in points: with zeros behind the axis, longer than that.
        positive: how many frequencies 0, 1, ... are wanted.
        negative: how many of ..., -2, -1 follow them.
    """

    points: int
    period: int
    positive: int
    negative: int = 0

    @property
    def frequencies(self) -> Tensor:
        """(K,) in waves a period."""
        return torch.cat([torch.arange(self.positive), torch.arange(-self.negative, 0)])

    @property
    def pays(self) -> bool:
        """Whether there are few enough modes for a product, and none is ruled out."""
        return _products.get() and self.positive <= MODES_PER_OCTAVE * math.log2(self.period + 1)


def low_modes(x: Tensor, axes: Sequence[TransformAxis], factor: float) -> Tensor:
    """Real (B, C, *) to complex (B, C, K, ..., K), times a factor; of the last axis no negative frequencies.

    Args:
        x: fields, float32 or float64.
        axes: of the grid.
        factor: 1 over the periods' product gives amplitudes.
    """
    last = axes[-1]
    pairs = x @ _real_waves(last, factor, x.dtype)
    modes = torch.view_as_complex(pairs.unflatten(-1, (last.positive, 2)))
    for number in reversed(range(len(axes) - 1)):
        modes = _along(_waves(axes[number], -1, x.dtype), modes, number + 2)
    return modes


def fields_of(modes: Tensor, axes: Sequence[TransformAxis], dtype: torch.dtype) -> Tensor:
    """The inverse of `low_modes` with factor 1: complex (B, C, K, ..., K) to real (B, C, *).

    Args:
        modes: amplitudes.
        axes: of the grid.
        dtype: of the fields.
    """
    for number in range(len(axes) - 1):
        modes = _along(_waves(axes[number], 1, dtype).mT, modes, number + 2)
    return torch.view_as_real(modes).flatten(-2) @ _real_sums(axes[-1], dtype)


def _along(matrix: Tensor, modes: Tensor, axis: int) -> Tensor:
    """A matrix times each column along an axis."""
    if axis == modes.dim() - 2:
        return matrix @ modes
    return (matrix @ modes.movedim(axis, -2)).movedim(-2, axis)


@contextmanager
def _lasting() -> Iterator[None]:
    """The context for tensors that are cached: whoever calls first may be in another mode than those who follow."""
    # A tensor of inference mode could not be part of a graph later, nor one of another default device.
    with torch.inference_mode(False), torch.device("cpu"):
        yield


@lru_cache(64)
def _waves(axis: TransformAxis, sign: int, dtype: torch.dtype) -> Tensor:
    """(K, points) complex waves."""
    with _lasting():
        places = torch.arange(axis.points) * axis.frequencies[:, None] % axis.period
        angle = sign * 2 * math.pi / axis.period * places.double()
        return torch.polar(torch.ones_like(angle), angle).to(dtype.to_complex())


@lru_cache(64)
def _real_waves(axis: TransformAxis, factor: float, dtype: torch.dtype) -> Tensor:
    """(points, 2 K): real and imaginary part of each mode of a real field."""
    with _lasting():
        waves = _waves(axis, -1, torch.float64).T.contiguous()
        return (factor * torch.view_as_real(waves).flatten(-2)).to(dtype)


@lru_cache(64)
def _real_sums(axis: TransformAxis, dtype: torch.dtype) -> Tensor:
    """(2 K, points): a real field of its modes, each of which stands for its conjugate, too."""
    with _lasting():
        # The mean is its own conjugate, and so is the shortest wave: the imaginary parts of both count for nothing.
        own = (axis.frequencies == 0) | (2 * axis.frequencies == axis.period)
        waves = torch.view_as_real(_waves(axis, 1, torch.float64) * torch.where(own, 1, 2)[:, None])
        waves = waves * torch.tensor([1.0, -1.0], dtype=torch.float64)
        waves[own, :, 1] = 0
        return waves.movedim(-1, 1).flatten(0, 1).to(dtype)

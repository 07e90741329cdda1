"""Spectral convolution: a linear map of channels for each of the lowest Fourier modes of a grid.

Source: Li et al., Fourier Neural Operator, ICLR 2021 (arXiv:2010.08895), eq. 4 and 5.

Shapes: B batch, C channels, * the axes of the grid.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from types import EllipsisType
from typing import Literal

import torch
from torch import Tensor, nn

from pelagos.models.layers.precision import full_precision
from pelagos.models.layers.truncated_transform import TransformAxis, fields_of, low_modes

Norm = Literal["forward", "backward"]
ModeIndex = tuple[EllipsisType | slice, ...]
Axes = tuple[TransformAxis, ...]


class SpectralConv(nn.Module):
    """Multiplies each mode by a matrix of its own, and may add an offset of its own.

    With norm "forward" a mode is the amplitude of its wave, so that weights and offsets mean the same on
    every grid and the last axis may change its length. With "backward" (the reference SFNO) a mode is
    an unscaled sum over the grid: a change of length scales the output, and offsets fade on finer grids.

    Args:
        dim_in: input channels.
        dim_out: output channels.
        modes: frequencies of either sign used along each axis; along the last one, of one sign only.
        norm: the normalisation of the transform.
        offset: the factor of the offsets; None for no offsets.
        gain: scales the initial weights; at 1 the output of white noise has its variance in the modes used.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        modes: Sequence[int],
        *,
        norm: Norm = "forward",
        offset: float | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.modes, self.norm, self.offset = tuple(modes), norm, offset
        self.dim_out = dim_out
        # Real and imaginary parts, as neither safetensors nor optimisers handle complex numbers well.
        corners = range(2 ** (len(modes) - 1))
        scale = gain * (2 * dim_in) ** -0.5
        self.weight = nn.ParameterList(scale * torch.randn(dim_in, dim_out, *modes, 2) for _ in corners)
        if offset is not None:
            self.bias = nn.ParameterList(torch.zeros(dim_out, *modes, 2) for _ in corners)

    def forward(self, x: Tensor, steps: int | None = None, behind: Sequence[int] | None = None) -> Tensor:
        """(B, C, *) to (B, C', *), where the last axis has `steps` points if that is given.

        Args:
            x: fields.
            steps: of the output; of the input by default.
            behind: zeros behind each axis, which keep what does not wrap from wrapping; without `steps`.
        """
        assert steps is None or behind is None
        read, written = self._axes(x.shape[2:], steps, behind)
        # PyTorch has no transform of bfloat16.
        with full_precision(x):
            exact = x if x.dtype == torch.float64 else x.float()
            # A GPU's fast transforms are hard to beat, and its products of matrices may round (TF32).
            on_cpu = x.device.type == "cpu" and not torch.compiler.is_compiling()
            if on_cpu and all(axis.pays for axis in (*read, *written)):
                y = self._by_matrices(exact, read, written)
            else:
                y = self._by_fast_transform(exact, read, written)
        inside: ModeIndex = (..., *(slice(axis.points) for axis in written))
        return y[inside].to(x.dtype)

    def _by_matrices(self, x: Tensor, read: Axes, written: Axes) -> Tensor:
        period = math.prod(axis.period for axis in read)
        modes = low_modes(x, read, 1 / period if self.norm == "forward" else 1.0)
        corners = [in_weight for _, in_weight in self._corners(read)]
        modes = _product(modes, self._whole([self.weight[i][corner] for i, corner in enumerate(corners)]))
        if self.offset is not None:
            bias = self._whole([self.bias[i][corner] for i, corner in enumerate(corners)])
            modes = modes + self.offset * bias
        if self.norm == "backward":
            modes = modes / math.prod(axis.period for axis in written)
        return fields_of(modes, written, x.dtype)

    def _whole(self, corners: list[Tensor]) -> Tensor:
        """The corners side by side, as complex numbers."""
        parts = [torch.view_as_complex(corner) for corner in corners]
        # The last axis has one sign; the first one's changes fastest.
        for axis in range(-len(self.modes), -1):
            parts = [torch.cat(pair, axis) for pair in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def _by_fast_transform(self, x: Tensor, read: Axes, written: Axes) -> Tensor:
        axes = tuple(range(2, x.dim()))
        held, sizes = ([axis.period for axis in grid] for grid in (read, written))
        modes = torch.view_as_real(torch.fft.rfftn(x, held, dim=axes, norm=self.norm))
        out = modes.new_zeros(len(x), self.dim_out, *sizes[:-1], sizes[-1] // 2 + 1, 2)
        for i, (in_spectrum, in_weight) in enumerate(self._corners(read)):
            corner = _multiply(modes[in_spectrum], self.weight[i][in_weight])
            if self.offset is not None:
                corner = corner + self.offset * self.bias[i][in_weight]
            out[in_spectrum] = corner
        y: Tensor = torch.fft.irfftn(torch.view_as_complex(out), sizes, dim=axes, norm=self.norm)
        return y

    def _axes(
        self, points: Sequence[int], steps: int | None, behind: Sequence[int] | None
    ) -> tuple[Axes, Axes]:
        """The axes that are transformed, and those that come out; see `forward`.

        On a grid too coarse for all modes the lower ones are used.
        """
        held = [size + more for size, more in zip(points, behind or [0] * len(points), strict=True)]
        signed = [
            TransformAxis(size, period, min(mode, (period + 1) // 2), min(mode, period // 2))
            for size, period, mode in zip(points[:-1], held[:-1], self.modes[:-1], strict=True)
        ]
        size, period = (points[-1], held[-1]) if steps is None else (steps, steps)
        kept = min(self.modes[-1], held[-1] // 2 + 1, period // 2 + 1)
        last = TransformAxis(points[-1], held[-1], kept)
        return (*signed, last), (*signed, TransformAxis(size, period, kept))

    def _corners(self, axes: Axes) -> Iterator[tuple[ModeIndex, ModeIndex]]:
        """Where each corner of low frequencies lies in the spectrum, and in its weight."""
        last = slice(0, axes[-1].positive)
        signed = [_signed_halves(axis, mode) for axis, mode in zip(axes[:-1], self.modes[:-1], strict=True)]
        # The sign of the first axis changes fastest: the order of published weights.
        for halves in product(*reversed(signed)):
            in_spectrum, in_weight = zip(*reversed(halves), strict=True)
            yield (..., *in_spectrum, last, slice(None)), (..., *in_weight, last, slice(None))


def _multiply(modes: Tensor, weight: Tensor) -> Tensor:
    """(B, C, *, 2) and (C, C', *, 2) to (B, C', *, 2); the last axis holds real and imaginary part."""
    if not torch.compiler.is_compiling():
        # One product of complex matrices a mode takes two thirds of the time of four real ones.
        return torch.view_as_real(_product(torch.view_as_complex(modes), torch.view_as_complex(weight)))
    # In real numbers, since torch.compile cannot lay out the product of complex ones.
    real, imaginary = modes.unbind(-1)
    weight_real, weight_imaginary = weight.unbind(-1)
    return torch.stack(
        [
            _product(real, weight_real) - _product(imaginary, weight_imaginary),
            _product(real, weight_imaginary) + _product(imaginary, weight_real),
        ],
        -1,
    )


def _product(a: Tensor, b: Tensor) -> Tensor:
    """(B, C, *) and (C, C', *) to (B, C', *)."""
    return torch.einsum("bi...,io...->bo...", a, b)


def _signed_halves(axis: TransformAxis, mode: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Positions of the frequencies 0, 1, ... and of ..., -2, -1, in the spectrum and in the weights."""
    above, below = axis.positive, axis.negative
    return (slice(0, above), slice(0, above)), (
        slice(axis.period - below, axis.period),
        slice(mode - below, mode),
    )

"""Spectral convolution: a linear map of channels for each of the lowest Fourier modes of a grid.

Source: Li et al., Fourier Neural Operator, ICLR 2021. Legend: B batch, C channels, * the axes of the grid.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from types import EllipsisType
from typing import Literal

import torch
from torch import Tensor, nn

from pelagos.models.layers.precision import full_precision

Norm = Literal["forward", "backward"]
Index = tuple[EllipsisType | slice, ...]


class SpectralConv(nn.Module):
    """Multiplies each mode by its own matrix, and may add its own offset.

    With norm "forward" a mode is the amplitude of its wave, so that weights and offsets mean the same on
    every grid and the last axis may change its length. With "backward" (the reference SFNO) a mode is
    an unscaled sum over the grid: a change of length scales the output, and offsets fade on finer grids.

    Args:
        dim_in: input channels.
        dim_out: output channels.
        modes: how many frequencies of either sign are kept on each axis, on the last of one sign.
        norm: what a mode is.
        offset: the factor of the offsets; none where it is None.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        modes: Sequence[int],
        *,
        norm: Norm = "forward",
        offset: float | None = None,
    ) -> None:
        super().__init__()
        self.modes, self.norm, self.offset = tuple(modes), norm, offset
        self.dim_out = dim_out
        # Parts are real and imaginary, since neither safetensors nor optimisers like complex numbers.
        corners = range(2 ** (len(modes) - 1))
        scale = (2 * dim_in) ** -0.5
        self.weight = nn.ParameterList(scale * torch.randn(dim_in, dim_out, *modes, 2) for _ in corners)
        if offset is not None:
            self.bias = nn.ParameterList(torch.zeros(dim_out, *modes, 2) for _ in corners)

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        """(B, C, *) to (B, C', *), where the last axis has `steps` points if that is given."""
        axes = tuple(range(2, x.dim()))
        sizes = [*x.shape[2:-1], x.shape[-1] if steps is None else steps]
        with full_precision(x):
            exact = x if x.dtype == torch.float64 else x.float()
            modes = torch.view_as_real(torch.fft.rfftn(exact, dim=axes, norm=self.norm))
            out = modes.new_zeros(len(x), self.dim_out, *sizes[:-1], sizes[-1] // 2 + 1, 2)
            for i, (grid, kept) in enumerate(self._corners(x.shape[2:], sizes[-1])):
                corner = _multiply(modes[grid], self.weight[i][kept])
                if self.offset is not None:
                    corner = corner + self.offset * self.bias[i][kept]
                out[grid] = corner
            y: Tensor = torch.fft.irfftn(torch.view_as_complex(out), sizes, dim=axes, norm=self.norm)
        return y.to(x.dtype)

    def _corners(self, sizes: Sequence[int], steps: int) -> Iterator[tuple[Index, Index]]:
        """Where each corner of low frequencies lies in the spectrum, and in the weights.

        Of a grid too coarse for all modes the lower ones are used.
        """
        last = slice(0, min(self.modes[-1], sizes[-1] // 2 + 1, steps // 2 + 1))
        axes = [_halves(size, mode) for size, mode in zip(sizes[:-1], self.modes[:-1], strict=True)]
        # The first axis changes sign first.
        for halves in product(*reversed(axes)):
            grid, kept = zip(*reversed(halves), strict=True)
            yield (..., *grid, last, slice(None)), (..., *kept, last, slice(None))


def _multiply(modes: Tensor, weight: Tensor) -> Tensor:
    """(B, C, *, 2) and (C, C', *, 2) to (B, C', *, 2); the last axis holds real and imaginary part."""
    # In real numbers, since the compiler cannot lay out the product of complex ones.
    real, imaginary = modes.unbind(-1)
    weight_real, weight_imaginary = weight.unbind(-1)

    def product(a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum("bi...,io...->bo...", a, b)

    return torch.stack(
        [
            product(real, weight_real) - product(imaginary, weight_imaginary),
            product(real, weight_imaginary) + product(imaginary, weight_real),
        ],
        -1,
    )


def _halves(size: int, mode: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Of the frequencies 0.. and of those ..-1: where they are in the spectrum and in the weights."""
    above, below = min(mode, (size + 1) // 2), min(mode, size // 2)
    return (slice(0, above), slice(0, above)), (slice(size - below, size), slice(mode - below, mode))

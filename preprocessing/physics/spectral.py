"""SpectralPDE: equations given by a linear symbol and a nonlinear term in Fourier space.

Shapes: N trajectories, C fields, S scalars, H rows, W columns, K = W // 2 + 1 columns of the real
transform. Coefficients are those of sum_k c_k exp(i k x), whatever the grid.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import final

import numpy as np
import torch
from torch import Tensor

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.physics.etdrk import StepCoefficients, etdrk4_step
from pelagos.preprocessing.physics.pde import PDE

# Steps between two looks at how long they may be, which take 3 % of the time. Steps for `max_speed` alone were
# too long for a third of the default flows, whose peaks reach one and a half times that: errors of up to 7e-4
# at 64 points a side, and one trajectory in 768 NaN at 128, where waves take more steps to cross a fast spot.
_STRETCH = 4
_MOST = 16  # times as many steps as asked for; a trajectory that would need more becomes NaN


class Modes:
    """The Fourier modes of real fields on a periodic square.

    Args:
        shape: (H, W).
        length: side of the square; wave numbers are 2 pi j / length.
        dtype: real dtype of the fields.
        device: device of the fields.

    Attributes:
        ky: (H, 1) wave numbers along y for first derivatives: zero at the Nyquist mode of an even grid,
            which has no real odd derivative.
        kx: (1, K) wave numbers along x for first derivatives.
        square: (H, K) |k|^2, the Nyquist mode included.
        mask: (H, K) one below two thirds of the Nyquist wave number along each axis, else zero. A product
            of two masked fields has no aliasing error where the mask is one.
        mean: (H, K) one at k = 0, else zero.
        ddy: (H, K) i ky, complex because complex times real is slower.
        ddx: (H, K) i kx.
    """

    def __init__(
        self, shape: tuple[int, int], length: float, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.shape = shape
        h, w = shape
        unit = 2 * math.pi / length
        y = np.fft.fftfreq(h, 1 / h)[:, None] * unit
        x = np.fft.rfftfreq(w, 1 / w)[None, :] * unit
        nyquist_y, nyquist_x = h / 2 * unit, w / 2 * unit

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), device=device).to(dtype)

        # The mode exactly at two thirds is left out; the slack keeps rounding from deciding otherwise.
        slack = 1e-9 * unit
        below_y = abs(y) < 2 / 3 * nyquist_y - slack
        below_x = abs(x) < 2 / 3 * nyquist_x - slack
        self.square = tensor(y**2 + x**2)
        self.mask = tensor(below_y & below_x)
        self.mean = tensor((y == 0) & (x == 0))
        self.ky = tensor(np.where(np.isclose(abs(y), nyquist_y), 0.0, y))
        self.kx = tensor(np.where(np.isclose(abs(x), nyquist_x), 0.0, x))
        nothing = torch.zeros_like(self.square)
        self.ddy, self.ddx = (
            torch.complex(nothing, self.ky + nothing),
            torch.complex(nothing, self.kx + nothing),
        )

    @classmethod
    def of(cls, fields: Tensor, length: float, dtype: torch.dtype | None = None) -> "Modes":
        """The modes of the grid of fields (..., H, W), in their dtype by default."""
        h, w = fields.shape[-2:]
        return cls((h, w), length, dtype or fields.dtype, fields.device)

    def forward(self, fields: Tensor) -> Tensor:
        """The coefficients (..., H, K) of real fields (..., H, W)."""
        coefficients: Tensor = torch.fft.rfft2(fields, norm="forward")
        return coefficients

    def backward(self, coefficients: Tensor) -> Tensor:
        """The real fields (..., H, W) of coefficients (..., H, K)."""
        fields: Tensor = torch.fft.irfft2(coefficients, s=self.shape, norm="forward")
        return fields


def paired(factor: Tensor) -> Tensor:
    """A real factor repeated for (re, im), which multiplies coefficients as real numbers without a cast."""
    return factor.unsqueeze(-1).repeat(*[1] * factor.ndim, 2)


def count_steps(duration: float, longest: float) -> int:
    """The number of equal steps of at most `longest` that make up `duration`."""
    # A duration of 5 steps up to rounding is 5 steps and not 6.
    return max(1, math.ceil(duration / longest - 1e-9))


def step_lengths(length: float, num_steps: int, stable_N: Tensor | None) -> Iterator[tuple[float, ...]]:
    """The lengths of successive steps: one for all trajectories, or one for each.

    Args:
        length: length of a step where it is stable.
        num_steps: number of such steps that make up the time to pass.
        stable_N: (N,) the longest stable steps; None where any step is stable.
    """
    if stable_N is None or (stable_N >= length * (1 - 1e-9)).all():
        yield from [(length,)] * num_steps
        return
    counts_N = torch.ceil(num_steps * length / stable_N - 1e-9).clamp(min=num_steps)
    possible_N = counts_N <= _MOST * num_steps
    # A ratio of one keeps the length to the last bit, so a slow flow does not depend on a fast one beside it.
    lengths_N = torch.where(possible_N, length * (num_steps / counts_N), torch.nan)
    counts_N = torch.where(possible_N, counts_N, num_steps)
    for done in range(int(counts_N.max())):
        yield tuple(torch.where(done < counts_N, lengths_N, 0.0).tolist())


class SpectralPDE(PDE):
    """A PDE d c/dt = L c + N(c) for Fourier coefficients c; an equation fills in L and N.

    Fields become coefficients by `encode` and fields again by `decode`; both are the plain transform by
    default. Time stepping is ETDRK4 with equal steps. A trajectory for which they would be unstable takes
    more; the others wait with steps of length zero, which change nothing.
    """

    @abstractmethod
    def symbol(self, modes: Modes, scalars_NS: Tensor) -> Tensor:
        """L: (N or 1, C, H, K); real, or complex where waves disperse."""

    @abstractmethod
    def nonlinear(self, modes: Modes, static_NCHW: Tensor, scalars_NS: Tensor) -> Callable[[Tensor], Tensor]:
        """N as a function from coefficients to coefficients, both complex (N, C, H, K)."""

    @abstractmethod
    def time_step(self, shape: tuple[int, int]) -> float:
        """The longest accurate step on this grid."""

    def stable_step(self, modes: Modes, coefficients_NCHK: Tensor) -> Tensor | None:
        """(N,) the longest stable step from this state, in float64; None where any step is stable."""
        return None

    def encode(self, modes: Modes, fields_NCHW: Tensor) -> Tensor:
        """Coefficients (N, C', H, K) of the fields."""
        return modes.forward(fields_NCHW)

    def decode(self, modes: Modes, coefficients_NCHK: Tensor) -> Tensor:
        """Fields (N, C, H, W) of the coefficients."""
        return modes.backward(coefficients_NCHK)

    @final
    def propagate(
        self,
        fields_NCHW: Tensor,
        static_NCHW: Tensor,
        scalars_NS: Tensor,
        duration: float,
        dt: float | None = None,
    ) -> Tensor:
        """See PDE.propagate."""
        assert duration > 0, duration
        modes = Modes.of(fields_NCHW, self.length)
        num_steps = count_steps(duration, dt or self.time_step(modes.shape))
        length = duration / num_steps
        # In float64: differences in the coefficients cancel half of the digits of float32.
        symbol = self.symbol(Modes.of(fields_NCHW, self.length, torch.float64), scalars_NS.double())
        term = self.nonlinear(modes, static_NCHW, scalars_NS.to(fields_NCHW.dtype))

        dispersive = symbol.is_complex()

        def as_state(values: Tensor) -> Tensor:
            # Real factors act on pairs of real numbers, complex ones on complex numbers.
            return values if dispersive else torch.view_as_real(values)

        def as_complex(state: Tensor) -> Tensor:
            return state if dispersive else torch.view_as_complex(state)

        def as_factor(factor: Tensor) -> Tensor:
            real = fields_NCHW.dtype
            return factor.to(real.to_complex()) if dispersive else paired(factor.to(real))

        @lru_cache(maxsize=_STRETCH)
        def coefficients(lengths: tuple[float, ...]) -> StepCoefficients:
            lengths_N111 = torch.tensor(lengths, dtype=torch.float64, device=symbol.device)[
                :, None, None, None
            ]
            return StepCoefficients.of(symbol, lengths_N111).map(as_factor)

        u = as_state(self.encode(modes, fields_NCHW))
        while num_steps:
            stable_N = self.stable_step(modes, as_complex(u.detach()))
            stretch = num_steps if stable_N is None else min(_STRETCH, num_steps)
            for lengths in step_lengths(length, stretch, stable_N):
                u = etdrk4_step(u, lambda v: as_state(term(as_complex(v))), coefficients(lengths))
            num_steps -= stretch
        return self.decode(modes, as_complex(u))

    @final
    def coarsen(self, fields_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """See PDE.coarsen."""
        return truncate(fields_NCHW, shape)

    @final
    def coarsen_static(self, static_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """See PDE.coarsen_static."""
        return truncate(static_NCHW, shape)

    @final
    def smoothed(self, fields_NCHW: Tensor) -> Tensor:
        """The fields without the modes that alias in products."""
        modes = Modes.of(fields_NCHW, self.length)
        return modes.backward(modes.forward(fields_NCHW) * modes.mask)


def truncate(fields: Tensor, shape: tuple[int, int]) -> Tensor:
    """Periodic fields (..., H, W) on a coarser grid (h, w), without the modes it cannot hold.

    Raises:
        DataError: the new grid is finer.
    """
    (h, w), (old_h, old_w) = shape, fields.shape[-2:]
    if h > old_h or w > old_w:
        raise DataError(f"cannot coarsen a {old_h} x {old_w} grid to {h} x {w}, which is finer")
    if (h, w) == (old_h, old_w):
        return fields
    if fields.numel() == 0:
        # torch.fft refuses empty tensors.
        return fields.new_empty(*fields.shape[:-2], h, w)
    full = torch.fft.rfft2(fields, norm="forward")
    # Without the coarse Nyquist mode, of which half would be the alias of another mode.
    rows, columns = (h - 1) // 2, (w - 1) // 2
    kept = full.new_zeros(*fields.shape[:-2], h, w // 2 + 1)
    kept[..., : rows + 1, : columns + 1] = full[..., : rows + 1, : columns + 1]
    if rows:
        kept[..., -rows:, : columns + 1] = full[..., -rows:, : columns + 1]
    coarse: Tensor = torch.fft.irfft2(kept, s=shape, norm="forward")
    return coarse

"""The fine-tuning loss released with Spectral-Refiner, for comparison: it tells no trajectory from any other frames.

Cao et al. (2025, arXiv:2405.17211; torch-cfd 0.1.0) measure how far a vorticity is from

    R = dw/dt + (u dw/dx + v dw/dy) - nu Lap w - curl f

but take dw/dt from a tiny step of the equation itself, to and fro from the same frame. Such a dw/dt obeys the
equation at that frame whatever the frame is: R vanishes with the step for shuffled frames, for noise and for zero.
What Pelagos minimises is the defect of each frame against the one before (`step_problem.py`).

Shapes: any leading ones (N samples, M frames, C channels, S scalars), H rows, W columns, K of the real transform.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pelagos.preprocessing.physics.crank_nicolson import euler_step
from pelagos.preprocessing.physics.navier_stokes import NavierStokes


@dataclass(frozen=True)
class AdvectiveVorticity:
    """The vorticity equation in the form that torch-cfd's fine-tuning discretises.

    It differs from `NavierStokes` within rounding of resolved fields only: products are filtered once, after they are
    taken, and the highest mode has a first derivative.

    Attributes:
        viscosity: kinematic viscosity, or one for each flow (..., 1, 1).
        source: (..., H, W) curl of the force.
        length: side of the square.
        drag: rate of linear friction, as the viscosity.
        kept: (H, K) filter of the products; two thirds of the modes, both ends kept, by default.
    """

    viscosity: float | Tensor
    source: Tensor
    length: float = 1.0
    drag: float | Tensor = 0.0
    kept: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        h, w = self.source.shape[-2:]
        return h, w

    def forward(self, fields: Tensor) -> Tensor:
        """The coefficients (..., H, K), not divided by the number of points."""
        coefficients: Tensor = torch.fft.rfft2(fields)
        return coefficients

    def backward(self, coefficients: Tensor) -> Tensor:
        """The fields (..., H, W)."""
        fields: Tensor = torch.fft.irfft2(coefficients, s=self.shape)
        return fields

    @property
    def wave_numbers(self) -> tuple[Tensor, Tensor]:
        """(H, 1) along y and (1, K) along x."""
        unit, (h, w) = 2 * math.pi / self.length, self.shape
        y = torch.fft.fftfreq(h, 1 / h, dtype=torch.float64)[:, None] * unit
        return y, torch.fft.rfftfreq(w, 1 / w, dtype=torch.float64)[None] * unit

    @property
    def symbol(self) -> Tensor:
        """(H, K) rates of decay by viscosity and drag."""
        ky, kx = self.wave_numbers
        return -self.viscosity * (ky.square() + kx.square()) - self.drag

    def stream_function(self, modes: Tensor) -> Tensor:
        """The coefficients of the stream function of a vorticity."""
        ky, kx = self.wave_numbers
        square = ky.square() + kx.square()
        square[0, 0] = 1  # a vorticity has no mean
        return modes / square

    def nonlinear(self, modes: Tensor) -> Tensor:
        """The source less what the flow carries, from and to coefficients."""
        ky, kx = self.wave_numbers
        stream = self.stream_function(modes)
        u, v, slope_x, slope_y = (
            self.backward(1j * values) for values in (ky * stream, -kx * stream, kx * modes, ky * modes)
        )
        kept = self._two_thirds() if self.kept is None else self.kept
        return self.forward(self.source) - kept * self.forward(u * slope_x + v * slope_y)

    def residual(self, vorticity: Tensor, rate: Tensor) -> Tensor:
        """R (..., H, W) of a vorticity and its rate of change."""
        return self.backward(self.residual_modes(self.forward(vorticity), self.forward(rate)))

    def residual_modes(self, modes: Tensor, rate_modes: Tensor) -> Tensor:
        """The coefficients of R, of those of a vorticity and its rate of change."""
        return rate_modes - self.nonlinear(modes) - self.symbol * modes

    def _two_thirds(self) -> Tensor:
        ky, kx = (k.abs() * self.length / (2 * math.pi) for k in self.wave_numbers)
        h, w = self.shape
        return ((ky <= h / 3) & (kx <= w / 3)).double()


def released_residual(
    equation: AdvectiveVorticity,
    vorticity: Tensor,
    step: float = 1e-6,
    weights: tuple[float, float] = (0.5, 0.5),
) -> Tensor:
    """R (..., H, W) as the released loss has it: close to zero for any frames; see `released_state`."""
    state, rate = released_state(equation, equation.forward(vorticity), step, weights)
    return equation.backward(equation.residual_modes(state, rate))


def released_state(
    equation: AdvectiveVorticity, modes: Tensor, step: float, weights: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """The vorticity and the rate of change at which the released loss takes the residual of a frame.

    Args:
        equation: what the frames should obey.
        modes: (..., H, K) coefficients of the frames' vorticity, in double precision.
        step: time of the step.
        weights: of the step backwards and of that forwards.
    """
    before, after = (euler_step(modes, equation.nonlinear, equation.symbol, sign * step) for sign in (-1, 1))
    state = weights[0] * before + weights[1] * after
    rate = weights[0] * ((before - modes) / -step) + weights[1] * ((after - modes) / step)
    return state, rate


def relative_released_residual(
    equation: NavierStokes, frames_NMCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor, interval: float
) -> Tensor:
    """(N,) the released loss of flow frames, a rate, over the interval between them, relative to their vorticity."""
    vorticity_NMHW = frames_NMCHW[:, :, 0]
    if equation.solenoidal:
        vorticity_NMHW = equation.vorticity(frames_NMCHW[:, :, :2].flatten(0, 1)).view_as(vorticity_NMHW)
    forced = static_NCHW.shape[1] > 0
    source_NHW = equation.vorticity(static_NCHW) if forced else torch.zeros_like(vorticity_NMHW[:, 0])
    viscosity, drag = scalars_NS[:, :2, None, None, None].unbind(1)
    flow = AdvectiveVorticity(viscosity, source_NHW[:, None], equation.length, drag)
    residual_N = released_residual(flow, vorticity_NMHW).flatten(1).norm(dim=1)
    size_N = vorticity_NMHW.flatten(1).norm(dim=1)
    relative_N: Tensor = interval * residual_N / size_N.where(size_N > 0, 1)
    return relative_N

"""The refinable last layer: the Fourier coefficients of a forecast, fitted to the equation it should obey.

A network's frames w_1, ..., w_M after a known w_0 satisfy the discrete equation w_m = P(w_{m-1})
only approximately. The head adds a coefficient to every mode of every frame, and `refine` fits these
to make the step-consistency residual r_m = (w_m - P(w_{m-1})) / Δt small, the idea of the
Spectral-Refiner (Cao et al., 2025, arXiv:2405.17211). The fine-tuning loss released with that paper is
not available here: it takes the time derivative from the equation at the same frame instead of from
the trajectory, and so vanishes for any frames, even shuffled or zero ones. The minimiser here is the
trajectory of the solver P, and running P costs far less: refinement shows how far a forecast is from
its equation and corrects it, but does not save time.

Shapes: M frames, C channels, H rows, W columns, K = W // 2 + 1 modes of the real transform,
whose coefficients are amplitudes (norm "forward").
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from pelagos.models.losses import ChannelGroups
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid

Propagator = Callable[[Tensor], Tensor]
"""Maps (N, C, H, W) fields in physical units to those one interval later; differentiable by PyTorch."""
VelocityPairs = tuple[tuple[int, int], ...]
"""The channels of the x and y components of velocities."""


class SpectralHead(nn.Module):
    """Adds b + G·ŵ to the spectrum ŵ of each frame, in float64; initially the identity.

    b belongs to one forecast; G, a linear filter that mixes channels, can be trained once for all forecasts.

    Args:
        shape: (M, C, H, W) of the frames; with M = 1 all frames of any batch share b.
        grid: the periodic grid of the frames.
        gain: whether there is a G, of shape (C, C, H, K).
        freeze_mean: whether the mean of every channel stays as it is.
        velocity: pairs of channels whose corrected frames are made free of divergence.

    Raises:
        DataError: the grid is not periodic along both axes.
    """

    def __init__(
        self,
        shape: Sequence[int],
        grid: Grid,
        *,
        gain: bool = False,
        freeze_mean: bool = False,
        velocity: VelocityPairs = (),
    ) -> None:
        super().__init__()
        _require_periodic(grid)
        frames, channels, height, width = shape
        assert grid.shape == (height, width), f"frames {shape} on a grid {grid.shape}"
        modes = (height, width // 2 + 1)
        self.grid = grid
        self.freeze_mean = freeze_mean
        self.velocity = velocity
        self.bias = nn.Parameter(torch.zeros(frames, channels, *modes, dtype=torch.complex128))
        self.gain = (
            nn.Parameter(torch.zeros(channels, channels, *modes, dtype=torch.complex128)) if gain else None
        )

    def forward(self, frames_MCHW: Tensor) -> Tensor:
        """The corrected frames (M, C, H, W), float64."""
        frames_MCHW = frames_MCHW.double()
        change_MCHK: Tensor = self.bias
        if self.gain is not None:
            spectrum_MCHK = torch.fft.rfft2(frames_MCHW, norm="forward")
            change_MCHK = change_MCHK + torch.einsum("cdhk,mdhk->mchk", self.gain, spectrum_MCHK)
        if self.freeze_mean:
            free_HK = torch.ones(change_MCHK.shape[-2:], dtype=torch.float64, device=change_MCHK.device)
            # The mode of wave number 0 is the mean.
            free_HK[0, 0] = 0
            change_MCHK = change_MCHK * free_HK
        frames_MCHW = frames_MCHW + _to_fields(change_MCHK, self.grid)
        return project_solenoidal(frames_MCHW, self.grid, self.velocity)


def project_solenoidal(frames_MCHW: Tensor, grid: Grid, velocity: VelocityPairs) -> Tensor:
    """(M, C, H, W) without the gradient part of each pair of channels: the Leray projection I - k kᵀ / |k|²."""
    if not velocity:
        return frames_MCHW
    ky_HK, kx_HK = (k.to(frames_MCHW.device) for k in _wave_numbers(grid, derivative=True))
    square_HK = kx_HK.square() + ky_HK.square()
    inverse_HK = torch.where(square_HK > 0, 1 / square_HK, 0)
    spectrum_MCHK = torch.fft.rfft2(frames_MCHW, norm="forward")
    channels = list(spectrum_MCHK.unbind(1))
    for along_x, along_y in velocity:
        potential_MHK = (kx_HK * channels[along_x] + ky_HK * channels[along_y]) * inverse_HK
        channels[along_x] = channels[along_x] - kx_HK * potential_MHK
        channels[along_y] = channels[along_y] - ky_HK * potential_MHK
    return _to_fields(torch.stack(channels, 1), grid)


@dataclass(frozen=True, eq=False)
class Refinement:
    """The result of refining one forecast.

    Attributes:
        frames: (M, C, H, W), float64; the network's own frames if `accepted` is false.
        residual_before: the relative residual of the network's frames.
        residual_after: the relative residual of `frames`. It is no error estimate: it ranks forecasts poorly.
        evaluations: calls of the propagator on the frames of a window, mostly with gradients.
        seconds: wall time.
        accepted: whether the residual fell.
    """

    frames: Tensor
    residual_before: float
    residual_after: float
    evaluations: int
    seconds: float
    accepted: bool


def step_residual(frames_MCHW: Tensor, anchor_CHW: Tensor, propagate: Propagator, interval: float) -> Tensor:
    """(M, C, H, W): r_m = (w_m - P(w_{m-1})) / Δt with w_0 the anchor, in physical units per unit of time."""
    initial_MCHW = torch.cat([anchor_CHW[None], frames_MCHW[:-1]])
    return (frames_MCHW - propagate(initial_MCHW)) / interval


def relative_residual(
    frames_MCHW: Tensor, anchor_CHW: Tensor, propagate: Propagator, groups: ChannelGroups = ()
) -> float:
    """The root mean square of Δt·r, where each channel is scaled by its own or its group's root mean square."""
    scales_C11 = _channel_scales(frames_MCHW, anchor_CHW, groups)
    return _relative_residual(frames_MCHW, anchor_CHW, propagate, scales_C11)


def refine(
    frames_MCHW: Tensor,
    anchor_CHW: Tensor,
    propagate: Propagator,
    interval: float,
    grid: Grid,
    *,
    weight: Literal["l2", "energy"] = "l2",
    diffusivity: float = 0.0,
    groups: ChannelGroups = (),
    window: int | None = None,
    max_evaluations: int = 60,
    tolerance: float = 1e-6,
    freeze_mean: bool = False,
    velocity: VelocityPairs = (),
    carry: float = 0.5,
) -> Refinement:
    """Refines one forecast by L-BFGS on mean_m Σ_k W(k) |r_m,k|², with the frames of a window in one batch.

    Args:
        frames_MCHW: the forecast at interval, 2 interval, ..., in physical units.
        anchor_CHW: the known state at time 0.
        propagate: advances a batch of states by `interval`, in float64.
        interval: physical time between frames.
        grid: the periodic grid of the frames.
        weight: `l2` for W = 1, or `energy` for W = (1/Δt + ν|k|²)⁻².
        diffusivity: the ν of `energy`, which for ν = 0 equals `l2`.
        groups: channels that share a scale, such as the components of a velocity, one of which may
            be close to zero; other channels are scaled by their own root mean square.
        window: number of frames refined together, by default all; the last one is the anchor of the
            next window. The condition number grows as the square of a window's length, so that
            short windows need far fewer evaluations. A window of 1 is the plain solver.
        max_evaluations: the most calls of the propagator on the frames of a window.
        tolerance: the relative residual at which the search in a window ends.
        freeze_mean: see `SpectralHead`.
        velocity: see `SpectralHead`.
        carry: the share of a correction, from 0 to 1, that the preconditioner passes on to the next
            frame.

    Raises:
        DataError: the grid is not periodic, so that Fourier coefficients would be wrong.
    """
    started = time.perf_counter()
    _require_periodic(grid)
    # Tensors of inference mode cannot enter a graph, but copies made outside it can.
    with torch.inference_mode(mode=False):
        original, known = frames_MCHW.detach().double().clone(), anchor_CHW.detach().double().clone()
        scales = _channel_scales(original, known, groups)
        before = _relative_residual(original, known, propagate, scales)
        refined, anchor, evaluations = list[Tensor](), known, 2
        diffusion = interval * diffusivity if weight == "energy" else 0.0
        for part in torch.split(original, window or len(original)):
            head = SpectralHead(part.shape, grid, freeze_mean=freeze_mean, velocity=velocity).to(part.device)
            problem = _RefinementProblem(head, part, anchor, propagate, scales, diffusion, carry)
            best = _minimise(problem, max_evaluations, tolerance)
            refined.append(best.frames)
            anchor, evaluations = best.frames[-1], evaluations + best.evaluations
        after = _relative_residual(torch.cat(refined), known, propagate, scales)
    # Windows are refined one after the other: the whole must be better, not only each part.
    accepted = after < before
    return Refinement(
        frames=torch.cat(refined) if accepted else frames_MCHW,
        residual_before=before,
        residual_after=after if accepted else before,
        evaluations=evaluations,
        seconds=time.perf_counter() - started,
        accepted=accepted,
    )


class _RefinementProblem:
    """The loss as a function of unknowns in which its curvature is about the same in all directions.

    The unknowns c determine the head's coefficients by b_m = λ b_{m-1} + s c_m. The scale s undoes the
    weights of the loss; λ, one factor for each mode, approximates the propagator, so that a change in
    one frame is carried on to the next as the equation would do. Neither moves the minimiser.
    """

    def __init__(
        self,
        head: SpectralHead,
        frames_MCHW: Tensor,
        anchor_CHW: Tensor,
        propagate: Propagator,
        scales_C11: Tensor,
        diffusion: float,
        carry: float,
    ) -> None:
        self.head, self.frames, self.anchor, self.propagate = head, frames_MCHW, anchor_CHW, propagate
        self.scales = scales_C11
        weights_HK = _mode_weights(head.grid, diffusion).to(scales_C11.device)
        self.metric_CHK = weights_HK / scales_C11 / math.sqrt(len(scales_C11))
        initial_MCHW = torch.cat([anchor_CHW[None], frames_MCHW[:-1]])
        with torch.no_grad():
            advanced_MCHW = propagate(initial_MCHW)
        self.residual = _root_mean_square((frames_MCHW - advanced_MCHW) / self.scales)
        self.factor_CHK = carry * _mode_factors(initial_MCHW, advanced_MCHW)

    def correct(self, unknowns_MCHK: Tensor) -> Tensor:
        """The corrected frames (M, C, H, W)."""
        bias: list[Tensor] = []
        for unknown_CHK in unknowns_MCHK / self.metric_CHK:
            bias.append(unknown_CHK + self.factor_CHK * bias[-1] if bias else unknown_CHK)
        # The head's own forward with the unknowns in place of its bias: the two cannot drift apart.
        frames_MCHW: Tensor = functional_call(self.head, {"bias": torch.stack(bias)}, (self.frames,))
        return frames_MCHW

    def evaluate(self, frames_MCHW: Tensor) -> tuple[Tensor, float]:
        """The loss, which for W = 1 is the square of the relative residual, and the relative residual."""
        defect_MCHW = step_residual(frames_MCHW, self.anchor, self.propagate, interval=1)
        weighted_MCHK = self.metric_CHK * torch.fft.rfft2(defect_MCHW, norm="forward")
        loss = weighted_MCHK.abs().square().sum((1, 2, 3)).mean()
        return loss, _root_mean_square(defect_MCHW.detach() / self.scales)


@dataclass
class _Best:
    """The best frames so far."""

    frames: Tensor
    residual: float
    loss: float
    evaluations: int = 1


class _SearchFinishedError(Exception):
    """The tolerance is reached or the evaluations are used up, possibly within a line search."""


def _minimise(problem: _RefinementProblem, max_evaluations: int, tolerance: float) -> _Best:
    best = _Best(problem.frames, problem.residual, loss=math.inf)
    if not math.isfinite(best.residual) or best.residual <= tolerance:
        return best
    unknowns = torch.zeros_like(problem.head.bias, requires_grad=True)
    # PyTorch discards curvature below 1e-10, an absolute bound: the loss is scaled to start well above it.
    unit = 1e6 / problem.residual**2
    optimizer = torch.optim.LBFGS(
        [unknowns],
        max_iter=max_evaluations,
        max_eval=max_evaluations,
        tolerance_grad=0,
        tolerance_change=0,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        if best.residual <= tolerance or best.evaluations >= max_evaluations:
            raise _SearchFinishedError
        optimizer.zero_grad()
        frames = problem.correct(unknowns)
        loss, residual = problem.evaluate(frames)
        best.evaluations += 1
        if not math.isfinite(residual):
            # The propagator breaks down at this trial step. The line search backs off from a higher
            # value, but not from NaN.
            unknowns.grad = torch.zeros_like(unknowns)
            return 10 * unit * best.loss
        (unit * loss).backward()
        if loss.item() < best.loss:
            best.frames, best.residual, best.loss = frames.detach(), residual, loss.item()
        return unit * loss.item()

    with suppress(_SearchFinishedError):
        optimizer.step(closure)
    return best


def _require_periodic(grid: Grid) -> None:
    if not all(grid.periodic):
        raise DataError(
            "the spectral head needs a grid that is periodic along y and x, as its Fourier modes are; "
            f"found boundary_y {grid.boundary_y} and boundary_x {grid.boundary_x}"
        )


def _to_fields(spectrum_MCHK: Tensor, grid: Grid) -> Tensor:
    fields_MCHW: Tensor = torch.fft.irfft2(spectrum_MCHK, s=grid.shape, norm="forward")
    return fields_MCHW


@torch.no_grad()
def _relative_residual(
    frames_MCHW: Tensor, anchor_CHW: Tensor, propagate: Propagator, scales_C11: Tensor
) -> float:
    return _root_mean_square(step_residual(frames_MCHW, anchor_CHW, propagate, interval=1) / scales_C11)


def _root_mean_square(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _channel_scales(frames_MCHW: Tensor, anchor_CHW: Tensor, groups: ChannelGroups) -> Tensor:
    """(C, 1, 1): the root mean square of each channel or of its group; 1 where that is 0."""
    square_C = torch.cat([anchor_CHW[None], frames_MCHW]).square().mean((0, 2, 3))
    for group in groups:
        square_C[list(group)] = square_C[list(group)].mean()
    return square_C.where(square_C > 0, 1).sqrt()[:, None, None]


def _wave_numbers(grid: Grid, *, derivative: bool = False) -> tuple[Tensor, Tensor]:
    """Wave numbers (H, 1) along y and (1, K) along x, in radians per unit of length."""
    height, width = grid.shape
    index_H = torch.fft.fftfreq(height, 1 / height, dtype=torch.float64)
    index_K = torch.fft.rfftfreq(width, 1 / width, dtype=torch.float64)
    if derivative:
        # On an even number of points the derivative of the highest mode vanishes at all of them.
        index_H[index_H.abs() == height / 2] = 0
        index_K[index_K == width / 2] = 0
    return _fundamental(grid.y) * index_H[:, None], _fundamental(grid.x) * index_K[None]


def _fundamental(centres: NDArray[np.float64]) -> float:
    """The smallest wave number of a periodic axis; negative if the axis descends."""
    points = len(centres)
    step = float(centres[-1] - centres[0]) / (points - 1) if points > 1 else 1.0
    return 2 * math.pi / (points * step)


def _mode_weights(grid: Grid, diffusion: float) -> Tensor:
    """(H, K): the square root of W/Δt² times the number of times a mode occurs in the full transform.

    `diffusion` is Δt ν.
    """
    ky_HK, kx_HK = _wave_numbers(grid)
    # The real transform holds one of each conjugate pair; the sum over modes needs both.
    count_K = torch.full((kx_HK.shape[1],), 2.0, dtype=torch.float64)
    count_K[0] = 1
    if grid.shape[1] % 2 == 0:
        count_K[-1] = 1
    return count_K.sqrt() / (1 + diffusion * (ky_HK.square() + kx_HK.square()))


def _mode_factors(initial_MCHW: Tensor, advanced_MCHW: Tensor) -> Tensor:
    """(C, H, K): for each mode the factor, at most 1 in magnitude, that best maps states to their successors."""
    initial_MCHK = torch.fft.rfft2(initial_MCHW, norm="forward")
    advanced_MCHK = torch.fft.rfft2(advanced_MCHW, norm="forward")
    power_CHK = initial_MCHK.abs().square().sum(0)
    factor_CHK = (initial_MCHK.conj() * advanced_MCHK).sum(0) / power_CHK.where(power_CHK > 0, 1)
    bounded_CHK: Tensor = factor_CHK / factor_CHK.abs().clamp(min=1)
    return bounded_CHK

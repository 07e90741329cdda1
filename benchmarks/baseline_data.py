"""The tasks of `make bench-baselines`, made here: Burgers' equation, Darcy flow, Kolmogorov flow and decaying flow.

Shapes: N samples, C channels, H rows, W columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from pelagos.preprocessing.online.simulation import SimulateConfig, simulate

Array = NDArray[np.float64]
Modes = NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Task:
    """Samples of a map from fields to fields; the first `num_train` are for training.

    Attributes:
        name: in the table.
        inputs: (N, C, H, W), normalised by the training samples.
        targets: (N, C', H, W), normalised; as the input's first channels are where these evolve.
        scale: mean and deviation (1, C', 1, 1) of the targets.
        num_train: number of training samples.
        periodic: whether rows, and columns, wrap around.
        modes: frequencies for networks in Fourier space.
        evolves: whether the targets are the first inputs at a later time.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    scale: tuple[Tensor, Tensor]
    num_train: int
    periodic: tuple[bool, bool]
    modes: tuple[int, int]
    evolves: bool

    @classmethod
    def of(
        cls,
        name: str,
        x_NCHW: Tensor,
        t_NCHW: Tensor,
        num_train: int,
        periodic: tuple[bool, bool],
        modes: tuple[int, int],
        *,
        evolves: bool = False,
    ) -> "Task":
        """The task of fields in physical units."""
        mean, std = _scale(x_NCHW[:num_train])
        count = t_NCHW.shape[1]
        scale = (mean[:, :count], std[:, :count]) if evolves else _scale(t_NCHW[:num_train])
        inputs, targets = (x_NCHW - mean) / std, (t_NCHW - scale[0]) / scale[1]
        return cls(name, inputs.float(), targets.float(), scale, num_train, periodic, modes, evolves)

    def physical_error(self, prediction_NCHW: Tensor) -> float:
        """The median over held-out samples of the relative L1 error in physical units."""
        mean, std = self.scale
        truth = self.targets[self.num_train :] * std + mean
        error = prediction_NCHW * std + mean - truth
        return float((error.abs().sum((1, 2, 3)) / truth.abs().sum((1, 2, 3))).median())


def _scale(x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    return x_NCHW.mean((0, 2, 3), keepdim=True), x_NCHW.std((0, 2, 3), keepdim=True)


def burgers(points: int = 32, num_train: int = 600, num_test: int = 200) -> Task:
    """u_t + u u_x = 0.01 u_xx on a torus: from u at time 0 to u at all of `points` times until 1, as a map of (t, x).

    Solved by Fourier modes (two thirds dealiased) on four times the points, Runge-Kutta of fourth order in time.
    """
    rng, fine = np.random.default_rng(0), 4 * points
    k = 2j * np.pi * np.arange(fine // 2 + 1)
    kept = np.arange(fine // 2 + 1) <= fine // 3
    u = _random_waves(rng, num_train + num_test, fine)
    start, frames, steps = u, [u], 40

    def tendency(u_hat: Modes) -> Modes:
        u = np.fft.irfft(u_hat, fine)
        return np.asarray(kept * (-0.5 * k * np.fft.rfft(u * u) + 0.01 * k**2 * u_hat))

    u_hat, dt = np.fft.rfft(u), 1 / (points - 1) / steps
    for _ in range(points - 1):
        for _ in range(steps):
            a = tendency(u_hat)
            b = tendency(u_hat + dt / 2 * a)
            c = tendency(u_hat + dt / 2 * b)
            u_hat = u_hat + dt / 6 * (a + 2 * b + 2 * c + tendency(u_hat + dt * c))
        frames.append(np.fft.irfft(u_hat, fine))
    t_NHW = np.stack(frames, 1)[..., ::4]
    x_NHW = np.broadcast_to(start[:, None, ::4], t_NHW.shape)
    x_NCHW, t_NCHW = (torch.from_numpy(np.ascontiguousarray(a))[:, None] for a in (x_NHW, t_NHW))
    return Task.of("Burgers", x_NCHW, t_NCHW, num_train, (False, True), (12, 12))


def _random_waves(rng: np.random.Generator, number: int, points: int) -> Array:
    """(number, points) sums of the waves 1 to 6 whose energy falls as 1/k^2."""
    k, x = np.arange(1, 7), np.arange(points) / points
    amplitude, phase = rng.normal(size=(number, 6)) / k, rng.uniform(0, 2 * np.pi, (number, 6))
    waves = np.sin(2 * np.pi * k[:, None] * x + phase[..., None])
    return np.asarray(0.5 * np.einsum("nk,nkx->nx", amplitude, waves))


def darcy(points: int = 32, num_train: int = 600, num_test: int = 200) -> Task:
    """-div(a grad u) = 1 with u = 0 outside, a = 12 or 3 by the sign of a smooth random field: from a to u.

    Five-point differences with harmonic means of a on faces; the wall is half a cell away.
    """
    rng = np.random.default_rng(1)
    a_NHW = np.where(random_field(rng, num_train + num_test, points) > 0, 12.0, 3.0)
    u_NHW = np.stack([darcy_solution(a) for a in a_NHW])
    x_NCHW, t_NCHW = (torch.from_numpy(field)[:, None] for field in (a_NHW, u_NHW))
    return Task.of("Darcy", x_NCHW, t_NCHW, num_train, (False, False), (12, 12))


def random_field(rng: np.random.Generator, number: int, points: int) -> Array:
    """(number, points, points) of covariance (-Laplacian + 9)^-2 with Neumann boundaries, that is of cosines."""
    k = np.arange(points) * np.pi
    deviation = 1 / (k[:, None] ** 2 + k**2 + 9)
    basis = np.cos(np.outer((np.arange(points) + 0.5) / points, k))
    noise = rng.normal(size=(number, points, points)) * deviation
    return np.asarray(basis @ noise @ basis.T)


def darcy_solution(a_HW: Array) -> Array:
    points = len(a_HW)
    padded = np.pad(a_HW, 1, mode="edge")
    center = padded[1:-1, 1:-1]
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    up, down, left, right = (2 * center * side / (center + side) * points**2 for side in sides)
    for side, wall in ((up, np.s_[0]), (down, np.s_[-1]), (left, np.s_[:, 0]), (right, np.s_[:, -1])):
        side[wall] *= 2
    down_to, right_to = -down.ravel()[:-points], -right.ravel()[:-1]
    right_to[points - 1 :: points] = 0  # the last column has no neighbour
    diagonal = (up + down + left + right).ravel()
    matrix = scipy.sparse.diags(
        [diagonal, down_to, down_to, right_to, right_to], [0, points, -points, 1, -1], format="csc"
    )
    solution = scipy.sparse.linalg.spsolve(matrix, np.ones(points**2))
    return np.asarray(solution).reshape(points, points)


def kolmogorov(points: int, num_train: int = 32, num_test: int = 32) -> Task:
    """Forced flow: velocity and force to the velocity 0.2 later; trajectories of ten such steps."""
    data = _ten_steps({"kind": "kolmogorov", "viscosity": 0.001}, points, num_train + num_test)
    velocity = np.stack([data["velocity_x"].values, data["velocity_y"].values], 2)
    force = np.stack([data["force_x"].values, data["force_y"].values], 1)
    still = np.broadcast_to(force[:, None], (*velocity[:, :-1].shape[:2], *force.shape[1:]))
    inputs = torch.from_numpy(np.concatenate([velocity[:, :-1], still], 2)).flatten(0, 1)
    targets = torch.from_numpy(velocity[:, 1:]).flatten(0, 1)
    modes = {32: 12, 64: 16}[points]
    return Task.of(
        f"Kolmogorov {points}", inputs, targets, 10 * num_train, (True, True), (modes, modes), evolves=True
    )


def vorticity(points: int = 32, num_train: int = 32, num_test: int = 32) -> Task:
    """Decaying flow: vorticity to the vorticity 0.2 later; trajectories of ten such steps."""
    equation = {"kind": "navier_stokes", "state": "vorticity", "viscosity": 0.001}
    data = _ten_steps(equation, points, num_train + num_test, solver_shape=[2 * points, 2 * points])
    fields = torch.from_numpy(data["vorticity"].values)[:, :, None]
    inputs, targets = fields[:, :-1].flatten(0, 1), fields[:, 1:].flatten(0, 1)
    return Task.of("Vorticity", inputs, targets, 10 * num_train, (True, True), (12, 12), evolves=True)


def _ten_steps(equation: dict[str, Any], points: int, number: int, **others: Any) -> xr.Dataset:
    """Trajectories of ten steps of 0.2."""
    simulation = {
        "equation": equation,
        "shape": [points, points],
        "num_trajectories": number,
        "num_frames": 11,
        "interval": 0.2,
        "batch": 8,
        **others,
    }
    return simulate(SimulateConfig.model_validate(simulation))


TASKS: dict[str, Callable[[], Task]] = {
    "burgers": burgers,
    "darcy": darcy,
    "kolmogorov32": partial(kolmogorov, 32),
    "kolmogorov64": partial(kolmogorov, 64),
    "vorticity": vorticity,
}
"""What makes each task."""

"""Amortised head: one linear filter of frames' Fourier coefficients, trained once on a set of forecasts.

ŵ + G ŵ, with a matrix G over channels for each mode, has the smallest residuals over the set: no truth is needed. Each
pass solves the least squares of the problem linearised by the equation's symbol, mode by mode, and keeps a step only if
the genuine residual falls. A filter is the same at every place: it mends spectra and systematic phase speeds, not what
went wrong in one forecast.

Shapes: N samples, M frames, C channels, H rows, W columns, K modes of the real transform.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pelagos.models.refinement.spectral_head import SpectralHead
from pelagos.models.refinement.spectral_modes import to_modes
from pelagos.models.refinement.step_problem import StepProblem

_RIDGE = 1e-8  # relative: modes that hold nothing but rounding get no gain
_HALVINGS = 4


@dataclass(frozen=True, eq=False)
class TrainingForecasts:
    """Forecasts that share an equation and a grid.

    Attributes:
        frames: (N, M, C, H, W), physical, in double precision.
        anchor: (N, C, H, W) the known states before.
        problem: the equation between frames.
    """

    frames: Tensor
    anchor: Tensor
    problem: StepProblem


@torch.no_grad()
def apply_head(head: SpectralHead, forecasts: TrainingForecasts) -> Tensor:
    """(N, M, C, H, W) the filtered frames, with the means and without the divergence that the equation forbids."""
    frames = head(forecasts.frames.flatten(0, 1)).reshape(forecasts.frames.shape)
    return forecasts.problem.constrained(frames, forecasts.anchor)


@torch.no_grad()
def train_head(batches: Sequence[TrainingForecasts], passes: int = 4) -> tuple[SpectralHead, list[float]]:
    """A head with the gain of the smallest residuals, and the root mean squares of these before and after each pass."""
    shape = batches[0].frames.shape
    head = SpectralHead((1, *shape[2:]), batches[0].problem.grid, gain=True)
    history = [_residual(head, batches)]
    for _ in range(passes):
        change_CCHK = _gauss_newton(head, batches)
        assert head.gain is not None
        start = head.gain.data.clone()
        for halving in range(_HALVINGS):
            head.gain.data = start + change_CCHK / 2**halving
            reached = _residual(head, batches)
            if reached < history[-1]:
                break
        else:
            head.gain.data = start
            break
        history.append(reached)
    return head, history


def _residual(head: SpectralHead, batches: Sequence[TrainingForecasts]) -> float:
    # By the scale of the forecasts as they were, or a filter could make residuals smaller by making frames larger.
    sizes = [
        batch.problem.relative_residual(apply_head(head, batch), batch.anchor, batch.frames)
        for batch in batches
    ]
    return float(torch.cat(sizes).square().mean().sqrt())


def _gauss_newton(head: SpectralHead, batches: Sequence[TrainingForecasts]) -> Tensor:
    """(C, C, H, K) the change of the gain that the linearised problem asks for."""
    matrix: Tensor | float = 0.0
    target: Tensor | float = 0.0
    for batch in batches:
        frames = apply_head(head, batch)
        scales_NC = batch.problem.scales(batch.frames, batch.anchor)[:, 0, :, 0, 0]
        defects = to_modes(batch.problem.defect(frames, batch.anchor))
        for n in range(len(frames)):
            rows = _rows(batch, n, to_modes(batch.frames[n]), scales_NC[n])
            wanted = (defects[n] / scales_NC[n][:, None, None]).permute(2, 3, 0, 1).flatten(2)
            matrix = matrix + rows.mH @ rows
            target = target + (rows.mH @ wanted[..., None])
    assert isinstance(matrix, Tensor)
    channels = batches[0].frames.shape[2]
    ridge = _RIDGE * matrix.diagonal(dim1=-2, dim2=-1).real.amax()
    identity = torch.eye(channels**2, dtype=matrix.dtype, device=matrix.device)
    change_HKX = -torch.linalg.solve(matrix + ridge * identity, target)[..., 0]
    change_CCHK: Tensor = change_HKX.unflatten(-1, (channels, channels)).permute(2, 3, 0, 1)
    return change_CCHK


def _rows(batch: TrainingForecasts, n: int, frames_MCHK: Tensor, scales_C: Tensor) -> Tensor:
    """(H, K, M C, C C) what each entry of the gain adds to each frame's defect, by the linearised equation."""
    channels = frames_MCHK.shape[1]
    modes = batch.problem.modes[n if len(batch.problem.modes) > 1 else 0]
    identity = torch.eye(channels, dtype=modes.dtype, device=modes.device)[:, :, None, None]
    carry = modes if modes.shape[0] > 1 else modes * identity
    # The known state before the first frame has no correction to carry on.
    earlier = torch.cat([torch.zeros_like(frames_MCHK[:1]), frames_MCHK[:-1]])
    own = torch.einsum("achk,mdhk->hkmacd", identity.expand_as(carry), frames_MCHK)
    carried = torch.einsum("achk,mdhk->hkmacd", carry, earlier)
    scaled = (own - carried) / scales_C[:, None, None]
    return scaled.flatten(4).flatten(2, 3)

"""Refinement: frames of forecasts, moved to where each follows from the one before by the equation.

A network's frames w_1, ..., w_M after a known w_0 satisfy w_m = P(w_{m-1}) only approximately. As in Spectral-Refiner
(Cao et al., 2025, arXiv:2405.17211) every Fourier coefficient of every frame is free, and what is minimised is the
residual in a Sobolev norm; the residual, though, is the step's defect w_m - P(w_{m-1}), and no gradients are taken.
Each pass over the frames evaluates all defects at once, carries them on to the later frames by the equation's linear
symbol, mode by mode, and takes the combination of all passes so far whose residual is smallest: a nonlinear GMRES with
the linearised equation as its preconditioner (Washio and Oosterlee, ETNA 6, 1997; Anderson, J. ACM 12, 1965).

The minimiser is the trajectory of the solver P, and running P costs far less: refinement shows how far a forecast
is from its equation and corrects it, but does not save time.

Shapes: N samples, M frames, C channels, H rows, W columns; P passes.
"""

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pelagos.models.refinement.step_problem import StepProblem, root_mean_square

# Of singular values, relative: directions below are rounding, as products of residuals keep half the digits.
_CUTOFF = 1e-7


@dataclass(frozen=True, eq=False)
class Refinement:
    """The result of refining some forecasts.

    Attributes:
        frames: (N, M, C, H, W), float64; the network's own frames where `accepted` is false.
        residual_before: (N,) the relative residual of the network's frames.
        residual_after: (N,) the residual of `frames`, relative to the norm of the network's like the one before. It is
            no error estimate: it ranks forecasts poorly.
        accepted: (N,) whether the residual fell.
        evaluations: calls of the propagator on the frames of a window, for all samples at once.
        cpu_seconds: processor time for all samples.
    """

    frames: Tensor
    residual_before: Tensor
    residual_after: Tensor
    accepted: Tensor
    evaluations: int
    cpu_seconds: float


def refine(
    frames_NMCHW: Tensor,
    anchor_NCHW: Tensor,
    problem: StepProblem,
    *,
    start_NMCHW: Tensor | None = None,
    window: int | None = None,
    max_evaluations: int = 12,
    tolerance: float = 1e-6,
) -> Refinement:
    """Refines forecasts, each by itself, all in one batch.

    Args:
        frames_NMCHW: the forecasts at interval, 2 interval, ..., in physical units.
        anchor_NCHW: the known states at time 0.
        problem: the equation between frames.
        start_NMCHW: frames that the search starts from, by default the forecasts themselves.
        window: number of frames refined together, by default all; the last one is the anchor of the next window.
            Short windows need fewer passes. A window of 1 is the plain solver.
        max_evaluations: the most passes over the frames of a window.
        tolerance: the relative residual at which the search in a window ends.
    """
    started = time.process_time()
    # Tensors of inference mode are of no use outside it, but copies made outside it are.
    with torch.inference_mode(mode=False), torch.no_grad():
        original, known = frames_NMCHW.detach().double().clone(), anchor_NCHW.detach().double().clone()
        before = problem.relative_residual(original, known)
        start = original if start_NMCHW is None else start_NMCHW.double()
        refined, anchor, evaluations = list[Tensor](), known, 2
        for part in torch.split(start, window or original.shape[1], dim=1):
            search = _Search(problem, part, anchor)
            evaluations += search.run(max_evaluations, tolerance)
            refined.append(search.best)
            anchor = search.best[:, -1]
        found = torch.cat(refined, 1)
        # Windows are refined one after the other: the whole must be better, not only each part. By the forecast's own
        # scale, or frames that grow would count as better; the anchor's would not do, where a flow begins at rest.
        after = problem.relative_residual(found, known, original)
        accepted = after < before
    return Refinement(
        frames=found.where(_spread(accepted), original),
        residual_before=before,
        residual_after=after.where(accepted, before),
        accepted=accepted,
        evaluations=evaluations,
        cpu_seconds=time.process_time() - started,
    )


@dataclass
class _Passes:
    """The passes so far, each flattened to (N, D).

    Attributes:
        frames: the frames.
        defects: their defects.
        measured: the defects in the norm that is minimised.
    """

    frames: list[Tensor] = field(default_factory=list)
    defects: list[Tensor] = field(default_factory=list)
    measured: list[Tensor] = field(default_factory=list)

    def add(self, frames: Tensor, defect: Tensor, measured: Tensor) -> None:
        """Keep one more pass."""
        for kept, values in ((self.frames, frames), (self.defects, defect), (self.measured, measured)):
            kept.append(values.flatten(1))

    def combined(self) -> tuple[Tensor, Tensor]:
        """The frames and the defect of the combination, with weights that add up to 1, of the smallest residual."""
        *earlier, last = self.measured
        frames, defect = self.frames[-1], self.defects[-1]
        if not earlier:
            return frames, defect
        differences_NPD = torch.stack(earlier, 1) - last[:, None]
        weights_NP = _least_squares(differences_NPD, last)
        for weight_N, one, other in zip(weights_NP.unbind(1), self.frames, self.defects, strict=False):
            frames = torch.addcmul(frames, weight_N[:, None], one - self.frames[-1])
            defect = torch.addcmul(defect, weight_N[:, None], other - self.defects[-1])
        return frames, defect


class _Search:
    """The passes over the frames of one window."""

    def __init__(self, problem: StepProblem, frames_NMCHW: Tensor, anchor_NCHW: Tensor) -> None:
        self.problem, self.anchor = problem, anchor_NCHW
        self.scales = problem.scales(frames_NMCHW, anchor_NCHW)
        self.best = problem.constrained(frames_NMCHW, anchor_NCHW)
        self.smallest_N = torch.full(
            (len(frames_NMCHW),), torch.inf, dtype=torch.float64, device=frames_NMCHW.device
        )

    def run(self, max_evaluations: int, tolerance: float) -> int:
        """Search until the tolerance or the number of passes is reached; returns how many were made."""
        passes, trial = _Passes(), self.best
        for number in range(max_evaluations):
            defect = self.problem.defect(trial, self.anchor)
            measured = self.problem.measured(defect) / self.scales
            size_N = root_mean_square(measured)
            finite_N = size_N.isfinite()
            if number == 0:
                # A sample whose own frames the propagator cannot bear stays as it is: without a defect nothing moves.
                hopeless_N = ~finite_N
                defect, measured = (v.where(_spread(finite_N), 0) for v in (defect, measured))
            better = _spread(size_N < self.smallest_N)
            self.best, self.smallest_N = trial.where(better, self.best), torch.fmin(size_N, self.smallest_N)
            if (hopeless_N | (self.smallest_N <= tolerance)).all():
                return number + 1
            trial = self._next(
                passes, trial, defect, measured, finite_N if number else torch.ones_like(finite_N)
            )
        return max_evaluations

    def _next(
        self, passes: _Passes, trial: Tensor, defect: Tensor, measured: Tensor, finite_N: Tensor
    ) -> Tensor:
        """The frames of the next pass."""
        keep, borne = _spread(finite_N), trial
        if not finite_N.all():
            # A step that the propagator cannot bear counts as the pass before it: its differences vanish.
            shape = trial.shape
            before = (passes.frames, passes.defects, passes.measured)
            borne, defect, measured = (
                new.where(keep, old[-1].reshape(shape))
                for new, old in zip((trial, defect, measured), before, strict=True)
            )
        passes.add(borne, defect, measured)
        frames, remaining = (values.reshape(trial.shape) for values in passes.combined())
        moved = self.problem.constrained(frames - self.problem.carried(remaining), self.anchor)
        # Back towards the best frames where the step was too long.
        return moved.where(keep, self.best + (trial - self.best) / 4)


def _spread(flags_N: Tensor) -> Tensor:
    """(N, 1, 1, 1, 1)."""
    return flags_N[:, None, None, None, None]


def _least_squares(differences_NPD: Tensor, target_ND: Tensor) -> Tensor:
    """(N, P) the weights whose sum of differences comes closest to the negative target."""
    norms_NP = differences_NPD.norm(dim=-1)
    norms_NP = norms_NP.where(norms_NP > 0, 1)
    unit_NPD = differences_NPD / norms_NP[..., None]
    products_NP = torch.einsum("npd,nd->np", unit_NPD, target_ND)
    inverse_NPP = torch.linalg.pinv(unit_NPD @ unit_NPD.mT, rtol=_CUTOFF**2, hermitian=True)
    weights_NP: Tensor = -torch.einsum("npq,nq->np", inverse_NPP, products_NP) / norms_NP
    return weights_NP

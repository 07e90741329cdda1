"""The amortised head: what a filter can mend is mended on forecasts that it was not trained on."""

import pytest
import torch
from torch import Tensor

from pelagos.models.refinement.amortised_head import TrainingForecasts, apply_head, train_head
from tests.models.refinement.linear_flow import GRID, PROBLEM, PROPAGATE, trajectory
from tests.models.refinement.periodic_fields import smooth


def forecasts(seeds: range, noise: float = 0.0) -> tuple[TrainingForecasts, Tensor]:
    """Trajectories whose second channel is damped and has a tenth of the first mixed in, and the trajectories."""
    anchors = torch.stack([smooth(GRID, 2, seed=seed) for seed in seeds])
    truth = torch.stack([trajectory(PROPAGATE, anchor, 4) for anchor in anchors])
    wrong = torch.stack([truth[:, :, 0], 0.9 * truth[:, :, 1] + 0.1 * truth[:, :, 0]], 2)
    wrong = wrong + torch.stack([smooth(GRID, 4, 2, seed=100 + seed, scale=noise or 1e-12) for seed in seeds])
    return TrainingForecasts(wrong, anchors, PROBLEM), truth


def error(frames: Tensor, truth: Tensor) -> float:
    return float((frames - truth).norm() / truth.norm())


def test_a_systematic_fault_is_mended_on_unseen_forecasts_without_any_truth() -> None:
    known, _ = forecasts(range(4))
    head, history = train_head([known])
    unseen, truth = forecasts(range(10, 12))
    assert error(unseen.frames, truth) > 0.05
    assert error(apply_head(head, unseen), truth) < 0.02 * error(unseen.frames, truth)
    assert history == sorted(history, reverse=True)


def test_training_compares_residuals_on_the_scale_of_the_forecasts_as_they_were() -> None:
    known, _ = forecasts(range(4), noise=0.05)
    head, history = train_head([known], passes=1)
    left = PROBLEM.relative_residual(apply_head(head, known), known.anchor, known.frames)
    assert history[-1] == pytest.approx(float(left.square().mean().sqrt()), rel=1e-9)


def test_noise_of_each_forecast_is_not_a_filters_to_mend() -> None:
    known, _ = forecasts(range(6), noise=0.05)
    head, history = train_head([known], passes=2)
    unseen, truth = forecasts(range(10, 12), noise=0.05)
    mended = apply_head(head, unseen)
    assert 0.01 < error(mended, truth) < error(unseen.frames, truth)
    assert history[-1] < history[0]


def test_the_set_may_come_in_batches() -> None:
    whole, _ = forecasts(range(4), noise=0.02)
    parts = [forecasts(range(first, first + 2), noise=0.02)[0] for first in (0, 2)]
    one, other = (train_head(batches, passes=1)[0].gain for batches in ([whole], parts))
    assert one is not None
    assert other is not None
    torch.testing.assert_close(one.data, other.data, rtol=1e-6, atol=1e-9)

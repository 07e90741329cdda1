"""Losses against their formulas, and what masks, weights and batches must not change."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from pelagos.models.layers.octaves import octave_norms
from pelagos.models.layers.row_layout import RowLayout
from pelagos.models.losses import (
    LossConfig,
    MeanSquaredLoss,
    PooledRelativeLoss,
    RelativeLoss,
    channel_groups,
)
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.variables import Variable, known_variable
from tests.models.row_threads import together

FLOW = (
    known_variable("density"),
    known_variable("velocity_x"),
    known_variable("velocity_y"),
    known_variable("pressure"),
)
GROUPS = ((0,), (1, 2), (3,))
CONFIGS = [
    LossConfig(),
    LossConfig(p=2),
    LossConfig(kind="mse"),
    LossConfig(variable_weights={"pressure": 3.0, "velocity_x": 0.5}),
    LossConfig(p=2, variable_weights={"density": 2.0}),
    LossConfig(kind="poseidon"),
    LossConfig(kind="poseidon", p=2),
]
FINE_SCALES = [
    LossConfig(gradient=0.5),
    LossConfig(kind="mse", octaves=0.5, variable_weights={"density": 2.0}),
]


def latlon(height: int, width: int) -> Grid:
    return Grid(
        kind="latlon",
        y=np.linspace(80, -80, height),
        x=np.arange(width) * 360 / width,
        boundary_y=("pole", "pole"),
        boundary_x=("periodic", "periodic"),
    )


def layout(variables: tuple[Variable, ...] = FLOW, grid: Grid | None = None) -> Layout:
    return Layout(dataset="d", inputs=variables, outputs=variables, grid=grid or latlon(6, 8))


def sample(
    seed: int = 0, batch: int = 3, channels: int = 4, shape: tuple[int, int] = (6, 8)
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction, target = torch.randn(2, batch, channels, *shape, generator=generator, dtype=torch.float64)
    return prediction, target, torch.rand(batch, channels, *shape, generator=generator) > 0.3


def test_variables_of_a_group_share_a_ratio() -> None:
    assert channel_groups(FLOW) == GROUPS
    apart = (Variable(name="u", group="wind"), Variable(name="t"), Variable(name="v", group="wind"))
    assert channel_groups(apart) == ((0, 2), (1,))


@pytest.mark.parametrize("name", ["a", "b", "d"])
def test_pooled_loss_equals_poseidons_on_its_own_outputs(shared: Path, name: str) -> None:
    folder = shared / "fixtures" / "scot" / name
    edges = json.loads((folder / "config.json").read_text())["scot_kwargs"][
        "channel_slice_list_normalized_loss"
    ]
    stored = np.load(folder / "io.npz")
    output, labels = torch.from_numpy(stored["output"]), torch.from_numpy(stored["labels"])
    loss = PooledRelativeLoss(tuple(tuple(range(*pair)) for pair in pairwise(edges)))
    everything = torch.ones_like(labels, dtype=torch.bool)
    assert loss(output, labels, everything).item() == pytest.approx(float(stored["loss"]), rel=1e-12)
    if "pixel_mask" in stored:
        present = ~torch.from_numpy(stored["pixel_mask"])[:, :, None, None].expand_as(labels)
        masked = loss(output, labels, present).item()
        assert masked == pytest.approx(float(stored["loss_masked"]), rel=1e-12)
        assert masked != pytest.approx(float(stored["loss"]), rel=1e-3)


def test_pooled_loss_groups_labels_by_what_the_layout_says() -> None:
    prediction, target, mask = sample()
    assert torch.equal(
        LossConfig(kind="poseidon").build(layout())(prediction, target, mask),
        PooledRelativeLoss(GROUPS)(prediction, target, mask),
    )


@pytest.mark.parametrize("p", [1, 2])
def test_relative_loss_of_a_scaled_target_is_the_scale(p: Literal[1, 2]) -> None:
    _, target, mask = sample()
    loss = RelativeLoss(GROUPS, p=p, epsilon=1e-14)
    assert loss(1.25 * target, target, mask).item() == pytest.approx(0.25, rel=1e-12)


def test_relative_loss_averages_ratios_of_samples_and_groups() -> None:
    target = torch.tensor([[1.0, 3.0, 4.0], [2.0, 0.0, 8.0]])[..., None, None].expand(2, 3, 4, 4)
    error = torch.tensor([[0.5, 6.0, 8.0], [1.0, 4.0, 0.0]])[..., None, None]
    everything = torch.ones_like(target, dtype=torch.bool)
    absolute = RelativeLoss(((0,), (1, 2)), p=1, epsilon=1e-12)
    assert absolute(target + error, target, everything).item() == pytest.approx((0.5 + 2 + 0.5 + 0.5) / 4)
    squared = RelativeLoss(((0,), (1, 2)), p=2, epsilon=1e-12)
    assert squared(target + error, target, everything).item() == pytest.approx((0.5 + 2 + 0.5 + 0.5) / 4)
    pooled = PooledRelativeLoss(((0,), (1, 2)))
    assert pooled(target + error, target, everything).item() == pytest.approx((1.5 / 3 + 18 / 15) / 2)


def test_epsilon_bounds_the_loss_of_a_group_at_rest() -> None:
    error = torch.full((1, 1, 4, 4), 0.1)
    everything = torch.ones_like(error, dtype=torch.bool)
    loss = RelativeLoss(((0,),), epsilon=0.01)
    assert loss(error, torch.zeros_like(error), everything).item() == pytest.approx(10)


def test_epsilon_means_the_same_at_every_resolution() -> None:
    prediction, target, mask = sample()
    loss = RelativeLoss(GROUPS, p=2, epsilon=0.5)
    finer = [field.repeat_interleave(2, 2).repeat_interleave(3, 3) for field in (prediction, target, mask)]
    assert loss(*finer).item() == pytest.approx(loss(prediction, target, mask).item())


def test_mean_squared_loss_weighs_cells_and_channels() -> None:
    error = torch.tensor([1.0, 2.0])[None, :, None, None] * torch.tensor([1.0, 3.0])[:, None].expand(
        1, 1, 2, 2
    )
    everything = torch.ones_like(error, dtype=torch.bool)
    area, weights = torch.tensor([[0.5, 0.5], [1.5, 1.5]]), torch.tensor([4.0, 1.0])
    mean = (0.5 * 1 + 1.5 * 9) / 2
    found = MeanSquaredLoss(area, weights)(error, torch.zeros_like(error), everything)
    assert found.item() == pytest.approx((4 * mean + 1 * 4 * mean) / 5)


def test_an_error_near_the_pole_counts_by_its_cells_area() -> None:
    grid = latlon(6, 8)
    target = torch.ones(1, 1, 6, 8)
    everything = torch.ones_like(target, dtype=torch.bool)
    error = torch.zeros_like(target)
    error[..., 0, :] = 1
    share = grid.area_weights()[0, 0] / 6
    config = LossConfig(epsilon=1e-9)
    weighted = config.build(layout((known_variable("tracer"),), grid))
    assert weighted(target + error, target, everything).item() == pytest.approx(share, rel=1e-5)
    plain = LossConfig(epsilon=1e-9, area_weights=False).build(layout((known_variable("tracer"),), grid))
    assert plain(target + error, target, everything).item() == pytest.approx(1 / 6, rel=1e-5)


def test_a_variables_weight_scales_its_error() -> None:
    prediction, target, mask = sample()
    plain = LossConfig().build(layout()).per_sample(prediction, target, mask)
    heavy = LossConfig(variable_weights={"pressure": 3.0, "absent": 7.0}).build(layout())
    alone = LossConfig().build(layout((known_variable("pressure"),)))
    expected = plain + 2 * alone.per_sample(prediction[:, 3:], target[:, 3:], mask[:, 3:]) / 3
    torch.testing.assert_close(heavy.per_sample(prediction, target, mask), expected)


@pytest.mark.parametrize("config", [*CONFIGS[:5], *FINE_SCALES])
@pytest.mark.parametrize("value", [1e6, math.nan])
def test_what_lies_under_the_mask_changes_nothing(config: LossConfig, value: float) -> None:
    prediction, target, mask = sample()
    loss = config.build(layout())
    clean = loss(prediction, target, mask)
    assert torch.equal(loss(prediction, target.masked_fill(~mask, value), mask), clean)
    assert torch.equal(loss(prediction.masked_fill(~mask, value), target, mask), clean)


@pytest.mark.parametrize("config", [*CONFIGS, *FINE_SCALES])
def test_gradients_vanish_at_masked_points_only(config: LossConfig) -> None:
    prediction, target, mask = sample()
    target = target.masked_fill(~mask, 0.0)
    prediction.requires_grad_()
    before = prediction.detach().clone()
    config.build(layout())(prediction, target, mask).backward()
    assert prediction.grad is not None
    assert torch.equal(prediction.grad.eq(0), ~mask)
    assert torch.equal(prediction, before)


@pytest.mark.parametrize("config", [*CONFIGS, *FINE_SCALES])
def test_a_perfect_prediction_has_no_loss_and_a_finite_gradient(config: LossConfig) -> None:
    _, target, mask = sample()
    prediction = target.clone().requires_grad_()
    loss = config.build(layout())(prediction, target, mask)
    loss.backward()
    assert loss.item() == 0
    assert prediction.grad is not None
    assert torch.equal(prediction.grad, torch.zeros_like(target))


@pytest.mark.parametrize("config", [*CONFIGS, *FINE_SCALES])
def test_a_sample_masked_in_a_group_or_altogether_gives_a_number(config: LossConfig) -> None:
    prediction, target, mask = sample()
    target = target.masked_fill(~mask, 0.0)
    mask[0, 3] = False
    mask[1] = False
    prediction.requires_grad_()
    loss = config.build(layout())(prediction, target, mask)
    loss.backward()
    assert loss.isfinite()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


def test_an_absent_group_is_left_out_of_its_samples_mean() -> None:
    prediction, target, mask = sample()
    mask[:, 3] = False
    whole = RelativeLoss(GROUPS).per_sample(prediction, target, mask)
    torch.testing.assert_close(
        whole, RelativeLoss(GROUPS[:2]).per_sample(prediction[:, :3], target[:, :3], mask[:, :3])
    )


@pytest.mark.parametrize("config", [*CONFIGS[:5], *FINE_SCALES])
def test_a_samples_loss_does_not_depend_on_its_batch(config: LossConfig) -> None:
    prediction, target, mask = sample()
    mask[2] = False
    loss = config.build(layout())
    together = loss.per_sample(prediction, target, mask)
    alone = [loss.per_sample(prediction[i : i + 1], target[i : i + 1], mask[i : i + 1]) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))
    assert loss(prediction, target, mask).item() == pytest.approx(torch.cat(alone).mean().item())


def test_low_precision_predictions_are_compared_in_the_targets_precision() -> None:
    prediction, target, mask = sample(shape=(32, 32))
    low, target = prediction.bfloat16(), target.float()
    grid = Grid(kind="cartesian", y=np.arange(32.0), x=np.arange(32.0))
    loss = LossConfig().build(layout(grid=grid))
    assert loss(low, target, mask).dtype == torch.float32
    assert torch.equal(loss(low, target, mask), loss(low.float(), target, mask))


def test_a_configuration_survives_its_own_record() -> None:
    for config in (*CONFIGS, *FINE_SCALES):
        assert LossConfig.model_validate(config.model_dump()) == config


def test_poseidons_loss_refuses_weights() -> None:
    with pytest.raises(
        ValidationError, match="kind poseidon has no variable_weights; use kind relative or mse"
    ):
        LossConfig(kind="poseidon", variable_weights={"pressure": 2.0})


@pytest.mark.parametrize("wrong", [{"kind": "l1"}, {"p": 3}, {"epsilon": 0}, {"variable_weights": {"u": -1}}])
def test_wrong_values_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        LossConfig(**wrong)


@pytest.mark.parametrize("kind", ["relative", "poseidon"])
def test_a_constant_channel_is_left_out_of_relative_losses(kind: Literal["relative", "poseidon"]) -> None:
    prediction, target, mask = sample()
    mask = torch.ones_like(mask)
    target[:, 1] = 0
    config, still = LossConfig(kind=kind), frozenset({"velocity_x"})
    assert config.build(layout())(prediction, target, mask).item() > 1
    resting = config.build(replace(layout(), at_rest=still))
    assert resting.left_out == (1,)
    found = resting(prediction, target, mask).item()
    rest = [0, 2, 3]
    variables = tuple(FLOW[channel] for channel in rest)
    alone = config.build(layout(variables))
    assert found == pytest.approx(
        alone(prediction[:, rest], target[:, rest], mask[:, rest]).item(), rel=1e-12
    )


def test_a_group_of_constants_alone_is_no_group_and_constants_alone_keep_their_loss() -> None:
    prediction, target, mask = sample()
    still = LossConfig().build(replace(layout(), at_rest=frozenset({"velocity_x", "velocity_y"})))
    assert isinstance(still, RelativeLoss)
    assert still.groups == ((0,), (3,))
    everything = replace(layout(), at_rest=frozenset(variable.key for variable in FLOW))
    assert torch.equal(
        LossConfig().build(everything)(prediction, target, mask),
        LossConfig().build(layout())(prediction, target, mask),
    )


def test_the_mean_squared_loss_keeps_constants() -> None:
    assert LossConfig(kind="mse").build(replace(layout(), at_rest=frozenset({"density"}))).left_out == ()


def ensemble(members: int, seed: int = 0, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(batch, members + 1, 4, 6, 8, generator=generator, dtype=torch.float64)
    return made[:, 1:], made[:, 0], torch.rand(batch, 4, 6, 8, generator=generator) > 0.3


@pytest.mark.parametrize("fairness", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("members", [2, 3, 8])
def test_the_ensemble_loss_is_the_mean_error_less_half_the_mean_difference(
    members: int, fairness: float
) -> None:
    prediction, target, mask = ensemble(members)
    loss = LossConfig(
        kind="crps", members=members, fairness=fairness, variable_weights={"pressure": 3.0}
    ).build(layout())
    assert loss.members == members
    error = (prediction - target[:, None]).abs().mean(1)
    # Lang et al. (2024), equation 4: alpha times the fair score and 1 - alpha times the plain one.
    apart = (prediction[:, :, None] - prediction[:, None]).abs().sum((1, 2))
    spread = fairness * apart / (members * (members - 1)) + (1 - fairness) * apart / members**2
    weights = (
        torch.from_numpy(latlon(6, 8).area_weights()) * torch.tensor([1.0, 1, 1, 3])[:, None, None] * mask
    )
    wanted = ((error - spread / 2) * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3))
    torch.testing.assert_close(loss.per_sample(prediction, target, mask), wanted)
    torch.testing.assert_close(loss(prediction, target, mask), wanted.mean())


def test_the_fair_score_does_not_depend_on_the_number_of_members() -> None:
    grid = Grid("cartesian", np.arange(200.0), np.arange(200.0))
    one = (known_variable("density"),)
    scores = []
    for members in (2, 8):
        made = torch.randn(1, members + 1, 1, 200, 200, generator=torch.Generator().manual_seed(members))
        loss = LossConfig(kind="crps", members=members, fairness=1.0).build(layout(one, grid))
        scores.append(float(loss(made[:, 1:], made[:, 0], torch.ones(1, 1, 200, 200, dtype=torch.bool))))
    # E|X - Y| - E|X - X'| / 2 with standard normal X, X', Y: half of 2 / sqrt(pi).
    assert scores == pytest.approx([1 / math.sqrt(math.pi)] * 2, rel=0.02)


def test_equal_members_score_their_absolute_error_whatever_the_fairness() -> None:
    prediction, target, mask = ensemble(1)
    same = prediction.expand(-1, 4, -1, -1, -1)
    losses = [
        LossConfig(kind="crps", members=4, fairness=fairness).build(layout())(same, target, mask)
        for fairness in (0.5, 1.0)
    ]
    area = torch.from_numpy(latlon(6, 8).area_weights())
    error = ((prediction[:, 0] - target).abs() * area * mask).sum((1, 2, 3)) / (area * mask).sum((1, 2, 3))
    torch.testing.assert_close(torch.stack(losses), error.mean().expand(2))


def test_values_under_the_mask_change_no_ensemble_loss_and_no_gradient() -> None:
    prediction, target, mask = ensemble(3)
    loss = LossConfig(kind="crps", members=3).build(layout())
    dirty = torch.where(mask, target, torch.nan)
    clean, other = (p.clone().requires_grad_() for p in (prediction, prediction))
    loss(clean, target, mask).backward()
    loss(other, dirty, mask).backward()
    assert clean.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(other.grad, clean.grad)
    assert (clean.grad[~mask[:, None].expand_as(clean.grad)] == 0).all()


@pytest.mark.parametrize("config", [*CONFIGS, LossConfig(kind="crps", members=2)], ids=str)
def test_processes_that_share_rows_have_the_loss_of_all_rows(config: LossConfig) -> None:
    """And its gradient, times their number, since each takes the loss for its own."""
    prediction, target, mask = sample(shape=(7, 8))
    if config.kind == "crps":
        prediction = torch.stack([prediction, prediction + 1], 1)
    parts = layout(grid=latlon(7, 8))
    whole = prediction.clone().requires_grad_()
    expected = config.build(parts)(whole, target, mask)
    expected.backward()
    assert whole.grad is not None

    def work(rows: RowLayout) -> tuple[Tensor, Tensor]:
        rows = rows.of(7)
        own = slice(rows.own.start, rows.own.stop)
        mine = prediction[..., own, :].clone().requires_grad_()
        loss = config.build(parts, rows)(mine, target[..., own, :], mask[..., own, :])
        loss.backward()
        assert mine.grad is not None
        return loss.detach(), mine.grad

    losses, gradients = zip(*together(3, work), strict=True)
    torch.testing.assert_close(torch.stack(losses), expected.detach().expand(3), rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.cat(gradients, -2), 3 * whole.grad, rtol=1e-5, atol=1e-8)


TRACER = (known_variable("tracer"),)
POINTS = 16


def square(boundary: Any = "periodic") -> Layout:
    sides = (boundary, boundary)
    axis = np.arange(POINTS) / POINTS
    grid = Grid("cartesian", axis, axis, sides, sides)
    return Layout(dataset="d", inputs=TRACER, outputs=TRACER, grid=grid)


def wave(number: int, axis: int = -1) -> Tensor:
    """(1, 1, H, W) a cosine of so many waves, with values of a root mean square of 1."""
    values = math.sqrt(2) * torch.cos(
        2 * math.pi * number * torch.arange(POINTS, dtype=torch.float64) / POINTS
    )
    values = values if axis == -1 else values[:, None]
    return values.expand(1, 1, POINTS, POINTS)


def square_loss(values: dict[str, Any], error: Tensor, target: Tensor, boundary: Any = "periodic") -> float:
    everything = torch.ones_like(target, dtype=torch.bool)
    return (
        LossConfig.model_validate(values).build(square(boundary))(target + error, target, everything).item()
    )


@pytest.mark.parametrize("number", [1, 3, 8])
@pytest.mark.parametrize("axis", [-1, -2])
def test_differences_of_a_wave_weigh_as_its_wave_number(number: int, axis: int) -> None:
    error, target = 0.1 * wave(number, axis), wave(1, -1)
    if number == 8:  # of the shortest wave a cosine is at its crests in every point
        error = error / math.sqrt(2)
    plain = square_loss({"kind": "mse"}, error, target)
    with_gradient = square_loss({"kind": "mse", "gradient": 3.0}, error, target)
    steep = (2 * math.sin(math.pi * number / POINTS)) ** 2
    assert with_gradient == pytest.approx(plain * (1 + 3 / 2 * steep), rel=1e-9)


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_an_offset_has_no_differences(boundary: str) -> None:
    error, target = torch.full((1, 1, POINTS, POINTS), 0.1, dtype=torch.float64), wave(1)
    values: dict[str, Any] = {"kind": "mse"}
    assert square_loss(values | {"gradient": 1.0}, error, target, boundary) == pytest.approx(
        square_loss(values, error, target)
    )


def test_beyond_a_wall_there_is_no_difference() -> None:
    ramp = torch.arange(POINTS, dtype=torch.float64).expand(1, 1, POINTS, POINTS)
    found = square_loss({"kind": "mse", "gradient": 2.0}, ramp, wave(1), "wall") - square_loss(
        {"kind": "mse"}, ramp, wave(1)
    )
    # One from column to column, none from row to row, and no jump back from the last column to the first.
    assert found == pytest.approx(1.0)


def test_errors_of_small_waves_count_as_those_of_large_ones() -> None:
    target = wave(1) + 0.01 * wave(5)
    values = {"epsilon": 1e-9, "p": 2}
    octaves = int(octave_norms(target, (True, True)).shape[-1])
    for error, share in ((0.3 * wave(1), 0.3), (0.003 * wave(6), 0.3)):
        plain, found = (
            square_loss(values, error, target),
            square_loss({**values, "octaves": 1.0}, error, target),
        )
        assert found - plain == pytest.approx(share / octaves, rel=1e-6)


def test_variables_that_rest_are_left_out_of_octaves() -> None:
    both = replace(square(), outputs=(*TRACER, known_variable("density")), at_rest=frozenset({"density"}))
    target = torch.cat([wave(1), torch.zeros_like(wave(1))], 1)
    everything = torch.ones_like(target, dtype=torch.bool)
    found = LossConfig(octaves=1.0).build(both)(target + 0.1, target, everything).item()
    assert found == pytest.approx(square_loss({"octaves": 1.0}, torch.full_like(wave(1), 0.1), wave(1)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"members": 8}, "members goes with kind crps, not with relative"),
        ({"kind": "mse", "fairness": 0.5}, "fairness goes with kind crps, not with mse"),
        ({"kind": "crps", "p": 2}, "p: crps is of absolute errors"),
    ],
)
def test_options_of_another_kind_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LossConfig(**values)


def test_fine_scales_of_other_losses_and_of_shared_samples_are_refused() -> None:
    with pytest.raises(
        ValidationError, match="gradient and octaves go with kind relative or mse, not with crps"
    ):
        LossConfig(kind="crps", gradient=0.1)
    half = POINTS // 2
    rows = RowLayout(Mock(rank=0), (0, half, POINTS))
    with pytest.raises(ConfigError, match=r"need all rows of a sample: engine.domain: 1"):
        LossConfig(octaves=0.1).build(square(), rows)

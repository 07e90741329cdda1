"""A rollout is a loop over the network, with gradients through the steps that are asked for."""

import math

import pytest
import torch
from torch import Tensor, nn

from pelagos.models.rollout import Gradient, InputHistory, rollout

BATCH, PROGNOSTIC, STATIC, FORCING, DIAGNOSTIC, SHAPE = 2, 2, 1, 1, 1, (4, 5)


def fields(channels: int, seed: int) -> Tensor:
    return torch.randn(BATCH, channels, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(PROGNOSTIC + STATIC + FORCING, PROGNOSTIC + DIAGNOSTIC, 3, padding=1)


def forcings(step: int) -> Tensor:
    return torch.full((BATCH, FORCING, *SHAPE), float(step))


INITIAL, FIXED = fields(PROGNOSTIC, 1), fields(STATIC, 2)


def test_a_rollout_is_a_loop_over_the_network(network: nn.Conv2d) -> None:
    state, expected = INITIAL, list[Tensor]()
    for step in range(4):
        expected.append(network(torch.cat([state, FIXED, torch.full_like(FIXED, step)], 1)))
        state = expected[-1][:, :PROGNOSTIC]
    found = list(rollout(network, INITIAL, FIXED, forcings, num_steps=4))
    assert len(found) == 4
    for frame, reference in zip(found, expected, strict=True):
        assert torch.equal(frame, reference)


def test_a_rollout_without_forcing_or_static_fields_feeds_back_prognostic_fields_alone() -> None:
    def double_and_count(x: Tensor) -> Tensor:
        return torch.cat([2 * x, x[:, :1] * 0 + x.shape[1]], 1)

    frames = list(rollout(double_and_count, INITIAL, fields(0, 0), num_steps=3))
    assert torch.equal(frames[-1][:, :PROGNOSTIC], 8 * INITIAL)
    assert torch.equal(frames[-1][:, PROGNOSTIC:], torch.full((BATCH, 1, *SHAPE), float(PROGNOSTIC)))


def test_steps_are_done_only_when_asked_for(network: nn.Conv2d) -> None:
    calls: list[Tensor] = []

    def counted(x: Tensor) -> Tensor:
        calls.append(x)
        out: Tensor = network(x)
        return out

    frames = rollout(counted, INITIAL, FIXED, forcings, num_steps=1000)
    assert not calls
    next(frames)
    next(frames)
    assert len(calls) == 2


@pytest.mark.parametrize("channels", [1, PROGNOSTIC + DIAGNOSTIC])
def test_missing_points_stay_at_zero_and_never_reach_the_network(network: nn.Conv2d, channels: int) -> None:
    mask = torch.rand(BATCH, channels, *SHAPE, generator=torch.Generator().manual_seed(3)) > 0.4
    whole = mask.expand(BATCH, PROGNOSTIC + DIAGNOSTIC, *SHAPE)
    seen: list[Tensor] = []

    def network_that_spoils_missing_points(x: Tensor) -> Tensor:
        seen.append(x[:, :PROGNOSTIC])
        out: Tensor = network(x).masked_fill(~whole, math.nan)
        return out

    spoiled = INITIAL.masked_fill(~whole[:, :PROGNOSTIC], math.nan)
    frames = list(
        rollout(network_that_spoils_missing_points, spoiled, FIXED, forcings, mask=mask, num_steps=3)
    )
    for frame in frames:
        assert torch.equal(frame == 0, ~whole)
    for state in seen:
        assert torch.equal(state == 0, ~whole[:, :PROGNOSTIC])


def tracked_inputs(network: nn.Conv2d, gradient: Gradient, num_steps: int = 5) -> list[bool]:
    """Whether the loss on the last frame sends gradients to the input of each step, and to the weights."""
    inputs: list[Tensor] = []

    def call(x: Tensor) -> Tensor:
        x = x if x.requires_grad else x.clone().requires_grad_()
        if torch.is_grad_enabled():
            x.retain_grad()
        inputs.append(x)
        out: Tensor = network(x)
        return out

    *_, last = rollout(call, INITIAL, FIXED, forcings, num_steps=num_steps, gradient=gradient)
    last.square().sum().backward()
    return [x.grad is not None and bool(x.grad.abs().sum() > 0) for x in inputs]


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        ("all", [True] * 5),
        (7, [True] * 5),
        (3, [False, False, True, True, True]),
        (1, [False, False, False, False, True]),
        ("pushforward", [False, False, False, False, True]),
    ],
)
def test_gradients_reach_the_inputs_of_the_tracked_steps_only(
    network: nn.Conv2d, gradient: Gradient, expected: list[bool]
) -> None:
    assert tracked_inputs(network, gradient) == expected


def test_pushforward_gradients_are_those_of_one_step_from_a_constant_state(network: nn.Conv2d) -> None:
    frames = list(rollout(network, INITIAL, FIXED, forcings, num_steps=3, gradient="pushforward"))
    frames[-1].square().sum().backward()
    assert network.weight.grad is not None
    found = network.weight.grad.clone()
    network.zero_grad()
    state = frames[1][:, :PROGNOSTIC].detach()
    network(torch.cat([state, FIXED, forcings(2)], 1)).square().sum().backward()
    assert torch.equal(network.weight.grad, found)
    assert [frame.requires_grad for frame in frames] == [False, False, True]


def test_gradients_through_all_steps_reach_the_initial_state(network: nn.Conv2d) -> None:
    initial = INITIAL.clone().requires_grad_()
    *_, last = rollout(network, initial, FIXED, forcings, num_steps=3)
    last.sum().backward()
    assert initial.grad is not None
    assert initial.grad.abs().sum() > 0


def test_the_callers_gradient_mode_is_respected_and_left_alone(network: nn.Conv2d) -> None:
    with torch.no_grad():
        assert not any(
            frame.requires_grad for frame in rollout(network, INITIAL, FIXED, forcings, num_steps=2)
        )
    for _ in rollout(network, INITIAL, FIXED, forcings, num_steps=3, gradient="pushforward"):
        assert torch.is_grad_enabled()


def plane(value: float) -> torch.Tensor:
    return torch.full((1, 2, 3, 3), value)


def test_earlier_inputs_follow_the_current_one_and_the_oldest_is_forgotten() -> None:
    history = InputHistory([plane(-1), plane(-2)])
    seen = []
    for step in range(4):
        joined = history.join(plane(step))
        seen.append(joined[0, ::2, 0, 0].tolist())
        history.push(plane(step))
    assert seen == [[0, -1, -2], [1, 0, -1], [2, 1, 0], [3, 2, 1]]


@pytest.mark.parametrize("pushes", [0, 3])
def test_without_history_the_input_is_passed_on_as_it_is(pushes: int) -> None:
    history = InputHistory([])
    for step in range(pushes):
        history.push(plane(step))
    current = plane(7)
    assert history.join(current) is current

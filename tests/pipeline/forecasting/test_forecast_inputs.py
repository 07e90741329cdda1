"""A network of several frames sees them newest first, and they move on with the rollout."""

import pytest
import torch

from pelagos.pipeline.forecasting.forecast_inputs import InputHistory


def frame(value: float) -> torch.Tensor:
    return torch.full((1, 2, 3, 3), value)


def test_earlier_inputs_follow_the_current_one_and_the_oldest_is_forgotten() -> None:
    history = InputHistory([frame(-1), frame(-2)])
    seen = []
    for step in range(4):
        joined = history.join(frame(step))
        seen.append(joined[0, ::2, 0, 0].tolist())
        history.push(frame(step))
    assert seen == [[0, -1, -2], [1, 0, -1], [2, 1, 0], [3, 2, 1]]


@pytest.mark.parametrize("pushes", [0, 3])
def test_without_history_the_input_is_passed_on_as_it_is(pushes: int) -> None:
    history = InputHistory([])
    for step in range(pushes):
        history.push(frame(step))
    current = frame(7)
    assert history.join(current) is current

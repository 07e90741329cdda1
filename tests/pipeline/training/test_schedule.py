"""Learning rates by step."""

import math

import pytest
from pydantic import ValidationError

from pelagos.pipeline.training.schedule import ScheduleConfig


def test_warm_restarts_begin_at_the_highest_rate_and_grow_longer() -> None:
    schedule = ScheduleConfig(kind="restarts", warmup=3, period=10, growth=2, final=0.1)
    rates = [schedule.factor(step, 1000) for step in range(3 + 10 + 20 + 40)]
    assert [step for step, rate in enumerate(rates) if rate == 1.0] == [2, 3, 13, 33]
    assert rates[8] == pytest.approx(0.1 + 0.9 * 0.5)
    assert rates[23] == pytest.approx(0.1 + 0.9 * 0.5)
    assert min(rates) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 39 / 40)) / 2)


@pytest.mark.parametrize("options", [{"kind": "restarts"}, {"kind": "cosine", "period": 5}])
def test_a_period_belongs_to_restarts(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="restarts need a period, others have none"):
        ScheduleConfig(**options)

"""The loop's configuration: how a batch is dealt, and what asks for validations."""

from typing import Any

import pytest
from pydantic import ValidationError

from pelagos.pipeline.training.trainer import LoopConfig
from pelagos.preprocessing.errors import DataError


def loop(**values: Any) -> LoopConfig:
    return LoopConfig.model_validate({"steps": 4, **values})


@pytest.mark.parametrize(("world", "accumulation"), [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_a_batch_is_dealt_evenly(world: int, accumulation: int) -> None:
    config = loop(batch_size=12, micro_batch=2)
    assert config.blocks == 6
    assert config.accumulation(world) == accumulation


@pytest.mark.parametrize(("batch_size", "micro_batch", "world"), [(12, 5, 1), (12, 2, 4), (2, 4, 1)])
def test_a_batch_that_cannot_be_dealt_evenly_is_refused(
    batch_size: int, micro_batch: int, world: int
) -> None:
    with pytest.raises(DataError, match="must be a multiple of the number of processes"):
        loop(batch_size=batch_size, micro_batch=micro_batch).accumulation(world)


@pytest.mark.parametrize("values", [{"patience": 2}, {"kept": "best"}])
def test_a_choice_by_validations_needs_them(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="set validate_every"):
        loop(**values)
    assert loop(**values, validate_every=1).validate_every == 1

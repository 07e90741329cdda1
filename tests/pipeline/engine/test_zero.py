"""What DeepSpeed is asked for at each ZeRO stage; that all stages train alike is in test_engine.py."""

import pytest

from pelagos.pipeline.engine.engine import LARGEST_BUCKET, EngineConfig


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_one_process_shards_nothing(stage: int) -> None:
    config = EngineConfig.model_validate({"zero_stage": stage})
    assert config.stage(1) == 0
    assert config.stage(2) == stage


@pytest.mark.parametrize(
    ("stage", "accumulation", "clip"), [(0, 1, 0.0), (1, 1, 0.0), (2, 4, 0.5), (3, 4, 0.5)]
)
def test_deepspeed_accumulates_and_clips_where_gradients_are_sharded(
    stage: int, accumulation: int, clip: float
) -> None:
    config = EngineConfig.model_validate({"zero_stage": stage, "clip": 0.5})
    values = config.deepspeed(2, 4, 2, 10**9)
    assert values["zero_optimization"]["stage"] == stage
    assert values["gradient_accumulation_steps"] == accumulation
    assert values["gradient_clipping"] == clip
    assert values["zero_optimization"]["reduce_bucket_size"] == LARGEST_BUCKET

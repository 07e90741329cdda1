"""Bytes of model states are those that the engine holds."""

import pytest
import torch

from pelagos.models.context import Signature
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.pipeline.checking.model_states import model_states
from pelagos.pipeline.engine.engine import EngineConfig

NAMES = ("density", "velocity_x", "velocity_y", "pressure")


def states(stage: int, gpus: int, trained: int = 1_000_000, ema: bool = True) -> float:
    return model_states(EngineConfig(), stage, gpus, trained, ema=ema, accumulation=1).kept


def test_poseidon_l_on_64_gpus_is_as_counted_by_hand() -> None:
    with torch.device("meta"):
        network = ScOTConfig(
            preset="poseidon", embed_dim=192, depths=(8, 8, 8, 8), num_heads=(3, 6, 12, 24)
        ).build(Signature(NAMES, NAMES, shape=(128, 128)))
    trained = sum(weight.numel() for weight in network.parameters())
    found = [round(states(stage, 64, trained) / 1e9, 2) for stage in range(4)]
    assert found == pytest.approx([12.6, 5.2, 2.7, 0.24], rel=0.01)


def test_one_gpu_holds_the_same_at_every_stage() -> None:
    assert {states(stage, 1) for stage in range(4)} == {20e6}


def test_a_run_without_average_holds_none() -> None:
    assert states(0, 8) - states(0, 8, ema=False) == 4e6
    assert states(3, 8) - states(3, 8, ema=False) == pytest.approx(4e6 / 8)


def test_copies_in_bf16_are_held_beside_the_weights() -> None:
    lowered = EngineConfig(precision="bf16", weights="bfloat16")
    found = model_states(lowered, 1, 8, 1_000_000, ema=False, accumulation=1)
    assert found.bf16_weights == 2e6
    assert found.weights == 4e6

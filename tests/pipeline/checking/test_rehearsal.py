"""What a run costs by its samples, and that a rehearsal takes the most expensive ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pelagos.pipeline.checking.rehearsal import STEPS, RunCost, rehearse
from pelagos.pipeline.stages.pretrain import PretrainStage
from pelagos.pipeline.training.objective import ObjectiveConfig
from pelagos.preprocessing.samples.sample_index import PairSampling
from pelagos.preprocessing.samples.window_sampling import RolloutSampling


def test_a_run_costs_what_its_datasets_do_by_their_shares() -> None:
    curriculum = RolloutSampling(steps=4, curriculum=((0, 1), (50, 2), (200, 4)))
    layouts = {
        name: SimpleNamespace(dataset=name, channels=(1,), outputs=(1,), grid=SimpleNamespace(shape=(8, 8)))
        for name in "ab"
    }
    datasets = [
        SimpleNamespace(layout=layouts["a"], sampling=PairSampling()),
        SimpleNamespace(layout=layouts["b"], sampling=curriculum),
    ]
    mixture: Any = SimpleNamespace(datasets=datasets, shares=np.array([3, 1]))
    flops = {"a": 500.0, "b": 400.0}
    load = RunCost(mixture, flops, 100, ObjectiveConfig())
    # Of b, half of the run asks for one step and half for two; four are never reached. A backward pass is two.
    assert (load.worst, load.calls, load.most) == (1, 2, 3 * 800)
    assert load.mean == pytest.approx(3 * (3 * 500 + 1 * 400 * 1.5) / 4)
    # Gradients through one step alone spare the backward pass of the other.
    cut = RunCost(mixture, flops, 100, ObjectiveConfig(gradient="pushforward"))
    assert (cut.worst, cut.calls, cut.most) == (1, 2, 4 * 400)
    assert cut.mean == pytest.approx((3 * 1500 + 1 * 400 * (3 + 4) / 2) / 4)


def test_a_rehearsal_takes_two_steps_and_leaves_the_run_alone(waves: Path, tmp_path: Path) -> None:
    config = PretrainStage.model_validate(
        {
            "output": tmp_path / "run",
            "network": {"kind": "unet", "dims": [8, 16]},
            "data": [{"path": waves}],
            "loop": {"steps": 50, "batch_size": 4, "micro_batch": 2, "ledger": True},
        }
    )
    _, mixture = config.assemble()
    cost = RunCost(mixture, {"waves": 100.0}, 50, config.objective)
    mixture.close()
    found = rehearse(config, cost, 2)
    assert found.dataset.layout.dataset == "waves"
    assert found.calls == 1
    # One dataset of pairs: every step is the most expensive.
    assert found.typical == pytest.approx(found.most) == pytest.approx(50 * found.seconds)
    assert min(found.seconds, found.memory, found.checkpoint) > 0
    assert STEPS == 2
    assert not list(tmp_path.iterdir())

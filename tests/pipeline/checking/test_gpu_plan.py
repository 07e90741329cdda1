"""The first setting that fits does fit, and nothing that costs less does."""

from pathlib import Path

import pytest

from pelagos.pipeline.checking.gpu_plan import GpuPlan, Setting
from pelagos.pipeline.checking.gpu_target import GpuTarget
from pelagos.pipeline.checking.step_work import MicroBatchWork, StepWork
from pelagos.pipeline.engine.engine import EngineConfig
from pelagos.pipeline.stages.pretrain import PretrainStage

WEIGHTS = 500_000_000  # of which a GPU keeps 10 GB at ZeRO 0, and 4.25 at ZeRO 1 of 64


def linear(each: float) -> StepWork:
    one, two = (MicroBatchWork(each * n, 1.1 * each * n, 1e12 * n, 1000) for n in (1, 2))
    return StepWork((1, 2), (one, two))


def plan(memory: float, compiled: str = "off", matrices: str = "adamw") -> GpuPlan:
    config = PretrainStage.model_validate(
        {
            "output": Path("run"),
            "network": {"kind": "scot"},
            "data": [{"path": "store.zarr"}],
            "loop": {"steps": 10, "batch_size": 512, "micro_batch": 8},
            "optimizer": {"matrices": matrices},
            "engine": EngineConfig.model_validate({"zero_stage": 0, "compile": compiled}),
        }
    )
    target = GpuTarget(gpus=64, memory=memory, context=1, nccl=1, fragmentation=0)
    return GpuPlan(
        config, target, WEIGHTS, 0, 0, {False: linear(2e9), True: linear(0.5e9)}, False, (2, 4), WEIGHTS // 20
    )


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (80, Setting(0, False, 8)),  # 2 + 10 + 17.6 GB
        (25, Setting(1, False, 8)),
        (17, Setting(1, False, 4)),
        (6.9, Setting(3, False, 1)),
        (4.5, Setting(3, True, 2)),
        (3.2, Setting(3, True, 1, domain=2)),
        (2.8, None),
    ],
)
def test_what_costs_least_is_taken_first(memory: float, expected: Setting | None) -> None:
    assert plan(memory).first_fit() == expected


def test_memory_is_never_saved_by_a_setting_that_saves_none() -> None:
    found = plan(80)
    for checkpointing in (False, True):
        totals = [found.total(Setting(stage, checkpointing, 4)) for stage in (0, 1)]
        assert totals == sorted(totals, reverse=True)
    assert found.total(Setting(1, True, 4)) < found.total(Setting(1, False, 4))


def test_what_the_engine_refuses_is_not_proposed() -> None:
    setting = plan(6.9, compiled="blocks").first_fit()
    assert setting is not None
    assert setting.stage < 3
    assert plan(25, matrices="muon").first_fit() == Setting(0, False, 4)


def test_a_run_that_does_not_fit_is_warned_of_with_what_would() -> None:
    found = {one.about: one for one in plan(17).findings()}
    assert "engine.zero_stage=1" in found["WARNING"].text
    assert found["setting"].values == {
        "fits": False,
        "stage": 1,
        "checkpointing": False,
        "micro_batch": 4,
        "domain": 1,
    }


def test_gpus_that_share_a_sample_hold_less_of_it_but_no_less_of_the_weights() -> None:
    found = plan(80)
    alone, shared = (found.total(Setting(1, False, 4, domain)) for domain in (1, 4))
    states = found.states(1)
    assert states.kept < shared < alone
    assert 4 * (shared - states.kept) == pytest.approx(alone - states.kept)

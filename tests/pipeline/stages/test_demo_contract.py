"""The demo's stages fit together, or nothing is started."""

from pathlib import Path

import pytest

from pelagos.pipeline.runs import configuration
from pelagos.pipeline.stages import demo
from pelagos.pipeline.stages.demo_contract import METHODS, DemoContract
from pelagos.preprocessing.errors import ConfigError


def contract(*overrides: str) -> DemoContract:
    config = configuration.load("demo", list(overrides), demo.DemoStage)
    return DemoContract.of(step.config for step in demo.demo_steps(config))


def test_the_shipped_demo_keeps_the_contract() -> None:
    kept = contract("output=there")
    root = Path("there/seed-0")
    assert kept.finetuned_forecasts == root / "evaluation" / "forecasts" / "finetuned.zarr"
    assert kept.version_file == root / "registered.json"


def test_scores_are_found_by_the_names_of_the_methods() -> None:
    methods = {name: {"one_step": i, "rollout": 10 * i} for i, name in enumerate((*METHODS, "another"))}
    scores = contract().scores(methods, "rollout")
    assert (scores.finetuned, scores.scratch, scores.persistence) == (0, 10, 20)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.evaluate.models={tuned: a, scratch: b}", "no finetuned, only tuned, scratch, persistence"),
        ("stages.evaluate.baselines=[stencil]", "no persistence, only finetuned, scratch, stencil"),
        ("stages.register.alias=candidate", "@champion, registered is models:/pelagos-demo@candidate"),
        ("stages.register.model=elsewhere", "stages.register.model is elsewhere"),
        ("stages.register.output=null", "stages.register.output"),
        ("stages.forecast.starts.steps=3", "stages.forecast.starts is"),
        ("stages.forecast.batch=3", "stages.forecast.batch is 3, stages.evaluate.batch is 16"),
        ("stages.evaluate.command=simulate", "stages.evaluate has"),
    ],
)
def test_stages_that_do_not_fit_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as found:
        contract(override)
    assert message in str(found.value)


def test_a_stage_that_is_missing_or_there_twice_is_named() -> None:
    steps = list(demo.demo_steps(configuration.load("demo", [], demo.DemoStage)))
    configs = [step.config for step in steps]
    with pytest.raises(ConfigError, match="one stage of the command refine; found 0"):
        DemoContract.of(config for config in configs if config.command != "refine")
    with pytest.raises(ConfigError, match="one stage of the command forecast; found 2"):
        DemoContract.of([*configs, configs[-1]])


def test_a_renamed_model_fails_before_the_first_stage_starts(tmp_path: Path) -> None:
    overrides = [f"output={tmp_path / 'demo'}", "stages.evaluate.models={tuned: a, scratch: b}"]
    with pytest.raises(ConfigError, match="no finetuned"):
        demo.run(configuration.load("demo", overrides, demo.DemoStage))
    assert not (tmp_path / "demo").exists()

"""The demo runs each stage once, in order, and again only where something before it has changed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pelagos.pipeline.runs import configuration
from pelagos.pipeline.stages import demo
from pelagos.pipeline.stages.demo import DemoStage, demo_steps
from pelagos.preprocessing.errors import ConfigError


def demo_config(folder: Path, *overrides: str) -> DemoStage:
    config = configuration.load(
        "demo", [f"output={folder / 'demo'}", "processes=1", *overrides], demo.DemoStage
    )
    assert isinstance(config, DemoStage)
    return config


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The outputs of the stages that are run, which write a file with their command instead of working."""
    outputs: list[str] = []

    def work(config: Any) -> None:
        path = config.path if config.command == "build" else config.output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config.command)
        outputs.append(path.name)

    def work_alone(command: str, file: Path) -> None:
        outputs.append(command)

    def conclude(config: DemoStage, *_: object) -> Path:
        return config.output / "report.html"

    monkeypatch.setattr(demo, "stage_module", lambda command: SimpleNamespace(run=work))
    monkeypatch.setattr(demo, "_run_alone", work_alone)
    monkeypatch.setattr(demo, "_conclude", conclude)
    return outputs


def test_placeholders_stand_for_the_folder_and_the_seed(tmp_path: Path) -> None:
    config = demo_config(tmp_path, "seed=7")
    steps = {step.name: step for step in demo_steps(config)}
    assert steps["simulate/euler"].config.simulation.seed == 7  # a number, not the text "7"
    assert steps["simulate/euler"].group == "simulate"
    assert steps["pretrain"].config.output == tmp_path / "demo" / "seed-7" / "pretrain"


@pytest.mark.parametrize("command", ["prettrain", "demo", None])
def test_a_stage_that_is_none_is_named_before_anything_is_written(
    tmp_path: Path, command: str | None, started: list[str]
) -> None:
    config = demo_config(tmp_path)
    stages = {**config.stages, "pretrain": {**config.stages["pretrain"], "command": command}}
    if command is None:
        stages["pretrain"] = {"first": {"output": "somewhere"}}
    with pytest.raises(ConfigError, match=r"stages\.pretrain.*`command` must be a stage"):
        demo.run(config.model_copy(update={"stages": stages}))
    assert not started
    assert not config.output.exists()


def test_a_mistake_in_the_last_stage_is_said_before_the_first_one_starts(
    tmp_path: Path, started: list[str]
) -> None:
    with pytest.raises(ConfigError, match=r"stages\.forecast"):
        demo.run(demo_config(tmp_path, "stages.forecast.batch=-1"))
    assert not started


def test_stages_run_in_order_once_and_again_only_after_a_change(tmp_path: Path, started: list[str]) -> None:
    config = demo_config(tmp_path)
    demo.run(config)
    names = [step.name for step in demo_steps(config)]
    assert len(started) == len(names)
    assert started[0] == "navier_stokes.nc"
    assert started[-1] == "forecast"
    started.clear()
    demo.run(config)
    assert not started  # all were finished before
    demo.run(demo_config(tmp_path, "stages.pretrain.loop.steps=701"))
    # A stage's fingerprint includes those before it, so that all after the change are run again, and none before.
    assert len(started) == len(names) - names.index("pretrain")
    assert started[0] == "pretrain"


def test_an_interrupted_stage_is_run_again_and_finds_what_it_left_where_it_continues(
    tmp_path: Path, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = demo_config(tmp_path)
    steps = {step.name: step for step in demo_steps(config)}
    pretrained = steps["pretrain"].config.output

    def fail(command: str) -> Any:
        def interrupted(config: Any) -> None:
            config.output.mkdir(parents=True)
            (config.output / "checkpoint").write_text("half")
            raise KeyboardInterrupt

        return SimpleNamespace(run=interrupted if command == "pretrain" else lambda config: None)

    monkeypatch.setattr(demo, "stage_module", fail)
    with pytest.raises(KeyboardInterrupt):
        demo.run(config)
    kept = []
    monkeypatch.setattr(
        demo,
        "stage_module",
        lambda command: SimpleNamespace(
            run=lambda c: kept.append((command, (pretrained / "checkpoint").exists()))
        ),
    )
    demo.run(config)
    assert kept[0] == ("pretrain", True)
    # With another configuration it is not what this stage would continue from.
    demo.run(demo_config(tmp_path, "stages.pretrain.loop.steps=701"))
    assert ("pretrain", False) in kept

"""Every shipped configuration is valid."""

from pathlib import Path

import pytest

from pelagos.pipeline.runs import configuration
from pelagos.pipeline.runs.commands import STAGES, config_class

FILES = sorted(configuration.SHIPPED.rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(configuration.SHIPPED)))
def test_a_shipped_configuration_loads_as_what_its_folder_says(file: Path) -> None:
    command = configuration.read(file)["command"]
    assert command in STAGES
    folder = file.relative_to(configuration.SHIPPED).parent.name
    assert folder == ("" if command == "demo" else command)
    loaded = configuration.load(file, [], config_class(command))
    assert loaded.command == command


def test_the_stages_of_the_demo_are_checked_before_anything_runs() -> None:
    from pelagos.pipeline.stages.demo import DemoStage, demo_steps

    demo = configuration.load("demo", ["seed=3"], DemoStage)
    commands = [step.command for step in demo_steps(demo)]
    assert set(commands) == set(STAGES) - {"demo"}
    assert all(
        "seed-3" in str(step.config.output) for step in demo_steps(demo) if hasattr(step.config, "output")
    )

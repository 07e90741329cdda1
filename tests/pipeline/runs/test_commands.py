"""The table of commands says where each stage is."""

import subprocess
import sys
from pathlib import Path

import pytest

from pelagos.pipeline.runs.commands import PARALLEL, STAGES, command_of, config_class, stage_module
from pelagos.preprocessing.errors import ConfigError


@pytest.mark.parametrize("command", STAGES)
def test_each_command_has_a_stage_that_knows_its_name(command: str) -> None:
    assert config_class(command).model_fields["command"].default == command
    assert callable(stage_module(command).run)


def test_the_parallel_commands_are_those_of_training() -> None:
    from pelagos.pipeline.training.training_run import TrainingStage

    assert set(PARALLEL) == {name for name in STAGES if issubclass(config_class(name), TrainingStage)}


def test_a_configuration_says_which_command_it_is_for(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("command: register\nmodel: m\nname: n\n")
    assert command_of(str(file)) == "register"
    assert command_of("demo") == "demo"
    file.write_text("command: regsiter\n")
    with pytest.raises(ConfigError, match=r"must be one of simulate, .*, not 'regsiter'"):
        command_of(str(file))


def test_the_table_is_read_without_importing_a_stage() -> None:
    code = "import sys, pelagos.pipeline.runs.commands; print([m for m in sys.modules if '.stages' in m])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"

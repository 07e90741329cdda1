"""Key help: a newcomer finds a key, its form or the key that was meant."""

import pytest
from typer.testing import CliRunner

from pelagos.pipeline.cli import app
from pelagos.pipeline.runs.commands import STAGES, config_class
from pelagos.pipeline.runs.key_help import describe_keys
from pelagos.preprocessing.errors import ConfigError


def shown(command: str, path: str = "") -> str:
    return describe_keys(command, config_class(command), path)


def test_a_key_tells_its_values_default_and_meaning() -> None:
    text = shown("pretrain", "loop.keep")
    assert "pretrain loop.keep: integer > 0, default 2, may change when a run is continued" in text
    assert "the number of checkpoints to keep" in text


def test_a_command_lists_all_its_keys() -> None:
    text = shown("evaluate")
    assert [name for name in config_class("evaluate").model_fields if f"  {name}: " not in text] == []


def test_forms_are_listed_and_one_is_chosen_by_its_name() -> None:
    forms = shown("build", "source")
    assert "  the_well\n" in forms
    assert "  grib\n" in forms
    assert "  axes: " in shown("build", "source.the_well")
    assert "integer >= 0, default 0" in shown("pretrain", "data.0.sampling.pairs.min_start")


@pytest.mark.parametrize(
    ("path", "meant"),
    [("steps", "loop.steps"), ("loop.stepz", "loop.steps"), ("optimiser", "optimizer")],
)
def test_a_wrong_key_is_told_with_the_one_that_was_meant(path: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"pretrain has no key {path}; did you mean .*{meant}"):
        shown("pretrain", path)


def test_the_command_prints_it_and_knows_what_is_no_command() -> None:
    assert "optimiser steps in all" in CliRunner().invoke(app, ["help", "pretrain", "loop.steps"]).output
    listed = CliRunner().invoke(app, ["help"]).output
    assert all(f"pelagos help {command}" in listed for command in STAGES)
    refused = CliRunner().invoke(app, ["help", "pretrian"])
    assert refused.exit_code == 2
    assert "did you mean pretrain?" in refused.output

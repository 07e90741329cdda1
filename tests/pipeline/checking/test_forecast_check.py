"""Forecast check: an evaluation that cannot be made is refused before its networks are loaded."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from pelagos.pipeline.cli import app


def checked(folder: Path, store: Path, **starts: object) -> Result:
    values = {
        "command": "evaluate",
        "models": {"mine": str(folder / "model")},
        "store": str(store),
        "output": str(folder / "evaluation"),
        "starts": {"split": "valid", **starts},
    }
    (folder / "evaluate.yaml").write_text(yaml.safe_dump(values))
    return CliRunner().invoke(app, ["check", str(folder / "evaluate.yaml")])


def test_the_forecasts_to_come_are_counted(tmp_path: Path, waves: Path) -> None:
    result = checked(tmp_path, waves, every=1, steps=3)
    assert result.exit_code == 0, result.output
    assert "# note: no model folder" in result.output
    assert (
        "# forecasts: 6 for each of 1 model(s): 2 trajectories of split valid from 3 start(s), 3 step(s)"
        in result.output
    )
    assert yaml.safe_load(result.output)["command"] == "evaluate"


def test_a_store_to_come_is_a_note(tmp_path: Path) -> None:
    assert "# note: the store" in checked(tmp_path, tmp_path / "later.zarr").output


@pytest.mark.parametrize("starts", [{"steps": 6}, {"split": "test"}])
def test_forecasts_that_do_not_fit_are_refused(
    tmp_path: Path, waves: Path, starts: dict[str, object]
) -> None:
    result = checked(tmp_path, waves, **starts)
    assert result.exit_code == 1
    assert "error: " in result.output

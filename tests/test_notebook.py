"""What the documentation shows of Python runs, and the public names are there."""

import json
from pathlib import Path

import pytest

import pelagos

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "python.ipynb"


def test_the_notebook_runs_and_scores_a_forecast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    scores = names["scores"]
    assert isinstance(scores, dict)
    assert scores["scores"]["nrmse"]["n"] == 3
    assert 0 < scores["scores"]["nrmse"]["low"] <= scores["scores"]["nrmse"]["value"]


def test_a_notebook_in_the_repository_holds_no_output() -> None:
    assert not [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell.get("outputs")]


def test_every_public_name_is_there_and_others_are_not() -> None:
    assert [name for name in pelagos.__all__ if getattr(pelagos, name) is None] == []
    with pytest.raises(AttributeError, match="has no attribute 'forecasts'"):
        pelagos.forecasts  # noqa: B018

"""The whole road in small: the demo with few trajectories and steps."""

import json
from pathlib import Path
from typing import Any

import pytest

from pelagos.pipeline.runs import configuration
from pelagos.pipeline.stages import demo

SMALL = (
    "stages.pretrain.loop.steps=4",
    "stages.pretrain.loop.validate_every=2",
    "stages.pretrain.network.embed_dim=16",
    "stages.pretrain.network.window_size=4",
    "stages.finetune.loop.steps=3",
    "stages.scratch.loop.steps=3",
    "stages.finetune.data.sampling.stop=4",
    "stages.scratch.data.sampling.stop=4",
    "stages.finetune.data.num_trajectories=2",
    "stages.scratch.data.num_trajectories=2",
    "stages.evaluate.starts.steps=6",
    "stages.forecast.starts.steps=6",
    "stages.refine.starts.steps=2",
    "stages.refine.starts.trajectories=1",
    "stages.build.kolmogorov.splits.train=4",
    "stages.build.kolmogorov.splits.test=4",
    *(f"stages.build.{name}.splits.valid=2" for name in ("navier_stokes", "euler", "gray_scott")),
    *(
        f"stages.simulate.{name}.simulation.shape=[32,32]"
        for name in ("navier_stokes", "gray_scott", "kolmogorov")
    ),
    "stages.simulate.euler.simulation.shape=[32,32]",
    *(
        f"stages.simulate.{name}.simulation.num_trajectories=8"
        for name in ("navier_stokes", "euler", "gray_scott", "kolmogorov")
    ),
    *(f"stages.simulate.{name}.workers=1" for name in ("navier_stokes", "euler", "gray_scott", "kolmogorov")),
    *(f"stages.build.{name}.workers=0" for name in ("euler", "gray_scott", "kolmogorov")),
)


def load(output: Path, *more: str) -> demo.DemoStage:
    return configuration.load("demo", [*SMALL, f"output={output}", *more], demo.DemoStage)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a small demo leaves."""
    folder = tmp_path_factory.mktemp("demo")
    demo.run(load(folder))
    return folder


def summary(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "summary.json").read_text()))


def test_the_summary_has_what_is_promised(output: Path) -> None:
    values = summary(output)
    stages = {
        "simulate",
        "build",
        "pretrain",
        "finetune",
        "scratch",
        "refine",
        "evaluate",
        "register",
        "forecast",
    }
    assert stages | {"report", "total"} == set(values["seconds"])
    assert values["peak_memory_bytes"] > 2**28
    for kind in ("one_step", "rollout"):
        assert set(values["downstream"][kind]) == {"finetuned", "scratch", "persistence"}
        assert all(0 < value < 10 for value in values["downstream"][kind].values())
    assert {"error_before", "error_after", "refine_seconds", "solver_seconds"} <= set(values["refinement"])
    assert {"name", "version", "alias"} <= set(values["registry"])


def test_the_registered_model_repeats_its_forecast_in_a_fresh_process(output: Path) -> None:
    assert summary(output)["registry"]["forecast_identical"] is True


def test_refinement_lowers_the_true_error_tenfold(output: Path) -> None:
    refinement = summary(output)["refinement"]
    assert refinement["error_after"] < 0.1 * refinement["error_before"]


def test_the_report_needs_no_network(output: Path) -> None:
    page = (output / "report.html").read_text()
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "https://" not in page


def test_a_second_run_reuses_everything(output: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (output / "seed-0").rglob("*") if path.is_file()}
    demo.run(load(output))
    changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == ["summary.json"]


def test_a_later_stage_that_changes_leaves_the_earlier_ones(output: Path) -> None:
    weights = output / "seed-0" / "finetuned" / "model" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    demo.run(load(output, "stages.evaluate.starts.steps=5", "stages.forecast.starts.steps=5"))
    assert weights.stat().st_mtime_ns == before
    lead_times = json.loads((output / "seed-0" / "evaluation" / "scores.json").read_text())["lead_times"]
    assert len(lead_times) == 5

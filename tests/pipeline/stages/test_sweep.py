"""A sweep finds the gains of known errors, is done once however often it is begun, and trains what it says."""

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.checking.forecast_check import check_forecasts
from pelagos.pipeline.cluster.launch import ProcessError
from pelagos.pipeline.runs.model_folder import Model, load, signature_of
from pelagos.pipeline.stages import sweep
from pelagos.pipeline.stages.sweep import SweepStage, SweepWork, run
from pelagos.pipeline.stages.sweep_plan import SweepRun
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.pipeline.training.loss_guard import BadStepError
from pelagos.pipeline.training.training_data import domain_of
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.samples.dataset import DatasetConfig

ALPHA = {"pretrained": 0.5, "unet": 0.5, "linear": 0.25}
"""The exponents that the errors of `Known` fall by."""
BEST_LR = 2e-3


@pytest.fixture(scope="module")
def source(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the waves."""
    dataset = DatasetConfig(path=waves).open()
    config = FNOConfig(width=2, modes=(2, 2), num_layers=1)
    signature = signature_of([dataset.layout])
    folder = tmp_path_factory.mktemp("source") / "model"
    Model(config, config.build(signature), signature, {"waves": domain_of(dataset)}).save(folder)
    return folder


def stage(waves: Path, source: Path, output: Path, **values: Any) -> SweepStage:
    return SweepStage.model_validate(
        {
            "output": output,
            "finetune": {
                "model": str(source),
                "data": {"path": str(waves)},
                "loop": {"steps": 2, "batch_size": 2, "micro_batch": 2, "peak_flops": 1e12},
                "threads": 1,
            },
            "pretrained": {"lr": [1e-3]},
            "baselines": {
                "unet": {"changes": scratch("unet"), "lr": [1e-3, BEST_LR, 4e-3], "steps": [2, 3]},
                "linear": {"changes": scratch("fno")},
            },
            "trajectories": [1, 2, 4],
            "seeds": [0, 1],
            "starts": {"split": "valid", "steps": 2},
            "accuracy_at": 2,
            **values,
        }
    )


def scratch(kind: str) -> dict[str, Any]:
    sizes = {"unet": {"dims": [2], "depth": 1}, "fno": {"width": 2, "modes": [2, 2], "num_layers": 1}}
    return {"scratch": True, "network": {"kind": kind, **sizes[kind]}}


class Known:
    """Runs that are not trained, with errors of known power laws; the wrong rate doubles, fewer steps too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: Collection[str] = ()) -> None:
        self.done: list[str] = []
        self.failing = failing
        monkeypatch.setattr(sweep, "_train", self.train)
        monkeypatch.setattr(sweep, "_scored", self.scores)
        monkeypatch.setattr(sweep, "_persistence", lambda config, one: {"last": 0.35, "one_step": 0.1})

    def train(self, config: SweepStage, one: SweepRun) -> None:
        if one.method in self.failing or (one.method == "linear" and one.trajectories == 1):
            raise BadStepError("step 1: the loss is not finite")
        assert one.data.num_trajectories == one.trajectories
        self.done.append(str(one.config.output))

    def scores(self, config: SweepStage, one: SweepRun) -> dict[str, Any]:
        factor = {"pretrained": 0.1, "unet": 0.15, "linear": 0.4}[one.method] * (1 + 0.1 * one.seed)
        if one.method == "unet":
            factor *= (1 if one.candidate.lr == BEST_LR else 2) * (1 if one.candidate.steps == 3 else 2)
        error = factor * one.trajectories ** -ALPHA[one.method]
        return {"valid": {"last": error, "one_step": error / 2}}


def test_the_gains_of_known_errors_are_found(
    waves: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Known(monkeypatch)
    report = run(stage(waves, source, tmp_path / "sweep", select="valid"))
    assert report is not None
    found = json.loads((tmp_path / "sweep" / "efficiency.json").read_text())
    task = found["tasks"]["task"]
    gains = task["gains"]
    # Two thirds of the error at every number, of curves that fall as 1 / sqrt(M).
    assert gains["unet"]["accuracy_gain"]["value"] == pytest.approx(1.5)
    assert gains["unet"]["efficiency_gain"]["value"] == pytest.approx(2.25)
    assert gains["unet"]["efficiency_gain"]["reach"] == "reached"
    assert gains["linear"]["efficiency_gain"]["reach"] == "at least"
    assert gains["best baseline"] == gains["unet"]
    errors = task["methods"]["unet"]["errors"]
    assert {(one["lr"], one["steps"]) for one in errors} == {(BEST_LR, 3)}
    assert errors[0]["at_edge"] == ["steps"]
    assert errors[0]["seeds"] == pytest.approx([0.15, 0.165])
    assert [one["below_persistence"] for one in errors] == [True, True, True]
    law = task["methods"]["pretrained"]["power_law"]
    assert (law["exponent"], law["factor"]) == pytest.approx((0.5, 0.105))
    linear = task["methods"]["linear"]["errors"]
    assert linear[0]["median"] is None
    assert [one["below_persistence"] for one in linear] == [False, False, True]
    assert found["summary"]["unet"] == {
        "median_efficiency_gain": pytest.approx(2.25),
        "mean_accuracy_gain": pytest.approx(1.5),
    }
    assert len(found["runs"]) == 3 * 2 * (1 + 6 + 1)
    said = capsys.readouterr()
    assert "EG 2.25, AG 1.5" in said.out
    assert "linear is not below persistence at 1, 2 trajectories" in said.out
    assert "2 runs failed, and count as the worst" in said.out
    page = report.read_text()
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("failing", "efficiency", "reach", "accuracy"),
    [
        # The least that was measured is enough to be better than what never works.
        (["linear"], 4, "at least", None),
        (["pretrained"], 0, "never", 0),
        (["pretrained", "linear"], 0, "never", 1),
    ],
)
def test_a_method_that_always_fails_is_told_in_the_report(
    waves: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failing: list[str],
    efficiency: float,
    reach: str,
    accuracy: float | None,
) -> None:
    Known(monkeypatch, failing)
    baselines = {"linear": {"changes": scratch("fno")}}
    few = {"trajectories": [1, 4], "accuracy_at": 4, "seeds": [0]}
    report = run(stage(waves, source, tmp_path / "sweep", baselines=baselines, **few))
    assert report is not None
    gains = json.loads((tmp_path / "sweep" / "efficiency.json").read_text())["tasks"]["task"]["gains"][
        "linear"
    ]
    assert (gains["efficiency_gain"]["value"], gains["efficiency_gain"]["reach"]) == (efficiency, reach)
    assert gains["accuracy_gain"]["value"] == accuracy
    said = capsys.readouterr().out
    assert [f"task: every run of {one} failed" in said for one in failing] == [True] * len(failing)
    assert "Failed runs" in report.read_text()


def test_what_is_done_is_not_done_again_and_more_can_be_asked_for(
    waves: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Known(monkeypatch)
    few = {"baselines": {"unet": {"changes": scratch("unet")}}, "trajectories": [1, 2], "accuracy_at": 1}
    run(stage(waves, source, tmp_path / "sweep", **few))
    assert len(known.done) == len(set(known.done)) == 2 * 2 * 2
    more = few | {"seeds": [0, 1, 2]}
    run(stage(waves, source, tmp_path / "sweep", **more))
    assert len(known.done) == len(set(known.done)) == 12
    # Other forecasts are other scores.
    changed = stage(waves, source, tmp_path / "sweep", **more | {"starts": {"split": "valid", "steps": 1}})
    work = SweepWork.of(changed)
    assert all(work.result(one) is None for one in work.runs)


def test_parts_share_the_runs_and_the_last_concludes(
    waves: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Known(monkeypatch)
    few = {"baselines": {"unet": {"changes": scratch("unet")}}, "trajectories": [1, 2], "accuracy_at": 1}
    parts = [stage(waves, source, tmp_path / "sweep", part=f"{n}/2", **few) for n in (1, 2)]
    assert run(parts[0]) is None
    assert len(known.done) == 4
    assert not (tmp_path / "sweep" / "efficiency.json").exists()
    assert run(parts[1]) == tmp_path / "sweep" / "report.html"
    assert len(set(known.done)) == 8


def test_models_are_trained_from_the_model_and_from_scratch(
    waves: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrackingConfig, "build", lambda *_, **__: Tracker())
    baselines = {"unet": {"changes": scratch("unet")}}
    values = {"trajectories": [2], "seeds": [3], "baselines": baselines}
    config = stage(waves, source, tmp_path / "sweep", **values)
    run(config)
    found = json.loads((tmp_path / "sweep" / "efficiency.json").read_text())
    for one in found["runs"]:
        assert all(math.isfinite(value) and value > 0 for value in one["scores"]["valid"].values())
    assert found["tasks"]["task"]["persistence"] > 0
    kinds = {one.method: load(one.config.output / "model").config.kind for one in config.runs()}
    assert kinds == {"pretrained": "fno", "unet": "unet"}


@pytest.mark.parametrize("code", [BadStepError.exit_code, 70])
def test_of_several_processes_a_bad_loss_is_a_result_and_a_fault_ends_the_sweep(
    waves: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def failing(arguments: Sequence[str], processes: int) -> None:
        # A peer that lost the connection says nothing of the loss.
        raise ProcessError(f"{arguments[0]} failed in {processes}", [code, 1])

    monkeypatch.setattr(sweep, "run_processes", failing)
    monkeypatch.setattr(sweep, "_persistence", lambda config, one: {"last": 0.35, "one_step": 0.1})
    baselines = {"unet": {"changes": scratch("unet")}}
    values = {"trajectories": [2], "seeds": [3], "baselines": baselines, "processes": 2}
    config = stage(waves, source, tmp_path / "sweep", **values)
    if code == BadStepError.exit_code:
        run(config)
        found = json.loads((tmp_path / "sweep" / "efficiency.json").read_text())
        assert [one["failed"] for one in found["runs"]] == ["finetune failed in 2"] * 2
    else:
        with pytest.raises(ProcessError, match="failed in 2"):
            run(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trajectories": [4, 2]}, "must be ascending"),
        ({"seeds": [1, 1]}, "names one twice"),
        ({"accuracy_at": 9}, "accuracy_at: 9 is not between"),
        ({"baselines": {"persistence": {}}}, "persistence is the name of another method"),
        ({"finetune": {"seed": 3}}, "finetune.seed: each run of a sweep has its own"),
        ({"finetune": {"name": "mine"}}, "finetune.name: each run of a sweep has its own"),
        ({"finetune": {"command": "pretrain"}}, "finetune.command: all runs .* not 'pretrain'"),
        (
            {"finetune": {"data": {"num_trajectories": 3}}},
            "finetune.data.num_trajectories: each run takes one of the sweep's `trajectories`",
        ),
        ({"pretrained": {"changes": {"seed": 3}}}, "pretrained.changes.seed: each run"),
        ({"tasks": {"a": {"changes": {"output": "b"}}}}, "tasks.a.changes.output: each run"),
        (
            {"baselines": {"a": {"lr": [1e-3], "changes": {"optimizer": {"lr": 2e-3}}}}},
            "changes.optimizer.lr: `lr` lists what is tried",
        ),
        ({"part": "3/2"}, "part: 3/2 must be one of 1/2 to 2/2"),
    ],
)
def test_what_makes_no_sweep_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        stage(Path("store"), Path("model"), Path("sweep"), **changes)


def test_a_check_counts_the_runs_and_trains_none(waves: Path, source: Path, tmp_path: Path) -> None:
    config = stage(waves, source, tmp_path / "sweep", select="test", starts={"split": "valid", "steps": 2})
    with pytest.raises(DataError, match="test"):
        list(check_forecasts(config))
    found = {one.about: one for one in check_forecasts(stage(waves, source, tmp_path / "sweep"))}
    assert found["runs"].values == {"runs": 48, "steps": 6 * (2 + 3 * (2 + 3) + 2)}
    assert found["done"].values == {"runs": 0}
    assert "linear" in found["WARNING"].text
    assert not (tmp_path / "sweep").exists()


def test_scores_of_frames_that_were_learnt_are_told(
    waves: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = "task: forecasts of {} are scored on frames that models learn from"
    training = {"split": "train", "steps": 2}
    # Four of the six in the split are learnt, and these are not among them.
    others = training | {"trajectories": [4, 5]}
    at = {"at": [0], "steps": 2}
    untuned: dict[str, Any] = {"pretrained": {}, "baselines": {"linear": {"changes": scratch("fno")}}}
    for starts, what in ((training, "split train"), (others, None), (at, "starts.at")):
        config = stage(waves, source, tmp_path / "sweep", starts=starts, **untuned)
        lines = [one.text for one in check_forecasts(config) if "learn from" in one.text]
        assert len(lines) == (what is not None)
        assert all(line.startswith(told.format(what)) for line in lines)

    Known(monkeypatch)
    own = stage(waves, source, tmp_path).finetune | {"data": {"path": str(waves), "split": "valid"}}
    few = untuned | {"trajectories": [1, 2], "seeds": [0]}
    report = run(stage(waves, source, tmp_path / "sweep", finetune=own, **few))
    assert report is not None
    said = capsys.readouterr()
    assert f"WARNING: {told.format('split valid')}" in said.err
    assert f"note: {told.format('split valid')}" in said.out
    assert told.format("split valid") in report.read_text()


def test_errors_are_found_before_anything_is_trained(waves: Path, source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trajectories: 9 are more than the 6 of split train"):
        run(stage(waves, source, tmp_path / "sweep", trajectories=[1, 2, 9]))
    wrong = {"unet": {"changes": {"scratch": True, "loop": {"stepz": 3}}}}
    with pytest.raises(
        ConfigError, match=r"finetune, for unet on task has 1 error.*\n.*did you mean 'steps'"
    ):
        run(stage(waves, source, tmp_path / "sweep", baselines=wrong))
    assert not (tmp_path / "sweep").exists()

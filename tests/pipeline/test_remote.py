"""Stages read their stores from servers, to the same results as from folders."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_runs
import torch
import yaml
from typer.testing import CliRunner, Result

from pelagos.pipeline.cli import app
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.preprocessing.files import location
from tests.preprocessing.range_server import Site, serving

STEPS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("remote")
    small_runs.prepare(path, STEPS)
    return path


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server of the store; tries follow each other at once, and MLflow hears nothing."""
    monkeypatch.setattr(location, "RETRY_DELAYS", (0.01, 0.01))
    monkeypatch.setattr(TrackingConfig, "build", lambda *_, **__: Tracker())
    with serving(folder / "stores") as served:
        yield served


def url(site: Site) -> str:
    return f"{site.url}/waves/waves-1.zarr"


TRUST = ("--trust", "stochastic:Stochastic")
"""The network of these runs is a class of the tests, which models name."""


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output, result.output
    return result


def done(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def same(one: Path, other: Path) -> bool:
    ours, theirs = small_runs.weights(one), small_runs.weights(other)
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_training_and_what_follows_it_are_the_same_from_a_server(folder: Path, site: Site) -> None:
    results = {}
    for name, place in (("here", folder / "stores/waves/waves-1.zarr"), ("there", url(site))):
        run = folder / name
        train = (folder / "train.yaml", f"output={run}", f"data.0.path={place}")
        assert "error" not in done("check", *TRUST, *train)
        done("pretrain", *train)
        tune = {
            "command": "finetune", "model": str(run / "model"), "output": str(run / "tuned"),
            "data": {"path": str(place)}, "loop": {"steps": 2, "batch_size": 4, "micro_batch": 4},
        }  # fmt: skip
        (run / "tune.yaml").write_text(yaml.safe_dump(tune))
        done("finetune", *TRUST, run / "tune.yaml")
        score = {
            "command": "evaluate", "models": {"ours": str(run / "model")}, "store": str(place),
            "output": str(run / "scores"), "starts": {"split": "valid", "steps": 2},
            "baselines": ["persistence", "stencil"],
        }  # fmt: skip
        (run / "score.yaml").write_text(yaml.safe_dump(score))
        done("evaluate", *TRUST, run / "score.yaml")
        results[name] = json.loads((run / "scores/scores.json").read_text())
        assert results[name]["models"]["ours"].pop("model") == str(run / "model")
    assert same(folder / "here", folder / "there")
    assert same(folder / "here/tuned", folder / "there/tuned")
    assert results["here"] == results["there"]


def test_a_run_whose_server_dies_says_so_and_goes_on_when_it_is_back(
    folder: Path, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    train = (folder / "train.yaml", f"data.0.path={url(site)}")
    site.lasts = 100
    with caplog.at_level(logging.ERROR):
        result = invoke("pretrain", *train, f"output={folder / 'cut'}")
    assert result.exit_code == 74, result.output  # another try may succeed
    assert re.search(r"waves-1\.zarr/(state|static)/c/0/0/0/0\S*, bytes \d+ to \d+: ", result.output)
    assert "the server does not send it, tried 3 times: 503" in result.output
    assert 0 < small_runs.reached(folder / "cut") < STEPS
    site.failures = 0
    done("pretrain", *train, f"output={folder / 'cut'}")
    done("pretrain", *train, f"output={folder / 'whole'}")
    assert same(folder / "cut", folder / "whole")


def test_commands_on_stores_take_urls(folder: Path, site: Site) -> None:
    store = folder / "stores/waves/waves-1.zarr"
    assert "waves 1: 8 trajectories of 6 frames" in done("inspect", url(site))
    assert "every shard is as it was written" in done("verify", url(site), "--sha256")
    assert "the same content" in done("compare", store, url(site))
    assert "can only be read" in invoke("repair", url(site)).output
    assert "no such store" in invoke("verify", f"{site.url}/none.zarr").output
    wrong = invoke("check", folder / "train.yaml", "data.0.path=htp://host/a.zarr", "output=s3://bucket/run")
    assert wrong.exit_code == 2
    assert "data.0.path: unknown protocol 'htp'" in wrong.output
    assert "output: only a folder of this machine can be written to" in wrong.output

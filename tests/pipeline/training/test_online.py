"""Training on simulations: the same run on any number of processes, after kills, and nothing left behind."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import small_runs
import torch
import yaml
from typer.testing import CliRunner, Result

from pelagos.evaluation.forecast_zarr import read_forecasts
from pelagos.pipeline.cli import app
from pelagos.pipeline.runs import model_folder
from pelagos.pipeline.tracking.tracker import read_metrics
from pelagos.pipeline.training.ledger import read_ledger
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.safety.trust import trusting
from pelagos.preprocessing.sources.formats import well_writer

WAVES = {"equation": {"kind": "wave"}, "shape": [8, 8], "num_frames": 6, "interval": 0.02, "batch": 4}
ONLINE: dict[str, Any] = {
    "kind": "online",
    "simulation": WAVES,
    "reservoir": 24,
    "uses": 5,
    "producers": 1,
    "valid": 2,
    "statistics": 4,
}


def data(*datasets: dict[str, Any]) -> str:
    """An override that trains on these instead."""
    return f"data={json.dumps(list(datasets))}"


def online(**options: Any) -> str:
    return data(ONLINE | options)


def simulates(process: psutil.Process) -> bool:
    try:
        return any("online.producer" in part for part in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def producers(parents: list[int]) -> list[psutil.Process]:
    """The processes of these processes that simulate."""
    children = [child for parent in parents for child in psutil.Process(parent).children()]
    return [child for child in children if simulates(child)]


def indices(run: Path) -> list[Any]:
    """Of all samples of a run, in order."""
    blocks = read_ledger(run / "ledger")
    assert list(blocks) == list(range(small_runs.STEPS * small_runs.BATCH))
    return [block["index"] for block in blocks.values()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration, and a store of other waves."""
    path = tmp_path_factory.mktemp("online")
    small_runs.prepare(path)
    return path


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """A run of one process that nothing disturbs."""
    return small_runs.finish(folder, "alone", 1, online(), "loop.validate_every=8")


@pytest.fixture(scope="module")
def pair(folder: Path) -> Path:
    """A run of two processes that nothing disturbs."""
    return small_runs.finish(folder, "pair", 2, online())


def test_the_same_trajectories_are_drawn_on_two_processes(alone: Path, pair: Path) -> None:
    assert indices(pair) == indices(alone)
    mine, wanted = small_runs.losses(pair), small_runs.losses(alone)
    # Sums over processes are rounded in another order.
    np.testing.assert_allclose([mine[step] for step in wanted], list(wanted.values()), rtol=1e-4)


def test_a_run_killed_again_and_again_has_the_same_losses_and_weights_to_the_last_bit(
    folder: Path, pair: Path
) -> None:
    run = folder / "killed"
    for step in (3, 9):
        team = small_runs.start(folder, "killed", 2, online(producers=step - 2, ahead=step))
        small_runs.kill_when(team, lambda step=step: small_runs.reached(run) >= step)  # type: ignore[misc]  # a default binds the loop's value
    small_runs.finish(folder, "killed", 2, online())
    assert small_runs.losses(run) == small_runs.losses(pair)
    assert indices(run) == indices(pair)
    assert all(torch.equal(small_runs.weights(run)[key], x) for key, x in small_runs.weights(pair).items())


def test_nobody_simulates_any_more_when_training_is_killed(folder: Path) -> None:
    team = small_runs.start(folder, "dead", 2, online(producers=2))
    pids = [member.pid for member in team.members if member.pid]
    started: list[psutil.Process] = []
    while small_runs.reached(folder / "dead") < 3:
        assert team.alive, team.join()
        started = producers(pids) or started
        time.sleep(0.01)
    assert len(started) == 4
    team.kill()
    psutil.wait_procs(started, timeout=30)
    assert not any(process.is_running() for process in started)


def test_a_mixture_with_a_store_goes_on_after_a_kill(folder: Path) -> None:
    stored = yaml.safe_load((folder / "train.yaml").read_text())["data"][0]
    override = data({"weight": 2.0, **stored}, ONLINE)
    whole = small_runs.finish(folder, "mixed", 1, override)
    team = small_runs.start(folder, "mixed-killed", 2, override)
    small_runs.kill_when(team, lambda: small_runs.reached(folder / "mixed-killed") >= 5)
    killed = small_runs.finish(folder, "mixed-killed", 1, override)
    assert indices(killed) == indices(whole)
    names = [block["dataset"] for block in read_ledger(whole / "ledger").values()]
    assert {names.count("waves") > 0, names.count("wave") > 0} == {True}


def test_nothing_of_the_simulation_is_written(folder: Path, alone: Path) -> None:
    stored = small_runs.finish(folder, "stored", 1, "loop.validate_every=8")
    assert {file.name for file in alone.rglob("*")} == {file.name for file in stored.rglob("*")}


def test_scores_of_held_out_trajectories_and_the_producers_work_are_reported(alone: Path) -> None:
    records = read_metrics(alone)
    assert sorted(record["step"] for record in records if "valid/wave" in record) == [8, 16]
    last = [record for record in records if "online/wave/fill" in record][-1]
    assert last["online/wave/fill"] == 1
    # 16 steps of 12 samples, each trajectory used five times, beside the first ones and those of the scores.
    assert last["online/wave/trajectories"] >= 24 + 16 * 12 // 5
    assert last["online/wave/trajectories_per_second"] > 0
    assert 0 < last["online/wave/samples_per_trajectory"] <= 5
    assert 0 < last["online/wave/producers_busy"] <= 1


def test_a_model_says_what_it_was_trained_on(alone: Path) -> None:
    with trusting(TRUSTED):
        trained = model_folder.load(alone / "model")
    [source] = trained.history["pretrained"]["data"]
    assert source["kind"] == "online"
    assert source["simulation"]["equation"]["kind"] == "wave"
    domain = trained.domain("wave")
    assert [variable.name for variable in domain.inputs] == [
        "displacement",
        "displacement_rate",
        "wave_speed",
    ]
    assert set(domain.scales) == {variable.name for variable in domain.inputs}


TRUSTED = ["stochastic:Stochastic"]
TRUST = ("--trust", *TRUSTED)
"""The network of these runs is a class of the tests, which models name."""


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert "Traceback" not in result.output, result.output
    return result


def test_a_model_trained_online_forecasts_a_store_and_is_adapted_online(folder: Path, alone: Path) -> None:
    config = SimulateConfig.model_validate(WAVES | {"num_trajectories": 3, "seed": 1})
    well_writer.write(simulate(config), folder / "wave.hdf5")
    source = {"kind": "the_well", "paths": str(folder / "wave.hdf5")}
    splits = {"kind": "trajectories", "test": 3}
    values = {"dataset": "wave", "source": source, "root": str(folder), "splits": splits}
    store = build(BuildConfig.model_validate(values))
    tracking = {"uri": f"sqlite:///{folder}/mlflow.db"}
    starts = {"split": "test", "steps": 2}
    forecast = {"command": "forecast", "model": str(alone / "model"), "store": str(store), "starts": starts}
    forecast |= {"output": str(folder / "forecast.zarr"), "tracking": tracking}
    (folder / "forecast.yaml").write_text(yaml.safe_dump(forecast))
    assert invoke("forecast", *TRUST, folder / "forecast.yaml").exit_code == 0
    assert np.isfinite(read_forecasts(folder / "forecast.zarr")["displacement"]).all()
    training = yaml.safe_load((folder / "train.yaml").read_text())
    del training["network"]
    tuned: dict[str, Any] = {
        "command": "finetune",
        "model": str(alone / "model"),
        "output": str(folder / "tuned"),
    }
    tuned |= {"data": ONLINE | {"simulation": WAVES | {"seed": 4}}}
    (folder / "tune.yaml").write_text(yaml.safe_dump(training | tuned))
    result = invoke("finetune", *TRUST, folder / "tune.yaml", "loop.steps=2")
    assert result.exit_code == 0, result.output
    with trusting(TRUSTED):
        adapted, original = (model_folder.load(run / "model") for run in (folder / "tuned", alone))
    assert adapted.domain("wave") == original.domain("wave")
    assert not producers([psutil.Process().pid])


def test_a_simulation_that_fails_ends_the_run_and_is_named(folder: Path) -> None:
    wild = {"kind": "navier_stokes", "speed": 300.0, "initial": [{"kind": "random"}], "viscosity": 1e-3}
    override = online(simulation=WAVES | {"equation": wild, "interval": 1.0})
    team = small_runs.start(folder, "wild", 1, override)
    output = team.join()
    assert team.codes == [1]
    assert "error: equation navier_stokes: trajectory 0 (viscosity 0.001, drag 0) is not finite" in output
    assert "Traceback" not in output


def test_a_run_is_checked_with_its_simulation(folder: Path) -> None:
    result = invoke("check", *TRUST, folder / "train.yaml", online(), "--deep", "--processes", 2)
    assert result.exit_code == 0, result.output
    # Six frames make fifteen pairs.
    assert (
        "simulation of wave: 360 samples in its reservoir of 24 trajectories, 360 an epoch" in result.output
    )
    assert "a new trajectory for every 5 samples of wave, 38 in the run beside the 24" in result.output
    assert "for each process keep up with training; there are 1" in result.output
    assert not producers([psutil.Process().pid])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (data({"kind": "onlin", "path": "x"}), "data.0: kind should be 'store' or 'online'"),
        (data({"kind": "online"}), "data.0.simulation: Field required"),
        (
            online(simulation=WAVES | {"num_trajectories": 8}),
            "data.0.simulation.num_trajectories: unknown key",
        ),
        (online(path="x"), "data.0.path: unknown key"),
        (online(reservoir=0), "data.0.reservoir: Input should be greater than 0"),
        (data(ONLINE, ONLINE), "two datasets are called wave"),
        (online(reservoir=8), "data: a reservoir of 8 trajectories for the 12 micro-batches of a step"),
    ],
)
def test_mistakes_are_named(folder: Path, override: str, message: str) -> None:
    result = invoke("check", *TRUST, folder / "train.yaml", override)
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_simulated_trajectories_are_not_read_in_processes(folder: Path) -> None:
    result = invoke("check", *TRUST, folder / "train.yaml", online(), "loop.loader.processes=true")
    assert result.exit_code == 2
    assert "loop.loader.processes is for stores" in result.output

"""Online data: the samples of stored simulations, drawn in an order that follows from the seed alone."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from pydantic import TypeAdapter

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.loading.child_process import ChildEndedError
from pelagos.preprocessing.loading.loader import Loader
from pelagos.preprocessing.online.online_dataset import DataConfig, OnlineConfig, OnlineDataset
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.samples.batch import Batch, LoadedBatch
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.mixture import Mixture
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.sources.formats import well_writer

WAVES = {"equation": {"kind": "wave"}, "shape": [8, 8], "num_frames": 5, "interval": 1 / 64, "batch": 4}


def configured(**options: Any) -> OnlineConfig:
    values = {"simulation": WAVES, "reservoir": 6, "uses": 3, "producers": 1, "valid": 2, "statistics": 3}
    return OnlineConfig.model_validate(values | options)


@contextmanager
def opened(config: OnlineConfig) -> Iterator[OnlineDataset]:
    """The samples, and no producers left afterwards."""
    store = config.store()
    dataset = config.samples(store, Normalizer.of(store))
    try:
        yield dataset
    finally:
        dataset.close()


def simulates(process: psutil.Process) -> bool:
    try:
        return any("online.producer" in part for part in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def producers(parent: int | None = None) -> list[psutil.Process]:
    """The processes of a process that simulate."""
    children = psutil.Process(parent).children(recursive=True)
    return [child for child in children if simulates(child)]


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it holds within two minutes: producers import torch first, on a machine that may be busy."""
    end = time.monotonic() + 120
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


def mixture(*datasets: Dataset, seed: int = 5) -> Mixture:
    return Mixture(datasets, batch_size=8, micro_batch=2, seed=seed)


Contents = list[tuple[str, list[list[int]], torch.Tensor, torch.Tensor, torch.Tensor]]


def contents(batches: Iterable[LoadedBatch]) -> Contents:
    return [
        (b.layout.dataset, b.index.tolist(), b.inputs.clone(), b.targets.clone(), b.scalars.clone())
        for b in batches
    ]


def same(one: Contents, other: Contents) -> bool:
    return len(one) == len(other) and all(
        a[:2] == b[:2] and all(map(torch.equal, a[2:], b[2:])) for a, b in zip(one, other, strict=True)
    )


@pytest.fixture(scope="module")
def waves() -> Iterator[OnlineDataset]:
    with opened(configured()) as dataset:
        yield dataset


@pytest.fixture(scope="module")
def steps(waves: OnlineDataset) -> Contents:
    """The batches of twelve steps."""
    return contents(Loader(mixture(waves), num_steps=12))


def agree(mine: Batch, theirs: Batch) -> None:
    for name in ("inputs", "targets", "mask", "forcings", "lead_time", "scalars", "index"):
        assert torch.equal(getattr(mine, name), getattr(theirs, name)), name


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("equation", "sampling"),
    [
        ({"kind": "wave"}, {"kind": "pairs"}),
        ({"kind": "navier_stokes"}, {"kind": "rollouts", "steps": 2}),
        ({"kind": "kolmogorov"}, {"kind": "windows", "steps": 3}),
    ],
)
def test_samples_scales_and_scores_are_those_of_the_same_simulation_in_a_store(
    tmp_path: Path, equation: dict[str, Any], sampling: dict[str, Any]
) -> None:
    simulation = WAVES | {"equation": equation, "dataset": "flow"}
    config = SimulateConfig.model_validate(simulation | {"num_trajectories": 5})
    well_writer.write(simulate(config), tmp_path / "flow.hdf5")
    built = {
        "dataset": "flow",
        "source": {"kind": "the_well", "paths": str(tmp_path / "flow.hdf5")},
        "root": str(tmp_path),
        "splits": {"kind": "trajectories", "train": [2, 5], "valid": [0, 2]},
    }
    path = build(BuildConfig.model_validate(built))
    options = {"sampling": sampling, "time_scale": 0.1}
    stored = DatasetConfig.model_validate({"path": path, **options}).open()
    with opened(configured(simulation=simulation, **options)) as online:
        assert online.layout.inputs == stored.layout.inputs
        assert online.layout.outputs == stored.layout.outputs
        assert online.layout.scalars == stored.layout.scalars
        np.testing.assert_array_equal(online.layout.grid.x, stored.layout.grid.x)
        np.testing.assert_array_equal(online.normalizer.mean, stored.normalizer.mean)
        np.testing.assert_array_equal(online.normalizer.std, stored.normalizer.std)
        parts = stored.num_samples // 3
        agree(online.batch(np.arange(2 * parts, 5 * parts)), stored.batch(np.arange(3 * parts)))
        held = DatasetConfig.model_validate({"path": path, "split": "valid", **options})
        every = np.arange(2 * parts)
        agree(
            held.samples(online.store, online.normalizer).batch(every),
            held.open(stored.normalizer).batch(every),
        )


def test_the_number_of_producers_and_what_they_do_ahead_change_nothing(steps: Contents) -> None:
    with opened(configured(producers=2, ahead=1)) as dataset:
        assert same(contents(Loader(mixture(dataset), num_steps=12, threads=3)), steps)


def test_ranks_draw_the_same_batches_and_none_simulates_what_another_does(
    waves: OnlineDataset, steps: Contents
) -> None:
    parts = [contents(Loader(mixture(waves), rank=rank, world=2, num_steps=12)) for rank in range(2)]
    dealt = [batch for pair in zip(*parts, strict=True) for batch in pair]
    assert same(dealt, steps)
    met = [{index[0] for batch in part for index in batch[1]} for part in parts]
    assert met[0].isdisjoint(met[1])


def test_a_run_goes_on_anywhere(waves: OnlineDataset, steps: Contents) -> None:
    assert same(contents(Loader(mixture(waves), start_step=7, num_steps=5)), steps[28:])


def test_another_seed_draws_others(waves: OnlineDataset, steps: Contents) -> None:
    assert not same(contents(Loader(mixture(waves, seed=6), num_steps=1)), steps[:4])


def test_held_out_trajectories_never_train(steps: Contents) -> None:
    assert min(index[0] for batch in steps for index in batch[1]) == 2


def test_stored_data_and_two_simulations_mix(tmp_path: Path, waves: OnlineDataset) -> None:
    config = SimulateConfig.model_validate(WAVES | {"num_trajectories": 4})
    well_writer.write(simulate(config), tmp_path / "waves.hdf5")
    source = {"kind": "the_well", "paths": str(tmp_path / "waves.hdf5")}
    path = build(BuildConfig.model_validate({"dataset": "stored", "source": source, "root": str(tmp_path)}))
    stored = DatasetConfig(path=path).open()
    other = configured(simulation=WAVES | {"seed": 9, "dataset": "other"}, reservoir=9, uses=2)
    with opened(other) as second:
        order = mixture(waves, stored, second)
        assert order.shares.tolist() == [60, 40, 90]
        whole = contents(Loader(order, num_steps=60))
        counts = {name: sum(batch[0] == name for batch in whole) for name in ("wave", "stored", "other")}
        assert sum(counts.values()) == 240
        assert counts["other"] > counts["wave"] > counts["stored"] > 0
        parts = [contents(Loader(order, rank=r, world=4, start_step=20, num_steps=40)) for r in range(4)]
        assert same([batch for four in zip(*parts, strict=True) for batch in four], whole[80:])
        for name, uses, places in (("wave", 3, (2, 2, 1, 1)), ("other", 2, (3, 2, 2, 2))):
            for lane in range(4):
                mine = [batch for batch in whole[lane::4] if batch[0] == name]
                met = {(index[0] - 2 - lane) // 4 for batch in mine for index in batch[1]}
                left = 2 * len(mine) // uses
                assert len(met) >= left
                assert max(met) < left + places[lane]


def test_a_killed_producer_is_replaced_and_its_trajectories_are_the_same(
    steps: Contents, caplog: pytest.LogCaptureFixture
) -> None:
    others = producers()
    with opened(configured()) as dataset, caplog.at_level(logging.WARNING):
        found: Contents = []
        batches = iter(Loader(mixture(dataset), num_steps=12, depth=2))
        for number, batch in enumerate(batches):
            found += contents(iter([batch]))
            if number in (3, 20):
                [process] = set(producers()) - set(others)
                process.kill()
        assert same(found, steps)
    assert caplog.text.count("ended with status -9") == 2


def test_a_process_that_cannot_simulate_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ChildEndedError, match=r"3 times in a row over trajectories 0, 1, 2, 3: .* status 1,"):
        configured().store()


def test_a_simulation_that_fails_names_trajectory_and_parameters() -> None:
    flow = {"kind": "navier_stokes", "speed": 300.0, "initial": [{"kind": "random"}], "viscosity": 1e-3}
    simulation = WAVES | {"equation": flow, "interval": 1.0}
    others = producers()
    with pytest.raises(DataError, match=r"trajectory 0 \(viscosity 0.001, drag 0\) is not finite at time 1"):
        configured(simulation=simulation).store()
    assert producers() == others


def test_producers_wait_when_enough_is_simulated() -> None:
    with opened(configured(ahead=4)) as dataset:
        batches = iter(Loader(mixture(dataset), num_steps=50, depth=2))
        next(batches)
        assert eventually(lambda: dataset.production().ready == 6)
        time.sleep(1.0)
        before = dataset.production()
        time.sleep(0.5)
        # Five for scales and scores; six in the reservoir; at most one ahead for each of four lanes.
        assert 11 <= dataset.production().simulated == before.simulated <= 15
        assert before.wanted == 6
        for _ in range(40):
            next(batches)
        assert dataset.production().simulated > before.simulated
        batches.close()


def test_trajectories_are_forgotten_when_they_have_left(waves: OnlineDataset) -> None:
    for batch in Loader(mixture(waves), num_steps=30):
        last = batch
    assert len(last) == 2
    # What a producer was doing is forgotten when it is done.
    assert eventually(lambda: not waves.store.supply._requests)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_producers_end_with_whoever_started_them(end: signal.Signals) -> None:
    slow = {"equation": {"kind": "wave"}, "shape": [256, 256], "interval": 50.0}
    code = f"""
from pelagos.preprocessing.online.simulation import Simulation
from pelagos.preprocessing.online.trajectory_supply import TrajectorySupply
TrajectorySupply(Simulation.model_validate({slow}), 2).get(0)
"""
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        try:
            assert eventually(lambda: len(producers(parent.pid)) == 2)
            started = producers(parent.pid)
            time.sleep(3)  # a simulation is under way
            os.kill(parent.pid, end)
            parent.wait(60)
            assert eventually(lambda: not any(process.is_running() for process in started))
        finally:
            parent.kill()  # it would be waited for until its simulation ends, in half an hour


def test_data_are_stored_where_nothing_else_is_said() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(DataConfig)
    assert adapter.validate_python({"path": "x"}).kind == "store"
    assert adapter.validate_python({"kind": "online", "simulation": WAVES}).kind == "online"


def test_a_reservoir_smaller_than_a_step_is_refused(waves: OnlineDataset) -> None:
    with pytest.raises(ConfigError, match="reservoir: 6 trajectories for the 8 micro-batches of a step"):
        Mixture([waves], batch_size=16, micro_batch=2)


def test_trajectories_too_short_for_the_samples_are_refused(waves: OnlineDataset) -> None:
    config = configured(sampling={"kind": "rollouts", "steps": 5})
    with pytest.raises(ConfigError, match="simulation of wave: no samples"):
        config.samples(waves.store, waves.normalizer)

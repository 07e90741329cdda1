"""The regression solves what is linear, sees what it says that it sees, and is printed beside the models."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.streaming.frame_sources import StoredFrames
from pelagos.evaluation.streaming.regression_frames import RegressionFrames
from pelagos.evaluation.verification import make_evaluator
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.formats import pdebench_writer
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import known_variable


def advected(fields: np.ndarray) -> np.ndarray:
    """One upwind step of advection and diffusion of two fields (2, H, W) that feed each other, periodic."""
    u, v = fields
    step = [
        one
        + 0.3 * (np.roll(one, 1, 1) - one)
        + 0.2 * (np.roll(one, -1, 0) - one)
        + 0.05 * sum(np.roll(one, shift, axis) - one for shift in (-1, 1) for axis in (0, 1))
        for one in (u, v)
    ]
    return np.stack([step[0] + 0.1 * v, step[1] - 0.1 * u])


def stored(folder: Path, frames: np.ndarray) -> Store:
    names = ("density", "pressure", "velocity_x", "velocity_y")  # what the archive has to hold
    fields = {
        name: xr.Variable(
            convention.TIME_DIMS, frames[:, :, n % 2], convention.attrs(name, known_variable(name).role)
        )
        for n, name in enumerate(names)
    }
    sides: Sides = ("periodic", "periodic")
    ds = convention.assemble(
        fields,
        grid=Grid("cartesian", np.arange(8) / 8, np.arange(8) / 8, sides, sides),
        time=np.arange(frames.shape[1]) * 0.1,
        dataset="flow",
        source_format="test",
        sources=(),
        num_trajectories=len(frames),
    )
    pdebench_writer.write(ds, folder / "2D_CFD_periodic.hdf5")
    values = {
        "dataset": "flow",
        "source": {"kind": "pdebench", "paths": str(folder / "2D_CFD_periodic.hdf5")},
        "root": str(folder),
        "variables": list(names[:2]),
        "splits": {"kind": "trajectories", "test": 2},
    }
    return open_store(build(BuildConfig.model_validate(values)))


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Store:
    states = [np.random.default_rng(0).normal(size=(6, 2, 8, 8)) + 3]
    for _ in range(3):
        states.append(np.stack([advected(one) for one in states[-1]]))
    return stored(tmp_path_factory.mktemp("flow"), np.stack(states, axis=1).astype(np.float32))


@pytest.mark.parametrize("first", [0, 1])
def test_linear_advection_and_diffusion_is_solved_exactly(flow: Store, first: int) -> None:
    plan = StartsConfig(split="test", first=first).plan(flow)
    truth = StoredFrames(flow, plan, flow.variables)
    source = RegressionFrames(truth, "train")
    [batch] = plan.batches(16)
    [made], [expected] = source.frames(batch), truth.frames(batch)
    assert made == pytest.approx(expected, abs=1e-5)
    assert np.abs(expected - truth.at(batch, 0)).mean() > 0.1
    # 2 fields in 3 x 3 points, both a frame before where there is one, and a constant.
    assert f"{19 + 2 * first} features" in source.describe()


def test_it_is_scored_beside_other_baselines(flow: Store) -> None:
    plan = StartsConfig(split="test", steps=2).plan(flow)
    evaluator = make_evaluator(flow, plan, flow.variables, {}, ["persistence", "regression"])
    states = evaluator.score_all(4)
    assert set(states) >= {"persistence", "regression"}


def test_a_split_too_short_for_the_lead_time_is_refused(flow: Store) -> None:
    plan = StartsConfig(split="test", steps=1, stride=3).plan(flow)
    source = RegressionFrames(StoredFrames(flow, plan, flow.variables), "train")
    assert np.isfinite(next(iter(source.frames(next(iter(plan.batches(1))))))).all()
    with pytest.raises(DataError, match="splits"):
        RegressionFrames(StoredFrames(flow, plan, flow.variables), "valid").describe()

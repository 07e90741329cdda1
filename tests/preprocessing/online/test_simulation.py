"""Simulations: pure functions of their configuration, in the one convention."""

import json
from typing import Any

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate, simulate_batches, simulate_range
from pelagos.preprocessing.sources import convention

INTERVALS = {
    "navier_stokes": 0.05,
    "kolmogorov": 0.05,
    "gray_scott": 10.0,
    "allen_cahn": 0.05,
    "wave": 0.015,
    "euler": 0.02,
}


def config(
    kind: str = "navier_stokes", equation: dict[str, Any] | None = None, **values: Any
) -> SimulateConfig:
    defaults = {"num_trajectories": 5, "shape": (16, 16), "num_frames": 3, "interval": INTERVALS[kind]}
    return SimulateConfig.model_validate(
        {"equation": {"kind": kind, **(equation or {})}, **defaults, **values}
    )


@pytest.mark.parametrize("kind", INTERVALS)
def test_trajectories_follow_the_convention(kind: str) -> None:
    ds = simulate(config(kind))
    convention.check(ds)
    assert dict(ds.sizes) == {"trajectory": 5, "time": 3, "y": 16, "x": 16}
    assert ds.attrs["dataset"] == kind
    assert convention.grid_of(ds).periodic == (True, True)
    np.testing.assert_allclose(ds["time"], np.arange(3) * INTERVALS[kind])
    assert ds["trajectory"].values.tolist() == list(range(5))
    for name in convention.in_role(ds, "prognostic", "static"):
        assert ds[name].dtype == np.float32
        assert np.isfinite(ds[name]).all()
    for name in convention.in_role(ds, "scalar"):
        assert ds[name].dims == ("trajectory",)
        assert ds[name].dtype == np.float64


@pytest.mark.parametrize("kind", INTERVALS)
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_batch_does_not_change_a_bit(kind: str, batch: int) -> None:
    xr.testing.assert_equal(simulate(config(kind, batch=batch)), simulate(config(kind, batch=5)))


def test_a_block_is_a_function_of_its_range_alone() -> None:
    whole = simulate(config())
    xr.testing.assert_equal(simulate_range(config(), 3, 5), whole.isel(trajectory=slice(3, 5)))
    xr.testing.assert_equal(
        simulate_range(config(num_trajectories=9), 1, 2), whole.isel(trajectory=slice(1, 2))
    )


def test_blocks_come_in_order_and_report_progress() -> None:
    seen: list[tuple[int, int]] = []
    parts = list(simulate_batches(config(batch=2), lambda done, total: seen.append((done, total))))
    assert [part["trajectory"].values.tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert seen == [(2, 5), (4, 5), (5, 5)]
    for part in parts:
        convention.check(part)


def test_another_seed_gives_other_trajectories() -> None:
    one, other = simulate(config(seed=0)), simulate(config(seed=1))
    assert abs(one["velocity_x"] - other["velocity_x"]).max() > 0.1


def test_a_warm_up_leaves_out_the_first_frames() -> None:
    late = simulate(config(warmup=0.1, num_frames=2, dtype="float64", dt=0.01))
    full = simulate(config(num_frames=4, dtype="float64", dt=0.01))
    np.testing.assert_allclose(late["velocity_x"], full["velocity_x"][:, 2:], atol=1e-12)
    assert late["time"][0] == 0


def test_a_tracer_and_a_force_become_variables() -> None:
    ds = simulate(config("kolmogorov", {"tracer": True}, num_trajectories=2))
    assert convention.in_role(ds, "prognostic") == ["velocity_x", "velocity_y", "tracer"]
    assert convention.in_role(ds, "static") == ["force_x", "force_y"]
    assert convention.in_role(ds, "scalar") == ["viscosity", "drag", "diffusivity"]
    assert ds["force_x"].dims == ("trajectory", "y", "x")
    assert ds["velocity_x"].attrs["group"] == "velocity"


@pytest.mark.parametrize(("kind", "tolerance"), [("navier_stokes", 0.02), ("wave", 0.02), ("euler", 0.15)])
def test_solving_on_a_finer_grid_gives_nearly_the_same_frames(kind: str, tolerance: float) -> None:
    equation = {"initial": [{"kind": "gaussians"}]} if kind != "wave" else {}
    coarse = simulate(config(kind, equation, num_trajectories=2, shape=(32, 32)))
    fine = simulate(config(kind, equation, num_trajectories=2, shape=(32, 32), solver_shape=(64, 64)))
    for name in convention.in_role(coarse, "prognostic", "static"):
        scale = abs(coarse[name]).max()
        assert abs(coarse[name] - fine[name]).max() < tolerance * scale
    assert np.array_equal(coarse["x"], fine["x"])


def test_a_flow_that_blows_up_is_reported_with_equation_trajectory_and_time() -> None:
    wild = {"speed": 300.0, "initial": [{"kind": "random"}]}
    with pytest.raises(
        DataError,
        match=r"navier_stokes: trajectory 3 \(viscosity \S+, drag 0\) is not finite at time 1 since its start",
    ):
        simulate_range(config(equation=wild, interval=1.0, num_trajectories=6), 3, 5)


def test_the_configuration_travels_with_the_data() -> None:
    made = config("gray_scott", dataset="patterns")
    ds = simulate(made)
    assert ds.attrs["dataset"] == "patterns"
    assert SimulateConfig.model_validate(json.loads(ds.attrs["simulation"])) == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"solver_shape": (16, 8)}, r"solver_shape \(16, 8\) is coarser than shape \(16, 16\)"),
        ({"shape": (2, 16)}, "at least 4 x 4 points"),
        ({"interval": 0.0}, "greater than 0"),
        ({"num_frame": 4}, "num_frame"),
    ],
)
def test_impossible_simulations_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**values)

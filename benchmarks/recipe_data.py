"""The stores of `make bench-recipe`: a pretraining mixture, tasks of few trajectories, and weather where it is at hand.

Everything but the weather is made here, on 32 x 32 points; flows are solved on twice as many along each axis.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baseline_data import darcy_solution, random_field
from pelagos.pipeline.runs import configuration
from pelagos.pipeline.stages import build as build_stage
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.store.manifest import MANIFEST

POINTS, FRAMES = 32, 15
HELD_OUT, VALIDATING = 16, 8
WEATHER = Path(__file__).parents[2] / "shared/data/weather/wfde5"

_FINER: dict[str, Any] = {"solver_shape": [2 * POINTS, 2 * POINTS]}
_FLOW: dict[str, Any] = {"interval": 0.04, **_FINER}


def _fronts(**others: Any) -> dict[str, Any]:
    """Fronts of Allen-Cahn, by default the task's; others are values of the equation."""
    equation = {"kind": "allen_cahn", "length": 0.5, "modes": 3, **others}
    return {"equation": equation, "interval": 0.05}


# Half the side on half the points of the defaults: patterns and interfaces are as many points wide.
_SIMULATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "navier_stokes": (512, {"equation": {"kind": "navier_stokes"}, **_FLOW}),
    "gray_scott": (
        64,
        {"equation": {"kind": "gray_scott", "length": 0.5}, "interval": 10.0, "warmup": 120.0},
    ),
    # Interfaces two to four times as wide as the defaults', and twice as slow.
    "wide_fronts": (
        512,
        _fronts(diffusivity={"low": 0.015, "high": 0.03}, rate={"low": 2.0, "high": 5.0}),
    ),
    # Interfaces thinner than all of the defaults', by up to a third, and faster.
    "thin_fronts": (
        256,
        {
            **_fronts(
                diffusivity={"low": 0.0025, "high": 0.005}, rate={"low": 10.0, "high": 12.0}, step=0.0125
            ),
            **_FINER,
        },
    ),
    # Each force the sum of three waves.
    "mixed_forces": (
        512,
        {"equation": {"kind": "kolmogorov", "waves": 3, "wave_numbers": list(range(1, 9))}, **_FLOW},
    ),
    "kolmogorov": (32, {"equation": {"kind": "kolmogorov"}, **_FLOW}),
    "allen_cahn": (32, _fronts()),
}
_STEADY = {"darcy": 4096, "smooth_darcy": 32}


def stores(root: Path) -> dict[str, Path]:
    """The stores by name, made where they are not there; `wfde5` only where its files are."""
    found = {name: root / "stores" / name / f"{name}-1.zarr" for name in (*_SIMULATIONS, *_STEADY)}
    root.mkdir(parents=True, exist_ok=True)
    for name, store in found.items():
        if not (store / MANIFEST).exists():
            print(f"makes {store}", flush=True)
            _simulated(name, root) if name in _SIMULATIONS else _steady(name, root)
    if WEATHER.is_dir():
        found["wfde5"] = root / "stores/wfde5/wfde5-1.zarr"
        if not (found["wfde5"] / MANIFEST).exists():
            overrides = [f"source.paths={WEATHER}/*.nc", f"root={root / 'stores'}"]
            build_stage.run(configuration.load("build/wfde5", overrides, build_stage.BuildStage))
    return found


def _simulated(name: str, root: Path) -> None:
    """Trajectories of an equation; those held out come first, so that others can be added."""
    number, values = _SIMULATIONS[name]
    whole = {
        "shape": [POINTS, POINTS],
        "num_frames": FRAMES,
        "num_trajectories": HELD_OUT + number + VALIDATING,
        **values,
    }
    archive = root / f"{name}.hdf5"
    well_writer.write(simulate(SimulateConfig.model_validate({**whole, "dataset": name})), archive)
    _build(name, root, {"kind": "the_well", "paths": str(archive)}, number)


def _steady(name: str, root: Path) -> None:
    """Darcy flow: through rock of a few kinds for pretraining, through rock that changes smoothly as a task."""
    rng = np.random.default_rng(list(_STEADY).index(name))
    number = HELD_OUT + _STEADY[name] + VALIDATING
    field_NHW = random_field(rng, number, POINTS)
    a_NHW = _kinds(rng, field_NHW) if name == "darcy" else _smooth(field_NHW)
    u_NHW = np.stack([darcy_solution(a) for a in a_NHW])
    archive = root / f"{name}.pt"
    torch.save({"x": torch.from_numpy(a_NHW).float(), "y": torch.from_numpy(u_NHW).float()}, archive)
    _build(name, root, {"kind": "neuralop", "paths": str(archive), "problem": "darcy"}, _STEADY[name])


def _kinds(rng: np.random.Generator, field_NHW: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rock of two to eight kinds in each sample, whose permeabilities are 1.5 to 24 and rise with the field."""
    rock_NHW = np.empty_like(field_NHW)
    for rock_HW, field_HW in zip(rock_NHW, field_NHW, strict=True):
        number = rng.integers(2, 9)
        borders = np.quantile(field_HW, np.sort(rng.uniform(0.1, 0.9, number - 1)))
        kinds = np.sort(np.exp(rng.uniform(np.log(1.5), np.log(24.0), number)))
        rock_HW[:] = kinds[np.searchsorted(borders, field_HW)]
    return rock_NHW


def _smooth(field_NHW: NDArray[np.float64]) -> NDArray[np.float64]:
    """Permeabilities with a normal logarithm, about 6."""
    return np.asarray(6 * np.exp(0.7 * field_NHW / field_NHW.std()))


def _build(name: str, root: Path, source: dict[str, Any], number: int) -> None:
    end = HELD_OUT + number
    splits = {
        "kind": "trajectories",
        "test": [0, HELD_OUT],
        "train": [HELD_OUT, end],
        "valid": [end, end + VALIDATING],
    }
    values = {"dataset": name, "source": source, "root": str(root / "stores"), "splits": splits}
    build(BuildConfig.model_validate(values))

"""Simulation: trajectories of an equation from random initial states, in the one xarray convention.

Shapes: N trajectories, T frames, C fields, H rows, W columns.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Self

import numpy as np
import torch
import xarray as xr
from pydantic import Field, model_validator
from torch import Tensor

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.pde import PDE, State
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.variables import Variable

Progress = Callable[[int, int], None]
"""Called with the number of trajectories that are done and the number of all."""


class Simulation(Config):
    """An endless series of trajectories; the i-th depends on `seed` and i, not on how many are made at once.

    Attributes:
        equation: what is simulated; its docstring names a good `interval`.
        shape: (H, W) of the fields.
        num_frames: frames of each trajectory.
        interval: physical time between frames; of shallow water in hours.
        warmup: physical time before the first frame, which is at time 0 all the same.
        seed: seeds all random numbers.
        batch: trajectories solved at once; 4 to 16 fit a processor's cache at 64 x 64.
        dtype: type of the solver's numbers and of the fields.
        solver_shape: (H, W) of a finer grid to solve on, whose frames are then filtered down to `shape`.
        dt: longest time step, by default the equation's own choice; flows and gas take shorter ones where longer ones
            would be unstable.
        dataset: identifier, by default the equation's kind.
    """

    equation: Equation
    shape: tuple[int, int] = (64, 64)
    num_frames: int = Field(default=21, gt=0)
    interval: float = Field(gt=0)
    warmup: float = Field(default=0.0, ge=0)
    seed: int = Field(default=0, ge=0)
    batch: int = Field(default=8, gt=0)
    dtype: Literal["float32", "float64"] = "float32"
    solver_shape: tuple[int, int] | None = None
    dt: float | None = Field(default=None, gt=0)
    dataset: str = ""

    @model_validator(mode="after")
    def _grids_fit(self) -> Self:
        if min(self.shape) < 4:
            raise ValueError(f"shape {self.shape} is too coarse: at least 4 x 4 points are needed")
        if self.solver_shape and (
            self.solver_shape[0] < self.shape[0] or self.solver_shape[1] < self.shape[1]
        ):
            raise ValueError(f"solver_shape {self.solver_shape} is coarser than shape {self.shape}")
        return self


class SimulateConfig(Simulation):
    """The first trajectories of a simulation.

    Attributes:
        num_trajectories: number of trajectories.
    """

    num_trajectories: int = Field(gt=0)


def _silent(done: int, total: int) -> None:
    """Reports nothing."""


def simulate(config: SimulateConfig, progress: Progress = _silent) -> xr.Dataset:
    """All trajectories in memory; raises DataError where one does not stay finite."""
    # Blocks share all but their trajectories, so nothing has to be compared.
    return xr.concat(
        list(simulate_batches(config, progress)),
        dim="trajectory",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )


def simulate_batches(config: SimulateConfig, progress: Progress = _silent) -> Iterator[xr.Dataset]:
    """The trajectories in order, `config.batch` at a time, each block in the convention."""
    for start in range(0, config.num_trajectories, config.batch):
        stop = min(start + config.batch, config.num_trajectories)
        yield simulate_range(config, start, stop)
        progress(stop, config.num_trajectories)


def simulate_range(config: SimulateConfig, start: int, stop: int) -> xr.Dataset:
    """Trajectories start..stop-1: a pure function, so that blocks may be made anywhere in any order.

    Raises:
        DataError: a trajectory becomes infinite or NaN; names the equation, trajectory and time.
    """
    assert 0 <= start < stop <= config.num_trajectories, (start, stop)
    return simulate_trajectories(config, range(start, stop))


def simulate_trajectories(config: Simulation, numbers: Sequence[int]) -> xr.Dataset:
    """The trajectories of these numbers, solved together: a pure function; no trajectory depends on the others.

    Raises:
        DataError: a trajectory becomes infinite or NaN; names the equation, trajectory and time.
    """
    equation = config.equation.build()
    # The FFT rounds a lone field differently than one among several, so nothing is solved alone.
    indices = [*numbers, *([numbers[0]] if len(numbers) == 1 else [])]
    dtype = torch.float32 if config.dtype == "float32" else torch.float64
    with torch.no_grad():
        state = equation.initial(config.seed, indices, config.solver_shape or config.shape, dtype)
        frames = list(_frames(config, equation, state, indices))
        static_NCHW = equation.coarsen_static(state.static, config.shape)
    count = len(numbers)
    fields_NTCHW = torch.stack(frames, dim=1)[:count]
    return _dataset(config, equation, fields_NTCHW, static_NCHW[:count], state.scalars[:count], numbers)


def template(config: Simulation) -> xr.Dataset:
    """A trajectory of zeros, for its shape and its variables; nothing is solved."""
    equation = config.equation.build()
    shapes = (
        (1, config.num_frames, len(equation.variables), *config.shape),
        (1, len(equation.static_variables), *config.shape),
        (1, len(equation.scalars)),
    )
    # Zeros of the system, which take no memory until they are written to.
    fields_NTCHW, static_NCHW, scalars_NS = (torch.from_numpy(np.zeros(s, config.dtype)) for s in shapes)
    return _dataset(config, equation, fields_NTCHW, static_NCHW, scalars_NS, [0])


def _frames(config: Simulation, equation: PDE, state: State, indices: Sequence[int]) -> Iterator[Tensor]:
    fields_NCHW, time = state.fields, 0.0
    # The warm-up leads to the first frame, which counts as time 0.
    durations = [config.warmup, *[config.interval] * (config.num_frames - 1)]
    for duration in durations:
        if duration > 0:
            fields_NCHW = equation.propagate(fields_NCHW, state.static, state.scalars, duration, config.dt)
        time += duration
        _check_finite(equation, state, fields_NCHW, indices, time)
        yield equation.coarsen(fields_NCHW, config.shape)


def _check_finite(
    equation: PDE, state: State, fields_NCHW: Tensor, indices: Sequence[int], time: float
) -> None:
    # After every frame, not at the end: the message then says when, and no time goes into the rest.
    finite = torch.isfinite(fields_NCHW).flatten(1).all(dim=1)
    if not finite.all():
        place = int(finite.int().argmin())
        scalars = zip(equation.scalars, state.scalars[place].tolist(), strict=True)
        told = ", ".join(f"{name} {value:g}" for name, value in scalars)
        raise DataError(
            f"equation {equation.kind}: trajectory {indices[place]}{f' ({told})' if told else ''} is not finite "
            f"at time {time:g} since its start; "
            "a shorter dt, a finer solver_shape or tamer parameters would be right"
        )


def _dataset(
    config: Simulation,
    equation: PDE,
    fields_NTCHW: Tensor,
    static_NCHW: Tensor,
    scalars_NS: Tensor,
    numbers: Sequence[int],
) -> xr.Dataset:
    variables = {}
    for variable, field in zip(equation.variables, fields_NTCHW.unbind(2), strict=True):
        variables[variable.name] = _variable(variable, ("trajectory", "time", "y", "x"), field)
    for variable, field in zip(equation.static_variables, static_NCHW.unbind(1), strict=True):
        variables[variable.name] = _variable(variable, ("trajectory", "y", "x"), field)
    for name, values in zip(equation.scalars, scalars_NS.unbind(1), strict=True):
        variables[name] = xr.Variable(
            ("trajectory",), values.numpy().copy(), convention.attrs(name, "scalar")
        )
    ds = convention.assemble(
        variables,
        grid=equation.grid(config.shape),
        time=np.arange(config.num_frames) * config.interval,
        dataset=config.dataset or equation.kind,
        source_format="simulation",
        sources=(),
        num_trajectories=len(numbers),
        time_units=equation.time_units,
        simulation=config.model_dump_json(),
    )
    return ds.assign_coords(trajectory=np.array(numbers, np.int64))


def _variable(variable: Variable, dims: tuple[str, ...], values: Tensor) -> xr.Variable:
    facts = {"long_name": variable.long_name, "group": variable.group, "units": variable.units}
    attrs = convention.attrs(variable.name, variable.role, **facts)
    return xr.Variable(dims, np.ascontiguousarray(values.numpy()), attrs)

"""Stores of trajectories that lie in memory, for tests of what is made of them."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.physics.equation import declared
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.store.frame_reader import EmptyReader, MemoryReader
from pelagos.preprocessing.store.sample_store import SampleStore, Statistics
from pelagos.preprocessing.variables import Variable


def memory_store(
    state_NTCHW: np.ndarray[Any, Any],
    variables: tuple[Variable, ...],
    grid: Grid,
    interval: float = 1.0,
    static: tuple[tuple[Variable, ...], np.ndarray[Any, Any] | None] = ((), None),
    scalars: tuple[tuple[str, ...], np.ndarray[Any, Any] | None] = ((), None),
    **facts: Any,
) -> SampleStore:
    """A store whose frames all train.

    Args:
        state_NTCHW: the frames.
        variables: of its channels.
        grid: of all fields.
        interval: from frame to frame.
        static: variables without time and their (N, C, H, W) values.
        scalars: names and their (N, S) values.
        facts: other attributes of the store.
    """
    state = state_NTCHW.astype(np.float32)
    num, times, channels = state.shape[:3]
    fields = (
        np.zeros((num, 0, *grid.shape), np.float32) if static[1] is None else static[1].astype(np.float32)
    )
    ones, none = np.ones(channels), np.zeros(channels)
    stats = dict.fromkeys(Statistics.__dataclass_fields__, none) | {"count": ones}
    stats |= {"mean": state.mean((0, 1, 3, 4)), "std": state.std((0, 1, 3, 4)), "constant": none > 0}
    stats |= {
        f"static_{n}": np.full(len(static[0]), v) for n, v in (("mean", 0.0), ("std", 1.0), ("count", 1.0))
    }
    known = {
        "label": "memory",
        "dataset": "memory",
        "variables": variables,
        "static_variables": static[0],
        "params": scalars[0],
        "grid": grid,
        "times": np.arange(times) * interval,
        "time_units": "1",
        "num_times": times,
        "dt": interval,
        "splits": {"train": np.ones((num, times), bool)},
        "stats": SimpleNamespace(**stats),
        "assumptions": (),
        "num_missing": int(np.isnan(state).sum()),
        "frames": MemoryReader(state),
        "static_frames": MemoryReader(fields) if static[0] else EmptyReader(),
        "scalar_values": np.zeros((num, 0)) if scalars[1] is None else scalars[1],
        "archive": "",
        "symmetries": None,
    }
    return cast(SampleStore, SimpleNamespace(**(known | facts)))


def solved_store(
    pde: PDE, num: int, shape: tuple[int, int], interval: float, frames: int, dt: float | None = None
) -> SampleStore:
    """A store of trajectories of an equation, which it knows."""
    start = pde.initial(0, range(num), shape)
    found = [start.fields]
    for _ in range(frames - 1):
        found.append(pde.propagate(found[-1], start.static, start.scalars, interval, dt))
    return memory_store(
        torch.stack(found, 1).numpy(),
        pde.variables,
        pde.grid(shape),
        interval,
        (pde.static_variables, start.static.numpy() if pde.static_variables else None),
        (pde.scalars, start.scalars.numpy()),
        symmetries=declared(pde),
    )

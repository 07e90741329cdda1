"""Files of PDEBench for tests, in its layouts."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

RNG = np.random.default_rng(0)

FLOW = ("density", "pressure", "velocity_x", "velocity_y")


def values(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def flow(path: Path, *, times: int = 5, extra: int = 1, **attrs: float) -> dict[str, np.ndarray]:
    """Compressible flow as the generator writes it, (N, t, x, y) with x longer than y."""
    fields = {key: values(2, times, 6, 4) for key in ("density", "pressure", "Vx", "Vy")}
    with h5py.File(path, "w") as file:
        file.update(fields)
        file.attrs.update(attrs)
        file["t-coordinate"] = np.arange(times + extra, dtype=np.float32) / 4
        file["x-coordinate"], file["y-coordinate"] = np.arange(6) / 8, np.arange(4) / 8
    return fields


def seeds(path: Path, shape: tuple[int, ...], axes: str, name: str = "", **sim: Any) -> np.ndarray:
    """Twelve groups, 0000 to 0011, of `shape` (t, axes, v)."""
    data = values(12, *shape)
    with h5py.File(path, "w") as file:
        for i, one in enumerate(data):
            group = file.create_group(f"{i:04d}")
            group["data"], group["grid/t"] = one, np.arange(shape[0]) / 4
            for axis, length in zip(axes, shape[1:], strict=False):
                group[f"grid/{axis}"] = np.arange(length) / 8
            if name:
                group.attrs["config"] = yaml.safe_dump({"name": name, "sim": sim | {"seed": i}})
    return data


def cube(path: Path, axes: str = "xyz") -> None:
    """Compressible flow in 3-D as the generator writes it, a function of each axis: x is longest, z shortest."""
    lengths = {"x": 6, "y": 4, "z": 3}
    coordinates = np.meshgrid(*[np.arange(lengths[axis]) / 8 for axis in axes], indexing="ij")
    x, y, z = (coordinates[axes.index(axis)] for axis in "xyz")
    with h5py.File(path, "w") as file:
        for number, key in enumerate(("density", "pressure", "Vx", "Vy", "Vz")):
            n, t = np.indices((2, 5))[..., None, None, None]
            file[key] = (n + 2 * t + 10 * x + 100 * y + 1000 * z + 10000 * number).astype(np.float32)
        file["t-coordinate"] = np.arange(6, dtype=np.float32) / 4
        file.update({f"{axis}-coordinate": np.arange(length) / 8 for axis, length in lengths.items()})


def incompressible(path: Path, latest: int = 4) -> dict[str, np.ndarray]:
    """As PDEBench's data_io.py lays it out; `t` and settings included."""
    shapes = {"velocity": (2, 5, 8, 6, 2), "particles": (2, 5, 8, 6, 1), "force": (2, 8, 6, 2)}
    fields = {key: values(*shape) for key, shape in shapes.items()}
    with h5py.File(path, "w") as file:
        for key, value in fields.items():
            file.create_dataset(key, data=value, compression="lzf", shuffle=True)
        file["t"] = np.tile(np.arange(5, dtype="f4") / 4, (2, 1))
        file.attrs["config"] = "sim_name: ns_incom_inhom_2d_8\nNU: 0.01\nvelocity_extrapolation: ZERO\n"
        file.attrs["latestIndex"] = latest
    return fields

"""Plots: frames of a store or a forecast as a picture."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation.forecast_schema import LEAD_TIME, sample_dims
from pelagos.evaluation.forecast_zarr import read_forecasts
from pelagos.evaluation.report.curves import quantity, readable_times
from pelagos.evaluation.report.field_picture import FieldRow, spread, write_picture
from pelagos.preprocessing.errors import ConfigError, DataError, MissingFileError
from pelagos.preprocessing.inspection.inspect_path import require_store
from pelagos.preprocessing.store.manifest import MANIFEST
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import Variable

FORMATS = ("png", "svg", "pdf")
_MOST_ROWS = 4
"""Variables that are drawn unless some are named."""


def plot(
    path: str, output: Path | None, variables: Sequence[str], times: Sequence[int], trajectory: int
) -> Path:
    """Draw frames of a store or a forecast; returns the picture's file.

    Args:
        path: of the store or the forecast.
        output: the file; by default the path's name with `.png`, in the working folder.
        variables: keys of those to draw; the first few by default.
        times: numbers of the frames, negative ones from the end; some evenly spread ones by default.
        trajectory: its number in the store or in the forecast.

    Raises:
        ConfigError: there is no such variable, frame or trajectory, or no such kind of picture.
        PelagosError: there is no store and no forecast, or it is damaged.
    """
    file = output or Path(f"{Path(path.rstrip('/')).name.removesuffix('.zarr')}.png")
    if file.suffix.lstrip(".") not in FORMATS:
        raise ConfigError(
            f"{file}: a picture's name ends in one of {', '.join('.' + one for one in FORMATS)}"
        )
    if not file.resolve().parent.is_dir():
        raise MissingFileError(
            f"{file.parent} does not exist: make the folder, or choose another by --output"
        )
    folder = Path(path).expanduser()
    is_forecast = (folder / LEAD_TIME).exists() and not (folder / MANIFEST).exists()
    rows, title = (_forecast_rows if is_forecast else _store_rows)(path, variables, times, trajectory)
    write_picture(rows, title, file)
    return file


def _store_rows(
    path: str, wanted: Sequence[str], times: Sequence[int], trajectory: int
) -> tuple[list[FieldRow], str]:
    require_store(path)
    store = open_store(path)
    _within(trajectory, store.num_trajectories, f"{path}: trajectory")
    chosen = _chosen([one.key for one in (*store.variables, *store.static_variables)], wanted, path)
    present = (
        np.arange(store.num_times) if store.present is None else np.flatnonzero(store.present[trajectory])
    )
    frames = _frames(times, present, path)
    state = store.take(trajectory, frames)
    units = "" if store.time_units == "1" else store.time_units
    titles = [f"time {quantity(store.times[frame], units)}" for frame in frames]
    rows = []
    for key in chosen:
        if key in (names := [one.key for one in store.variables]):
            channel = names.index(key)
            rows.append(_row(store.variables[channel], state[:, channel], titles, store))
        else:
            channel = [one.key for one in store.static_variables].index(key)
            field = store.static(trajectory)[channel]
            rows.append(_row(store.static_variables[channel], field[None], ["static"], store))
    return rows, f"{store.dataset} {store.version}, trajectory {trajectory}"


def _row(variable: Variable, values: NDArray[np.float32], titles: Sequence[str], store: Store) -> FieldRow:
    """Stored values as physical ones, with the largest y on top."""
    physical = values.astype(np.float64)
    if variable.transform is not None:
        physical = variable.transform.inverse(physical)
    upwards = store.grid.y[0] < store.grid.y[-1]
    return FieldRow(_label(variable.key, variable.units), physical[:, :: -1 if upwards else 1], titles)


def _forecast_rows(
    path: str, wanted: Sequence[str], times: Sequence[int], trajectory: int
) -> tuple[list[FieldRow], str]:
    forecasts = read_forecasts(Path(path).expanduser())
    chosen = _chosen([str(name) for name in forecasts.data_vars], wanted, path)
    dims = sample_dims(forecasts)
    sample = dict.fromkeys(dims, 0)
    if "trajectory" in sample:
        _within(trajectory, forecasts.sizes["trajectory"], f"{path}: trajectory")
        sample["trajectory"] = trajectory
    elif trajectory:
        raise ConfigError(f"{path} has no trajectories; its samples are {', '.join(dims) or 'one'}")
    frames = _frames(times, np.arange(forecasts.sizes[LEAD_TIME]), path)
    rows = [_forecast_row(forecasts[name].isel(sample), frames) for name in chosen]
    place = ", ".join(
        f"{dim} {forecasts[dim].values[at]}" for dim, at in sample.items() if dim in forecasts.coords
    )
    return rows, f"forecast of {forecasts.attrs.get('dataset', Path(path).name)}: {place}"


def _forecast_row(field: xr.DataArray, frames: Sequence[int]) -> FieldRow:
    times, unit = readable_times(field)
    upwards = field["y"].values[0] < field["y"].values[-1]
    values = field.isel({LEAD_TIME: list(frames)}).transpose(LEAD_TIME, "y", "x").values.astype(np.float64)
    titles = [f"lead time {quantity(float(times[frame]), unit)}" for frame in frames]
    label = _label(str(field.name), str(field.attrs.get("units", "1")))
    return FieldRow(label, values[:, :: -1 if upwards else 1], titles)


def _label(name: str, units: str) -> str:
    return name if units == "1" else f"{name} [{units}]"


def _chosen(known: Sequence[str], wanted: Sequence[str], path: str) -> list[str]:
    if unknown := [name for name in wanted if name not in known]:
        raise ConfigError(f"{path} has no variable {unknown[0]}; it has {', '.join(known)}")
    return list(wanted or known[:_MOST_ROWS])


def _frames(wanted: Sequence[int], present: NDArray[np.integer[Any]], path: str) -> list[int]:
    if not len(present):
        raise DataError(f"{path}: the trajectory has no frames")
    for number in wanted:
        _within(number, len(present), f"{path}: frame", negative=True)
    return sorted({int(present[number]) for number in (wanted or spread(len(present)))})


def _within(number: int, size: int, what: str, *, negative: bool = False) -> None:
    if not (-size if negative else 0) <= number < size:
        raise ConfigError(f"{what} {number} does not exist; there are 0 to {size - 1}")


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers between commas.

    Raises:
        ConfigError: there is something else.
    """
    if not re.fullmatch(r"\s*-?\d+(\s*,\s*-?\d+)*\s*", text):
        raise ConfigError(f"{option} {text}: whole numbers between commas would be right, such as 0,5,-1")
    return [int(part) for part in text.split(",")]

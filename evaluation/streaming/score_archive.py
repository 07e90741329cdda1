"""Score archive: `scores.zarr`, what is kept of all forecasts of an evaluation, a group for each method and the truth.

Scores of any convention, region or set of samples can be made of it, see `sums_of`.
"""

import os
import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from pelagos.evaluation.aggregate import Sums
from pelagos.evaluation.forecast_schema import LEAD_TIME
from pelagos.evaluation.point_sums import MAXIMA, MOMENTS, STATISTICS, SUMS
from pelagos.evaluation.streaming.region import WHOLE
from pelagos.evaluation.streaming.score_plan import BINS, FIELDS, MAPS, REACH, TRUTH
from pelagos.evaluation.streaming.score_state import ScoreState, arrays_of
from pelagos.preprocessing.errors import MissingFileError
from pelagos.preprocessing.files.durable import sync_directory, sync_tree
from pelagos.preprocessing.store import checksum_list

FORMAT = 2
"""1 had spectra, invariants and histograms at all lead times."""


def labelled(state: ScoreState, time_units: str) -> xr.Dataset:
    """The arrays of a whole state by name, with samples told apart by trajectory, start and member."""
    plan = state.plan
    dims, shape = plan.forecasts.sample_dims, plan.forecasts.sample_shape
    arrays: dict[str, Any] = {}
    for name, kept in arrays_of(state.method).items():
        array, own = state.arrays[name], list(kept.dims)
        if "sample" in own:
            array, own = array.reshape(*shape, *array.shape[1:]), [*dims, *own[1:]]
        arrays[name] = (own, array)
    if state.method != TRUTH:
        arrays["first_failure"] = ([*dims, "variable"], _first_failure(state).reshape(*shape, -1))
    return xr.Dataset(arrays, _coordinates(state, time_units), plan.grid.to_attrs())


def _first_failure(state: ScoreState) -> Any:
    """(samples, variable) the first lead time at which a forecast isn't a number somewhere; NaN where it always is."""
    failed = np.isinf(state.arrays["points"][:, :, 0, :, STATISTICS.index(*MAXIMA)])
    times = np.where(failed, state.plan.lead_times[:, None], np.inf).min(axis=1)
    return np.where(np.isinf(times), np.nan, times)


def _coordinates(state: ScoreState, time_units: str) -> dict[str, Any]:
    plan, method = state.plan, state.method
    positions = plan.positions(method)
    variables = [plan.variables[position] for position in positions]
    axes = (plan.forecasts.trajectories, plan.forecasts.starts, plan.forecasts.members)
    samples = {dim: np.array(axis) for dim, axis in zip(plan.forecasts.sample_dims, axes, strict=False)}
    time, grid = {"units": time_units}, plan.grid
    # Bins reach from one edge to the next; the first begins, and the last ends, nowhere.
    edges = np.concatenate([[-np.inf], np.linspace(-REACH, REACH, BINS + 1), [np.inf]])
    given = {
        **samples,
        LEAD_TIME: (LEAD_TIME, plan.lead_times, time),
        "shown": ("shown", plan.lead_times[plan.shown], time),
        "thinned": ("thinned", plan.lead_times[plan.thinned], time),
        "variable": [variable.key for variable in variables],
        "group": ("variable", np.array([variable.score_group for variable in variables], dtype=str)),
        "units": ("variable", np.array([variable.units for variable in variables], dtype=str)),
        "mean": ("variable", plan.scales[positions, 0]),
        "std": ("variable", plan.scales[positions, 1]),
        "bin_low": ("bin", edges[:-1], {"units": "std", "long_name": "beyond the mean"}),
        "bin_high": ("bin", edges[1:], {"units": "std", "long_name": "beyond the mean"}),
        "band_first": ("band", np.array([first for first, _ in plan.bands], np.int64)),
        "band_last": ("band", np.array([behind - 1 for _, behind in plan.bands], np.int64)),
        "wavenumber": plan.spectra.wavenumbers if plan.spectra else np.empty(0),
        "quantity": np.array(plan.quantities_of(method), dtype=str),
        "y": ("y", grid.y, {"units": grid.units}),
        "x": ("x", grid.x, {"units": grid.units}),
    }
    if method == TRUTH:
        return given
    regions = [region.name for region in plan.regions]
    return given | {
        "region": regions,
        "statistic": list(STATISTICS),
        "entry": np.array(plan.extra.labels, dtype=str),
        "map": list(MAPS),
        "field": list(FIELDS),
    }


def write_scores(
    path: Path, methods: Iterable[tuple[str, xr.Dataset]], attributes: Mapping[str, Any]
) -> None:
    """Write the groups one after the other; the archive takes its name once it is complete.

    Args:
        path: of the archive.
        methods: names and contents, of which one is in memory at a time.
        attributes: of the archive.
    """
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    names = []
    for name, content in methods:
        _without_texts(content).to_zarr(partial, group=name, mode="a", zarr_format=3, consolidated=False)
        names.append(name)
    root = zarr.open_group(partial, mode="a", zarr_format=3)
    root.attrs.update({"format": FORMAT, "methods": names, **attributes})
    with warnings.catch_warnings():
        # Version 3 of Zarr does not specify it yet; zarr-python and xarray read it.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(partial)
    checksum_list.write_list(partial, checksum_list.list_files(partial, checksum_list.all_files(partial)))
    sync_tree(partial)
    shutil.rmtree(path, ignore_errors=True)
    os.replace(partial, path)
    sync_directory(path.parent)


def read_attributes(path: Path) -> dict[str, Any]:
    """The attributes of an archive; empty where there is none, or one of another format."""
    if not path.is_dir():
        return {}
    found = dict(zarr.open_group(path, mode="r").attrs)
    return found if found.get("format") == FORMAT else {}


def read_scores(path: Path) -> dict[str, xr.Dataset]:
    """What is kept of the truth and of each method, in order; arrays are read when they are asked for.

    Raises:
        DamagedFileError: a file is not as it was written.
        MissingFileError: there is no archive, or one of another format.
    """
    if not path.is_dir():
        raise MissingFileError(f"{path}: no scores; `pelagos evaluate` writes them")
    checksum_list.verify_list(path, closed=True)
    if not (about := read_attributes(path)):
        raise MissingFileError(f"{path}: scores in the format of another version of Pelagos; evaluate again")
    return {
        name: _with_texts(xr.open_zarr(path, group=name, chunks=None, decode_timedelta=False))
        for name in about["methods"]
    }


def _without_texts(content: xr.Dataset) -> xr.Dataset:
    """Coordinates of texts as attributes: version 3 of Zarr does not specify arrays of them yet."""
    texts = {str(name): array for name, array in content.coords.items() if array.dtype.kind == "U"}
    labels = {name: {"dim": array.dims[0], "values": array.values.tolist()} for name, array in texts.items()}
    return content.drop_vars(list(texts)).assign_attrs(labels=labels)


def _with_texts(content: xr.Dataset) -> xr.Dataset:
    labels = content.attrs.pop("labels")
    return content.assign_coords(
        {name: (one["dim"], np.array(one["values"], dtype=str)) for name, one in labels.items()}
    )


def sums_of(content: xr.Dataset, region: str = WHOLE) -> Sums:
    """What `scores` are made of, over one region."""
    points = content["points"].sel(region=region, drop=True).load()
    group = dict(zip(content["variable"].values.tolist(), content["group"].values.tolist(), strict=True))
    points = points.drop_vars([name for name in points.coords if name not in points.dims])

    def chosen(names: Iterable[str]) -> xr.Dataset:
        parts = {name: points.isel(statistic=STATISTICS.index(name)).drop_vars("statistic") for name in names}
        return xr.Dataset(parts)

    moments = chosen(["weight", *MOMENTS])
    return Sums(chosen(SUMS), chosen(MAXIMA), group, moments)
